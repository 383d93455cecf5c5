"""The client protocol (PROTOCOL 9): what travels between a client's DEALER and a node's client ROUTER. Pure.

One message is one frame (for the reason net/wire.py gives): `VERSION` and a MessagePack array that starts with its
tag. `rid` is the client's own number for matching answers. Operations and results of a message stay encoded (`Raw`)
until somebody needs them: a Submit carries every operation that waited together, a Done every result.

Monitors hear Committed batches on topic `tx` of every node's PUB (`encode_committed`).
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from zabzmq.machine.operations import Name, Sequence
from zabzmq.net.wire import FRAME_BYTES_MAX, WireError

VERSION = b"ZC1"
TOPIC_COMMITTED: Final = b"tx"
REQUEST_BYTES_MAX: Final = (2 << 20) + (16 << 10)
"""Of one request: room for the largest operation, a compare-and-set of two values of 1 MiB; and what a client sends at
once must fit into one PROPOSE beside other batches."""

Number = Annotated[int, Meta(ge=0)]
"""MessagePack's integers are signed, the protocol's are not: 0 to 2^64-1."""
Milliseconds = Annotated[int, Meta(ge=0, le=24 * 3600 * 1000)]
ZxidPair: TypeAlias = tuple[Number, Number]
SessionId: TypeAlias = tuple[Number, Number]


# ---- requests ----------------------------------------------------------------------------------------------------


class Hello(Struct, array_like=True, frozen=True, tag="hello"):
    """WHOIS: who leads? Answered by any node with a Hint."""

    rid: Number
    cluster: Name


class RegisterSession(Struct, array_like=True, frozen=True, tag="register"):
    """Make a session. Answered with a Done whose one result is Registered, or a No."""

    rid: Number
    name: Name
    timeout_ms: Milliseconds


class Submit(Struct, array_like=True, frozen=True, tag="submit"):
    """Operations `seq`, `seq + 1`, ... of a session; `ops` is a MessagePack array of Operation.

    `acked`: every result below this seq has arrived and need not be kept (C3). Answered by Done and No messages
    that name session and seq; together they cover every operation.
    """

    session: SessionId
    seq: Sequence
    acked: Sequence
    timeout_ms: Milliseconds
    ops: Raw


class ReadMany(Struct, array_like=True, frozen=True, tag="read"):
    """Queries (a MessagePack array of Query) answered together. `linear` (C5), else local (C6): any applied state
    of at least `min_zxid`."""

    rid: Number
    linear: bool
    min_zxid: ZxidPair
    timeout_ms: Milliseconds
    queries: Raw


class Range(Struct, array_like=True, frozen=True, tag="range"):
    """Committed transactions of `(after, upto]`, for monitors; `upto` (0, 0) means all that is applied."""

    rid: Number
    after: ZxidPair
    upto: ZxidPair


class StatusQuery(Struct, array_like=True, frozen=True, tag="status"):
    rid: Number


ClientRequest: TypeAlias = Hello | RegisterSession | Submit | ReadMany | Range | StatusQuery


# ---- replies -----------------------------------------------------------------------------------------------------


class Hint(Struct, array_like=True, frozen=True, tag="hint"):
    """What this node knows of the leader. `established` only from the established leader itself. `endpoints`: the
    client address of every voter by id, as this node is configured. `leader` None: NO_LEADER, ask again later."""

    rid: Number
    cluster: str
    node: Number
    leader: Number | None
    epoch: Number
    established: bool
    endpoints: dict[Number, str]


class Done(Struct, array_like=True, frozen=True, tag="done"):
    """OK: operations `seq`, `seq + 1`, ... were applied at `zxid` and its successors; `results` is a MessagePack
    array of Result. `acks`: voters known to hold it on disk. `rid` answers a RegisterSession, else 0.
    `zxid` is (0, 0) when a repeated operation's place is no longer known (its results are Gone)."""

    rid: Number
    session: SessionId
    seq: Number
    zxid: ZxidPair
    acks: list[Number]
    results: Raw


class No(Struct, array_like=True, frozen=True, tag="no"):
    """Anything else. `why` is one of WHY; `seq` the first operation it speaks of, `count` how many.

    not_leader, busy, not_executed, invalid: surely not proposed by this attempt (C4). unknown: may yet commit.
    expired_client, seq_gap (`expected`: the seq this leader wants next): see C3, C4.
    """

    rid: Number
    session: SessionId
    seq: Number
    count: Number
    why: str
    text: str
    leader: Number | None = None
    expected: Number | None = None
    retry_ms: Number | None = None


WHY = frozenset({"not_leader", "busy", "not_executed", "unknown", "invalid", "expired_client", "seq_gap", "no_leader"})


