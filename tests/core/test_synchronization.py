"""Phase 2: every learner comes to hold the leader's history, then its epoch (PROTOCOL 5, S1 to S10, B12)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.disk import STATE
from tests.core.ensemble import Ensemble
from tests.core.one import One, batch, chain, history
from zabzmq.core.effects import (
    Append,
    Deliver,
    Fail,
    InstallSnapshot,
    ReadBatches,
    ReadSnapshot,
    Report,
    SaveEpochs,
    StageSnapshot,
    Truncate,
)
from zabzmq.core.history import Batch, EpochEnd, Epochs, History
from zabzmq.core.inputs import BatchesRead, DiskSpace, LinkLost, Resumed, SnapshotRead, Space
from zabzmq.core.messages import (
    Ack,
    AckNewLeader,
    Commit,
    HbEcho,
    Heartbeat,
    Nack,
    NewLeader,
    Phase,
    Propose,
    Refusal,
    Snap,
    SnapChunk,
    State,
    SyncProgress,
    SyncTxns,
    Trunc,
    UpToDate,
)
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, PeerId, Zxid

LEADING = (State.LEADING, Phase.SYNCHRONIZATION)
ESTABLISHED = (State.LEADING, Phase.BROADCAST)
FOLLOWING = (State.FOLLOWING, Phase.SYNCHRONIZATION)
SERVING = (State.FOLLOWING, Phase.BROADCAST)
LEAVING = (State.LOOKING, Phase.QUIESCE)
FAILED = (State.FAILED, Phase.QUIESCE)

Ends = tuple[tuple[int, int], ...]


def zxids(batches: tuple[Batch, ...]) -> list[Zxid]:
    return [b.last for b in batches]


def leader_of(
    *ends: tuple[int, int],
    snapshot: tuple[int, int] = ZERO,
    base: tuple[int, int] | None = None,
    timing: Timing | None = None,
) -> One:
    """LEADING in SYNCHRONIZATION over this history, with peer 1 (which holds the same) promised; epoch 9."""
    one = One(0, 3, timing=timing, epochs=Epochs(8, ends[-1][0] if ends else 1, True))
    one.store.hold(chain(*ends))
    one.store.history.snapshot = Zxid(*snapshot)
    one.store.history.base = Zxid(*(snapshot if base is None else base))
    one.store.batches = [b for b in one.store.batches if b.last > one.store.history.base]
    one.peer.history = one.store.history.copy()
    one.peer.durable = one.peer.history.last
    one.peer.committed = one.peer.delivered = Zxid(*snapshot)
    one.peer.look_again("with a history")
    one.tick()
    one.elect()
    link = one.info(1, accepted=8)
    one.disk()
    one.ack_epoch(link, history(*ends), current=one.epochs.current)
    one.disk()
    assert one.place == LEADING
    return one


def come(one: One, ends: Ends, snapshot: tuple[int, int] = ZERO, current: int = 1) -> tuple[LinkId, list[Any]]:
    """Peer 2 comes with this history; what it is sent up to NEWLEADER, in order."""
    link = one.info(2, accepted=8)
    one.ack_epoch(link, history(*ends, snapshot=snapshot), current=current)
    one.disk()
    return link, [m for m in one.to(link) if not isinstance(m, (Heartbeat, Nack)) and "Info" not in type(m).__name__]


def shape(messages: list[Any]) -> list[Any]:
    """The method in short: what is cut, what snapshot, which transactions, which cut."""
    short: list[Any] = []
    for message in messages:
        match message:
            case Trunc(_, to):
                short.append(("TRUNC", to))
            case Snap(_, zxid):
                short.append(("SNAP", zxid))
            case SyncTxns(_, batches):
                short += zxids(batches)
            case NewLeader(_, cut):
                short.append(("NEWLEADER", cut))
            case _:
                pass
    return short


# ---- choosing the method (5.1) -------------------------------------------------------------------------------------

OURS: Ends = ((1, 2), (2, 3))


@pytest.mark.parametrize(
    ("ours", "theirs", "sent"),
    [
        pytest.param(OURS, OURS, [], id="equal: an empty DIFF"),
        pytest.param(OURS, ((1, 2), (2, 1)), [(2, 2), (2, 3)], id="behind on the same branch: DIFF"),
        pytest.param(OURS, (), [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)], id="empty: DIFF of everything"),
        pytest.param(OURS, ((1, 2), (2, 5)), [("TRUNC", (2, 3))], id="ahead in our newest epoch: TRUNC"),
        pytest.param(
            OURS, ((1, 4),), [("TRUNC", (1, 2)), (2, 1), (2, 2), (2, 3)], id="ahead in an old epoch: TRUNC and DIFF"
        ),
        pytest.param(
            ((1, 2), (2, 1), (4, 1)),
            ((1, 2), (3, 2)),
            [("TRUNC", (1, 2)), (2, 1), (4, 1)],
            id="an epoch we never saw: TRUNC across epochs",
        ),
        pytest.param(
            ((1, 2), (4, 9)),
            ((1, 2), (3, 1)),
            [("TRUNC", (1, 2)), *((4, c) for c in range(1, 10))],
            id="diverged and overtaken numerically: no plain DIFF (bug 11)",
        ),
        pytest.param(((1, 2), (4, 2)), ((1, 2),), [(4, 1), (4, 2)], id="a gap between epochs: DIFF"),
        pytest.param((), ((1, 1),), [("TRUNC", (0, 0))], id="we are empty: TRUNC to nothing"),
    ],
)
def test_method(ours: Ends, theirs: Ends, sent: list[Any]) -> None:
    one = leader_of(*ours)
    _, got = come(one, theirs)
    assert shape(got) == [*sent, ("NEWLEADER", ours[-1] if ours else (0, 0))]


@pytest.mark.parametrize(
    ("theirs", "sent"),
    [
        pytest.param((), [("SNAP", (2, 2)), (2, 3)], id="empty"),
        pytest.param(((1, 2),), [("SNAP", (2, 2)), (2, 3)], id="below the base"),
        pytest.param(((1, 7),), [("SNAP", (2, 2)), (2, 3)], id="parted below the base"),
        pytest.param(((1, 2), (2, 1)), [(2, 2), (2, 3)], id="just at the base: DIFF"),
        pytest.param(((1, 2), (2, 2)), [(2, 3)], id="above the base: DIFF"),
        pytest.param(((1, 2), (2, 5)), [("TRUNC", (2, 3))], id="ahead: TRUNC"),
    ],
)
def test_method_when_the_log_begins_at_2_1_and_the_snapshot_at_2_2(theirs: Ends, sent: list[Any]) -> None:
    one = leader_of(*OURS, snapshot=(2, 2), base=(2, 1))
    _, got = come(one, theirs)
    assert shape(got) == [*sent, ("NEWLEADER", (2, 3))]


def test_the_reason_for_the_method_is_told_as_a_code_with_its_operands() -> None:
    for theirs, told in (
        (((1, 2),), {"method": "SNAP", "why": "purged", "last": (1, 2), "z": (2, 2), "base": (2, 1)}),
        (((1, 2), (2, 1)), {"method": "DIFF", "why": "prefix", "last": (2, 1), "z0": (2, 1), "z": (2, 3), "count": 2}),
        (((1, 2), (2, 5)), {"method": "TRUNC", "why": "diverged", "last": (2, 5), "z0": (2, 3), "count": 0}),
    ):
        one = leader_of(*OURS, snapshot=(2, 2), base=(2, 1))
        come(one, theirs)
        (*_, report) = [e for e in one.said if isinstance(e, Report) and e.kind == "sync"]
        assert report.fields["peer"] == 2
        assert {name: report.fields[name] for name in told} == told


@pytest.mark.parametrize(
    ("theirs", "snapshot"),
    [
        pytest.param(((1, 2), (3, 2)), (3, 1), id="its snapshot is of an epoch we never saw"),
        pytest.param(((1, 2), (2, 5)), (2, 4), id="its snapshot is beyond our end"),
        pytest.param(((1, 4),), (1, 3), id="its snapshot is beyond the end of that epoch here"),
    ],
)
def test_committed_histories_that_disagree_are_never_repaired(theirs: Ends, snapshot: tuple[int, int]) -> None:
    """5.1: no SNAP over them; the link is refused, and the follower goes FAILED."""
    one = leader_of(*OURS)
    link, got = come(one, theirs, snapshot)
    assert shape(got) == []
    assert one.to(link, Nack) == [Nack(Refusal.HISTORIES_DISAGREE, 9)]
    assert one.closed(link) and one.place == LEADING
    two = One(0)
    two_link = two.follow()
    two.promise(two_link)
    two.hear(1, Nack(Refusal.HISTORIES_DISAGREE, 9), two_link)
    assert two.place == FAILED and len(two.did(Fail)) == 1


def test_a_snapshot_within_the_common_history_is_no_disagreement() -> None:
    one = leader_of(*OURS)
    _, got = come(one, ((1, 2), (2, 5)), snapshot=(2, 3))
    assert shape(got) == [("TRUNC", (2, 3)), ("NEWLEADER", (2, 3))]


# ---- the leader's side -------------------------------------------------------------------------------------------


def test_a_leader_enters_synchronization_with_its_epoch_durable() -> None:
    one = leader_of(*OURS)
    assert one.epochs == Epochs(9, 9, True)
    assert one.sent(NewLeader) == [NewLeader(9, Zxid(2, 3))]
    saves = [i for i, e in enumerate(one.said) if isinstance(e, SaveEpochs) and e.epochs.current == 9]
    leads = [i for i, e in enumerate(one.said) if getattr(getattr(e, "message", None), "cut", None) is not None]
    assert saves and leads and saves[0] < leads[0]


def test_it_is_established_by_a_quorum_of_ack_newleader_and_commits_all_it_holds_at_once() -> None:
    """S8, B5"""
    one = leader_of(*OURS)
    assert one.peer.committed == ZERO and one.sent(UpToDate) == []
    one.ack_new_leader(one.link(1))
    assert one.place == ESTABLISHED
    assert one.peer.committed == Zxid(2, 3) == one.delivered
    assert one.to(one.link(1), UpToDate) == [UpToDate(9, Zxid(2, 3))]


def test_a_leader_alone_is_established_by_itself() -> None:
    one = One(0, 1)
    one.disk()
    assert one.place == ESTABLISHED


def test_a_leader_alone_commits_what_it_finds_in_its_log() -> None:
    """S8: its own disk is the quorum."""
    one = One(0, 1, batches=chain((1, 2)))
    one.disk()
    assert one.delivered == Zxid(1, 2) == one.peer.committed


def test_progress_does_not_stand_in_for_ack_newleader() -> None:
    """B5, bug 32: five voters; two disks hold all of it, one of them acknowledged the epoch."""
    one = One(0, 5, batches=chain((1, 2)))
    one.elect()
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    for link in links:
        one.ack_epoch(link)
    one.disk()
    one.hear(1, SyncProgress(2, Zxid(1, 2), 0), links[0])
    one.ack_new_leader(links[1])
    assert one.place == LEADING and one.peer.committed == ZERO
    one.ack_new_leader(links[0])
    assert one.place == ESTABLISHED and one.peer.committed == Zxid(1, 2)


def test_copies_on_a_quorum_of_disks_commit_nothing_before_ack_newleader() -> None:
    """B5, bug 32: SYNC_PROGRESS says that they are there, and still says nothing of the epoch."""
    one = leader_of(*OURS)
    link, _ = come(one, ())
    one.hear(2, SyncProgress(9, Zxid(2, 3), 0), link)
    one.hear(1, SyncProgress(9, Zxid(2, 3), 0), one.link(1))
    assert one.peer.committed == ZERO and one.place == LEADING


def test_a_latecomer_is_told_what_is_committed_now_and_not_what_it_acknowledged() -> None:
    """S8, bug 31"""
    one = leader_of(*OURS)
    one.ack_new_leader(one.link(1))
    one.request()
    one.disk()
    link, got = come(one, ((1, 2), (2, 3)))
    assert shape(got)[-1] == ("NEWLEADER", (9, 1))
    one.request()
    one.disk()
    one.hear(1, Ack(9, Zxid(9, 2)), one.link(1))
    one.ack_new_leader(link)
    assert one.to(link, UpToDate) == [UpToDate(9, Zxid(9, 2))]


def test_a_latecomer_whose_cut_is_not_committed_yet_is_told_less_than_its_cut() -> None:
    """S8, bug 31"""
    one = One(0, 5)
    links = one.lead(1, 2)
    one.request()
    one.disk()
    one.hear(1, Ack(2, Zxid(2, 1)), links[0])
    one.request()
    one.disk()
    late = one.info(3)
    one.ack_epoch(late)
    one.disk()
    assert one.to(late, NewLeader) == [NewLeader(2, Zxid(2, 2))]
    one.step(LinkLost(links[1], "reset"))
    one.ack_new_leader(late)
    assert one.to(late, UpToDate) == [UpToDate(2, one.peer.committed)]
    assert one.peer.committed < Zxid(2, 2)


def test_the_cut_is_chosen_with_the_method_and_all_after_it_follows() -> None:
    """S1, bugs 6, 12, 29: what is proposed while the range is read comes after NEWLEADER."""
    one = leader_of(*OURS)
    one.ack_new_leader(one.link(1))
    link = one.info(2, accepted=8)
    one.ack_epoch(link, history((1, 2)))
    assert [r.upto for r in one.did(ReadBatches)] == [Zxid(2, 3)]
    one.request(2)
    one.request()
    one.disk()
    order = [m for m in one.to(link) if isinstance(m, (SyncTxns, NewLeader, Propose))]
    assert [type(m) for m in order] == [SyncTxns, NewLeader, Propose]
    assert order[1] == NewLeader(9, Zxid(2, 3))
    assert [z for p in one.to(link, Propose) for z in zxids(p.batches)] == [Zxid(9, 2), Zxid(9, 3)]


def test_sync_data_goes_in_chunks_and_within_the_window() -> None:
    """B6"""
    one = leader_of((1, 30), timing=Timing(window_bytes=640, chunk_bytes=128))
    link = one.info(2, accepted=8)
    one.ack_epoch(link, History())
    one.step(limited(one.store.next(), 2))
    sent = [z for m in one.to(link, SyncTxns) for z in zxids(m.batches)]
    assert sent == [Zxid(1, 1), Zxid(1, 2)]
    while one.writes:
        one.step(limited(one.store.next(), 2))
    sent = [z for m in one.to(link, SyncTxns) for z in zxids(m.batches)]
    assert sent == [Zxid(1, c) for c in range(1, 11)], "640 bytes are ten batches of 64"
    one.hear(2, SyncProgress(9, Zxid(1, 10), 0), link)
    while one.writes:
        one.step(limited(one.store.next(), 2))
    sent = [z for m in one.to(link, SyncTxns) for z in zxids(m.batches)]
    assert sent == [Zxid(1, c) for c in range(1, 21)]


def test_data_up_to_the_cut_and_proposals_after_it_are_never_read_as_one() -> None:
    """S1: proposals go on between two chunks of sync data."""
    one = leader_of((1, 4))
    one.ack_new_leader(one.link(1))
    link = one.info(2, accepted=8)
    one.ack_epoch(link, History())
    while one.writes:
        if len(one.to(link, SyncTxns)) < 3:
            one.request()
        one.step(limited(one.store.next(), 1))
    order = [m for m in one.to(link) if isinstance(m, (SyncTxns, NewLeader, Propose))]
    kinds = [type(m) for m in order]
    assert kinds == sorted(kinds, key=[SyncTxns, NewLeader, Propose].index)
    assert [z for m in order if not isinstance(m, NewLeader) for z in zxids(m.batches)] == [
        *(Zxid(1, c) for c in (1, 2, 3, 4)),
        *(Zxid(9, c) for c in range(1, one.peer.history.last.counter + 1)),
    ]
    assert one.to(link, NewLeader) == [NewLeader(9, Zxid(1, 4))]


def limited(answer: Any, most: int) -> Any:
    """A reader that finds `most` batches at a time."""
    if not isinstance(answer, BatchesRead):
        return answer
    return answer._replace(batches=answer.batches[:most])


def test_a_snapshot_is_sent_in_pieces_then_what_follows_it() -> None:
    """5.2: `SNAP, chunks, (Sl, cut], NEWLEADER`."""
    one = leader_of(*OURS, snapshot=(2, 2))
    _, got = come(one, ())
    assert [type(m) for m in got] == [Snap, SnapChunk, SnapChunk, SnapChunk, SyncTxns, NewLeader]
    assert got[0] == Snap(9, Zxid(2, 2), (EpochEnd(1, 2), EpochEnd(2, 2)), (), len(STATE))
    assert b"".join(m.data for m in got if isinstance(m, SnapChunk)) == STATE
    assert [m.offset for m in got if isinstance(m, SnapChunk)] == [0, 8, 16]


def test_a_snapshot_waits_for_the_learners_disk() -> None:
    """B6"""
    one = leader_of(*OURS, snapshot=(2, 2), timing=Timing(snapshot_window_bytes=8))
    link, got = come(one, ())
    assert [type(m) for m in got] == [Snap, SnapChunk]
    one.hear(2, SyncProgress(9, ZERO, 8), link)
    one.disk()
    assert len(one.to(link, SnapChunk)) == 2 and one.to(link, NewLeader) == []
    one.hear(2, SyncProgress(9, ZERO, 16), link)
    one.disk()
    assert one.to(link, NewLeader) == [NewLeader(9, Zxid(2, 3))]


def test_a_snapshot_that_is_gone_closes_the_link() -> None:
    """B11"""
    one = leader_of(*OURS, snapshot=(2, 2))
    link = one.info(2, accepted=8)
    one.ack_epoch(link, History())
    (read,) = one.did(ReadSnapshot)
    answer = one.store.next()
    assert isinstance(answer, SnapshotRead)
    one.step(answer._replace(data=None))
    assert one.closed(link) and one.place == LEADING
    assert read.mark.zxid == Zxid(2, 2)


@pytest.mark.parametrize("cut", [(2, 2), (9, 9)])
def test_ack_newleader_of_another_cut_closes_the_link(cut: tuple[int, int]) -> None:
    one = leader_of(*OURS)
    one.hear(1, AckNewLeader(9, Zxid(*cut)), one.link(1))
    assert one.closed(one.link(1)) and one.place == LEADING


def test_ack_newleader_before_newleader_was_sent_closes_the_link() -> None:
    one = leader_of(*OURS)
    link = one.info(2, accepted=8)
    one.ack_epoch(link, History())
    one.hear(2, AckNewLeader(9, ZERO), link)
    assert one.closed(link)


def test_an_acknowledgement_of_newleader_is_forgotten_with_its_link() -> None:
    """B11: five voters; two that were never there at once make no quorum."""
    one = One(0, 5)
    one.elect()
    links = [one.info(i) for i in (1, 2, 3)]
    one.disk()
    for link in links:
        one.ack_epoch(link)
    one.disk()
    one.ack_new_leader(links[0])
    one.step(LinkLost(links[0], "reset"))
    one.ack_new_leader(links[1])
    assert one.place == LEADING
    one.ack_new_leader(links[2])
    assert one.place == ESTABLISHED


def test_who_did_not_join_is_synchronized_and_counts_nowhere() -> None:
    """V5"""
    one = leader_of(*OURS)
    one.step(LinkLost(one.link(1), "reset"))
    wiped = one.info(2, accepted=0, joined=False)
    one.ack_epoch(wiped, History(), current=0, counted=False)
    one.disk()
    one.ack_new_leader(wiped)
    assert one.place == LEADING and one.sent(UpToDate) == []


def test_uncounted_promises_do_count_for_newleader() -> None:
    """V1: it may be synchronized; that it promised is certain."""
    one = leader_of(*OURS)
    one.step(LinkLost(one.link(1), "reset"))
    link = one.info(2, accepted=9)
    one.ack_epoch(link, history(*OURS), counted=False)
    one.ack_new_leader(link)
    assert one.place == ESTABLISHED


@pytest.mark.parametrize("fault", ["no links", "no voters", "no progress"])
def test_synchronization_without_success_ends(fault: str) -> None:
    """B12. Who does not count (V5) is no voter here."""
    one = leader_of(*OURS)
    if fault != "no progress":
        one.step(LinkLost(one.link(1), "reset"))
        if fault == "no voters":
            one.info(2, joined=False)
        one.wait(430)
        assert one.place == LEADING
        one.wait(70)
    else:
        for _ in range(90):
            one.wait(50)
            one.hear(1, HbEcho(9, one.peer.hb_seq, False), one.link(1))
        assert one.place == LEADING
        one.wait(600)
    assert one.place == LEAVING


def test_a_quorum_that_comes_back_in_time_is_waited_for() -> None:
    """B12"""
    one = leader_of(*OURS)
    for number in range(2, 8):
        one.step(LinkLost(one.link(1, number - 1), "reset"))
        one.wait(300)
        one.info(1, number, accepted=9)
        one.wait(100)
    assert one.place == LEADING


def test_a_leader_that_stood_still_gives_its_learners_time() -> None:
    """F5"""
    one = leader_of(*OURS)
    one.now += 20_000
    one.step(Resumed())
    one.tick()
    assert one.place == LEADING and not one.closed(one.link(1))


def test_nothing_a_leader_is_asked_before_it_is_established_commits() -> None:
    """C1"""
    one = leader_of(*OURS)
    one.request()
    assert one.did(Append) == []


# ---- the learner's side ------------------------------------------------------------------------------------------


def learner_of(*ends: tuple[int, int], snapshot: tuple[int, int] = ZERO, current: int = 1) -> tuple[One, LinkId]:
    """FOLLOWING in SYNCHRONIZATION under epoch 9, with this history."""
    one = One(0, epochs=Epochs(8, current, True))
    one.store.hold(chain(*ends))
    one.store.history.snapshot = one.store.history.base = Zxid(*snapshot)
    one.store.batches = [b for b in one.store.batches if b.last > one.store.history.base]
    one.peer.history = one.store.history.copy()
    one.peer.durable = one.peer.history.last
    one.peer.committed = one.peer.delivered = Zxid(*snapshot)
    link = one.follow()
    one.promise(link, epoch=9)
    assert one.place == FOLLOWING
    return one, link


def sync(one: One, link: LinkId, *batches: Batch) -> None:
    one.hear(1, SyncTxns(9, batches), link)


def test_history_is_on_disk_before_the_epoch_and_both_before_the_acknowledgement() -> None:
    """S3, S4, bugs 1, 2, 3"""
    one, link = learner_of((1, 2))
    sync(one, link, *chain((2, 2), after=Zxid(1, 2)))
    one.hear(1, NewLeader(9, Zxid(2, 2)), link)
    assert [type(e) for e in one.writes] == [Append, SaveEpochs]
    assert one.sent(AckNewLeader) == []
    one.disk(1)
    assert one.epochs.current == 1 and one.sent(AckNewLeader) == []
    one.disk(1)
    assert one.epochs.current == 9
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(2, 2))]


def test_progress_acknowledges_nothing() -> None:
    one, link = learner_of((1, 2))
    sync(one, link, *chain((2, 2), after=Zxid(1, 2)))
    one.disk()
    assert one.sent(SyncProgress) == [SyncProgress(9, Zxid(2, 2), 0)]
    assert one.sent(Ack) == [] and one.sent(AckNewLeader) == [] and one.epochs.current == 1


def test_truncation_comes_first_and_is_durable_before_what_follows() -> None:
    """L11 is storage's; the order is ours."""
    one, link = learner_of((1, 2), (3, 2), current=3)
    one.hear(1, Trunc(9, Zxid(1, 2)), link)
    sync(one, link, *chain((4, 1), after=Zxid(1, 2)))
    one.hear(1, NewLeader(9, Zxid(4, 1)), link)
    assert [type(e) for e in one.writes] == [Truncate, Append, SaveEpochs]
    assert one.peer.durable == Zxid(1, 2)
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(4, 1))]
    assert one.store.history.last == Zxid(4, 1)


