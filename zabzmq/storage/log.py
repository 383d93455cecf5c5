"""The log of one generation: its segments on disk, written at the end, read anywhere, cut at both ends.

The writer thread alone appends and truncates; one background thread purges; any thread reads. What they share is
the list of segments, under one lock that is never held during a system call. Opening a log that is already there
is recovery.py's business, and what a failed write means is the writer's.

A file that grows costs a commit of the file system's journal with each sync. So the open segment is filled up with
zeros, some way ahead of its end, and small appends write over them. A segment that is closed ends with its last record.
"""

from __future__ import annotations

import os
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.storage import records
from zabzmq.storage.damage import Damaged
from zabzmq.storage.files import NO_SPACE, Files
from zabzmq.storage.records import LAST, MORE, STOP, BadRecord, SegmentHeader, Window

_MARK_EVERY: Final = 64 << 10
"""Bytes between two entries of a segment's index: what a read may have to skip."""
_FILL_TO: Final = 64 << 10
"""The zeros go up to a multiple of this. No place gets zeros twice: at most twice the bytes are written."""
_FILL_BELOW: Final = 16 << 10
"""Only for appends smaller than this: larger ones would spend on the zeros what they save."""


@dataclass(slots=True)
class Segment:
    """One file. `size`: how far it is durable. `number`: of its last write. `marks`: (prev, offset) of some records."""

    path: str
    prev: Zxid
    last: Zxid
    salt: int
    size: int
    number: int
    stopped: bool = False
    marks: list[tuple[Zxid, int]] = field(default_factory=list)

    def mark(self, prev: Zxid, offset: int) -> None:
        """Remember where the record after `prev` stands, unless a near one is known."""
        if not self.marks or offset - self.marks[-1][1] >= _MARK_EVERY:
            self.marks.append((prev, offset))


def segment_name(first: Zxid) -> str:
    return f"log.{first.epoch}.{first.counter}"


