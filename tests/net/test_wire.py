"""Peer messages survive the wire; everything else is refused with a reason, and by nothing but a WireError."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from zabzmq.core.history import Admit, Batch, EpochEnd
from zabzmq.core.messages import (
    WIRE_NAMES,
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    Heartbeat,
    LinkMessage,
    Message,
    Notification,
    Phase,
    Propose,
    SnapChunk,
    State,
    SyncTxns,
    UpToDate,
)
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.net import wire
from zabzmq.net.wire import LINK, MESH, PUB, Closed, Envelope, Wire, WireError

ME = ProcessId(PeerId(1), 2**64 - 1, 1_700_000_000_000_000)
HIM = ProcessId(PeerId(0), 7, 3)
A_LINK = LinkId(ME, 9)
ON_LINK = Envelope(ME, PeerId(0), 3, A_LINK, 1)
UNLINKED = Envelope(ME, PeerId(0), 0, None, 1)
NUMBERS = st.integers(0, 2**64 - 1)
TYPES: list[Any] = [*get_args(Message), Closed]


def batches() -> st.SearchStrategy[Batch]:
    zxids = st.builds(Zxid, NUMBERS, st.integers(1, 2**63))
    plain = st.builds(
        Batch, zxids, values(Zxid), st.integers(1, wire.BATCH_COUNT_MAX), NUMBERS, st.none(), st.binary(max_size=99)
    )
    admits = st.builds(Batch, zxids, values(Zxid), st.just(1), NUMBERS, values(Admit), st.just(b""))
    return plain | admits


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, of any message: new messages need nothing here."""
    hint = getattr(hint, "__supertype__", hint)
    if hint is int:
        return NUMBERS
    if hint is bool:
        return st.booleans()
    if hint is bytes:
        return st.binary(max_size=99)
    if hint is Batch:
        return batches()
    if get_origin(hint) in (Union, UnionType):
        return st.one_of([st.none() if arg is NoneType else values(arg) for arg in get_args(hint)])
    if get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,):
        return st.lists(values(get_args(hint)[0]), max_size=4).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(values, get_args(hint)))
    if issubclass(hint, IntEnum):
        return st.sampled_from(list(hint))
    if hint is ProcessId:
        return st.builds(ProcessId, st.integers(0, 2**32 - 1), NUMBERS, NUMBERS)
    return st.builds(hint, *map(values, get_type_hints(hint).values()))


def places_of(type_: Any) -> list[int]:
    if type_ is Notification:
        return [MESH]
    if type_ is Heartbeat:
        return [LINK, PUB]
    return [PUB] if type_ is Commit else [LINK]


def envelope_for(place: int) -> Envelope:
    return ON_LINK if place == LINK else UNLINKED


def refused(frames: list[bytes], places: int = LINK | MESH) -> str:
    with pytest.raises(WireError) as caught:
        Wire("demo").decode(frames, places)
    assert caught.value.reason in wire.REASONS
    return caught.value.reason


def sent(envelope: Envelope, message: Message | Closed, cluster: str = "demo") -> list[bytes]:
    return [Wire(cluster).encode(envelope, message)]


def parts(envelope: Envelope, message: Message | Closed) -> tuple[bytes, bytes]:
    """Header and body."""
    (frame,) = sent(envelope, message)
    return frame[: wire.HEADER_BYTES], frame[wire.HEADER_BYTES :]


def forged(header: bytes, body: bytes) -> list[bytes]:
    """A frame whose sum is right, whatever it says."""
    return [header[:-4] + struct.pack(">I", crc32c(header[:-4], crc32c(body))) + body]


def with_body(value: Any, message: Message) -> list[bytes]:
    """A well-made frame of this message's type around another body."""
    envelope = envelope_for(places_of(type(message))[0])
    header, _ = parts(envelope, message)
    return forged(header, msgspec.msgpack.encode(value))


