"""One order for the events of all nodes: by Lamport clock, then node, then number, so that no cause follows its effect.

A process that begins with a clock of its own, after a restart, is lifted behind the one before it on that node, and
what it sent stays before what heard it. Events are taken from their streams one by one; nothing but what such lifted
processes sent is kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from zabzmq.trace.reading import Event


class _Stream:
    """One node's events, the next of them in sight."""

    __slots__ = ("clock", "head", "node", "rest")

    def __init__(self, node: int, events: Iterator[Event]) -> None:
        self.node = node
        self.rest = events
        self.clock = 0
        self.head = next(events, None)

    def take(self) -> Event:
        event = self.head
        assert event is not None
        self.head = next(self.rest, None)
        return event

    @property
    def is_lifted(self) -> bool:
        return self.head is not None and self.head.lc < self.clock


def merge(streams: Mapping[int, Iterator[Event]]) -> Iterator[Event]:
    """The events of all streams, each stream's own order kept."""
    by_node = {node: _Stream(node, events) for node, events in streams.items()}
    lifted: dict[str, int] = {}  # clocks of what lifted processes sent, by the name of the message
    ready = [(stream.head.lc, node) for node, stream in by_node.items() if stream.head is not None]
    heapq.heapify(ready)
    while ready:
        clock, node = heapq.heappop(ready)
        stream = by_node[node]
        event = stream.head
        assert event is not None
        sender = _sender(event, by_node)
        if lifted or (sender is not None and sender.is_lifted):
            clock = _behind_its_send(event, clock, sender, lifted, ready)
            if ready and (clock, node) > ready[0]:
                heapq.heappush(ready, (clock, node))
                stream.clock = clock
                continue
        if event.lc < clock and event.k == "send" and isinstance(mid := event.get("mid"), str):
            lifted.setdefault(mid, clock)
        stream.clock = clock
        yield stream.take()
        if stream.head is not None:
            heapq.heappush(ready, (max(stream.clock, stream.head.lc), node))


def _sender(event: Event, by_node: Mapping[int, _Stream]) -> _Stream | None:
    sender = event.get("from")
    return by_node.get(sender) if event.k == "recv" and isinstance(sender, int) else None


def _behind_its_send(
    event: Event, clock: int, sender: _Stream | None, lifted: Mapping[str, int], ready: list[tuple[int, int]]
) -> int:
    """The clock at which this event may stand: behind what a lifted process sent, or may yet be found to have sent."""
    mid = event.get("mid")
    if event.k != "recv" or not isinstance(mid, str):
        return clock
    if mid in lifted:
        return max(clock, lifted[mid] + 1)
    if sender is None or sender.head is None or not sender.is_lifted or sender.node == event.n:
        return clock
    # What is still to come of that process may hold the send; what heard it has the greater clock of its own.
    may_come = sender.head.lc < event.lc and sender.clock >= clock
    return sender.clock + 1 if may_come and any(node == sender.node for _, node in ready) else clock
