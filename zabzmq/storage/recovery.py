"""What a directory holds when a node starts, or the reason not to start on it.

Reads CURRENT, the snapshots and the log of its generation; cuts a torn tail and deletes what was left half made
(L2, L4, L5, L12), and refuses everything else that does not fit (L3, L8, L9) without changing a byte. Whose
directory it is has been checked before; what the epochs must say is checked after.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, NamedTuple

from zabzmq.core.errors import HistoryError, StorageError
from zabzmq.core.history import History, SnapshotMark
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.storage import records, snapshot
from zabzmq.storage.damage import Damaged, advice
from zabzmq.storage.files import Files, remove_tree, replace
from zabzmq.storage.log import Segment, segment_name
from zabzmq.storage.records import HEADER_BYTES, LAST, STOP, BadRecord, Record, Window

_CURRENT: Final = re.compile(rb"gen-([1-9][0-9]{0,17})\n")
_GENERATION: Final = re.compile(r"gen-[0-9]+")

Warn = Callable[[str], None]


@dataclass(slots=True)
class Recovered:
    """`snapshots`: those that may be relied on, oldest first. `segments`: whole ones, durable once `settle` is done."""

    history: History
    segments: list[Segment]
    snapshots: list[Zxid]
    torn: int  # bytes of an unfinished write after the last whole record of the last segment
    zeros: int  # bytes that were never written, after those
    unfinished: list[str]  # segments that were never more than begun


# ---- generations -----------------------------------------------------------------------------------------------------


def generation_path(path: str, generation: int) -> str:
    return os.path.join(path, f"gen-{generation}")


def read_current(path: str) -> int | None:
    """The live generation, None before the first. Raises StorageError when CURRENT says nothing sensible."""
    name = os.path.join(path, "CURRENT")
    try:
        with open(name, "rb") as file:
            content = file.read(64)
    except FileNotFoundError:
        return None
    match = _CURRENT.fullmatch(content)
    if match is None:
        raise Damaged(name, 0, "it should name a generation")
    return int(match[1])


def write_current(files: Files, path: str, generation: int) -> None:
    replace(files, os.path.join(path, "CURRENT"), [f"gen-{generation}\n".encode()])


def is_empty(path: str) -> bool:
    """Whether no generation here holds a log or a snapshot."""
    for name in os.listdir(path):
        if _GENERATION.fullmatch(name):
            for inner in os.listdir(os.path.join(path, name)):
                if snapshot.zxid_of(inner, "log") or snapshot.zxid_of(inner, "snap"):
                    return False
    return True


def clean_up(files: Files, path: str, generation: int) -> None:
    """Delete what a crash left half made: temporary files, and generations that are not the live one (10.4, L12)."""
    live = generation_path(path, generation)
    for directory in (path, live):
        for name in sorted(os.listdir(directory)):
            if name.endswith(".tmp"):
                files.remove(os.path.join(directory, name))
    for name in sorted(os.listdir(path)):
        if _GENERATION.fullmatch(name) and os.path.join(path, name) != live:
            remove_tree(files, os.path.join(path, name))


# ---- the log ---------------------------------------------------------------------------------------------------------


def segment_files(directory: str) -> list[tuple[Zxid, str]]:
    """The segments of a generation by name: first zxid and path, oldest first."""
    found = [(zxid, name) for name in os.listdir(directory) if (zxid := snapshot.zxid_of(name, "log")) is not None]
    return [(zxid, os.path.join(directory, name)) for zxid, name in sorted(found)]


class Scanned(NamedTuple):
    """A segment up to its last whole record, the bytes of a torn write that follow it, and of the zeros after that."""

    segment: Segment
    torn: int
    zeros: int


def scan_segment(
    path: str, first: Zxid, cluster: str, life: int | None, is_last: bool
) -> Generator[Record, None, Scanned | None]:
    """Yield every record; return what there is, None if the segment was never more than begun (L4).

    Only the last segment may end in a torn write or in zeros. Raises StorageError on damage (L3). `life` None: any.
    """
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        header = records.decode_header(os.pread(fd, HEADER_BYTES, 0))
        if header is None:
            if is_last and size <= HEADER_BYTES:
                return None
            raise Damaged(path, 0, "the header of the segment is not whole")
        if header.version != records.VERSION:
            raise StorageError(f"{path}: format {header.version}, but this version reads format {records.VERSION}")
        if header.cluster != cluster or life not in (None, header.life):
            raise Damaged(path, 0, "the segment was written for another directory")
        segment = Segment(path, header.prev, header.prev, header.salt, HEADER_BYTES, header.number - 1)
        kind = LAST
        again = None  # where a record was bad before a later write that is whole
        while True:
            window = Window(fd, size)
            try:
                for record in records.read_records(window, segment.size, header.salt):
                    _check_step(segment, kind, first, record)
                    yield record
                    kind = record.kind
                    segment.size, segment.number = record.end, record.number
                    if record.batch is None:
                        segment.stopped = True
                    else:
                        segment.mark(record.batch.prev, record.offset)
                        segment.last = record.batch.last
            except BadRecord as bad:
                if bad.ours or not is_last:
                    raise Damaged(path, bad.offset, bad.why) from None
                # The bad record is of the write that was not complete yet, else of the one after it.
                torn = segment.number + (kind != records.MORE)
                later = records.find_later_write(window, bad.offset, header.salt, torn)
                if later is not None:
                    if bad.offset == again:
                        why = f"{bad.why}, and a later write stands at offset {later}"
                        raise Damaged(path, bad.offset, why) from None
                    # Beside a node that writes over zeros (dump.py) both may have come since we looked. What stands
                    # before a later write was whole when that was begun (L1): if it is bad once more, it is damaged.
                    again = bad.offset
                    continue
            break
        if segment.last == segment.prev:
            if is_last:
                return None
            raise Damaged(path, HEADER_BYTES, "the segment is empty, and others follow it")
        end = records.end_of_written(window, segment.size)
        return Scanned(segment, end - segment.size, size - end)


def _check_step(segment: Segment, kind: bytes, first: Zxid, record: Record) -> None:
    """Raise StorageError unless `record` continues what its segment holds so far."""
    batch = record.batch
    if kind == STOP:
        raise Damaged(segment.path, record.offset, "a record stands after the one that closed the segment")
    if batch is None:
        in_step = record.number > segment.number
    else:
        in_step = record.number == segment.number + (kind == LAST)
        if batch.prev != segment.last:
            why = f"batch {batch.first} follows {batch.prev}, but the log ends at {segment.last} there"
            raise Damaged(segment.path, record.offset, why)
        if segment.last == segment.prev and batch.first != first:
            raise Damaged(segment.path, record.offset, f"the segment begins with {batch.first}, not as its name says")
    if not in_step:
        why = f"a record of write {record.number} stands after write {segment.number}"
        raise Damaged(segment.path, record.offset, why)


# ---- all of it -------------------------------------------------------------------------------------------------------


def recover(directory: str, cluster: str, life: int, closed: Zxid | None, warn: Warn) -> Recovered:
    """Read a generation, and change nothing. `closed`: where the log ended, if the last stop was a clean one."""
    names = snapshot.found_in(directory)
    mark, refusals = _newest_whole(directory, cluster, names)
    history: History | None = None
    segments: list[Segment] = []
    unfinished: list[str] = []
    torn = zeros = 0
    places = segment_files(directory)
    target = mark.zxid if mark is not None else None
    met = mark is None  # whether the snapshot's zxid is the end of a batch
    for first, path in places:
        scan = scan_segment(path, first, cluster, life, is_last=path == places[-1][1])
        while True:
            try:
                record = next(scan)
            except StopIteration as stop:
                if stop.value is None:
                    unfinished.append(path)
                else:
                    segment, torn, zeros = stop.value
                    segments.append(segment)
                break
            if record.batch is None:
                continue
            if segments and record.offset == HEADER_BYTES and record.batch.prev != segments[-1].last:
                why = f"it follows {record.batch.prev}, but {segments[-1].path} ends at {segments[-1].last}"
                raise Damaged(path, 0, f"{why}: a segment is missing")
            try:
                if history is None:
                    history = _before_log(path, record.batch.prev, mark)
                    met = met or history.last == target
                history.append(record.batch)
            except HistoryError as error:
                raise Damaged(path, record.offset, str(error)) from None
            met = met or history.last == target
    if history is None:
        _check_empty_log(directory, names, mark, refusals)
        history = History() if mark is None else History.at(mark)
    elif mark is not None:
        _check_snapshot_fits(directory, mark, history, met)
        history.snapshot = mark.zxid
    if names and history.last < names[-1]:
        path = os.path.join(directory, snapshot.snapshot_name(names[-1]))
        why = f"the log ends before the snapshot at {names[-1]}, at {history.last}: its end is missing"
        raise StorageError(refusals[0] if refusals else f"{path}: {why}. {advice(path)}")
    if closed is not None and history.last != closed:
        path = segments[-1].path if segments else os.path.join(directory, segment_name(closed))
        why = f"the log ended at {closed} when the node was stopped, and ends at {history.last} now"
        raise Damaged(path, segments[-1].size if segments else 0, why)
    for refusal in refusals:
        warn(f"{refusal} Going on from {f'the snapshot at {mark.zxid}' if mark else 'the beginning of the log'}.")
    whole = [zxid for zxid in names if mark is not None and zxid <= mark.zxid]
    return Recovered(history, segments, whole, torn, zeros, unfinished)


def _newest_whole(directory: str, cluster: str, names: list[Zxid]) -> tuple[SnapshotMark | None, list[str]]:
    """The mark of the newest snapshot that is whole, and what is wrong with newer ones (L8)."""
    refusals: list[str] = []
    for zxid in reversed(names):
        path = os.path.join(directory, snapshot.snapshot_name(zxid))
        try:
            mark = snapshot.verify(path, cluster).mark
            if mark.zxid != zxid:
                raise StorageError(f"{path}: it is a snapshot at {mark.zxid}, not as its name says. {advice(path)}")
            return mark, refusals
        except StorageError as error:
            refusals.append(str(error))
    return None, refusals


def _before_log(path: str, base: Zxid, mark: SnapshotMark | None) -> History:
    """The history just before the first batch of the log. Raises when nothing says what that was (L8, L9)."""
    if base == ZERO:
        return History()
    if mark is None:
        raise StorageError(
            f"{path}: the log begins after {base}, and no whole snapshot says what was before. {advice(path)}"
        )
    if base > mark.zxid:
        raise Damaged(path, 0, f"it follows {base}, but the newest whole snapshot is at {mark.zxid}: a gap")
    try:
        return History.at(History.at(mark).mark(base))
    except HistoryError:
        raise Damaged(
            path, 0, f"it follows {base}, which is not in the history of the snapshot at {mark.zxid}"
        ) from None


def _check_snapshot_fits(directory: str, mark: SnapshotMark, history: History, met: bool) -> None:
    """The snapshot stands at the end of a batch of this very history. `met`: a batch ends there."""
    try:
        fits = met and history.mark(mark.zxid) == mark
    except HistoryError:
        fits = False
    if not fits:
        path = os.path.join(directory, snapshot.snapshot_name(mark.zxid))
        raise StorageError(
            f"{path}: it does not fit the log, which holds ({history.base}, {history.last}]: "
            f"a segment is missing or of another history. {advice(path)}"
        )


def _check_empty_log(directory: str, names: list[Zxid], mark: SnapshotMark | None, refusals: list[str]) -> None:
    """No log at all stands beside one snapshot, just installed, or beside nothing."""
    if refusals:
        raise StorageError(refusals[0])
    if len(names) > 1 and mark is not None:
        path = os.path.join(directory, snapshot.snapshot_name(mark.zxid))
        raise StorageError(f"{path}: the log that should lead to it is missing. {advice(path)}")


def settle(files: Files, directory: str, found: Recovered, clean: bool, warn: Warn) -> None:
    """Make durable what was found, and what was not whole gone (L4, L5, D5).

    After an unclean stop the last segment is written anew: its end may be in the page cache only, and a sync that
    failed before may have told the kernel that it is clean (L14).
    """
    for path in found.unfinished:
        files.remove(path)
    if found.segments and (found.torn or found.zeros or not clean):
        segment = found.segments[-1]
        if found.torn:
            warn(f"{segment.path}: cut {found.torn} bytes of an unfinished write at offset {segment.size}")
        _copy(files, segment.path, segment.size)
    files.sync_dir(directory)
    files.sync_dir(os.path.dirname(directory))


def _copy(files: Files, path: str, size: int) -> None:
    temporary = path + ".tmp"
    fd = files.create(temporary)
    try:
        offset = 0
        with open(path, "rb", buffering=0) as old:
            while offset < size:
                some = os.pread(old.fileno(), min(1 << 20, size - offset), offset)
                assert some, "a locked log does not shrink"
                offset = files.write(fd, [some], offset)
        files.sync(fd)
    except OSError:
        snapshot.discard(files, temporary)  # On a full disk it would be in the way of the next start.
        raise
    finally:
        files.close(fd)
    files.rename(temporary, path)
    files.sync_dir(os.path.dirname(path))
