"""Real nodes on a real disk, clients that keep a history, and a monitor: what the tests here share."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import zmq

from zabzmq.client.call import Call as ClientCall
from zabzmq.client.call import Outcome
from zabzmq.client.client import Client
from zabzmq.client.monitor import Gap, Monitor, Transaction
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.core.zxid import ZERO
from zabzmq.machine.operations import Cas, GameQuery, Guess, KvQuery, KvValue, Operation, Put, Query, Target
from zabzmq.net.client_wire import NodeStatus, StatusQuery, decode_reply, encode
from zabzmq.server.config import PORT_OFFSETS, Config, load
from zabzmq.trace.checker import UNKNOWN, Call


def now_ms() -> float:
    return time.monotonic() * 1000.0


def events_in(path: Path) -> list[dict[str, Any]]:
    """Events in the log of a node that runs: of the last one only a part may be written yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()]


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(mount, kind) for mount, kind in mounts if path.resolve().is_relative_to(mount.replace("\\040", " "))]
    return max(holding, key=lambda pair: len(pair[0]))[1]


def real_disk(path: Path) -> Path:
    """`path`, once it is sure that what is synced there would survive a power cut."""
    kind = file_system(path)
    print(f"\ndata on {kind} at {path}")
    assert kind not in ("tmpfs", "ramfs"), f"{path} is on {kind}: give pytest a --basetemp on a disk"
    return path


_BASES = range(26000, 30000, 50)
_bases: Iterator[int] = itertools.cycle([*_BASES[os.getpid() % len(_BASES) :], *_BASES[: os.getpid() % len(_BASES)]])


def free_base_port(nodes: int) -> int:
    """A base port at which nothing listens now: every port of every node. None is given out twice in a row."""
    for base in itertools.islice(_bases, len(_BASES)):
        if all(is_free(base + group + node) for group in PORT_OFFSETS.values() for node in range(nodes)):
            return base
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Cluster:
    """Five (or so) real processes, and questions about them."""

    def __init__(self, directory: Path, nodes: int = 5, config: Config | None = None) -> None:
        self.config: Config = config or load(
            base_port=free_base_port(nodes),
            nodes=nodes,
            data_dir=directory / "data",
            log_dir=directory / "logs",
            environ={},
        )
        self.supervisor = Supervisor(self.config)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def __enter__(self) -> Cluster:
        self.supervisor.start_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.supervisor.stop()
        self._context.destroy(linger=0)
        if kind is not None:
            for node in self.config.ids:
                print(f"node {node} said: {self.supervisor.words(node)[-500:]}")

    def client(self, name: str, timeout_ms: float = 60_000.0) -> Client:
        return Client(self.config.client_endpoints, cluster=self.config.cluster, name=name, timeout_ms=timeout_ms)

    def status(self, node: int, timeout_ms: int = 200) -> NodeStatus | None:
        """What this node says of itself; None if it says nothing in time."""
        with self._context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(self.config.client_endpoints[node])
            dealer.send_multipart(encode(StatusQuery(1)))
            if not dealer.poll(timeout_ms):
                return None
            reply = decode_reply(dealer.recv_multipart())
        assert isinstance(reply, NodeStatus)
        return reply

    def leader(self, timeout_s: float = 20.0) -> int:
        """The established leader of the highest epoch; waits for one."""

        def found() -> int | None:
            statuses = [self.status(node) for node in self.supervisor.running()]
            leaders = [(s.epoch, s.node) for s in statuses if s is not None and s.established]
            return max(leaders)[1] + 1 if leaders else None  # 0 is a node, but not yet an answer

        return wait_for(found, timeout_s, "a leader") - 1

    def agreed(self) -> NodeStatus | None:
        """What all nodes say, once all have applied the same and hold the same state."""
        statuses = [self.status(node) for node in self.config.ids]
        present = [s for s in statuses if s is not None and s.phase == "BROADCAST"]
        same = {(s.applied, s.digest) for s in present}
        return present[0] if len(present) == len(self.config.ids) and len(same) == 1 else None


T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Poll until the condition holds; what it gave. Fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s"
        pause.wait(0.002)
    return found


QUERIES = (GameQuery, KvQuery)


