"""Schedules of PROTOCOL 12, directed step by step: each ends with what must hold, or fails.

`BUGS` lists them with the mutant that switches their rule off. A, B and C are the table's names; a `crash` there is a
power cut here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.sim.stage import Stage
from zabzmq.core.inputs import Input, Received
from zabzmq.core.messages import Notification, Phase, Propose, State
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.net.client_wire import Answers
from zabzmq.sim.network import CLEAR, Host, Weather
from zabzmq.sim.watcher import Watcher
from zabzmq.sim.world import FromClient, WatchedPeer

Three = tuple[PeerId, PeerId, PeerId]


def led(on: Stage, txns: int = 3) -> Three:
    """All are up, A leads, and some transactions are everywhere."""
    on.start()
    a = on.leader()
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))  # late starters too
    on.commit(a, txns)
    b, c = (peer for peer in on.peers if peer != a)
    return a, b, c


def alone(on: Stage, a: PeerId, count: int = 1) -> Zxid:
    """A, cut off, logs what nobody else ever gets; A goes down, the cut is over."""
    before = on.synced(a)
    on.cut(a)
    on.play(3)  # what was under way has arrived
    for _ in range(count):
        on.write(a)
        on.until(lambda last=on.synced(a): on.synced(a) > last)  # type: ignore[misc]
    x = on.synced(a)
    assert x > before
    gone = on[a].process
    others = [process.node.peer for process in on.world.processes.values() if process and process.process != gone]
    on.until(lambda: all(peer.phase.leader != gone for peer in others))  # else they still hear what was held up
    on.power_off(a)
    on.cut(a, on=False)
    return x


def purged(on: Stage, a: PeerId, c: PeerId) -> None:
    """A has purged what C lacks: C needs a snapshot."""
    for _ in range(40):
        if on.world.platters[a].log.base > on.synced(c):
            return
        on.commit(a)
        on.play(5)
    raise AssertionError("nothing was purged")


def in_sync(on: Stage, peer: PeerId) -> bool:
    process = on.world.processes[peer]
    return process is not None and process.node.peer.phase.phase is Phase.SYNCHRONIZATION


def up_to_date(on: Stage, peer: PeerId) -> bool:
    process = on.world.processes[peer]
    return process is not None and process.node.peer.phase.phase is Phase.BROADCAST


def all_equal(on: Stage) -> None:
    on.commit(on.leader())
    states = {(process.state.applied, process.state.digest) for process in on.world.processes.values() if process}
    assert len(states) == 1, states
    assert not on.world.violations, on.world.violations


def sure(on: Stage, x: Zxid) -> None:
    """x is committed and everybody's."""
    all_equal(on)
    assert x in on.world.watcher.committed_places
    assert all(on[peer].node.peer.history.holds(x) for peer in on.peers if on.world.processes[peer])


def synced_then_crashed(on: Stage, slow: float = 0.0) -> None:
    """1, 2: x is A's alone; A brings it to C, both lose power as soon as A is established; B and C go on."""
    a, b, c = led(on)
    x = alone(on, a)
    on.power_off(b, c)
    on.start(a, c)
    if slow:
        on[c].disk.latency = slow
    on.until(lambda: on.established(a) == a)
    on.power_off(a, c)
    on.start(b, c)
    sure(on, x)


def epoch_before_log(on: Stage) -> None:
    """3: x is committed by A and C; B is brought to epoch 2 and loses power in the middle; B and C go on."""
    a, b, c = led(on)
    on.power_off(b)
    x = on.commit(a, 3)
    on.power_off(a, c)
    before = on.world.platters[b].epochs.current
    on.start(a, b)
    on.until(lambda: on.world.platters[b].epochs.current > before or on.synced(b) >= x)
    on.power_off(a, b)
    on.start(b, c)
    sure(on, x)


