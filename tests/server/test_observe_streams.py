"""Event streams: from a place on, without a hole or with a word about it, at the reader's pace or not at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.observed import BOOT, PATIENCE_S, SHORT, Endpoint
from zabzmq.server.observe_feed import Behind, Feed
from zabzmq.server.observe_streams import STREAMS_MAX


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(tmp_path, ring_bytes=20_000) as endpoint:
        yield endpoint
        assert endpoint.warnings == []


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Endpoint]:
    """One that cuts off who does not read for 300 ms."""
    with Endpoint(tmp_path, limits=SHORT, ring_bytes=20_000) as endpoint:
        yield endpoint
        assert endpoint.warnings == []


def test_a_stream_begins_with_a_sign_of_life_and_goes_on_with_what_happens(node: Endpoint) -> None:
    node.publish(5)
    with node.stream() as stream:
        assert b"text/event-stream" in stream.head
        assert b"x-accel-buffering: no" in stream.head.lower()
        beat = stream.next()
        assert beat is not None
        assert (beat.name, beat.data) == ("beat", {"seq": 5, "t": 12.481})
        node.publish(2)
        events = [stream.until(""), stream.until("")]
        assert [(event.id, event.data["seq"]) for event in events] == [(f"{BOOT}:6", 6), (f"{BOOT}:7", 7)]


def test_a_stream_beats_while_nothing_happens_and_while_much_does(node: Endpoint) -> None:
    with node.stream() as stream:
        stream.until("beat")
        stream.until("beat")
        node.publish(50)
        assert stream.until("beat").data["seq"] == 50


@pytest.mark.parametrize("how", ["query", "header"])
def test_a_reader_goes_on_where_it_was(node: Endpoint, how: str) -> None:
    for _ in range(4):
        node.publish(5)
    if how == "query":
        stream = node.stream(f"?since={BOOT}:7")
    else:
        stream = node.stream(f" HTTP/1.1\r\nLast-Event-ID: {BOOT}:7\r\nX: ")
    with stream:
        assert [stream.until("").data["seq"] for _ in range(13)] == list(range(8, 21))


def test_who_heard_everything_gets_only_what_is_new(node: Endpoint) -> None:
    node.publish(5)
    with node.stream(f"?since={BOOT}:5") as stream:
        stream.until("beat")
        node.publish(1)
        assert stream.until("").data["seq"] == 6


@pytest.mark.parametrize("since", ["0000:5", f"{BOOT}:0", f"{BOOT}:99999"])
def test_what_is_missing_is_said(node: Endpoint, since: str) -> None:
    for _ in range(100):
        node.publish(10, size=20)
    oldest = node.feed.oldest
    assert oldest > 2
    with node.stream(f"?since={since}") as stream:
        gap = stream.until("gap")
        assert gap.data == {"boot": BOOT, "since": since, "oldest": oldest}
        assert stream.until("").data["seq"] == oldest


def test_a_reader_that_came_in_a_rush_that_nobody_watched_hears_of_the_gap(node: Endpoint) -> None:
    node.publish(3)
    with node.stream() as stream:
        stream.until("beat")
        node.feed.publish(104, 2, lines(104, 2))
        assert stream.until("gap").data == {"boot": BOOT, "since": f"{BOOT}:3", "oldest": 104}
        assert [stream.until("").data["seq"] for _ in range(2)] == [104, 105]
    with node.stream(f"?since={BOOT}:2") as stream:
        assert stream.until("gap").data["oldest"] == 104
        assert stream.until("").data["seq"] == 104
    assert node.ask("GET", "/state").json["observers_dropped"] == 0


def test_the_oldest_of_too_many_streams_ends_with_a_word(node: Endpoint) -> None:
    streams = [node.stream() for _ in range(STREAMS_MAX)]
    for stream in streams:
        stream.until("beat")
    with node.stream() as newest:
        newest.until("beat")
        assert streams[0].until("bye").data["why"] == "many"
        assert streams[0].next() is None
        node.publish(1)
        for stream in [*streams[1:], newest]:
            assert stream.until("").data["seq"] == 1
    for stream in streams:
        stream.__exit__()


def test_a_node_that_stops_says_so(tmp_path: Path) -> None:
    with Endpoint(tmp_path) as node:
        stream = node.stream()
        stream.until("beat")
    with stream:
        assert stream.until("bye").data["why"] == "stop"
        assert stream.next() is None


def test_a_reader_that_does_not_read_is_cut_off_and_the_others_do_not_notice(hasty: Endpoint) -> None:
    node = hasty
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.settimeout(PATIENCE_S)
    slow.connect(("127.0.0.1", node.port))
    slow.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\n\r\n".encode())
    with slow, node.stream() as good:
        good.until("beat")
        assert slow.recv(1) == b"H"
        seen = 0
        while node.ask("GET", "/state").json["observers_dropped"] == 0:
            node.publish(5, size=100)
            for _ in range(5):
                seen += 1
                assert good.until("").data["seq"] == seen
        assert node.ask("GET", "/state").json["observers"] == 1


def test_nobody_who_watches_means_no_work(tmp_path: Path) -> None:
    with Endpoint(tmp_path) as node:
        assert node.feed.on_news is None
        with node.stream() as stream:
            stream.until("beat")
            assert node.observe.watchers == 1
            assert node.feed.on_news is not None
        node.publish(1)
        while node.observe.watchers:
            node.publish(1)
            node.ask("GET", "/")
        assert node.feed.on_news is None


# ---- the ring


def lines(first: int, count: int) -> bytes:
    return b"".join(b'{"seq":%d}\n' % seq for seq in range(first, first + count))


def test_the_ring_is_bounded_and_keeps_the_newest() -> None:
    feed = Feed(BOOT, 3000)
    for block in range(100):
        feed.publish(block * 10 + 1, 10, lines(block * 10 + 1, 10))
    assert feed.seq == 1000
    assert 900 < feed.oldest < 1000
    with pytest.raises(Behind):
        feed.after(10, 1000)
    assert feed.after(998, 1000) == (
        1000,
        b'id: c41f:999\ndata: {"seq":999}\n\nid: c41f:1000\ndata: {"seq":1000}\n\n',
    )
    assert feed.after(1000, 1000) == (1000, b"")


def test_a_piece_is_bounded_and_the_next_follows_it() -> None:
    feed = Feed(BOOT)
    for block in range(100):
        feed.publish(block * 10 + 1, 10, lines(block * 10 + 1, 10))
    seq, heard = 0, []
    while seq < feed.seq:
        seq, piece = feed.after(seq, 1000)
        assert len(piece) < 2000
        heard += [line for line in piece.splitlines() if line.startswith(b"data")]
    assert heard == [b'data: {"seq":%d}' % seq for seq in range(1, 1001)]
