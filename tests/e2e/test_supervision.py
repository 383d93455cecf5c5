"""Nodes as a user runs them: Ctrl-C, `cluster up` without a terminal, a supervisor that dies, logs that are deleted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.harness import is_free, wait_for
from tests.e2e.real import PATIENCE_S, Program, RealCluster

QUICK_S = 5.0
"""A clean stop on a busy machine; the supervisor would kill after twice that."""


def ports_are_free(cluster: RealCluster) -> bool:
    return all(is_free(port) for each in cluster.config.listens for port in (each.peer, each.client, each.publish))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_leader_and_then_a_stopped_follower_exit_0_quickly(cluster: RealCluster, number: int) -> None:
    leader = cluster.up()["leader"]
    cluster.put("before")
    for node in (leader, cluster.others(leader)[0]):
        began = time.monotonic()
        cluster.supervisor.signal(node, number)
        assert cluster.wait_ended(node).code == 0
        assert time.monotonic() - began < QUICK_S
        assert f"stopped by {signal.Signals(number).name}; the log is closed" in cluster.log(node)
        assert "closed cleanly" in cluster.server_py("log", "dump", cluster.data(node)).out
        cluster.put(f"without-{node}")
    cluster.up()
    cluster.until_equal()
    assert cluster.missing("before", f"without-{leader}", f"without-{cluster.others(leader)[0]}") == []


def test_cluster_up_prints_plain_lines_into_a_pipe_and_stops_all_on_ctrl_c(three: RealCluster) -> None:
    with three.program("zookeeper_server.py", "cluster", "up", *three.directories) as up:
        up.until(lambda lines: any(line.startswith("healthy  3/3 up") for line in lines), "healthy")
        status = three.until("healthy", lambda status: bool(status["health"] == "healthy"))
        os.kill(status["nodes"][1]["pid"], signal.SIGKILL)
        up.until_line("node 1 ended (SIGKILL)")
        up.until(lambda lines: any(line.startswith("degraded  2/3 up") for line in lines), "degraded")
        began = time.monotonic()
        ran = up.end(signal.SIGINT)
    assert (ran.code, ran.err) == (0, "")
    assert time.monotonic() - began < 2 * QUICK_S
    assert ran.out.splitlines()[-1] == "all nodes stopped"
    assert re.search(r"restart: python zookeeper_server\.py .* cluster restart 1", ran.out)
    assert "\x1b" not in ran.out
    assert ports_are_free(three)


def test_cluster_up_beside_a_running_cluster_says_who_holds_the_ports(shared: RealCluster, tmp_path: Path) -> None:
    ran = shared.server_py("cluster", "up", "--data-dir", tmp_path / "data", "--log-dir", tmp_path / "logs")
    ran.refused(1, "port ", "is taken (pid ", "the other nodes were stopped")
    assert "healthy" not in ran.out, "that would be the other cluster"
    assert shared.status()["health"] == "healthy"


def test_the_nodes_of_a_supervisor_that_is_killed_end_too(three: RealCluster) -> None:
    with three.program("zookeeper_server.py", "cluster", "up", *three.directories) as up:
        status = three.until("healthy", lambda status: bool(status["health"] == "healthy"))
        os.kill(status["nodes"][0]["pid"], signal.SIGSTOP)  # not even a stopped one may keep its ports
        up.end(signal.SIGKILL)
    wait_for(lambda: ports_are_free(three), PATIENCE_S, "free ports")


def test_a_lonely_node_says_what_to_type_and_what_it_cannot_write(three: RealCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    logs = tmp_path / "file" / "logs"
    options: list[str | int] = ["--base-port", three.config.base_port, "--nodes", 3]
    args = ["node", 1, *options, "--data-dir", tmp_path / "data", "--log-dir", logs]
    with Program([sys.executable, "zookeeper_server.py", *args]) as node:
        node.until_line(f"WARNING nothing is written to {logs}: Not a directory")
        node.until(lambda lines: any("no quorum: 1 of 3" in line for line in lines), "no quorum")
        told = next(line for line in node.lines if "no quorum" in line)
        assert f"Start one: python zookeeper_server.py --base-port {three.config.base_port} --nodes 3 " in told
        assert told.endswith(" node 0")
        assert node.end(signal.SIGINT).code == 0


@pytest.mark.parametrize("directory_too", [False, True], ids=["files", "directory"])
def test_logs_may_be_deleted_while_nodes_run(three: RealCluster, directory_too: bool) -> None:
    three.up()
    if directory_too:
        # Out of the way first: a node that writes while it is emptied makes a new file in it.
        shutil.rmtree(three.config.log_dir.rename(three.config.log_dir.with_name("deleted")))
    else:
        for path in three.config.log_dir.iterdir():
            path.unlink()

    def all_say_more() -> bool:
        three.put("more")  # a line may fall to the limit of lines a second
        events = [three.config.log_dir / f"node-{node}.jsonl" for node in three.config.ids]
        return all(path.exists() and path.stat().st_size for path in events) and all(
            "applied" in three.log(node) for node in three.config.ids
        )

    wait_for(all_say_more, PATIENCE_S, "new logs of every node")
    assert three.status()["health"] == "healthy"


def test_an_idle_node_stays_below_50_mb(shared: RealCluster) -> None:
    for pid in shared.supervisor.running().values():
        resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
        assert resident is not None
        assert int(resident[1]) < 50_000
