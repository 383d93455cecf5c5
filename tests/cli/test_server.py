"""zookeeper_server.py: what it prints and how it exits. What needs real nodes is in tests/e2e."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import zabzmq
from tests.client.fake import FakeCluster
from zabzmq.cli import common, demo
from zabzmq.cli.server import main, server
from zabzmq.cli.server_status import page
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.storage.store import Store


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("BASE_PORT", "NODES", "CONFIG", "CLUSTER", "DATA_DIR", "LOG_DIR", "DEBUG", "TOKEN", "SEED", "UNSAFE"):
        monkeypatch.delenv(f"ZAB_{name}", raising=False)

    def call(*args: str | int | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["zookeeper_server.py", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(5) as made:
        yield made


# ---- the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "named"),
    [
        (["node", "9"], 2, "9 is not in the range"),
        (["node", "-1"], 2, "-1 is not in the range"),
        (["node", "two"], 2, "'two'"),
        (["node"], 2, "Missing argument 'ID'"),
        (["node", "5"], 2, 'there is no node 5 in cluster "demo": its nodes are 0 1 2 3 4'),
        (["--nodes", "3", "node", "3"], 2, "its nodes are 0 1 2"),
        (["node", "3", "--nodes", "3"], 2, "its nodes are 0 1 2"),
        (["--nodes", "5", "node", "3", "--nodes", "3"], 2, "its nodes are 0 1 2"),
        (["--nodes", "0", "node", "0"], 2, "0 is not in the range"),
        (["--nodes", "10", "node", "0"], 2, "10 is not in the range"),
        (["node", "0", "--base-port", "80"], 2, "80 is not in the range"),
        (["node", "0", "--config", "gone.toml"], 1, "gone.toml: cannot be read"),
        (["--cluster", "", "node", "0"], 2, "cluster name"),
        (["nod", "0"], 2, "No such command 'nod'"),
        (["status", "--jsn"], 2, "--json"),
        (["sim", "--seeds", "9..1"], 2, "9..1"),
        (["sim", "--seeds", "all"], 2, "'all'"),
        (["sim", "--trace"], 2, "give --seed"),
        (["sim", "--seed", "1", "--seeds", "1..2"], 2, "not both"),
        (["log", "dump", "nowhere"], 2, "does not exist"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(run: Run, args: list[str], code: int, named: str) -> None:
    ran = run(*args)
    assert ran.code == code
    assert named in ran.err
    assert ran.out == ""


def test_a_wrong_config_file_is_named_with_its_key(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("[[node]]\nid = 0\n[[node]]\nid = 0\n", encoding="utf-8")
    for command in (["node", "0"], ["status"], ["doctor"], ["cluster", "up"]):
        ran = run("--config", path, *command)
        assert (ran.code, ran.err) == (1, f"error: {path}: [[node]] number 2: id = 0 was given before\n")


def test_the_environment_is_read_where_no_flag_stands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAB_NODES", "2")
    assert "its nodes are 0 1" in run("node", "4").err
    assert "its nodes are 0 1 2" in run("node", "4", "--nodes", "3").err
    monkeypatch.setenv("ZAB_NODES", "many")
    assert run("node", "4").code == 2


def test_help_shows_every_command_and_no_other(run: Run) -> None:
    commands = "cluster completion doctor explain fault log node sim status step trace"
    assert sorted(server.commands) == commands.split()
    for command in server.commands:
        assert command in run("--help").out
    assert isinstance(server.commands["cluster"], click.Group)
    orders = "down kill logs pause powercut ps reset restart resume up"
    assert sorted(server.commands["cluster"].commands) == orders.split()


@pytest.mark.parametrize("command", [[], ["node"], ["sim"], ["fault", "drop"], ["cluster", "up"], ["explain"]])
def test_help_fits_into_80_columns_and_no_range_is_without_ends(run: Run, command: list[str]) -> None:
    shown = run(*command, "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "None" not in shown


def test_both_programs_tell_their_version_alike(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version").out == f"zabzmq {zabzmq.__version__}\n"


def test_an_error_nobody_foresaw_is_told_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: object, options: str) -> int:
        raise RuntimeError("what")

    monkeypatch.setattr("zabzmq.cli.server_doctor.examine", broken)
    ran = run("doctor")
    assert ran.code == 1
    assert ran.err == "error: internal error: RuntimeError: what\n  run again with ZAB_DEBUG=1 to see where\n"


# ---- status ------------------------------------------------------------------------------------------------------


def test_status_when_nobody_listens_says_where_it_asked_and_what_to_start(run: Run) -> None:
    base = demo.free_base_port()
    ran = run("status", "--base-port", base)
    assert ran.code == common.Exit.UNREACHABLE
    assert f"nobody listens on 127.0.0.1:{base + 10}-{base + 14}" in ran.err
    assert f"python zookeeper_server.py --base-port {base} cluster up" in ran.err
    told = run("status", "--json", "--base-port", base)
    assert json.loads(told.out)["health"] == "unreachable"
    assert told.code == common.Exit.UNREACHABLE


def test_status_of_a_cluster_is_one_object_or_one_table(run: Run, cluster: FakeCluster) -> None:
    ran = run("status", "--json", "--base-port", cluster.base_port)
    status: dict[str, Any] = json.loads(ran.out)
    assert {"v", "health", "quorum", "up", "leader", "epoch", "voters", "nodes"} <= status.keys()
    assert (status["v"], status["up"], len(status["nodes"])) == (1, 5, 5)
    assert all({"dropped", "sessions", "last", "committed", "digest"} <= node.keys() for node in status["nodes"])
    table = run("status", "--base-port", cluster.base_port)
    assert table.code == ran.code == 0
    assert max(map(len, table.out.splitlines())) <= 80


def test_ascii_and_json_can_be_asked_for(run: Run, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run("status", "--ascii", "--base-port", cluster.base_port).out
    assert table.isascii() and "0 *  LEADING" in table and "healthy  5/5 up | quorum 3 ok" in table
    monkeypatch.setenv("ZAB_FORMAT", "json")
    assert json.loads(run("status", "--base-port", cluster.base_port).out)["health"] == "healthy"


def test_only_frames_that_should_not_have_come_are_shown(run: Run, cluster: FakeCluster) -> None:
    status = json.loads(run("status", "--json", "--base-port", cluster.base_port).out)
    status["nodes"][1]["dropped"] = {"closed": 3}
    assert not [line for line in page(status, "") if "frames refused" in line], "last words of a link are weather"
    status["nodes"][1]["dropped"]["version"] = 2
    assert page(status, "")[-1] == "frames refused (damaged, foreign or of another version): node 1: 2"


# ---- log dump ----------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A node's data directory with an empty log."""
    path = tmp_path / "data" / "node-1"
    voters = (PeerId(0), PeerId(1), PeerId(2))
    said: list[str] = []
    Store.open(
        path, cluster="c", node=PeerId(1), voters=voters, wall_us=1, on_fatal=said.append, on_warning=said.append
    ).close()
    return path