def test_an_empty_diff_is_acknowledged_when_the_epoch_is_durable() -> None:
    """S10: NEWLEADER is not a transaction and does not change lastZxid."""
    one, link = learner_of((1, 2))
    one.hear(1, NewLeader(9, Zxid(1, 2)), link)
    assert one.sent(AckNewLeader) == []
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(1, 2))]
    assert one.store.history.last == Zxid(1, 2) == one.peer.history.last


def test_who_accepted_this_epoch_before_need_not_write_it_again() -> None:
    """Reconnection within an epoch."""
    one = One(0, epochs=Epochs(9, 9, True))
    link = one.follow()
    one.promise(link, epoch=9)
    saves = len(one.did(SaveEpochs))
    one.hear(1, NewLeader(9, ZERO), link)
    assert one.sent(AckNewLeader) == [AckNewLeader(9, ZERO)] and len(one.did(SaveEpochs)) == saves


def test_who_accepted_this_epoch_before_still_waits_for_the_history() -> None:
    """S4: the epoch on disk says nothing of what was proposed while the link was down."""
    one = One(0, epochs=Epochs(9, 9, True))
    link = one.follow()
    one.promise(link, epoch=9)
    sync(one, link, *chain((9, 2)))
    one.hear(1, NewLeader(9, Zxid(9, 2)), link)
    assert one.sent(AckNewLeader) == []
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(9, 2))]


