"""One test for each claim of the paper (Junqueira, Reed, Serafini, DSN 2011), on schedules of a few steps.

The promises are checked over whole runs by the simulator; here each is shown on the smallest schedule on which a
wrong protocol would break it.
"""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.core.ensemble import Ensemble
from zabzmq.core.effects import Append, Deliver, Proposed, Send
from zabzmq.core.history import Batch, Epochs
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    LeaderInfo,
    NewLeader,
    Phase,
    Propose,
    State,
    SyncTxns,
    UpToDate,
)
from zabzmq.core.zxid import PeerId, Zxid


def established(count: int = 3) -> tuple[Ensemble, int]:
    ensemble = Ensemble(count)
    ensemble.start()
    return ensemble, ensemble.serve()


def proposed(ensemble: Ensemble) -> dict[int, list[Batch]]:
    """Every transaction broadcast, by the peer that broadcast it, in its order."""
    batches: dict[int, list[Batch]] = {}
    for peer, effect in ensemble.effects:
        if isinstance(effect, Proposed):
            batches.setdefault(peer, []).append(effect.batch)
    return batches


def wrote(ensemble: Ensemble, peer: int) -> list[Zxid]:
    return [b.last for p, e in ensemble.effects if p == peer and isinstance(e, Append) for b in e.batches]


def deposed_with_a_tail() -> tuple[Ensemble, int, int]:
    """Leader `old` committed 1.1, proposed 1.2 and 1.3 to nobody, was cut off; `new` committed 2.1; all is healed."""
    ensemble, old = established()
    ensemble.request(old)
    ensemble.isolate(old)
    ensemble.request(old)
    ensemble.request(old)
    ensemble.run(3000)
    new = ensemble.leader
    assert new is not None and new != old
    ensemble.request(new)
    ensemble.heal()
    ensemble.serve()
    ensemble.run(500)
    return ensemble, old, new


# ---- section III: what is promised ---------------------------------------------------------------------------------


def test_integrity_what_is_delivered_was_broadcast_and_is_delivered_once() -> None:
    ensemble, _, _ = deposed_with_a_tail()
    broadcast = {b.last for batches in proposed(ensemble).values() for b in batches}
    for delivered in ensemble.delivered.values():
        assert len(delivered) == len(set(delivered)) and set(delivered) <= broadcast


def test_total_order_who_delivers_two_transactions_delivers_them_in_one_order() -> None:
    ensemble, _, _ = deposed_with_a_tail()
    for a, b in combinations(ensemble.delivered.values(), 2):
        shared = set(a) & set(b)
        assert [z for z in a if z in shared] == [z for z in b if z in shared]


def test_agreement_of_two_peers_one_delivered_a_prefix_of_what_the_other_did() -> None:
    ensemble, leader = established()
    ensemble.slow(leader, 0)
    for _ in range(3):
        ensemble.request(leader)
    assert ensemble.delivered[0] == [] and len(ensemble.delivered[1]) > 0
    for a, b in combinations(ensemble.delivered.values(), 2):
        shorter, longer = sorted((a, b), key=len)
        assert longer[: len(shorter)] == shorter
    ensemble.heal()
    ensemble.run(500)
    assert len({tuple(d) for d in ensemble.delivered.values()}) == 1


def test_local_primary_order_one_primarys_transactions_are_delivered_in_the_order_it_broadcast_them() -> None:
    ensemble, leader = established()
    for count in (3, 1, 4, 1, 5):
        ensemble.request(leader, count)
    ensemble.run(200)
    order = [b.last for b in proposed(ensemble)[leader]]
    assert all(delivered == order for delivered in ensemble.delivered.values())


def test_global_primary_order_an_earlier_primarys_transactions_come_before_a_later_ones() -> None:
    ensemble, first = established()
    ensemble.request(first)
    ensemble.crash(first)
    second = ensemble.serve()
    ensemble.request(second)
    ensemble.start(first)
    ensemble.serve()
    ensemble.run(500)
    for delivered in ensemble.delivered.values():
        assert delivered == [Zxid(1, 1), Zxid(2, 1)]


def test_primary_integrity_a_primary_delivers_what_is_committed_before_it_broadcasts() -> None:
    """Even when the commit was known to nobody but the primary before it."""
    ensemble, first = established()
    ensemble.blocked = lambda source, to, message: (
        isinstance(message, Commit) or (type(message).__name__ == "Heartbeat" and message.committed > Zxid(0, 0))
    )
    ensemble.request(first)
    assert ensemble.delivered[first] == [Zxid(1, 1)]
    assert all(not d for p, d in ensemble.delivered.items() if p != first)
    ensemble.crash(first)
    ensemble.blocked = lambda source, to, message: False
    second = ensemble.serve()
    ensemble.request(second)
    mine = [e for p, e in ensemble.effects if p == second and isinstance(e, (Deliver, Proposed))]
    assert mine[0] == Deliver(Zxid(1, 1)) and isinstance(mine[1], Proposed)


