"""The bare clients read their protocols right, in whatever pieces the bytes come; a peer may be missing."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.measure import Load, Rate, System, Trouble
from benchmarks.peers.etcd import GET, PUT, Etcd
from benchmarks.peers.nats import Nats, NatsClient
from benchmarks.peers.packages import Packages
from benchmarks.peers.pipeline import Pipeline, drive
from benchmarks.peers.pysyncobj import PySyncObj
from benchmarks.peers.zookeeper import Reader, ZooKeeper, ZooKeeperClient
from benchmarks.run import Plan, Run

ACK = b'MSG acks.1 1 29\r\n{"stream":"BENCH", "seq":123}\r\n'
INFO = b'INFO {"server_id":"N","max_payload":1048576}\r\n'


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def counted(kind: type[Pipeline], data: bytes, size: int) -> int:
    """How many answers a client of this kind finds in this stream, cut into pieces."""

    async def run() -> int:
        client = kind()
        return sum(client.answers(piece) for piece in pieces(data, size))

    return asyncio.run(run())


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def replied(xid: int, error: int = 0) -> bytes:
    return frame(struct.pack(">iqi", xid, 7, error) + b"stat")


OPENED = frame(struct.pack(">iiq", 0, 30_000, 5) + frame(bytes(16)))


@pytest.mark.parametrize("size", [1, 3, 17, 4096])
def test_zookeepers_answers_are_counted_across_pieces(size: int) -> None:
    assert counted(ZooKeeperClient, OPENED + replied(1) * 5, size) == 5


def test_a_sync_before_a_read_does_not_count_for_itself() -> None:
    assert counted(Reader, OPENED + (replied(0) + replied(1)) * 4, 11) == 4


def test_an_error_of_zookeeper_is_trouble() -> None:
    with pytest.raises(Trouble, match="error -4"):
        counted(ZooKeeperClient, OPENED + replied(1, -4), 4096)


@pytest.mark.parametrize("size", [1, 3, 17, 4096])
def test_acknowledgements_of_nats_are_counted_across_pieces(size: int) -> None:
    assert counted(NatsClient, INFO + b"PONG\r\n" + ACK * 5, size) == 5


def test_an_error_of_nats_is_trouble() -> None:
    refused = b'MSG acks.1 1 40\r\n{"error":{"code":503,"description":"no"}}\r\n'
    with pytest.raises(Trouble, match="refused"):
        counted(NatsClient, INFO + b"PONG\r\n" + refused, 4096)


def test_requests_to_etcd_are_grpc_frames_of_their_own_length() -> None:
    for message in (PUT, GET):
        assert message[:1] == b"\0"
        assert int.from_bytes(message[1:5]) == len(message) - 5
    assert PUT[5:] == b"\n\x08key-1234\x12\x80\x01" + b"x" * 128


class Echo(Pipeline):
    """One byte a request, and the same byte back."""

    def greet(self) -> bytes:
        return b"."

    def requests(self, count: int) -> bytes:
        return b"?" * count

    def answers(self, data: bytes) -> int:
        self.opened()
        return data.count(b"?")


def test_the_closed_loop_counts_every_answer_of_every_client_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def run() -> Rate:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(drive, Echo, port, Load(3, 16), 0.0)

    measured = asyncio.run(run())
    # With no time at all, what was under way from the start is all there is.
    assert 0 < measured.p50 <= measured.p99


def test_a_server_that_closes_the_connection_is_trouble_and_not_a_hang() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.to_thread(drive, Echo, port, Load(1, 1), 0.0)

    with pytest.raises(Trouble, match="closed"):
        asyncio.run(run())


@pytest.mark.parametrize("kind", [ZooKeeper, Etcd, Nats, PySyncObj])
def test_a_peer_that_is_not_there_is_told_as_missing(
    kind: type[ZooKeeper], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Trouble, match="bench-peers"):
        kind(tmp_path, Packages(tmp_path))


class Counter(System):
    """Nothing but figures."""

    name = "counter"
    syncs = "never"
    driver = "nobody"
    started = 0

    def version(self) -> str:
        return "1"

    def start(self) -> None:
        type(self).started += 1

    def stop(self) -> None:
        type(self).started -= 1

    def pids(self) -> list[int]:
        return [os.getpid()]

    def writes(self, load: Load, seconds: float) -> Rate:
        return Rate(100.0 * load.outstanding, 1.0, 2.0)

    def fail_over(self) -> float:
        raise Trouble("it would not die")

    def catch_up(self, behind: int) -> float:
        raise KeyError("lag")


def test_a_run_measures_what_is_there_tells_what_is_missing_and_goes_on_after_trouble(tmp_path: Path) -> None:
    def absent(directory: Path) -> System:
        raise Trouble("it is not there")

    told: list[str] = []
    plan = Plan(repeats=2, seconds=0.0, warm_up_s=0.0, idle_s=0.001, kills=1)
    found = Run(plan, {"absent": absent, "counter": Counter}, tmp_path, told.append).measure()
    assert found.missing == {"absent": "it is not there"}
    counter = found.of("counter")
    assert counter is not None
    assert counter.values["write 64 per_s"] == [6_400.0, 6_400.0]
    assert counter.troubles == [
        "repeat 1, fail-over: it would not die",
        "repeat 1, catch-up 20,000 s: KeyError: 'lag'",
        "repeat 2, fail-over: it would not die",
    ]
    assert Counter.started == 0
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_after_its_time_a_run_begins_nothing_new_and_says_so(tmp_path: Path) -> None:
    plan = Plan(repeats=1, minutes=0.0)
    found = Run(plan, {"counter": Counter}, tmp_path, lambda line: None).measure()
    counter = found.of("counter")
    assert counter is not None and not counter.values
    assert counter.troubles == ["repeat 1 was left out: 0 minutes had passed"]
