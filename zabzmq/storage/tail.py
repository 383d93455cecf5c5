"""The end of the log in memory, as the protocol loop sees it: with what is queued and not yet written.

Owned by the loop's thread. What leaves it is durable, so the log before `start` can always be read from its files,
and what is in it never has to be.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from zabzmq.core.history import Batch
from zabzmq.core.zxid import Zxid

_OBJECT_BYTES: Final = 400
"""What a batch costs in memory beyond its data."""


class Tail:
    """The batches of `(start, last]`."""

    def __init__(self, start: Zxid, bytes_max: int) -> None:
        self.start = start
        self.last = start
        self._bytes_max = bytes_max
        self._bytes = 0
        self._head = 0  # the lists are used from here on
        self._batches: list[Batch] = []
        self._prevs: list[Zxid] = []
        self._tickets: list[int] = []  # of the write that each is part of

    def append(self, batches: tuple[Batch, ...], ticket: int) -> None:
        for batch in batches:
            self._batches.append(batch)
            self._prevs.append(batch.prev)
            self._tickets.append(ticket)
            self._bytes += len(batch.data) + _OBJECT_BYTES
        self.last = batches[-1].last

    def evict(self, durable: int) -> None:
        """Forget the oldest beyond the limit; only what is part of a write up to the ticket `durable`."""
        while (
            self._bytes > self._bytes_max and self._head < len(self._batches) and self._tickets[self._head] <= durable
        ):
            batch = self._batches[self._head]
            self._bytes -= len(batch.data) + _OBJECT_BYTES
            self.start = batch.last
            self._head += 1
        if self._head > 64 and self._head * 8 > len(self._batches):
            del self._batches[: self._head], self._prevs[: self._head], self._tickets[: self._head]
            self._head = 0

    def cut(self, to: Zxid) -> None:
        """Make `to` the end: of what is held, or of an empty tail when it is not in here."""
        at = self._after(to)
        if at is None:
            self.clear(to)
            return
        self._bytes -= sum(len(batch.data) + _OBJECT_BYTES for batch in self._batches[at:])
        del self._batches[at:], self._prevs[at:], self._tickets[at:]
        self.last = to

    def clear(self, start: Zxid) -> None:
        self._batches.clear()
        self._prevs.clear()
        self._tickets.clear()
        self._head = self._bytes = 0
        self.start = self.last = start

    def read(self, after: Zxid, upto: Zxid, bytes_max: int) -> list[Batch]:
        """As Storage.batches, for `after` from `start` on."""
        at = self._after(after)
        if at is None:
            return []
        found: list[Batch] = []
        size = 0
        while at < len(self._batches):
            batch = self._batches[at]
            size += batch.size
            if batch.last > upto or (found and size > bytes_max):
                break
            found.append(batch)
            at += 1
        return found

    def near(self, zxid: Zxid) -> Zxid:
        """The last end of a batch at or before `zxid`, for `zxid` from `start` on."""
        at = bisect_right(self._prevs, zxid, self._head) - 1
        return self.last if zxid >= self.last else self._prevs[at]

    def _after(self, zxid: Zxid) -> int | None:
        """Where the batch that follows `zxid` is or would be; None when `zxid` is no end of a batch in here."""
        if zxid == self.last:
            return len(self._batches)
        at = bisect_left(self._prevs, zxid, self._head)
        return at if at < len(self._prevs) and self._prevs[at] == zxid else None
