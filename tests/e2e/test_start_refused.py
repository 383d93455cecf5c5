"""What a node refuses to start on: exit 1, what, why and what next; and the directory stays byte for byte as it was."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.real import NAME, Ran, RealCluster, run_program, server_py
from zabzmq.cluster.supervisor import node_command

KEYS = [f"k{n}" for n in range(20)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three nodes that have written and were stopped; the tests start copies of their directories."""
    made = RealCluster(tmp_path_factory.mktemp("stopped"), nodes=3)
    try:
        made.up()
        for key in KEYS:
            made.put(key)  # one by one, so that the log holds many records
        made.until_equal()
        assert set(made.supervisor.stop().values()) == {0}
        yield made
    finally:
        made.close()


@pytest.fixture
def data(stopped: RealCluster, tmp_path: Path) -> Path:
    """A copy of the parent directory of all three."""
    return Path(shutil.copytree(stopped.config.data_dir, tmp_path / "data"))


def contents(directory: Path) -> dict[str, bytes]:
    """All files but LOCK, which tells who was here last."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "LOCK"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def start(stopped: RealCluster, node: int, data: Path, *more: str | int | Path) -> Ran:
    """Start this node on these directories; nothing in them may change."""
    before = contents(data)
    ran = stopped.node(node, "--data-dir", data, "--log-dir", data.parent / "logs", *more)
    assert contents(data) == before
    return ran


# ---- ports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["peer", "client", "publish"])
def test_a_taken_port_is_named_with_who_holds_it(stopped: RealCluster, tmp_path: Path, kind: str) -> None:
    port = getattr(stopped.config.listen(1), kind)
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        ran = stopped.node(1, "--data-dir", tmp_path / "data", "--log-dir", tmp_path / "logs")
    ran.refused(1, f"error: port {port} is taken (pid {os.getpid()}, ", "Node 1 may already run")
    ran.refused(1, "see: python zookeeper_server.py --nodes 3 --base-port", " status  ")
    ran.refused(1, f"choose: --base-port {stopped.config.base_port + 1000}")


def test_an_address_that_is_not_ours_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[[node]]\nid = 0\nhost = "192.0.2.7"\n', encoding="utf-8")
    ran = server_py("node", 0, "--config", path, "--data-dir", tmp_path / "data", "--log-dir", tmp_path / "logs")
    ran.refused(1, "error: cannot listen on 192.0.2.7:", "is that an address of this machine?", "doctor")


# ---- whose directory ---------------------------------------------------------------------------------------------


def test_the_directory_of_another_node_is_refused(stopped: RealCluster, data: Path) -> None:
    shutil.rmtree(data / "node-1")
    (data / "node-0").rename(data / "node-1")
    ran = start(stopped, 1, data)
    ran.refused(1, f'{data}/node-1 belongs to node 0 of cluster "{NAME}"', "Refusing to start (this would forge acks)")


def test_the_directory_of_another_cluster_is_refused(stopped: RealCluster, data: Path) -> None:
    ran = start(stopped, 0, data, "--cluster", "another")
    ran.refused(1, f'{data}/node-0 belongs to node 0 of cluster "{NAME}"', "Refusing to start")


def test_the_directory_of_another_voter_set_is_refused(stopped: RealCluster, data: Path) -> None:
    ran = start(stopped, 0, data, "--nodes", 5)
    ran.refused(
        1, "was made for the voters 0, 1, 2, not 0, 1, 2, 3, 4", "two majorities of different sets need not meet"
    )
    ran.refused(1, "Start with the same nodes, or with another --data-dir")


def test_another_base_port_may_use_the_directory(stopped: RealCluster, data: Path) -> None:
    """Voters are ids, not addresses (PROTOCOL 15.7): all is well until the port is found taken."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ran = stopped.node(0, "--data-dir", data, "--log-dir", data.parent / "logs", "--base-port", port)
    ran.refused(1, f"port {port} is taken")


# ---- can it be used ----------------------------------------------------------------------------------------------


def test_a_directory_in_use_is_refused_with_who_uses_it(three: RealCluster) -> None:
    three.start(0)
    three.until("up", lambda status: bool(status["nodes"][0]["up"]))
    ran = three.node(0, "--base-port", three.config.base_port + 10_000)
    ran.refused(1, f"node-0 is in use by process {three.supervisor.running()[0]}. Stop it first, or choose another")


