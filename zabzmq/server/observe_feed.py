"""Events on their way from the protocol loop to those who watch: a bounded ring, read at each one's own pace.

The loop puts encoded blocks in and never waits, looks back or takes a lock. A reader keeps a place in the ring; when
the ring has gone past it, that reader was too slow and is told so by `Behind`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

RING_BYTES: Final = 1 << 20
_BLOCK_OVERHEAD: Final = 200


class Behind(Exception):
    """What should come next is not in the ring any more."""


class Block:
    """Events `first` to `last`, as the lines of the event log."""

    __slots__ = ("data", "first", "last", "stream")

    def __init__(self, first: int, count: int, data: bytes) -> None:
        self.first = first
        self.last = first + count - 1
        self.data = data
        self.stream: bytes | None = None  # the same as server-sent events, made once for all who read it


class Feed:
    """The ring. `publish` belongs to the loop's thread, the rest to that of the endpoint."""

    def __init__(self, boot: str, bytes_max: int = RING_BYTES) -> None:
        self.boot = boot
        self.seq = 0
        """Of the newest event."""
        self.hole = 0
        """Up to this event some were told to nobody."""
        self.on_news: Callable[[], None] | None = None
        """Called by the loop's thread after a block was put in, while anybody watches; must not wait."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._ring: deque[Block] = deque()

    def publish(self, first: int, count: int, data: bytes) -> None:
        """The next `count` events, numbered from `first`. If others before them were told to nobody, the ring begins
        anew."""
        ring = self._ring
        if first != self.seq + 1:
            self.hole = first - 1
            ring.clear()
            self._bytes = 0
        ring.append(Block(first, count, data))
        self.seq = first + count - 1
        self._bytes += len(data) + _BLOCK_OVERHEAD
        while self._bytes > self._bytes_max and len(ring) > 1:
            self._bytes -= len(ring.popleft().data) + _BLOCK_OVERHEAD
        if self.on_news is not None:
            self.on_news()

    @property
    def oldest(self) -> int:
        """The first event still held; one beyond the newest when there is none."""
        blocks = self._blocks()
        return blocks[0].first if blocks else self.seq + 1

    def after(self, seq: int, bytes_max: int) -> tuple[int, bytes]:
        """Server-sent events of what follows `seq`, about `bytes_max` of them, and the last one's number.

        Raises Behind when the next one is gone.
        """
        blocks = self._blocks()
        if blocks and blocks[0].first > seq + 1:
            raise Behind
        parts: list[bytes] = []
        size = 0
        for block in blocks:
            if block.last <= seq:
                continue
            if size > bytes_max:
                break
            if block.stream is None:
                block.stream = self._stream(block, block.first)
            parts.append(block.stream if block.first == seq + 1 else self._stream(block, seq + 1))
            size += len(parts[-1])
            seq = block.last
        return seq, b"".join(parts)

    def _blocks(self) -> tuple[Block, ...]:
        return tuple(self._ring)  # One step of the interpreter: the loop cannot change the ring in between.

    def _stream(self, block: Block, first: int) -> bytes:
        boot = self.boot.encode()
        lines = block.data.splitlines()[first - block.first :]
        return b"".join([b"id: %b:%d\ndata: %b\n\n" % (boot, seq, line) for seq, line in enumerate(lines, first)])