@pytest.mark.parametrize(
    ("to", "snapshot", "committed"),
    [
        pytest.param((1, 1), (1, 2), (1, 2), id="below its snapshot"),
        pytest.param((1, 2), (1, 1), (1, 3), id="below what it knows to be committed"),
    ],
)
def test_nothing_committed_is_ever_truncated(
    to: tuple[int, int], snapshot: tuple[int, int], committed: tuple[int, int]
) -> None:
    """5.2 step 1, L7: FAILED."""
    one, link = learner_of((1, 5), snapshot=snapshot)
    one.peer.committed = Zxid(*committed)
    one.hear(1, Trunc(9, Zxid(*to)), link)
    assert one.place == FAILED and one.did(Truncate) == []


def test_what_is_committed_beyond_the_own_end_does_not_forbid_a_truncation_to_the_end() -> None:
    """5.2: min(committed, lastZxid)."""
    one, link = learner_of((1, 5))
    one.peer.committed = Zxid(1, 9)
    one.hear(1, Trunc(9, Zxid(1, 5)), link)
    assert one.place == FOLLOWING


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([Trunc(9, Zxid(1, 7))], id="TRUNC to a place not held"),
        pytest.param([SyncTxns(9, (batch(2, 1, Zxid(1, 1)),))], id="data after a hole"),
        pytest.param([SyncTxns(9, ())], id="no data"),
        pytest.param([SyncTxns(9, (batch(10, 1, Zxid(1, 2)),))], id="data of an epoch that is not"),
        pytest.param([NewLeader(9, Zxid(1, 1))], id="NEWLEADER of less than is held"),
        pytest.param([NewLeader(9, Zxid(1, 3))], id="NEWLEADER of more than was sent"),
        pytest.param([NewLeader(8, Zxid(1, 2))], id="NEWLEADER of another epoch"),
        pytest.param([Propose(9, (batch(9, 1, Zxid(1, 2)),), ZERO)], id="PROPOSE before NEWLEADER"),
        pytest.param([UpToDate(9, Zxid(1, 2))], id="UPTODATE before ACK_NEWLEADER"),
        pytest.param([NewLeader(9, Zxid(1, 2)), NewLeader(9, Zxid(1, 2))], id="NEWLEADER twice"),
        pytest.param([NewLeader(9, Zxid(1, 2)), Trunc(9, Zxid(1, 1))], id="TRUNC after NEWLEADER"),
        pytest.param([NewLeader(9, Zxid(1, 2)), Snap(9, Zxid(1, 2), (), (), 3)], id="SNAP after NEWLEADER"),
        pytest.param([NewLeader(9, Zxid(1, 2)), SyncTxns(9, (batch(2, 1, Zxid(1, 2)),))], id="data after NEWLEADER"),
        pytest.param([SnapChunk(9, 0, b"abc")], id="a piece of no snapshot"),
        pytest.param([Snap(9, Zxid(2, 1), (), (), 9), SnapChunk(9, 3, b"abc")], id="a piece is missing"),
        pytest.param([Snap(9, Zxid(2, 1), (), (), 2), SnapChunk(9, 0, b"abc")], id="more pieces than announced"),
        pytest.param([Snap(9, Zxid(2, 1), (), (), 9), NewLeader(9, Zxid(2, 1))], id="NEWLEADER amid a snapshot"),
        pytest.param([Snap(9, Zxid(2, 1), (), (), 9), Trunc(9, Zxid(1, 1))], id="TRUNC amid a snapshot"),
        pytest.param([Snap(9, Zxid(2, 1), (), (), 9)] * 2, id="SNAP twice"),
        pytest.param([Ack(9, ZERO)], id="what only a learner says"),
    ],
)
def test_what_does_not_fit_closes_the_link_and_leaves_the_history_as_it_was(wrong: list[Any]) -> None:
    one, link = learner_of((1, 2))
    for message in wrong:
        one.hear(1, message, link)
    assert one.closed(link) and one.place == LEAVING
    one.disk()
    assert one.store.history == history((1, 2)) == one.peer.history
    assert one.epochs == Epochs(9, 1, True) and one.sent(AckNewLeader) == []


