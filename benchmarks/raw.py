"""The bare loop that ours is compared with: a leader and four followers over ROUTER and DEALER, group commit, nothing
else. No protocol, no state machine, no results: what the sockets and the disk of this machine allow in Python.

    python -m benchmarks.raw leader PORT FILE single|coalesced
    python -m benchmarks.raw follower PORT FILE NUMBER

*single*: one message for each operation, from the client, to every follower, and back to the client; followers
acknowledge what one sync made durable with one message. *coalesced*: operations that wait together travel in one
frame, both ways. An operation is answered when three of five files are synced that hold it.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import ClassVar, Final

import zmq

from benchmarks.measure import NODES, VALUE_BYTES, Load, Processes, Rate, System, Trouble, free_ports, rate

FOLLOWERS: Final = [b"f%d" % i for i in range(NODES - 1)]
HERE: Final = Path(__file__).parent.parent
PATIENCE_MS: Final = 10_000


def drain(socket: zmq.Socket[bytes]) -> list[list[bytes]]:
    """Wait for a message; it, and all that have come."""
    messages = [socket.recv_multipart()]
    try:
        while True:
            messages.append(socket.recv_multipart(zmq.NOBLOCK))
    except zmq.Again:
        return messages


def lead(port: int, file: int, coalesced: bool) -> None:
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.set_hwm(0)
    router.bind(f"tcp://127.0.0.1:{port + 1}")
    held: dict[bytes, int] = {}  # operations on the disk of each
    while len(held) < len(FOLLOWERS):
        follower, _ = router.recv_multipart()
        held[follower] = 0
    # Only now for clients: what is sent to a follower that has not connected is lost, and this loop mends nothing.
    router.bind(f"tcp://127.0.0.1:{port}")
    appended = durable = answered = 0
    asked: deque[tuple[bytes, int]] = deque()  # client, and the number of its last operation in a message
    while True:
        fresh: list[bytes] = []
        for client, frame in drain(router):
            if client in held:
                held[client] = int.from_bytes(frame)
                continue
            appended += len(frame) // VALUE_BYTES
            asked.append((client, appended))
            fresh.append(frame)
        if fresh:
            batch = b"".join(fresh)
            for follower in FOLLOWERS:
                if coalesced:
                    router.send_multipart((follower, batch))
                else:
                    for frame in fresh:
                        router.send_multipart((follower, frame))
            os.write(file, batch)
            os.fdatasync(file)
            durable = appended
        committed = sorted((durable, *held.values()))[NODES // 2]
        answers: dict[bytes, int] = {}
        while asked and asked[0][1] <= committed:
            client, last = asked.popleft()
            if coalesced:
                answers[client] = answers.get(client, 0) + last - answered
            else:
                router.send_multipart((client, (1).to_bytes(4)))
            answered = last
        for client, count in answers.items():
            router.send_multipart((client, count.to_bytes(4)))


def follow(port: int, file: int, number: int) -> None:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.set_hwm(0)
    dealer.setsockopt(zmq.IDENTITY, FOLLOWERS[number])
    dealer.connect(f"tcp://127.0.0.1:{port + 1}")
    dealer.send((0).to_bytes(8))
    held = 0
    while True:
        batch = b"".join(frame for (frame,) in drain(dealer))
        os.write(file, batch)
        os.fdatasync(file)
        held += len(batch) // VALUE_BYTES
        dealer.send(held.to_bytes(8))


class Raw(System):
    name = "raw"
    syncs = "before the answer, on three of five"
    driver = "pyzmq, one message per operation"
    coalesced: ClassVar = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._processes = Processes(directory)
        self._port = 0

    def version(self) -> str:
        return f"pyzmq {zmq.pyzmq_version()}, libzmq {zmq.zmq_version()}"

    def start(self) -> None:
        self._port = free_ports(2)[0]
        base = [sys.executable, "-m", "benchmarks.raw"]
        env = {"PYTHONPATH": str(HERE)}
        mode = "coalesced" if self.coalesced else "single"
        self._processes.start(0, [*base, "leader", str(self._port), "log-0", mode], env)
        for i in range(1, NODES):
            self._processes.start(i, [*base, "follower", str(self._port), f"log-{i}", str(i - 1)], env)
        self.writes(Load(1, 1), 0.0)
        self._processes.check()

    def stop(self) -> None:
        self._processes.stop()

    def pids(self) -> list[int]:
        return self._processes.pids()

    def writes(self, load: Load, seconds: float) -> Rate:
        with zmq.Context() as context:
            return _drive(context, self._port, load, seconds, self.coalesced)


class Coalesced(Raw):
    name = "raw, coalesced"
    driver = "pyzmq, what waits together in one frame"
    coalesced = True


def _drive(context: zmq.Context[zmq.Socket[bytes]], port: int, load: Load, seconds: float, coalesced: bool) -> Rate:
    """Clients in one thread, each with `load.outstanding` operations under way."""
    value = b"x" * VALUE_BYTES
    poller = zmq.Poller()
    started: dict[zmq.Socket[bytes], deque[float]] = {}
    latencies: list[float] = []

    def send(client: zmq.Socket[bytes], count: int, now: float) -> None:
        started[client].extend([now] * count)
        if coalesced:
            client.send(value * count)
        else:
            for _ in range(count):
                client.send(value)

    for _ in range(load.clients):
        client = context.socket(zmq.DEALER)
        client.linger = 0
        client.set_hwm(0)
        client.connect(f"tcp://127.0.0.1:{port}")
        started[client] = deque()
        poller.register(client, zmq.POLLIN)
    began = now = time.perf_counter()
    for client in started:
        send(client, load.outstanding, began)
    under_way = load.clients * load.outstanding
    while under_way:
        ready_ones = poller.poll(PATIENCE_MS)
        if not ready_ones:
            raise Trouble(f"the bare loop has not answered for {PATIENCE_MS / 1000:g} s")
        for ready, _ in ready_ones:
            answered = sum(int.from_bytes(frame) for (frame,) in drain(ready))
            now = time.perf_counter()
            times = started[ready]
            spent = [(now - times.popleft()) * 1000 for _ in range(answered)]
            latencies += spent
            if now - began < seconds:
                send(ready, answered, now)
            else:
                under_way -= answered
    took = time.perf_counter() - began
    for client in started:
        client.close()
    return rate(latencies, took)


def main(role: str, port: str, path: str, how: str) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    if role == "leader":
        lead(int(port), file, how == "coalesced")
    else:
        follow(int(port), file, int(how))


if __name__ == "__main__":
    main(*sys.argv[1:])