def test_every_message_has_a_wire_name() -> None:
    assert set(WIRE_NAMES) == set(get_args(Message))


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.__name__)
@settings(max_examples=40)
@given(data=st.data())
def test_every_message_arrives_as_it_was_sent(type_: Any, data: st.DataObject) -> None:
    message = data.draw(values(type_))
    for place in places_of(type_):
        source, link = data.draw(values(ProcessId)), data.draw(st.builds(LinkId, values(ProcessId), NUMBERS))
        envelope = Envelope(
            source,
            data.draw(st.integers(0, 2**32 - 1).map(PeerId)),
            data.draw(NUMBERS),
            link if place == LINK else None,
            data.draw(NUMBERS),
        )
        decoded = Wire("demo").decode(sent(envelope, message), place)
        assert decoded == (envelope, message)
        assert type(decoded[1]) is type_


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.__name__)
@settings(max_examples=5)
@given(data=st.data())
def test_a_message_is_taken_in_its_own_places_only(type_: Any, data: st.DataObject) -> None:
    message = data.draw(values(type_))
    for place in (MESH, LINK, PUB):
        frames = sent(envelope_for(place), message)
        if place in places_of(type_):
            Wire("demo").decode(frames, place)
        else:
            assert refused(frames, place) == "place"


def test_a_link_message_without_a_link_is_refused() -> None:
    assert refused(sent(UNLINKED, Ack(1, ZERO))) == "place"


def test_a_vote_with_a_link_is_refused() -> None:
    vote = Notification(State.LOOKING, 1, None, None, 0, True, 0, 1)
    assert refused(sent(ON_LINK, vote)) == "place"


def test_one_message_to_four_links_is_encoded_once() -> None:
    sender, receiver = Wire("demo"), Wire("demo")
    message = Propose(1, (Batch(Zxid(1, 1), ZERO, 2, 0, None, b"x" * 9000),), ZERO)
    encoded: list[Any] = []
    encode = sender._encode

    def encode_and_note(value: Any) -> bytes:
        encoded.append(value)
        return encode(value)

    sender._encode = encode_and_note
    frames = [sender.encode(Envelope(HIM, PeerId(i), 0, LinkId(ME, i), 5), message) for i in range(4)]
    assert encoded == [message]
    assert len(set(frames)) == 4
    for i, frame in enumerate(frames):
        envelope, decoded = receiver.decode([frame], LINK)
        assert decoded == message
        assert envelope.to_peer == i


def test_an_equal_message_made_anew_is_not_mistaken_for_the_last_one() -> None:
    sender = Wire("demo")
    for counter in range(100):  # short-lived objects share addresses
        frame = sender.encode(ON_LINK, Ack(1, Zxid(1, counter)))
        assert Wire("demo").decode([frame], LINK)[1] == Ack(1, Zxid(1, counter))


def test_messages_of_two_types_with_equal_fields_are_told_apart() -> None:
    """As tuples they are equal."""
    sender = Wire("demo")
    for type_ in (AckNewLeader, UpToDate, Ack, AckNewLeader):
        decoded = Wire("demo").decode([sender.encode(ON_LINK, type_(1, Zxid(1, 1)))], LINK)[1]
        assert type(decoded) is type_


ACK = Ack(4, Zxid(4, 2))
GOOD = sent(ON_LINK, ACK)[0]
HEADER, BODY = parts(ON_LINK, ACK)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        pytest.param([], "parts", id="no frame"),
        pytest.param([HEADER, BODY], "parts", id="two frames"),
        pytest.param([GOOD, b""], "parts", id="a frame too many"),
        pytest.param([b""], "short", id="empty"),
        pytest.param([HEADER[:-1]], "short", id="header cut"),
        pytest.param([b"XX" + GOOD[2:]], "magic", id="another protocol"),
        pytest.param(forged(HEADER[:2] + b"\x02" + HEADER[3:], BODY), "version", id="a later version"),
        pytest.param(forged(HEADER[:3] + b"\xff" + HEADER[4:], BODY), "type", id="unknown type"),
        pytest.param(forged(HEADER[:3] + b"\0" + HEADER[4:], BODY), "type", id="type zero"),
        pytest.param([GOOD[:-1]], "crc", id="body cut"),
        pytest.param([GOOD + b"\0"], "crc", id="body too long"),
        pytest.param([HEADER + bytes(wire.FRAME_BYTES_MAX)], "size", id="huge body"),
        pytest.param(forged(HEADER, BODY[:-1]), "body", id="body cut, sum right"),
        pytest.param(forged(HEADER, BODY + b"\0"), "body", id="trailing byte, sum right"),
        pytest.param(forged(HEADER, b""), "body", id="empty body, sum right"),
        pytest.param(sent(ON_LINK, ACK, "other"), "cluster", id="another cluster"),
        pytest.param(forged(HEADER[:-28] + bytes(8) + HEADER[-20:], BODY), "epoch", id="two epochs"),
        pytest.param(with_body([4, [4, 2], 1], ACK), "body", id="a field too many"),
        pytest.param(with_body([4], ACK), "body", id="a field too few"),
        pytest.param(with_body({"epoch": 4}, ACK), "body", id="a map"),
        pytest.param(with_body([4, ["4", 2]], ACK), "body", id="text for a number"),
        pytest.param(with_body([4, [4.0, 2]], ACK), "body", id="a float"),
        pytest.param(with_body([4, [4, -2]], ACK), "range", id="negative counter"),
        pytest.param(with_body([-4, [4, 2]], ACK), "range", id="negative epoch"),
    ],
)
def test_bad_frames_are_refused_with_a_reason(frames: list[bytes], reason: str) -> None:
    assert refused(frames) == reason