def test_a_proposal_during_synchronization_is_taken_and_acknowledged_after_newleader() -> None:
    """S6, bug 4: ACK_NEWLEADER is the first acknowledgement of the link."""
    one, link = learner_of((1, 2))
    one.hear(1, NewLeader(9, Zxid(1, 2)), link)
    one.hear(1, Propose(9, (batch(9, 1, Zxid(1, 2)),), Zxid(1, 2)), link)
    held = list(one.store.queue)
    one.store.queue.clear()
    one.store.queue.append(held[1])  # the log is quicker than META here
    one.disk()
    assert one.sent(Ack) == [] and one.sent(AckNewLeader) == []
    one.store.queue.append(held[0])
    one.disk()
    said = [m for m in one.to(link) if isinstance(m, (Ack, AckNewLeader))]
    assert said == [AckNewLeader(9, Zxid(1, 2)), Ack(9, Zxid(9, 1))]


@pytest.mark.parametrize("via", ["COMMIT", "HEARTBEAT", "PROPOSE"])
def test_watermarks_before_uptodate_are_remembered_and_not_applied(via: str) -> None:
    """S7, bugs 5, 31, 49"""
    one, link = learner_of((1, 2))
    one.hear(1, NewLeader(9, Zxid(1, 2)), link)
    one.hear(1, Propose(9, (batch(9, 1, Zxid(1, 2)),), ZERO), link)
    one.disk()
    match via:
        case "COMMIT":
            one.hear(1, Commit(9, Zxid(9, 1)))
        case "HEARTBEAT":
            one.beat(1, 9, state=State.LEADING, phase=Phase.BROADCAST, committed=Zxid(9, 1))
        case _:
            one.hear(1, Propose(9, (batch(9, 2, Zxid(9, 1)),), Zxid(9, 1)), link)
    assert one.did(Deliver) == [] and one.place == FOLLOWING
    one.hear(1, UpToDate(9, Zxid(1, 2)), link)
    assert one.place == SERVING and one.delivered == Zxid(9, 1)


