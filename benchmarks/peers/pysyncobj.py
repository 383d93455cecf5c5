"""PySyncObj: Raft as a library in Python. Its writes go to a memory-mapped journal that is never synced.

The load runs inside the leader's process, without a client's way over the network; four clients are inside the leader
and three followers, which pass their writes on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks.measure import (
    NODES,
    START_S,
    Load,
    Processes,
    Rate,
    System,
    Trouble,
    free_ports,
    rate,
    seconds_until,
    wait_until,
)
from benchmarks.peers.packages import PYPI, Packages

HERE: Final = Path(__file__).parent.parent.parent


class PySyncObj(System):
    name = "PySyncObj"
    syncs = "never"
    driver = "inside the leader's process"
    settings = "default; journal and dump on files"
    how: ClassVar = "default"

    def __init__(self, directory: Path, packages: Packages) -> None:
        super().__init__(directory)
        if not (packages.python / "pysyncobj").exists():
            raise Trouble("PySyncObj is not there; `make bench-peers` fetches it")
        self._env = {"PYTHONPATH": os.pathsep.join((str(HERE), str(packages.python)))}
        self._processes = Processes(directory)
        self._peers: list[int] = []
        self._ports: list[int] = []

    def version(self) -> str:
        return PYPI.split("==")[1]

    def start(self) -> None:
        ports = free_ports(2 * NODES)
        self._peers, self._ports = ports[:NODES], ports[NODES:]
        for i in range(NODES):
            (self.directory / f"node-{i}").mkdir(parents=True)
            self._start_node(i)
        wait_until("nodes that listen", lambda: all(self._status(i) for i in range(NODES)))
        self._write_once(0)

    def _start_node(self, node: int) -> None:
        names = [f"127.0.0.1:{port}" for port in self._peers]
        own = names.pop(node)
        home = str(self.directory / f"node-{node}")
        module = "benchmarks.peers.pysyncobj_node"
        command = [sys.executable, "-m", module, home, str(self._ports[node]), own, self.how, *names]
        self._processes.start(node, command, self._env)

    def stop(self) -> None:
        self._processes.stop()

    def pids(self) -> list[int]:
        return self._processes.pids()

    def writes(self, load: Load, seconds: float) -> Rate:
        leader = self._leader()
        wish = {"do": "load", "outstanding": load.outstanding, "seconds": seconds}
        with ThreadPoolExecutor(load.clients) as pool:
            told = list(pool.map(lambda i: self._ask((leader + i) % NODES, wish), range(load.clients)))
        if any(part["failed"] for part in told):
            raise Trouble(f"PySyncObj failed {sum(part['failed'] for part in told)} writes")
        return rate([ms for part in told for ms in part["latencies"]], max(part["took"] for part in told))

    def fail_over(self) -> float:
        leader = self._leader()
        survivor = (leader + 1) % NODES

        def kill_and_write() -> None:
            self._processes.kill(leader)
            self._write_once(survivor)

        took = seconds_until(kill_and_write, "nothing more", lambda: True)
        self._start_node(leader)
        target = self._ask(survivor, {"do": "status"})["applied"]
        wait_until("the killed node to follow", lambda: self._status(leader).get("applied", 0) >= target)
        return took * 1000

    # ---- pieces

    def _leader(self) -> int:
        def found() -> int | None:
            self._processes.check()
            leaders = [i for i in range(NODES) if self._status(i).get("leader")]
            return leaders[0] + 1 if len(leaders) == 1 else None

        return wait_until("a PySyncObj leader", found) - 1

    def _write_once(self, node: int) -> None:
        if not self._ask(node, {"do": "once"})["ok"]:
            raise Trouble("PySyncObj did not commit a write in time")

    def _status(self, node: int) -> dict[str, Any]:
        try:
            return self._ask(node, {"do": "status"})
        except OSError:
            return {}

    def _ask(self, node: int, wish: dict[str, Any]) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self._ports[node]), timeout=START_S) as connection:
            connection.sendall(json.dumps(wish).encode() + b"\n")
            told: dict[str, Any] = json.loads(connection.makefile("rb").readline())
            return told


class PySyncObjTuned(PySyncObj):
    name = "PySyncObj, tuned"
    settings = "a write wakes the thread (appendEntriesUseBatch off), elections after 150 to 400 ms"
    how = "tuned"
