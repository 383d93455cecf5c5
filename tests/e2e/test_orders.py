"""Orders to a real cluster: each command, each word for a node, and what is answered when it cannot be done."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.harness import is_free, wait_for
from tests.e2e.harmed import Harmed, Load
from tests.e2e.real import PATIENCE_S, Program, run_program
from zabzmq.cli.asking import post, token_in
from zabzmq.cluster.supervisor import node_command


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harmed]:
    """Five nodes under one supervisor; each test leaves them healthy."""
    made = Harmed(tmp_path_factory.mktemp("orders"))
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Harmed]:
    """Three nodes, not yet started."""
    made = Harmed(tmp_path, nodes=3)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("target", ["leader", "follower", "any", "2"])
def test_a_killed_node_is_down_and_restarted_it_serves_again(many: Harmed, target: str) -> None:
    leader = many.status()["leader"]
    many.put(f"before-{target}")
    node = many.order("kill", target)
    assert (node == leader) is (target == "leader") or target in ("any", "2")
    assert [(each["state"], each["code"]) for each in many.processes() if each["id"] == node] == [("down", -9)]
    many.put(f"without-{target}")
    assert many.order("restart", "any") == node, "who is down is meant first"
    many.until_equal()
    assert many.missing(f"before-{target}", f"without-{target}") == []


def test_an_order_to_the_leader_reaches_one_that_is_yet_to_be_elected_or_found(few: Harmed) -> None:
    few.begin()
    for _ in range(4):
        node = few.order("kill", "leader")
        few.order("restart", node)  # nobody leads now, or whoever does is not yet known to the supervisor
    few.until_equal()


def test_a_paused_leader_is_replaced_and_resumed_it_follows(many: Harmed) -> None:
    leader = many.order("pause", "leader")
    assert [each["state"] for each in many.processes() if each["id"] == leader] == ["paused"]
    assert many.until_led(but=leader) != leader
    many.put("while-it-slept")
    assert many.order("resume", "any") == leader
    many.until_equal()
    assert many.of(leader)["state"] == "FOLLOWING"
    assert many.missing("while-it-slept") == []


def test_a_running_node_is_restarted_cleanly_even_if_it_is_paused(many: Harmed) -> None:
    many.order("pause", "follower")
    paused = next(each for each in many.processes() if each["state"] == "paused")
    ran = many.cluster_py("restart", paused["id"], "--json")
    assert (ran.objects[0]["done"], ran.objects[0]["node"]) == ("restarted", paused["id"])
    assert ran.objects[0]["pid"] != paused["pid"]
    many.until_equal()
    assert "stopped by SIGTERM; the log is closed" in many.log(paused["id"])


@pytest.mark.parametrize("verb", ["kill", "restart", "pause", "resume", "powercut"])
def test_a_target_that_is_none_is_wrong_usage(many: Harmed, verb: str) -> None:
    for target in ("5", "boss"):
        many.cluster_py(verb, target).refused(2, f"no node {target!r}", "0 1 2 3 4 leader follower any")


def test_the_supervisor_of_another_cluster_is_left_alone(many: Harmed) -> None:
    ran = many.cluster_py("kill", "any", "--cluster", "other")
    ran.refused(1, f'is of cluster "{many.config.cluster}", not of "other"', "--cluster")


def test_what_cannot_be_done_now_says_so(many: Harmed) -> None:
    many.order("kill", 1)
    many.cluster_py("kill", 1).refused(1, "node 1 is down already")
    many.cluster_py("pause", 1).refused(1, "node 1 is down")
    many.cluster_py("resume", 2).refused(1, "node 2 is not paused")
    many.cluster_py("resume", "any").refused(3, "there is no node to resume now")
    many.mend()


def test_without_the_token_of_the_run_nothing_is_done(many: Harmed, tmp_path: Path) -> None:
    for text in ("", "x" * 43):
        (tmp_path / "token").write_text(text)
        ran = many.server_py("cluster", "kill", "any", "--log-dir", tmp_path)
        ran.refused(1, "X-Zab-Token", f"is {tmp_path} the --log-dir")
    assert all(each["state"] == "running" for each in many.processes())


def test_with_the_token_in_the_environment_the_log_directory_need_not_be_here(
    many: Harmed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ("--log-dir", tmp_path)
    monkeypatch.setenv("ZAB_TOKEN", token_in(many.config.log_dir))
    assert many.server_py("cluster", "kill", 2, *elsewhere).out == "node 2 killed\n"
    assert many.server_py("cluster", "restart", 2, *elsewhere).code == 0
    many.until_healthy()
    monkeypatch.setenv("ZAB_SEED", "7")
    assert many.server_py("fault", "drop", "0to1", "-p", "0.01", *elsewhere).code == 0
    assert many.http(1, "GET", "/state")[1]["faults"]["seed"] == 7
    assert many.server_py("fault", "drop", "0to1", "-p", "0.02", "--seed", 8, *elsewhere).code == 0
    assert many.http(1, "GET", "/state")[1]["faults"]["seed"] == 8
    assert many.server_py("fault", "clear", *elsewhere).code == 0
    for switch in ("on", "off"):
        assert many.server_py("step", switch, *elsewhere).code == 0
    monkeypatch.setenv("ZAB_TOKEN", "x" * 43)
    for refused in (("cluster", "kill", 2), ("fault", "cut", "0-1"), ("step", "on")):
        ran = many.server_py(*refused, *many.directories)
        ran.refused(1, "X-Zab-Token", "is ZAB_TOKEN what")
    monkeypatch.delenv("ZAB_TOKEN")
    many.mend()


def test_processes_and_logs_are_shown_as_tables_and_lines(many: Harmed) -> None:
    shown = many.cluster_py("ps").out
    for each in many.processes():
        assert str(each["pid"]) in shown
    ran = many.cluster_py("logs", "-n", 5)
    assert len(ran.out.splitlines()) == 5
    one = many.cluster_py("logs", "-n", 1000, 2).out.splitlines()
    assert one and all(" n2 " in line for line in one)
    times = [line[:12] for line in many.cluster_py("logs", "-n", 1000).out.splitlines() if line[2:3] == ":"]
    assert times == sorted(times)


def test_logs_follow_what_comes(many: Harmed) -> None:
    with many.program("zookeeper_server.py", "cluster", "logs", "-f", "-n", 1, *many.directories) as program:
        program.until_count(1)  # it is there, and sees what comes from now on
        restarted = many.order("restart", "follower")
        program.until(lambda lines: any(f"n{restarted} " in line for line in lines[1:]), "the node's start")
        assert program.end(signal.SIGINT).code == 0
    many.until_equal()


def test_a_node_started_by_hand_is_not_the_supervisors(many: Harmed) -> None:
    many.order("kill", 4)
    with Program(node_command(many.config, 4, ["--quiet"])) as by_hand:
        many.until_healthy()
        pid = by_hand.process.pid
        wait_for(
            lambda: [(n["pid"], n["owned"]) for n in many.processes() if n["id"] == 4] == [(pid, False)],
            PATIENCE_S,
            "node 4 by hand",
        )
        many.cluster_py("restart", 4).refused(1, f"node 4 (pid {pid}) was started by hand; type: kill {pid}; python")
        many.cluster_py("kill", 4).refused(1, f"type: kill -9 {pid}")
        many.cluster_py("reset").refused(1, f"stop it first: kill {pid}")
        many.server_py("fault", "cut", "0-4", *many.directories).refused(1, "faults are off on node 4")
        assert many.order("restart", "any") != 4
        many.until_healthy()
        assert by_hand.end(signal.SIGINT).code == 0
    wait_for(lambda: many.processes()[4]["state"] == "down", PATIENCE_S, "an end that is noticed")
    many.mend()


def test_reset_begins_anew_and_down_ends_it(few: Harmed) -> None:
    up = few.begin()
    few.put("old")
    assert few.cluster_py("reset").out == "all data deleted, all nodes started anew\n"
    few.until_healthy()
    assert few.missing("old") == ["old"]
    assert few.cluster_py("down").out == "all nodes stopped\n"
    assert (up.process.wait(PATIENCE_S), up.lines[-1]) == (0, "all nodes stopped")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of the supervisor connections may linger
        other.bind(("127.0.0.1", few.control_port))
        other.listen()
        few.cluster_py("down").refused(1, "is no supervisor, or stands still")
    few.cluster_py("down").refused(4, "no supervisor listens on", "cluster up")
    assert "is deleted" in few.cluster_py("reset").out
    assert not few.data(0).exists()


def test_all_nodes_may_be_killed_and_the_supervisor_stays_to_start_them_again(few: Harmed) -> None:
    few.begin()
    few.put("kept")
    assert {few.order("kill", "any") for _ in range(3)} == {0, 1, 2}
    few.cluster_py("kill", "any").refused(3, "there is no node to kill now")
    few.cluster_py("kill", "leader").refused(3, "there is no leader now")
    assert {few.order("restart", "any") for _ in range(3)} == {0, 1, 2}
    few.until_equal()
    assert few.missing("kept") == []


def test_a_taken_control_port_is_a_warning(few: Harmed) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", few.control_port))
        up = few.program("zookeeper_server.py", "cluster", "up", *few.directories)
        few.up_program = up
        few.until_healthy()
        few.cluster_py("kill", 0).refused(1, "no supervisor runs")
        ran = up.end(signal.SIGINT)
    assert ran.code == 0
    assert f"warning: control port {few.control_port} is taken" in ran.err


def test_without_a_supervisor_nodes_started_by_hand_are_told_of(few: Harmed) -> None:
    few.up()
    pids = few.supervisor.running()
    few.cluster_py("kill", 1).refused(1, "no supervisor runs", f"type: kill -9 {pids[1]}")
    few.cluster_py("pause", "leader").refused(1, f"type: kill -STOP {pids[few.until_led()]}")
    few.cluster_py("down").refused(1, *(f"type: kill {pid}" for pid in pids.values()))
    few.cluster_py("reset").refused(1, "stop it first")
    few.server_py("fault", "cut", "0-1", *few.directories).refused(1, "faults are off on node 0 1 2", "--allow-faults")
    assert [(n["pid"], n["owned"]) for n in few.processes()] == [(pids[n], False) for n in range(3)]
    few.kill(2)
    few.cluster_py("restart", 2).refused(1, "node 2 is down", "node 2")


def test_a_supervisor_leaves_a_node_alone_that_runs_already(few: Harmed) -> None:
    few.start(1)
    few.until_log(1, "no quorum: 1 of 3")
    up = few.begin()
    up.until_line("node 1 (pid ")
    few.cluster_py("kill", 1).refused(1, "was started by hand")
    few.put("together")
    crash = few.config.listen(1).observe
    status, said = post("127.0.0.1", crash, "/op", {"op": "get"}, token_in(few.config.log_dir))
    assert status == 200, f"both know one token: {said}"


def test_a_second_cluster_up_is_refused_and_takes_nothing_from_the_first(few: Harmed) -> None:
    few.begin()
    few.server_py("cluster", "up", *few.directories).refused(1, "is up already, under supervisor", "cluster down")
    assert few.cluster_py("restart", 1).code == 0, "the token is still that of the first"


def test_a_log_directory_that_cannot_be_made_is_named(few: Harmed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    ran = run_program(
        [sys.executable, "zookeeper_server.py", *few.common, "cluster", "up", "--log-dir", tmp_path / "file" / "logs"]
    )
    ran.refused(1, f"error: cannot use {tmp_path}/file/logs: Not a directory.", "choose another --log-dir")


def test_a_page_is_opened_by_a_file_that_only_its_owner_reads(few: Harmed, tmp_path: Path) -> None:
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    path, display = os.environ["PATH"], os.environ.get("DISPLAY")
    os.environ.update(PATH=f"{opener.parent}:{path}", DISPLAY=":7")
    try:
        up = few.begin("--open")
    finally:
        os.environ["PATH"] = path
        os.environ.pop("DISPLAY") if display is None else os.environ.update(DISPLAY=display)
    wait_for(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text(), PATIENCE_S, "an open page")
    page = Path((tmp_path / "opened").read_text())
    assert page == (few.config.log_dir / "open.html").resolve()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    token = (few.config.log_dir / "token").read_text().strip()
    assert f"index.html#base={few.config.base_port}&amp;t={token}" in page.read_text()
    assert any(line.startswith("page: file://") and line.endswith(f"t={token}") for line in up.lines)


def test_power_cut_of_all_nodes_under_load_loses_nothing_acknowledged(few: Harmed) -> None:
    few.begin()
    with Load(few) as load:
        load.until_more(200)
        for node in (0, 1, 2):
            ran = few.cluster_py("powercut", node, "--json")
            assert ran.objects[0]["done"] == "powercut", ran
        for node in (0, 1, 2):
            few.order("restart", node)
        few.until_healthy()
        load.until_more(50)
    few.until_equal()
    assert few.missing(*load.acknowledged) == []


def test_a_disk_that_does_not_sync_loses_the_tail_with_the_power_and_not_with_the_process(many: Harmed) -> None:
    leader = many.until_led()
    killed, cut = [node for node in many.config.ids if node != leader][:2]
    many.put("synced")
    many.until_equal()
    synced = many.last_logged(cut)
    many.fault("disk", f"{killed},{cut}", "60s")
    many.put(*(f"unsynced-{number}" for number in range(20)))

    def written(node: int) -> bool:
        return many.last_logged(node) > synced

    wait_for(lambda: written(killed) and written(cut), PATIENCE_S, "writes that are not synced")
    many.order("kill", killed)
    assert many.last_logged(killed) > synced
    ran = many.cluster_py("powercut", cut, "--json")
    assert ran.objects[0]["lost_bytes"] > 0
    assert many.last_logged(cut) == synced
    many.mend()
    assert many.missing("synced", *(f"unsynced-{number}" for number in range(20))) == []


def test_the_nodes_and_the_port_of_a_killed_supervisor_go_with_it(few: Harmed) -> None:
    up = few.begin()
    few.order("pause", "any")
    up.end(signal.SIGKILL)
    ports = [port for each in few.config.listens for port in (each.peer, each.client, each.publish, each.observe)]
    wait_for(lambda: all(map(is_free, (few.control_port, *ports))), PATIENCE_S, "free ports")


def test_the_state_of_the_supervisor_is_told_to_whoever_reads(many: Harmed) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", many.control_port, timeout=PATIENCE_S)
    connection.request("GET", "/state")
    response = connection.getresponse()
    state = json.loads(response.read())
    connection.close()
    assert response.getheader("Access-Control-Allow-Origin") == "*"
    assert many.up_program is not None
    assert (state["v"], state["supervisor"]) == (1, many.up_program.process.pid)
    assert (state["cluster"], state["base_port"]) == (many.config.cluster, many.config.base_port)
    assert [(n["id"], n["state"], n["owned"]) for n in state["nodes"]] == [(n, "running", True) for n in range(5)]