def test_a_directory_that_cannot_be_made_is_named(stopped: RealCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    ran = stopped.node(0, "--data-dir", tmp_path / "file", "--log-dir", tmp_path / "logs")
    ran.refused(1, f"cannot use {tmp_path}/file", "Make the directory writable, or choose another --data-dir")


WITHOUT_PRIVILEGES = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""For root permissions are no obstacle; exec without these two capabilities, and they are. Others have none to lose."""


@pytest.mark.parametrize("place", ["", "node-0"])
def test_a_directory_that_may_not_be_written_is_named(stopped: RealCluster, data: Path, place: str) -> None:
    closed = data / place
    if closed == data:
        shutil.rmtree(data / "node-0")  # so that it has to be made
    before = contents(data)
    closed.chmod(0o500)
    command = [*node_command(stopped.config, 0), "--data-dir", str(data), "--log-dir", str(data.parent / "logs")]
    ran = run_program([sys.executable, "-c", WITHOUT_PRIVILEGES, *command])
    closed.chmod(0o700)
    ran.refused(
        1, f"cannot use {closed}", "Permission denied. Make the directory writable, or choose another --data-dir"
    )
    assert contents(data) == before


# ---- is it whole -------------------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def moved_away(directory: Path) -> str:
    """What next, of everything that is damaged."""
    return f"(mv {directory} {directory}.damaged) and start again: the node then joins anew from the others"


@pytest.mark.parametrize("where", [0, 9, 0.5, -1])
def test_a_damaged_meta_is_refused_with_file_and_offset(stopped: RealCluster, data: Path, where: float) -> None:
    meta = data / "node-2" / "META"
    size = meta.stat().st_size
    flip(meta, int(where * size) if isinstance(where, float) else where % size)
    ran = start(stopped, 2, data)
    ran.refused(1, f"{meta}: damaged at offset {0 if where == 0 else 8}: ", moved_away(data / "node-2"))


@pytest.mark.parametrize("left", [0, 5, 40])
def test_a_meta_cut_short_is_refused(stopped: RealCluster, data: Path, left: int) -> None:
    meta = data / "node-2" / "META"
    os.truncate(meta, left)
    start(stopped, 2, data).refused(1, f"{meta}: damaged at offset ", moved_away(data / "node-2"))


@pytest.mark.parametrize("name", ["META", "CURRENT"])
def test_a_missing_file_beside_a_log_is_refused(stopped: RealCluster, data: Path, name: str) -> None:
    (data / "node-2" / name).unlink()
    start(stopped, 2, data).refused(1, f"{data}/node-2/{name}: missing", moved_away(data / "node-2"))


def test_a_missing_log_is_refused(stopped: RealCluster, data: Path) -> None:
    (segment,) = (data / "node-2").glob("gen-*/log.*")
    segment.unlink()
    ran = start(stopped, 2, data)
    ran.refused(1, f"{segment.parent}/log.1.", "the log ended at 1.", "ends at 0.0 now", moved_away(data / "node-2"))


def test_damage_in_the_middle_of_the_log_is_refused_with_file_and_offset(stopped: RealCluster, data: Path) -> None:
    (segment,) = (data / "node-1").glob("gen-*/log.*")
    middle = segment.stat().st_size // 2
    flip(segment, middle)
    ran = start(stopped, 1, data)
    ran.refused(1, f"{segment}: damaged at offset ", "a later write stands at offset ", moved_away(data / "node-1"))
    named = re.search(r"damaged at offset (\d+): .* at offset (\d+)", ran.err)
    assert named is not None
    assert int(named[1]) <= middle < int(named[2])
    dumped = stopped.server_py("log", "dump", data / "node-1")
    assert dumped.code == 1
    assert f"DAMAGED: {segment} at offset {named[1]}" in dumped.out


def test_a_log_that_lost_its_end_after_a_clean_stop_is_refused(stopped: RealCluster, data: Path) -> None:
    (segment,) = (data / "node-1").glob("gen-*/log.*")
    os.truncate(segment, segment.stat().st_size * 3 // 4)
    start(stopped, 1, data).refused(1, f"{segment}: damaged at offset ", moved_away(data / "node-1"))


def test_the_advice_for_a_damaged_directory_works_and_nothing_is_lost(three: RealCluster) -> None:
    three.up()
    for key in KEYS:
        three.put(key)
    three.until_equal()
    three.supervisor.stop()
    (segment,) = three.data(1).glob("gen-*/log.*")
    flip(segment, segment.stat().st_size // 2)
    three.start()
    ended = three.wait_ended(1)
    ended.refused(1, f"{segment}: damaged", moved_away(three.data(1)))
    three.until_led()
    assert three.missing(*KEYS) == [], "the others are a quorum"
    three.data(1).rename(f"{three.data(1)}.damaged")
    three.up(1)
    three.until("joined", lambda status: all(node["joined"] for node in status["nodes"]))
    three.until_equal()
