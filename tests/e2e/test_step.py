"""Step mode: five real nodes whose messages wait for us, from a write to its commit, and through what people do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harmed import Harmed
from tests.e2e.real import PATIENCE_S
from zabzmq.client.call import Outcome
from zabzmq.machine.operations import Put

LONGER_THAN_ANY_TIMEOUT_S = 1.2
"""A silent leader is given up after half a second."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harmed]:
    made = Harmed(tmp_path_factory.mktemp("step"))
    try:
        made.begin("--step")
        yield made
    finally:
        made.end()


def step(many: Harmed, *args: str | int) -> str:
    ran = many.server_py("step", *args, *many.directories)
    assert ran.code == 0, ran
    return ran.out


def holds(many: Harmed) -> dict[int, Any]:
    return {node: many.http(node, "GET", "/state")[1]["hold"] for node in many.config.ids}


def until_waiting(many: Harmed, kind: str, count: int) -> list[tuple[int, int]]:
    """The first moment at which so many messages of this kind wait: node and id of each."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = [
            (node, each["id"])
            for node, hold in holds(many).items()
            for each in (hold["messages"] if hold else [])
            if each["type"] == kind
        ]
        if len(found) == count:
            return found
        many.client.pump(20.0)
        assert time.monotonic() < deadline, f"{len(found)} of {count} {kind} wait: {holds(many)}"


def test_a_write_is_stepped_to_its_commit(many: Harmed) -> None:
    status = many.until("held", lambda s: all(node["held"] is not None for node in s["nodes"]))
    leader, before = status["leader"], status["nodes"][status["leader"]]["committed"]
    call = many.client.submit(Put(b"stepped", b"by hand"))
    until_waiting(many, "PROPOSE", 4)  # REGISTER of the session
    step(many, "off")
    many.client.wait(call)
    step(many, "on")

    call = many.client.submit(Put(b"stepped", b"again"))
    proposals = until_waiting(many, "PROPOSE", 4)
    assert leader not in dict(proposals)
    # Nobody is taken for dead however long we think.
    time.sleep(LONGER_THAN_ANY_TIMEOUT_S)
    status = many.status()
    assert status["health"] == "healthy"
    assert (status["leader"], status["epoch"]) == (leader, status["nodes"][0]["epoch"])

    for node, id in proposals[:2]:
        step(many, "deliver", f"{node}:{id}")
    acks = until_waiting(many, "ACK", 2)
    assert {node for node, _ in acks} == {leader}
    assert many.of(leader)["committed"] >= before
    settled = many.of(leader)["committed"]
    step(many, "deliver", f"{leader}:{acks[0][1]}")
    assert many.of(leader)["committed"] == settled, "two of five have it on disk"
    assert call.outcome is None
    step(many, "deliver", f"{leader}:{acks[1][1]}")
    many.until("committed", lambda s: s["nodes"][leader]["committed"] > settled)
    assert many.client.wait(call).outcome is Outcome.OK, "it was heard at once: clients are not held"
    until_waiting(many, "COMMIT", 4)
    assert "COMMIT" in step(many, "ls")
    assert "PROPOSE" in step(many, "next"), "the oldest"


def test_what_overtakes_on_its_link_ends_the_link_and_nothing_is_lost(many: Harmed) -> None:
    step(many, "off")
    many.until_equal()
    step(many, "on")
    leader = many.until_led()
    follower = many.others(leader)[0]
    calls = [many.client.submit(Put(b"first", b"1"))]
    until_waiting(many, "PROPOSE", 4)
    calls.append(many.client.submit(Put(b"second", b"2")))
    second = max(id for node, id in until_waiting(many, "PROPOSE", 8) if node == follower)
    step(many, "deliver", f"{follower}:{second}")
    many.until("in doubt", lambda s: s["nodes"][follower]["state"] == "LOOKING")
    many.until("told", lambda s: any("message" in event["why"] for event in many.events(follower, "drop")))
    step(many, "off")
    assert all(many.client.wait(call).outcome is Outcome.OK for call in calls)
    many.until_equal()


def test_a_dropped_message_is_gone_and_a_repeated_one_changes_nothing(many: Harmed) -> None:
    step(many, "on")
    leader = many.until_led()
    call = many.client.submit(Put(b"third", b"3"))
    (one, id), (two, other), *_ = until_waiting(many, "PROPOSE", 4)
    step(many, "drop", f"{one}:{id}")
    step(many, "dup", f"{two}:{other}")
    until_waiting(many, "ACK", 1)
    assert len(until_waiting(many, "PROPOSE", 3)) == 3
    step(many, "off")
    assert many.client.wait(call).outcome is Outcome.OK
    many.until_equal()
    assert many.until_led() == leader


def test_time_passes_only_by_our_hand_and_a_leader_that_is_killed_is_replaced_so(many: Harmed) -> None:
    step(many, "on")
    assert "ms pass" in step(many, "next")
    old = many.order("kill", "leader")
    many.until("lost", lambda s: s["leader"] is None)
    assert many.order("restart", old) == old
    many.until(
        "held from its first message on", lambda s: s["nodes"][old]["up"] and s["nodes"][old]["held"] is not None
    )
    for _ in range(400):
        step(many, "next")
        if many.status()["leader"] is not None:
            break
    assert many.status()["leader"] is not None
    step(many, "off")
    many.until_equal()


def test_orders_that_make_no_sense_say_so(many: Harmed) -> None:
    for args, words in (
        (["deliver", "7"], "names no message"),
        (["deliver", "0:7"], "node 0 is not held"),
        (["next"], "no node is held"),
    ):
        ran = many.server_py("step", *args, *many.directories)
        assert ran.code != 0
        assert words in ran.err
    assert many.http(0, "POST", "/hold", {"on": True}, token="wrong")[0] == 403
    for path, body in (
        ("/hold", {}),
        ("/deliver", {}),
        ("/deliver", {"id": 1, "ms": 1}),
        ("/deliver", {"ms": -1}),
        ("/deliver", {"id": 1, "how": "eat"}),
    ):
        assert many.http(0, "POST", path, body)[0] == 400, (path, body)