def test_every_single_bit_flipped_is_noticed() -> None:
    for bit in range(8 * len(GOOD)):
        changed = bytearray(GOOD)
        changed[bit // 8] ^= 1 << bit % 8
        refused([bytes(changed)])


HEARTBEAT = Heartbeat(State.LEADING, Phase.BROADCAST, 2, None, 1, ZERO, ZERO, ZERO, None)
BATCH = Batch(Zxid(1, 1), ZERO, 2, 5, None, b"runs")
BEAT_BODY: list[Any] = [2, 4, 2, None, 1, [0, 0], [0, 0], [0, 0], None]
BATCH_BODY: list[Any] = [[1, 1], [0, 0], 2, 5, None, b"runs"]


def replaced(body: list[Any], place: int, value: Any) -> list[Any]:
    return [*body[:place], value, *body[place + 1 :]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(replaced(BEAT_BODY, 0, 9), "body", id="no such state"),
        pytest.param(replaced(BEAT_BODY, 0, -1), "body", id="a negative state"),
        pytest.param(replaced(BEAT_BODY, 3, [0, 1]), "body", id="half a leader"),
        pytest.param(replaced(BEAT_BODY, 3, [0, 1, -1]), "range", id="a leader of negative incarnation"),
        pytest.param(replaced(BEAT_BODY, 4, -1), "range", id="a negative hb_seq"),
        pytest.param(replaced(BEAT_BODY, 8, -1), "range", id="a negative digest"),
    ],
)
def test_a_heartbeat_that_says_nonsense_is_refused(body: list[Any], reason: str) -> None:
    assert refused(with_body(body, HEARTBEAT)) == reason


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(replaced(BATCH_BODY, 2, 0), id="of none"),
        pytest.param(replaced(BATCH_BODY, 2, wire.BATCH_COUNT_MAX + 1), id="of too many"),
        pytest.param(replaced(BATCH_BODY, 0, [1, 0]), id="that starts at counter 0"),
        pytest.param(replaced(BATCH_BODY, 0, [1, 2**64 - 1]), id="that runs over the last counter"),
        pytest.param(replaced(BATCH_BODY, 1, [-1, 0]), id="after a negative epoch"),
        pytest.param(replaced(BATCH_BODY, 3, -1), id="of negative time"),
        pytest.param(replaced(BATCH_BODY, 4, [1, 1]), id="that is an ADMIT and data"),
        pytest.param([[1, 1], [0, 0], 1, 5, [1, -1], b""], id="that admits a negative life"),
    ],
)
@pytest.mark.parametrize("message", [Propose(1, (BATCH,), ZERO), SyncTxns(1, (BATCH,))], ids=["PROPOSE", "SYNC_TXNS"])
def test_a_batch_out_of_bounds_is_refused(message: Message, batch: list[Any]) -> None:
    body: list[Any] = [1, [BATCH_BODY, batch]]
    assert refused(with_body(body + [[0, 0]] * (type(message) is Propose), message)) == "range"


def test_a_snapshot_chunk_is_at_most_a_mebibyte() -> None:
    largest = SnapChunk(1, 0, bytes(wire.CHUNK_BYTES_MAX))
    assert Wire("demo").decode(sent(ON_LINK, largest), LINK)[1] == largest
    larger = SnapChunk(1, 0, bytes(wire.CHUNK_BYTES_MAX + 1))
    assert refused(sent(ON_LINK, larger)) == "range"


