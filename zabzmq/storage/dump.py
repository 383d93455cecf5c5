"""Looking into a data directory without touching it, also beside the node that runs on it.

Takes no lock and changes nothing. Files may grow, be cut or vanish while they are read: a segment that vanished is
passed over, and the unfinished end of the last one is told from damage as recovery does (L2, L3).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch, SnapshotMark
from zabzmq.core.zxid import Zxid
from zabzmq.storage import meta as meta_file
from zabzmq.storage import snapshot
from zabzmq.storage.damage import Damaged
from zabzmq.storage.meta import Meta
from zabzmq.storage.recovery import generation_path, read_current, scan_segment, segment_files


class Damage(NamedTuple):
    """Something that is not whole. `fatal`: a node would not start on it; else it is a write not finished yet."""

    path: str
    offset: int
    text: str
    fatal: bool


class SnapshotFile(NamedTuple):
    """`mark` is None when the file is damaged; `text` then says how."""

    path: str
    zxid: Zxid
    bytes: int
    mark: SnapshotMark | None
    text: str


class Summary(NamedTuple):
    meta: Meta
    generation: int
    snapshots: tuple[SnapshotFile, ...]
    segments: tuple[tuple[str, int], ...]  # path and bytes


def summarize(path: str | os.PathLike[str]) -> Summary:
    """META, the snapshots and the segments of a data directory. Raises StorageError when there is nothing to read."""
    path = os.fspath(path)
    meta, directory, generation = _find(path)
    snapshots = []
    segments = []
    try:
        for zxid in snapshot.found_in(directory):
            name = os.path.join(directory, snapshot.snapshot_name(zxid))
            size = os.path.getsize(name)
            try:
                snapshots.append(SnapshotFile(name, zxid, size, snapshot.verify(name, meta.cluster).mark, ""))
            except StorageError as error:
                snapshots.append(SnapshotFile(name, zxid, size, None, str(error)))
        for _, name in segment_files(directory):
            segments.append((name, os.path.getsize(name)))
    except FileNotFoundError as error:
        raise StorageError(f"{error.filename} was purged while it was read; ask again") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return Summary(meta, generation, tuple(snapshots), tuple(segments))


def read_log(path: str | os.PathLike[str]) -> Iterator[Batch | Damage]:
    """Every batch of the log in order, and what is damaged where. Raises StorageError when there is nothing to read."""
    path = os.fspath(path)
    meta, directory, _ = _find(path)
    try:
        places = segment_files(directory)
        last: Zxid | None = None
        for first, name in places:
            is_last = name == places[-1][1]
            scan = scan_segment(name, first, meta.cluster, meta.life, is_last)
            try:
                while True:
                    batch = next(scan).batch
                    if batch is None:
                        continue
                    if last is not None and batch.prev != last:
                        yield Damage(name, 0, f"it follows {batch.prev}, but the log ends at {last} before it", True)
                    last = batch.last
                    yield batch
            except StopIteration as stop:
                if stop.value is None:
                    yield Damage(name, 0, "a segment that was only begun", False)
                elif stop.value.torn:
                    text = f"{stop.value.torn} bytes of a write that is not finished"
                    yield Damage(name, stop.value.segment.size, text, False)
            except FileNotFoundError:
                continue  # Purged or truncated meanwhile.
            except Damaged as error:
                yield Damage(name, error.offset, str(error), True)
            except StorageError as error:
                yield Damage(name, 0, str(error), True)
    except OSError as error:
        raise _unreadable(path, error) from None


def _find(path: str) -> tuple[Meta, str, int]:
    try:
        meta, generation = meta_file.load(os.path.join(path, "META")), read_current(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if meta is None or generation is None:
        raise StorageError(f"{path} is no data directory of a node: it has no META. Name one like data/node-0.")
    return meta, generation_path(path, generation), generation


def _unreadable(path: str, error: OSError) -> StorageError:
    return StorageError(f"cannot read {error.filename or path}: {error.strerror}")
