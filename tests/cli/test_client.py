"""client.py: what it prints, how it exits, and that no input brings out a traceback."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.client.fake import LOSE_REPLY, SERVE, SILENT, FakeCluster
from zabzmq.cli.client import main
from zabzmq.machine.operations import Put
from zabzmq.net.client_wire import ClientReply, ClientRequest, No, Range, ReadMany, RegisterSession, Submit


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("ZAB_BASE_PORT", "ZAB_NODES", "ZAB_CLIENT", "ZAB_TIMEOUT", "ZAB_FORMAT", "ZAB_CONFIG", "ZAB_CLUSTER"):
        monkeypatch.delenv(name, raising=False)

    def call(*args: str | int) -> Ran:
        monkeypatch.setattr(sys, "argv", ["client.py", *map(str, args)])
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


@pytest.fixture
def play(cluster: FakeCluster, run: Run) -> Run:
    return lambda *args: run("--base-port", cluster.base_port, *args)


def refuse(kind: type, why: str) -> Callable[[int, ClientRequest], str | ClientReply]:
    def rule(node: int, request: ClientRequest) -> str | ClientReply:
        if isinstance(request, kind):
            if isinstance(request, Submit):
                return No(0, request.session, request.seq, 1, why, "not now", retry_ms=10)
            assert not isinstance(request, Submit)
            return No(request.rid, (0, 0), 0, 0, why, "not now", retry_ms=10)
        return SERVE

    return rule


# ---- -v and -q ----------------------------------------------------------------------------------------------------


def test_verbose_tells_whom_was_asked_and_what_it_said(run: Run) -> None:
    with FakeCluster(3, leader=1, up=(0, 1)) as cluster:
        silent = iter([True])
        cluster.behave(lambda node, ask: SILENT if isinstance(ask, Submit) and next(silent, False) else SERVE)
        here = ("--base-port", cluster.base_port, "--nodes", 3, "--as", "bob", "target", 50)
        ran = run(*here, "-v")
        assert ran.code == 0 and ran.out.startswith("committed 1.2  target = 50   by bob")
        said = [line.partition(" ms  ")[2] for line in ran.err.splitlines()]
        begin = said[: said.index("node 1: asked for request 1.1-1")]
        assert {
            f"node 2: nobody listens at 127.0.0.1:{cluster.base_port + 12}",
            "node 0: connected",
            "node 0: asked who leads",
            'node 1: it leads epoch 1 of cluster "demo"',
        } <= {*said}
        # What others answered may come in between.
        assert [line for line in begin if "session" in line] == [
            "node 1: asked for a session of bob",
            "node 1: session made at 1.1",
        ]
        assert 'node 0: leader of cluster "demo" is 1' in said
        done = [line for line in said if "request" in line or "committed" in line]
        assert done[-2:] == ["node 1: asked for request 1.1-1, again", "node 1: committed 1.2, on disk at 0 1"]
        alone = run(*here, "--node", 0, "-v", "--timeout", 1)
        assert "node 0: NOT_LEADER, leader is 1: node 0 does not lead\n" in alone.err


def test_quiet_is_about_what_succeeds_only(play: Run) -> None:
    for write in (
        ("target", 50),
        ("guess", 4),
        ("kv", "put", "k", "v"),
        ("kv", "cas", "k", "v", "w"),
        ("kv", "del", "k", "--json"),
    ):
        assert play(*write, "-q") == (0, "", ""), write
    assert play("get", "--json").json["result"]["target"] == 4, "it was done"
    refused = play("target", 50, "-q", "--json")
    assert (refused.code, refused.json["outcome"]) == (6, "refused")
    assert refused.err.startswith("refused: ")
    assert play("get", "-q").code == 2, "what is read is wanted"


# ---- outcomes and exit codes -------------------------------------------------------------------------------------


def test_a_committed_target_is_told_with_its_zxid_and_acks(play: Run) -> None:
    ran = play("--as", "alice", "target", 50)
    assert ran.code == 0
    assert ran.out.startswith("committed 1.2  target = 50   by alice")
    assert "leader 0, acks 0 1 (2 of 5)" in ran.out
    assert ran.err == ""


def test_without_a_name_every_run_is_a_new_client(play: Run) -> None:
    assert play("target", 50).code == 0
    ran = play("guess", 40, "--json")
    assert ran.code == 0, "the same client may not guess its own number"
    assert ran.json["result"] == {"target": 40, "distance": 10, "closer": True, "won": False}


def test_the_json_of_a_success_has_the_one_shape(play: Run) -> None:
    ran = play("target", 50, "--json")
    assert list(ran.json) == [
        "v", "id", "op", "outcome", "zxid", "result", "session", "leader", "attempts", "ms", "request",
    ]  # fmt: skip
    assert ran.json | {"ms": 0} == {
        "v": 1,
        "id": "1.1-1",
        "op": "target",
        "outcome": "ok",
        "zxid": [1, 2],
        "result": {"target": 50, "round": 1},
        "session": "1.1",
        "leader": 0,
        "attempts": 1,
        "ms": 0,
        "request": "1.1-1",
    }


def test_a_refusal_exits_6_with_object_and_prose(play: Run) -> None:
    play("--as", "alice", "target", 50)
    ran = play("target", 60, "--json")
    assert ran.code == 6
    assert (ran.json["outcome"], ran.json["zxid"], ran.json["error"]["code"]) == ("refused", [1, 4], "round_open")
    assert ran.err.startswith("refused: a target is already set (50 by alice, 1.2). Use: client.py guess 60")
    assert play("target", 60, "--new-round").code == 0


@pytest.mark.parametrize(
    ("prepare", "args", "code"),
    [
        ([], ["guess", 1], "no_round"),
        ([["--as", "alice", "target", 5]], ["--as", "alice", "guess", 1], "own_guess"),
        ([["kv", "put", "k", "v"]], ["kv", "cas", "k", "w", "x"], None),
        ([["kv", "put", "k", "v"]], ["kv", "cas", "--absent", "k", "x"], None),
    ],
)
def test_what_the_machines_refuse_exits_6(
    play: Run, prepare: list[list[str | int]], args: list[str | int], code: str | None
) -> None:
    for step in prepare:
        assert play(*step).code == 0
    ran = play(*args, "--json")
    assert ran.code == 6
    assert ran.json["zxid"] is not None
    assert code in (None, ran.json["error"]["code"])
    assert ran.err.startswith("refused: ")


def test_no_leader_exits_3_and_says_how_many_nodes_are_missing(run: Run) -> None:
    with FakeCluster(5, leader=None, up=(0, 1)) as cluster:
        ran = run("--base-port", cluster.base_port, "guess", 1, "--timeout", 0.3, "--json")
    assert ran.code == 3
    assert (ran.json["outcome"], ran.json["error"]["code"]) == ("not_done", "no_leader")
    assert ran.json["zxid"] is None and ran.json["session"] is None
    assert "no leader yet. 2 of 5 nodes are up; 3 are needed to elect one." in ran.err
    assert "up: 0 1   down: 2 3 4     start one:  python zookeeper_server.py --base-port" in ran.err
    assert "node 2" in ran.err


def test_nobody_there_exits_4(run: Run) -> None:
    with FakeCluster(5, up=()) as cluster:
        port = cluster.base_port
        ran = run("--base-port", port, "get", "--timeout", 0.2)
    assert ran.code == 4
    assert f"error: nobody listens on 127.0.0.1:{port + 10}-{port + 14}." in ran.err
    assert "cluster up" in ran.err


def test_silence_after_sending_exits_5_and_names_the_request(play: Run, cluster: FakeCluster) -> None:
    assert play("--as", "alice", "target", 50).code == 0
    cluster.behave(lambda node, request: LOSE_REPLY if isinstance(request, Submit) else SERVE)
    ran = play("--as", "bob", "guess", 47, "--timeout", 0.3, "--json")
    assert ran.code == 5
    assert ran.json["outcome"] == "unknown"
    request = ran.json["request"]
    assert ran.err.startswith("unknown: your guess 47 was sent to leader 0, which went silent before answering.")
    assert f"guess 47 --id {request}" in ran.err
    cluster.behave(lambda node, request: SERVE)
    again = play("--as", "bob", "guess", 47, "--id", request, "--json")
    assert (again.code, again.json["result"]["target"], again.json["request"]) == (0, 47, request)
    assert max(cluster.executed.values()) == 1


@pytest.mark.parametrize("why", ["busy", "not_executed", "not_leader", "no_leader"])
@pytest.mark.parametrize("kind", [RegisterSession, Submit, ReadMany])
def test_refused_attempts_until_the_deadline_exit_3(play: Run, cluster: FakeCluster, kind: type, why: str) -> None:
    cluster.behave(refuse(kind, why))
    ran = play("get" if kind is ReadMany else "guess", *(() if kind is ReadMany else (1,)), "--timeout", 0.15, "--json")
    assert (ran.code, ran.json["outcome"]) == (3, "not_done")
    assert ran.err.startswith("error: ")


def test_a_read_that_nobody_answers_is_not_unknown(play: Run, cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: SILENT if isinstance(request, ReadMany) else SERVE)
    assert play("get", "--timeout", 0.2).code == 3


IN_ANOTHER_CLUSTER: list[list[str | int]] = [
    ["get"],
    ["get", "--from", 1],
    ["get", "--from", "any"],
    ["kv", "put", "k", "v"],
    ["kv", "put", "k", "v", "--node", 0],
    ["monitor"],
    ["log"],
]


@pytest.mark.parametrize("command", IN_ANOTHER_CLUSTER)
def test_where_another_cluster_is_at_every_address_it_is_told_at_once(run: Run, command: list[str | int]) -> None:
    with FakeCluster(3, cluster="green") as cluster:
        began = time.monotonic()
        ran = run("--base-port", cluster.base_port, "--nodes", 3, *command, "--timeout", 600)
    assert time.monotonic() - began < 60
    assert ran.code == 1
    assert 'belong to cluster "green", not "demo"' in ran.err


@pytest.mark.parametrize("command", IN_ANOTHER_CLUSTER)
def test_another_cluster_exits_1_and_names_it(run: Run, command: list[str | int]) -> None:
    with FakeCluster(3, cluster="green") as cluster:
        ran = run("--base-port", cluster.base_port, *command, "--timeout", 0.2)
    assert ran.code == 1
    assert 'belong to cluster "green", not "demo"' in ran.err
    assert "client.py --cluster green" in ran.err


def test_a_log_whose_rest_nobody_tells_ends_in_words(play: Run, cluster: FakeCluster) -> None:
    cluster.write(Put(b"key", b"value"))
    assert play("log").out.count("commit ") == 1
    cluster.behave(lambda node, request: SILENT if isinstance(request, Range) else SERVE)
    ran = play("log", "--timeout", 0.4)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("error: no node tells what follows 0.0.")


def test_status_of_another_cluster_names_it(run: Run) -> None:
    with FakeCluster(3, cluster="green") as cluster:
        ran = run("--base-port", cluster.base_port, "status")
    assert (ran.code, ran.out) == (4, "")
    assert 'belongs to cluster "green", not to "demo"' in ran.err


def test_a_named_node_that_is_down_is_the_one_to_start(play: Run, cluster: FakeCluster) -> None:
    cluster.kill(1)
    cluster.kill(3)
    for command in (["get", "--from", 3], ["guess", 1, "--node", 3]):
        ran = play(*command, "--timeout", 0.2)
        assert ran.code == 4
        assert "up: 0 2 4   start it:  python zookeeper_server.py" in ran.err
        assert ran.err.rstrip().endswith("node 3")


def test_one_node_alone_is_not_left_for_the_leader(play: Run) -> None:
    ran = play("guess", 1, "--node", 3)
    assert ran.code == 3
    assert "node 3 does not lead" in ran.err
    assert play("target", 50, "--node", 0).code == 0


# ---- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["guess", "-5"], "-5 is not in the range 0<=x<=100"),
        (["guess", "101"], "101 is not in the range 0<=x<=100"),
        (["target", "-1"], "-1 is not in the range"),
        (["target", "5.5"], "is not a valid integer"),
        (["guess", "x"], "is not a valid integer"),
        (["guess"], "Missing argument 'VALUE'"),
        (["guess", "1", "2"], "unexpected extra argument"),
        (["guess", "1", "--nonsense"], "No such option"),
        (["gess", "1"], "Did you mean 'guess'?"),
        (["get", "--from", "nine"], "is not a valid integer"),
        (["get", "--from", "9"], "9 is not in the range"),
        (["get", "--from", "5"], "there is no node 5: the nodes are 0 1 2 3 4"),
        (["get", "--from", "any", "--sync"], "--sync needs one node"),
        (["guess", "1", "--node", "-1"], "-1 is not in the range"),
        (["guess", "1", "--id", "bob-17"], "is not of the form 3.5-1"),
        (["guess", "1", "--id", "3.5-0"], "is not of the form 3.5-1"),
        (["guess", "1", "--timeout", "0"], "0"),
        (["guess", "1", "--timeout", "-1"], "-1"),
        (["guess", "1", "--timeout", "nan"], "nan"),
        (["guess", "1", "--as", ""], "1 to 64 printable characters"),
        (["guess", "1", "--as", "x" * 65], "1 to 64 printable characters"),
        (["guess", "1", "--as", "a\nb"], "1 to 64 printable characters"),
        (["--nodes", "0", "get"], "0 is not in the range"),
        (["--nodes", "10", "get"], "10 is not in the range"),
        (["--base-port", "80", "get"], "80 is not in the range"),
        (["kv", "cas", "k", "v"], "the form is: kv cas KEY OLD NEW"),
        (["kv", "cas", "--absent", "k", "v", "w"], "the form is: kv cas --absent KEY NEW"),
        (["kv", "put", "k" * 1025, "v"], "1025 bytes are more than the 1024 allowed"),
        (["batch"], "Missing option '--jsonl'"),
        (["batch", "--jsonl", "--window", "0"], "0 is not in the range"),
        (["bench", "--op", "jump"], "'jump' is not one of"),
        (["bench", "--seconds", "0"], "0"),
        (["monitor", "--since", "7"], "is not of the form 3.7"),
    ],
)
def test_bad_input_exits_2_and_says_why(run: Run, args: list[str], says: str) -> None:
    ran = run(*args)
    assert ran.code == 2
    assert says in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("name", "value"), [("ZAB_TIMEOUT", "soon"), ("ZAB_FORMAT", "xml"), ("ZAB_CLIENT", "\x07"), ("ZAB_BASE_PORT", "x")]
)
def test_bad_environment_exits_2_and_names_the_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    ran = run("get")
    assert ran.code == 2
    assert name in ran.err or "--as" in ran.err


@pytest.mark.parametrize("command", [[], ["target"], ["batch"], ["bench"], ["check"], ["kv", "cas"]])
def test_help_fits_into_80_columns(run: Run, command: list[str]) -> None:
    assert max(map(len, run(*command, "--help").out.splitlines())) <= 80


# ---- options -----------------------------------------------------------------------------------------------------


def test_common_options_stand_before_and_after_the_command(run: Run, cluster: FakeCluster) -> None:
    port = cluster.base_port
    assert run("--base-port", port, "--as", "alice", "--json", "target", 50).json["outcome"] == "ok"
    assert run("guess", 40, "--base-port", port, "--as", "bob", "--json").json["outcome"] == "ok"
    assert run("kv", "--base-port", port, "--json", "put", "k", "v").json["outcome"] == "ok"
    assert run("--base-port", port, "get", "--json").json["result"]["owner"] == "bob"


def test_the_environment_gives_way_to_flags(run: Run, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAB_BASE_PORT", str(cluster.base_port))
    monkeypatch.setenv("ZAB_CLIENT", "eve")
    monkeypatch.setenv("ZAB_FORMAT", "json")
    run("target", 50)
    assert run("get").json["result"]["owner"] == "eve"
    run("target", 60, "--new-round", "--as", "alice")
    assert run("get").json["result"]["owner"] == "alice"


def test_a_config_file_names_the_nodes(run: Run, cluster: FakeCluster, tmp_path: Any) -> None:
    path = tmp_path / "cluster.toml"
    nodes = "".join(f"[[node]]\nid = {n}\nclient = {cluster.base_port + 10 + n}\n" for n in range(5))
    path.write_text(f'name = "demo"\n{nodes}')
    assert run("--config", path, "kv", "put", "k", "v").code == 0
    assert run("get", "--config", tmp_path / "none.toml").code == 1


# ---- reads and kv ------------------------------------------------------------------------------------------------


def test_reads_say_what_they_guarantee(play: Run, cluster: FakeCluster) -> None:
    assert play("get").out.startswith("no target yet   at 0.0, linearizable, node 0")
    play("--as", "alice", "target", 50)
    local = play("get", "--from", 3)
    assert "target = 50 by alice" in local.out and "a local read, may be old, node 3" in local.out
    ran = play("get", "--from", 3, "--json").json
    assert (ran["read"], ran["node"], ran["result"]["target"]) == ("local", 3, 50)
    assert "secret" not in ran["result"]
    assert play("get", "--reveal", "--json").json["result"]["secret"] == 50
    asked = [request for request in cluster.of(ReadMany) if isinstance(request, ReadMany)]
    assert [request.linear for request in asked] == [True, False, False, True]
    assert play("get", "--from", 0, "--linear").code == 0
    assert play("get", "--from", "any").code == 0


def test_missing_things_are_ok_with_null(play: Run) -> None:
    game = play("get", "--json")
    assert (game.code, game.json["outcome"], game.json["result"]["target"]) == (0, "ok", None)
    value = play("kv", "get", "nothing", "--json")
    assert (value.code, value.json["outcome"], value.json["result"]) == (0, "ok", {"value": None})
    assert "nothing has no value" in play("kv", "get", "nothing").out


def test_kv_keeps_bytes_as_they_are(play: Run) -> None:
    for value in ("-5", "a b", "ü", "\udcff", "--"):
        args = ["kv", "put", "k", "--", value] if value == "--" else ["kv", "put", "k", value]
        assert play(*args).code == 0
        result = play("kv", "get", "k", "--json").json["result"]
        assert result == ({"value_b64": "/w=="} if value == "\udcff" else {"value": value})


def test_kv_del_and_cas(play: Run) -> None:
    assert play("kv", "cas", "--absent", "n", "1").code == 0
    assert play("kv", "cas", "n", "1", "2").code == 0
    assert play("kv", "del", "n", "--json").json["result"] == {"existed": True}
    assert play("kv", "del", "n", "--json").json["result"] == {"existed": False}


# ---- status ------------------------------------------------------------------------------------------------------


def test_status_of_a_whole_cluster_is_healthy(play: Run) -> None:
    ran = play("status")
    assert ran.code == 0
    assert ran.out.startswith("healthy  5/5 up · quorum 3 ok · leader 0 · epoch 1 · no target yet")
    assert max(len(line) for line in ran.out.splitlines()[1:]) <= 80
    status = play("status", "--json").json
    assert (status["health"], status["quorum"], status["up"], status["leader"]) == ("healthy", 3, 5, 0)
    assert [node["node"] for node in status["nodes"]] == [0, 1, 2, 3, 4]


def test_status_with_a_node_down_is_degraded(play: Run, cluster: FakeCluster) -> None:
    cluster.kill(4)
    ran = play("status")
    assert (ran.code, ran.out.split()[0]) == (0, "degraded")
    assert "node 4        (1 more failure is survivable)" in ran.out
    assert play("status", "--strict").code == 9


def test_status_without_a_leader_is_electing_or_no_quorum(play: Run, cluster: FakeCluster) -> None:
    cluster.lead(None)
    ran = play("status", "--json")
    assert (ran.code, ran.json["health"], ran.json["leader"]) == (3, "electing", None)
    for node in (2, 3, 4):
        cluster.kill(node)
    ran = play("status", "--json")
    assert (ran.code, ran.json["health"], ran.json["up"]) == (3, "no quorum", 2)


def test_status_of_nothing_is_unreachable(run: Run) -> None:
    with FakeCluster(5, up=()) as cluster:
        ran = run("--base-port", cluster.base_port, "status", "--json")
    assert (ran.code, ran.json["health"]) == (4, "unreachable")


def test_the_voters_come_from_the_nodes_and_not_from_the_client(run: Run, cluster: FakeCluster) -> None:
    status = run("--base-port", cluster.base_port, "--nodes", 1, "status", "--json").json
    assert (status["voters"], status["quorum"]) == ([0, 1, 2, 3, 4], 3)


# ---- bench -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["kv.put", "kv.get", "kv.mix", "guess", "get"])
def test_bench_counts_what_was_done(play: Run, op: str, tmp_path: Any) -> None:
    path = tmp_path / "history.jsonl"
    ran = play(
        "bench", "--op", op, "--seconds", 0.1, "--clients", 2, "--outstanding", 3, "--json", "--history", path
    )  # fmt: skip
    assert ran.code == 0
    out = ran.json
    assert out["ops"] > 0 and out["ops_per_s"] > 0 and out["p50_ms"] > 0 and out["p99_ms"] >= out["p50_ms"]
    assert (out["unknown"], out["not_done"], out["refused"], out["nodes"]) == (0, 0, 0, 5)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    pending: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["type"] == "invoke":
            assert event["process"] not in pending, "a process does one thing at a time"
            pending[event["process"]] = event
        else:
            begun = pending.pop(event["process"])
            assert event["type"] == "ok"
            assert (event["op"], event["key"]) == (begun["op"], begun["key"]) and event["t"] >= begun["t"]
    assert not pending


def test_bench_ends_after_so_many_operations(play: Run, cluster: FakeCluster) -> None:
    ran = play("bench", "-n", 7, "-c", 2, "--outstanding", 3, "--json")
    assert (ran.code, ran.json["ops"], ran.json["number"]) == (0, 7, 7)
    assert ran.json["seconds"] < 5


def test_every_history_begins_with_keys_of_its_own(play: Run, tmp_path: Any) -> None:
    keys = []
    for turn in range(2):
        path = tmp_path / f"{turn}.jsonl"
        play("bench", "--op", "kv.mix", "--seconds", 0.1, "--keys", 3, "--outstanding", 2, "--history", path)
        keys.append({json.loads(line)["key"] for line in path.read_text().splitlines()})
    assert keys[0] and keys[1] and not keys[0] & keys[1]


def test_bench_without_a_leader_exits_3(play: Run, cluster: FakeCluster) -> None:
    cluster.lead(None)
    assert play("bench", "--seconds", 0.1, "--timeout", 0.2).code == 3