def test_log_dump_tells_whose_directory_it_is(run: Run, directory: Path) -> None:
    text = run("log", "dump", directory)
    assert text.code == 0
    assert 'node 1 of cluster "c", voters 0 1 2' in text.out
    assert "does not count yet" in text.out
    meta = json.loads(run("log", "dump", "--json", directory).out.splitlines()[0])
    assert (meta["kind"], meta["node"], meta["joined"], meta["closed"]) == ("meta", 1, False, list(Zxid(0, 0)))


def test_log_dump_of_the_parent_directory_names_the_nodes(run: Run, directory: Path) -> None:
    ran = run("log", "dump", directory.parent)
    assert ran.code == 1
    assert str(directory) in ran.err


def test_log_dump_of_anything_else_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    ran = run("log", "dump", tmp_path)
    assert ran.code == 1
    assert "META" in ran.err


# ---- sim and doctor ----------------------------------------------------------------------------------------------


def test_sim_sums_up_its_schedules(run: Run) -> None:
    ran = run("sim", "--seeds", "0..2", "--nodes", "3", "--json")
    report = json.loads(ran.out)
    assert ran.code == 0
    assert report["schedules"] == 3
    assert report["violations"] == []
    assert {"delivered", "commits", "elections", "syncs", "crashes", "seconds"} <= report.keys()


def test_sim_shows_one_run_and_its_hash(run: Run) -> None:
    trace = run("sim", "--seed", "1", "--nodes", "3", "--trace")
    assert trace.out.startswith("seed 1, 3 nodes\n")
    assert run("sim", "--seed", "1", "--nodes", "3", "--trace-hash").out == (
        run("sim", "--seed", "1", "--nodes", "3", "--trace-hash").out
    )


