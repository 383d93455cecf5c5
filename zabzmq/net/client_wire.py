"""The client protocol (PROTOCOL 9): what travels between a client's DEALER and a node's client ROUTER. Pure.

One message is two frames, `VERSION` and a MessagePack array that starts with its tag. `rid` is the client's own number for matching
answers. Operations and results of a message stay encoded (`Raw`) until somebody needs them: a Submit carries
every operation that waited together, a Done every result.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct

from zabzmq.machine.operations import Name, Sequence, SessionId

VERSION = b"ZC1"
ZxidPair: TypeAlias = tuple[int, int]


# ---- requests ----------------------------------------------------------------------------------------------------


class Hello(Struct, array_like=True, frozen=True, tag="hello"):
    """WHOIS: who leads? Answered by any node with a Hint."""

    rid: int
    cluster: str


class RegisterSession(Struct, array_like=True, frozen=True, tag="register"):
    """Make a session. Answered with a Done whose one result is Registered, or a No."""

    rid: int
    name: Name
    timeout_ms: int


class Submit(Struct, array_like=True, frozen=True, tag="submit"):
    """Operations `seq`, `seq + 1`, ... of a session; `ops` is a MessagePack array of Operation.

    `acked`: every result below this seq has arrived and need not be kept (C3). Answered by Done and No messages
    that name session and seq; together they cover every operation.
    """

    session: SessionId
    seq: Sequence
    acked: Sequence
    timeout_ms: int
    ops: Raw


class ReadMany(Struct, array_like=True, frozen=True, tag="read"):
    """Queries (a MessagePack array of Query) answered together. `linear` (C5), else local (C6): any applied state
    of at least `min_zxid`."""

    rid: int
    linear: bool
    min_zxid: ZxidPair
    timeout_ms: int
    queries: Raw


class Range(Struct, array_like=True, frozen=True, tag="range"):
    """Committed transactions of `(after, upto]`, for monitors; `upto` (0, 0) means all that is applied."""

    rid: int
    after: ZxidPair
    upto: ZxidPair


class StatusQuery(Struct, array_like=True, frozen=True, tag="status"):
    rid: int


ClientRequest: TypeAlias = Hello | RegisterSession | Submit | ReadMany | Range | StatusQuery


# ---- replies -----------------------------------------------------------------------------------------------------


class Hint(Struct, array_like=True, frozen=True, tag="hint"):
    """What this node knows of the leader. `established` only from the established leader itself. `endpoints`: the
    client address of every voter by id, as this node is configured. `leader` None: NO_LEADER, ask again later."""

    rid: int
    cluster: str
    node: int
    leader: int | None
    epoch: int
    established: bool
    endpoints: dict[int, str]


class Done(Struct, array_like=True, frozen=True, tag="done"):
    """OK: operations `seq`, `seq + 1`, ... were applied at `zxid` and its successors; `results` is a MessagePack
    array of Result. `acks`: voters known to hold it on disk. `rid` answers a RegisterSession, else 0.
    `zxid` is (0, 0) when a repeated operation's place is no longer known (its results are Gone)."""

    rid: int
    session: SessionId
    seq: int
    zxid: ZxidPair
    acks: list[int]
    results: Raw


class No(Struct, array_like=True, frozen=True, tag="no"):
    """Anything else. `why` is one of WHY; `seq` the first operation it speaks of, `count` how many.

    not_leader, busy, not_executed, invalid: surely not proposed by this attempt (C4). unknown: may yet commit.
    expired_client, seq_gap (`expected`: the seq this leader wants next): see C3, C4.
    """

    rid: int
    session: SessionId
    seq: int
    count: int
    why: str
    text: str
    leader: int | None = None
    expected: int | None = None
    retry_ms: int | None = None


WHY = frozenset(
    {"not_leader", "busy", "not_executed", "unknown", "invalid", "expired_client", "seq_gap", "no_leader"}
)


class Answers(Struct, array_like=True, frozen=True, tag="answers"):
    """`answers` (a MessagePack array of Answer) are of the state at `zxid`. `stale` says in words why a local read may be
    old beyond the usual ("node 3 is not in BROADCAST"), else ""."""

    rid: int
    node: int
    zxid: ZxidPair
    linear: bool
    stale: str
    answers: Raw


class Committed(Struct, array_like=True, frozen=True):
    """One committed batch: `data` is its runs, `results` one MessagePack array of Result for each run.
    `results` is None when they are no longer kept."""

    first: ZxidPair
    prev: ZxidPair
    count: int
    time_ms: int
    admit: tuple[int, int] | None
    data: bytes
    results: list[bytes] | None
    names: list[str]
    digest: int


class RangeReply(Struct, array_like=True, frozen=True, tag="committed"):
    """At most about 1 MiB of batches from `after` on. `applied`: how far this node is. `purged`: not None when the
    batches just after `after` are gone; the oldest left follow this zxid (PURGED)."""

    rid: int
    node: int
    applied: ZxidPair
    purged: ZxidPair | None
    batches: list[Committed]


class NodeStatus(Struct, tag="node", kw_only=True):
    """One node as it sees itself; a map, so that later versions may add to it."""

    rid: int
    v: int = 1
    node: int
    cluster: str
    state: str
    phase: str
    detail: str = ""
    epoch: int
    accepted_epoch: int
    leader: int | None
    established: bool
    last: ZxidPair
    committed: ZxidPair
    applied: ZxidPair
    base: ZxidPair
    snapshot: ZxidPair
    digest: str
    joined: bool
    voters: list[int]
    pid: int
    uptime_ms: int
    boot: str
    sessions: int
    dropped: dict[str, int]
    game: dict[str, int | bool | str | None]
    space: str = "ok"


ClientReply: TypeAlias = Hint | Done | No | Answers | RangeReply | NodeStatus

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(ClientRequest)
_replies = msgspec.msgpack.Decoder(Hint | Done | No | Answers | RangeReply)
