"""Peer messages to bytes and back: versioned, bounded, checked (PROTOCOL 7.2). Pure.

A message is one frame, header and body. The *header* is a fixed struct: who speaks, to whom, on which link, of which
epoch, under which number, and a CRC32C over all of it. The *body* is the message itself as a MessagePack array, decoded
by a decoder of exactly that type. Nothing here executes what it reads, and every way to fail is one WireError.

One frame and not two, because libzmq 4.3.5 aborts the process (`!_more` in fq.cpp) when a connection of a DEALER with
IMMEDIATE=1 or RECONNECT_IVL=-1 ends between the parts of a message it reads (measured; both options are needed, T5).

Whether a message is for this process, of the current link and in order is net/link.py's question; what it means,
the phases'.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec
import xxhash

from zabzmq.checksum import crc32c
from zabzmq.core.errors import ZabError
from zabzmq.core.history import Batch
from zabzmq.core.lamport import Lamport
from zabzmq.core.messages import (
    WIRE_NAMES,
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    HbEcho,
    Heartbeat,
    Joined,
    LeaderInfo,
    LinkMessage,
    MeshMessage,
    Message,
    Nack,
    NewLeader,
    Notification,
    Propose,
    PubMessage,
    ReadIndex,
    ReadIndexReply,
    Snap,
    SnapChunk,
    SyncProgress,
    SyncTxns,
    Trunc,
    UpToDate,
)
from zabzmq.core.zxid import LinkId, PeerId, ProcessId

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 4 << 20
"""MAXMSGSIZE (7.5): a bad frame must not exhaust memory."""
CHUNK_BYTES_MAX: Final = 1 << 20
BATCH_COUNT_MAX: Final = 1 << 16
"""Transactions in one batch: no leader has more than max_outstanding of them (PROTOCOL 16)."""
_U64_MAX: Final = (1 << 64) - 1

REASONS: Final = frozenset(
    {"parts", "size", "short", "magic", "version", "cluster", "type", "crc", "body", "range", "epoch", "place"}
)
"""Every reason a WireError of this module can have; counters keep one number for each."""


class WireError(ZabError):
    """These bytes are not a message for us. `reason` is a short code for counters, bounded in number."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Closed(NamedTuple):
    """Either way: this link is over at my end; believe nothing more of it.

    Not of the protocol proper, but of the transport: ZeroMQ tells a ROUTER of no disconnect by name, and a DEALER
    of nothing while the connection stands, so an end that gives a link up says so. Losing it costs time only.
    """


MESH: Final = 1
LINK: Final = 2
PUB: Final = 4
"""Where messages travel; each type has its places. Bits: one socket may be two places."""

_TYPES: Final[dict[int, type]] = {
    1: Closed,
    2: Notification,
    3: FollowerInfo,
    4: LeaderInfo,
    5: AckEpoch,
    6: Nack,
    7: Trunc,
    8: Snap,
    9: SnapChunk,
    10: SyncTxns,
    11: SyncProgress,
    12: NewLeader,
    13: AckNewLeader,
    14: UpToDate,
    15: Joined,
    16: Propose,
    17: Ack,
    18: HbEcho,
    19: ReadIndex,
    20: ReadIndexReply,
    21: Heartbeat,
    22: Commit,
}
_CODES: Final = {type_: code for code, type_ in _TYPES.items()}
_PLACES: Final = {
    code: sum(
        place
        for place, union in ((MESH, MeshMessage), (LINK, LinkMessage | Closed), (PUB, PubMessage))
        if type_ in (get_args(union) or (union,))
    )
    for code, type_ in _TYPES.items()
}


# ---- numbers: MessagePack is signed, the protocol is not -----------------------------------------------------------

_Check: TypeAlias = Callable[[Any], None]


def _check_int(value: int) -> None:
    if value < 0:
        raise WireError("range", str(value))


def _check_ints(values: tuple[int, ...]) -> None:
    if min(values) < 0:
        raise WireError("range", str(values))