class Worker(threading.Thread):
    """A client under load: increments a counter by compare-and-set, reads it, plays, and puts values beside."""

    def __init__(self, cluster: Cluster, number: int, counters: int, value_bytes: int, outstanding: int) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.history: list[Call] = []
        self.incremented: dict[bytes, int] = {}
        self.acknowledged = 0  # writes, counted as they are answered
        self.unknown = 0
        self.error: BaseException | None = None
        self._cluster = cluster
        self._number = number
        self._counters = [b"counter-%d" % i for i in range(counters)]
        self._value_bytes = value_bytes
        self._outstanding = outstanding
        self._stopping = threading.Event()

    def finish(self) -> None:
        self._stopping.set()
        self.join(90)
        assert not self.is_alive(), f"{self.name} still waits for answers"
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            with self._cluster.client(self.name) as client:
                self._work(client)
        except BaseException as error:
            self.error = error

    def _work(self, client: Client) -> None:
        puts = 0
        counter = 0
        client.read(KvQuery(self._counters[self._number % len(self._counters)]), tag="counter")
        client.read(GameQuery(), tag="game")
        plays = 0
        waiting = 2
        while waiting:
            stopping = self._stopping.is_set()
            while waiting < self._outstanding and not stopping:
                puts += 1
                key = b"put-%d-%d" % (self._number, puts % 8)
                value = b"%d." % puts
                client.submit(Put(key, value.ljust(self._value_bytes, b"x")))
                waiting += 1
            for call in client.pump(100):
                waiting -= 1
                self._keep(call)
                if call.tag == "counter" and not stopping:
                    counter += 1
                    self._go_on_counting(client, call, self._counters[counter % len(self._counters)])
                    waiting += 1
                elif call.tag == "game" and not stopping:
                    plays += 1
                    self._go_on_playing(client, plays)
                    waiting += 1

    def _go_on_playing(self, client: Client, plays: int) -> None:
        """Open a round, guess five times with others between, look; there is one game for all."""
        if plays % 8 == 0:
            client.submit(Target(37 * plays % 101, new_round=True), tag="game")
        elif plays % 8 < 6:
            client.submit(Guess(53 * plays % 101), tag="game")
        else:
            client.read(GameQuery(), tag="game")

    def _go_on_counting(self, client: Client, call: ClientCall, next_key: bytes) -> None:
        """Read a counter, then try to add one to it, then read the next."""
        if isinstance(call.operation, KvQuery) and call.outcome is Outcome.OK:
            assert isinstance(call.result, KvValue)
            held = call.result.value
            client.submit(Cas(call.operation.key, held, b"%d" % (int(held or b"0") + 1)), tag="counter")
        else:
            client.read(KvQuery(next_key), tag="counter")

    def _keep(self, call: ClientCall) -> None:
        if call.outcome is Outcome.NOT_DONE:
            return
        operation = call.operation
        if call.outcome is Outcome.UNKNOWN:
            self.unknown += 1
        elif not isinstance(operation, QUERIES):
            self.acknowledged += 1
            if isinstance(operation, Cas) and call.outcome is Outcome.OK:
                self.incremented[operation.key] = self.incremented.get(operation.key, 0) + 1
        returned = UNKNOWN if call.outcome is Outcome.UNKNOWN else call.finished
        asked: Operation | Query = operation
        self.history.append(Call(self.name, call.started, returned, asked, call.result, call.zxid))


class Watcher(threading.Thread):
    """A monitor from the beginning of the history to the end of the test."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name="monitor", daemon=True)
        self.transactions: list[Transaction] = []
        self.gaps: list[Gap] = []
        self.error: BaseException | None = None
        self._cluster = cluster
        self._stopping = threading.Event()

    def run(self) -> None:
        config = self._cluster.config
        try:
            with Monitor(config.client_endpoints, config.publish_endpoints, config.cluster, ZERO) as monitor:
                while not self._stopping.is_set():
                    for event in monitor.pump(50):
                        if isinstance(event, Transaction):
                            self.transactions.append(event)
                        elif isinstance(event, Gap):
                            self.gaps.append(event)
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self._stopping.set()
        self.join(30)
        if self.error is not None:
            raise self.error
