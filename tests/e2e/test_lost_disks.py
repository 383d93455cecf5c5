"""First starts, late and complete ones, and disks that are lost: one, a minority, a majority (L13 to L20)."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.chaos.harness import free_base_port
from tests.e2e.real import Program, RealCluster

KEPT = [f"kept-{n}" for n in range(20)]


def wipe(cluster: RealCluster, *nodes: int) -> None:
    for node in nodes:
        shutil.rmtree(cluster.data(node))


def all_joined(status: dict[str, Any]) -> bool:
    return all(node["up"] and node["joined"] and node["phase"] == "BROADCAST" for node in status["nodes"])


def life(cluster: RealCluster, node: int) -> str:
    (meta,) = [
        line for line in cluster.server_py("log", "dump", "--json", cluster.data(node)).objects if "life" in line
    ][:1]
    return str(meta["life"])


# ---- first starts -------------------------------------------------------------------------------------------------


def test_a_quorum_may_start_first_and_the_last_two_come_late(cluster: RealCluster) -> None:
    cluster.start(0, 1, 2)
    leader = cluster.until_led()
    epoch = cluster.of(leader)["epoch"]
    cluster.put("early")
    cluster.up(3, 4)
    status = cluster.until("joined", all_joined)
    assert (status["leader"], status["epoch"]) == (leader, epoch), "late ones disturb nobody"
    cluster.until_equal()
    # They count: with two of the first three gone they are needed.
    cluster.kill(*[node for node in (0, 1, 2) if node != leader])
    cluster.put("late")
    assert cluster.missing("early", "late") == []


def test_a_late_first_start_into_a_new_epoch_joins_by_admission(cluster: RealCluster) -> None:
    cluster.start(0, 1, 2, 3)
    first = cluster.until_led()
    cluster.put("one")
    cluster.kill(first)
    cluster.until_led(but=first)
    cluster.put("two")
    cluster.start(4)
    cluster.until("joined", lambda s: bool(s["nodes"][4]["up"] and s["nodes"][4]["joined"]))
    cluster.up(first)
    cluster.until_equal()
    dumped = cluster.server_py("log", "dump", cluster.data(4)).out
    assert f"admit node 4   life {life(cluster, 4)}" in dumped
    assert cluster.missing("one", "two") == []


def test_with_bootstrap_all_a_first_start_waits_for_every_node(cluster: RealCluster) -> None:
    cluster.start(0, 1, 2, 3, options=["--bootstrap", "all"])
    # Nothing may happen, so time must pass: they hear each other at once, and a quorum elects within a second.
    cluster.until("waiting", lambda s: all(node["up"] and node["uptime_ms"] > 3000 for node in s["nodes"][:4]))
    status = cluster.status()
    assert (status["leader"], status["health"]) == (None, "electing")
    assert {node["last"][0] for node in status["nodes"][:4]} == {0}
    cluster.client_py("--timeout", 1, "target", 5).refused(3, "error: no leader yet. 4 of 5 nodes are up")
    cluster.start(4, options=["--bootstrap", "all"])
    cluster.until("healthy", lambda s: bool(s["health"] == "healthy"))
    cluster.put("all")
    # Only the first start is so strict.
    cluster.kill(*cluster.config.ids)
    cluster.start(0, 1, 2, options=["--bootstrap", "all"])
    cluster.until_led()
    assert cluster.missing("all") == []


# ---- lost disks ---------------------------------------------------------------------------------------------------


def test_a_wiped_node_is_admitted_again_and_counts(cluster: RealCluster) -> None:
    leader = cluster.up()["leader"]
    wiped = cluster.others(leader)[0]
    cluster.put(*KEPT)
    lives = [life(cluster, wiped)]
    for _ in range(2):  # and again, when it has been admitted before
        cluster.kill(wiped)
        wipe(cluster, wiped)
        cluster.start(wiped)
        cluster.until("joined again", all_joined)
        cluster.until_equal()
        lives.append(life(cluster, wiped))
    dumped = cluster.server_py("log", "dump", cluster.data(leader)).out
    assert len(set(lives)) == 3
    assert all(f"admit node {wiped}   life {each}\n" in dumped for each in lives[1:])
    # It counts: with two others gone, it is needed for every commit.
    cluster.kill(*[node for node in cluster.others(leader) if node != wiped][:2])
    cluster.put("with-the-wiped-one")
    assert cluster.missing(*KEPT, "with-the-wiped-one") == []


def test_a_wiped_minority_the_leader_among_it_is_admitted_again(cluster: RealCluster) -> None:
    leader = cluster.up()["leader"]
    wiped = (leader, cluster.others(leader)[0])
    cluster.put(*KEPT)
    cluster.kill(*wiped)
    wipe(cluster, *wiped)
    cluster.start(*wiped)
    status = cluster.until("joined again", all_joined)
    assert status["leader"] not in wiped
    cluster.until_equal()
    assert cluster.missing(*KEPT) == []


def test_all_stopped_and_a_minority_wiped_the_survivors_lead(cluster: RealCluster) -> None:
    cluster.up()
    cluster.put(*KEPT)
    cluster.kill(*cluster.config.ids)
    wipe(cluster, 3, 4)  # the highest ids, which win every tie
    cluster.start()
    status = cluster.until("joined again", all_joined)
    assert status["leader"] in (0, 1, 2)
    cluster.until_equal()
    assert cluster.missing(*KEPT) == []


def test_after_a_majority_of_disks_is_lost_only_the_unsafe_switch_goes_on(cluster: RealCluster) -> None:
    cluster.up()
    cluster.put(*KEPT)
    cluster.until_equal()
    wiped, survivors = (0, 1, 2), (3, 4)
    cluster.kill(*cluster.config.ids)
    wipe(cluster, *wiped)
    cluster.start()
    for node in survivors:
        cluster.until_log(
            node, "a majority has lost its disks: 0 1 2 are empty and may not count, and 3 4 are no quorum"
        )
        assert "--unsafe-rejoin-empty" in cluster.log(node)
    cluster.client_py("--timeout", 1, "kv", "get", "kept-0").refused(3, "error: no leader yet. 5 of 5 nodes are up")
    status = cluster.server_py("status")
    assert status.code == 3
    assert "not counted yet, for their disks are empty: node 0 1 2" in status.out
    for node in cluster.config.ids:
        cluster.supervisor.stop_node(node)
    cluster.supervisor.ended()
    # The survivors too: a node that came late to the first start was admitted, and then its new life counts with
    # none of those who remember that (L18).
    cluster.start(0, *survivors, options=["--unsafe-rejoin-empty"])
    cluster.until_led()
    cluster.start(1, 2)
    cluster.until("joined", all_joined)
    cluster.until_equal()
    assert cluster.missing(*KEPT) == [], "what a survivor held is still there"
    assert "WARNING --unsafe-rejoin-empty: node 0 lost its disk and counts again at once" in cluster.log(0)
    told = cluster.server_py("trace", "check", "--log-dir", cluster.config.log_dir).out
    assert "TAINTED: --unsafe-rejoin-empty on node 0 3 4" in told


def test_the_unsafe_switch_works_too_when_a_lost_node_was_admitted_before(three: RealCluster) -> None:
    leader = three.up()["leader"]
    three.put(*KEPT)
    survivor, twice, once = (leader, *three.others(leader))
    three.kill(twice)
    wipe(three, twice)
    three.start(twice)
    three.until("joined again", all_joined)
    three.until_equal()
    three.kill(*three.config.ids)
    wipe(three, twice, once)
    three.start(options=["--unsafe-rejoin-empty"])
    assert three.until_led() == survivor
    three.until("joined", all_joined)
    three.until_equal()
    # And from now on without it.
    three.kill(*three.config.ids)
    three.up()
    assert three.missing(*KEPT) == []
    three.put("after")
    three.kill(survivor)
    three.until_led(but=survivor)
    assert three.missing(*KEPT, "after") == []


def test_the_switch_may_stand_in_the_environment(tmp_path: Path) -> None:
    node = (sys.executable, "zookeeper_server.py", "node", 0, "--nodes", 1, "--base-port", free_base_port(1))
    directories = ("--data-dir", tmp_path / "data", "--log-dir", tmp_path / "logs")
    with Program((*node, *directories), ZAB_UNSAFE="rejoin-empty") as program:
        program.until_line("WARNING --unsafe-rejoin-empty: node 0 lost its disk and counts again at once")
        program.end(signal.SIGTERM)
    boot = json.loads((tmp_path / "logs" / "node-0.jsonl").read_bytes().splitlines()[0])
    assert (boot["k"], boot["unsafe"]) == ("boot", ["rejoin-empty"])