def writes_during_sync(on: Stage) -> None:
    """4, 5, 14, 29, 31: B's disk is slow while it is synchronized, and A commits with C meanwhile; then B leads C."""
    a, b, c = led(on)
    on.power_off(b)
    on.commit(a, 2)
    on.start(b)
    on.until(lambda: in_sync(on, b))
    on[b].disk.stalled = True
    epoch = on[a].node.peer.epochs.current
    on.play(10)  # NEWLEADER is on its way
    for _ in range(3):
        on.write(a)
        on.play(5)
    last = on[a].node.peer.history.last
    on.until(lambda: on[a].state.applied == last)
    on.play(150)  # a heartbeat tells B what is committed
    on[b].disk.release()
    on.until(lambda: up_to_date(on, b))
    on.commit(a)
    assert on[a].node.peer.epochs.current == epoch, "nobody stepped down"
    on.power_off(a, c)
    on.start(c)
    sure(on, last)


def snapshot_under_way(on: Stage) -> None:
    """6: C is sent a snapshot while A commits; C loses power after its ack, and comes back."""
    a, _, c = led(on)
    on.power_off(c)
    purged(on, a, c)
    on.start(c)
    on.until(lambda: in_sync(on, c))
    for _ in range(4):
        on.write(a)
        on.play(0.5)
    on.until(lambda: up_to_date(on, c))
    on.power_off(c)
    on.start(c)
    sure(on, on[a].node.peer.history.last)
    assert on.world.watcher.syncs["SNAP"]


def snapshot_broken_off(on: Stage) -> None:
    """7: A installs a snapshot at C and dies before NEWLEADER is accepted; B goes on with C; C restarts."""
    a, b, c = led(on)
    on.power_off(c)
    purged(on, a, c)
    last = on.commit(a)
    on.start(c)
    on.until(lambda: on[c].node.peer.history.base >= on.world.platters[a].log.base > Zxid(0, 0))
    on.power_off(a)
    on.until(lambda: on.established(b, c) is not None and up_to_date(on, c))
    on.commit(on.leader())
    on.power_off(c)
    on.start(c)
    sure(on, last)


def truncation_broken_off(on: Stage) -> None:
    """8: A returns with a dead branch, is told to cut it off, and loses power right after; then it goes on."""
    a, b, c = led(on)
    x = alone(on, a, 2)
    on.leader()
    on.commit(on.leader(), 2)
    on.start(a)
    on.until(lambda: on[a].node.peer.history.last != x and in_sync(on, a))
    on.play(2)
    on.power_off(a)
    on.start(a)
    all_equal(on)
    assert not on[a].node.peer.history.holds(x)
    assert {b, c} <= set(on.peers)


def sync_while_the_writer_is_slow(on: Stage) -> None:
    """12: A's disk is slow and A proposes without a pause while C, which was down, is synchronized piece by piece."""
    a, _, c = led(on)
    on.power_off(c)
    on.commit(a, 6)
    on[a].disk.latency = 20.0
    on.start(c)
    on.until(lambda: in_sync(on, c))
    for _ in range(100):
        on.write(a)
        on.play(0.5)
        if up_to_date(on, c):
            break
    sure(on, on[a].node.peer.history.last)


def dead_branch(on: Stage) -> None:
    """9, 11, 13: A has two transactions that nobody else has; B and C go on; A returns, and later leads C."""
    a, b, c = led(on)
    x = alone(on, a, 2)
    on.leader()
    on.commit(on.leader(), 4)
    on.start(a)
    all_equal(on)
    assert x not in on.world.watcher.committed_places
    on.power_off(a, b, c)
    on.start(a, c)
    all_equal(on)
    on.start(b)
    all_equal(on)


def dead_tail_hears_commits(on: Stage) -> None:
    """49: A returns with a dead tail while others commit without a pause."""
    a, b, c = led(on)
    x = alone(on, a, 2)
    leader = on.leader()
    on.commit(leader, 4)
    on.start(a)
    for _ in range(400):
        on.write(leader)
        on.play(1)
        if up_to_date(on, a) or on.world.violations:
            break
    all_equal(on)
    assert x not in on.world.watcher.committed_places
    assert {b, c} < set(on.peers)


def snapshot_of_the_uncommitted(on: Stage) -> None:
    """10: A has proposed what nobody acknowledges when a snapshot is due; B goes on without; A returns."""
    a, b, c = led(on, 2)
    for peer in (b, c):
        on[peer].disk.stalled = True
    for _ in range(3):
        on.write(a)
    on.play(20)
    x = on.synced(a)
    on.power_off(a, b, c)
    on.start(b, c)
    on.commit(on.leader(), 2)
    on.start(a)
    all_equal(on)
    assert not on[a].node.peer.history.holds(x)


