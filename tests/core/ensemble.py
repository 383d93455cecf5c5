"""Peers wired to each other without a network or a disk: for tests of three lines.

Everything arrives in order and at once, unless the test holds it back: `cut` a direction between two peers, `slow`
one (what goes there waits until `heal`), `blocked` a kind of message, `hold` a disk, `crash` a peer. Time stands
still until `run(ms)`. What was said on links and PUB is in `said`, every effect in `effects`.

After every step the committed prefixes, the epochs and the leaderships of section 11 are looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from tests.core.disk import Disk
from zabzmq.core.effects import (
    CloseLink,
    Deliver,
    Effect,
    Fail,
    InstallSnapshot,
    OpenLink,
    Publish,
    ReadFailed,
    ReadReady,
    Send,
    SendVote,
)
from zabzmq.core.history import Epochs
from zabzmq.core.inputs import Input, LinkLost, LinkUp, MeshDown, MeshUp, Read, Received, Request, Tick
from zabzmq.core.messages import Phase, State
from zabzmq.core.peer import Dice, Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid


class Ensemble:
    """`count` voters on empty disks; none is started."""

    def __init__(self, count: int, timing: Timing | None = None, *, bootstrap_all: bool = False) -> None:
        self.now = 0.0
        self.timing = timing or Timing()
        self.bootstrap_all = bootstrap_all
        self.unsafe_rejoin_empty = False
        self.voters = Voters(tuple(PeerId(i) for i in range(count)))
        self.disks = {p: Disk(1000 + p) for p in self.voters.ids}
        self.peers: dict[PeerId, Peer] = {}
        self.cuts: set[tuple[int, int]] = set()
        self.slowed: dict[tuple[int, int], deque[tuple[PeerId, Input]]] = {}
        self.links: dict[LinkId, PeerId] = {}
        self.mail: deque[tuple[PeerId, Input]] = deque()
        self.said: list[tuple[int, str, Any]] = []
        self.effects: list[tuple[int, Effect]] = []
        self.delivered: dict[int, list[Zxid]] = {p: [] for p in self.voters.ids}
        self.failed: dict[int, str] = {}
        self.answers: dict[int, Zxid | None] = {}  # reads, by ticket; None: failed
        self.blocked: Callable[[int, int, Any], bool] = lambda source, to, message: False
        self.established: dict[int, ProcessId] = {}
        self.dice: Callable[[int], Dice] = Random
        self._lives = 0

    # ---- what a test does

    def start(self, *ids: int) -> None:
        for i in ids or self.voters.ids:
            peer_id, disk = PeerId(i), self.disks[PeerId(i)]
            disk.incarnation += 1
            history = disk.history.copy()
            # S5: what storage's recovery does.
            disk.epochs = disk.epochs._replace(current=max(disk.epochs.current, history.last.epoch))
            peer = Peer(
                ProcessId(peer_id, disk.life, disk.incarnation),
                self.voters,
                history,
                disk.epochs,
                self.dice(i),
                self.timing,
                bootstrap_all=self.bootstrap_all,
                unsafe_rejoin_empty=self.unsafe_rejoin_empty,
            )
            self.peers[peer_id] = peer
            self.delivered[peer_id] = [history.snapshot] if history.snapshot > ZERO else []
            self._perform(peer_id, peer.start(self.clock(i)))
            for other in sorted(self.peers):
                if other != peer_id:
                    self._post(other, peer_id, MeshUp(other))
                    self._post(peer_id, other, MeshUp(peer_id))
        self.settle()

    def crash(self, *ids: int) -> None:
        """Kill processes; what their disks had not synced is gone."""
        for i in ids:
            peer_id = PeerId(i)
            del self.peers[peer_id]
            self.disks[peer_id].crash()
            self.mail = deque(each for each in self.mail if each[0] != peer_id)
        for i in ids:
            for other in sorted(self.peers):
                self.mail.append((other, MeshDown(PeerId(i))))
            for link, leader in sorted(self.links.items()):
                if i in (leader, link.learner.peer):
                    self._break(link)
        self.settle()

    def wipe(self, i: int) -> None:
        assert PeerId(i) not in self.peers, "crash it first"
        self._lives += 1
        self.disks[PeerId(i)] = Disk(5000 + 10 * self._lives + i)
        if len(self.voters.ids) == 1:
            self.established.clear()  # L19: a cluster of one has no memory but its disk

    def cut(self, a: int, b: int, both: bool = True) -> None:
        self.cuts |= {(a, b), (b, a)} if both else {(a, b)}

    def isolate(self, i: int) -> None:
        for other in self.voters.ids:
            if other != i:
                self.cut(i, other)

    def reset(self, i: int) -> None:
        """The links of learner i break."""
        for link in sorted(link for link in self.links if link.learner.peer == i):
            self._break(link)
        self.settle()

    def slow(self, a: int, b: int) -> None:
        """What a says to b waits until `heal`."""
        self.slowed.setdefault((a, b), deque())

    def heal(self) -> None:
        self.cuts.clear()
        for waiting in self.slowed.values():
            self.mail += waiting
        self.slowed.clear()

    def hold(self, i: int) -> None:
        """Peer i's disk ends no write until `release`."""
        self.disks[PeerId(i)].held = True

    def release(self, i: int) -> None:
        self.disks[PeerId(i)].held = False
        self.settle()

    def write(self, i: int) -> None:
        """One write of a held disk ends."""
        self.step(i, self.disks[PeerId(i)].next())
        self.settle()

    def request(self, i: int, count: int = 1) -> None:
        self.step(i, Request(b"x" * count, count, 0))
        self.settle()

    def read(self, i: int, ticket: int) -> None:
        self.step(i, Read(ticket))
        self.settle()

    def snapshot(self, i: int) -> None:
        """Peer i takes a snapshot of all it delivered and purges its log up to there."""
        at = self.peers[PeerId(i)].delivered
        self.step(i, self.disks[PeerId(i)].take_snapshot(at))

    def clock(self, i: int) -> float:
        """What peer i takes the time for."""
        return self.now

    def step(self, i: int, event: Input) -> list[Effect]:
        before = self.disks[PeerId(i)].epochs
        effects = self.peers[PeerId(i)].step(self.clock(i), event)
        self._perform(PeerId(i), effects)
        self._check(PeerId(i), before)
        return effects

    def run(self, ms: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, delivering everything at once."""
        end = self.now + ms
        self.settle()
        while not until():
            due = min((peer.next_deadline for peer in self.peers.values()), default=end)
            if due > end:
                self.now = end
                break
            self.now = max(self.now, due)
            for peer_id in sorted(self.peers):
                if peer_id in self.peers and self.peers[peer_id].next_deadline <= self.now:
                    self.step(peer_id, Tick())
            self.settle()

    def serve(self) -> int:
        """Run until all that are up serve under one leader; its id."""

        def serving() -> bool:
            return all(peer.phase.phase is Phase.BROADCAST for peer in self.peers.values())

        self.run(10_000, serving)
        assert serving() and self.leader is not None, {p: self.place(p) for p in self.peers}
        return self.leader

    def settle(self) -> None:
        """Deliver all mail and finish all disk work that is not held."""
        busy = True
        while busy:
            busy = bool(self.mail)
            while self.mail:
                to, event = self.mail.popleft()
                if to in self.peers and to not in self.failed:
                    self.step(to, event)
            for peer_id in sorted(self.peers):
                disk = self.disks[peer_id]
                while disk.queue and not disk.held and peer_id not in self.failed:
                    busy = True
                    self.step(peer_id, disk.next())

    # ---- what a test asks

    @property
    def leader(self) -> int | None:
        """The established leader of the highest epoch."""
        leaders = [(p.phase.epoch, p.id) for p in self.peers.values() if p.is_established]
        return max(leaders)[1] if leaders else None

    def peer(self, i: int) -> Peer:
        return self.peers[PeerId(i)]

    def place(self, i: int) -> tuple[State, Phase]:
        phase = self.peers[PeerId(i)].phase
        return phase.state, phase.phase

    def epochs(self, i: int) -> Epochs:
        return self.disks[PeerId(i)].epochs

    def last(self, i: int) -> Zxid:
        """The end of the history on peer i's disk."""
        return self.disks[PeerId(i)].history.last

    # ---- inside

    def _post(self, source: int, to: PeerId, event: Input) -> None:
        channel = self.slowed.get((source, to))
        if channel is None:
            self.mail.append((to, event))
        else:
            channel.append((to, event))

    def _break(self, link: LinkId) -> None:
        leader = self.links.pop(link, None)
        if leader is not None:
            self._post(link.learner.peer, leader, LinkLost(link, "broken"))
            self._post(leader, link.learner.peer, LinkLost(link, "broken"))

    def _perform(self, me: PeerId, effects: list[Effect]) -> None:
        disk, process = self.disks[me], self.peers[me].process
        for effect in effects:
            self.effects.append((me, effect))
            disk.ask(effect)
            match effect:
                case Send(link, message):
                    leader = self.links.get(link)
                    if leader is None:
                        continue
                    to = leader if link.learner == process else link.learner.peer
                    self.said.append((me, type(message).__name__, message))
                    if (me, to) in self.cuts:
                        self._break(link)
                    elif not self.blocked(me, to, message):
                        self._post(me, to, Received(process, link, message))
                case SendVote(to, note):
                    if (me, to) not in self.cuts and not self.blocked(me, to, note):
                        self._post(me, to, Received(process, None, note))
                case Publish(news):
                    self.said.append((me, type(news).__name__, news))
                    for other in sorted(self.peers):
                        if other != me and (me, other) not in self.cuts and not self.blocked(me, other, news):
                            self._post(me, other, Received(process, None, news))
                case OpenLink(link, to):
                    if to in self.peers and (me, to) not in self.cuts:
                        self.links[link] = to
                        self.mail.append((me, LinkUp(link)))
                    else:
                        self.mail.append((me, LinkLost(link, "refused")))
                case CloseLink(link):
                    leader = self.links.pop(link, None)
                    if leader is not None:
                        to = leader if link.learner == process else link.learner.peer
                        self._post(me, to, LinkLost(link, "closed by the other end"))
                case Deliver(upto):
                    done = self.delivered[me][-1] if self.delivered[me] else disk.history.base
                    self.delivered[me] += [b.last for b in disk.batches if done < b.last <= upto]
                    assert self.delivered[me][-1] == upto, f"peer {me} cannot deliver {upto} from its disk (D3)"
                case InstallSnapshot(_, mark, _):
                    self.delivered[me] = [mark.zxid]
                case ReadReady(ticket, zxid):
                    assert ticket not in self.answers, f"read {ticket} was answered twice"
                    self.answers[ticket] = zxid
                case ReadFailed(ticket):
                    assert ticket not in self.answers, f"read {ticket} was answered twice"
                    self.answers[ticket] = None
                case Fail(why):
                    self.failed[me] = why
                case _:
                    pass

    def _check(self, me: PeerId, before: Epochs) -> None:
        peer, disk = self.peers[me], self.disks[me]
        assert before.accepted <= disk.epochs.accepted and before.current <= disk.epochs.current, "EpochOrder"
        assert disk.epochs.current <= disk.epochs.accepted, "EpochOrder"
        if peer.is_established:
            first = self.established.setdefault(peer.phase.epoch, peer.process)
            assert first == peer.process, f"Leadership2: {first} and {peer.process} led epoch {peer.phase.epoch}"
        mine = self.delivered[me]
        for other, theirs in self.delivered.items():
            if other != me and mine and theirs and mine[0] <= theirs[-1] and theirs[0] <= mine[-1]:
                first_both = max(mine[0], theirs[0])
                last_both = min(mine[-1], theirs[-1])
                a = [z for z in mine if first_both <= z <= last_both]
                b = [z for z in theirs if first_both <= z <= last_both]
                assert a == b, f"PrefixConsistency: peer {me} delivered {mine}, peer {other} {theirs}"