def test_a_dead_tail_is_not_taken_for_committed() -> None:
    """S7, bug 49: its number is below the watermark, yet it lies on another branch."""
    one, link = learner_of((1, 3))
    one.hear(1, Commit(9, Zxid(2, 2)))
    assert one.did(Deliver) == [] and one.peer.committed == ZERO
    one.hear(1, Trunc(9, Zxid(1, 1)), link)
    sync(one, link, *chain((2, 2), after=Zxid(1, 1)))
    one.hear(1, NewLeader(9, Zxid(2, 2)), link)
    one.disk()
    one.hear(1, UpToDate(9, Zxid(2, 2)), link)
    assert one.delivered == Zxid(2, 2)


def test_uptodate_delivers_what_is_committed_and_durable() -> None:
    """S7, S8, D3"""
    one, link = learner_of((1, 2))
    one.hear(1, NewLeader(9, Zxid(1, 2)), link)
    one.disk()
    assert one.delivered == ZERO
    one.hear(1, UpToDate(9, Zxid(1, 1)), link)
    assert one.place == SERVING and one.delivered == Zxid(1, 1)


# ---- SNAP --------------------------------------------------------------------------------------------------------


def snap(one: One, link: LinkId, ends: Ends = ((1, 2), (2, 5)), pieces: tuple[bytes, ...] = (b"abc", b"de")) -> None:
    mark = history(*ends).mark(Zxid(*ends[-1]))
    one.hear(1, Snap(9, mark.zxid, mark.ends, mark.admits, sum(map(len, pieces))), link)
    offset = 0
    for piece in pieces:
        one.hear(1, SnapChunk(9, offset, piece), link)
        offset += len(piece)


