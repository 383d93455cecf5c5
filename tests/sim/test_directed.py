"""Schedules of PROTOCOL 12 that chance finds seldom, directed step by step; and the mutants that only they catch."""

from __future__ import annotations

from tests.sim.stage import Stage
from zabzmq.core.messages import Phase, State
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.sim.acts import Hands
from zabzmq.sim.disk import Platter
from zabzmq.sim.mutants import MUTANTS


def figure_8(on: Stage) -> tuple[PeerId, PeerId, PeerId, Zxid]:
    """Bug 32 up to the moment when C holds a copy of what A alone had logged, and A has died again."""
    on.start()
    a = on.leader()
    c, b = (peer for peer in on.peers if peer != a)
    on.play(100)  # late starters are admitted
    common = on.commit(a, 4)
    on.cut(a)
    on.write(a)
    on.until(lambda: on.synced(a) > common)
    alone = on.synced(a)
    gone = on[a].process
    on.until(lambda: all(on[peer].node.peer.phase.leader != gone for peer in (b, c)))
    on.power_off(a)
    on.cut(a, on=False)
    # B promises epoch 2 to itself with C's help, and dies before C has accepted it.
    second = on.world.platters[a].epochs.accepted + 1
    on.until(lambda: any(on.world.platters[peer].epochs.current == second for peer in (b, c)))
    b, c = (b, c) if on.world.platters[b].epochs.current == second else (c, b)
    on.power_off(b, c)  # C too: NEWLEADER was on its way to it
    assert on.world.platters[c].epochs.current < second
    # A leads again, over C, and dies as soon as C holds the copy.
    on.start(a, c)
    on.until(lambda: bool(on.world.violations) or on.synced(c) == alone)
    return a, b, c, alone


def before_the_epoch(seed: int) -> tuple[Stage, PeerId, PeerId, PeerId, Zxid] | None:
    """Bug 32, all three down. None when C's META was quicker than the power cut: then C has accepted A's epoch."""
    on = Stage(seed=seed)
    a, b, c, alone = figure_8(on)
    assert on[a].node.peer.phase.state is State.LEADING
    assert on[a].node.peer.phase.phase is Phase.SYNCHRONIZATION
    on.power_off(a, c)
    epoch_of = {peer: on.world.platters[peer].epochs.current for peer in (b, c)}
    return (on, a, b, c, alone) if epoch_of[c] < epoch_of[b] else None


def test_a_copy_of_an_older_transaction_commits_nothing() -> None:
    on, a, b, c, alone = next(found for seed in range(1, 50) if (found := before_the_epoch(seed)) is not None)
    on.start(b, c)
    assert on.leader() == b, "its epoch is the later one, though its history is shorter"
    assert alone not in on.world.watcher.committed_places
    on.commit(b)
    assert not on.world.platters[c].holds(alone)
    on.start(a)
    on.commit(on.leader())
    assert not on.world.violations


def test_counting_copies_is_caught_in_the_schedule_of_bug_32() -> None:
    """In a seed where the word of the copy is quicker than C's epoch is durable: then it commits on A's word alone."""
    named = set()
    with MUTANTS["copies counted"].broken():
        for seed in range(1, 20):
            on = Stage(seed=seed)
            figure_8(on)
            on.play(20)
            named |= {violation.name for violation in on.world.violations}
    assert named == {"CommitSafety"}


def lost_disk(on: Stage) -> tuple[PeerId, PeerId, PeerId, Platter]:
    """A leads, and B's disk is lost. The last is the lost one."""
    on.start()
    a = on.leader()
    b, c = (peer for peer in on.peers if peer != a)
    on.commit(a, 3)
    on.power_off(b)
    return a, b, c, on.world.wipe(b)


def second_disk(on: Stage) -> tuple[PeerId, PeerId, PeerId, Platter]:
    """The same, and another disk is admitted, as all have on theirs."""
    a, b, c, old = lost_disk(on)
    on.start(b)
    on.until(lambda: on.world.platters[b].epochs.joined)
    on.until(lambda: on.world.platters[c].history.last_admit(b) == on.world.platters[b].life)
    on.commit(a)
    return a, b, c, old


