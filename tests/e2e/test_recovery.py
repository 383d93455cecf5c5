"""Real processes on a real disk: leaders die, nodes stop, freeze and come back; nothing acknowledged is lost."""

from __future__ import annotations

import json
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

from tests.e2e.real import RealCluster, run_program
from zabzmq.client.call import Outcome
from zabzmq.machine.operations import KvQuery, KvValue, Put


def keys(prefix: str, count: int = 50) -> list[str]:
    return [f"{prefix}-{n}" for n in range(count)]


def test_the_walk_of_the_readme_play_kill_the_leader_play_on_restart_it(cluster: RealCluster) -> None:
    first = cluster.up()["leader"]
    assert cluster.client_py("--as", "alice", "target", 50).code == 0
    told = cluster.client_py("--as", "bob", "guess", 47, "--json")
    assert json.loads(told.out)["result"] == {"target": 47, "distance": 3, "closer": True, "won": False}

    cluster.kill(first)
    again = cluster.client_py("--as", "carol", "guess", 49, "--json")
    assert json.loads(again.out)["outcome"] == "ok"
    status = cluster.until("degraded", lambda status: bool(status["health"] == "degraded"))
    assert status["leader"] not in (None, first)
    assert status["epoch"] >= 2
    assert cluster.server_py("status", "--strict").code == 9

    cluster.up(first)
    cluster.until_equal()
    game = cluster.status()["game"]
    assert (game["target"], game["owner"], game["opener"]) == (49, "carol", "alice")


def test_all_five_killed_at_once_lose_nothing(cluster: RealCluster) -> None:
    cluster.up()
    cluster.put(*keys("kept", 200))
    cluster.kill(*cluster.config.ids)
    cluster.up()
    assert cluster.missing(*keys("kept", 200)) == []
    cluster.until_equal()


def test_with_three_of_five_down_clients_are_told_so_and_nothing_is_lost(cluster: RealCluster) -> None:
    leader = cluster.up()["leader"]
    cluster.put(*keys("kept", 20))
    down = cluster.others(leader)[:3]
    left = sorted({*cluster.config.ids} - {*down})
    cluster.kill(*down)
    cluster.until("without a leader", lambda status: status["leader"] is None)
    for words in (["guess", "5"], ["get"]):
        ran = cluster.client_py("--timeout", 1, *words)
        ran.refused(3, "error: no leader yet. 2 of 5 nodes are up; 3 are needed to elect one.", f"node {down[0]}")
        ran.refused(3, f"up: {left[0]} {left[1]}   down: {' '.join(map(str, down))}")
    (answer,) = cluster.client_py("--timeout", 1, "--json", "kv", "put", "k", "v").objects
    assert (answer["outcome"], answer["error"]["code"]) == ("not_done", "no_leader")
    status = cluster.server_py("status")
    assert (status.code, status.out.startswith("no quorum  2/5 up · quorum 3 lost")) == (3, True)
    assert "1 more node needed for a quorum" in status.out
    assert cluster.client_py("kv", "get", "kept-0", "--from", left[0]).code == 0, "a local read still works"
    for node in left:
        cluster.until_log(node, "no quorum: 2 of 5 nodes are up")
    cluster.start(down[0])
    cluster.until_led()
    assert cluster.missing(*keys("kept", 20)) == []
    assert cluster.client_py("kv", "get", "k").out.startswith("k has no value"), "what exited with 3 was not done"
    cluster.up()
    cluster.until_equal()


