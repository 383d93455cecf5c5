"""Real nodes for tests: processes, sockets and files, on free loopback ports and in the test's own directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zabzmq.cli.client_status import HEALTHY, summary
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.cluster.supervisor import Supervisor, node_command
from zabzmq.machine.operations import KvQuery, KvValue, Operation, Put
from zabzmq.server.config import PORT_OFFSETS, Config, load

PATIENCE_S = 30.0
BASES = range(25_000, 26_000, 50)


class Ran(NamedTuple):
    """A program that ended."""

    code: int
    out: str
    err: str


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_base(nodes: int = 5) -> int:
    for base in BASES:
        if all(is_free(base + offset + node) for offset in PORT_OFFSETS.values() for node in range(nodes)):
            return base
    raise AssertionError("no free ports")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")}


def run_program(command: Iterable[str | int | Path], stdin: str = "") -> Ran:
    """Run to its end; no program of ours may show a traceback."""
    done = subprocess.run(
        list(map(str, command)), input=stdin, capture_output=True, text=True, timeout=60, env=environment(), check=False
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


class RealCluster:
    """Up to nine nodes under a supervisor, and a client."""

    def __init__(self, directory: Path, nodes: int = 5) -> None:
        self.config: Config = load(
            base_port=free_base(nodes),
            cluster="tested",
            nodes=nodes,
            data_dir=directory / "data",
            log_dir=directory / "logs",
            environ={},
        )
        self.supervisor = Supervisor(self.config)
        self.client = Client(
            self.config.client_endpoints, cluster="tested", name="tester", timeout_ms=PATIENCE_S * 1000
        )

    def close(self) -> None:
        self.client.close()
        for node in self.supervisor.running():
            self.supervisor.signal(node, signal.SIGCONT)
        self.supervisor.stop()

    # ---- nodes

    def start(self, *nodes: int) -> None:
        for node in nodes or self.config.ids:
            self.supervisor.start(node)

    def unsafe_start(self, node: int) -> None:
        self.supervisor.start(node, "--unsafe-rejoin-empty")

    def up(self, *nodes: int) -> dict[str, Any]:
        """Start these (all, if none are named), and wait until all nodes serve."""
        self.start(*nodes)
        return self.until("healthy", lambda status: bool(status["health"] == HEALTHY))

    def kill(self, *nodes: int) -> None:
        """SIGKILL to all of them before any is waited for."""
        for node in nodes:
            self.supervisor.signal(node, signal.SIGKILL)
        for node in nodes:
            self.supervisor.kill(node)
        self.supervisor.ended()

    def data(self, node: int) -> Path:
        return self.config.node_data_dir(node)

    def log(self, node: int) -> str:
        """What this node has told people so far."""
        path = self.config.log_dir / f"node-{node}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    # ---- looking

    def status(self) -> dict[str, Any]:
        self.client.pump(20.0)
        return summary("tested", self.client.status(500.0))

    def until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which it holds."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            status = self.status()
            if holds(status):
                return status
            assert time.monotonic() < deadline, f"not {what} within {PATIENCE_S} s: {json.dumps(status, indent=1)}"

    def until_log(self, node: int, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.log(node):
            assert time.monotonic() < deadline, f"node {node} did not say {text!r}:\n{self.log(node)[-3000:]}"
            self.client.pump(20.0)

    def until_led(self, but: int | None = None) -> int:
        """Whoever is established, other than `but`."""
        status = self.until("led", lambda s: s["leader"] is not None and s["leader"] != but)
        leader: int = status["leader"]
        return leader

    def until_equal(self) -> str:
        """Wait until all nodes serve and hold one state; its digest."""

        def equal(status: dict[str, Any]) -> bool:
            nodes = status["nodes"]
            return status["health"] == HEALTHY and len({(n["applied"], n["digest"]) for n in nodes}) == 1

        digest: str = self.until("equal", equal)["nodes"][0]["digest"]
        return digest

    # ---- doing

    def do(self, operation: Operation) -> Call:
        call = self.client.do(operation)
        assert call.outcome is Outcome.OK, f"{call}: {call.why} {call.text}"
        return call

    def put(self, *keys: str) -> None:
        """Acknowledged writes, each its key as value."""
        calls = [self.client.submit(Put(key.encode(), key.encode())) for key in keys]
        for call in calls:
            assert self.client.wait(call).outcome is Outcome.OK, f"{call}: {call.text}"

    def missing(self, *keys: str) -> list[str]:
        """Those of these writes that a linearizable read does not find."""
        found = {key: self.client.ask(KvQuery(key.encode())) for key in keys}
        return [key for key, call in found.items() if call.result != KvValue(key.encode())]

    # ---- programs

    def _common(self) -> list[str | int | Path]:
        return ["--base-port", self.config.base_port, "--nodes", len(self.config.ids), "--cluster", "tested"]

    def client_py(self, *args: str | int) -> Ran:
        return run_program([sys.executable, "client.py", *self._common(), *args])

    def server_py(self, *args: str | int | Path) -> Ran:
        return run_program([sys.executable, "zookeeper_server.py", *self._common(), *args])

    def node(self, node: int, *more: str | int | Path) -> Ran:
        """One node in the foreground, which is expected to end by itself; later options win."""
        return run_program([*node_command(self.config, node), *more])
