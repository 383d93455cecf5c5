"""The faults of one node, together: one table for its sockets and its disk, and what there is to tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, Final

from zabzmq.net.faults import Faults, FaultTable, Rule, parse_table
from zabzmq.server.loop import RealClock
from zabzmq.storage.synced import SyncedFiles
from zabzmq.trace.event import EventObserver

BEATS: Final = ("HEARTBEAT", "HB_ECHO")
BEATS_EVERY_MS: Final = 1000.0
"""Heartbeats that a fault took are told as one count a second, as those that were heard."""


class NodeFaults:
    """Made only when the node was started with --allow-faults. `net` and `disk` go into the node's parts."""

    def __init__(self, node: int, peers: Collection[int], clock: RealClock) -> None:
        self.net = Faults(self._taken, clock.now)
        self.disk = SyncedFiles()
        self.table = FaultTable()
        self._node = node
        self._peers = peers
        self._clock = clock
        self._observer: EventObserver | None = None
        self._beats: Counter[tuple[str, int, str, str]] = Counter()
        self._beats_told = 0.0

    def watch(self, observer: EventObserver) -> None:
        """From now on there is someone to tell."""
        self._observer = observer

    def set(self, body: bytes) -> dict[str, Any]:
        """Put this table in force; the answer to who asked for it. Raises FaultError. In the node's loop."""
        table = parse_table(body, self._node, self._peers)
        now = self._clock.now()
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
            self._observer.taken(self._clock.now(), kind, peer, way, fault)


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
