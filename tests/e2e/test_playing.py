"""client.py and real nodes: the game's refusals, names, exactly once, batch, monitor, status; one shared cluster."""

from __future__ import annotations

import json
import signal
from itertools import pairwise

import pytest

from tests.e2e.real import RealCluster


@pytest.fixture
def between_rounds(shared: RealCluster) -> RealCluster:
    """No round is open."""
    if json.loads(shared.client_py("get", "--json").out)["result"]["open"]:
        assert shared.client_py("--as", "opener", "target", 0, "--new-round").code == 0
        assert "wins" in shared.client_py("--as", "winner", "guess", 0).out
    return shared


@pytest.fixture
def open_round(shared: RealCluster) -> RealCluster:
    """alice has opened a round with 50."""
    assert shared.client_py("--as", "alice", "target", 50, "--new-round").code == 0
    return shared


# ---- the game says no: exit 6, committed as a refusal -------------------------------------------------------------


def test_a_guess_with_no_target_is_refused_and_says_how_to_set_one(between_rounds: RealCluster) -> None:
    between_rounds.client_py("guess", 40).refused(6, "refused: no target yet", "client.py target 50")


def test_a_target_while_a_round_is_open_is_refused_and_names_it(open_round: RealCluster) -> None:
    ran = open_round.client_py("--as", "bob", "target", 60)
    ran.refused(6, "refused: a target is already set (50 by alice, ", "Use: client.py guess 60")


def test_an_own_guess_is_refused(open_round: RealCluster) -> None:
    open_round.client_py("--as", "alice", "guess", 50).refused(
        6, "refused: alice opened this round and knows its number"
    )


def test_a_failed_compare_and_set_is_refused_with_its_place_in_the_history(shared: RealCluster) -> None:
    assert shared.client_py("kv", "put", "k", "old").code == 0
    ran = shared.client_py("kv", "cas", "k", "other", "new", "--json")
    ran.refused(6, "refused: ")
    (answer,) = ran.objects
    assert answer["outcome"] == "refused" and answer["zxid"][1] > 0 and answer["error"]["code"] == "cas_mismatch"
    assert "k = old   at " in shared.client_py("kv", "get", "k").out


def test_values_at_the_very_ends_are_fine(shared: RealCluster) -> None:
    for value in (0, 100):
        assert f"target = {value}" in shared.client_py("target", value, "--new-round").out


# ---- names and exactly once ---------------------------------------------------------------------------------------


def test_without_a_name_every_run_is_a_new_client(shared: RealCluster) -> None:
    assert shared.client_py("target", 50, "--new-round").code == 0
    ran = shared.client_py("guess", 40)
    assert (ran.code, "closer, distance 10: target = 40" in ran.out) == (0, True)


def test_a_name_lasts_over_runs(open_round: RealCluster) -> None:
    """Sessions are new in every run; owner and "own guess" go by name."""
    assert open_round.client_py("--as", "bob", "guess", 40).code == 0
    state = json.loads(open_round.client_py("get", "--json", "--as", "bob").out)["result"]
    assert state == {
        "round": state["round"],
        "open": True,
        "target": 40,
        "owner": "bob",
        "opener": "alice",
        "closest": 10,
    }
    open_round.client_py("guess", 50, "--as", "alice").refused(6, "alice opened this round")


def test_the_same_id_takes_effect_once(open_round: RealCluster) -> None:
    first = open_round.client_py("--as", "bob", "guess", 45, "--json").objects[0]
    assert (first["outcome"], first["result"]["closer"]) == ("ok", True)
    for _ in range(2):
        again = open_round.client_py("--as", "bob", "guess", 45, "--id", first["request"], "--json").objects[0]
        assert (again["outcome"], again["zxid"], again["result"]) == ("ok", first["zxid"], first["result"])
    new = open_round.client_py("--as", "bob", "guess", 45, "--json").objects[0]
    assert new["zxid"] > first["zxid"]
    assert new["result"]["closer"] is False, "another id is another operation"


# ---- batch --------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_line_by_line(shared: RealCluster) -> None:
    lines = [
        {"id": 1, "as": "ann", "op": "target", "value": 50, "new_round": True},
        {"id": 2, "as": "ben", "op": "guess", "value": 47},
        {"id": 3, "as": "ann", "op": "guess", "value": 50},
        {"id": 4, "as": "ben", "op": "guess", "value": 101},
        {"id": 5, "op": "get"},
        {"id": 6, "op": "kv.put", "key": "b", "value": "1"},
        {"id": 7, "op": "kv.get", "key": "b", "read": "local", "node": 2, "timeout": 2.0},
        {"id": 8, "op": "kv.cas", "key": "absent", "expect": None, "value": "x"},
        {"id": 9, "op": "kv.del", "key": "absent"},
        {"id": 10, "op": "jump"},
    ]
    with shared.program("client.py", "batch", "--jsonl", "--window", 1) as batch:
        for number, line in enumerate(lines, 1):
            batch.type(json.dumps(line))
            batch.until_count(number)
        ran = batch.end()
    assert (ran.code, ran.err) == (0, "")
    answers = {answer["id"]: answer for answer in ran.objects}
    outcomes = [answers[number]["outcome"] for number in range(1, 11)]
    assert outcomes == ["ok", "ok", "refused", "refused", "ok", "ok", "ok", "ok", "ok", "refused"]
    assert answers[2]["result"] == {"target": 47, "distance": 3, "closer": True, "won": False}
    assert (answers[3]["zxid"] is not None, answers[3]["error"]["code"]) == (True, "own_guess")
    assert (answers[4]["zxid"], answers[4]["error"]["code"]) == (None, "out_of_range")
    assert (answers[5]["result"]["target"], answers[5]["result"]["owner"]) == (47, "ben")
    assert (answers[7]["read"], answers[7]["node"]) == ("local", 2)
    assert answers[9]["result"] == {"existed": True}
    assert "line 10" in answers[10]["error"]["text"]