def test_an_uncommitted_transaction_may_survive_or_vanish_but_never_both() -> None:
    """Section II: what a primary broadcast and did not commit is the next one's to keep or drop, for everybody."""
    for reached in (True, False):
        ensemble, first = established()
        ensemble.blocked = lambda source, to, message, keep=reached: (  # type: ignore[misc]
            isinstance(message, Ack) or (isinstance(message, Propose) and not keep)
        )
        ensemble.request(first)
        assert ensemble.delivered[first] == []
        ensemble.crash(first)
        ensemble.blocked = lambda source, to, message: False
        ensemble.serve()
        ensemble.start(first)
        ensemble.serve()
        ensemble.run(500)
        assert list(ensemble.delivered.values()) == [[Zxid(1, 1)] if reached else []] * 3


# ---- section III.A: causal order needs more than FIFO per primary ---------------------------------------------------


def test_no_transaction_of_an_earlier_primary_slips_in_behind_a_later_ones() -> None:
    """Figure 1: with sequences of consensus instances 27 could be decided of B and 28 of A. Here A's tail is gone."""
    ensemble, old, _ = deposed_with_a_tail()
    assert ensemble.delivered[old] == [Zxid(1, 1), Zxid(2, 1)]
    for disk in ensemble.disks.values():
        assert [b.last for b in disk.batches] == [Zxid(1, 1), Zxid(2, 1)]


def test_a_primary_may_have_many_transactions_outstanding() -> None:
    """Section II.C"""
    ensemble, leader = established()
    for i in range(3):
        ensemble.hold(i)
    for _ in range(100):
        ensemble.request(leader)
    assert ensemble.delivered[leader] == []
    assert ensemble.peer(leader).history.last == Zxid(1, 100)
    for i in range(3):
        ensemble.release(i)
    ensemble.run(100)
    assert all(len(d) == 100 for d in ensemble.delivered.values())


# ---- section IV: the algorithm -------------------------------------------------------------------------------------


def test_a_new_epoch_is_greater_than_every_epoch_a_quorum_has_promised() -> None:
    """Phase 1, step l.1.1"""
    ensemble = Ensemble(3)
    for i, accepted in enumerate((4, 9, 2)):
        ensemble.disks[PeerId(i)].epochs = Epochs(accepted, 1, True)
    ensemble.start()
    ensemble.serve()
    assert {ensemble.epochs(i) for i in range(3)} == {Epochs(10, 10, True)}


def test_a_follower_promises_before_it_tells_its_history() -> None:
    """Phase 1, step f.1.1: acceptedEpoch is on disk before ACKEPOCH says so."""
    ensemble = Ensemble(3)
    ensemble.hold(0)
    ensemble.start()
    ensemble.run(100)
    asked = [m for _, kind, m in ensemble.said if kind == "LeaderInfo"]
    told = [p for p, kind, _ in ensemble.said if kind == "AckEpoch"]
    assert asked and 0 not in told
    ensemble.release(0)
    assert 0 in [p for p, kind, _ in ensemble.said if kind == "AckEpoch"]


def test_the_history_chosen_for_a_new_epoch_is_the_most_recent_of_a_quorum() -> None:
    """Phase 1, step l.1.2: by currentEpoch, then by zxid."""
    ensemble, first = established()
    others = [i for i in range(3) if i != first]
    ensemble.blocked = lambda source, to, message: isinstance(message, Propose) and to == others[1]
    ensemble.request(first)
    assert ensemble.delivered[first] == [Zxid(1, 1)]
    ensemble.crash(first)
    ensemble.blocked = lambda source, to, message: False
    assert ensemble.serve() == others[0], "though the other has the higher id"
    ensemble.run(300)
    assert ensemble.last(others[1]) == Zxid(1, 1)


def test_a_follower_takes_the_history_and_then_the_epoch() -> None:
    """Phase 2, step f.2.1: f.a and h_f in one step; here history first, on the same disk, in one order (S3)."""
    ensemble, first = established()
    ensemble.crash(0)
    ensemble.request(first)
    ensemble.request(first)
    ensemble.crash(first)
    ensemble.start(first)
    ensemble.serve()
    ensemble.disks[PeerId(0)].done.clear()
    ensemble.start(0)
    ensemble.serve()
    done = ensemble.disks[PeerId(0)].done
    assert done[0] == "epochs 2 1" and done[-1] == "epochs 2 2"
    assert len(done) > 2 and all(write.startswith("append") for write in done[1:-1])


