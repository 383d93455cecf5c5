"""Peers wired to each other without a network or a disk: for tests of three lines.

Everything arrives in order and at once, unless the test holds it back: `cut` a direction between two peers,
`hold` a disk, `crash` a peer. Time stands still until `run(ms)`. Messages of any kind can be looked at in
`ensemble.said`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from zabzmq.core.effects import (
    Append,
    CloseLink,
    Deliver,
    Effect,
    Fail,
    InstallSnapshot,
    OpenLink,
    Publish,
    Quiesce,
    ReadBatches,
    ReadSnapshot,
    SaveEpochs,
    Send,
    SendVote,
    StageSnapshot,
    Truncate,
)
from zabzmq.core.history import Batch, Epochs, History, SnapshotMark
from zabzmq.core.inputs import (
    BatchesRead,
    Durable,
    EpochsSaved,
    Input,
    LinkLost,
    LinkUp,
    MeshDown,
    MeshUp,
    Quiesced,
    Received,
    Request,
    SnapshotInstalled,
    SnapshotRead,
    SnapshotStaged,
    SnapshotTaken,
    Tick,
)
from zabzmq.core.messages import Phase, State
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid


class Disk:
    """A disk that syncs at once, or only when the test releases it."""

    def __init__(self) -> None:
        self.history = History()
        self.batches: list[Batch] = []
        self.epochs = Epochs(0, 0, False)
        self.life = Random().getrandbits(32)
        self.incarnation = 0
        self.held = False
        self.queue: deque[Callable[[], Input | None]] = deque()
        self.writes: list[str] = []  # what was done, in order, for tests of order


class Ensemble:
    def __init__(self, count: int, timing: Timing | None = None, **options: Any) -> None:
        self.now = 0.0
        self.timing = timing or Timing()
        self.options = options
        self.voters = Voters(tuple(PeerId(i) for i in range(count)))
        self.disks = {p: Disk() for p in self.voters.ids}
        self.peers: dict[PeerId, Peer] = {}
        self.cuts: set[tuple[int, int]] = set()
        self.links: dict[LinkId, PeerId] = {}
        self.mail: deque[tuple[PeerId, ProcessId, Input]] = deque()
        self.said: list[tuple[int, str, Any]] = []
        self.effects: list[tuple[int, Effect]] = []
        self.delivered: dict[int, list[Zxid]] = {p: [] for p in self.voters.ids}
        self.failed: dict[int, str] = {}
        self.blocked: Callable[[int, int, Any], bool] = lambda source, to, message: False

    # ---- what a test does

    def start(self, *ids: int) -> None:
        for i in ids or self.voters.ids:
            peer_id, disk = PeerId(i), self.disks[PeerId(i)]
            disk.incarnation += 1
            history = disk.history.copy()
            epochs = disk.epochs._replace(current=max(disk.epochs.current, history.last.epoch))
            disk.epochs = epochs
            process = ProcessId(peer_id, disk.life, disk.incarnation)
            self.peers[peer_id] = Peer(process, self.voters, history, epochs, Random(i), self.timing, **self.options)
            self._perform(peer_id, self.peers[peer_id].start(self.now))
            for other in sorted(self.peers):
                if other != peer_id:
                    self._post(peer_id, None, MeshUp(other))
                    self._post(other, None, MeshUp(peer_id))
        self.settle()

    def crash(self, *ids: int) -> None:
        """Kill processes; what their disks had not synced is gone."""
        for i in ids:
            peer_id = PeerId(i)
            del self.peers[peer_id]
            self.disks[peer_id].queue.clear()
            self.disks[peer_id].held = False
            self.delivered[peer_id] = []
            for other in sorted(self.peers):
                self._post(other, None, MeshDown(peer_id))
            for link, leader in sorted(self.links.items()):
                if peer_id in (leader, link.learner.peer):
                    self._break(link)
        self.settle()

    def wipe(self, i: int) -> None:
        assert PeerId(i) not in self.peers, "crash it first"
        self.disks[PeerId(i)] = Disk()

    def cut(self, a: int, b: int, both: bool = True) -> None:
        self.cuts |= {(a, b), (b, a)} if both else {(a, b)}

    def isolate(self, i: int) -> None:
        for other in self.voters.ids:
            if other != i:
                self.cut(i, other)

    def heal(self) -> None:
        self.cuts.clear()

    def request(self, i: int, count: int = 1) -> None:
        self.step(i, Request(b"x" * count, count, 0))
        self.settle()

    def step(self, i: int, event: Input) -> list[Effect]:
        effects = self.peers[PeerId(i)].step(self.now, event)
        self._perform(PeerId(i), effects)
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

    def settle(self) -> None:
        """Deliver all mail and finish all disk work that is not held."""
        busy = True
        while busy:
            busy = bool(self.mail)
            while self.mail:
                to, source, event = self.mail.popleft()
                if to in self.peers:
                    self.step(to, event)
            for peer_id in sorted(self.peers):
                disk = self.disks[peer_id]
                while disk.queue and not disk.held and peer_id in self.peers:
                    busy = True
                    event_or_none = disk.queue.popleft()()
                    if event_or_none is not None:
                        self.step(peer_id, event_or_none)

    # ---- what a test asks

    @property
    def leader(self) -> int | None:
        """The established leader of the highest epoch."""
        leaders = [(p.phase.epoch, p.id) for p in self.peers.values() if p.is_established]
        return max(leaders)[1] if leaders else None

    def place(self, i: int) -> tuple[State, Phase]:
        phase = self.peers[PeerId(i)].phase
        return phase.state, phase.phase

    def epochs(self, i: int) -> Epochs:
        return self.disks[PeerId(i)].epochs

    # ---- inside

    def _post(self, to: PeerId, source: ProcessId | None, event: Input) -> None:
        self.mail.append((to, source, event))  # type: ignore[arg-type]

    def _break(self, link: LinkId) -> None:
        leader = self.links.pop(link, None)
        if leader is not None:
            self._post(leader, None, LinkLost(link, "broken"))
            self._post(link.learner.peer, None, LinkLost(link, "broken"))

    def _perform(self, me: PeerId, effects: list[Effect]) -> None:
        peer, disk = self.peers[me], self.disks[me]
        process = peer.process
        for effect in effects:
            self.effects.append((me, effect))
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
                        self._post(to, process, Received(process, link, message))
                case SendVote(to, note):
                    if (me, to) not in self.cuts and not self.blocked(me, to, note):
                        self._post(to, process, Received(process, None, note))
                case Publish(message):
                    self.said.append((me, type(message).__name__, message))
                    for other in sorted(self.peers):
                        if other != me and (me, other) not in self.cuts and not self.blocked(me, other, message):
                            self._post(other, process, Received(process, None, message))
                case OpenLink(link, to):
                    if to in self.peers and (me, to) not in self.cuts:
                        self.links[link] = to
                        self._post(me, None, LinkUp(link))
                    else:
                        self._post(me, None, LinkLost(link, "refused"))
                case CloseLink(link):
                    other_end = self.links.pop(link, None)
                    if other_end is not None:
                        to = other_end if link.learner == process else link.learner.peer
                        self._post(to, process, LinkLost(link, "closed by the other end"))
                case Deliver(upto):
                    done = self.delivered[me][-1] if self.delivered[me] else disk.history.base
                    self.delivered[me] += [b.last for b in disk.batches if done < b.last <= upto]
                case Append(role, batches):
                    disk.queue.append(lambda role=role, batches=batches: self._append(disk, role, batches))
                case SaveEpochs(role, epochs):
                    disk.queue.append(lambda role=role, epochs=epochs: self._save(disk, role, epochs))
                case Truncate(role, to_zxid):
                    disk.queue.append(lambda role=role, to=to_zxid: self._truncate(disk, role, to))
                case StageSnapshot(role, offset, data):
                    disk.queue.append(lambda role=role, end=offset + len(data): SnapshotStaged(role, end))
                case InstallSnapshot(role, mark, _):
                    disk.queue.append(lambda role=role, mark=mark, me=me: self._install(disk, me, role, mark))
                case Quiesce(role):
                    disk.queue.clear()  # nothing is ever half written here
                    disk.queue.append(lambda role=role: Quiesced(role, disk.history.copy(), disk.epochs))
                case ReadBatches(role, link, after, upto, _):
                    queued = [b for b in self._with_queued(me) if after < b.last <= upto]
                    self._post(me, None, BatchesRead(role, link, after, tuple(queued)))
                case ReadSnapshot(role, link, mark, _, _):
                    self._post(me, None, SnapshotRead(role, link, mark, 0, 3, b"abc"))
                case Fail(why):
                    self.failed[me] = why
                case _:
                    pass

    def _with_queued(self, me: PeerId) -> list[Batch]:
        own = [e for p, e in self.effects if p == me and isinstance(e, Append)]
        durable = self.disks[me].batches
        last = durable[-1].last if durable else ZERO
        role = self.peers[me].role
        return durable + [b for e in own if e.role == role for b in e.batches if b.last > last]

    def _append(self, disk: Disk, role: int, batches: tuple[Batch, ...]) -> Input:
        for batch in batches:
            disk.history.append(batch)
            disk.batches.append(batch)
        disk.writes.append(f"append {batches[-1].last}")
        return Durable(role, disk.history.last)

    def _save(self, disk: Disk, role: int, epochs: Epochs) -> Input:
        disk.epochs = epochs
        disk.writes.append(f"epochs {epochs.accepted} {epochs.current}")
        return EpochsSaved(role, epochs)

    def _truncate(self, disk: Disk, role: int, to: Zxid) -> Input:
        disk.history.truncate(to)
        disk.batches = [b for b in disk.batches if b.last <= to]
        disk.writes.append(f"truncate {to}")
        return Durable(role, to)

    def _install(self, disk: Disk, me: PeerId, role: int, mark: SnapshotMark) -> Input:
        disk.history = History.at(mark)
        disk.batches = []
        self.delivered[me] = [mark.zxid]
        disk.writes.append(f"install {mark.zxid}")
        return SnapshotInstalled(role, mark.zxid)

    def snapshot(self, i: int) -> None:
        """Peer i takes a snapshot of all it delivered and purges its log up to there."""
        disk, peer = self.disks[PeerId(i)], self.peers[PeerId(i)]
        at = peer.delivered
        disk.history.snapshot = disk.history.base = at
        disk.batches = [b for b in disk.batches if b.last > at]
        self.step(i, SnapshotTaken(at, at))