def test_what_no_receiver_would_take_is_not_encoded() -> None:
    too_large = Propose(1, (Batch(Zxid(1, 1), ZERO, 1, 0, None, bytes(wire.FRAME_BYTES_MAX - 99)),), ZERO)
    with pytest.raises(WireError, match="size"):
        Wire("demo").encode(ON_LINK, too_large)


def test_a_negative_number_is_refused_in_every_field_of_every_message() -> None:
    tried = 0
    for type_ in get_args(Message):
        message = example(type_)
        for changed in negated(msgspec.msgpack.decode(msgspec.msgpack.encode(message))):
            envelope = envelope_for(places_of(type_)[0])
            header, _ = parts(envelope, message)
            assert refused(forged(header, msgspec.msgpack.encode(changed)), places_of(type_)[0]) in ("range", "body")
            tried += 1
    assert tried > 80


def example(hint: Any) -> Any:
    """A value with nothing left out, so that every number in it can be spoilt."""
    hint = getattr(hint, "__supertype__", hint)
    if hint is Batch:
        return Batch(Zxid(1, 1), ZERO, 1, 5, Admit(PeerId(1), 7), b"")
    if hint in (int, bool, bytes):
        return hint()
    if get_origin(hint) in (Union, UnionType):
        return example(next(arg for arg in get_args(hint) if arg is not NoneType))
    if get_origin(hint) is tuple:
        return tuple(example(arg) for arg in get_args(hint) if arg is not Ellipsis)
    if issubclass(hint, IntEnum):
        return hint(0)
    return hint(*map(example, get_type_hints(hint).values()))


def negated(value: Any) -> Iterator[Any]:
    """This value once for each number in it, with that number made negative."""
    if isinstance(value, bool) or value is None or isinstance(value, bytes):
        return
    if isinstance(value, int):
        yield -1
        yield -(2**63)
        return
    for place, inner in enumerate(value):
        for changed in negated(inner):
            yield [*value[:place], changed, *value[place + 1 :]]


@settings(max_examples=300)
@given(frames=st.lists(st.binary(max_size=200), max_size=4), places=st.sampled_from([MESH | LINK, LINK, PUB]))
def test_random_frames_are_refused(frames: list[bytes], places: int) -> None:
    refused(frames, places)


@settings(max_examples=400)
@given(
    type_=st.sampled_from(get_args(Message)),
    data=st.data(),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 40), st.binary(max_size=8)), min_size=1, max_size=3),
)
def test_a_mutated_body_under_a_right_sum_is_a_message_or_refused(
    type_: Any, data: st.DataObject, cuts: list[tuple[int, int, bytes]]
) -> None:
    place = places_of(type_)[0]
    header, body = parts(envelope_for(place), data.draw(values(type_)))
    for at, length, junk in cuts:
        body = body[:at] + junk + body[at + length :]
    try:
        _, message = Wire("demo").decode(forged(header, body), place)
    except WireError:
        return
    assert type(message) is type_
    Wire("demo").encode(envelope_for(place), message)


@settings(max_examples=300)
@given(
    code=st.integers(0, 255),
    middle=st.binary(min_size=wire.HEADER_BYTES - 16, max_size=wire.HEADER_BYTES - 16),
    body=st.binary(max_size=40),
)
def test_a_random_header_of_our_cluster_under_a_right_sum_is_refused(code: int, middle: bytes, body: bytes) -> None:
    refused(forged(HEADER[:3] + bytes([code]) + HEADER[4:12] + middle + bytes(4), body))


def test_a_deeply_nested_body_is_refused() -> None:
    header, _ = parts(ON_LINK, ACK)
    assert refused(forged(header, b"\x91" * 100_000)) == "body"


def test_the_memory_of_routes_is_bounded() -> None:
    receiver = Wire("demo")
    for number in range(5000):
        receiver.decode(sent(Envelope(ME, PeerId(0), 3, LinkId(ME, number), 1), ACK), LINK)
    assert len(receiver._routes) <= wire._ROUTES_KEPT


def test_the_longest_history_of_epochs_fits() -> None:
    ends = tuple(EpochEnd(epoch, 2**40) for epoch in range(100_000))
    answer = AckEpoch(1, 1, ZERO, ZERO, ends, True)
    assert Wire("demo").decode(sent(ON_LINK, answer), LINK)[1] == answer


def test_link_messages_are_those_that_travel_on_links() -> None:
    for type_ in get_args(LinkMessage):
        assert LINK in places_of(type_)
    assert FollowerInfo in get_args(LinkMessage)
