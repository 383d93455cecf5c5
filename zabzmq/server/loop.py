"""The real loop: waits for sockets, disk and time, and feeds one node. The only place that waits.

One thread owns the sockets and the node; the log writer is another and is met through one descriptor and its
completions. Everything a turn brought is handled before timers are looked at, so a late turn is not taken for a
silent peer; a turn that came very late drains the sockets first and says so to the peer (F5).
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from math import inf
from types import FrameType
from typing import Final, Protocol

from zabzmq.core.inputs import Input, Resumed
from zabzmq.net.client_wire import ClientRequest
from zabzmq.server.node import Node
from zabzmq.server.ports import Storage, Transport

LOOK_UP_MS: Final = 200.0
"""This often the loop looks at signals, its parent, and what waits to be logged."""

NAP_MS: Final = 300.0
"""So much longer an idle loop puts that off, for a wake-up that comes anyway: of all idle nodes it is a tenth."""


SHORT_MS: Final = 5.0
"""A deadline so near batches what comes together; it is no timer of the protocol, and passes also while time stands."""


class RealClock:
    """The clock of this host. `now` is the same on all its processes."""

    def now(self) -> float:
        return time.monotonic() * 1000.0

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def until(self, deadline: float) -> float:
        """How many milliseconds it is until then."""
        return deadline - self.now()


class StepClock(RealClock):
    """The time one node lives in: that of its host, less what passed while it was held (step mode)."""

    def __init__(self) -> None:
        self._behind = 0.0
        self._held_at: float | None = None

    host_now = RealClock.now

    def now(self) -> float:
        return super().now() - self._behind if self._held_at is None else self._held_at

    def until(self, deadline: float) -> float:
        if self._held_at is None:
            return super().until(deadline)
        if deadline - self._held_at > SHORT_MS:
            return inf
        self._held_at = max(self._held_at, deadline)
        return 0.0

    def hold(self) -> None:
        """Time stands still from now on."""
        self._held_at = self.now()

    def pass_(self, ms: float) -> None:
        """So much of it passes at once."""
        if self._held_at is not None:
            self._held_at += ms

    def release(self) -> None:
        """Time goes on where it stood."""
        if self._held_at is not None:
            self._behind = super().now() - self._held_at
            self._held_at = None


class Network(Transport, Protocol):
    def poll(self, timeout_ms: float, extra_fd: int | None = None) -> bool:
        """Wait until something can be received, `extra_fd` is readable or time is up."""

    def receive(self, *, drain: bool = False) -> tuple[list[Input], list[tuple[bytes, ClientRequest]]]: ...


class Disk(Storage, Protocol):
    def fileno(self) -> int:
        """Readable while there are completions."""

    def wake(self) -> None:
        """From any thread: make it readable."""

    def drain(self) -> list[Input]:
        """All completions that wait."""

    @property
    def failed(self) -> str | None:
        """Why the process must end (L14)."""


class Loop:
    """Runs until `stop` is called, the node or its disk fails, or `housekeeping` returns a reason to stop.

    `housekeeping(now)` is called every `look_up_ms`, or when anything else happens soon after; it must not wait.
    `clock` is the host's, by which pauses of this process are seen; `of_node` is the time that the node lives in.
    """

    def __init__(
        self,
        node: Node,
        network: Network,
        disk: Disk,
        pause_ms: float,
        housekeeping: Callable[[float], str | None],
        clock: RealClock,
        of_node: RealClock,
    ) -> None:
        self._node = node
        self._clock = clock
        self._of_node = of_node
        self._network = network
        self._disk = disk
        self._pause_ms = pause_ms  # F5: a turn that took longer than this stood still
        self._housekeeping = housekeeping
        self._asked: deque[Callable[[], None]] = deque()
        self.look_up_ms = LOOK_UP_MS
        self._look_up_at = -inf
        self.stopped_by: str | None = None

    @property
    def failed(self) -> str | None:
        """Why this node cannot go on, if it cannot."""
        return self._node.failed or self._disk.failed

    def stop(self, why: str) -> None:
        """End the loop after this turn. May be called from a signal handler."""
        if self.stopped_by is None:
            self.stopped_by = why

    def ask(self, work: Callable[[], None]) -> None:
        """From any thread: have this done between two turns. It must not wait, and must not raise."""
        self._asked.append(work)
        self._disk.wake()

    def run(self) -> None:
        node, clock = self._node, self._clock
        node.start()
        heard = clock.now()
        while self.stopped_by is None and self.failed is None:
            began = clock.now()
            look_up_at = self._look_up_at + (NAP_MS if self.look_up_ms >= LOOK_UP_MS else 0.0)
            wait = max(0.0, min(self._of_node.until(node.next_deadline), look_up_at - began))
            woken = self._network.poll(wait, self._disk.fileno())
            # Time since sockets were last read, without what was spent waiting for them.
            heard = self._turn(woken, stood_still=clock.now() - heard - wait > self._pause_ms)
            now = clock.now()
            if now >= self._look_up_at:
                self._look_up_at = now + self.look_up_ms
                why = self._housekeeping(now)
                if why is not None:
                    self.stop(why)

    def _turn(self, woken: bool, stood_still: bool) -> float:
        """Take in and answer what there is; returns when the sockets were read. `woken`: by the disk's descriptor."""
        node = self._node
        heard = self._clock.now()
        inputs, requests = self._network.receive(drain=stood_still)
        for event in inputs:
            node.handle(event)
        if woken:
            for event in self._disk.drain():
                node.handle(event)
        if stood_still:
            node.handle(Resumed())
        for client, request in requests:
            node.on_client(client, request)
        if not stood_still and self._clock.now() - heard > self._pause_ms:
            return self._turn(True, stood_still=True)  # This turn was the pause: hear what came meanwhile first.
        node.flush()
        while self._asked:
            self._asked.popleft()()
        return heard


def stop_on_signals(loop: Loop) -> None:
    """SIGINT and SIGTERM end the loop; the loop looks up often enough to see it."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.stop(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
