"""What a node refuses, and what it shrugs off: every refusal names the thing, and no frame ever stops a node."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq

from tests.chaos.harness import is_free
from tests.e2e.real import RealCluster, environment
from zabzmq.cluster.supervisor import node_command

GARBAGE = {
    "nothing": [b""],
    "cut short": [b"Z"],
    "random bytes": [random.Random(7).randbytes(500)],
    "huge": [b"\xff" * (3 << 20)],
    "a header of another version": [b"\x93\x63\xa3abc", b""],
    "empty frames": [b"", b"", b""],
    "too many parts": [b"x"] * 50,
    "a client's version and random bytes": [b"ZC1", random.Random(8).randbytes(100)],
    "another client version": [b"ZC9", b"\x91\x01"],
    "an unknown request": [b"ZC1", b"\x92\xa7nothing\x01"],
}


# ---- refused at the start ----------------------------------------------------------------------------------------


def test_a_taken_port_is_named_with_who_holds_it(three: RealCluster) -> None:
    port = three.config.listen(1).peer
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        ran = three.node(1)
    assert ran.code == 1
    assert f"port {port} is taken (pid {os.getpid()}, " in ran.err
    assert "zookeeper_server.py status" in ran.err


def test_a_data_directory_in_use_is_refused(three: RealCluster) -> None:
    three.start(0)
    three.until("up", lambda status: bool(status["nodes"][0]["up"]))
    ran = three.node(0, "--base-port", three.config.base_port + 10_000)
    assert ran.code == 1
    assert f"node-0 is in use by process {three.supervisor.running()[0]}" in ran.err


def test_the_directory_of_another_node_or_cluster_or_voter_set_is_refused(three: RealCluster) -> None:
    three.up()
    assert set(three.supervisor.stop().values()) == {0}
    mine, theirs = three.data(0), three.data(1)
    theirs.rename(theirs.with_name("kept"))
    mine.rename(theirs)
    ran = three.node(1)
    assert (ran.code, "node 0" in ran.err, "node-1" in ran.err) == (1, True, True)
    theirs.rename(mine)
    ran = three.node(0, "--cluster", "another")
    assert ran.code == 1
    assert re.search(r'cluster "?tested', ran.err)
    ran = three.node(0, "--nodes", "5")
    assert ran.code == 1
    assert "voters" in ran.err or "nodes" in ran.err


def test_a_directory_that_cannot_be_made_is_named(three: RealCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    ran = three.node(0, "--data-dir", tmp_path / "file")
    assert ran.code == 1
    assert str(tmp_path / "file") in ran.err
    assert "--data-dir" in ran.err


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_a_damaged_meta_is_refused_by_name_and_left_as_it_is(three: RealCluster) -> None:
    three.up()
    three.supervisor.stop()
    meta = three.data(2) / "META"
    flip(meta, meta.stat().st_size // 2)
    damaged = meta.read_bytes()
    ran = three.node(2)
    assert ran.code == 1
    assert str(meta) in ran.err
    assert meta.read_bytes() == damaged


def test_damage_in_the_middle_of_the_log_is_refused_with_file_and_offset(three: RealCluster) -> None:
    three.up()
    for n in range(20):
        three.put(f"k{n}")
    three.until_equal()
    three.supervisor.stop()
    (segment, *_) = sorted(three.data(1).glob("gen-*/log.*"))
    flip(segment, segment.stat().st_size // 2)
    ran = three.node(1)
    assert ran.code == 1
    assert str(segment) in ran.err
    assert re.search(r"offset \d+", ran.err)
    dumped = three.server_py("log", "dump", three.data(1))
    assert dumped.code == 1
    assert "DAMAGED" in dumped.out
    # The others are a quorum, and nothing is lost.
    three.start(0, 2)
    three.until_led()
    assert three.missing(*(f"k{n}" for n in range(20))) == []


# ---- while it runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("socket_type", [zmq.DEALER, zmq.REQ, zmq.SUB])
def test_garbage_on_every_socket_is_counted_and_nobody_is_hurt(three: RealCluster, socket_type: int) -> None:
    three.up()
    three.put("before")
    listen = three.config.listen(three.until_led())
    with zmq.Context() as context:
        for port in (listen.peer, listen.client, listen.publish):
            for frames in GARBAGE.values():
                with context.socket(socket_type) as sender:
                    sender.set(zmq.LINGER, 0)
                    sender.set(zmq.SNDTIMEO, 2000)
                    sender.connect(f"tcp://127.0.0.1:{port}")
                    if socket_type == zmq.SUB:
                        sender.subscribe(frames[0][:200])
                    else:
                        sender.send_multipart(frames)
                        sender.poll(50)
            with socket.create_connection((listen.host, port)) as raw:
                raw.sendall(random.Random(port).randbytes(10_000))
    three.put("after")
    status = three.status()
    assert status["health"] == "healthy"
    assert status["epoch"] == 1, "no link between nodes was closed"
    refused = {node["node"]: sum(node["dropped"].values()) for node in status["nodes"]}
    if socket_type == zmq.DEALER:
        assert refused[listen.id] >= 10
        three.until_log(listen.id, "frames refused")
    assert three.missing("before", "after") == []


def test_a_node_of_another_cluster_on_the_same_ports_is_not_heard(three: RealCluster) -> None:
    three.start(0, 1)
    three.until_led()
    stranger = subprocess.Popen(
        [*node_command(three.config, 2), "--cluster", "strangers", "--data-dir", str(three.config.data_dir / "other")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    try:
        three.until("its frames are counted", lambda s: any(n["up"] and n["dropped"] for n in s["nodes"]))
        three.put("undisturbed")
        status = three.status()
        assert [node["up"] for node in status["nodes"]] == [True, True, False]
    finally:
        stranger.kill()
        stranger.wait()


def test_logs_may_be_deleted_while_nodes_run(three: RealCluster) -> None:
    three.up()
    for path in three.config.log_dir.iterdir():
        path.unlink()
    three.put("after")
    three.until_log(0, "applied")
    assert (three.config.log_dir / "node-0.jsonl").stat().st_size > 0


def test_the_nodes_of_a_supervisor_that_is_killed_end_too(tmp_path: Path, three: RealCluster) -> None:
    config = three.config
    command = [sys.executable, "zookeeper_server.py", "cluster", "up", "--base-port", str(config.base_port)]
    command += ["--nodes", "3", "--cluster", "tested"]
    command += ["--data-dir", str(tmp_path / "data"), "--log-dir", str(tmp_path / "logs")]
    supervisor = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    status = three.until("healthy", lambda status: bool(status["health"] == "healthy"))
    pids = [node["pid"] for node in status["nodes"]]
    os.kill(pids[0], signal.SIGSTOP)  # not even a stopped one may keep its ports
    supervisor.kill()
    supervisor.wait()
    deadline = time.monotonic() + 10
    ports = [port for listen in config.listens for port in (listen.peer, listen.client, listen.publish)]
    while not all(is_free(port) for port in ports):
        assert time.monotonic() < deadline, "a port is still taken"
        three.client.pump(20.0)


def test_cluster_up_prints_plain_lines_into_a_pipe_and_stops_all_on_ctrl_c(tmp_path: Path, three: RealCluster) -> None:
    command = [sys.executable, "zookeeper_server.py", "--base-port", str(three.config.base_port), "cluster", "up"]
    command += ["--nodes", "3", "--cluster", "tested"]
    command += ["--data-dir", str(tmp_path / "data"), "--log-dir", str(tmp_path / "logs")]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True)
    assert up.stdout is not None
    lines = []
    for line in up.stdout:
        lines.append(line)
        if line.startswith("healthy"):
            break
    status = three.until("healthy", lambda status: bool(status["health"] == "healthy"))
    os.kill(status["nodes"][1]["pid"], signal.SIGKILL)
    for line in up.stdout:
        lines.append(line)
        if "node 1 ended (SIGKILL)" in line:
            break
    up.send_signal(signal.SIGINT)
    rest, errors = up.communicate(timeout=30)
    assert (up.returncode, errors) == (0, "")
    assert "all nodes stopped" in rest
    assert "\x1b" not in "".join(lines) + rest
    assert all(is_free(listen.peer) for listen in three.config.listens)


def test_an_idle_node_stays_below_50_mb(three: RealCluster) -> None:
    three.up()
    for pid in three.supervisor.running().values():
        resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
        assert resident is not None
        assert int(resident[1]) < 50_000