def test_a_frozen_leader_is_replaced_and_serves_nothing_old_when_it_wakes(cluster: RealCluster) -> None:
    frozen = cluster.up()["leader"]
    cluster.put("k", "before")
    cluster.supervisor.signal(frozen, signal.SIGSTOP)
    asleep = time.monotonic()
    successor = cluster.until_led(but=frozen)
    count = 0
    while time.monotonic() < asleep + 5.0:  # so long must it stand still: far beyond every timeout of the protocol
        count += 1
        cluster.put(f"meanwhile-{count}")
    newest = b"%d" % count
    cluster.do(Put(b"k", newest))
    # Some wait in its sockets when it wakes, and more come while it finds out: it may refuse them, or know better.
    reads = [cluster.client.read(KvQuery(b"k"), node=frozen, linear=True) for _ in range(20)]
    cluster.client.pump(100.0)
    cluster.supervisor.signal(frozen, signal.SIGCONT)
    while (status := cluster.status())["health"] != "healthy":
        reads.append(cluster.client.read(KvQuery(b"k"), node=frozen, linear=True))
        assert time.monotonic() < asleep + 30.0
    reads.append(cluster.client.read(KvQuery(b"k"), node=frozen, linear=True))
    answers = [cluster.client.wait(read) for read in reads]
    assert {answer.result for answer in answers if answer.outcome is Outcome.OK} == {KvValue(newest)}
    assert answers[-1].outcome is Outcome.OK
    assert status["leader"] == successor, "the one that woke disturbs nobody (E5)"
    assert cluster.of(frozen)["state"] == "FOLLOWING"
    assert cluster.missing("before", *(f"meanwhile-{n}" for n in range(1, count + 1))) == []
    cluster.until_equal()
    assert "stood still" in cluster.log(frozen)


def test_a_monitor_shows_every_commit_once_across_leader_changes(three: RealCluster) -> None:
    three.up()
    with three.program("client.py", "monitor", "--since", "0.0", "--all", "--jsonl") as monitor:
        for round_ in range(3):
            three.put(*(f"r{round_}-{n}" for n in range(50)))
            leader = three.until_led()
            three.kill(leader)
            three.put(f"without-{round_}")
            three.up(leader)
        monitor.until_line('"without-2"')
        ran = monitor.end(signal.SIGINT)
    assert (ran.code, ran.err) == (0, "")
    commits = [line for line in ran.objects if "op" in line]
    for before, after in pairwise(commits):
        assert after["prev"] == before["zxid"], "a hole, or a commit out of order"
    shown = [line["key"] for line in commits if line["op"] == "kv.put"]
    wanted = [key for round_ in range(3) for key in (*(f"r{round_}-{n}" for n in range(50)), f"without-{round_}")]
    assert sorted(shown) == sorted(wanted)
    assert len([line for line in ran.objects if line.get("event") == "leader"]) >= 3


def test_one_node_alone_waits_and_says_what_to_type(cluster: RealCluster) -> None:
    cluster.start(2)
    cluster.until_log(2, "no quorum: 1 of 5 nodes are up (2), 3 are needed; not heard: 0 1 3 4. Start one: ")
    assert cluster.status()["health"] == "no quorum"


def test_every_write_acknowledged_before_repeated_kills_of_the_leader_is_found(three: RealCluster) -> None:
    three.up()
    acknowledged: list[str] = []
    for round_ in range(5):
        calls = {f"r{round_}-{n}": three.client.submit(Put(b"r%d-%d" % (round_, n), b"x")) for n in range(300)}
        three.client.pump(5.0)
        leader = three.until_led()
        three.kill(leader)
        for key, call in calls.items():
            if three.client.wait(call).outcome is Outcome.OK:
                acknowledged.append(key)
        three.up(leader)
    digest = three.until_equal()
    assert len(acknowledged) >= 1400
    dump = three.server_py("log", "dump", three.data(0), "--json").out
    written = [line["key"] for line in map(json.loads, dump.splitlines()) if line.get("op") == "kv.put"]
    assert len(written) == len(set(written)), "each was executed once"
    assert set(acknowledged) <= set(written)
    assert digest


def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    began = time.monotonic()
    told = run_program([sys.executable, "-m", "zabzmq.cli.demo"])
    assert told.code == 0, told.err
    assert time.monotonic() - began < 30
    assert "all five nodes hold the same state" in told.out
    assert "\x1b" not in told.out, "readable when piped"
