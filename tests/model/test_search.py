"""Everything that may happen to three peers within a small budget: the short form of `python -m tests.model`."""

from __future__ import annotations

import pytest

from tests.model.search import Search, Violation
from tests.model.world import Budget, World
from zabzmq.core.quorum import Voters


def test_in_the_orderly_run_a_request_is_delivered_by_all() -> None:
    world = World.served()
    budget = Budget(0, 1, 0)
    while moves := world.moves(budget):
        if moves[0].what == "request":
            budget = budget._replace(requests=0)
        world.make(moves[0])
        world.check()
    assert len({tuple(delivered) for delivered in world.delivered.values()}) == 1
    assert len(world.delivered[0]) == 1


def test_two_ways_to_one_state_give_it_one_name() -> None:
    """Two followers write what they were sent: whoever ends first."""
    names = []
    for order in (0, -1):
        world = World.served()
        world.make(next(move for move in world.moves(Budget(0, 1, 0)) if move.what == "request"))
        while len(arrive := [m for m in world.moves(Budget(0, 0, 9)) if m.what == "deliver"]) > 1:
            world.make(arrive[order])
        for move in (m for m in world.moves(Budget(0, 0, 9)) if m.what == "deliver"):
            world.make(move)
        names.append(world.name())
    assert names[0] == names[1]
    assert world.name() != World.served().name()


def test_every_order_of_one_transaction_within_two_deviations_keeps_every_promise() -> None:
    found = Search(Budget(crashes=0, requests=1, deviations=2), states_max=5000).run()
    assert found.complete and found.ends >= 1 and found.states > 30


def test_a_crash_at_any_moment_keeps_every_promise() -> None:
    found = Search(Budget(crashes=1, requests=1, deviations=0), states_max=250).run()
    assert found.states == 250 and found.ends > 0


def test_a_broken_rule_is_found_with_the_moves_that_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """B4 with a quorum of one: the leader alone commits, and dies."""
    monkeypatch.setattr(Voters, "quorum_th_largest", lambda self, acked: max(acked.values()))
    with pytest.raises(Violation, match=r"CommittedStable: 1\.1 was committed.*\nafter \d+ moves: "):
        Search(Budget(crashes=1, requests=1, deviations=1), states_max=3000).run()
