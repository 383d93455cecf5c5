"""A real `cluster up`, and what is done to it by the commands of the command line."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from tests.chaos.harness import events_in, is_free
from tests.e2e.real import PATIENCE_S, Program, Ran, RealCluster
from zabzmq.cli import common
from zabzmq.cli.server import server
from zabzmq.client.call import Outcome
from zabzmq.client.client import Client
from zabzmq.machine.operations import Put
from zabzmq.server.config import SUPERVISOR_OFFSET


class Harmed(RealCluster):
    """Nodes under a supervisor that is a process of its own."""

    def __init__(self, directory: Path, nodes: int = 5) -> None:
        super().__init__(directory, nodes)
        self.up_program: Program | None = None

    @property
    def control_port(self) -> int:
        return self.config.base_port + SUPERVISOR_OFFSET

    def begin(self, *options: str | int | Path) -> Program:
        assert is_free(self.control_port), "the base port of a test leaves room for the supervisor"
        self.up_program = self.program("zookeeper_server.py", "cluster", "up", *self.directories, *options)
        self.until_healthy()
        return self.up_program

    def until_healthy(self) -> dict[str, Any]:
        return self.until("healthy", lambda status: bool(status["health"] == "healthy"))

    def end(self) -> None:
        if self.up_program is not None:
            with self.up_program as program:
                if program.process.poll() is None:
                    program.process.terminate()
                    program.process.wait(PATIENCE_S)
        self.close()

    # ---- commands

    def server_py(self, *args: str | int | Path) -> Ran:
        """The command in this process: its start-up is not what these tests are about."""
        argv, sys.argv = sys.argv, ["zookeeper_server.py", *map(str, (*self.common, *args))]
        out, err = StringIO(), StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = common._run(server, "zookeeper_server.py")
        finally:
            sys.argv = argv
        return Ran(int(code), out.getvalue(), err.getvalue())

    def cluster_py(self, *args: str | int) -> Ran:
        return self.server_py("cluster", *args, *self.directories)

    def order(self, verb: str, target: str | int) -> int:
        """Have it done; to whom it was done."""
        ran = self.cluster_py(verb, str(target), "--json")
        assert ran.code == 0, ran
        done = ran.objects[0]
        assert done["v"] == 1
        node: int = done["node"]
        return node

    def fault(self, *args: str | int) -> Ran:
        ran = self.server_py("fault", *args, *self.directories)
        assert ran.code == 0, ran
        return ran

    def processes(self) -> list[dict[str, Any]]:
        ran = self.cluster_py("ps", "--json")
        assert ran.code == 0, ran
        nodes: list[dict[str, Any]] = ran.objects[0]["nodes"]
        return nodes

    def mend(self) -> None:
        """All is as it was, whatever was done."""
        for node in self.processes():
            if node["state"] == "paused":
                self.order("resume", node["id"])
            elif node["state"] == "down":
                self.order("restart", node["id"])
        self.fault("clear")
        self.until_equal()

    # ---- looking

    def http(self, node: int, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.config.listen(node).observe, timeout=PATIENCE_S)
        try:
            headers = {"content-type": "application/json"}
            if method == "POST":
                headers["x-zab-token"] = (
                    token if token is not None else (self.config.log_dir / "token").read_text().strip()
                )
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def answers(self, node: int) -> bool:
        """Whether its observe port does."""
        try:
            return self.http(node, "GET", "/state")[0] == 200
        except OSError:
            return False

    def events(self, node: int, kind: str) -> list[dict[str, Any]]:
        path = self.config.log_dir / f"node-{node}.jsonl"
        return [event for event in events_in(path) if event["k"] == kind] if path.exists() else []

    def until_event(self, node: int, kind: str, **fields: Any) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def told(status: dict[str, Any]) -> bool:
            found[:] = [e for e in self.events(node, kind) if all(e.get(k) == v for k, v in fields.items())]
            return bool(found)

        self.until(f"{kind} {fields} at node {node}", told)
        return found[0]

    def last_logged(self, node: int) -> tuple[int, ...]:
        """The end of what is in the files of this node, synced or not."""
        ran = self.server_py("log", "dump", self.data(node), "--json")
        return max((tuple(line["zxid"]) for line in ran.objects if line["kind"] == "txn"), default=(0, 0))


class Load(threading.Thread):
    """Writes without a pause, `burst` at a time, also while `window` are not answered yet; `acknowledged` are the keys
    of those that were."""

    def __init__(self, cluster: RealCluster, window: int = 64, burst: int = 64) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self._cluster = cluster
        self._window = window
        self._burst = burst
        self._stopping = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.finish()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def _work(self) -> None:
        config = self._cluster.config
        with Client(config.client_endpoints, cluster=config.cluster, name="load", timeout_ms=60_000.0) as client:
            number = waiting = 0
            while waiting or not self._stopping.is_set():
                for _ in range(0 if self._stopping.is_set() else min(self._burst, self._window - waiting)):
                    key = f"load-{number}"
                    client.submit(Put(key.encode(), key.encode()), tag=key)
                    number, waiting = number + 1, waiting + 1
                for call in client.pump(20.0):
                    waiting -= 1
                    if call.outcome is Outcome.OK:
                        self.acknowledged.append(str(call.tag))

    def until_more(self, count: int = 50) -> None:
        """Wait until so many more are answered."""
        goal = len(self.acknowledged) + count
        self._cluster.until(f"{goal} answers", lambda status: len(self.acknowledged) >= goal or not self.is_alive())
        assert self._error is None, self._error

    def finish(self) -> None:
        self._stopping.set()
        self.join(90)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