def test_doctor_knows_that_nodes_may_be_on_other_machines(run: Run, tmp_path: Path) -> None:
    hosts = ["127.0.0.1", "203.0.113.1", "203.0.113.2"]  # the last two for documentation only (RFC 5737)
    path = tmp_path / "cluster.toml"
    tables = [f'[[node]]\nid = {id}\nhost = "{host}"\n' for id, host in enumerate(hosts)]
    path.write_text(f"base_port = {demo.free_base_port()}\n" + "".join(tables), encoding="utf-8")
    ran = run("doctor", "--config", path, "--data-dir", tmp_path)
    assert ran.code == 0
    for id in (1, 2):
        assert f"node {id}, {hosts[id]}: on another machine" in ran.out
    assert "all 5 are free" in ran.out, "four of node 0, and the supervisor's"
    assert "Cannot assign" not in ran.out


def test_doctor_says_when_the_working_directory_is_gone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = run("doctor", "--base-port", demo.free_base_port())
    assert (ran.code, ran.err) == (1, "")
    assert "data is nowhere: the working directory is gone" in ran.out


def test_doctor_tells_of_taken_ports_and_where_settings_come_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAB_TIMEOUT", "2.5")
    base = demo.free_base_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", base + 12))
        holder.listen()
        ran = run("doctor", "--base-port", base, "--data-dir", tmp_path)
    assert ran.code == 0
    assert f"node 2, 127.0.0.1:{base + 12}: Address already in use by pid {os.getpid()}" in ran.out
    assert f"see: python zookeeper_server.py --base-port {base} --data-dir {tmp_path} status" in ran.out
    assert f"{'2.5':<24} ZAB_TIMEOUT" in ran.out
    assert f"{base!s:<24} --base-port" in ran.out
    assert "fsync" in ran.out


# ---- the environment ---------------------------------------------------------------------------------------------

TOKEN = "t" * 43


@pytest.mark.parametrize(
    ("variable", "value", "command", "says"),
    [
        ("ZAB_SEED", "many", ["sim"], "'many' is not a valid integer"),
        ("ZAB_SEED", "-1", ["sim"], "-1 is not in the range"),
        ("ZAB_SEED", "1.5", ["fault", "drop", "0-1", "-p", "0.1"], "'1.5' is not a valid integer"),
        ("ZAB_SEED", "x", ["doctor"], "'x' is not a valid integer"),
        ("ZAB_UNSAFE", "rejoin-empty,quorum", ["node", "0"], "there is no switch 'quorum'; known: rejoin-empty"),
        ("ZAB_UNSAFE", "all", ["cluster", "up"], "there is no switch 'all'; known: rejoin-empty"),
        ("ZAB_TOKEN", "secret words", ["fault", "ls"], "that is no token"),
        ("ZAB_TOKEN", "secret words", ["step", "on"], "that is no token"),
        ("ZAB_TOKEN", "secret words", ["doctor"], "that is no token"),
    ],
)
def test_a_bad_variable_exits_2_and_is_named(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    command: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    ran = run("--base-port", demo.free_base_port(), *command)
    assert (ran.code, ran.err.startswith(f"error: {variable}: {says}")) == (2, True), ran
    assert "secret" not in ran.out + ran.err
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_a_seed_of_the_environment_gives_way_to_all_that_names_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seven = run("sim", "--seed", 7, "--trace-hash").out
    monkeypatch.setenv("ZAB_SEED", "7")
    assert run("sim", "--trace-hash").out == seven
    assert run("sim", "--seed", 8, "--trace-hash").out != seven
    assert json.loads(run("sim", "--json").out)["schedules"] == 1
    assert json.loads(run("sim", "--json", "--seeds", "0..2").out)["schedules"] == 3
    scenario = tmp_path / "none"
    scenario.write_text("nothing\n")
    assert "one of them" not in run("sim", "--scenario", scenario).err
    monkeypatch.setenv("ZAB_SEED", "")
    assert run("sim", "--trace-hash").code == 2, "one that is empty is not set"


def test_doctor_tells_of_the_token_that_there_is_one_and_no_more(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ("doctor", "--base-port", demo.free_base_port(), "--log-dir", tmp_path, "--data-dir", tmp_path)
    assert f"  token      {'none yet':<24} default\n" in run(*here).out
    (tmp_path / "token").write_text(TOKEN)
    ran = run(*here)
    assert f"  token      in {tmp_path}/token" in ran.out and TOKEN not in ran.out
    monkeypatch.setenv("ZAB_TOKEN", TOKEN)
    monkeypatch.setenv("ZAB_SEED", "-3")
    monkeypatch.setenv("ZAB_UNSAFE", "rejoin-empty")
    ran = run(*here)
    assert f"  token      {'set, and not shown':<24} ZAB_TOKEN\n" in ran.out and TOKEN not in ran.out
    assert f"  seed       {'-3':<24} ZAB_SEED\n" in ran.out
    assert f"  unsafe     {'rejoin-empty':<24} ZAB_UNSAFE\n" in ran.out
