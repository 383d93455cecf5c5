"""The faults of one node, together: one table for its sockets and its disk, and what there is to tell of them.

Step mode (docs/control.md, section 2) is one of them, and the most thorough: no message is heard and no timer of the
protocol moves until people say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from math import isfinite
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from zabzmq.net.faults import WAIT_MS_MAX, FaultError, Faults, FaultTable, Rule, parse_table
from zabzmq.net.holding import BEATS, Held, Holding
from zabzmq.net.wire import LINK, MESH, PUB, Closed, Wire, WireError
from zabzmq.server.loop import StepClock
from zabzmq.server.node import Node
from zabzmq.storage.synced import SyncedFiles
from zabzmq.trace.counts import mid_of
from zabzmq.trace.event import EventObserver
from zabzmq.trace.words import message_fields, plain

BEATS_EVERY_MS: Final = 1000.0
"""Heartbeats that a fault took are told as one count a second, as those that were heard."""
LISTED_MAX: Final = 200
"""Messages that wait, as far as they are listed one by one."""


class _Hold(msgspec.Struct, forbid_unknown_fields=True):
    on: bool


class _Deliver(msgspec.Struct, forbid_unknown_fields=True):
    id: int | None = None
    how: Literal["deliver", "duplicate", "drop"] = "deliver"
    ms: Annotated[float, Meta(ge=0, le=WAIT_MS_MAX)] | None = None


class NodeFaults:
    """Made only when the node was started with --allow-faults. `net`, `disk` and `clock` go into the node's parts."""

    def __init__(self, node: int, cluster: str, peers: Collection[int]) -> None:
        self.clock = StepClock()
        self.holding = Holding(self.clock.host_now, self._on_held)
        self.net = Faults(self._taken, self.clock.host_now, self.holding)
        self.disk = SyncedFiles()
        self.table = FaultTable()
        self._node = node
        self._peers = peers
        self._wire = Wire(cluster)  # one more, for looking at what waits moves no Lamport clock
        self._observer: EventObserver | None = None
        self._timers: Node | None = None
        self._held_since = 0.0
        self._beats: Counter[tuple[str, int, str, str]] = Counter()
        self._beats_told = 0.0

    def watch(self, observer: EventObserver) -> None:
        """From now on there is someone to tell."""
        self._observer = observer

    def begin(self, node: Node, *, hold: bool) -> None:
        """This node's timers are held; from the beginning, or when people want it."""
        self._timers = node
        if hold:
            self.hold()

    # ---- the table

    def set(self, body: bytes) -> dict[str, Any]:
        """Put this table in force; the answer to who asked for it. Raises FaultError. In the node's loop."""
        table = parse_table(body, self._node, self._peers)
        now = self.clock.host_now()
        self._tell_beats(now)  # they belong to the table before
        self.table = table
        if self._observer is not None:
            what = "clear" if table.is_empty else "set"
            self._observer.fault(now, what, text=in_words(table), **self.now)
        self.net.set(table)
        self.disk.slow_down(table.disk_ms)
        return {"v": 1, "node": self._node, "faults": self.now}

    @property
    def now(self) -> dict[str, Any]:
        """The table in force, for JSON."""
        return self.table.to_json()

    def tell(self, now: float) -> None:
        """Every now and then: what was only counted."""
        if self._beats and now - self._beats_told >= BEATS_EVERY_MS:
            self._tell_beats(now)

    def _tell_beats(self, now: float) -> None:
        self._beats_told = now
        if self._observer is not None:
            for (kind, peer, way, fault), count in self._beats.items():
                self._observer.taken(now, kind, peer, way, fault, count)
        self._beats.clear()

    def _taken(self, kind: str, peer: int, way: str, fault: str) -> None:
        if kind in BEATS:
            self._beats[kind, peer, way, fault] += 1
        elif self._observer is not None:
            self._observer.taken(self.clock.host_now(), kind, peer, way, fault)

    # ---- step mode; in the node's loop

    def hold(self, body: bytes = b'{"on":true}') -> dict[str, Any]:
        """Hold this node, or let it go; the answer to who asked for it. Raises FaultError."""
        wanted = _parse(body, _Hold)
        if wanted.on != self.holding.on:
            now = self.clock.host_now()
            if wanted.on:
                self._held_since = now
                self.clock.hold()
                self.holding.start()
            what, text = ("on", "messages wait, timers stand") if wanted.on else ("off", "all goes on")
            if self._observer is not None:
                # From now on what the node takes for the time is not what its host does.
                self._observer.host_now = self.clock.host_now
                self._observer.hold(now, what, text)
            if not wanted.on:
                self.holding.stop()
                self.clock.release()
        return {"v": 1, "node": self._node, "hold": self.held}

    def deliver(self, body: bytes) -> dict[str, Any]:
        """Let one message go, or time pass; the answer to who asked for it. Raises FaultError."""
        order = _parse(body, _Deliver)
        if (order.id is None) is (order.ms is None):
            raise FaultError("say which message (id), or how much time (ms), one of them")
        if not self.holding.on:
            raise FaultError(f"node {self._node} is not held")
        if order.ms is not None:
            if self._observer is not None:
                self._observer.hold(self.clock.host_now(), "time", f"{order.ms:g} ms pass", ms=order.ms)
            self.clock.pass_(order.ms)
        elif order.id is not None:
            act = {"deliver": self.holding.deliver, "duplicate": self.holding.duplicate, "drop": self.holding.drop}
            if not act[order.how](order.id):
                raise FaultError(f"no message {order.id} waits at node {self._node}")
        return {"v": 1, "node": self._node, "hold": self.held}

    @property
    def held(self) -> dict[str, Any] | None:
        """What waits here, for JSON; None when nothing is held."""
        if not self.holding.on:
            return None
        waiting = self.holding.waiting
        timer = None if self._timers is None else self._timers.next_deadline - self.clock.now()
        return {
            "since": round(self._held_since / 1000, 6),
            "timer_ms": round(max(0.0, timer), 3) if timer is not None and isfinite(timer) else None,
            "count": len(waiting),
            "messages": [{"t": round(held.at / 1000, 6), **self._about(held)} for held in waiting[:LISTED_MAX]],
        }

    @property
    def held_count(self) -> int | None:
        return len(self.holding.waiting) if self.holding.on else None

    def _on_held(self, what: str, held: Held) -> None:
        if self._observer is None:
            return
        now = self.clock.host_now()
        about = self._about(held)
        self._observer.hold(now, what, f"{what} {held.kind} of {held.peer} ({held.id})", **about)
        if what == "dropped":
            self._taken(held.kind, held.peer, "in", "step")

    def _about(self, held: Held) -> dict[str, Any]:
        """The message, as the event of its arrival would have it."""
        fields: dict[str, Any] = {"id": held.id, "type": held.kind, "from": held.peer}
        try:
            envelope, message = self._wire.decode([held.frame], MESH | LINK | PUB)
        except WireError:
            return fields
        if isinstance(message, Closed):
            return fields
        mid = mid_of(message, envelope.source, envelope.link, envelope.seq)
        told: dict[str, Any] = plain({**fields, "mid": mid, **message_fields(message)})
        return told


def _parse(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FaultError(str(error)) from None


def in_words(table: FaultTable) -> str:
    """The table in a line for people."""
    parts = [f"{rule.peer}: {rule_in_words(rule)}" for rule in table.rules]
    if table.disk_ms:
        parts.append(f"disk {table.disk_ms:g} ms slower")
    return "; ".join(parts) or "none"


def rule_in_words(rule: Rule) -> str:
    parts = []
    if rule.cut is not None:
        parts.append("cut" if rule.cut == "both" else f"cut {rule.cut}")
    for name, chance in (("drop", rule.drop), ("dup", rule.duplicate), ("reorder", rule.reorder)):
        if chance:
            parts.append(f"{name} {chance:g}")
    if rule.delay_ms or rule.jitter_ms:
        parts.append(f"delay {rule.delay_ms:g} ms" + (f" + up to {rule.jitter_ms:g} ms" if rule.jitter_ms else ""))
    return ", ".join(parts) or "nothing"
