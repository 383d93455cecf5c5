"""A disk without room, and one that fails (L14, L15): nodes of which the kernel is asked, and the answer is changed.

A small file system would need a mount, and that needs privileges; so the nodes run in a Python whose `os.statvfs`
tells the number that stands in a file. Everything else, sockets and files too, is real. A write that fails needs no
disguise: the kernel refuses what is beyond RLIMIT_FSIZE.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.real import RealCluster, environment, run_program
from zabzmq.cluster.supervisor import node_command
from zabzmq.machine.operations import Put

MIB = 1 << 20
LIMIT = 16 << 10
DISGUISE = """
import os, pathlib, runpy, sys
told = pathlib.Path(sys.argv.pop(1))
real = os.statvfs
def statvfs(path):
    found = real(path)
    fields = list(found)
    fields[4] = int(told.read_text()) // found.f_frsize
    return os.statvfs_result(fields)
os.statvfs = statvfs
runpy.run_module("zabzmq.cli.server", run_name="__main__", alter_sys=True)
"""


class SmallDisks:
    """Nodes that are told how much room they have."""

    def __init__(self, cluster: RealCluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def leave(self, node: int, free: int) -> None:
        path = self.directory / f"free-{node}"
        path.with_suffix(".new").write_text(str(free), encoding="utf-8")
        path.with_suffix(".new").rename(path)

    def command(self, node: int) -> list[str]:
        plain = node_command(self.cluster.config, node)
        assert plain[1:3] == ["-m", "zabzmq.cli.server"]
        return [sys.executable, "-c", DISGUISE, str(self.directory / f"free-{node}"), *plain[3:]]

    def start(self) -> None:
        for node in self.cluster.config.ids:
            self.leave(node, 1000 * MIB)
            self.processes[node] = subprocess.Popen(
                self.command(node), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
            )
        self.cluster.until("healthy", lambda status: bool(status["health"] == "healthy"))

    def until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for it while a client writes: a node looks at its disk when it has something to write."""
        calls = [self.cluster.client.submit(Put(b"looked", b""))]

        def look(status: dict[str, Any]) -> bool:
            if calls[-1].outcome is not None:
                calls.append(self.cluster.client.submit(Put(b"looked", b"")))
            return holds(status)

        self.cluster.until(what, look)

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            assert process.wait(30) == 0


@pytest.fixture
def small(three: RealCluster, tmp_path: Path) -> Iterator[SmallDisks]:
    made = SmallDisks(three, tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_node_does_not_start_on_a_disk_that_is_nearly_full(small: SmallDisks) -> None:
    small.leave(0, 10 * MIB)
    ran = run_program(small.command(0))
    data = small.cluster.data(0)
    ran.refused(1, f"error: {data}: only 10 MiB are free, and a node needs 64 to start (L15)")
    ran.refused(1, "Make room on that disk, or move the data to a larger one (--data-dir)")
    assert [path.name for path in data.iterdir()] == ["LOCK"], "nothing was made"


def test_a_leader_whose_disk_gets_full_makes_room_for_another_and_nothing_is_lost(small: SmallDisks) -> None:
    cluster = small.cluster
    small.start()
    leader = cluster.until_led()
    cluster.put("before")
    small.leave(leader, 10 * MIB)
    small.until("led by another", lambda status: status["leader"] not in (None, leader))
    cluster.put("meanwhile")
    assert cluster.of(leader)["space"] == "full"
    assert f"disk nearly full on node {leader}" in cluster.server_py("status").out
    small.leave(leader, 1000 * MIB)
    small.until("room again", lambda status: bool(status["nodes"][leader]["space"] == "ok"))
    cluster.until_equal()
    assert cluster.missing("before", "meanwhile") == []


def test_with_little_room_left_writes_are_held_off_and_reads_go_on(small: SmallDisks) -> None:
    cluster = small.cluster
    small.start()
    leader = cluster.until_led()
    cluster.put("before")
    for node in cluster.config.ids:
        small.leave(node, 200 * MIB)
    small.until("low", lambda status: bool(status["nodes"][leader]["space"] == "low"))
    cluster.client_py("--timeout", 1, "kv", "put", "k", "v").refused(3, "error: not done: ", "disk")
    assert cluster.missing("before") == []
    for node in cluster.config.ids:
        small.leave(node, 1000 * MIB)
    cluster.put("after")
    assert cluster.client_py("kv", "get", "k").out.startswith("k has no value"), "what exited with 3 was not done"


def test_a_node_whose_write_fails_stops_at_once_and_the_others_go_on(three: RealCluster) -> None:
    leader = three.up()["leader"]
    three.put("before")
    three.do(Put(b"large", bytes(2 * LIMIT)))
    resource.prlimit(three.supervisor.running()[leader], resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    three.put("after")
    ended = three.wait_ended(leader)
    ended.refused(1, f"error: node {leader} stopped: ", "File too large", "Check the disk, then start the node again")
    three.up(leader)
    three.until_equal()
    assert three.missing("before", "after") == []
