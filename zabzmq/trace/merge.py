"""One order for the events of all nodes: by Lamport clock, then node, then number, so that no cause follows its effect.

A Lamport clock alone would show a process that starts late, and has heard nobody yet, before all that others did in the
meantime. So a process begins where the clock of the host says, and never before the one before it on its node; it is
then said to be lifted, and what it sent stays before what heard it. Events are taken from their streams one by one;
nothing but what lifted processes sent is kept.
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
        if event.k == "boot":
            clock = _at_its_time(event, clock, by_node, ready)
        sender = _sender(event, by_node)
        if lifted or (sender is not None and sender.is_lifted):
            clock = _behind_its_send(event, clock, sender, lifted)
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


def _at_its_time(event: Event, clock: int, by_node: Mapping[int, _Stream], ready: list[tuple[int, int]]) -> int:
    """The clock at which a process may begin: behind what others did before that time."""
    earlier = [other for other, node in ready if (head := by_node[node].head) is not None and head.t < event.t]
    return max(clock, min(earlier) + 1) if earlier else clock


def _behind_its_send(event: Event, clock: int, sender: _Stream | None, lifted: Mapping[str, int]) -> int:
    """The clock at which this event may stand: behind what a lifted process sent, or may yet be found to have sent."""
    mid = event.get("mid")
    if event.k != "recv" or not isinstance(mid, str):
        return clock
    if mid in lifted:
        return max(clock, lifted[mid] + 1)
    if sender is None or sender.head is None or not sender.is_lifted or sender.node == event.n:
        return clock
    # What is still to come of that process may hold the send; what heard it has the greater clock of its own. But who
    # begins later has sent nothing yet.
    begins_later = sender.head.k == "boot" and event.t < sender.head.t
    may_come = sender.head.lc < event.lc and sender.clock >= clock and not begins_later
    return sender.clock + 1 if may_come else clock