def test_an_old_disk_counts_as_lost_while_an_admit_of_the_next_may_be_committed() -> None:
    """L18: the simulator, too, must not call three of five disks a minority (seeds 10230 and 271019)."""
    on = Stage()
    hands = Hands(on.world)
    _, b, c, old = lost_disk(on)
    assert not hands._may_forget(c)
    on[c].disk.stalled = True
    on.start(b)
    watcher = on.world.watcher
    on.until(lambda: watcher.offered.get(b) == on.world.platters[b].life)
    assert watcher.lives[b] == old.life, "the ADMIT is in a log, and not committed"
    on.power_off(b)
    on.world.wipe(b, old)
    assert not hands._may_forget(c)


def old_disk_returns(on: Stage) -> tuple[PeerId, PeerId, PeerId, Zxid]:
    """B is wiped, admitted anew, acknowledges w with A alone; then its old disk comes back, and A is gone."""
    a, b, c, old = second_disk(on)
    on.cut(c)
    on.write(a)
    w = Zxid(on.synced(a).epoch, on.synced(a).counter + 1)
    on.until(lambda: w in on.world.watcher.committed_places and on.synced(a) == w)
    on.power_off(a, b, c)
    on.cut(c, on=False)
    on.world.wipe(b, old)
    on.start(b, c)
    return a, b, c, w


def test_a_promise_of_a_replaced_life_does_not_count() -> None:
    on = Stage()
    a, _, c, w = old_disk_returns(on)
    assert on.play(6000)
    assert on.established() is None, "two of three live, but one of them has forgotten what it acknowledged"
    on.start(a)
    on.leader()
    on.until(lambda: on.synced(c) >= w)
    assert not on.world.violations


def test_counting_the_promise_of_a_replaced_life_is_caught() -> None:
    with MUTANTS["promise of a replaced life"].broken():
        on = Stage()
        old_disk_returns(on)
        assert not on.play(6000)
    assert "LeaderCompleteness" in {violation.name for violation in on.world.violations}


def replaced_and_put_back(on: Stage) -> tuple[PeerId, PeerId]:
    """B's disk is lost and another one admitted; then the first is put back."""
    _, b, c, old = second_disk(on)
    on.power_off(b)
    on.world.wipe(b, old)
    return b, c


def two_disks_of_one_voter(on: Stage) -> tuple[PeerId, PeerId, Zxid]:
    """B's second disk and C commit w in an epoch that A, which stood still, has not heard of; then B's first disk
    is put back, and A, which still leads the epoch before, has just proposed to admit it again."""
    a, b, c, old = second_disk(on)
    on[a].pause()
    on.until(lambda: on.established(b, c) is not None)
    leader = on.established(b, c)
    assert leader is not None
    on.play(50)
    before = on.synced(leader)
    on.write(leader)
    on.until(
        lambda: min(on.synced(b), on.synced(c)) > before and on.synced(leader) in on.world.watcher.committed_places
    )
    w = on.synced(leader)
    on.power_off(b, c)
    on.world.wipe(b, old)
    on.start(b)
    on[a].resume()
    return a, c, w


def test_an_old_disk_put_back_does_not_count_before_it_is_admitted_again() -> None:
    """L18, L13b: neither by its own META, which says joined, nor by an ADMIT that is not committed."""
    for seed in range(1, 4):
        on = Stage(seed=seed)
        a, c, w = two_disks_of_one_voter(on)
        assert on.play(6000)
        assert on.established() is None, "A and a disk that knows nothing of the epoch after A's"
        on.start(c)
        on.leader()
        on.until(lambda: on.synced(a) >= w)  # noqa: B023
        assert not on.world.violations


def test_an_old_disk_that_counts_itself_is_caught() -> None:
    named = set()
    with MUTANTS["a replaced life counts itself"].broken():
        for seed in range(1, 4):
            on = Stage(seed=seed)
            two_disks_of_one_voter(on)
            on.play(6000)
            named |= {violation.name for violation in on.world.violations}
    assert {"Leadership2", "CommittedStable"} <= named


