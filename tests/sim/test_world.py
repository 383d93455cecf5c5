"""Whole schedules: nothing breaks, all becomes well again, and a seed fixes everything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.stage import Stage
from zabzmq.core.history import Admit, Batch
from zabzmq.core.messages import Phase
from zabzmq.core.zxid import Zxid
from zabzmq.sim import Report, run_seed, run_seeds, trace, trace_hash
from zabzmq.sim.plan import MESSAGES_MIN, Fault, Plan
from zabzmq.sim.run import METHODS
from zabzmq.sim.world import World


@pytest.fixture(scope="module")
def sixty() -> Report:
    return run_seeds(0, 59, nodes=5)


def test_no_seed_breaks_a_promise(sixty: Report) -> None:
    assert sixty.violations == []


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7])
def test_nor_does_any_with_another_number_of_nodes(nodes: int) -> None:
    report = run_seeds(100, 130 if nodes == 3 else 107, nodes=nodes)
    assert report.violations == []


def test_a_schedule_is_worth_its_name(sixty: Report) -> None:
    assert min(sixty.delivered_of) >= MESSAGES_MIN
    assert sixty.commits_median >= 50
    assert sixty.elections >= sixty.schedules
    assert all(sixty.syncs[method] for method in METHODS)
    phases = ("ELECTION", "DISCOVERY", "SYNCHRONIZATION", "BROADCAST")
    assert all(sixty.crashes[phase] for phase in phases), sixty.crashes


def test_the_report_has_the_keys_that_people_were_promised(sixty: Report) -> None:
    told = sixty.as_json()
    keys = {"schedules", "delivered", "commits", "elections", "syncs", "crashes", "violations", "seconds"}
    assert keys <= set(told)
    assert set(told["syncs"]) == {"DIFF", "TRUNC", "SNAP"}
    assert told["schedules"] == 60


def test_two_jobs_come_to_the_same_as_one() -> None:
    one, two = (run_seeds(0, 5, nodes=3, jobs=jobs).as_json() for jobs in (1, 2))
    del one["seconds"], two["seconds"]
    assert one == two


def test_progress_is_told() -> None:
    sums: list[int] = []
    run_seeds(0, 24, nodes=1, progress=lambda report: sums.append(report.schedules))
    assert sums == [20, 25]


def test_the_trace_is_the_same_whatever_the_hash_seed() -> None:
    def elsewhere(hash_seed: str) -> str:
        code = "from zabzmq.sim import trace_hash; print(trace_hash(7, 3))"
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout

    assert elsewhere("1").strip() == elsewhere("4711").strip() == trace_hash(7, 3)


def test_another_seed_is_another_run() -> None:
    assert trace_hash(7, 3) != trace_hash(8, 3)


def test_watching_does_not_change_what_happens() -> None:
    watched = World(11, 5, tell=lambda line: None)
    watched.run()
    report = run_seed(11, 5)
    assert (watched.network.delivered, watched.watcher.commits) == (report.delivered, report.commits)


def test_the_trace_reads_like_a_story() -> None:
    lines = list(trace(7, 3))
    assert lines[0] == "seed 7, 3 nodes"
    assert any("FOLLOWERINFO" in line for line in lines)
    assert any("-> Moved(state=LEADING, phase=BROADCAST" in line for line in lines)
    assert not any("0x" in line for line in lines)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
def test_every_kind_of_fault_alone_is_survived(fault: Fault) -> None:
    for seed in range(3):
        world = World(seed, 5, Plan(faults=(fault,), pause_between=100.0, fault_ms=600.0))
        world.run()
        assert world.violations == []


def test_all_five_lose_power_at_once_and_nothing_acknowledged_is_lost() -> None:
    world = World(3, 5, Plan(clients=3, operations=30, think=20.0))
    world.run_until(0.0)
    for peer in world.voters.ids:
        world.start(peer)
    for client in world.clients:
        world.later(500.0, client.start)
    assert world.run_until(900.0)
    told = sum(len(client.record) for client in world.clients)
    committed = len(world.watcher.committed)
    assert told
    for peer in world.voters.ids:
        world.crash(peer, power=True)
    world.run_until(1000.0)
    world.heal()
    assert world.run_until(6000.0)
    assert world._is_well(), world._what_is_wrong()
    assert len(world.watcher.committed) >= committed


def test_three_of_five_down_means_no_leader_until_one_is_back() -> None:
    world = World(4, 5, Plan(clients=1, operations=0))
    for peer in world.voters.ids:
        world.start(peer)
    assert world.run_until(2000.0)
    for peer in world.voters.ids[2:]:
        world.crash(peer, power=False)
    assert world.run_until(6000.0)
    living = [process for process in world.processes.values() if process is not None]
    assert len(living) == 2
    assert not any(process.node.peer.is_established for process in living)
    world.start(world.voters.ids[3])
    assert world.run_until(10_000.0)
    phases = {process.node.peer.phase.phase for process in world.processes.values() if process is not None}
    assert phases == {Phase.BROADCAST}


def test_of_two_admissions_committed_at_once_the_later_counts() -> None:
    """A disk was lost and put back in before the first was committed (L18)."""
    on = Stage()
    on.start()
    leader = on.leader()
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))
    last = on.commit(leader)
    watcher, peer = on.world.watcher, on.peers[0]
    for counter, life in ((last.counter + 1, 11), (last.counter + 2, 22)):
        batch = Batch(Zxid(last.epoch, counter), Zxid(last.epoch, counter - 1), 1, 0, Admit(peer, life), b"")
        watcher.logged[batch.first] = watcher.ending[batch.last] = batch
    watcher._on_commit(leader, last.epoch, batch.last)
    assert watcher.lives[peer] == 22