class Log:
    """The batches of `(base, last]`. What stands in `segments` is durable."""

    def __init__(
        self, files: Files, directory: str, cluster: str, node: PeerId, life: int, segment_bytes: int, base: Zxid
    ) -> None:
        self.directory = directory
        self.segments: list[Segment] = []
        self._files = files
        self._identity = (cluster, node, life)
        self._segment_bytes = segment_bytes
        self._empty_at = base
        self._number = 0  # of the last write
        self._fd: int | None = None  # the last segment's while it can be appended to
        self._filled = 0  # how far that file reaches, durably: zeros from the segment's size on
        self._cuts = 0  # how often something was taken away: a reader looks whether it was from under its hands
        self._lock = Lock()

    def adopt(self, segments: list[Segment]) -> None:
        """Take over what recovery found."""
        self.segments = segments
        self._number = max((segment.number for segment in segments), default=0)

    def successor(self, directory: str, base: Zxid) -> Log:
        """The empty log of the next generation."""
        return Log(self._files, directory, *self._identity, self._segment_bytes, base)

    @property
    def base(self) -> Zxid:
        first = self.segments[:1]  # One step, whatever the other threads do.
        return first[0].prev if first else self._empty_at

    @property
    def last(self) -> Zxid:
        final = self.segments[-1:]
        return final[0].last if final else self._empty_at

    # ---- writing: the writer thread only ---------------------------------------------------------------------------

    def append(self, batches: Sequence[Batch]) -> None:
        """Write these at the end as one write, and sync (L1, L17). OSError: undo with `forget_unsynced`, or give up."""
        number = self._number + 1
        payloads = [records.encode_batch(batch) for batch in batches]
        size = sum(map(len, payloads)) + records.RECORD_OVERHEAD * len(payloads)
        if self._fd is not None and self.segments[-1].size + size > self._segment_bytes:
            self.seal()
        # A segment is listed once its header is durable; a failure before leaves nothing of it.
        segment, fd = self._writable(batches[0].first, number)
        buffers: list[bytes] = []
        places: list[int] = []
        end = segment.size
        for i, payload in enumerate(payloads, 1):
            head = records.encode_record(segment.salt, number, LAST if i == len(payloads) else MORE, payload)
            buffers += (head, payload)
            places.append(end)
            end += len(head) + len(payload)
        self._filled = self._write(fd, buffers, segment.size, end)
        with self._lock:
            for batch, place in zip(batches, places, strict=True):
                segment.mark(batch.prev, place)
            segment.size = end
            segment.number = self._number = number
            segment.last = batches[-1].last

    def _write(self, fd: int, buffers: Sequence[bytes], start: int, end: int) -> int:
        """Write and sync what goes from `start` to `end`, with zeros after it where that pays; where they end."""
        filled = min(-(-end // _FILL_TO) * _FILL_TO, self._segment_bytes)
        if end <= self._filled or end - start >= _FILL_BELOW or filled <= end:
            self._files.write_synced(fd, buffers, start)
            return max(end, self._filled)
        try:
            return self._files.write_synced(fd, [*buffers, bytes(filled - end)], start)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
        # Without the zeros it may fit. All of it is written again, so this is no sync that is repeated (L14).
        self._files.cut(fd, self._filled)
        return self._files.write_synced(fd, buffers, start)

    def forget_unsynced(self) -> None:
        """After a failed append: cut back what it may have written, durably (L15), and let the next start a segment."""
        if self._fd is None:
            return
        segment = self.segments[-1]
        self._files.cut(self._fd, segment.size)
        self._files.sync(self._fd)
        self.close()
        if segment.size == records.HEADER_BYTES:  # Nothing was ever in it, and its name will be wanted again.
            self._remove_last()

    def truncate(self, to: Zxid) -> None:
        """Make `to` the end: whole segments newest first, then the one that holds it (L11)."""
        if not self.base <= to <= self.last:
            raise StorageError(f"{self.directory}: cannot truncate to {to}: the log holds ({self.base}, {self.last}]")
        self.seal()
        with self._lock:
            holders = [segment for segment in self.segments if segment.prev < to <= segment.last]
        # Found before anything is deleted: an order that makes no sense changes nothing.
        ends = [self._end_of(segment, to) for segment in holders]
        while self.segments and self.segments[-1].prev >= to:
            self._remove_last()
        if not holders or holders[0].last == to:
            return
        segment, (end, number) = holders[0], ends[0]
        fd = self._files.open(segment.path)
        try:
            with self._lock:
                self._cuts += 1
                segment.marks = [mark for mark in segment.marks if mark[1] < end]
                segment.size, segment.number, segment.last, segment.stopped = end, number, to, False
            self._files.cut(fd, end)
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    def stop(self) -> None:
        """Write the closing record of a clean stop (L2)."""
        if not self.segments or self.segments[-1].stopped:
            return
        self.seal()
        segment = self.segments[-1]
        fd = self._files.open(segment.path)
        try:
            self._number += 1
            self._files.write(fd, [records.encode_record(segment.salt, self._number, STOP, b"")], segment.size)
            self._files.sync_data(fd)
        finally:
            self._files.close(fd)
        segment.size += records.RECORD_OVERHEAD
        segment.stopped = True

    def seal(self) -> None:
        """Let the next append start a new segment, with a new salt (L5)."""
        if self._fd is not None and self._filled > self.segments[-1].size:
            # Durable before another one is begun: only the last may end in anything but a record (L3).
            self._files.cut(self._fd, self.segments[-1].size)
            self._files.sync(self._fd)
        self.close()

    def _writable(self, first: Zxid, number: int) -> tuple[Segment, int]:
        if self._fd is not None:
            return self.segments[-1], self._fd
        cluster, node, life = self._identity
        header = SegmentHeader(records.VERSION, cluster, node, life, self.last, number, secrets.randbits(64))
        path = os.path.join(self.directory, segment_name(first))
        with suppress(FileNotFoundError):
            self._files.remove(path)  # What a failed creation could not take back.
        fd = self._files.create(path)
        try:
            # Durable before the first record is written: what is longer than a header had a whole header (L4).
            size = self._files.write(fd, [records.encode_header(header)], 0)
            self._files.sync(fd)
            self._files.sync_dir(self.directory)
        except OSError:
            self._files.close(fd)
            with suppress(OSError):
                self._files.remove(path)
            raise
        self._fd, self._filled = fd, size
        segment = Segment(path, header.prev, header.prev, header.salt, size, number - 1)
        with self._lock:
            self.segments.append(segment)
        return segment, fd

    def _remove_last(self) -> None:
        """The directory is synced each time, so the segments go in this order at a power cut too."""
        with self._lock:
            self._cuts += 1
            segment = self.segments[-1]
            self._empty_at = segment.prev
            del self.segments[-1]
        self._files.remove(segment.path)
        self._files.sync_dir(self.directory)

    @staticmethod
    def _end_of(segment: Segment, zxid: Zxid) -> tuple[int, int]:
        """Where the record that ends at `zxid` ends, and the number of its write."""
        # The last mark before it: the record that ends at `zxid` has a smaller prev.
        start = segment.marks[bisect_left(segment.marks, zxid, key=lambda mark: mark[0]) - 1][1]
        fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for record in records.read_records(Window(fd, segment.size), start, segment.salt):
                if record.batch is not None and record.batch.last >= zxid:
                    if record.batch.last == zxid:
                        return record.end, record.number
                    break
        except BadRecord as bad:
            raise Damaged(segment.path, bad.offset, bad.why) from None
        finally:
            os.close(fd)
        raise StorageError(f"{segment.path}: cannot truncate to {zxid}: no batch ends there")

    # ---- reading: any thread ---------------------------------------------------------------------------------------

    def read(self, after: Zxid, upto: Zxid, bytes_max: int) -> list[Batch]:
        """The batches of `(after, upto]`, at least one and about `bytes_max`; none when they are not here (any more).

        Raises StorageError on damage, naming file and offset.
        """
        with self._lock:
            cuts = self._cuts
            at = bisect_right(self.segments, after, key=lambda segment: segment.prev) - 1
            if at < 0 or upto <= after:
                return []
            marks = self.segments[at].marks
            mark = bisect_right(marks, after, key=lambda mark: mark[0]) - 1
            start = marks[mark][1] if mark >= 0 else records.HEADER_BYTES
            parts = [(segment.path, segment.salt, segment.size) for segment in self.segments[at:]]
        found: list[Batch] = []
        path, offset = "", 0
        try:
            for path, salt, size in parts:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    done, offset = self._read_segment(Window(fd, size), start, salt, after, upto, bytes_max, found)
                finally:
                    os.close(fd)
                if done:
                    break
                start = records.HEADER_BYTES
        except (BadRecord, FileNotFoundError) as error:
            with self._lock:
                if cuts != self._cuts:
                    return []  # It was purged or truncated while we read.
            if isinstance(error, BadRecord):
                raise Damaged(path, error.offset, error.why) from None
            raise Damaged(path, offset, "the file is gone") from None
        return found

    def near(self, zxid: Zxid) -> Zxid:
        """An end of a batch at or before `zxid`, at most `_MARK_EVERY` bytes and one batch before it."""
        with self._lock:
            at = bisect_right(self.segments, zxid, key=lambda segment: segment.prev) - 1
            if at < 0:
                return self.base
            marks = self.segments[at].marks
            mark = bisect_right(marks, zxid, key=lambda mark: mark[0]) - 1
            return marks[mark][0] if mark >= 0 else self.segments[at].prev

    @staticmethod
    def _read_segment(
        window: Window, start: int, salt: int, after: Zxid, upto: Zxid, bytes_max: int, found: list[Batch]
    ) -> tuple[bool, int]:
        """Add to `found`; return whether that was all, and how far we came."""
        size = sum(batch.size for batch in found)
        for record in records.read_records(window, start, salt):
            batch = record.batch
            start = record.end
            if batch is None or batch.last <= after:
                continue
            # S2: contiguous from `after` on, or nothing.
            if batch.prev != (found[-1].last if found else after):
                return True, start
            if batch.last > upto or (found and size + batch.size > bytes_max):
                return True, start
            found.append(batch)
            size += batch.size
            if batch.last == upto:
                return True, start
        return False, start

    # ---- purging: one background thread ----------------------------------------------------------------------------

    def purge(self, below: Zxid) -> Zxid:
        """Delete segments that end at or before `below`, oldest first, never the last; return the new base (L10).

        OSError: the log is as it was before the one that could not be deleted, and contiguous.
        """
        while True:
            with self._lock:
                if len(self.segments) < 2 or self.segments[0].last > below:
                    return self.base
                self._cuts += 1
                segment = self.segments.pop(0)
            try:
                self._files.remove(segment.path)
            except OSError:
                with self._lock:
                    self.segments.insert(0, segment)
                raise
            # One by one, so that a power cut cannot leave a hole.
            self._files.sync_dir(self.directory)

    def close(self) -> None:
        """Let go of the open file, and leave it as it is."""
        if self._fd is not None:
            self._files.close(self._fd)
            self._fd = None
