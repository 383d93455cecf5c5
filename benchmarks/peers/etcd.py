"""etcd: five members, every write synced (its default), driven over gRPC at the leader by h2load.

h2load is written in C. It sends one fixed request over and over, so all writes are to one key; etcd keeps every
version, so that spares it nothing. Questions and single writes go through etcd's JSON gateway.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.request
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import (
    NODES,
    START_S,
    VALUE_BYTES,
    Load,
    Processes,
    Rate,
    System,
    Trouble,
    free_ports,
    seconds_until,
    wait_until,
)
from benchmarks.peers.packages import Packages

KEY: Final = b"key-1234"
ATTEMPT_S: Final = 0.15


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of protobuf, of fewer than 16,384 bytes."""
    size = len(data)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + data


def _grpc(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


PUT: Final = _grpc(_field(1, KEY) + _field(2, b"x" * VALUE_BYTES))
GET: Final = _grpc(_field(1, KEY))


class Etcd(System):
    name = "etcd"
    syncs = "before the answer, on three of five"
    driver = "h2load (C) over gRPC, at the leader"
    settings = "default (heartbeat 100 ms, election 1000 ms)"

    def __init__(self, directory: Path, packages: Packages) -> None:
        super().__init__(directory)
        self._etcd, self._h2load = packages.program("etcd"), packages.program("h2load")
        self._env = packages.environment()
        self._processes = Processes(directory)
        self._ports: list[int] = []
        self._peers: list[int] = []
        self._cluster = ""

    def version(self) -> str:
        told = subprocess.run([self._etcd, "--version"], capture_output=True, text=True, check=False).stdout
        return told.split("etcd Version:")[1].split()[0]

    def start(self) -> None:
        ports = free_ports(2 * NODES)
        self._ports, self._peers = ports[:NODES], ports[NODES:]
        self._cluster = ",".join(f"n{i}=http://127.0.0.1:{port}" for i, port in enumerate(self._peers))
        for i in range(NODES):
            self._start_node(i)
        wait_until("a first write", lambda: self._is_written(self._ports[0]))

    def _start_node(self, node: int) -> None:
        client, peer = (f"http://127.0.0.1:{ports[node]}" for ports in (self._ports, self._peers))
        command = [self._etcd, "--name", f"n{node}", "--data-dir", str(self.directory / f"node-{node}")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", self._cluster, "--logger", "zap", "--log-level", "error"]
        self._processes.start(node, command)

    def stop(self) -> None:
        self._processes.stop()

    def pids(self) -> list[int]:
        return self._processes.pids()

    def writes(self, load: Load, seconds: float) -> Rate:
        before = self._revision()
        measured = self._drive("Put", PUT, load, seconds)
        written = self._revision() - before
        # gRPC hides its errors behind a good HTTP status: what was really written is asked of etcd.
        if written < 0.9 * measured.per_s * seconds:
            raise Trouble(f"h2load counted {measured.per_s * seconds:.0f} writes, etcd {written}")
        return measured

    def reads(self, load: Load, seconds: float) -> Rate:
        return self._drive("Range", GET, load, seconds)

    def fail_over(self) -> float:
        leader = self._leader()
        survivors = cycle([port for port in self._ports if port != self._ports[leader]])
        took = seconds_until(
            lambda: self._processes.kill(leader),
            "a write after the leader was killed",
            lambda: self._is_written(next(survivors)),
        )
        self._start_node(leader)
        wait_until("the killed member to serve", lambda: self._is_written(self._ports[leader]))
        return took * 1000

    def catch_up(self, behind: int) -> float:
        leader = self._leader()
        follower = (leader + 1) % NODES
        self._processes.kill(follower)
        target = self._revision(leader) + behind
        while self._revision(leader) < target:
            self._drive("Put", PUT, Load(1, 256), 1.0, leader)
        target = self._revision(leader)
        return seconds_until(
            lambda: self._start_node(follower),
            "the follower to catch up",
            lambda: self._revision(follower) >= target,
        )

    # ---- pieces

    def _drive(self, method: str, body: bytes, load: Load, seconds: float, leader: int | None = None) -> Rate:
        port = self._ports[self._leader() if leader is None else leader]
        request, log = self.directory / "request", self.directory / "h2load.log"
        request.write_bytes(body)
        log.unlink(missing_ok=True)
        duration = str(max(1, round(seconds)))  # it takes whole seconds
        command = [self._h2load, "-D", duration, "-c", str(load.clients), "-m", str(load.outstanding)]
        command += ["-d", str(request), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        command += ["--log-file", str(log), f"http://127.0.0.1:{port}/etcdserverpb.KV/{method}"]
        patience_s = seconds + START_S
        done = subprocess.run(command, capture_output=True, text=True, env=self._env, timeout=patience_s, check=False)
        found = re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)
        if not found or float(found[1]) == 0:
            raise Trouble(f"h2load: {(done.stderr or done.stdout).strip()[-200:]}")
        per_s = float(found[1])
        spent = sorted(int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines())
        if not spent:
            raise Trouble("h2load logged no request")
        return Rate(per_s, spent[len(spent) // 2], spent[int(len(spent) * 0.99)])

    def _ask(self, port: int, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/{path}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=ATTEMPT_S) as reply:
                told: dict[str, Any] = json.load(reply)
                return told
        except (OSError, ValueError):
            return None

    def _is_written(self, port: int) -> bool:
        self._processes.check()
        key, value = (base64.b64encode(data).decode() for data in (KEY, b"x" * VALUE_BYTES))
        return self._ask(port, "kv/put", {"key": key, "value": value}) is not None

    def _status(self, node: int) -> dict[str, Any]:
        return self._ask(self._ports[node], "maintenance/status", {}) or {}

    def _revision(self, node: int | None = None) -> int:
        """How many writes this member (None: the leader) has applied."""
        told = self._status(self._leader() if node is None else node)
        return int(told.get("header", {}).get("revision", 0))

    def _leader(self) -> int:
        def found() -> int | None:
            for i in range(NODES):
                told = self._status(i)
                if told and told.get("leader") == told["header"]["member_id"]:
                    return i + 1
            return None

        return wait_until("an etcd leader", found) - 1