def test_a_snapshot_replaces_the_history_and_what_follows_is_written_after_it() -> None:
    """5.2, L12, bug 37"""
    one, link = learner_of((1, 2))
    snap(one, link)
    sync(one, link, *chain((2, 7), after=Zxid(2, 5)))
    one.hear(1, NewLeader(9, Zxid(2, 7)), link)
    assert [type(e) for e in one.writes] == [StageSnapshot, StageSnapshot, InstallSnapshot, Append, SaveEpochs]
    one.disk(3)
    assert one.peer.durable == Zxid(2, 5) and one.sent(AckNewLeader) == []
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(2, 7))]
    index = one.peer.history
    assert (index.snapshot, index.base, index.last) == (Zxid(2, 5), Zxid(2, 5), Zxid(2, 7))
    assert tuple(index.ends) == ((1, 2), (2, 7))
    assert (one.peer.delivered, one.peer.committed) == (Zxid(2, 5), Zxid(2, 5))


def test_a_dead_tail_beyond_the_snapshot_is_not_durable_in_the_new_history() -> None:
    """Its number is higher than the snapshot's; nothing of it may be acknowledged."""
    one, link = learner_of((1, 2), (3, 9), current=3)
    snap(one, link)
    one.hear(1, NewLeader(9, Zxid(2, 5)), link)
    assert one.peer.durable == ZERO and one.sent(AckNewLeader) == []
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(2, 5))]
    assert one.store.history.last == Zxid(2, 5)