def write_error(on: Stage) -> None:
    """15: B's write of x fails; y is written; B restarts."""
    a, b, _ = led(on)
    on[b].disk.fail_next = True
    on.write(a)
    on.play(20)
    on.write(a)
    on.play(20)
    if on.world.processes[b] is not None:
        on.power_off(b)
        on.start(b)
    sure(on, on[on.leader()].node.peer.history.last)


def lost_proposal(on: Stage) -> None:
    """16: one PROPOSE to B is lost in its link, and others follow."""
    a, b, c = led(on)
    on.world.network.weather = Weather(link_loss=1.0)
    on.write(a)
    on.world.network.weather = CLEAR
    for _ in range(3):
        on.write(a)
        on.play(1)
    on.play(1500)
    all_equal(on)
    assert {b, c} < set(on.peers)


def proposals_twice(on: Stage) -> None:
    """30: every PROPOSE reaches B twice, also those that its synchronization has brought already."""
    a, b, _ = led(on)
    on.power_off(b)
    on.commit(a, 2)
    on.start(b)
    hear = on[b].hear

    def twice(event: Input | FromClient) -> None:
        hear(event)
        if isinstance(event, Received) and isinstance(event.message, Propose):
            hear(event)

    on[b].hear = twice  # type: ignore[method-assign]
    for _ in range(60):
        on.write(a)
        on.play(0.5)
    sure(on, on[a].node.peer.history.last)


def dead_disk(on: Stage) -> None:
    """17: A's disk never finishes a write: another leads within a few time-outs."""
    a, b, c = led(on)
    on[a].disk.stalled = True
    on.write(a)
    on.until(lambda: on.established(b, c) is not None, patience=5000)


def late_write(on: Stage) -> None:
    """18: B's disk stands still, its link breaks, B votes; then the write of its former role is done."""
    a, b, _ = led(on)
    on[b].disk.stalled = True
    on.write(a)
    on.play(5)
    on.world.network.break_links(a, b)
    on.play(100)
    on[b].disk.release()
    on.play(1000)
    all_equal(on)


def crash_everywhere_in_sync(on: Stage) -> None:
    """19: B loses power again and again, a little later in its synchronization each time, and always comes back."""
    a, b, _ = led(on)
    for step in range(14):
        on.power_off(b)
        on.commit(a, 2)
        on.power_off(a)
        on.start(a)
        on.commit(on.leader())
        on.start(b)
        on.until(lambda: in_sync(on, b) or up_to_date(on, b))
        on.play(0.35 * step)
        on.power_off(b)
        on.start(b)
        all_equal(on)
        a = on.leader() if on.leader() != b else a
        if on.leader() == b:
            return


def one_epoch_promised_twice(on: Stage) -> None:
    """20: A is to offer epoch 2 to C, and its disk stands still; C promises 2 to B, which dies; then A offers it."""
    led(on)
    c, a, b = sorted(on.peers)
    on.power_off(*on.peers)
    on.start(a, c)
    on.until(lambda: on[a].node.peer.phase.state is State.LEADING)
    on[a].disk.stalled = True
    on.until(lambda: on[a].node.peer.phase.epoch == 2 and on[c].node.peer.phase.leader == on[a].process)
    on.cut(a)
    on.world.network.reset(a, c)
    on.start(b)
    on.until(lambda: on.world.platters[c].epochs.accepted == 2)
    on.power_off(b)
    on[a].disk.release()
    on.until(lambda: on.world.platters[a].epochs.accepted == 2)
    on.cut(a, on=False)
    on.until(lambda: in_sync(on, c))
    on.start(b)
    all_equal(on)
    assert len(on.world.watcher.established) == 2, "the first start, and an epoch after those promised"