def _check_batch(batch: Batch) -> None:
    first, prev, admit = batch.first, batch.prev, batch.admit
    if first.epoch < 0 or first.counter < 1 or prev.epoch < 0 or prev.counter < 0 or batch.time_ms < 0:
        raise WireError("range", f"a batch {first} after {prev}")
    if not 1 <= batch.count <= BATCH_COUNT_MAX or first.counter + batch.count - 1 > _U64_MAX:
        raise WireError("range", f"a batch of {batch.count}")
    if admit is not None and (admit.peer < 0 or admit.life < 0 or batch.count != 1 or batch.data):
        raise WireError("range", "an ADMIT is a batch of its own")


def _check_chunk(chunk: SnapChunk) -> None:
    if chunk.epoch < 0 or chunk.offset < 0 or len(chunk.data) > CHUNK_BYTES_MAX:
        raise WireError("range", f"a chunk of {len(chunk.data)} bytes at {chunk.offset}")


_SPECIAL: Final[dict[Any, _Check | None]] = {
    int: _check_int,
    bool: None,
    bytes: None,
    Batch: _check_batch,
    SnapChunk: _check_chunk,
}


def _checker(hint: Any) -> _Check | None:
    """What the typed decoder leaves open for a value of this type, as one function; None where that is nothing."""
    hint = getattr(hint, "__supertype__", hint)  # a NewType is its base
    if hint in _SPECIAL:
        return _SPECIAL[hint]
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return None  # the decoder takes members only
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (_checker(arg) for arg in get_args(hint) if arg is not NoneType)
        return None if inner is None else partial(_check_optional, inner)
    if get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,):
        each = _checker(get_args(hint)[0])
        return None if each is None else partial(_check_all, each)
    # A NamedTuple, or a tuple of fixed length.
    checks = [_checker(each) for each in get_args(hint) or get_type_hints(hint).values()]
    if checks and all(check is _check_int for check in checks):
        return _check_ints
    fields = [(place, check) for place, check in enumerate(checks) if check is not None]
    return partial(_check_fields, fields) if fields else None


def _check_optional(check: _Check, value: Any) -> None:
    if value is not None:
        check(value)


def _check_all(check: _Check, values: tuple[Any, ...]) -> None:
    for value in values:
        check(value)


def _check_fields(checks: list[tuple[int, _Check]], value: tuple[Any, ...]) -> None:
    for place, check in checks:
        check(value[place])


class _Reader(NamedTuple):
    """How to read messages of one type."""

    decode: Callable[[bytes | memoryview], Any]
    check: _Check | None
    places: int
    has_epoch: bool


_READERS: Final[dict[int, _Reader]] = {
    code: _Reader(
        msgspec.msgpack.Decoder(type_).decode, _checker(type_), _PLACES[code], "epoch" in type_.__annotations__
    )
    for code, type_ in _TYPES.items()
}


# ---- the envelope ------------------------------------------------------------------------------------------------

_HEAD: Final = struct.Struct(">2sBB QIQQIQ ?IQQQ QQQ")
"""magic, version, type; cluster, source (peer, life, incarnation), to (peer, incarnation); link (present, learner's
peer, life, incarnation, number); epoch, seq, Lamport clock. After it the CRC32C of the body and of all this."""
HEADER_BYTES: Final = _HEAD.size + 4
_MAGIC: Final = b"ZB"
_CRC: Final = struct.Struct(">I")
_KIND_BYTES = 4
_TAIL: Final = struct.Struct(">QQQI")
_ROUTE: Final = struct.Struct(">QIQQIQ?IQQQ")
assert _KIND_BYTES + _ROUTE.size + _TAIL.size == HEADER_BYTES
_ROUTES_KEPT = 1024


class Envelope(NamedTuple):
    """Who speaks to whom. `to_incarnation` 0: not known yet. `link` None: mesh or PUB. `seq`: link_seq or pub_seq."""

    source: ProcessId
    to_peer: PeerId
    to_incarnation: int
    link: LinkId | None
    seq: int


def name_of(frame: bytes) -> str:
    """What kind of message this frame says it is, by its name in events; nothing else of it is looked at."""
    type_ = _TYPES.get(frame[3]) if len(frame) > _KIND_BYTES else None
    return "?" if type_ is None else WIRE_NAMES.get(type_, type_.__name__.upper())


def cluster_hash(name: str) -> int:
    """What stands for the cluster's name in every header."""
    return xxhash.xxh3_64_intdigest(name.encode())


