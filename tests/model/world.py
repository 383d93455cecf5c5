"""Three real peers of the core whose every step is chosen: what arrives next, which write ends, who dies and when.

A state can be copied, named (equal names: nothing that is still to come can tell them apart) and looked at. Links
are FIFO, PUB is not ordered with them (T2), a crash loses every write that has not ended, who is cut off hears nothing
and is not heard until that is healed. Time-outs of silence are beyond the horizon but for a leader that is cut off,
which steps down at any moment of that; time only moves when nothing else can, as far as retries need it; no promise
rests on a clock.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, NamedTuple

from tests.core.ensemble import Ensemble
from tests.model.copies import Steady, copy_of, name_of
from tests.model.ghosts import Ghosts
from zabzmq.core.effects import Effect
from zabzmq.core.inputs import Input, MeshDown, MeshUp, Received, Request, Tick
from zabzmq.core.messages import Commit, Heartbeat, State
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import PeerId

SILENT: Final = Timing(
    hb_interval=1e6,
    idle_hb_interval=1e6,
    peer_timeout=1e8,
    quorum_timeout=5e7,
    reach_timeout=1e8,
    notif_resend=1e6,
    notif_resend_max=1e6,
    discovery_timeout=1e7,
    sync_progress_timeout=1e7,
    disk_stall=1e7,
)
TICKS_MS: Final = 5_000.0
"""How far time may move without anything else: retries and the end of an election, not silence."""
SILENCE_MS: Final = 6e7
"""How far the clock of a leader that is cut off leaps: beyond quorum_timeout. Clocks of others do not."""

Channel = tuple[int, int, bool]
"""From whom, to whom, and whether it is what was published; what a peer hears of its own node comes from itself."""


class Move(NamedTuple):
    """`what` is done at `peer`; of a delivery, `source` and whether it was published."""

    what: str
    peer: int = -1
    source: int = -1
    published: bool = False

    def __str__(self) -> str:
        if self.what == "deliver":
            return f"{self.source}->{self.peer}{' published' if self.published else ''}"
        return f"{self.what} {self.peer}" if self.peer >= 0 else self.what


class Budget(NamedTuple):
    """What may still happen."""

    crashes: int
    requests: int
    cuts: int
    deviations: int
    """Moves other than the next in order."""

    def after(self, move: Move, is_orderly: bool) -> Budget | None:
        """What is left of it; None if this move is beyond it."""
        match move.what:
            case "crash":
                return self._replace(crashes=self.crashes - 1)
            case "request":
                return self._replace(requests=self.requests - 1)
            case "cut":
                return self._replace(cuts=self.cuts - 1)
            case "write" | "deliver" if not is_orderly:
                return self._replace(deviations=self.deviations - 1) if self.deviations else None
            case _:
                return self


def _let_through(source: int, to: int, message: Any) -> bool:
    return False


class World(Ensemble):
    """`orderly` moves come first in `moves`: the one that needs no deviation."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(count, SILENT)
        self.dice = lambda i: Steady()
        self.blocked = _let_through
        self.channels: dict[Channel, tuple[tuple[int, Input], ...]] = {}  # each with the hash of its name
        self.ghosts = Ghosts()
        self.leaps: dict[int, float] = dict.fromkeys(self.voters.ids, 0.0)
        self.apart = -1  # who is cut off
        self.free = False
        self._mine: set[int] = set(self.voters.ids)  # whose peer and disk are not shared with another world
        self._names: dict[int, int] = {}

    @classmethod
    def served(cls, count: int = 3) -> World:
        """All have joined and serve in epoch 1; from here on every step is chosen."""
        world = cls(count)
        world.start()
        world.serve()
        for disk in world.disks.values():
            disk.held = True
            disk.done.clear()
        world.free = True
        return world

    # ---- moves

    def moves(self, budget: Budget) -> list[Move]:
        """All that may happen next; what is first is the orderly one."""
        going = [Move("write", p) for p in sorted(self.peers) if self.disks[p].queue]
        going += [
            Move("deliver", to, source, published)
            for (source, to, published), waiting in sorted(self.channels.items())
            if waiting and to in self.peers
        ]
        if not going and self._next_tick() is not None:
            going.append(Move("tick"))
        found = going[:1] if not budget.deviations else going
        if budget.crashes:
            found += [Move("crash", p) for p in sorted(self.peers)]
        found += [Move("start", p) for p in self.voters.ids if p not in self.peers]
        if budget.requests:
            found += [Move("request", p) for p, peer in sorted(self.peers.items()) if peer.is_established]
        if self.apart >= 0:
            found.append(Move("heal", self.apart))
            lone = self.peers.get(PeerId(self.apart))
            if lone is not None and lone.phase.state is State.LEADING:
                found.append(Move("silence", self.apart))
        elif budget.cuts:
            found += [Move("cut", p) for p in sorted(self.peers)]
        return found

    def make(self, move: Move) -> None:
        peer = PeerId(move.peer)
        match move.what:
            case "write":
                self._own(peer)
                before, disk = self.disks[peer].epochs, self.disks[peer]
                event = disk.next()
                disk.done.clear()
                self.ghosts.on_epochs(before, disk, peer)
                self.step(peer, event)
            case "deliver":
                channel = (move.source, move.peer, move.published)
                (_, event), *rest = self.channels[channel]
                self.channels[channel] = tuple(rest)
                self.step(peer, event)
            case "crash":
                self._own(peer)
                self.crash(peer)
                self.ghosts.on_crash(peer)
                self.channels = {c: waiting for c, waiting in self.channels.items() if c[1] != peer}
            case "start":
                self._own(peer)
                self.start(peer)
                self.disks[peer].held = True
            case "request":
                self.step(peer, Request(b"x", 1, 0))
            case "cut":
                self._cut_off(peer)
            case "heal":
                self.apart = -1
                self.heal()
                for other in sorted(self.peers):
                    if other != peer and peer in self.peers:
                        self._post(other, peer, MeshUp(other))
                        self._post(peer, other, MeshUp(peer))
            case "silence":
                self.leaps[peer] += SILENCE_MS
                self.step(peer, Tick())
            case "tick":
                due = self._next_tick()
                assert due is not None
                self.now = max(self.now, due)
                for each in sorted(self.peers):
                    if self.peers[each].next_deadline <= self.clock(each):
                        self.step(each, Tick())
        self.settle()
        self.said.clear()
        self.effects.clear()
        assert not self.failed, f"a peer failed: {self.failed}"
        self.ghosts.check(self.disks, self.voters)

    def _cut_off(self, peer: PeerId) -> None:
        """Its links break and its connections go down, at both ends; when either end notices is chosen."""
        self.apart = peer
        self.isolate(peer)
        for link, leader in sorted(self.links.items()):
            if peer in (leader, link.learner.peer):
                self._break(link)
        for other in sorted(self.peers):
            if other != peer:
                self._post(other, peer, MeshDown(other))
                self._post(peer, other, MeshDown(peer))

    def clock(self, i: int) -> float:
        return self.now + self.leaps[i]

    def _next_tick(self) -> float | None:
        due = min((peer.next_deadline - self.leaps[p] for p, peer in self.peers.items()), default=self.now + 2e9)
        return due if due <= self.now + TICKS_MS else None

    # ---- what the ensemble does at once, the model does when it is chosen

    def settle(self) -> None:
        if not self.free:
            super().settle()
            return
        while self.mail:
            to, event = self.mail.popleft()
            self._post(to, to, event)

    def _post(self, source: int, to: PeerId, event: Input) -> None:
        if not self.free:
            super()._post(source, to, event)
            return
        published = isinstance(event, Received) and event.link is None and isinstance(event.message, Commit | Heartbeat)
        channel = (source, to, published)
        # Messages are tuples: without its kind an Ack would equal an AckNewLeader.
        kinds = (type(event).__name__, type(event.message).__name__ if isinstance(event, Received) else "")
        self.channels[channel] = (*self.channels.get(channel, ()), (hash((kinds, event)), event))

    # ---- promises

    def start(self, *ids: int) -> None:
        for i in ids or self.voters.ids:
            self.ghosts.on_start(PeerId(i), self.disks[PeerId(i)].history.last)
        super().start(*ids)
        if self.apart >= 0:
            # Connections that cannot be made are not.
            for (source, to, published), waiting in list(self.channels.items()):
                if (source == self.apart) != (to == self.apart):
                    kept = tuple(each for each in waiting if not isinstance(each[1], MeshUp))
                    self.channels[source, to, published] = kept

    def step(self, i: int, event: Input) -> list[Effect]:
        self._own(i)
        return super().step(i, event)

    def _perform(self, me: PeerId, effects: list[Effect]) -> None:
        peer = self.peers[me]
        self.ghosts.on_committed(peer, self.disks, self.voters)
        self.ghosts.on_effects(peer, self.disks[me], effects, self.links)
        super()._perform(me, effects)

    # ---- copies and names

    def copy(self) -> World:
        """Shares peers and disks; whoever changes one first makes it its own."""
        new = object.__new__(World)
        new.__dict__.update(self.__dict__)
        for name in ("disks", "peers", "cuts", "links", "established", "channels", "leaps", "delivered", "_names"):
            new.__dict__[name] = self.__dict__[name].copy()
        new.mail, new.said, new.effects, new.failed, new.answers = self.mail.copy(), [], [], {}, {}
        new.ghosts = self.ghosts.copy()
        new._mine = set()
        self._mine = set()
        return new

    def _own(self, i: int) -> None:
        self._names.pop(i, None)
        if i not in self._mine:
            peer = PeerId(i)
            self._mine.add(i)
            self.disks[peer] = copy_of(self.disks[peer])
            self.delivered[i] = self.delivered[i].copy()
            if peer in self.peers:
                self.peers[peer] = copy_of(self.peers[peer])

    def name(self) -> int:
        """Of everything that the future depends on: peers, disks, what is under way, what was promised.

        64 bits: among ten million states the chance that two share one is below one in a hundred thousand.
        """
        parts: list[Hashable] = [self._name_of_node(p) for p in self.voters.ids]
        parts += [(channel, *(h for h, _ in waiting)) for channel, waiting in sorted(self.channels.items()) if waiting]
        parts += [tuple(sorted(self.links.items())), self.now, self.apart, tuple(self.leaps.values())]
        return hash((*parts, self.ghosts.name()))

    def _name_of_node(self, p: PeerId) -> int:
        if p not in self._names:
            self._names[p] = hash((name_of(self.peers[p]) if p in self.peers else None, name_of(self.disks[p])))
        return self._names[p]