class Answers(Struct, array_like=True, frozen=True, tag="answers"):
    """`answers` (a MessagePack array of Answer) are of the state at `zxid`. `stale` says in words why a local read
    may be old beyond the usual ("node 3 is not in BROADCAST"), else ""."""

    rid: Number
    node: Number
    zxid: ZxidPair
    linear: bool
    stale: str
    answers: Raw


class Committed(Struct, array_like=True, frozen=True):
    """One committed batch: `data` is its runs, `results` one MessagePack array of Result for each run.
    `results` is None when they are no longer kept."""

    first: ZxidPair
    prev: ZxidPair
    count: Number
    time_ms: Number
    admit: tuple[Number, Number] | None
    data: bytes
    results: list[bytes] | None
    names: list[str]
    digest: Number


class RangeReply(Struct, array_like=True, frozen=True, tag="committed"):
    """At most about 1 MiB of batches from `after` on. `applied`: how far this node is. `purged`: not None when the
    batches just after `after` are gone; the oldest left follow this zxid (PURGED)."""

    rid: Number
    node: Number
    applied: ZxidPair
    purged: ZxidPair | None
    batches: list[Committed]


class NodeStatus(Struct, tag="node", kw_only=True):
    """One node as it sees itself; a map, so that later versions may add to it."""

    rid: Number
    v: Number = 1
    node: Number
    cluster: str
    state: str
    phase: str
    detail: str = ""
    epoch: Number
    accepted_epoch: Number
    leader: Number | None
    established: bool
    last: ZxidPair
    committed: ZxidPair
    applied: ZxidPair
    base: ZxidPair
    snapshot: ZxidPair
    digest: str
    joined: bool
    voters: list[Number]
    pid: Number
    uptime_ms: Number
    boot: str
    sessions: Number
    dropped: dict[str, Number]
    game: dict[str, int | bool | str | None]
    space: str = "ok"
    held: Number | None = None
    """Messages that wait, where this node is held (step mode)."""


ClientReply: TypeAlias = Hint | Done | No | Answers | RangeReply | NodeStatus


class _StatusReply(Struct, array_like=True, frozen=True, tag="node"):
    """A NodeStatus on the wire: a map inside an array, so that one decoder reads every reply."""

    rid: Number
    status: NodeStatus


class _Publication(Struct, array_like=True, frozen=True, tag="tx"):
    cluster: Name
    node: Number
    committed: Committed


# ---- frames ------------------------------------------------------------------------------------------------------

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_request: Final = msgspec.msgpack.Decoder(ClientRequest).decode
_decode_reply: Final = msgspec.msgpack.Decoder(Hint | Done | No | Answers | RangeReply | _StatusReply).decode
_decode_publication: Final = msgspec.msgpack.Decoder(_Publication).decode
_FAILURES: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


def encode(message: ClientRequest | ClientReply) -> list[bytes]:
    """The frames of a message: one."""
    if isinstance(message, NodeStatus):
        return [VERSION + _encode(_StatusReply(message.rid, message))]
    return [VERSION + _encode(message)]


def decode_request(frames: list[bytes]) -> ClientRequest:
    """What a client asks. Raises WireError, and nothing else; the operations inside are not looked at."""
    body = _body(frames, REQUEST_BYTES_MAX)
    try:
        request: ClientRequest = _decode_request(body)
    except _FAILURES as error:
        raise WireError("body", str(error)) from None
    return request


def decode_reply(frames: list[bytes]) -> ClientReply:
    """What a node answers. Raises WireError, and nothing else; results and answers inside are not looked at."""
    body = _body(frames, FRAME_BYTES_MAX)
    try:
        reply = _decode_reply(body)
    except _FAILURES as error:
        raise WireError("body", str(error)) from None
    return reply.status if isinstance(reply, _StatusReply) else reply


def encode_committed(cluster: str, node: int, committed: Committed) -> list[bytes]:
    """Topic and message, for PUB."""
    return [TOPIC_COMMITTED, VERSION + _encode(_Publication(cluster, node, committed))]


def decode_committed(frames: list[bytes], cluster: str) -> tuple[int, Committed]:
    """The node that published, and the batch. Raises WireError, and nothing else."""
    if not frames or frames[0] != TOPIC_COMMITTED:
        raise WireError("place")
    body = _body(frames[1:], FRAME_BYTES_MAX)
    try:
        publication = _decode_publication(body)
    except _FAILURES as error:
        raise WireError("body", str(error)) from None
    if publication.cluster != cluster:
        raise WireError("cluster", publication.cluster)
    return publication.node, publication.committed


def _body(frames: list[bytes], bytes_max: int) -> memoryview:
    if len(frames) != 1:
        raise WireError("parts", f"{len(frames)} frames")
    frame = frames[0]
    if not frame.startswith(VERSION):
        raise WireError("version", repr(frame[: len(VERSION)]))
    if len(frame) > bytes_max:
        raise WireError("size", f"{len(frame)} bytes")
    return memoryview(frame)[len(VERSION) :]