def voter_changes_its_mind(on: Stage) -> None:
    """24: A and B elect A, which leads at once; while B still waits for a better vote it gets one, of C."""
    led(on)
    b, a, c = sorted(on.peers)
    on.power_off(*on.peers)
    for pair in ((a, c), (c, a)):
        on.world.network.set_cut(*pair, on=True)
    deliver = on.world.network.vote
    held: dict[PeerId, tuple[Host, PeerId, Notification]] = {}  # what B would be told: all of C, and that A leads

    def vote(source: Host, target: PeerId, message: Notification) -> None:
        if target == b and (source.process.peer == c or message.state is State.LEADING):
            held[source.process.peer] = (source, target, message)
        else:
            deliver(source, target, message)

    on.world.network.vote = vote  # type: ignore[method-assign]
    on.start(c, b)
    on.until(lambda: (b, c) in on.world.network.mesh and on[b].node.peer.reachable(c))
    on.start(a)
    on.until(lambda: on[a].node.peer.phase.state is State.LEADING)
    assert on[b].node.peer.phase.state is State.LOOKING
    role = on[a].node.peer.role
    on.world.network.vote = deliver  # type: ignore[method-assign]
    deliver(*held[c])
    on.until(lambda: on[a].node.peer.role > role, patience=100)  # not only after discovery_timeout
    for pair in ((a, c), (c, a)):
        on.world.network.set_cut(*pair, on=False)
    all_equal(on)


def counter_exhausted(on: Stage) -> None:
    """21: MAX_COUNTER is 5, and 12 are written."""
    on.start()
    for _ in range(12):
        leader = on.leader()
        before = sum(batch.count for batch in on.world.watcher.committed)
        on.write(leader)
        on.until(
            lambda before=before, leader=leader: (  # type: ignore[misc]
                sum(b.count for b in on.world.watcher.committed) > before or on.established() != leader
            )
        )
        on.play(50)
    assert max(batch.last.counter for batch in on.world.watcher.committed) <= 5
    assert len(on.world.watcher.established) > 1
    assert not on.world.violations


def joiner(on: Stage) -> None:
    """22, 23: the ensemble is re-elected twice while the node with the highest id is down; it joins and follows."""
    a, b, c = sorted(on.peers)
    on.start(a, b)
    on.commit(on.leader())
    for _ in range(2):
        leader = on.leader()
        on.power_off(leader)
        on.start(leader)
        on.commit(on.leader())
    leader = on.leader()
    epoch = on[leader].node.peer.epochs.current
    on.start(c)
    on.until(lambda: up_to_date(on, c), patience=1500)
    assert on.established() == leader
    assert on[leader].node.peer.epochs.current == epoch


def deposed_leader_is_asked(on: Stage) -> None:
    """25, 45: A is cut off and has not noticed; B leads and commits y; A is asked."""
    a, b, c = led(on)
    on.cut(a)
    for peer in (b, c):
        on.world.network.break_links(a, peer)
    on.until(lambda: on.established(b, c) is not None)
    other = on.established(b, c)
    assert other is not None
    before = on[other].node.peer.history.last
    on.write(other)
    on.until(lambda: before < on[other].node.peer.history.last == on[other].state.applied)
    y = on[other].state.applied
    on.answers.clear()
    assert on[a].node.peer.is_established, "it believes that it leads"
    on.read(a)
    on.play(1000)
    stale = [answer for answer in on.answers if isinstance(answer, Answers) and Zxid(*answer.zxid) < y]
    assert not stale, f"A answered as of {stale[0].zxid}, and {y} is committed"
    on.cut(a, on=False)
    all_equal(on)


def isolated_for_long(on: Stage) -> None:
    """35: C is alone for a minute and goes through many rounds; when it is back nobody else changes anything."""
    a, _, c = led(on)
    epoch = on[a].node.peer.epochs.current
    on.cut(c)
    on.play(60_000)
    assert on[c].node.peer.round > 0
    on.cut(c, on=False)
    on.until(lambda: up_to_date(on, c), patience=5000)
    assert on.established() == a
    assert on[a].node.peer.epochs.current == epoch


def rounds_apart(on: Stage) -> None:
    """36: A and B are at round 50, C starts at round 1, A stops: B and C find each other."""
    a, b, c = led(on)
    on.power_off(c)
    for peer in (a, b):
        on[peer].node.peer.round = 50
    on.power_off(a)
    on.until(lambda: on[b].node.peer.phase.state is State.LOOKING)
    on.play(100)
    on.start(c)
    on.until(lambda: on.established(b, c) is not None, patience=3000)


