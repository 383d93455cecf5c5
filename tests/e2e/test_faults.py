"""Faults of a real cluster: what they do to it, that nothing acknowledged is lost, and that all is one in the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.harness import wait_for
from tests.e2e.harmed import Harmed, Load
from tests.e2e.real import PATIENCE_S


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harmed]:
    """Five nodes under one supervisor; each test leaves them healthy and without faults."""
    made = Harmed(tmp_path_factory.mktemp("faults"))
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture(autouse=True)
def mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that failed does not take the next ones with it."""
    yield
    if "many" in request.fixturenames:
        many: Harmed = request.getfixturevalue("many")
        many.mend()


def table(many: Harmed, node: int) -> Any:
    return many.http(node, "GET", "/state")[1]["faults"]


def any_lost(many: Harmed) -> bool:
    """Whether a node has told of a message that was dropped by chance."""
    return any(event.get("fault") == "drop" for node in many.config.ids for event in many.events(node, "drop"))


def test_a_leader_cut_off_steps_down_and_its_unheard_writes_are_truncated_when_it_is_back(many: Harmed) -> None:
    old = many.until_led()
    # More and more, so that some reach the old leader after everyone is cut off from it.
    with Load(many, window=10_000, burst=4) as load:
        load.until_more(200)
        many.fault("partition", "leader/rest")
        new = many.until_led(but=old)
        many.until("stepped down", lambda status: status["nodes"][old]["state"] == "LOOKING")
        load.until_more(50)
        many.fault("clear")
        many.until_healthy()
    many.until_equal()
    assert new != old
    assert many.missing(*load.acknowledged) == []
    cut = many.until_event(old, "truncate")
    assert cut["z"] < cut["was"]
    # What was truncated is in nobody's history: the zxids above were given to no one else.
    for node in many.config.ids:
        dumped = many.server_py("log", "dump", many.data(node), "--json").objects
        held = {tuple(line["zxid"]) for line in dumped if line["kind"] == "txn"}
        assert tuple(cut["z"]) in held
        assert tuple(cut["was"]) not in held


def test_a_minority_serves_nobody_and_a_majority_goes_on(many: Harmed) -> None:
    leader = many.until_led()
    minority = [leader, next(node for node in many.config.ids if node != leader)]
    ran = many.fault("partition", f"{minority[0]},{minority[1]}/rest", "--json")
    assert sorted(ran.objects[0]["set"]) == list(many.config.ids)
    assert many.until_led(but=leader) not in minority
    many.put("majority")
    states = many.until(
        "a minority that looks", lambda s: all(s["nodes"][node]["state"] == "LOOKING" for node in minority)
    )
    assert states["leader"] not in minority
    many.fault("clear")
    many.until_equal()
    assert many.missing("majority") == []


def test_a_leader_that_is_heard_by_nobody_is_replaced(many: Harmed) -> None:
    leader = many.until_led()
    many.fault("cut", "leader->rest")
    assert many.until_led(but=leader) != leader
    many.until_event(leader, "drop", way="out", fault="cut")
    many.put("without-it")
    many.fault("clear")
    many.until_equal()


def test_a_follower_that_nobody_hears_holds_up_nobody(many: Harmed) -> None:
    leader = many.until_led()
    mute = next(node for node in many.config.ids if node != leader)
    many.fault("cut", f"{mute}->rest")
    many.put("three-are-enough")
    assert table(many, mute)["rules"] == [{"peer": n, "cut": "out"} for n in many.config.ids if n != mute]
    assert table(many, leader)["rules"] == [{"peer": mute, "cut": "in"}]
    many.until_event(leader, "drop", peer=mute, way="in", fault="cut")
    many.fault("clear")
    many.until_equal()
    assert many.missing("three-are-enough") == []


def test_a_cluster_in_bad_weather_commits_and_agrees(many: Harmed) -> None:
    with Load(many, window=8) as load:
        many.fault("drop", "0,1-2,3,4", "-p", ".02", "--seed", 7)
        many.fault("dup", "2-3", "-p", ".05")
        many.fault("reorder", "3-4", "-p", ".05")
        many.fault("delay", "0-4", "5ms", "--jitter", "20ms")
        many.fault("disk", 1, "10ms")
        load.until_more(100)
        shown = many.fault("ls").out
        for word in ("drop 0.02", "dup 0.05", "reorder 0.05", "delay 5 ms + up to 20 ms", "10 ms slower"):
            assert word in shown
        many.until("a loss that is told", lambda status: any_lost(many))
        many.fault("clear")
    assert many.fault("ls").out == "no faults\n"
    many.until_equal()
    assert many.missing(*load.acknowledged) == []


