"""Real nodes under watch: what they tell fits together, and no watcher holds up a commit."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harness import Cluster, events_in, wait_for
from zabzmq.client.call import Outcome
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.machine.operations import Put
from zabzmq.server.observe import LOOPBACK

PATIENCE_S = 30.0
NAME = "<img src=x onerror=alert(1)>"


class Watched(Cluster):
    """Three nodes, and their observe ports."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, nodes=3)
        self.supervisor = Supervisor(self.config, ["--allow-faults"])

    def http(self, node: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(LOOPBACK, self.config.listen(node).observe, timeout=PATIENCE_S)
        try:
            headers = {"content-type": "application/json"}
            if method == "POST":
                headers["x-zab-token"] = (self.config.log_dir / "token").read_text().strip()
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def state(self, node: int) -> dict[str, Any] | None:
        try:
            status, state = self.http(node, "GET", "/state")
        except OSError:
            return None
        assert status == 200
        found: dict[str, Any] = state
        return found

    def op(self, node: int, **body: Any) -> dict[str, Any]:
        status, said = self.http(node, "POST", "/op", body)
        assert status == 200, said
        answer: dict[str, Any] = said
        return answer

    def until_watched(self) -> None:
        """All endpoints answer, and all nodes serve."""

        def serving() -> bool:
            states = [self.state(node) for node in self.config.ids]
            return all(state is not None and state["phase"] == "BROADCAST" for state in states)

        wait_for(serving, PATIENCE_S, "three nodes that serve")

    def events(self, node: int) -> list[dict[str, Any]]:
        return events_in(self.config.log_dir / f"node-{node}.jsonl")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("watched"))
    with watched:
        watched.until_watched()
        yield watched


def test_a_round_is_played_through_the_leader_and_names_are_only_text(cluster: Watched) -> None:
    leader = cluster.leader()
    opened = cluster.op(leader, **{"as": NAME, "op": "target", "value": 50, "id": 7})
    assert (opened["outcome"], opened["id"], opened["result"]["target"]) == ("ok", 7, 50)
    refused = cluster.op(leader, **{"as": NAME, "op": "guess", "value": 47})
    assert (refused["outcome"], refused["error"]["code"]) == ("refused", "own_guess")
    won = cluster.op(leader, **{"as": "bob", "op": "guess", "value": 50})
    assert (won["outcome"], won["result"]["won"]) == ("ok", True)
    assert cluster.op(leader, op="get")["result"]["owner"] == "bob"
    _, log = cluster.http(leader, "GET", f"/log?from={opened['zxid'][0]}.{opened['zxid'][1] - 1}")
    told = [(e["as"], e["op"], e["outcome"]) for e in log["entries"] if e["op"] in ("target", "guess")]
    assert told == [(NAME, "target", "ok"), (NAME, "guess", "refused"), ("bob", "guess", "ok")]
    applied = [event["game"] for event in cluster.events(leader) if event["k"] == "apply" and "game" in event]
    wait_for(lambda: [e for e in cluster.events(leader) if e.get("game", {}).get("owner") == "bob"], 10.0, "the event")
    assert all(game["opener"] in (None, NAME) for game in applied)


def test_a_node_that_does_not_lead_does_nothing_and_says_who_does(cluster: Watched) -> None:
    leader = cluster.leader()
    follower = (leader + 1) % 3
    began = time.monotonic()
    said = cluster.op(follower, op="kv.put", key="k", value="v", timeout=2)
    assert (said["outcome"], said["leader"]) == ("not_done", leader)
    assert said["error"]["code"] == "not_leader"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "body", [{}, {"op": "guess", "value": 101}, {"op": "guess"}, {"op": "crash"}, [1], "x", {"op": 1}]
)
def test_what_asks_for_nothing_possible_is_refused_in_words(cluster: Watched, body: Any) -> None:
    status, said = cluster.http(cluster.leader(), "POST", "/op", body)
    assert status == 400
    assert said["error"]["text"]


def test_the_state_is_what_the_node_says_to_its_clients(cluster: Watched) -> None:
    def same(node: int) -> bool:
        state, status = cluster.state(node), cluster.status(node)
        if state is None or status is None or list(status.applied) != state["applied"]:
            return False
        assert (state["digest"], state["role"], state["epoch"]) == (status.digest, status.state, status.epoch)
        assert state["game"] == status.game
        return True

    wait_for(lambda: all(same(node) for node in cluster.config.ids), PATIENCE_S, "equal words")


