"""Real nodes for tests: processes, sockets and files, on free loopback ports and in the test's own directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.harness import free_base_port
from zabzmq.cli.client_status import HEALTHY, summary
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.cluster.supervisor import Supervisor, node_command
from zabzmq.machine.operations import KvQuery, KvValue, Operation, Put
from zabzmq.server.config import Config, load

NAME = "tested"
PATIENCE_S = 30.0


class Ran(NamedTuple):
    """A program that ended."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *words: str) -> None:
        """It ended with this code, and said all of this on standard error."""
        assert self.code == code, self
        for word in words:
            assert word in self.err, self

    @property
    def objects(self) -> list[Any]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(**more: str) -> dict[str, str]:
    """Ours without settings of a cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")} | more


def run_program(command: Iterable[str | int | Path], stdin: str = "", **variables: str) -> Ran:
    """Run to its end; no program of ours may show a traceback."""
    done = subprocess.run(
        list(map(str, command)),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**variables),
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def server_py(*args: str | int | Path, **variables: str) -> Ran:
    return run_program([sys.executable, "zookeeper_server.py", *args], **variables)


def client_py(*args: str | int | Path, **variables: str) -> Ran:
    return run_program([sys.executable, "client.py", *args], **variables)


class Program:
    """A program that goes on; what it prints is read as it comes."""

    def __init__(self, command: Iterable[str | int | Path], **variables: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment(**variables),
        )
        self._printed = threading.Condition()
        self._errors = ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self.lines.append(line.rstrip("\n"))
                self._printed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors = self.process.stderr.read()

    def until(self, holds: Callable[[list[str]], Any], what: str) -> None:
        """Wait until it holds of the lines printed so far."""
        with self._printed:
            found = self._printed.wait_for(lambda: holds(self.lines), PATIENCE_S)
        assert found, f"{what} was not printed, but: {self.lines[-30:]}"

    def until_line(self, text: str) -> None:
        self.until(lambda lines: any(text in line for line in lines), text)

    def until_count(self, count: int) -> None:
        self.until(lambda lines: len(lines) >= count, f"line {count}")

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def end(self, number: int | None = None) -> Ran:
        """Send this signal, if any, and wait until it is over."""
        if number is not None:
            self.process.send_signal(number)
        process = self.process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        code = process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        process.stdout.close()
        process.stderr.close()
        assert "Traceback" not in self._errors, self._errors
        return Ran(code, "".join(f"{line}\n" for line in self.lines), self._errors)


class RealCluster:
    """Up to nine nodes under a supervisor, and a client."""

    def __init__(self, directory: Path, nodes: int = 5) -> None:
        self.config: Config = load(
            base_port=free_base_port(nodes),
            cluster=NAME,
            nodes=nodes,
            data_dir=directory / "data",
            log_dir=directory / "logs",
            environ={},
        )
        self.supervisor = Supervisor(self.config)
        self.client = Client(self.config.client_endpoints, cluster=NAME, name="tester", timeout_ms=PATIENCE_S * 1000)

    def close(self) -> None:
        """Stop all; whatever happened, nobody was shown a traceback."""
        self.client.close()
        for node in self.supervisor.running():
            self.supervisor.signal(node, signal.SIGCONT)
        self.supervisor.stop()
        for path in [*self.config.log_dir.glob("*.log"), *self.config.log_dir.glob("*.err")]:
            assert "Traceback" not in path.read_text(encoding="utf-8", errors="replace"), path

    # ---- nodes

    def start(self, *nodes: int, options: Iterable[str] = ()) -> None:
        for node in nodes or self.config.ids:
            self.supervisor.start(node, *options)

    def up(self, *nodes: int) -> dict[str, Any]:
        """Start these (all, if none are named), and wait until all nodes serve."""
        self.start(*nodes)
        return self.until(HEALTHY, lambda status: bool(status["health"] == HEALTHY))

    def kill(self, *nodes: int) -> None:
        """SIGKILL to all of them before any is waited for."""
        for node in nodes:
            self.supervisor.signal(node, signal.SIGKILL)
        for node in nodes:
            self.supervisor.kill(node)
        self.supervisor.ended()

    def wait_ended(self, node: int) -> Ran:
        """Wait until this node ended by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for ended in self.supervisor.ended():
                if ended.node == node:
                    return Ran(ended.code, "", ended.words)
            assert time.monotonic() < deadline, f"node {node} goes on:\n{self.log(node)[-3000:]}"
            self.client.pump(20.0)

    def others(self, node: int) -> list[int]:
        return [other for other in self.config.ids if other != node]

    def data(self, node: int) -> Path:
        return self.config.node_data_dir(node)

    def log(self, node: int) -> str:
        """What this node has told people so far."""
        path = self.config.log_dir / f"node-{node}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    # ---- looking

    def status(self) -> dict[str, Any]:
        self.client.pump(20.0)
        return summary(NAME, self.client.status(500.0))

    def of(self, node: int) -> dict[str, Any]:
        """What this node says of itself."""
        found: dict[str, Any] = next(each for each in self.status()["nodes"] if each["node"] == node)
        return found

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
        calls = {key: self.client.read(KvQuery(key.encode())) for key in keys}
        return [key for key, call in calls.items() if self.client.wait(call).result != KvValue(key.encode())]

    # ---- programs

    @property
    def common(self) -> list[str | int | Path]:
        return ["--base-port", self.config.base_port, "--nodes", len(self.config.ids), "--cluster", NAME]

    @property
    def directories(self) -> list[str | int | Path]:
        return ["--data-dir", self.config.data_dir, "--log-dir", self.config.log_dir]

    def client_py(self, *args: str | int) -> Ran:
        return run_program([sys.executable, "client.py", *self.common, *args])

    def server_py(self, *args: str | int | Path) -> Ran:
        return run_program([sys.executable, "zookeeper_server.py", *self.common, *args])

    def program(self, script: str, *args: str | int | Path) -> Program:
        return Program([sys.executable, script, *self.common, *args])

    def node(self, node: int, *more: str | int | Path) -> Ran:
        """One node in the foreground, which is expected to end by itself; later options win."""
        return run_program([*node_command(self.config, node), *more])
