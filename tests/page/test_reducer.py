"""The page's reducer, run by node: on events made by hand, and on those of five real nodes, against their own word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.chaos.harness import Cluster, events_in, wait_for
from zabzmq.client.call import Outcome
from zabzmq.machine.operations import Guess, Operation, Put, Target
from zabzmq.server.config import PORT_OFFSETS

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "index.html"
PAGE_BYTES_MAX = 200_000

SAME = ["boot", "role", "phase", "epoch", "leader", "established", "committed", "applied", "digest", "game", "joined"]
"""What a node and the page's picture of it must agree in, word for word; `proposed` and `last` too, by other names."""


def node(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which("node")
    assert program is not None, "these tests run the page's reducer under node (20 or later), which is not installed"
    return subprocess.run(
        [program, *arguments], input=said, capture_output=True, text=True, timeout=120, cwd=HERE, check=False
    )


def test_the_reducer_history_and_why_on_events_made_by_hand() -> None:
    ran = node("--test", "reducer.test.mjs")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_page_is_one_file_that_needs_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    own = re.sub(r'<script type="text/plain".*?</script>', "", text, flags=re.DOTALL)
    assert len(own.encode()) < PAGE_BYTES_MAX
    for reference in ("<script src", '<link rel="stylesheet', "@import", "url(http", "innerHTML", "insertAdjacentHTML"):
        assert reference not in text, f"the page uses {reference}"
    assert "default-src 'none'" in text


def test_the_page_shows_what_the_nodes_say_of_themselves(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        places: list[list[dict[str, Any]]] = []
        said: list[list[dict[str, Any]]] = []

        def look() -> None:
            wait_for(lambda: calm(cluster), 20, "nodes that agree")
            states = [state_of(cluster, each) for each in sorted(cluster.supervisor.running())]
            wait_for(lambda: all(is_written(cluster, state) for state in states), 10, "event files up to here")
            said.append(states)
            places.append([{name: state[name] for name in ("n", "boot", "seq", "t")} for state in states])

        cluster.leader()
        play(cluster, "alice", [Target(50)])
        play(cluster, "bob", [Guess(47), Guess(60)])
        play(cluster, "alice", [Put(b"key", b"value")])
        look()
        old = cluster.leader()
        cluster.supervisor.kill(old)
        wait_for(lambda: cluster.leader() != old, 20, "another leader")
        play(cluster, "carol", [Guess(50), Target(7)])
        look()
        cluster.supervisor.start(old)
        wait_for(cluster.agreed, 20, "the old leader back")
        look()
        ran = node("reduced.mjs", str(cluster.config.log_dir), said=json.dumps(places))
    assert ran.returncode == 0, ran.stderr
    pictures = json.loads(ran.stdout)
    for states, picture in zip(said, pictures, strict=True):
        for state in states:
            shown = picture["nodes"][str(state["n"])]
            assert {name: shown[name] for name in SAME} == {name: state[name] for name in SAME}, f"node {state['n']}"
            assert (shown["proposed"], shown["durable"]) == (state["proposed"], state["last"])
            assert (shown["up"], shown["accepted"]) == (True, state["accepted_epoch"])
        assert picture["leader"] == next(state["n"] for state in states if state["established"])
        assert [name for name, check in picture["checks"].items() if check["bad"]] == []
    assert pictures[1]["nodes"][str(old)]["up"] is False, (
        "a node that was killed is seen as down, from what others tell"
    )
    assert pictures[1]["marks"].count("lost") == 1
    checked = {name for name, check in pictures[2]["checks"].items() if check["n"]}
    assert checked == {"one_leader", "prefix", "order", "ack", "quorum", "lost", "hash", "client"}


def play(cluster: Cluster, name: str, operations: list[Operation]) -> None:
    with cluster.client(name) as client:
        for operation in operations:
            client.submit(operation)
            answered = wait_for(lambda: client.pump(100), 20, "an answer")
            assert answered[0].outcome is Outcome.OK


def calm(cluster: Cluster) -> bool:
    """All that run are in BROADCAST and have applied the same, so a state stands still while it is asked for."""
    try:
        states = [state_of(cluster, each) for each in cluster.supervisor.running()]
    except urllib.error.URLError:  # a node that was just started serves clients before it serves observers
        return False
    return {s["phase"] for s in states} == {"BROADCAST"} and len(
        {(str(s["applied"]), str(s["last"])) for s in states}
    ) == 1


def state_of(cluster: Cluster, each: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{cluster.config.base_port + PORT_OFFSETS['observe'] + each}/state"
    with urllib.request.urlopen(url, timeout=10) as answer:
        state: dict[str, Any] = json.load(answer)
        return state


def is_written(cluster: Cluster, state: dict[str, Any]) -> bool:
    """Is the event that this state stands for in the file already?"""
    events = events_in(cluster.config.log_dir / f"node-{state['n']}.jsonl")[-40:]
    return any(event["boot"] == state["boot"] and event["seq"] >= state["seq"] for event in events)