def test_a_large_batch_executes_every_line_once(shared: RealCluster) -> None:
    count = 2000
    lines = [{"id": n, "op": "kv.put", "key": f"many-{n}", "value": str(n)} for n in range(count)]
    with shared.program("client.py", "batch", "--jsonl", "--window", 256) as batch:
        for line in lines:
            batch.type(json.dumps(line))
        ran = batch.end()
    assert ran.code == 0
    answers = ran.objects
    assert sorted(answer["id"] for answer in answers) == list(range(count))
    assert {answer["outcome"] for answer in answers} == {"ok"}
    assert len({tuple(answer["zxid"]) for answer in answers}) == count


# ---- monitor ------------------------------------------------------------------------------------------------------


def test_a_monitor_shows_every_commit_once_from_where_it_is_asked_to(open_round: RealCluster) -> None:
    since = json.loads(open_round.client_py("kv", "put", "m", "0", "--json").out)["zxid"]
    with open_round.program("client.py", "monitor", "--since", f"{since[0]}.{since[1]}", "--jsonl") as monitor:
        for n in range(1, 4):
            open_round.client_py("kv", "put", "m", n)
        open_round.client_py("--as", "alice", "guess", 1)
        monitor.until_line('"own_guess"')
        ran = monitor.end(signal.SIGINT)
    assert (ran.code, ran.err) == (0, "")
    shown = [line for line in ran.objects if "op" in line]
    assert [line["value"] for line in shown] == ["1", "2", "3", 1]
    assert [line["outcome"] for line in shown] == ["ok", "ok", "ok", "refused"]
    assert [line["zxid"] for line in shown] == sorted(line["zxid"] for line in shown)


def test_the_log_shows_what_is_committed_so_far_and_ends(open_round: RealCluster) -> None:
    first, *_, last = [json.loads(open_round.client_py("kv", "put", "l", n, "--json").out)["zxid"] for n in range(3)]
    ran = open_round.client_py("log", "--since", f"{first[0]}.{first[1]}", "--jsonl")
    assert (ran.code, ran.err) == (0, "")
    assert [(line["op"], line["value"]) for line in ran.objects] == [("kv.put", "1"), ("kv.put", "2")]
    whole = open_round.client_py("log", "--all")
    assert whole.code == 0
    lines = whole.out.splitlines()
    assert lines[0].startswith("commit 1.1  ") and lines[-1].startswith(f"commit {last[0]}.{last[1]}  ")
    assert open_round.client_py("log", "--since", f"{last[0]}.{last[1]}") == (0, "", "")


# ---- status and log dump ------------------------------------------------------------------------------------------


def test_the_status_of_a_healthy_cluster(shared: RealCluster) -> None:
    shared.until_equal()
    for run in (shared.client_py, shared.server_py):
        table = run("status")
        assert table.code == 0
        assert table.out.startswith("healthy  3/3 up · quorum 2 ok · leader ")
        assert len([line for line in table.out.splitlines() if "FOLLOWING  broadcast" in line]) == 2
        (status,) = run("status", "--json", "--strict").objects
        assert (status["v"], status["health"], status["up"], status["quorum"]) == (1, "healthy", 3, 2)
        assert status["leader"] in (0, 1, 2)
        assert len({node["digest"] for node in status["nodes"]}) == 1


def test_the_voters_of_a_status_come_from_the_nodes(shared: RealCluster) -> None:
    (status,) = shared.server_py("status", "--json", "--nodes", 5).objects
    assert (status["voters"], status["quorum"], status["health"]) == ([0, 1, 2], 2, "healthy")


def test_the_log_can_be_read_beside_a_running_node(shared: RealCluster) -> None:
    shared.put("beside")
    shared.until_equal()
    text = shared.server_py("log", "dump", shared.data(1))
    assert (text.code, text.err) == (0, "")
    assert 'node 1 of cluster "tested", voters 0 1 2' in text.out
    assert "not closed: the node runs, or died" in text.out
    assert "kv put beside beside" in text.out
    lines = shared.server_py("log", "dump", "--json", shared.data(1)).objects
    transactions = [line for line in lines if line["kind"] == "txn"]
    assert transactions[-1]["key"] == "beside"
    for before, after in pairwise(transactions):
        assert after["prev"] == before["zxid"]
    assert shared.status()["health"] == "healthy"


def test_a_write_to_one_node_alone_does_not_go_elsewhere(shared: RealCluster) -> None:
    follower = shared.others(shared.until_led())[0]
    ran = shared.client_py("kv", "put", "n", "1", "--node", follower, "--timeout", 1)
    ran.refused(3, "not done: ", "without --node the leader is found by itself")


def test_a_local_read_says_what_it_is(shared: RealCluster) -> None:
    shared.put("read")
    assert "linearizable" in shared.client_py("kv", "get", "read").out
    shared.until_equal()
    follower = shared.others(shared.until_led())[0]
    assert f"a local read, may be old, node {follower}" in shared.client_py("kv", "get", "read", "--from", follower).out
    assert f"linearizable, node {follower}" in shared.client_py("kv", "get", "read", "--from", follower, "--sync").out
