"""The bytes of a log segment: its header, its records, and how a torn end is told from damage (L2, L3).

A segment is a header of 512 bytes, then records: `length | crc32c | number | kind`, then the payload, one Batch
as MessagePack. `number` counts the writes that were synced together, `kind` tells the last record of such a write
from the others. The checksum covers the segment's random salt too, so bytes of another segment, or bytes that a
client sent, never pass for a record.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from zabzmq.checksum import crc32c
from zabzmq.core.history import Batch
from zabzmq.core.zxid import PeerId, Zxid

VERSION: Final = 1
MAGIC: Final = b"ZABLOG1\n"
HEADER_BYTES: Final = 512
RECORD_BYTES_MAX: Final = 64 << 20
"""A longer record was never written: such a length is damage, not a reason to reserve memory."""

MORE: Final = b"MORE"
"""A record of a write that goes on."""
LAST: Final = b"LAST"
"""The last record of a write: what follows belongs to the next one."""
STOP: Final = b"STOP"
"""The empty record of a clean stop (L2). Nothing follows it in its segment."""

_HEAD: Final = Struct("<IIQ4s")
_SALTED: Final = Struct("<QIQ4s")
_FRAME: Final = Struct("<II")
RECORD_OVERHEAD: Final = _HEAD.size
_CHUNK = 1 << 18

encode_batch = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode


class SegmentHeader(msgspec.Struct, array_like=True, frozen=True):
    """`prev`: the zxid before the first record. `number`: that of the first write."""

    version: int
    cluster: str
    node: PeerId
    life: int
    prev: Zxid
    number: int
    salt: int


class Record(NamedTuple):
    """One record: where it starts and ends, which write it belongs to, and its batch (None: STOP)."""

    offset: int
    end: int
    number: int
    kind: bytes
    batch: Batch | None


class BadRecord(Exception):
    """No whole record at `offset`. `ours`: its checksum fits, so this was written as it is and is no torn write."""

    def __init__(self, offset: int, why: str, ours: bool = False) -> None:
        super().__init__(why)
        self.offset = offset
        self.why = why
        self.ours = ours


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(SegmentHeader).decode


def encode_header(header: SegmentHeader) -> bytes:
    payload = _encode_header(header)
    framed = MAGIC + _FRAME.pack(len(payload), crc32c(payload)) + payload
    assert len(framed) <= HEADER_BYTES, "cluster names are short"
    return framed.ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes) -> SegmentHeader | None:
    """The header, or None if these bytes are not a whole one."""
    start = len(MAGIC) + _FRAME.size
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        return None
    length, crc = _FRAME.unpack_from(data, len(MAGIC))
    payload = data[start : start + length]
    if len(payload) != length or crc32c(payload) != crc:
        return None
    try:
        header = _decode_header(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    # The padding too: every bit of a segment is accounted for.
    return header if encode_header(header) == data else None


def encode_record(salt: int, number: int, kind: bytes, payload: bytes) -> bytes:
    """What stands before `payload`."""
    assert len(payload) <= RECORD_BYTES_MAX
    crc = crc32c(payload, crc32c(_SALTED.pack(salt, len(payload), number, kind)))
    return _HEAD.pack(len(payload), crc, number, kind)


class Window:
    """Reads a file from front to back in large pieces, never more of it at once than one record needs."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> memoryview:
        """The bytes there; fewer where the file ends."""
        length = min(length, self.size - offset)
        if offset < self._start or offset + length > self._start + len(self._data):
            self._start = offset
            self._data = os.pread(self.fd, min(max(length, _CHUNK), self.size - offset), offset)
        return memoryview(self._data)[offset - self._start : offset - self._start + length]


def read_record(window: Window, offset: int, salt: int) -> Record:
    """The record at `offset`. Raises BadRecord."""
    head = window.read(offset, RECORD_OVERHEAD)
    if len(head) < RECORD_OVERHEAD:
        raise BadRecord(offset, f"the file ends {len(head)} bytes into a record")
    length, crc, number, kind = _HEAD.unpack(head)
    if length > RECORD_BYTES_MAX or kind not in (MORE, LAST, STOP):
        raise BadRecord(offset, "this is not the beginning of a record")
    payload = window.read(offset + RECORD_OVERHEAD, length)
    if len(payload) < length:
        raise BadRecord(offset, f"a record of {length} bytes is cut short after {len(payload)}")
    if crc32c(payload, crc32c(_SALTED.pack(salt, length, number, kind))) != crc:
        raise BadRecord(offset, "the checksum of the record does not fit")
    if kind == STOP:
        batch = None
    else:
        try:
            batch = decode_batch(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRecord(offset, f"the checksum fits, but the record cannot be read: {error}", ours=True) from None
    return Record(offset, offset + RECORD_OVERHEAD + length, number, kind, batch)


def read_records(window: Window, offset: int, salt: int) -> Iterator[Record]:
    """All records from `offset` to the end of the window. Raises BadRecord where one is not whole."""
    while offset < window.size:
        record = read_record(window, offset, salt)
        yield record
        offset = record.end


def find_later_write(window: Window, offset: int, salt: int, than: int) -> int | None:
    """Where after `offset` a whole record of a write later than `than` stands, if anywhere (L2).

    Every byte is looked at, since the lengths that would lead there are what is damaged.
    """
    kinds = re.compile(rb"MORE|LAST|STOP")
    overlap = RECORD_OVERHEAD
    start = offset
    while start < window.size:
        piece = bytes(window.read(start, _CHUNK))
        if not piece:
            break  # The file was cut meanwhile.
        for match in kinds.finditer(piece):
            at = start + match.end() - RECORD_OVERHEAD
            if at <= offset or not _may_be_later(window, at, than):
                continue
            # A window of its own: the outer one would read its piece again after each candidate.
            try:
                read_record(Window(window.fd, window.size), at, salt)
            except BadRecord as bad:
                if not bad.ours:
                    continue
            return at
        start += max(1, len(piece) - overlap) if start + len(piece) < window.size else len(piece)
    return None


def end_of_written(window: Window, offset: int) -> int:
    """Where, at `offset` or after it, the zeros begin that go on to the end of the file (L4)."""
    end = offset
    for start in range(offset, window.size, _CHUNK):
        piece = bytes(window.read(start, _CHUNK)).rstrip(b"\0")
        end = start + len(piece) if piece else end
    return end


def _may_be_later(window: Window, offset: int, than: int) -> bool:
    """A cheap look before the checksum is computed: clients may well have sent the word LAST many times."""
    head = os.pread(window.fd, RECORD_OVERHEAD, offset)
    if len(head) < RECORD_OVERHEAD:
        return False
    length, _, number, _ = _HEAD.unpack(head)
    return bool(than < number <= than + window.size and offset + RECORD_OVERHEAD + length <= window.size)
