"""Each promise of section 11 as a function: it lets through what is right and names what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zabzmq.core import invariants as promise
from zabzmq.core.history import Batch, EpochEnd, Epochs, History
from zabzmq.core.invariants import NAMES, InvariantViolation
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    LeaderInfo,
    NewLeader,
    Notification,
    State,
    Vote,
)
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid


def zxid(text: str) -> Zxid:
    epoch, counter = text.split(".")
    return Zxid(int(epoch), int(counter))


def batch(first: str, prev: str, count: int = 1, data: bytes = b"") -> Batch:
    return Batch(zxid(first), zxid(prev), count, 0, None, data)


def e(accepted: int, current: int) -> Epochs:
    return Epochs(accepted, current, True)


def process(peer: int, life: int = 1, incarnation: int = 1) -> ProcessId:
    return ProcessId(PeerId(peer), life, incarnation)


P0, P1, P2 = PeerId(0), PeerId(1), PeerId(2)
VOTERS = Voters((P0, P1, P2))
A, B, C = batch("1.1", "0.0"), batch("1.2", "1.1", 2), batch("2.1", "1.3")
OTHER_B = batch("1.2", "1.1", 2, b"other")
DELIVERED = [A, B, C]
PLACES = {b.first: i for i, b in enumerate(DELIVERED)}
UP_TO_3 = History(last=zxid("1.3"), ends=[EpochEnd(1, 3)])
UP_TO_2_1 = History(last=zxid("2.1"), ends=[EpochEnd(1, 3), EpochEnd(2, 1)])
NOTE = Notification(State.LOOKING, 1, Vote(process(0), 1, zxid("1.3")), None, 1, True, 0, 1)

Case = tuple[str, Callable[..., None], tuple[Any, ...]]

RIGHT: list[Case] = [
    ("two leaders of two epochs", promise.leadership1, ({P0: 3, P1: 4},)),
    ("an epoch established for the first time", promise.leadership2, ({3: process(0)}, 4, process(1))),
    ("the commit is in the new leader's history", promise.leader_completeness, (zxid("1.3"), {2: UP_TO_3}, 2)),
    ("a commit of a later epoch is not its business", promise.leader_completeness, (zxid("3.1"), {2: UP_TO_3}, 2)),
    ("the next of all", promise.prefix_consistency, (DELIVERED, 3, batch("2.2", "2.1"), P0)),
    ("the same as another", promise.prefix_consistency, (DELIVERED, 1, B, P0)),
    ("proposed so", promise.integrity, ({B.first: B}, PLACES, 1, B, P0)),
    ("both in one order", promise.agreement, (DELIVERED, PLACES, 1, B, P0)),
    ("in its place", promise.total_order, (PLACES, 1, B, P0)),
    ("after the one before it in its epoch", promise.local_primary_order, (A, B, P0)),
    ("the first of an epoch after anything", promise.local_primary_order, (B, C, P0)),
    ("epochs rise", promise.global_primary_order, (B, C, P0)),
    ("the leader had it", promise.primary_integrity, ({2: 2}, 1, B)),
    ("logged by another too", promise.log_matching, ({B.first: B}, B, P0)),
    ("fits the end", promise.history_continuity, (zxid("1.3"), C, P0)),
    ("two of three disks", promise.commit_safety, (zxid("1.3"), [P0, P2], VOTERS)),
    ("one of three disks lacks it", promise.committed_stable, (zxid("1.3"), [P0, P2], VOTERS)),
    ("the cut is not committed", promise.never_truncated, ({zxid("1.3")}, zxid("1.4"), P0)),
    ("nothing is cut", promise.never_truncated, ({zxid("1.3")}, None, P0)),
    ("epochs rise on a disk", promise.epoch_order, (e(2, 1), e(2, 2), P0)),
    ("history below the epoch", promise.epoch_of_history, (e(3, 2), zxid("1.9"), P0)),
    ("the whole initial history", promise.epoch_accepted, (e(2, 2), {2: UP_TO_3}, UP_TO_2_1, P0)),
    ("a first promise", promise.one_promise, ({(P0, 1, 4): process(1)}, process(0), 5, process(2))),
    ("the same promise again", promise.one_promise, ({(P0, 1, 4): process(1)}, process(0), 4, process(1))),
    ("a wiped voter knows nothing", promise.one_promise, ({(P0, 1, 4): process(1)}, process(0, 2), 4, process(2))),
    ("an ack of the promised epoch", promise.no_ack_after_promise, (4, 4, "Ack", P0)),
    ("a vote for what is on disk", promise.durable_before_ack, (NOTE, P0, UP_TO_3, e(1, 1))),
    ("S5 makes the epoch durable", promise.durable_before_ack, (NOTE, P0, UP_TO_3, e(1, 0))),
    ("another's vote says nothing of mine", promise.durable_before_ack, (NOTE, P1, UP_TO_2_1, e(2, 2))),
    ("a watermark claims nothing", promise.durable_before_ack, (Commit(9, zxid("9.9")), P0, History(), e(0, 0))),
    ("committed and durable", promise.applied_bound, (zxid("1.3"), True, True, P0)),
    ("a snapshot of what is applied", promise.snapshot_bound, (zxid("1.3"), zxid("1.3"), P0)),
    ("equal states", promise.digest_agreement, ({zxid("1.3"): 7}, zxid("1.3"), 7, P0)),
    ("the stored result", promise.exactly_once, ({(zxid("1.1"), 1): "x"}, (zxid("1.1"), 1), "x", "")),
    ("later than asked", promise.monotonic_reads, (zxid("1.2"), zxid("1.3"), P0)),
    ("sound", promise.check_during_action, (True, "")),
]  # fmt: skip

WRONG: list[tuple[str, str, Callable[..., None], tuple[Any, ...]]] = [
    ("Leadership1", "one epoch led twice", promise.leadership1, ({P0: 3, P1: 3},)),
    ("Leadership2", "established again", promise.leadership2, ({3: process(0)}, 3, process(1))),
    ("Leadership2", "by its own next process", promise.leadership2, ({3: process(0)}, 3, process(0, 1, 2))),
    ("LeaderCompleteness", "a commit is missing", promise.leader_completeness, (zxid("1.4"), {2: UP_TO_3}, 2)),
    ("PrefixConsistency", "another in its place", promise.prefix_consistency, (DELIVERED, 1, OTHER_B, P0)),
    ("Integrity", "nobody proposed it", promise.integrity, ({}, PLACES, 1, B, P0)),
    ("Integrity", "proposed otherwise", promise.integrity, ({B.first: OTHER_B}, PLACES, 1, B, P0)),
    ("Integrity", "delivered twice", promise.integrity, ({A.first: A}, PLACES, 1, A, P0)),
    ("Agreement", "each has one the other lacks", promise.agreement, (DELIVERED, PLACES, 1, batch("1.9", "1.1"), P0)),
    ("TotalOrder", "before its time", promise.total_order, (PLACES, 1, C, P0)),
    ("LocalPrimaryOrder", "one was skipped", promise.local_primary_order, (A, batch("1.4", "1.3"), P0)),
    ("LocalPrimaryOrder", "the first was skipped", promise.local_primary_order, (None, B, P0)),
    ("GlobalPrimaryOrder", "an older epoch later", promise.global_primary_order, (C, batch("1.4", "1.3"), P0)),
    ("PrimaryIntegrity", "the leader lacked it", promise.primary_integrity, ({2: 1}, 1, B)),
    ("LogMatching", "other bytes", promise.log_matching, ({B.first: B}, OTHER_B, P0)),
    ("LogMatching", "another prefix", promise.log_matching, ({B.first: B}, batch("1.2", "0.9", 2), P0)),
    ("HistoryContinuity", "a hole", promise.history_continuity, (zxid("1.2"), C, P0)),
    ("HistoryContinuity", "a skipped counter", promise.history_continuity, (zxid("1.3"), batch("1.5", "1.3"), P0)),
    ("HistoryContinuity", "epoch from 2", promise.history_continuity, (zxid("1.3"), batch("2.2", "1.3"), P0)),
    ("HistoryContinuity", "an older epoch", promise.history_continuity, (zxid("2.1"), batch("1.4", "2.1"), P0)),
    ("CommitSafety", "one disk of three", promise.commit_safety, (zxid("1.3"), [P0], VOTERS)),
    ("CommitSafety", "a stranger does not count", promise.commit_safety, (zxid("1.3"), [P0, PeerId(7)], VOTERS)),
    ("CommittedStable", "a quorum lacks it", promise.committed_stable, (zxid("1.3"), [P0], VOTERS)),
    ("CommittedStable", "a commit is cut off", promise.never_truncated, ({zxid("1.3")}, zxid("1.3"), P0)),
    ("EpochOrder", "the promise falls", promise.epoch_order, (e(3, 1), e(2, 1), P0)),
    ("EpochOrder", "the epoch falls", promise.epoch_order, (e(3, 2), e(3, 1), P0)),
    ("EpochOrder", "the epoch above the promise", promise.epoch_order, (e(0, 0), e(2, 3), P0)),
    ("EpochOrder", "history above the epoch", promise.epoch_of_history, (e(3, 2), zxid("3.1"), P0)),
    ("EpochOrder", "an epoch without its history", promise.epoch_accepted, (e(2, 2), {2: UP_TO_2_1}, UP_TO_3, P0)),
    ("OnePromise", "to two leaders", promise.one_promise, ({(P0, 1, 4): process(1)}, process(0), 4, process(2))),
    ("OnePromise", "to two processes", promise.one_promise, ({(P0, 1, 4): process(1)}, process(0), 4, process(1, 2))),
    ("NoAckAfterPromise", "an ack of an old epoch", promise.no_ack_after_promise, (5, 4, "Ack", P0)),
    ("DurableBeforeAck", "a vote beyond the disk", promise.durable_before_ack,
     (NOTE._replace(vote=Vote(process(0), 1, zxid("1.4"))), P0, UP_TO_3, e(1, 1))),
    ("DurableBeforeAck", "an epoch beyond the disk", promise.durable_before_ack,
     (NOTE._replace(current_epoch=2), P0, UP_TO_3, e(2, 1))),
    ("DurableBeforeAck", "FOLLOWERINFO", promise.durable_before_ack,
     (FollowerInfo(3, 3, True, 0, 1), P0, UP_TO_3, e(2, 1))),
    ("DurableBeforeAck", "LEADERINFO", promise.durable_before_ack, (LeaderInfo(3, 1), P0, UP_TO_3, e(2, 1))),
    ("DurableBeforeAck", "ACKEPOCH, the promise", promise.durable_before_ack,
     (AckEpoch(3, 1, zxid("1.3"), ZERO, (), True), P0, UP_TO_3, e(2, 1))),
    ("DurableBeforeAck", "ACKEPOCH, the history", promise.durable_before_ack,
     (AckEpoch(3, 1, zxid("1.4"), ZERO, (), True), P0, UP_TO_3, e(3, 1))),
    ("DurableBeforeAck", "NEWLEADER", promise.durable_before_ack,
     (NewLeader(3, zxid("1.3")), P0, UP_TO_3, e(3, 2))),
    ("DurableBeforeAck", "ACK_NEWLEADER, the history", promise.durable_before_ack,
     (AckNewLeader(3, zxid("1.4")), P0, UP_TO_3, e(3, 3))),
    ("DurableBeforeAck", "ACK_NEWLEADER, the epoch", promise.durable_before_ack,
     (AckNewLeader(3, zxid("1.3")), P0, UP_TO_3, e(3, 2))),
    ("DurableBeforeAck", "ACK", promise.durable_before_ack, (Ack(1, zxid("1.4")), P0, UP_TO_3, e(1, 1))),
    ("AppliedBound", "not committed", promise.applied_bound, (zxid("1.3"), False, True, P0)),
    ("AppliedBound", "not durable", promise.applied_bound, (zxid("1.3"), True, False, P0)),
    ("AppliedBound", "a snapshot ahead", promise.snapshot_bound, (zxid("1.4"), zxid("1.3"), P0)),
    ("DigestAgreement", "two states", promise.digest_agreement, ({zxid("1.3"): 7}, zxid("1.3"), 8, P0)),
    ("ExactlyOnce", "two results", promise.exactly_once, ({(zxid("1.1"), 1): "x"}, (zxid("1.1"), 1), "y", "")),
    ("MonotonicReads", "older than asked", promise.monotonic_reads, (zxid("1.3"), zxid("1.2"), P0)),
    ("CheckDuringAction", "unsound", promise.check_during_action, (False, "why")),
]  # fmt: skip


@pytest.mark.parametrize(("what", "check", "about"), [pytest.param(*case, id=case[0]) for case in RIGHT])
def test_what_is_right_is_let_through(what: str, check: Callable[..., None], about: tuple[Any, ...]) -> None:
    check(*about)


@pytest.mark.parametrize(
    ("name", "what", "check", "about"), [pytest.param(*case, id=f"{case[0]}: {case[1]}") for case in WRONG]
)
def test_what_is_wrong_is_named(name: str, what: str, check: Callable[..., None], about: tuple[Any, ...]) -> None:
    with pytest.raises(InvariantViolation) as caught:
        check(*about)
    assert caught.value.name == name
    assert caught.value.text


def test_every_promise_of_section_11_is_shown_to_fail_here_but_the_one_of_whole_histories() -> None:
    assert {case[0] for case in WRONG} == set(NAMES) - {"Linearizability"}
