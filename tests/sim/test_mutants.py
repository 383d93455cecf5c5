"""Every rule that sim/mutants.py breaks is seen by a named promise of section 11, within 2,000 seeds.

Each test begins with a seed that is known to show it, so that this is quick. When the code under test has changed so
much that this seed shows it no more, all seeds from 0 on are tried; `tests/sim/hunt.py` prints new ones.
"""

from __future__ import annotations

from itertools import chain

import pytest

from tests.sim.known_bugs import BUGS
from zabzmq.core.invariants import NAMES
from zabzmq.sim.mutants import MUTANTS, NOT_ENOUGH, hunt

SEEDS = 300
DIRECTED = {"promise of a replaced life", "a replaced life counts itself", "equal epoch counted", "born joined"} | {
    bug.mutant for bug in BUGS if bug.mutant in MUTANTS
}
"""Caught in a schedule of their own: test_directed.py, test_known_bugs.py. Many of them chance finds too, seldom."""

KNOWN = {  # nodes, seed, and what must be among the promises it breaks
    "ack before sync": (3, 0, "DurableBeforeAck"),
    "epoch raised before history": (3, 0, "EpochOrder"),
    "new leader acked early": (3, 0, "DurableBeforeAck"),
    "unjoined acks counted": (3, 2, "CommitSafety"),
    "no epoch check on ack": (3, 55, "CommitSafety"),
    "append across a hole": (3, 47, "HistoryContinuity"),
    "commit at a minority": (3, 0, "CommitSafety"),
    "copies counted": (3, 0, "CommitSafety"),
    "PROPOSE only to acked learners": (3, 10, "HistoryContinuity"),
    "apply before durable": (3, 0, "AppliedBound"),
    "page cache believed": (3, 4, "DurableBeforeAck"),
    "snapshot in memory only": (3, 78, "HistoryContinuity"),
    "truncation in memory only": (3, 6, "HistoryContinuity"),
    "failed write believed": (3, 9, "DurableBeforeAck"),
    "snapshot of what is not applied": (3, 0, "AppliedBound"),
    "dedupe table left out of the snapshot": (3, 0, "DigestAgreement"),
    "promise forgotten": (3, 496, "DurableBeforeAck"),
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_broken_rule_is_caught_by_name(name: str) -> None:
    nodes, seed, expected = KNOWN[name]
    caught = hunt(MUTANTS[name], chain([seed], range(SEEDS)), nodes)
    assert caught is not None, f"{name} ({MUTANTS[name].rules}) was not seen in {SEEDS} seeds"
    assert set(caught.names) <= set(NAMES) - NOT_ENOUGH
    assert expected is None or expected in caught.names, caught


def test_every_mutant_is_shown_to_be_caught() -> None:
    assert set(KNOWN) | DIRECTED == set(MUTANTS)


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_leaves_nothing_behind(name: str) -> None:
    from zabzmq.core import broadcast, discovery, peer, quorum, synchronization
    from zabzmq.machine import state
    from zabzmq.net import link
    from zabzmq.server import node
    from zabzmq.sim import disk

    classes = (
        broadcast.LeaderBroadcast,
        discovery.LeaderDiscovery,
        discovery.LearnerDiscovery,
        disk.Platter,
        disk.SimDisk,
        node.Node,
        link.Links,
        peer.Peer,
        quorum.Voters,
        state.ReplicatedState,
        synchronization.LeaderSynchronization,
        synchronization.LearnerSynchronization,
    )
    before = [dict(vars(each)) for each in classes]
    with MUTANTS[name].broken():
        assert [dict(vars(each)) for each in classes] != before
    assert [dict(vars(each)) for each in classes] == before
