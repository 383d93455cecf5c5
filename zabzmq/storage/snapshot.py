"""Snapshot files: the exact state at one zxid, and what it says of the history it replaces (L6, L8).

A header with the mark, the state as it was given, and a trailer with a checksum of it all and the length. Nothing
in it names a node: a snapshot travels to another peer as the file it is, so what is installed there is checked
against what was written here, disk to disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from zabzmq.checksum import crc32c
from zabzmq.core.errors import StorageError
from zabzmq.core.history import SnapshotMark
from zabzmq.core.zxid import Zxid
from zabzmq.storage.damage import Damaged
from zabzmq.storage.files import Files

VERSION: Final = 1
MAGIC: Final = b"ZABSNAP\n"
_FRAME: Final = Struct("<II")
_TRAILER: Final = Struct("<IQ")
_START: Final = len(MAGIC) + _FRAME.size
_CHUNK: Final = 1 << 20
_SYNC_EVERY: Final = 1 << 20
"""So that the log's syncs never wait behind a snapshot: a file system may have to write all that waits, of any file,
before it can say of one that it is durable."""
_HEADER_BYTES_MAX: Final = 64 << 20


class SnapshotHeader(msgspec.Struct, array_like=True, frozen=True):
    version: int
    cluster: str
    mark: SnapshotMark
    state_bytes: int


class Opened(NamedTuple):
    """A snapshot file whose header was read: where its state starts, and how long the file must be."""

    mark: SnapshotMark
    state_at: int
    state_bytes: int
    size: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SnapshotHeader).decode


def snapshot_name(zxid: Zxid) -> str:
    return f"snap.{zxid.epoch}.{zxid.counter}"


def zxid_of(name: str, kind: str) -> Zxid | None:
    """The zxid in a file name like `snap.3.17`; None for any other name."""
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != kind or not (parts[1] + parts[2]).isascii():
        return None
    if not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return Zxid(int(parts[1]), int(parts[2]))


def found_in(directory: str) -> list[Zxid]:
    """The snapshots of a generation by name, oldest first; whether they are whole is not looked at."""
    return sorted(zxid for name in os.listdir(directory) if (zxid := zxid_of(name, "snap")) is not None)


def write(files: Files, path: str, cluster: str, mark: SnapshotMark, pieces: Sequence[bytes]) -> None:
    """Write a snapshot to the new file `path`, sync it, and read it again (L8). Raises StorageError if that differs."""
    header = _encode(SnapshotHeader(VERSION, cluster, mark, sum(map(len, pieces))))
    offset, synced, crc = 0, 0, 0
    fd = files.create(path)
    try:
        for piece in (MAGIC + _FRAME.pack(len(header), crc32c(header)) + header, *pieces):
            for start in range(0, len(piece), _CHUNK):
                some = piece[start : start + _CHUNK]
                crc = crc32c(some, crc)
                offset = files.write(fd, [some], offset)
                if offset - synced >= _SYNC_EVERY:
                    files.sync_data(fd)
                    synced = offset
        files.write(fd, [_TRAILER.pack(crc, offset + _TRAILER.size)], offset)
        files.sync(fd)
    finally:
        files.close(fd)
    if verify(path, cluster).mark != mark:
        raise StorageError(f"{path}: does not hold what was just written")


def verify(path: str, cluster: str) -> Opened:
    """Read the whole file. Raises StorageError, naming the offset, unless it is a complete snapshot of this cluster."""
    for _ in _checked(path, cluster):
        pass
    with open(path, "rb", buffering=0) as file:
        return _open(file.fileno(), path, cluster)


def read_state(path: str, cluster: str) -> bytes:
    """The state as it was given to `write`. Raises StorageError when the file is not whole."""
    return b"".join(_checked(path, cluster))


def _checked(path: str, cluster: str) -> Iterator[bytes]:
    """The state piece by piece; raises at the end if the checksum does not fit."""
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        opened = _open(fd, path, cluster)
        crc = crc32c(os.pread(fd, opened.state_at, 0))
        offset, end = opened.state_at, opened.state_at + opened.state_bytes
        while offset < end:
            some = os.pread(fd, min(_CHUNK, end - offset), offset)
            if not some:
                raise Damaged(path, offset, "the file became shorter while it was read")
            crc = crc32c(some, crc)
            offset += len(some)
            yield some
        if os.pread(fd, _TRAILER.size, end) != _TRAILER.pack(crc, opened.size):
            raise Damaged(path, end, "the checksum of the snapshot does not fit")


def _open(fd: int, path: str, cluster: str) -> Opened:
    start = os.pread(fd, _START, 0)
    if len(start) < _START or not start.startswith(MAGIC):
        raise Damaged(path, 0, "this is not a snapshot")
    length, crc = _FRAME.unpack_from(start, len(MAGIC))
    payload = os.pread(fd, min(length, _HEADER_BYTES_MAX), _START)
    if len(payload) != length or crc32c(payload) != crc:
        raise Damaged(path, _START, "the header's checksum does not fit")
    try:
        header = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(path, _START, f"the header's checksum fits, but it cannot be read: {error}") from None
    if header.version != VERSION:
        raise StorageError(f"{path}: format {header.version}, but this version reads format {VERSION}")
    if header.cluster != cluster:
        raise StorageError(f'{path}: belongs to cluster "{header.cluster}", not "{cluster}"')
    state_at = _START + length
    opened = Opened(header.mark, state_at, header.state_bytes, state_at + header.state_bytes + _TRAILER.size)
    size = os.fstat(fd).st_size
    if size != opened.size:
        raise Damaged(path, min(size, opened.size), f"it should be {opened.size} bytes long, and is {size}")
    return opened


def discard(files: Files, path: str) -> None:
    """Delete a file that nothing counts on; failing to is nobody's trouble."""
    with suppress(OSError):
        files.remove(path)
