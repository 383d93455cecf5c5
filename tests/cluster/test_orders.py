"""Orders: who is meant, what is done, and what is refused in words."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from zabzmq.cluster.orders import ELECTION_MS, Orders, Refused, Seen, done_in_words, process_states
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.core.errors import StorageError
from zabzmq.server.config import load
from zabzmq.storage.synced import Lost


class Nodes(Supervisor):
    """A supervisor of nodes that are no processes: node n has process id 100 + n."""

    def __init__(self, directory: Path) -> None:
        self.config = load(
            nodes=5, base_port=21800, data_dir=directory / "data", log_dir=directory / "logs", environ={}
        )
        super().__init__(self.config)
        self.alive = dict.fromkeys(range(5), 100)
        self.still: set[int] = set()
        self.ended_with: dict[int, int] = {}
        self.done: list[tuple[str, int]] = []
        self.record = True

    def running(self) -> dict[int, int]:
        return {node: base + node for node, base in self.alive.items()}

    @property
    def paused(self) -> set[int]:
        return self.still

    @property
    def codes(self) -> dict[int, int]:
        return self.ended_with

    def start(self, node: int, *options: str) -> None:
        self.done.append(("start", node))
        self.alive[node] = 200

    def kill(self, node: int) -> None:
        self.done.append(("kill", node))
        self.alive.pop(node, None)
        self.ended_with[node] = -9

    def pause(self, node: int) -> None:
        self.still.add(node)

    def resume(self, node: int) -> None:
        self.still.discard(node)

    def cut_power(self, node: int) -> Lost:
        self.kill(node)
        if not self.record:
            raise StorageError("no record")
        return Lost(512, 1)

    def delete_data(self, node: int) -> None:
        self.done.append(("delete", node))

    def stop_node(self, node: int, timeout_s: float = 0.0) -> int | None:
        self.done.append(("stop", node))
        return 0

    def stop(self, timeout_s: float = 0.0) -> dict[int, int]:
        self.done += [("stop", node) for node in sorted(self.alive)]
        self.alive.clear()
        return {}


class Cluster:
    """Five nodes of which 3 leads."""

    def __init__(self, directory: Path) -> None:
        self.nodes = Nodes(directory)
        self.leader: int | None = 3
        self.by_hand: dict[int, int] = {}
        self.patience_ms = 0.0
        self.orders = Orders(self.nodes.config, self.nodes, self.look, " --nodes 5", random.Random(1))

    def look(self, patience_ms: float) -> Seen:
        self.patience_ms = patience_ms
        return Seen(self.leader, {**self.nodes.running(), **self.by_hand})

    def refusal(self, verb: str, target: str) -> tuple[int, str]:
        with pytest.raises(Refused) as refused:
            self.orders.perform(verb, target)
        return refused.value.status, str(refused.value)

    def chosen(self, verb: str, target: str) -> set[int]:
        """Everyone that this word may mean now."""
        return {self.orders._choose(verb, target) for _ in range(100)}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_a_number_means_that_node_and_words_mean_who_fits(cluster: Cluster) -> None:
    assert cluster.chosen("kill", "2") == {2}
    assert cluster.chosen("kill", "leader") == {3}
    assert cluster.chosen("kill", "follower") == {0, 1, 2, 4}
    assert cluster.chosen("kill", "any") == {0, 1, 2, 3, 4}


def test_any_and_follower_pass_over_those_it_cannot_be_done_to(cluster: Cluster) -> None:
    cluster.orders.perform("kill", "0")
    cluster.orders.perform("pause", "1")
    assert cluster.chosen("kill", "any") == {1, 2, 3, 4}
    assert cluster.chosen("pause", "follower") == {2, 4}
    assert cluster.chosen("resume", "any") == {1}
    assert cluster.chosen("restart", "any") == {0}, "who is down needs it most"


def test_only_an_order_to_the_leader_waits_for_there_to_be_one(cluster: Cluster) -> None:
    for target in ("2", "follower", "any"):
        cluster.chosen("kill", target)
        assert cluster.patience_ms == 0.0
    cluster.chosen("kill", "leader")
    assert cluster.patience_ms == ELECTION_MS


def test_what_is_done_is_answered(cluster: Cluster) -> None:
    perform = cluster.orders.perform
    assert perform("pause", "1") == {"v": 1, "node": 1, "done": "paused"}
    assert perform("resume", "1") == {"v": 1, "node": 1, "done": "resumed"}
    assert perform("kill", "leader") == {"v": 1, "node": 3, "done": "killed"}
    assert perform("restart", "3") == {"v": 1, "node": 3, "done": "started", "pid": 203}
    assert perform("restart", "3") == {"v": 1, "node": 3, "done": "restarted", "pid": 203}
    assert perform("powercut", "2") == {"v": 1, "node": 2, "done": "powercut", "lost_bytes": 512, "undone": 1}
    assert cluster.orders.brought_down == {2}


def test_reset_stops_all_before_any_data_goes_and_starts_all_after(cluster: Cluster) -> None:
    cluster.orders.perform("kill", "1")
    cluster.nodes.done.clear()
    assert cluster.orders.perform("reset", "") == {"v": 1, "done": "reset"}
    assert [what for what, _ in cluster.nodes.done] == ["stop"] * 4 + ["delete"] * 5 + ["start"] * 5
    assert cluster.orders.brought_down == set()


def test_down_stops_all(cluster: Cluster) -> None:
    assert cluster.orders.perform("down", "") == {"v": 1, "done": "down"}
    assert cluster.nodes.running() == {}


@pytest.mark.parametrize("target", ["5", "-1", "", "leaders", "0,1", "all", "LEADER", "0 "])
def test_a_target_that_is_none_is_refused_with_those_there_are(cluster: Cluster, target: str) -> None:
    status, text = cluster.refusal("kill", target)
    assert status == 400
    assert text.endswith("say one of 0 1 2 3 4 leader follower any")


def test_what_cannot_be_done_now_is_refused(cluster: Cluster) -> None:
    cluster.orders.perform("kill", "0")
    cluster.orders.perform("pause", "1")
    assert cluster.refusal("kill", "0") == (409, "node 0 is down already")
    assert cluster.refusal("pause", "0") == (409, "node 0 is down")
    assert cluster.refusal("pause", "1") == (409, "node 1 is paused already")
    assert cluster.refusal("resume", "2") == (409, "node 2 is not paused")
    cluster.orders.perform("resume", "1")
    assert cluster.refusal("resume", "any") == (404, "there is no node to resume now")
    cluster.leader = None
    assert cluster.refusal("kill", "leader") == (404, "there is no leader now")


@pytest.mark.parametrize(
    ("verb", "typed"),
    [
        ("kill", "type: kill -9 4711"),
        ("pause", "type: kill -STOP 4711"),
        ("resume", "type: kill -CONT 4711"),
        ("restart", "type: kill 4711; python zookeeper_server.py --nodes 5 node 3"),
        ("powercut", "power can be cut only by the supervisor that started it"),
    ],
)
@pytest.mark.parametrize("target", ["3", "leader"])
def test_a_node_started_by_hand_is_left_alone_and_people_are_told_what_to_type(
    cluster: Cluster, verb: str, typed: str, target: str
) -> None:
    cluster.nodes.alive.pop(3)
    cluster.by_hand[3] = 4711
    assert cluster.refusal(verb, target) == (409, f"node 3 (pid 4711) was started by hand; {typed}")
    assert cluster.nodes.done == []


def test_any_is_never_a_node_started_by_hand_and_nothing_is_reset_under_it(cluster: Cluster) -> None:
    cluster.nodes.alive.pop(4)
    cluster.by_hand[4] = 4711
    assert cluster.chosen("restart", "any") == {0, 1, 2, 3}
    assert cluster.refusal("reset", "") == (409, "node 4 (pid 4711) was started by hand; stop it first: kill 4711")
    assert cluster.nodes.done == []


def test_power_is_not_cut_where_nobody_knows_what_was_synced(cluster: Cluster) -> None:
    cluster.nodes.record = False
    assert cluster.refusal("powercut", "0") == (409, "no record")


def test_processes_are_told_as_they_are(cluster: Cluster) -> None:
    cluster.orders.perform("kill", "0")
    cluster.orders.perform("pause", "1")
    cluster.nodes.alive.pop(2)
    assert process_states(cluster.nodes.config, cluster.nodes, {2: 4711})[:4] == [
        {"id": 0, "pid": None, "state": "down", "code": -9, "owned": True},
        {"id": 1, "pid": 101, "state": "paused", "code": None, "owned": True},
        {"id": 2, "pid": 4711, "state": "running", "code": None, "owned": False},
        {"id": 3, "pid": 103, "state": "running", "code": None, "owned": True},
    ]


@pytest.mark.parametrize(
    ("done", "words"),
    [
        ({"node": 2, "done": "killed"}, "node 2 killed"),
        ({"node": 2, "done": "started", "pid": 7}, "node 2 started (pid 7)"),
        (
            {"node": 2, "done": "powercut", "lost_bytes": 5, "undone": 0},
            "node 2 lost its power: 5 bytes and 0 changes of names were not synced, and are gone",
        ),
        (
            {"node": 2, "done": "powercut", "lost_bytes": 0, "undone": 0},
            "node 2 lost its power; all it had written was synced",
        ),
        ({"done": "reset"}, "all data deleted, all nodes started anew"),
        ({"done": "down"}, "all nodes stopped"),
    ],
)
def test_an_answer_can_be_said_in_words(done: dict[str, object], words: str) -> None:
    assert done_in_words(done) == words
