"""Three real peers of the core whose every step is chosen: what arrives next, which write ends, who dies and when.

A state can be copied, named (equal names: nothing that is still to come can tell them apart) and looked at. Links
are FIFO, PUB is not ordered with them (T2), a crash loses every write that has not ended. Time-outs of silence are
beyond the horizon: time only moves when nothing else can, as far as retries need it; no promise rests on a clock.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import deque
from random import Random
from typing import Any, Final, NamedTuple

from tests.core.ensemble import Ensemble
from zabzmq.core import invariants
from zabzmq.core.effects import Effect, Send, SendVote
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Input, Received, Request, Tick
from zabzmq.core.messages import Commit, Heartbeat, Phase, State
from zabzmq.core.peer import Peer
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import PeerId, Zxid

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
    deviations: int
    """Moves other than the next in order."""


def _let_through(source: int, to: int, message: Any) -> bool:
    return False


class World(Ensemble):
    """`orderly` moves come first in `moves`: the one that needs no deviation."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(count, SILENT)
        self.channels: dict[tuple[int, int, bool], deque[Input]] = {}
        self.known: dict[Zxid, Batch] = {}
        self.free = False
        self.blocked = _let_through

    @classmethod
    def served(cls, count: int = 3) -> World:
        """All have joined and serve in epoch 1; from here on every step is chosen."""
        world = cls(count)
        world.start()
        world.serve()
        for disk in world.disks.values():
            disk.held = True
        world.free = True
        return world

    # ---- moves

    def moves(self, budget: Budget) -> list[Move]:
        """All that may happen next; what is first is the orderly one."""
        going = [Move("write", p) for p in sorted(self.peers) if self.disks[p].queue and p not in self.failed]
        going += [
            Move("deliver", to, source, published)
            for source, to, published in sorted(self.channels)
            if self.channels[source, to, published] and to in self.peers
        ]
        if not going and self._next_tick() is not None:
            going.append(Move("tick"))
        found = going[:1] if not budget.deviations else going
        if budget.crashes:
            found += [Move("crash", p) for p in sorted(self.peers)]
        found += [Move("start", p) for p in self.voters.ids if p not in self.peers]
        if budget.requests:
            found += [Move("request", p) for p, peer in sorted(self.peers.items()) if peer.is_established]
        return found

    def make(self, move: Move) -> None:
        match move.what:
            case "write":
                self.step(move.peer, self.disks[PeerId(move.peer)].next())
            case "deliver":
                event = self.channels[move.source, move.peer, move.published].popleft()
                self.step(move.peer, event)
            case "crash":
                self.crash(move.peer)
                for channel, waiting in self.channels.items():
                    if channel[1] == move.peer:
                        waiting.clear()
            case "start":
                self.start(move.peer)
                self.disks[PeerId(move.peer)].held = True
            case "request":
                self.step(move.peer, Request(b"x", 1, 0))
            case "tick":
                due = self._next_tick()
                assert due is not None
                self.now = max(self.now, due)
                for peer_id in sorted(self.peers):
                    if self.peers[peer_id].next_deadline <= self.now:
                        self.step(peer_id, Tick())
        self.settle()
        self.said.clear()
        self.effects.clear()
        assert not self.failed, f"a peer failed: {self.failed}"

    def _next_tick(self) -> float | None:
        due = min((peer.next_deadline for peer in self.peers.values()), default=self.now + 2 * TICKS_MS)
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
        self.channels.setdefault((source, to, published), deque()).append(event)

    # ---- promises

    def _perform(self, me: PeerId, effects: list[Effect]) -> None:
        disk = self.disks[me]
        for effect in effects:
            if isinstance(effect, Send | SendVote):
                invariants.durable_before_ack(effect.message, me, disk.history, disk.epochs)
        super()._perform(me, effects)

    def check(self) -> None:
        """What holds of all of them together, beside what every step has looked at."""
        leading = {
            p: peer.phase.epoch
            for p, peer in self.peers.items()
            if peer.phase.state is State.LEADING and peer.phase.phase in (Phase.SYNCHRONIZATION, Phase.BROADCAST)
        }
        invariants.leadership1(leading)
        for p, disk in self.disks.items():
            for batch in disk.batches:
                invariants.log_matching(self.known, batch, p)
                self.known[batch.first] = batch
        for zxid in {zxid for delivered in self.delivered.values() for zxid in delivered}:
            holders = [p for p, disk in self.disks.items() if disk.history.holds(zxid)]
            invariants.committed_stable(zxid, holders, self.voters)

    # ---- copies and names

    def freeze(self) -> bytes:
        return pickle.dumps(self, pickle.HIGHEST_PROTOCOL)

    def name(self) -> bytes:
        """Of everything that the future depends on but chance: peers, disks, what is under way, what was promised."""
        out = io.BytesIO()
        for p, peer in sorted(self.peers.items()):
            _Namer(out).dump((p, peer.__dict__))
        delivered = sorted(self.delivered.items())
        _Namer(out).dump((sorted(self.disks.items()), sorted(self.links.items()), delivered, self.now))
        _Namer(out).dump([(channel, list(waiting)) for channel, waiting in sorted(self.channels.items()) if waiting])
        return hashlib.blake2b(out.getvalue(), digest_size=16).digest()


def _as_itself(peer: Peer) -> tuple[type[str], tuple[str]]:
    return str, ("peer",)


def _as_dice(dice: Random) -> tuple[type[str], tuple[str]]:
    return str, ("dice",)


def _as_timing(timing: Timing) -> tuple[type[str], tuple[str]]:
    return str, ("timing",)


class _Namer(pickle.Pickler):
    """Equal values, equal bytes, whether they are one object or two. A peer within a peer is that peer; dice are left
    out: they only move retries."""

    def __init__(self, out: io.BytesIO) -> None:
        super().__init__(out, pickle.HIGHEST_PROTOCOL)
        self.fast = True
        self.dispatch_table = {Peer: _as_itself, Random: _as_dice, Timing: _as_timing}
