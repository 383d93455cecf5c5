"""NATS JetStream: one stream of five replicas on files, published to by a bare client at the stream's leader.

Each message asks for JetStream's acknowledgement. This version does not sync a write: files are synced every two
minutes, so a power cut takes what was acknowledged.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import (
    NODES,
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
from benchmarks.peers.pipeline import Pipeline, attempt, drive

STREAM: Final = "BENCH"
SUBJECT: Final = "bench.write"
ATTEMPT_S: Final = 0.2
CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'

CONFIG: Final = """\
server_name: n{node}
listen: 127.0.0.1:{client}
jetstream {{ store_dir: "{store}" }}
cluster {{
  name: bench
  listen: 127.0.0.1:{peer}
  routes: [{routes}]
}}
"""


class NatsClient(Pipeline):
    """Publishes and counts acknowledgements, of which each ends with a closing brace and a line end."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""
        self._inbox = f"acks.{id(self)}"  # its own, or it would hear the others' acknowledgements
        self._message = f"PUB {SUBJECT} {self._inbox} {VALUE_BYTES}\r\n".encode() + b"x" * VALUE_BYTES + b"\r\n"

    def greet(self) -> bytes:
        return CONNECT + f"SUB {self._inbox} 1\r\nPING\r\n".encode()

    def requests(self, count: int) -> bytes:
        return self._message * count

    def answers(self, data: bytes) -> int:
        data = self._tail + data
        if not self.ready.done():
            # INFO, whose JSON ends like an acknowledgement, then the answer to our PING.
            if b"PONG\r\n" not in data:
                self._tail = data
                return 0
            data = data.split(b"PONG\r\n", 1)[1]
            self.opened()
        if b'"error"' in data or b"NATS/1.0 503" in data:
            raise Trouble(f"NATS refused a message: {data[:200]!r}")
        if b"PING\r\n" in data and self.transport is not None:
            self.transport.write(b"PONG\r\n")
        self._tail = data[-2:]
        return data.count(b"}\r\n")


class Nats(System):
    name = "NATS JetStream"
    syncs = "not: every 2 minutes"
    driver = "bare asyncio client of its protocol, at the leader"
    settings = "default; one stream, file storage, 5 replicas"

    def __init__(self, directory: Path, packages: Packages) -> None:
        super().__init__(directory)
        self._server = packages.program("nats-server")
        self._processes = Processes(directory)
        self._ports: list[int] = []

    def version(self) -> str:
        told = subprocess.run([self._server, "--version"], capture_output=True, text=True, check=False)
        return (told.stdout + told.stderr).split(":")[1].strip().removeprefix("v")

    def start(self) -> None:
        ports = free_ports(2 * NODES)
        self._ports, peers = ports[:NODES], ports[NODES:]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in peers)
        self.directory.mkdir(parents=True, exist_ok=True)
        for i in range(NODES):
            store = self.directory / f"node-{i}"
            words = CONFIG.format(node=i, client=self._ports[i], peer=peers[i], routes=routes, store=store)
            self._config(i).write_text(words)
            self._start_node(i)
        wait_until("a stream of five replicas", self._make_stream)
        wait_until("a first write", lambda: attempt(NatsClient, self._ports[0], ATTEMPT_S))

    def _config(self, node: int) -> Path:
        return self.directory / f"node-{node}.conf"

    def _start_node(self, node: int) -> None:
        self._processes.start(node, [self._server, "--config", str(self._config(node))])

    def stop(self) -> None:
        self._processes.stop()

    def pids(self) -> list[int]:
        return self._processes.pids()

    def writes(self, load: Load, seconds: float) -> Rate:
        return drive(NatsClient, self._ports[self._leader()], load, seconds)

    def fail_over(self) -> float:
        leader = self._leader()
        survivors = cycle([port for port in self._ports if port != self._ports[leader]])
        took = seconds_until(
            lambda: self._processes.kill(leader),
            "a write after the leader was killed",
            lambda: attempt(NatsClient, next(survivors), ATTEMPT_S),
        )
        self._start_node(leader)
        wait_until("all replicas to be current", self._all_current)
        return took * 1000

    def catch_up(self, behind: int) -> float:
        leader = self._leader()
        follower = (leader + 1) % NODES
        self._processes.kill(follower)
        done = 0
        while done < behind:
            done += round(drive(NatsClient, self._ports[leader], Load(1, 256), 1.0).per_s)
        return seconds_until(
            lambda: self._start_node(follower), "the follower to catch up", lambda: self._lag(follower) == 0
        )

    # ---- pieces

    def _make_stream(self) -> bool:
        self._processes.check()
        wish = {"name": STREAM, "subjects": [SUBJECT], "storage": "file", "num_replicas": NODES, "retention": "limits"}
        told = self._ask(f"$JS.API.STREAM.CREATE.{STREAM}", wish)
        return told is not None and "error" not in told

    def _cluster(self) -> dict[str, Any]:
        told: dict[str, Any] = (self._ask(f"$JS.API.STREAM.INFO.{STREAM}", {}) or {}).get("cluster", {})
        return told

    def _leader(self) -> int:
        name = wait_until("a leader of the stream", lambda: str(self._cluster().get("leader") or ""))
        return int(name.removeprefix("n"))

    def _all_current(self) -> bool:
        replicas = self._cluster().get("replicas", [])
        return len(replicas) == NODES - 1 and all(r["current"] and not r.get("offline") for r in replicas)

    def _lag(self, node: int) -> int | None:
        for replica in self._cluster().get("replicas", []):
            if replica["name"] == f"n{node}" and replica["current"] and not replica.get("offline"):
                return int(replica.get("lag", 0))
        return None

    def _ask(self, subject: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """One request to JetStream's own services, by way of whichever server answers."""
        for port in self._ports:
            try:
                return _request(port, subject, json.dumps(body).encode())
            except (OSError, ValueError):
                continue
        return None


def _request(port: int, subject: str, body: bytes) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        ask = CONNECT + f"SUB reply 1\r\nPUB {subject} reply {len(body)}\r\n".encode() + body + b"\r\n"
        connection.sendall(ask)
        text = b""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            piece = connection.recv(65536)
            if not piece:
                raise OSError("closed")
            text += piece
            at = text.find(b"\r\nMSG reply 1 ")
            if at < 0:
                continue
            head, _, rest = text[at + 2 :].partition(b"\r\n")
            size = int(head.split()[-1])
            if len(rest) >= size:
                told: dict[str, Any] = json.loads(rest[:size])
                return told
        raise OSError("no answer")