def partial_reachability(on: Stage) -> None:
    """39: A and C do not reach each other, B reaches both: one leader, and it stays."""
    a, _, c = led(on)
    for pair in ((a, c), (c, a)):
        on.world.network.set_cut(*pair, on=True)
    on.play(5000)
    elections = on.world.watcher.elections
    on.play(55_000)
    assert on.established() is not None
    assert on.world.watcher.elections - elections <= 1, "endless elections"
    assert not on.world.violations


def best_candidate_out_of_reach(on: Stage) -> None:
    """39: of five nodes one is down, and the one with the longest history reaches only one other: those three go on."""
    on.start()
    a = on.leader()
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))
    on.commit(a, 2)
    others = [peer for peer in on.peers if peer != a]
    friend, rest = others[0], others[1:]
    alone_at = on.synced(a)
    for peer in others:
        on[peer].disk.stalled = True
    on.write(a)
    on.until(lambda: on.synced(a) > alone_at)
    on.power_off(*on.peers)
    for peer in rest:
        for pair in ((a, peer), (peer, a)):
            on.world.network.set_cut(*pair, on=True)
    on.start(a, friend, *rest[1:])
    on.until(lambda: on.established(friend, *rest) is not None, patience=2000)


def only_the_leader_hears_its_quorum(on: Stage) -> None:
    """39: of five nodes two are down, and of the others one reaches both, who do not reach each other: it leads."""
    on.start()
    on.leader()
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))
    on.power_off(*on.peers)
    *leaves, centre = on.peers[:3]
    for one, other in (leaves, reversed(leaves)):
        on.world.network.set_cut(one, other, on=True)
    on.start(centre, *leaves)
    on.until(lambda: on.established(centre) is not None, patience=3000)
    on.commit(centre)
    assert not on.world.violations


def two_under_one_id(on: Stage) -> None:
    """44: a second machine starts with B's id and an empty disk, and gets what is sent to B; the first still speaks."""
    a, b, c = led(on)
    first = on[b]
    # The watcher has one place for B, and that is the second's from now on.
    assert isinstance(first.node.peer, WatchedPeer)
    first.node.peer.watch = lambda *step: None
    first.state.watcher = Watcher(on.world.voters, on.world.platters)
    first.state.watcher.check = lambda *about: True  # type: ignore[method-assign]
    first.disk.on_synced = lambda: None
    on.world.processes[b] = None
    on.world.wipe(b)
    on.start(b)
    on.until(lambda: on.world.platters[b].epochs.joined, patience=3000)
    leader, second = on.leader(), on[b]
    role = second.node.peer.role
    for _ in range(20):
        on.commit(leader)
        on.play(100)
    assert first.node.peer.phase.state is State.LOOKING and first.node.peer.round > 0, "both are at work"
    assert on.established() == leader in (a, c)
    assert second.node.peer.role == role, "the second has lost its leader to what the first said"
    all_equal(on)


def page_cache(on: Stage) -> None:
    """46: B is killed between write and sync, starts again, helps to elect, and then all lose power."""
    a, b, c = led(on)
    on.power_off(c)
    for delay in range(1, 9):
        on.write(a)
        on.play(0.5 + 0.12 * delay)
        on.world.crash(b, power=False)
        on.start(b)
        on.leader()
        last = on.commit(on.leader())
        on.power_off(a, b)
        on.start(a, b)
        a, b = (a, b) if on.leader() == a else (b, a)
        assert on[a].node.peer.history.holds(last)
    on.start(c)
    all_equal(on)


def half_joined(on: Stage) -> None:
    """48: at the first start A persists epoch 1, B loses power before it has accepted it, C is fresh."""
    a, b, c = on.peers
    on.start(a, b)
    on.until(lambda: any(on.world.platters[peer].epochs.current for peer in (a, b)))
    behind = b if on.world.platters[a].epochs.current else a
    on.power_off(behind)
    on.play(100)
    on.start(behind, c)
    all_equal(on)