def test_the_initial_history_is_delivered_on_commit_ld() -> None:
    """Phase 2, step f.2.2: and not before."""
    ensemble, first = established()
    ensemble.blocked = lambda source, to, message: isinstance(message, Ack)
    ensemble.request(first)
    ensemble.blocked = lambda source, to, message: isinstance(message, UpToDate)
    ensemble.crash(first)
    ensemble.run(400, lambda: ensemble.leader is not None)
    second = ensemble.leader
    assert second is not None
    follower = next(i for i in range(3) if i not in (first, second))
    assert ensemble.delivered[second] == [Zxid(1, 1)]
    assert ensemble.place(follower) == (State.FOLLOWING, Phase.SYNCHRONIZATION)
    assert ensemble.delivered[follower] == [] and ensemble.last(follower) == Zxid(1, 1)
    ensemble.blocked = lambda source, to, message: False
    ensemble.serve()
    assert ensemble.delivered[follower] == [Zxid(1, 1)]


def test_a_leader_broadcasts_only_after_a_quorum_accepted_its_epoch() -> None:
    """Phase 2, step l.2.2; phase 3, step l.3.1"""
    ensemble = Ensemble(3)
    ensemble.blocked = lambda source, to, message: isinstance(message, AckNewLeader)
    ensemble.start()
    ensemble.run(200)
    leading = next(i for i in range(3) if ensemble.place(i)[0] is State.LEADING)
    ensemble.request(leading)
    assert proposed(ensemble) == {}
    ensemble.blocked = lambda source, to, message: False
    leader = ensemble.serve()
    ensemble.request(leader)
    assert len(proposed(ensemble)[leader]) == 1


def test_a_transaction_is_committed_when_a_quorum_has_it_on_disk() -> None:
    """Phase 3, step l.3.2"""
    ensemble, leader = established()
    others = [i for i in range(3) if i != leader]
    for i in others:
        ensemble.hold(i)
    ensemble.request(leader)
    assert ensemble.delivered[leader] == []
    ensemble.release(others[0])
    assert ensemble.delivered[leader] == [Zxid(1, 1)]
    ensemble.run(10)  # COMMIT waits a moment for a proposal that would carry it
    assert ensemble.delivered[others[0]] == [Zxid(1, 1)]
    assert ensemble.delivered[others[1]] == []


def test_one_who_comes_late_gets_newepoch_newleader_and_commit_of_this_very_epoch() -> None:
    """Phase 3, steps l.3.3 and l.3.4"""
    ensemble, leader = established()
    ensemble.request(leader)
    ensemble.crash(0)
    ensemble.request(leader)
    ensemble.said.clear()
    ensemble.start(0)
    ensemble.serve()
    to_0 = [
        e.message
        for p, e in ensemble.effects
        if p == leader and isinstance(e, Send) and e.link.learner == ensemble.peer(0).process
    ]
    kinds = [type(m) for m in to_0 if isinstance(m, (LeaderInfo, SyncTxns, NewLeader, UpToDate))]
    assert kinds == [LeaderInfo, SyncTxns, NewLeader, UpToDate]
    assert {m.epoch for m in to_0 if isinstance(m, (LeaderInfo, SyncTxns, NewLeader, UpToDate))} == {1}
    counted = [m.counted for p, kind, m in ensemble.said if p == 0 and isinstance(m, AckEpoch)]
    assert counted == [False], "it promised this epoch before"


def test_what_is_broadcast_while_one_synchronizes_reaches_him_too() -> None:
    """Phase 3: Q is all who were sent NEWLEADER, not all who acknowledged it (bug 29)."""
    ensemble, leader = established()
    ensemble.crash(0)
    ensemble.blocked = lambda source, to, message: source == 0 and isinstance(message, AckNewLeader)
    ensemble.start(0)
    ensemble.run(100)
    ensemble.request(leader)
    ensemble.run(100)
    assert ensemble.place(0) == (State.FOLLOWING, Phase.SYNCHRONIZATION)
    assert wrote(ensemble, 0) == [Zxid(1, 1)] and ensemble.delivered[0] == []
    ensemble.blocked = lambda source, to, message: False
    ensemble.reset(0)
    ensemble.serve()
    ensemble.run(100)
    assert ensemble.delivered[0] == [Zxid(1, 1)]


# ---- section V: what must not happen (claims of the proof) ---------------------------------------------------------


def test_for_every_epoch_at_most_one_leader_is_ever_established() -> None:
    """Claim: two candidates of one epoch need two quorums of promises, which share a voter that gave one (V1)."""
    ensemble, _ = established(5)
    for _ in range(6):
        leader = ensemble.serve()
        ensemble.crash(leader)
        ensemble.run(600)
        ensemble.start(leader)
    ensemble.serve()
    assert sorted(ensemble.established) == list(range(1, len(ensemble.established) + 1))
    assert len(ensemble.established) >= 7


