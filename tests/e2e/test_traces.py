"""Real nodes, a real kill -9: what they told is one story that keeps every promise, also while they run."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.e2e.real import PATIENCE_S, Ran, RealCluster
from zabzmq.machine.operations import Put


def asked(cluster: RealCluster, *question: str | int) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(ran(cluster, "explain", *question, "--json").out)
    return said


def ran(cluster: RealCluster, *args: str | int) -> Ran:
    done = cluster.server_py(*args, *cluster.directories)
    assert done.code == 0, done
    return done


def until_answered(cluster: RealCluster, answer: str, *question: str | int, code: str = "") -> dict[str, Any]:
    """Nodes write what they tell a fifth of a second later, each at its own moment. `code`: of the first clause."""
    deadline = time.monotonic() + PATIENCE_S
    while (said := asked(cluster, *question))["answer"] != answer or (code and said["clauses"][0]["code"] != code):
        assert time.monotonic() < deadline, said
        cluster.client.pump(20.0)
    return said


def test_a_kill_is_explained_while_the_nodes_run_and_breaks_no_promise(three: RealCluster) -> None:
    three.up()
    leader = three.until_led()
    call = three.do(Put(b"k", b"v"))
    assert call.zxid is not None
    # Before the leader's word is in its log, a follower's may be: entry.heard.
    until_answered(three, "committed", f"{call.zxid[0]}.{call.zxid[1]}", code="entry.committed")
    (won,) = [each for each in asked(three, "last-election")["clauses"] if each["code"] == "election.won"]
    assert won["text"].startswith(f"node {leader} was elected by")

    three.kill(leader)
    new = three.until_led(but=leader)
    until_answered(three, "leading", "node", new)
    assert until_answered(three, "down", "node", leader)["clauses"][0]["code"] == "node.silent"

    three.up(leader)
    three.until_equal()
    back = until_answered(three, "following", "node", leader)
    assert {"node.restarted", "node.current"} <= {each["code"] for each in back["clauses"]}
    verdict = json.loads(ran(three, "trace", "check", "--json").out)
    assert (verdict["ok"], verdict["missing"], verdict["unread"]) == (True, [], [])
    events = [json.loads(line) for line in ran(three, "trace", "merge", "--jsonl").out.splitlines()]
    for n in three.config.ids:
        told = [(event["lc"], event["seq"]) for event in events if event["n"] == n]
        assert [lc for lc, _ in told] == sorted(lc for lc, _ in told), "one node's clock goes on over a restart"
