"""Real processes on a real disk: leaders die, nodes stop, freeze and come back; nothing acknowledged is lost."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.e2e.real import RealCluster, run_program
from zabzmq.client.call import Outcome
from zabzmq.machine.operations import Put


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
    status = cluster.status()
    assert status["leader"] not in (None, first)
    assert status["epoch"] >= 2
    assert status["health"] == "degraded"
    assert cluster.server_py("status", "--strict").code == 9

    cluster.up(first)
    cluster.until_equal()
    game = cluster.status()["game"]
    assert (game["target"], game["owner"], game["opener"]) == (49, "carol", "alice")


def test_a_node_stopped_with_ctrl_c_closes_its_log_and_exits_0(cluster: RealCluster) -> None:
    leader = cluster.up()["leader"]
    cluster.put(*keys("before", 5))
    cluster.supervisor.signal(leader, signal.SIGINT)
    assert cluster.supervisor.stop_node(leader) == 0
    assert "stopped by SIGINT" in cluster.log(leader)
    assert "closed cleanly" in cluster.server_py("log", "dump", cluster.data(leader)).out
    cluster.put("after")
    cluster.up(leader)
    cluster.until_equal()
    assert cluster.missing(*keys("before", 5), "after") == []


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
    down = [node for node in cluster.config.ids if node != leader][:3]
    cluster.kill(*down)
    cluster.until("without a leader", lambda status: status["leader"] is None)
    refused = cluster.client_py("--timeout", 1, "kv", "put", "k", "v")
    assert refused.code == 3
    assert "quorum" in refused.err or "leader" in refused.err
    assert cluster.server_py("status").code == 3
    cluster.up(*down)
    assert cluster.missing(*keys("kept", 20)) == []
    cluster.until_equal()


def test_a_frozen_leader_is_replaced_and_steps_down_when_it_wakes(cluster: RealCluster) -> None:
    frozen = cluster.up()["leader"]
    cluster.put("before")
    cluster.supervisor.signal(frozen, signal.SIGSTOP)
    asleep = time.monotonic()
    successor = cluster.until_led(but=frozen)
    count = 0
    while time.monotonic() < asleep + 5.0:
        count += 1
        cluster.put(f"meanwhile-{count}")
    cluster.supervisor.signal(frozen, signal.SIGCONT)
    status = cluster.until("healthy", lambda status: bool(status["health"] == "healthy"))
    assert status["leader"] == successor, "the one that woke disturbs nobody (E5)"
    assert cluster.missing("before", *(f"meanwhile-{n}" for n in range(1, count + 1))) == []
    cluster.until_equal()
    assert "stood still" in cluster.log(frozen)


def test_a_wiped_node_is_admitted_again_and_counts(cluster: RealCluster) -> None:
    leader = cluster.up()["leader"]
    wiped = next(node for node in cluster.config.ids if node != leader)
    cluster.put(*keys("kept", 20))
    cluster.kill(wiped)
    shutil.rmtree(cluster.data(wiped))
    cluster.start(wiped)
    cluster.until("joined again", lambda s: all(n["up"] and n["joined"] for n in s["nodes"]))
    cluster.until_equal()
    # It counts: with two others gone, it is needed for every commit.
    others = [node for node in cluster.config.ids if node not in (leader, wiped)][:2]
    cluster.kill(*others)
    cluster.put("with-the-wiped-one")
    assert cluster.missing(*keys("kept", 20), "with-the-wiped-one") == []


def test_after_a_majority_of_disks_is_lost_only_the_unsafe_switch_goes_on(cluster: RealCluster) -> None:
    cluster.up()
    cluster.put(*keys("kept", 20))
    cluster.until_equal()
    wiped, survivors = (0, 1, 2), (3, 4)
    cluster.kill(*cluster.config.ids)
    for node in wiped:
        shutil.rmtree(cluster.data(node))
    cluster.start()
    for node in survivors:
        cluster.until_log(node, "a majority has lost its disks: 0 1 2 are empty")
    assert cluster.status()["leader"] is None
    for node in wiped:
        cluster.supervisor.stop_node(node)
    cluster.supervisor.ended()
    cluster.start(0, options=["--unsafe-rejoin-empty"])
    cluster.until_led()
    cluster.start(1, 2)
    cluster.until_equal()
    assert cluster.missing(*keys("kept", 20)) == [], "what a survivor held is still there"
    assert "--unsafe-rejoin-empty" in cluster.log(0)


def test_the_last_two_of_a_first_start_may_come_late(cluster: RealCluster) -> None:
    cluster.start(0, 1, 2)
    leader = cluster.until_led()
    cluster.put("early")
    cluster.up(3, 4)
    assert cluster.status()["leader"] == leader
    cluster.until_equal()


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
