"""Step mode: messages that wait at the node they are for until people deliver, drop or repeat them, in any order. Pure.

Heartbeats and their echoes are nobody's step: they pass as soon as nothing of the same peer waits before them. The
numbers of links are looked at above this, so that a message that overtakes another on its link ends the link (T1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from zabzmq.core.zxid import PeerId
from zabzmq.net.wire import name_of

HELD_BYTES_MAX: Final = 64 << 20
"""A wire as long as this is full; what comes then is lost."""
BEATS: Final = frozenset({"HEARTBEAT", "HB_ECHO"})

Frames: TypeAlias = list[bytes]
Take: TypeAlias = Callable[[Frames], None]


@dataclass(frozen=True, slots=True)
class Held:
    """One message that waits."""

    id: int
    peer: PeerId
    kind: str
    at: float
    frames: Frames
    take: Take

    @property
    def frame(self) -> bytes:
        return self.frames[-1]


class Holding:
    """What waits at one node. Nothing does before `start`."""

    def __init__(self, now: Callable[[], float], told: Callable[[str, Held], None]) -> None:
        """`told` hears what becomes of each message: held, delivered, duplicated, dropped."""
        self.on = False
        self._now = now
        self._told = told
        self._held: dict[int, Held] = {}
        self._bytes = 0
        self._last = 0

    def start(self) -> None:
        self.on = True

    def stop(self) -> None:
        """No more waiting: all that waits is delivered, as it came."""
        self.on = False
        for held in list(self._held.values()):
            self._deliver(self._take(held))

    @property
    def waiting(self) -> list[Held]:
        """In the order they came, without heartbeats."""
        return [held for held in self._held.values() if held.kind not in BEATS]

    def hold(self, peer: PeerId, take: Take, frames: Frames) -> bool:
        """It came from this peer. False: there is no room, and it is lost."""
        kind = name_of(frames[-1])
        if kind in BEATS and all(held.peer != peer for held in self._held.values()):
            take(frames)
            return True
        if self._bytes + len(frames[-1]) > HELD_BYTES_MAX:
            return False
        self._last += 1
        self._bytes += len(frames[-1])
        held = self._held[self._last] = Held(self._last, peer, kind, self._now(), frames, take)
        if kind not in BEATS:
            self._told("held", held)
        return True

    def deliver(self, id: int) -> bool:
        """Let it be heard now. False if it does not wait (any more)."""
        held = self._find(id)
        if held is None:
            return False
        self._deliver(self._take(held))
        self._let_beats_pass(held.peer)
        return True

    def duplicate(self, id: int) -> bool:
        """Let it be heard now, and keep it."""
        held = self._find(id)
        if held is None:
            return False
        self._told("duplicated", held)
        held.take(held.frames.copy())
        return True

    def drop(self, id: int) -> bool:
        """It is never heard."""
        held = self._find(id)
        if held is None:
            return False
        self._told("dropped", self._take(held))
        self._let_beats_pass(held.peer)
        return True

    def _find(self, id: int) -> Held | None:
        held = self._held.get(id)
        return None if held is None or held.kind in BEATS else held

    def _take(self, held: Held) -> Held:
        self._bytes -= len(held.frame)
        return self._held.pop(held.id)

    def _deliver(self, held: Held) -> None:
        if held.kind not in BEATS:
            self._told("delivered", held)
        held.take(held.frames)

    def _let_beats_pass(self, peer: PeerId) -> None:
        for held in [held for held in self._held.values() if held.peer == peer]:
            if held.kind not in BEATS:
                return
            self._deliver(self._take(held))