def test_a_snapshot_is_acknowledged_when_it_is_installed_though_it_tells_nothing_new() -> None:
    """S4, L12: until then the old generation is what a crash would leave."""
    one = One(0, held=history((1, 2), snapshot=(1, 2)), epochs=Epochs(9, 9, True))
    link = one.follow()
    one.promise(link, epoch=9)
    snap(one, link, ((1, 2),))
    one.hear(1, NewLeader(9, Zxid(1, 2)), link)
    one.disk(2)
    assert one.sent(AckNewLeader) == []
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(1, 2))]


def test_each_piece_written_is_told() -> None:
    one, link = learner_of((1, 2))
    snap(one, link)
    one.disk()
    assert one.sent(SyncProgress)[:2] == [SyncProgress(9, ZERO, 3), SyncProgress(9, ZERO, 5)]


def test_a_snapshot_older_than_what_is_applied_is_refused_for_good() -> None:
    """5.2: Sl >= applied, else FAILED."""
    one, link = learner_of((1, 5), snapshot=(1, 5))
    one.hear(1, Snap(9, Zxid(1, 4), (EpochEnd(1, 4),), (), 3), link)
    assert one.place == FAILED


def test_an_empty_snapshot_is_installed_too() -> None:
    one, link = learner_of((1, 1))
    snap(one, link, pieces=(b"",))
    one.hear(1, NewLeader(9, Zxid(2, 5)), link)
    one.disk()
    assert one.sent(AckNewLeader) == [AckNewLeader(9, Zxid(2, 5))]


def test_after_a_snapshot_only_what_is_newer_is_delivered() -> None:
    one, link = learner_of((1, 2))
    snap(one, link)
    sync(one, link, *chain((2, 7), after=Zxid(2, 5)))
    one.hear(1, NewLeader(9, Zxid(2, 7)), link)
    one.disk()
    assert one.did(Deliver) == []
    one.hear(1, UpToDate(9, Zxid(2, 7)), link)
    assert one.did(Deliver) == [Deliver(Zxid(2, 7))]


# ---- when it breaks off ------------------------------------------------------------------------------------------


def test_a_synchronization_that_broke_off_before_its_first_write_leaves_nothing() -> None:
    """S9, D4"""
    one, link = learner_of((1, 2), (3, 2), current=3)
    one.hear(1, Trunc(9, Zxid(1, 2)), link)
    sync(one, link, *chain((4, 1), after=Zxid(1, 2)))
    one.step(LinkLost(link, "reset"))
    one.disk()
    assert one.peer.history == history((1, 2), (3, 2)) == one.store.history
    assert one.peer.durable == Zxid(3, 2)


def test_a_snapshot_not_wholly_received_leaves_the_old_history() -> None:
    """S9, L12, bug 7"""
    one, link = learner_of((1, 2))
    mark = history((2, 5)).mark(Zxid(2, 5))
    one.hear(1, Snap(9, mark.zxid, mark.ends, (), 9), link)
    one.hear(1, SnapChunk(9, 0, b"abc"), link)
    one.disk()
    one.step(LinkLost(link, "reset"))
    one.disk()
    assert one.peer.history == history((1, 2)) and one.peer.delivered == ZERO


def test_a_snapshot_installed_before_the_link_broke_is_the_history_now() -> None:
    one, link = learner_of((1, 2))
    snap(one, link)
    one.disk()
    one.step(LinkLost(link, "reset"))
    one.disk()
    assert (one.peer.history.last, one.peer.delivered, one.peer.committed) == (Zxid(2, 5),) * 3