def test_a_slow_disk_of_a_follower_is_no_hurry_of_the_cluster(many: Harmed) -> None:
    leader = many.until_led()
    slow = next(node for node in many.config.ids if node != leader)
    many.fault("disk", slow, "300ms")
    many.put("quick")
    last = list(many.status()["nodes"][leader]["last"])
    assert many.until_event(slow, "persist", z=last)["ms"] >= 290
    many.fault("clear")
    many.until_equal()


def test_each_change_is_an_event_and_a_new_process_has_no_faults(many: Harmed) -> None:
    node = next(node for node in many.config.ids if node != many.until_led())
    other = next(each for each in many.config.ids if each != node)
    many.fault("delay", f"{node}->{other}", "1ms", "--seed", 5)
    assert table(many, other) == {"rules": [{"peer": node, "delay_ms": 1.0}], "disk_ms": 0.0, "seed": 5}
    many.until_event(other, "fault", what="set", rules=[{"peer": node, "delay_ms": 1.0}], seed=5)
    many.fault("cut", f"{node}-{other}")
    many.order("restart", node)
    wait_for(lambda: many.answers(node), PATIENCE_S, "an observe port")
    assert table(many, node) == {"rules": [], "disk_ms": 0.0, "seed": 0}
    many.fault("clear")
    many.until_event(other, "fault", what="clear")
    many.until_equal()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cut", "0"], "'0' names no pair of nodes"),
        (["cut", "0-"], "The shell took > for itself: quote it"),
        (["cut", "0-7"], "there is no node '7': the nodes are 0 1 2 3 4"),
        (["cut", "0-0"], "a node stands twice"),
        (["cut", "all-3"], "there is no node 'all'"),
        (["partition", "0,1,2"], "a partition has two sides or more"),
        (["partition", "0,1/1,2"], "a node stands twice"),
        (["partition", "0,1/"], "is empty"),
        (["partition", "0,1,2,3,4/rest"], "is empty"),
        (["drop", "0-3"], "--probability"),
        (["drop", "0-3", "-p", "1.01"], "1.01 is not in the range"),
        (["dup", "0-3", "-p", "-0.1"], "is not in the range"),
        (["delay", "0-3", "soon"], "'soon' is no time from 0 to 60 s"),
        (["delay", "0-3", "61s"], "no time"),
        (["delay", "0-3", "-5"], "'-5' is no time"),
        (["delay", "0-3", "1s", "--jitter", "-1ms"], "no time"),
        (["disk", "9", "1ms"], "there is no node '9'"),
        (["disk", "2", "1h"], "no time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_wrong_usage_and_changes_nothing(many: Harmed, args: list[str], words: str) -> None:
    many.server_py("fault", *args, *many.directories).refused(2, words)
    assert all(table(many, node)["rules"] == [] for node in many.config.ids)


def test_without_the_token_nothing_is_done(many: Harmed, tmp_path: Any) -> None:
    ran = many.server_py("fault", "cut", "0-1", "--log-dir", tmp_path)
    ran.refused(1, "X-Zab-Token", "--log-dir")
    status, said = many.http(0, "POST", "/fault", {}, token="wrong")
    assert (status, said["error"]["code"]) == (403, "forbidden")
    status, said = many.http(0, "POST", "/fault", {"rules": [{"peer": 0}]})
    assert status == 400
    assert "a rule of node 0 is for one of the nodes 1 2 3 4" in said["error"]["text"]


def test_a_node_that_does_not_answer_is_named_and_the_rest_is_done(many: Harmed) -> None:
    silent = many.order("kill", "follower")
    ran = many.fault("cut", f"{silent}-rest", "--json")
    assert ran.objects[0]["missed"] == [silent]
    assert f"warning: node {silent} does not answer" in ran.err
    many.mend()


def test_where_nobody_answers_that_is_said(tmp_path: Any) -> None:
    nobody = Harmed(tmp_path, nodes=3)
    try:
        for args in (["ls"], ["clear"], ["cut", "0-1"], ["partition", "leader/rest"]):
            nobody.server_py("fault", *args, *nobody.directories).refused(4, "no node of cluster", "cluster up")
    finally:
        nobody.close()


def test_faults_are_off_unless_a_node_is_told_otherwise(tmp_path: Any) -> None:
    safe = Harmed(tmp_path, nodes=1)
    try:
        safe.up()
        wait_for(lambda: safe.answers(0), PATIENCE_S, "an observe port")
        status, said = safe.http(0, "POST", "/fault", {})
        assert status == 403
        assert said["error"]["text"] == "faults are off: start the node with --allow-faults"
        assert table(safe, 0) is False
        assert not (safe.data(0) / "synced").exists()
    finally:
        safe.close()