def test_after_a_promise_nothing_of_an_earlier_epoch_is_acknowledged() -> None:
    """V2: the whole reason why a commit quorum and a later quorum of promises meet in one who tells."""
    ensemble, old = established()
    others = [i for i in range(3) if i != old]
    ensemble.slow(old, others[0])
    ensemble.slow(old, others[1])
    ensemble.request(old)  # its proposal is under way to both
    for i in others:
        ensemble.reset(i)
        ensemble.cut(i, old)
    ensemble.run(2000, lambda: ensemble.leader not in (None, old))
    new = ensemble.leader
    assert new in others
    ensemble.cuts.clear()
    said = len(ensemble.said)
    ensemble.heal()  # now the old proposal arrives
    ensemble.run(200)
    assert not [m for p, _, m in ensemble.said[said:] if isinstance(m, (Ack, AckNewLeader)) and m.epoch == 1]
    assert all(Zxid(1, 1) not in d for d in ensemble.delivered.values())


def test_what_is_committed_is_in_the_initial_history_of_every_later_epoch() -> None:
    """Claim: LeaderCompleteness, whoever of the others dies with the leader."""
    for dead in range(5):
        ensemble, first = established(5)
        away = [i for i in range(5) if i != first][:2]
        ensemble.blocked = lambda source, to, message, away=away: to in away and isinstance(message, Propose)  # type: ignore[misc]
        ensemble.request(first)
        assert ensemble.delivered[first] == [Zxid(1, 1)]
        ensemble.crash(*sorted({first, dead}))
        ensemble.blocked = lambda source, to, message: False
        leader = ensemble.serve()
        assert ensemble.disks[PeerId(leader)].history.holds(Zxid(1, 1))
        ensemble.run(500)
        assert all(ensemble.delivered[i] == [Zxid(1, 1)] for i in ensemble.peers)


def test_a_copy_from_an_older_epoch_is_not_committed_by_counting_it() -> None:
    """B5, bug 32 (figure 8 of the Raft paper): 1.1 is on two of three disks, and still may vanish."""
    ensemble, a = established()
    b, c = (i for i in range(3) if i != a)
    ensemble.blocked = lambda source, to, message: isinstance(message, Propose)
    ensemble.request(a)  # 1.1 on a alone
    ensemble.blocked = lambda source, to, message: isinstance(message, (Propose, NewLeader, AckNewLeader))
    ensemble.crash(a)
    ensemble.run(300)  # b and c promise epoch 2; nobody is established
    ensemble.crash(c)
    ensemble.start(a)
    ensemble.run(3000, lambda: ensemble.last(b) == Zxid(1, 1))
    assert ensemble.last(b) == Zxid(1, 1), "a copies it to b while it leads a later epoch"
    assert all(not d for d in ensemble.delivered.values()), "two disks of three hold it, and nothing is committed"
    ensemble.blocked = lambda source, to, message: False
    ensemble.start(c)
    ensemble.serve()
    ensemble.run(300)
    assert len({tuple(d) for d in ensemble.delivered.values()}) == 1


def test_a_zxid_has_one_content_for_ever() -> None:
    """LogMatching, bug 20: a leader that comes back counts on in an epoch of its own."""
    ensemble, old, _ = deposed_with_a_tail()
    broadcast = [b for batches in proposed(ensemble).values() for b in batches]
    assert len({b.last for b in broadcast}) == len(broadcast)
    histories = {tuple(d.batches) for d in ensemble.disks.values()}
    assert len(histories) == 1 and Zxid(1, 2) in {b.last for b in proposed(ensemble)[old]}


# ---- section II: what is asked of the world ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 5])
def test_progress_needs_a_quorum_and_no_more(count: int) -> None:
    """f < n/2 crashes."""
    ensemble, _ = established(count)
    ensemble.crash(*range(count // 2))
    leader = ensemble.serve()
    ensemble.request(leader)
    assert len(ensemble.delivered[leader]) == 1
    ensemble.crash(leader)
    ensemble.run(10_000)
    assert ensemble.leader is None
    ensemble.start(0)
    ensemble.request(ensemble.serve())


def test_crash_recovery_all_at_once_loses_nothing_delivered() -> None:
    """Peers may crash and recover any number of times, on what is on their disks."""
    ensemble, leader = established(5)
    for _ in range(3):
        ensemble.request(leader)
        ensemble.crash(*range(5))
        ensemble.start()
        leader = ensemble.serve()
    ensemble.run(300)
    assert all(len(d) == 3 for d in ensemble.delivered.values())
    assert ensemble.delivered[0][0] == Zxid(1, 1)