class Bug(NamedTuple):
    rows: tuple[int, ...]
    schedule: Callable[[Stage], None]
    mutant: str  # "" or a switch of the simulator, or "area: name" of a patch
    stage: Callable[[int], Stage] = lambda seed: Stage(seed=seed)


def with_small_snapshots(seed: int) -> Stage:
    return Stage(seed=seed, snapshot_txns=3)


BUGS = (
    Bug((1,), synced_then_crashed, "new leader acked early"),
    Bug((2,), lambda on: synced_then_crashed(on, 50.0), "new leader acked early"),
    Bug((3,), epoch_before_log, "epoch raised before history"),
    Bug((4,), writes_during_sync, "core: a learner acknowledges before ACK_NEWLEADER"),
    Bug((5,), writes_during_sync, "core: a COMMIT before UPTODATE is an error"),
    Bug(
        (49,),
        dead_tail_hears_commits,
        "commits believed early",
        lambda s: Stage(seed=s, timing=Timing(bootstrap_wait=50, commit_delay=0), weather=Weather(delay=3.0)),
    ),
    Bug((6,), snapshot_under_way, "dedupe table left out of the snapshot", with_small_snapshots),
    Bug((7,), snapshot_broken_off, "snapshot in memory only", with_small_snapshots),
    Bug((8,), truncation_broken_off, "truncation in memory only"),
    Bug((9, 13), dead_branch, "core: TRUNC is not sent"),
    Bug((10,), snapshot_of_the_uncommitted, "snapshot of what is not applied", with_small_snapshots),
    Bug((11,), dead_branch, "no TRUNC"),
    Bug(
        (12,),
        sync_while_the_writer_is_slow,
        "core: proposals overtake what is still to be sent",
        lambda s: Stage(seed=s, timing=Timing(bootstrap_wait=50, chunk_bytes=100)),
    ),
    Bug((14, 29), writes_during_sync, "PROPOSE only to acked learners"),
    Bug((15,), write_error, "failed write believed"),
    Bug((16,), lost_proposal, "append across a hole"),
    Bug((17,), dead_disk, "core: a leader whose disk is stalled goes on"),
    Bug((18,), late_write, "core: a role is left without waiting for the disk"),
    Bug((19,), crash_everywhere_in_sync, "epoch not repaired"),
    Bug(
        (20,),
        one_epoch_promised_twice,
        "core: a promise to another process counts",
        lambda s: Stage(seed=s, timing=Timing(bootstrap_wait=50, discovery_timeout=3000, disk_stall=3000)),
    ),
    Bug(
        (21,),
        counter_exhausted,
        "core: counters run out of bounds",
        lambda s: Stage(seed=s, timing=Timing(bootstrap_wait=50, max_counter=5)),
    ),
    Bug((22,), joiner, "core: decided peers must report one vote"),
    Bug((23,), joiner, "core: a joiner does not listen to decided peers"),
    Bug(
        (24,),
        voter_changes_its_mind,
        "core: an elected leader waits for voters that left it",
        lambda s: Stage(seed=s, timing=Timing(bootstrap_wait=50, finalize_wait=150)),
    ),
    Bug((25, 45), deposed_leader_is_asked, "wall-order read"),
    Bug((30,), proposals_twice, "core: a repeated PROPOSE is appended again"),
    Bug((35,), isolated_for_long, "core: decided peers do not answer"),
    Bug((36,), rounds_apart, "core: a higher round is not joined"),
    Bug((39,), partial_reachability, "core: a higher round unseats a leader"),
    Bug(
        (39,),
        best_candidate_out_of_reach,
        "core: nobody settles for less",
        lambda s: Stage(5, seed=s),
    ),
    Bug(
        (39,),
        best_candidate_out_of_reach,
        "core: nobody stands where the best is out of reach",
        lambda s: Stage(5, seed=78 + s),  # in most, whoever comes next names the best, and nobody else
    ),
    Bug(
        (39,),
        only_the_leader_hears_its_quorum,
        "core: who does not hear a quorum does not follow",
        lambda s: Stage(5, seed=s),
    ),
    Bug((44,), two_under_one_id, "net: a replaced life is heard again"),
    Bug((46,), page_cache, "page cache believed"),
    Bug((48,), half_joined, "core: bootstrap does not join"),
)
