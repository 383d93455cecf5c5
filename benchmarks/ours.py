"""zabzmq under the same loads: five real nodes at default settings, driven by the client that users have.

The closed loop is that of `client.py bench` (zabzmq/cli/client_bench.py); here is only what it does not do.
"""

from __future__ import annotations

import platform
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import zmq

import zabzmq
from benchmarks.connections import writes_over
from benchmarks.measure import KEYS, NODES, START_S, VALUE_BYTES, Load, Rate, System, Trouble, rate, wait_until
from zabzmq.cli.client_bench import Bench, Plan
from zabzmq.cli.demo import free_base_port
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.machine.operations import KvQuery, Put
from zabzmq.net.client_wire import NodeStatus, ZxidPair
from zabzmq.server.config import Config, load

CLUSTER: Final = "benchmark"
FILL_OUTSTANDING: Final = 1024
FILL_BYTES: Final = 8 << 20


class Ours(System):
    name = "zabzmq"
    syncs = "before the answer, on three of five"
    driver = "its own client, one process"
    behind_max = 100_000

    def __init__(self, directory: Path, nodes: int = NODES, options: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self._config = config = _config(directory, nodes)
        self._supervisor = Supervisor(config, options)

    @property
    def config(self) -> Config:
        return self._config

    def version(self) -> str:
        return f"{zabzmq.__version__}, Python {platform.python_version()}, libzmq {zmq.zmq_version()}"

    def start(self) -> None:
        self._supervisor.start_all()
        with self._client() as client:
            _done(client.do(Put(b"first", b"")))

    def stop(self) -> None:
        self._supervisor.stop()

    def pids(self) -> list[int]:
        return list(self._supervisor.running().values())

    def writes(self, load: Load, seconds: float) -> Rate:
        return self.writes_of(VALUE_BYTES, load, seconds)

    def writes_of(self, size: int, load: Load, seconds: float) -> Rate:
        """Writes of values of this many bytes."""
        return self._bench("kv.put", load, seconds, size)

    def writes_over(self, connections: int, seconds: float) -> Rate:
        """Writes of as many clients, each with a connection of its own."""
        with self._client() as client:
            leader = _leader(self._all_up(client))
        return writes_over(self._config.client_endpoints[leader], connections, seconds)

    def reads(self, load: Load, seconds: float) -> Rate:
        return self._bench("kv.get", load, seconds)

    def game(self, load: Load, seconds: float) -> Rate:
        return self._bench("guess", load, seconds)

    def local_reads(self, load: Load, seconds: float) -> Rate:
        latencies: list[float] = []
        query = KvQuery(b"first")
        with self._client() as client:
            self._all_up(client)
            for node in self._config.ids:
                for _ in range(load.outstanding):
                    client.read(query, node=node, tag=node)
            began = now = time.monotonic()
            while now - began < seconds:
                calls = client.pump(100.0)
                now = time.monotonic()
                for call in calls:
                    latencies.append(_done(call).ms)
                    client.read(query, node=call.tag, tag=call.tag)  # type: ignore[arg-type]
            return rate(latencies, now - began)

    def fail_over(self) -> float:
        with self._client() as client:
            leader = _leader(self._all_up(client))
            _done(client.do(Put(b"before", b"")))
            began = time.monotonic()
            self._supervisor.kill(leader)
            _done(client.do(Put(b"after", b"")))
            took = (time.monotonic() - began) * 1000
            self._supervisor.start(leader)
            self._all_up(client)
            return took

    def freeze(self) -> float:
        with self._client() as client:
            leader = _leader(self._all_up(client))
            _done(client.do(Put(b"before", b"")))
            began = time.monotonic()
            self._supervisor.signal(leader, signal.SIGSTOP)
            try:
                _done(client.do(Put(b"after", b"")))
                return (time.monotonic() - began) * 1000
            finally:
                self._supervisor.signal(leader, signal.SIGCONT)

    def catch_up(self, behind: int) -> float:
        with self._client() as client:
            follower, target = self.leave_behind(client, behind)
            began = time.monotonic()
            self.bring_back(follower)
            wait_until(f"node {follower} to catch up", lambda: self.is_at(client, follower, target))
            return time.monotonic() - began

    def leave_behind(self, client: Client, count: int, size: int = VALUE_BYTES) -> tuple[int, ZxidPair]:
        """Kill a follower and write so many values without it: which one it is, and where the others are."""
        leader = _leader(self._all_up(client))
        follower = (leader + 1) % len(self._config.ids)
        self._supervisor.kill(follower)
        self.fill(client, count, size)
        return follower, self._status(client)[leader].applied

    def bring_back(self, node: int) -> None:
        self._supervisor.start(node)

    def is_at(self, client: Client, node: int, target: ZxidPair) -> bool:
        """Whether this node serves and has applied all up to there."""
        told = self._status(client).get(node)
        return told is not None and told.phase == "BROADCAST" and told.applied >= target

    def leader_and_epoch(self, client: Client) -> tuple[int, int]:
        """Of the leader there is now; waits for one."""

        def found() -> tuple[int, int] | None:
            leading = [(node.epoch, node.node) for node in self._status(client).values() if node.established]
            return (max(leading)[1], max(leading)[0]) if leading else None

        return wait_until("a leader", found)

    # ---- pieces

    def _client(self) -> Client:
        return Client(self._config.client_endpoints, cluster=CLUSTER, timeout_ms=START_S * 1000)

    def _bench(self, op: str, load: Load, seconds: float, size: int = VALUE_BYTES) -> Rate:
        with self._client() as client:
            plan = Plan(op, load.clients, load.outstanding, seconds, size, KEYS)
            bench = Bench(client, plan, None, random.Random(1))
            failed = bench.prepare()
            if failed is not None:
                _done(failed)
            took = bench.run(lambda elapsed, done: None)
            if bench.outcomes["unknown"] or bench.outcomes["not_done"]:
                raise Trouble(f"{op} {load}: {dict(bench.outcomes)}")
            return rate(bench.latencies, took)

    def fill(self, client: Client, count: int, size: int = VALUE_BYTES) -> None:
        """Write so many values; 10,000 keys take turns."""
        value = b"x" * size
        most = min(FILL_OUTSTANDING, FILL_BYTES // size)
        left, under_way = count, 0
        while left or under_way:
            more = min(left, most - under_way)
            client.submit_many([Put(b"key-%d" % ((left - i) % KEYS), value) for i in range(more)])
            left -= more
            calls = client.pump(100.0)
            for call in calls:
                _done(call)
            under_way += more - len(calls)

    def _status(self, client: Client) -> dict[int, NodeStatus]:
        return {node: told for node, told in client.status(300.0).items() if told is not None}

    def _all_up(self, client: Client) -> dict[int, NodeStatus]:
        """Wait until all five serve and have applied the same."""

        def settled() -> dict[int, NodeStatus] | None:
            told = self._status(client)
            same = len({node.applied for node in told.values()}) == 1
            serving = all(node.phase == "BROADCAST" for node in told.values())
            return told if len(told) == len(self._config.ids) and same and serving else None

        return wait_until("all nodes to serve and to agree", settled)


def _config(directory: Path, nodes: int) -> Config:
    return load(
        base_port=free_base_port(),
        cluster=CLUSTER,
        nodes=nodes,
        data_dir=directory / "data",
        log_dir=directory / "logs",
        environ={},
    )


def _leader(told: dict[int, NodeStatus]) -> int:
    return max((node.epoch, node.node) for node in told.values() if node.established)[1]


def _done(call: Call) -> Call:
    if call.outcome is not Outcome.OK:
        raise Trouble(f"{call.operation!r}: {call.outcome} {call.why} {call.text}")
    return call