def test_what_three_nodes_tell_fits_together(cluster: Watched) -> None:
    leader = cluster.leader()
    with cluster.client("writer") as client:
        calls = [client.submit(Put(b"key", b"%d" % i)) for i in range(50)]
        assert all(client.wait(call).outcome is Outcome.OK for call in calls)

    def told() -> list[dict[str, Any]] | None:
        """All events, once every node has told of the last batch."""
        last = (cluster.state(leader) or {})["applied"]
        events = [event for node in cluster.config.ids for event in cluster.events(node)]
        done = {event["n"] for event in events if event["k"] == "apply" and event["z"] == last}
        return events if len(done) == 3 else None

    events = wait_for(told, PATIENCE_S, "the last batch in every log")
    for node in cluster.config.ids:
        mine = [event for event in events if event["n"] == node]
        assert [event["seq"] for event in mine] == list(range(1, len(mine) + 1)), "no hole"
        assert [event["lc"] for event in mine] == sorted(event["lc"] for event in mine)
        assert mine[0]["k"] == "boot"
    sent = {(e["mid"], e.get("to")): e for e in events if e["k"] == "send" and e.get("mid")}
    heard = [event for event in events if event["k"] == "recv" and event.get("mid")]
    assert {event["type"] for event in heard} >= {"NOTIFICATION", "PROPOSE", "ACK", "COMMIT", "NEWLEADER", "UPTODATE"}
    for event in heard:
        origin = sent[event["mid"], None if event["type"] == "COMMIT" else event["n"]]
        assert (origin["n"], origin["type"]) == (event["from"], event["type"])
        assert origin["lc"] < event["lc"], "nothing is heard before it is said"
    digests: dict[tuple[int, ...], set[str]] = {}
    for event in events:
        if event["k"] == "apply":
            digests.setdefault(tuple(event["z"]), set()).add(event["digest"])
    assert len(digests) >= 2
    assert all(len(found) == 1 for found in digests.values()), "the same state at the same place"
    for event in events:
        if event["k"] == "commit" and event["n"] == leader and "have" in event:
            assert len(event["have"]) >= event["need"]
        if event["k"] == "state":
            assert event["why"] != "other", event["text"]


def test_a_watcher_that_reads_a_byte_a_second_is_cut_off_and_commits_go_on(cluster: Watched) -> None:
    leader = cluster.leader()
    port = cluster.config.listen(leader).observe
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.connect((LOOPBACK, port))
    with slow, cluster.client("busy") as client:
        slow.sendall(f"GET /events HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
        assert slow.recv(1) == b"H"
        read_at = time.monotonic()
        deadline = read_at + PATIENCE_S
        while (cluster.state(leader) or {}).get("observers_dropped", 0) == 0:
            assert time.monotonic() < deadline, "still there"
            calls = [client.submit(Put(b"slow-%d" % i, b"x")) for i in range(32)]
            assert all(client.wait(call).outcome is Outcome.OK for call in calls)
            if time.monotonic() - read_at >= 1:
                slow.recv(1)
                read_at = time.monotonic()
        assert (cluster.state(leader) or {})["observers"] == 0


def test_a_crash_is_told_and_is_one(cluster: Watched) -> None:
    leader = cluster.leader()
    victim = (leader + 1) % 3
    assert cluster.http(victim, "POST", "/crash", {}) == (200, {"v": 1, "crashing": True})
    ended = wait_for(cluster.supervisor.ended, PATIENCE_S, "the end of it")
    assert [(end.node, end.code) for end in ended] == [(victim, -9)]
    cluster.supervisor.start(victim)
    cluster.until_watched()
    assert [e["what"] for e in cluster.events(victim) if e["k"] == "fault"] == ["crash"]


def test_a_node_without_an_endpoint_listens_nowhere_more(tmp_path: Path) -> None:
    alone = Cluster(tmp_path, nodes=1)
    alone.supervisor = Supervisor(alone.config, ["--no-observe"])
    with alone:
        alone.leader()
        with socket.socket() as probe:
            assert probe.connect_ex((LOOPBACK, alone.config.listen(0).observe)) != 0
        assert not (alone.config.log_dir / "token").exists()
        log = alone.config.log_dir / "node-0.jsonl"  # a node writes what it tells a moment later
        wait_for(lambda: log.exists() and '"k":"state"' in log.read_text(), PATIENCE_S, "events all the same")