@pytest.mark.parametrize(
    ("writes", "current", "last"),
    [
        pytest.param(0, 1, (1, 3), id="before the truncation"),
        pytest.param(1, 1, (1, 2), id="after the truncation"),
        pytest.param(2, 4, (4, 1), id="after transactions of epoch 4, before currentEpoch"),
        pytest.param(3, 9, (4, 1), id="after currentEpoch"),
    ],
)
@pytest.mark.parametrize("how", ["link lost", "crash"])
def test_a_crash_at_any_write_leaves_a_history_that_may_be_elected(
    writes: int, current: int, last: tuple[int, int], how: str
) -> None:
    """S5, D2, bugs 8, 19: a prefix that reaches into epoch 4 holds all of its initial history."""
    one, link = learner_of((1, 3))
    one.hear(1, Trunc(9, Zxid(1, 2)), link)
    sync(one, link, *chain((4, 1), after=Zxid(1, 2)))
    one.hear(1, NewLeader(9, Zxid(4, 1)), link)
    one.disk(writes)
    if how == "link lost":
        one.step(LinkLost(link, "reset"))
        one.disk()
        assert one.place == (State.LOOKING, Phase.ELECTION)
        assert one.epochs == Epochs(9, current, True) == one.peer.epochs
        assert one.peer.history.last == Zxid(*last)
        mine = one.peer.own_vote()
        assert mine is not None and (mine.epoch, mine.zxid) == (current, Zxid(*last))
    else:
        assert max(one.epochs.current, one.store.history.last.epoch) == current
        assert one.store.history.last == Zxid(*last)


def test_a_log_of_an_epoch_never_promised_stops_the_node() -> None:
    """S5: acceptedEpoch >= currentEpoch must be found."""
    one, link = learner_of((1, 3))
    one.step(LinkLost(link, "reset"))
    one.store.history.append(batch(12, 1, Zxid(1, 3)))
    one.disk()
    assert one.place == FAILED


@pytest.mark.parametrize("fault", ["silence", "no progress", "full disk", "NACK"])
def test_a_learner_gives_up(fault: str) -> None:
    """B12, L15"""
    one, link = learner_of((1, 3))
    match fault:
        case "silence":
            one.wait(551)
        case "no progress":
            for i in range(101):
                one.wait(50)
                one.beat(1, 9, state=State.LEADING, phase=Phase.SYNCHRONIZATION, hb_seq=i)
        case "full disk":
            one.step(DiskSpace(Space.FULL))
        case _:
            one.hear(1, Nack(Refusal.OTHER_CONFIG, 77), link)
            assert one.peer.max_epoch_seen == 77
    assert one.place == LEAVING


def test_a_slow_synchronization_that_goes_on_is_not_given_up() -> None:
    """B12: not a total."""
    one, link = learner_of((1, 1))
    last = Zxid(1, 1)
    for c in range(2, 8):
        for _ in range(10):
            one.wait(400)
            one.beat(1, 9, state=State.LEADING, phase=Phase.SYNCHRONIZATION)
        sync(one, link, batch(1, c, last))
        last = Zxid(1, c)
        one.disk()
    assert one.place == FOLLOWING


# ---- whole ensembles ---------------------------------------------------------------------------------------------


def test_a_follower_that_was_away_gets_the_missing_part() -> None:
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.crash(0)
    for _ in range(5):
        ensemble.request(leader)
    ensemble.start(0)
    ensemble.serve()
    ensemble.run(200)
    assert ensemble.last(0) == ensemble.last(leader) == ensemble.delivered[0][-1]


def test_a_follower_that_was_away_for_long_gets_a_snapshot() -> None:
    """5.1, bug 6: what is committed while SNAP is under way follows it."""
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.crash(0)
    for _ in range(5):
        ensemble.request(leader)
    ensemble.snapshot(leader)
    ensemble.request(leader)
    ensemble.start(0)
    ensemble.serve()
    ensemble.request(leader)
    ensemble.run(200)
    assert "Snap" in {kind for _, kind, _ in ensemble.said}
    assert ensemble.delivered[0] == [Zxid(1, 5), Zxid(1, 6), Zxid(1, 7)]
    assert ensemble.disks[PeerId(0)].history.ends == ensemble.disks[PeerId(leader)].history.ends


def test_a_deposed_leaders_own_transactions_are_cut_off_when_it_returns() -> None:
    """S9, bug 9"""
    ensemble = Ensemble(3)
    ensemble.start()
    old = ensemble.serve()
    ensemble.request(old)
    ensemble.isolate(old)
    ensemble.request(old, 2)  # on its own disk alone
    ensemble.request(old)
    assert ensemble.last(old) == Zxid(1, 4)
    ensemble.run(3000)
    new = ensemble.leader
    assert new is not None and new != old
    ensemble.request(new)
    ensemble.heal()
    ensemble.serve()
    ensemble.run(200)
    assert ensemble.delivered[old] == [Zxid(1, 1), Zxid(2, 1)]
    assert "Trunc" in {kind for _, kind, _ in ensemble.said}


def test_a_dead_branch_of_an_old_epoch_is_cut_off_across_epochs() -> None:
    """5.1, bug 11"""
    ensemble = Ensemble(3)
    ensemble.start()
    first = ensemble.serve()
    ensemble.request(first)
    ensemble.blocked = lambda source, to, message: isinstance(message, Propose)
    ensemble.request(first)
    ensemble.request(first)
    ensemble.crash(first)
    ensemble.blocked = lambda source, to, message: False
    for _ in range(3):  # three more leaderships without it
        leader = ensemble.serve()
        ensemble.request(leader)
        ensemble.run(200)
        ensemble.crash(leader)
        ensemble.start(leader)
    ensemble.start(first)
    leader = ensemble.serve()
    ensemble.run(200)
    assert leader != first
    assert ensemble.disks[PeerId(first)].history == ensemble.disks[PeerId(leader)].history
    assert Zxid(1, 2) not in ensemble.delivered[first]
