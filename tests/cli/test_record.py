"""The recorded runs: real, whole, small, true to every promise, and the very ones that the page carries."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from zabzmq.cli.common import UserError
from zabzmq.cli.record import RUNS, STORIES, embed
from zabzmq.trace.check import checked
from zabzmq.trace.explain_entry import explain_entry
from zabzmq.trace.explain_node import explain_node
from zabzmq.trace.merge import merge
from zabzmq.trace.reading import Event, Problem, runs_of, streams
from zabzmq.trace.reduced import reduce

ROOT = Path(__file__).parents[2]


def run_of(name: str) -> list[Event]:
    problems: list[Problem] = []
    events = list(merge(streams([ROOT / RUNS / f"{name}.jsonl.gz"], problems.append)))
    assert problems == []
    return events


def first(events: list[Event], holds: Callable[[Event], bool]) -> int:
    return next(at for at, event in enumerate(events) if holds(event))


@pytest.mark.parametrize("name", STORIES)
def test_a_run_is_small_and_keeps_every_promise(name: str) -> None:
    assert (ROOT / RUNS / f"{name}.jsonl.gz").stat().st_size < 25_000
    events = run_of(name)
    assert 300 <= len(events) <= 1500
    checker = checked(events)
    assert (checker.violations, checker.missing, checker.nodes) == ([], [], {0, 1, 2, 3, 4})
    assert all(count for name, count in checker.counts.items() if name != "no node saw a promise broken"), (
        checker.counts
    )


@pytest.mark.parametrize("name", STORIES)
def test_in_the_end_all_nodes_hold_one_state_and_the_round_is_won(name: str) -> None:
    events = run_of(name)
    applied = {event.n: event for event in events if event.k == "apply"}
    assert len({(event.zxid(), event.get("digest")) for event in applied.values()}) == 1
    assert [event.get("game")["open"] for event in events if event.get("game")][-1] is False


def test_the_leader_is_killed_and_another_goes_on() -> None:
    events = run_of("leader-crash")
    crash = events[first(events, lambda event: event.k == "fault" and event.get("what") == "crash")]
    assert crash.get("what") == "crash"
    led = [event.n for event in events if event.get("why") == "established"]
    assert led[0] == crash.n != led[1]
    assert explain_node(reduce(events), crash.n).answer == "following"


def test_what_the_cut_off_leader_proposed_waits_then_is_lost_and_is_cut_off() -> None:
    events = run_of("partition")
    cut = first(events, lambda event: event.k == "truncate" and event.get("was") != event.get("z"))
    lost = events[cut].zxid("was")
    assert lost is not None
    proposed = first(events, lambda event: event.k == "propose" and event.zxid() == lost)
    deposed = first(events, lambda event: event.get("why") == "no_quorum_of_echoes")
    assert proposed < deposed < cut
    for until, answer, code in (
        (deposed, "not committed", "entry.waiting"),
        (deposed + 1, "not committed", "entry.deposed"),
        (len(events), "lost", "entry.cut"),
    ):
        said = explain_entry(reduce(events[:until], lost))
        assert said.answer == answer
        assert code in [clause.code for clause in said.clauses]
        assert "voter.dropped" in [clause.code for clause in said.clauses], "the partition is the reason"


def test_the_example_in_the_docs_is_the_entry_that_was_lost() -> None:
    lost = next(event.zxid("was") for event in run_of("partition") if event.k == "truncate" and event.get("was"))
    assert lost is not None
    for doc in ("traces.md", "explain.md"):
        text = (ROOT / "docs" / doc).read_text(encoding="utf-8")
        assert f"explain {lost[0]}.{lost[1]} --trace docs/runs/partition.jsonl.gz" in text


def test_the_node_that_lost_power_comes_back_with_less_and_fetches_it() -> None:
    events = run_of("power-cut")
    slow = events[first(events, lambda event: event.k == "fault" and bool(event.get("disk_ms")))]
    received = [event.zxid() for event in events if event.boot == slow.boot and event.get("type") == "PROPOSE"]
    boots = [event for event in events if event.k == "boot" and event.n == slow.n]
    assert len(boots) == 2
    assert (boots[1].zxid() or (0, 0)) < (received[-1] or (0, 0)), "the disk had not what it was sent"
    synced = [event for event in events if event.get("what") == "sync" and event.get("peer") == slow.n][-1]
    assert synced.zxid("z0") == boots[1].zxid()


def test_the_page_carries_these_very_runs() -> None:
    held = dict(runs_of((ROOT / "index.html").read_bytes()))
    assert list(held) == list(STORIES)
    for name, packed in held.items():
        assert base64.b64decode(packed) == (ROOT / RUNS / f"{name}.jsonl.gz").read_bytes(), f"{name}: embed it anew"


def test_a_page_gets_the_runs_and_a_missing_one_is_named(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_bytes(b"<html><script>x</script></html>")
    embed(page, ROOT / RUNS)
    assert [name for name, _ in runs_of(page.read_bytes())] == list(STORIES)
    with pytest.raises(UserError, match=r"normal\.jsonl\.gz is not there"):
        embed(page, tmp_path)
