"""Client messages survive the wire; whatever else arrives is refused with a reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from zabzmq.machine.operations import Cas
from zabzmq.machine.operations import encode as encode_operations
from zabzmq.net import client_wire
from zabzmq.net.client_wire import (
    REQUEST_BYTES_MAX,
    VERSION,
    Answers,
    ClientReply,
    ClientRequest,
    Committed,
    Done,
    Hello,
    Hint,
    No,
    NodeStatus,
    Range,
    RangeReply,
    ReadMany,
    RegisterSession,
    StatusQuery,
    Submit,
    decode_committed,
    decode_reply,
    decode_request,
    encode,
    encode_committed,
)
from zabzmq.net.wire import FRAME_BYTES_MAX, WireError
from zabzmq.server.service import SEQ_MAX

RAW = Raw(msgspec.msgpack.encode([["kv.put", b"k", b"v"], None]))
COMMITTED = Committed((1, 2), (1, 1), 3, 1700, None, b"runs", [b"a", b"b"], ["alice"], 2**64 - 1)
STATUS = NodeStatus(
    rid=4,
    node=2,
    cluster="demo",
    state="LEADING",
    phase="BROADCAST",
    epoch=3,
    accepted_epoch=3,
    leader=2,
    established=True,
    last=(3, 9),
    committed=(3, 9),
    applied=(3, 8),
    base=(0, 0),
    snapshot=(0, 0),
    digest="c0ffee",
    joined=True,
    voters=[0, 1, 2],
    pid=77,
    uptime_ms=1,
    boot="c41f",
    sessions=2,
    dropped={"crc": 1},
    game={"round": 1, "open": True, "target": None, "owner": "bob"},
)
REQUESTS: list[ClientRequest] = [
    Hello(1, "demo"),
    RegisterSession(2**64 - 1, "alice", 300),
    Submit((1, 2), 3, 0, 300, RAW),
    ReadMany(5, True, (0, 0), 300, RAW),
    Range(6, (0, 0), (2, 2**64 - 1)),
    StatusQuery(7),
]
REPLIES: list[ClientReply] = [
    Hint(1, "demo", 0, None, 3, False, {0: "tcp://127.0.0.1:21810"}),
    Done(1, (1, 2), 3, (4, 5), [0, 1, 2], RAW),
    No(0, (1, 2), 3, 4, "busy", "the window is full", retry_ms=20),
    Answers(1, 0, (1, 2), True, "", RAW),
    RangeReply(1, 0, (1, 4), None, [COMMITTED]),
    RangeReply(1, 0, (1, 4), (1, 1), []),
    STATUS,
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
def test_every_request_arrives_as_it_was_sent(request_: ClientRequest) -> None:
    frames = encode(request_)
    decoded = decode_request(frames)
    assert decoded == request_
    assert type(decoded) is type(request_)
    assert encode(decoded) == frames


@pytest.mark.parametrize("reply", REPLIES, ids=lambda message: type(message).__name__)
def test_every_reply_arrives_as_it_was_sent(reply: ClientReply) -> None:
    frames = encode(reply)
    decoded = decode_reply(frames)
    assert decoded == reply
    assert type(decoded) is type(reply)
    assert encode(decoded) == frames


def test_nothing_was_forgotten_above() -> None:
    assert {type(request) for request in REQUESTS} == set(ClientRequest.__args__)
    assert {type(reply) for reply in REPLIES} == set(ClientReply.__args__)


def test_operations_are_handed_on_as_the_very_bytes_the_client_wrote() -> None:
    request = decode_request(encode(Submit((1, 2), 3, 0, 300, RAW)))
    assert isinstance(request, Submit)
    assert bytes(request.ops) == bytes(RAW)


def test_a_status_of_a_later_version_may_say_more() -> None:
    (frame,) = encode(STATUS)
    tag, rid, status = msgspec.msgpack.decode(frame[len(VERSION) :])
    assert decode_reply([VERSION + msgspec.msgpack.encode([tag, rid, {**status, "moons": 2}])]) == STATUS


def test_a_committed_batch_reaches_monitors_with_its_publisher() -> None:
    frames = encode_committed("demo", 3, COMMITTED)
    assert frames[0] == b"tx"
    assert decode_committed(frames, "demo") == (3, COMMITTED)


def body(*fields: Any) -> list[bytes]:
    return [VERSION + msgspec.msgpack.encode(fields)]


def reason_of(frames: list[bytes]) -> str:
    with pytest.raises(WireError) as caught:
        decode_request(frames)
    return caught.value.reason


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        pytest.param([], "parts", id="no frame"),
        pytest.param([VERSION, b""], "parts", id="too many"),
        pytest.param([b"ZC9"], "version", id="another version"),
        pytest.param([b""], "version", id="empty"),
        pytest.param([VERSION], "body", id="empty body"),
        pytest.param([VERSION + bytes(REQUEST_BYTES_MAX)], "size", id="huge"),
        pytest.param([VERSION + b"\x91" * 100_000], "body", id="deep"),
        pytest.param([encode(Hello(1, "demo"))[0] + b"\0"], "body", id="trailing byte"),
        pytest.param([encode(Hello(1, "demo"))[0][:-1]], "body", id="cut"),
        pytest.param(encode(STATUS), "body", id="a reply"),
        pytest.param(body("shout", 1), "body", id="unknown type"),
        pytest.param(body("hello", -1, "demo"), "body", id="negative rid"),
        pytest.param(body("hello", 1, "x" * 65), "body", id="long cluster name"),
        pytest.param([VERSION + b"\x93\xa5hello\x01\xa2\xff\xfe"], "body", id="text that is not UTF-8"),
        pytest.param(body("register", 1, "", 300), "body", id="empty name"),
        pytest.param(body("register", 1, "al", 10**12), "body", id="a timeout of ages"),
        pytest.param(body("submit", [1, -2], 1, 0, 300, []), "body", id="negative session"),
        pytest.param(body("submit", [1, 2], -1, 0, 300, []), "body", id="negative seq"),
        pytest.param(body("submit", [1, 2], 1, 0, 300), "body", id="no operations"),
        pytest.param(body("read", 1, True, [0, -1], 300, []), "body", id="negative zxid"),
        pytest.param(body("range", 1, [0, 0, 0], [0, 0]), "body", id="a zxid of three"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(frames: list[bytes], reason: str) -> None:
    assert reason_of(frames) == reason


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        pytest.param([], "place", id="no topic"),
        pytest.param([b"hb", VERSION], "place", id="another topic"),
        pytest.param([b"tx"], "parts", id="only a topic"),
        pytest.param([b"tx", b"?"], "version", id="another version"),
        pytest.param([b"tx", VERSION + b"\xc1"], "body", id="no MessagePack"),
        pytest.param(encode_committed("other", 3, COMMITTED), "cluster", id="another cluster"),
    ],
)
def test_bad_publications_are_refused_with_a_reason(frames: list[bytes], reason: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_committed(frames, "demo")
    assert caught.value.reason == reason


def test_a_reply_larger_than_any_frame_is_refused() -> None:
    with pytest.raises(WireError, match="size"):
        decode_reply([VERSION + bytes(FRAME_BYTES_MAX)])


@settings(max_examples=400)
@given(
    message=st.sampled_from([*map(encode, REQUESTS), *map(encode, REPLIES)]),
    at=st.integers(0, 300),
    length=st.integers(0, 40),
    junk=st.binary(max_size=12),
)
def test_mutated_frames_are_a_message_or_refused(message: list[bytes], at: int, length: int, junk: bytes) -> None:
    body = message[0][len(VERSION) :]
    frames = [VERSION + body[:at] + junk + body[at + length :]]
    for decode in (decode_request, decode_reply):
        try:
            decode(frames)
        except WireError as error:
            reason = error.reason
        else:
            reason = "body"
        assert reason == "body"


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_random_frames_are_refused(frames: list[bytes]) -> None:
    for decode in (decode_request, decode_reply):
        with pytest.raises(WireError):
            decode(frames)
    with pytest.raises(WireError):
        decode_committed([client_wire.TOPIC_COMMITTED, *frames], "demo")


def test_the_largest_operation_fits_into_a_request() -> None:
    """C7: what is legal is never dropped in silence."""
    largest = Cas(bytes(1024), bytes(1 << 20), bytes(1 << 20))
    request = Submit((SEQ_MAX, SEQ_MAX), SEQ_MAX, SEQ_MAX, 24 * 3600 * 1000, Raw(encode_operations([largest])))
    assert decode_request(encode(request)) == request