def test_an_old_disk_put_back_is_a_full_voter_again_once_it_is_admitted() -> None:
    """L13b: it says JOINED as any other does, and the leader goes on with it alone."""
    on = Stage()
    b, c = replaced_and_put_back(on)
    on.start(b)
    leader = on.leader()
    on.until(lambda: not on.world.platters[b].epochs.joined, 2000)
    on.until(lambda: on.world.platters[b].epochs.joined, 2000)
    on.play(100)
    on.power_off(c if leader != c else next(peer for peer in on.peers if peer not in (b, c)))
    before = on[leader].node.peer.phase.epoch
    on.commit(leader, 3)
    assert on.play(2000)
    assert on[leader].node.peer.is_established and on[leader].node.peer.phase.epoch == before


def promised_elsewhere(on: Stage) -> tuple[PeerId, PeerId, PeerId]:
    """X is slow to promise itself an epoch; meanwhile Y promises that very number to Z, which dies; Y comes to X."""
    y, x, z = on.peers
    on.start()
    on.commit(on.leader(), 3)
    on.play(100)  # late starters are admitted
    on.power_off(*on.peers)
    before = max(platter.epochs.accepted for platter in on.world.platters.values())
    on.start(x, y)
    on.until(lambda: on[x].node.peer.phase.state is State.LEADING)
    on[x].disk.stalled = True
    on.until(lambda: on[x].node.peer.phase.epoch == before + 1)
    on.power_off(y)
    on.cut(x)
    on.start(y, z)
    on.until(lambda: on.world.platters[y].epochs.accepted == before + 1)
    assert on[y].node.peer.phase.leader == on[z].process
    on.until(lambda: on[y].node.peer.phase.phase is Phase.SYNCHRONIZATION)  # its promise is told
    on.power_off(z)
    on.cut(x, on=False)
    on[x].disk.release()
    return x, y, z


PATIENT = Timing(bootstrap_wait=50, disk_stall=5000, discovery_timeout=5000)


def test_a_promise_to_one_leader_does_not_count_for_another() -> None:
    """V1"""
    on = Stage(timing=PATIENT)
    x, y, z = promised_elsewhere(on)
    on.until(lambda: on[y].node.peer.phase.leader == on[x].process)
    on.until(lambda: on.established() is not None)
    assert on[x].node.peer.epochs.current > on.world.platters[z].epochs.accepted, "it took a higher epoch"
    on.start(z)
    on.commit(on.leader())
    assert not on.world.violations


def test_counting_a_promise_to_another_is_caught() -> None:
    with MUTANTS["equal epoch counted"].broken():
        on = Stage(timing=PATIENT)
        promised_elsewhere(on)
        assert not on.play(6000)
    assert "OnePromise" in {violation.name for violation in on.world.violations}


def wiped_after_it_acknowledged(on: Stage) -> tuple[PeerId, PeerId, PeerId, Zxid]:
    """w is on the disks of A and B alone; A goes down, B is wiped, and comes up beside C, which never had w."""
    on.start()
    a = on.leader()
    b, c = (peer for peer in on.peers if peer != a)
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))
    on.commit(a, 3)
    on.power_off(c)
    w = on.commit(a)
    on.power_off(a, b)
    on.world.wipe(b)
    on.start(b, c)
    return a, b, c, w


def test_a_wiped_voter_does_not_count() -> None:
    """L13"""
    on = Stage()
    a, b, c, w = wiped_after_it_acknowledged(on)
    assert on.play(6000)
    assert on.established() is None
    on.start(a)
    on.leader()
    on.until(lambda: on.synced(c) >= w and on.world.platters[b].epochs.joined)
    assert not on.world.violations


def test_a_wiped_voter_that_counts_is_caught() -> None:
    with MUTANTS["born joined"].broken():
        on = Stage()
        wiped_after_it_acknowledged(on)
        assert not on.play(6000)
    assert "LeaderCompleteness" in {violation.name for violation in on.world.violations}
