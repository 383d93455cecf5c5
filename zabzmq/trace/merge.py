"""One order for the events of all nodes: by Lamport clock, then node, then number, so that no cause follows its effect.

A Lamport clock alone would show a process that starts late, and has heard nobody yet, before all that others did in the
meantime; and one that lost its log begins with a clock of its own. So a process stands where the clock of the host says
that it began, never before the one before it on its node, and what is heard waits for what was sent. Events are taken
from their streams one by one; only the names of the newest messages are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

from zabzmq.trace.reading import Event

SENT_MAX: Final = 200_000
"""Messages whose sending is remembered, the newest ones."""


class _Stream:
    """One node's events, the next of them in sight. `clock` is where it stands in the common order."""

    __slots__ = ("clock", "head", "node", "rest")

    def __init__(self, node: int, events: Iterator[Event]) -> None:
        self.node = node
        self.rest = events
        self.head = next(events, None)
        self.clock = 0 if self.head is None else self.head.lc

    def take(self) -> Event:
        event = self.head
        assert event is not None
        self.head = next(self.rest, None)
        if self.head is not None:
            self.clock = max(self.clock, self.head.lc)
        return event


class _Merge:
    def __init__(self, streams: Mapping[int, Iterator[Event]]) -> None:
        self._streams = {node: _Stream(node, streams[node]) for node in sorted(streams)}
        self._now = 0  # where the newest event stands
        self._sent: OrderedDict[str, int] = OrderedDict()  # by the name of a message, the clock of its sender

    def events(self) -> Iterator[Event]:
        while waiting := sorted(
            (stream for stream in self._streams.values() if stream.head is not None), key=lambda stream: stream.clock
        ):
            # If each waits for another, their clocks contradict each other: then that of the host decides.
            stream = next((s for s in waiting if not self._must_wait(s)), None) or min(waiting, key=_time_of)
            yield self._take(stream)

    def _take(self, stream: _Stream) -> Event:
        event = stream.head
        assert event is not None
        mid = event.get("mid")
        if isinstance(mid, str):
            if event.k == "recv":
                stream.clock = max(stream.clock, self._sent.get(mid, -1) + 1)
            elif event.k == "send":
                self._sent.setdefault(mid, stream.clock)
                if len(self._sent) > SENT_MAX:
                    self._sent.popitem(last=False)
        self._now = max(self._now, stream.clock)
        return stream.take()

    def _must_wait(self, stream: _Stream) -> bool:
        """Whether something that comes before this stream's next event has still to be told by another."""
        event = stream.head
        assert event is not None
        if event.k == "boot":
            heads = (other.head for other in self._streams.values() if other is not stream)
            if any(head is not None and head.t < event.t for head in heads):
                return True
            stream.clock = max(stream.clock, self._now)
            return False
        mid, source = event.get("mid"), event.get("from")
        if event.k != "recv" or not isinstance(mid, str) or not isinstance(source, int) or mid in self._sent:
            return False
        sender = self._streams.get(source)
        if sender is None or sender is stream or sender.head is None:
            return False
        if sender.head.k == "boot" and sender.head.t > event.t:
            return False  # Who begins later has not sent it.
        return sender.head.t <= event.t or sender.head.lc < event.lc


def _time_of(stream: _Stream) -> float:
    return 0.0 if stream.head is None else stream.head.t


def merge(streams: Mapping[int, Iterator[Event]]) -> Iterator[Event]:
    """The events of all streams, each stream's own order kept."""
    return _Merge(streams).events()
