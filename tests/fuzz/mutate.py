"""Frames that are nearly right: every kind of message a socket may hear, and what chance makes of it.

A mutation is of bytes (cut, spliced, flipped, repeated) or of the MessagePack value inside: another number, type,
length or depth in one place, well encoded. What has a checksum is given a right one half of the time, so that the
mutation is looked at and not just the sum. A seed repeats a run.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any, Final

import msgspec
from crc32c import crc32c
from msgspec import Raw

from zabzmq.core.history import Admit, Batch, EpochEnd
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    HbEcho,
    Heartbeat,
    Joined,
    LeaderInfo,
    Message,
    Nack,
    NewLeader,
    Notification,
    Phase,
    Propose,
    ReadIndex,
    ReadIndexReply,
    Refusal,
    Snap,
    SnapChunk,
    State,
    SyncProgress,
    SyncTxns,
    Trunc,
    UpToDate,
    Vote,
)
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import Cas, Delete, GameQuery, Guess, KvQuery, Put, Register, Target
from zabzmq.machine.operations import encode as encode_operations
from zabzmq.net.client_wire import (
    Answers,
    ClientReply,
    ClientRequest,
    Committed,
    Done,
    Hello,
    Hint,
    No,
    Range,
    RangeReply,
    ReadMany,
    RegisterSession,
    StatusQuery,
    Submit,
    encode,
    encode_committed,
)
from zabzmq.net.wire import HEADER_BYTES, LINK, MESH, PUB, Envelope, Wire

FAR: Final = Zxid(1 << 63, 1 << 40)
NUMBERS: Final = (0, 1, 2, 255, 1 << 16, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -(1 << 63))
NUMBERS_MAX: Final = (1 << 64) - 1
VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    b"",
    "",
    [],
    {},
    0.0,
    float("nan"),
    -1,
    1 << 63,
    (1 << 64) - 1,
    "\x00" * 70,
    [[[]]],
)


VOTER: Final = ProcessId(PeerId(1), 7, 7)
CLUSTER: Final = "tested"


def messages() -> list[Message]:
    """Of every kind at least one."""
    batch = Batch(Zxid(1, 2), Zxid(1, 1), 2, 5, None, b"data")
    admit = Batch(Zxid(1, 4), Zxid(1, 3), 1, 5, Admit(PeerId(2), 9), b"")
    last = Zxid(1, 2)
    return [
        Notification(State.LOOKING, 1, Vote(VOTER, 1, last), None, 1, True, 3, 9),
        Notification(State.LEADING, 1, Vote(VOTER, 1, FAR), VOTER, 1, True, 3, 9),
        Heartbeat(State.LEADING, Phase.BROADCAST, 1, VOTER, 1, last, last, Zxid(1, 1), 77),
        Commit(1, last),
        FollowerInfo(1, 1, True, 3, 4),
        LeaderInfo(2, 4),
        AckEpoch(2, 1, last, ZERO, (EpochEnd(1, 2),), True),
        Nack(Refusal.EPOCH_TOO_OLD, 3),
        Trunc(2, Zxid(1, 1)),
        Snap(2, last, (EpochEnd(1, 2),), ((Zxid(1, 1), Admit(PeerId(2), 9)),), 100),
        SnapChunk(2, 0, b"chunk"),
        SyncTxns(2, (batch, admit)),
        SyncProgress(2, last, 0),
        NewLeader(2, last),
        AckNewLeader(2, last),
        UpToDate(2, last),
        Joined(2),
        Propose(2, (batch,), Zxid(1, 1)),
        Ack(2, last),
        HbEcho(2, 5, True),
        ReadIndex(2, 5),
        ReadIndexReply(2, 5, last),
    ]


def place_of(message: Message) -> int:
    return MESH if isinstance(message, Notification) else PUB if isinstance(message, Commit | Heartbeat) else LINK


def peer_frames(source: ProcessId = VOTER, to: int = 0, to_incarnation: int = 0) -> list[bytes]:
    """What `source` may say to node `to`, well made."""
    wire = Wire(CLUSTER)
    return [
        wire.encode(
            Envelope(source, PeerId(to), to_incarnation, LinkId(source, 1) if place_of(each) == LINK else None, 1), each
        )
        for each in messages()
    ]


def client_frames() -> list[bytes]:
    operations = Raw(encode_operations([Put(b"k", b"v"), Cas(b"k", None, b"w"), Delete(b"k"), Target(5), Guess(7)]))
    registers = Raw(encode_operations([Register("somebody")]))
    queries = Raw(encode_operations([GameQuery(), KvQuery(b"k")]))
    requests: list[ClientRequest] = [
        Hello(1, CLUSTER),
        RegisterSession(2, "fuzzer", 300),
        Submit((1, 2), 1, 0, 300, operations),
        Submit((1, 2), 1, 0, 300, registers),
        ReadMany(5, True, (0, 0), 300, queries),
        ReadMany(6, False, (1, 1), 300, queries),
        Range(7, (0, 0), (0, 0)),
        Range(8, (1, 1), (1, 9)),
        StatusQuery(9),
    ]
    return [encode(each)[0] for each in requests]


def reply_frames() -> list[bytes]:
    raw = Raw(encode_operations([None]))
    committed = Committed((1, 2), (1, 1), 3, 1700, None, b"runs", [b"a"], ["alice"], 7)
    replies: list[ClientReply] = [
        Hint(1, CLUSTER, 0, None, 3, False, {0: "tcp://127.0.0.1:21810"}),
        Done(1, (1, 2), 3, (4, 5), [0, 1, 2], raw),
        No(0, (1, 2), 3, 4, "busy", "the window is full", retry_ms=20),
        Answers(1, 0, (1, 2), True, "", raw),
        RangeReply(1, 0, (1, 4), (1, 1), [committed]),
    ]
    return [encode(each)[0] for each in replies]


def publication() -> bytes:
    committed = Committed((1, 2), (1, 1), 3, 1700, (2, 9), b"", None, ["alice"], 7)
    return encode_committed(CLUSTER, 0, committed)[1]


def http_requests(port: int = 0) -> list[bytes]:
    host = f"Host: 127.0.0.1:{port}\r\n"
    lines = [
        "GET / HTTP/1.1\r\n" + host,
        "GET /api/status HTTP/1.1\r\n" + host + "Accept: application/json\r\n",
        "GET /events?since=c41f.5 HTTP/1.1\r\n" + host + "Last-Event-ID: c41f.7\r\nConnection: close\r\n",
        "GET /metrics HTTP/1.0\r\n" + host,
        "HEAD /api/status HTTP/1.1\r\n" + host + "Origin: http://127.0.0.1\r\n",
        "POST /api/kill HTTP/1.1\r\n" + host + "Authorization: Bearer x\r\nContent-Length: 2\r\n",
        "POST /api/faults HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n",
    ]
    bodies = ["", "", "", "", "", "{}", "2\r\n{}\r\n0\r\n\r\n"]
    return [(head + "\r\n" + body).encode() for head, body in zip(lines, bodies, strict=True)]


# ---- chance ----------------------------------------------------------------------------------------------------------


class Mutator:
    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)

    def raw(self, data: bytes) -> bytes:
        """One to four changes of bytes."""
        dice = self.dice
        for _ in range(dice.choice((1, 1, 2, 4))):
            at = dice.randrange(len(data) + 1)
            to = min(len(data), at + dice.choice((1, 1, 2, 4, 8, 40)))
            match dice.randrange(6):
                case 0:
                    data = data[:at] + data[to:]
                case 1:
                    data = data[:at] + dice.randbytes(to - at) + data[to:]
                case 2:
                    data = (
                        data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :] if data[at:] else data
                    )
                case 3:
                    data = data[:to] + data[at:to] * dice.choice((1, 3, 100)) + data[to:]
                case 4:
                    data = data[:at] + dice.choice((b"\xff", b"\x00", b"\xc1", b"\xdd\xff\xff\xff\xff")) + data[to:]
                case _:
                    data = data[:at]
        return data

    def tree(self, value: Any) -> Any:
        """The same value, but for one place in it."""
        dice = self.dice
        if isinstance(value, list) and value and dice.random() < 0.85:
            at = dice.randrange(len(value))
            match dice.randrange(8):
                case 0:
                    return value[:at] + value[at + 1 :]
                case 1:
                    return value[: at + 1] + value[at:]
                case 2:
                    return value[:at] + [value[at]] * dice.choice((2, 50, 2000))
                case _:
                    return [*value[:at], self.tree(value[at]), *value[at + 1 :]]
        if isinstance(value, int) and not isinstance(value, bool) and dice.random() < 0.7:
            return dice.choice((*NUMBERS, min(value + 1, NUMBERS_MAX), max(0, value - 1)))
        if isinstance(value, bytes) and dice.random() < 0.7:
            inner = self._inside(value)
            return self.raw(value) if inner is None else inner
        return dice.choice(VALUES)

    def _inside(self, value: bytes) -> bytes | None:
        try:
            return msgspec.msgpack.encode(self.tree(msgspec.msgpack.decode(value)))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    def packed(self, data: bytes) -> bytes:
        """MessagePack, mutated as a value three times of four, else as bytes."""
        if self.dice.random() < 0.75:
            found = self._inside(data)
            if found is not None:
                return found
        return self.raw(data)

    def client(self, frame: bytes) -> bytes:
        if self.dice.random() < 0.1:
            return self.raw(frame)
        return frame[:3] + self.packed(frame[3:])

    def peer(self, frame: bytes) -> bytes:
        """Header, body or both; the sum is right two times of three."""
        if self.dice.random() < 0.1:
            return self.raw(frame)
        head, body = frame[: HEADER_BYTES - 4], frame[HEADER_BYTES:]
        if self.dice.random() < 0.7:
            body = self.packed(body)
        if self.dice.random() < 0.3:
            at = self.dice.randrange(len(head))
            head = head[:at] + bytes([self.dice.randrange(256)]) + head[at + 1 :]
        crc = crc32c(head, crc32c(body)) if self.dice.random() < 0.67 else self.dice.getrandbits(32)
        return head + struct.pack(">I", crc) + body