class Wire:
    """Encoder and decoder of one process of one cluster."""

    def __init__(self, cluster: str, lamport: Lamport | None = None) -> None:
        """`lamport` is stamped on what is encoded and told of what is decoded."""
        self._cluster = cluster_hash(cluster)
        self._lamport = Lamport() if lamport is None else lamport
        self._encode = msgspec.msgpack.Encoder().encode
        # One message object is sent to several links in a row: its body is made and summed once.
        self._last: Message | Closed | None = None
        self._last_body = b""
        self._last_crc = 0
        self._last_code = 0
        self._last_epoch = 0
        # The middle of a header repeats for the whole life of a link.
        self._routes: dict[bytes, tuple[ProcessId, PeerId, int, LinkId | None]] = {}

    def encode(self, envelope: Envelope, message: Message | Closed) -> bytes:
        """The frame. Raises WireError("size") if it is larger than any receiver accepts."""
        if message is not self._last:
            body = self._encode(message)
            if len(body) > FRAME_BYTES_MAX - HEADER_BYTES:
                raise WireError("size", f"{type(message).__name__} of {len(body)} bytes")
            self._last_body = body
            self._last_code = _CODES[type(message)]
            self._last_epoch = getattr(message, "epoch", 0)
            self._last_crc = crc32c(body)
            self._last = message
        (peer, life, incarnation), to_peer, to_incarnation, link, seq = envelope
        if link is None:
            linked, number, learner = False, 0, _NOBODY
        else:
            linked, (learner, number) = True, link
        head = _HEAD.pack(
            _MAGIC,
            VERSION,
            self._last_code,
            self._cluster,
            peer,
            life,
            incarnation,
            to_peer,
            to_incarnation,
            linked,
            *learner,
            number,
            self._last_epoch,
            seq,
            self._lamport.value,
        )
        # The body's sum comes first, so that it too is made once for all links.
        return b"".join((head, _CRC.pack(crc32c(head, self._last_crc)), self._last_body))

    def decode(self, frames: list[bytes], places: int) -> tuple[Envelope, Message | Closed]:
        """The message in these frames (one), met in one of these places. Raises WireError, and nothing else."""
        if len(frames) != 1:
            raise WireError("parts", f"{len(frames)} frames")
        frame = frames[0]
        if len(frame) < HEADER_BYTES:
            raise WireError("short", f"{len(frame)} bytes")
        if len(frame) > FRAME_BYTES_MAX:
            raise WireError("size", f"{len(frame)} bytes")
        if frame[:2] != _MAGIC:
            raise WireError("magic")
        if frame[2] != VERSION:
            raise WireError("version", f"version {frame[2]}, this is {VERSION}")
        body = memoryview(frame)[HEADER_BYTES:]
        epoch, seq, stamp, crc = _TAIL.unpack_from(frame, HEADER_BYTES - _TAIL.size)
        if crc32c(frame[: _HEAD.size], crc32c(body)) != crc:
            raise WireError("crc")
        source, to_peer, to_incarnation, link = self._route(frame[_KIND_BYTES : HEADER_BYTES - _TAIL.size])
        reader = _READERS.get(frame[3])
        if reader is None:
            raise WireError("type", f"type {frame[3]}")
        decode, check, allowed, has_epoch = reader
        place = allowed & places
        if not place or (link is None) is (place == LINK):
            raise WireError("place", f"type {frame[3]}")
        try:
            message: Any = decode(body)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            raise WireError("body", str(error)) from None
        if check is not None:
            check(message)
        if epoch != (message.epoch if has_epoch else 0):
            raise WireError("epoch", f"header says {epoch}")
        self._lamport.heard(stamp)
        return Envelope(source, to_peer, to_incarnation, link, seq), message

    def _route(self, raw: bytes) -> tuple[ProcessId, PeerId, int, LinkId | None]:
        known = self._routes.get(raw)
        if known is not None:
            return known
        (cluster, peer, life, incarnation, to_peer, to_incarnation, linked, l_peer, l_life, l_incarnation, number) = (
            _ROUTE.unpack(raw)
        )
        if cluster != self._cluster:
            raise WireError("cluster")
        link = LinkId(ProcessId(l_peer, l_life, l_incarnation), number) if linked else None
        route = (ProcessId(peer, life, incarnation), to_peer, to_incarnation, link)
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        self._routes[raw] = route
        return route


_NOBODY: Final = ProcessId(PeerId(0), 0, 0)
