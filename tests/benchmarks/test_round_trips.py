"""The arithmetic of docs/performance.md for real networks, checked in the simulator's clock: from a request at the
leader to its commit there is one round trip and one sync, however long either takes."""

from __future__ import annotations

import statistics

import pytest

from tests.sim.stage import Stage
from zabzmq.core.timing import Timing
from zabzmq.sim.network import Weather
from zabzmq.sim.plan import Plan
from zabzmq.sim.world import World

COMMITS = 10


class Distant(Stage):
    """Five nodes, this far from each other, with disks this slow."""

    def __init__(self, round_trip_ms: float, sync_ms: float) -> None:
        plan = Plan(
            nodes=5,
            weather=Weather(delay=round_trip_ms / 2, slow=0.0),  # one that is 40 times as late is an outage at 50 ms
            clients=1,
            operations=0,
            sync_ms=sync_ms,
            slow_sync=0.0,
            timing=Timing(bootstrap_wait=50),
        )
        self.world = World(1, 5, plan)
        self.peers = list(self.world.voters.ids)
        self.start()

    def commit_ms(self) -> float:
        """How long the leader takes from a request to its commit, in the middle of many."""
        leader = self[self.leader()]
        spent = []
        for _ in range(COMMITS):
            # Apart from each other by more than all that still travels.
            self.play(200.0)
            began, target = self.world.now, leader.node.peer.history.last.counter + 1
            self.write(leader.process.peer)
            self.until(lambda target=target: leader.state.applied.counter == target)  # type: ignore[misc]
            spent.append(self.world.now - began)
        return statistics.median(spent)


@pytest.mark.parametrize("round_trip_ms", [0.5, 2.0, 50.0])
@pytest.mark.parametrize("sync_ms", [0.3, 5.0])
def test_a_commit_takes_one_round_trip_and_one_sync(round_trip_ms: float, sync_ms: float) -> None:
    once = round_trip_ms + sync_ms
    spent = Distant(round_trip_ms, sync_ms).commit_ms()
    # The second fastest follower of four is a little faster than the middle one; a turn of a node takes its time.
    assert 0.7 * once < spent < 1.15 * once + 0.4, f"{spent:.2f} ms instead of about {once:.2f}"
