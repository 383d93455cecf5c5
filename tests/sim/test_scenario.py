"""Schedules written down: what was recorded plays again as it was, and what fails becomes short and still fails."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from zabzmq.core.zxid import PeerId
from zabzmq.sim.acts import Act
from zabzmq.sim.mutants import MUTANTS, hunt
from zabzmq.sim.plan import Fault, Plan
from zabzmq.sim.scenario import Scenario, ScenarioError, dump, load, recorded
from zabzmq.sim.shrink import broken_by, shrunk
from zabzmq.sim.world import World


def story(world: World, lines: list[str]) -> list[str]:
    world.run()
    return [line for line in lines if "* fault:" not in line]


@pytest.mark.parametrize("seed", range(6))
def test_what_was_recorded_plays_again_as_it_was(seed: int) -> None:
    lines: list[str] = []
    world = World(seed, 5, tell=lines.append)
    first = story(world, lines)
    again: list[str] = []
    kept = recorded(world)
    plan = replace(kept.plan, pause_between=world.plan.pause_between, heal_ms=world.plan.heal_ms)
    assert story(World(kept.seed, 5, plan, again.append, kept.acts), again) == first


def test_a_file_holds_all_that_a_schedule_is(tmp_path: Path) -> None:
    world = World(5, 3, Plan(nodes=3, faults=tuple(Fault), pause_between=30.0, fault_ms=400.0))
    world.run()
    scenario = replace(recorded(world), title='a "title"', bugs=(1, 29), rule="B7", mutant="m", breaks="Agreement")
    assert len(scenario.acts) > 5
    path = tmp_path / "x.toml"
    path.write_text(dump(scenario))
    found = load(path)
    assert found == replace(scenario, acts=found.acts)
    assert [(act.at, act.do, list(act.about)) for act in found.acts] == [
        (act.at, act.do, list(act.about)) for act in scenario.acts
    ]
    assert found.play().violations == []


@pytest.mark.parametrize("text", ["", "seed = 'x'", "{", "seed = 1\nacts = [[1.0]]"])
def test_what_is_no_scenario_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"x\.toml is not a scenario"):
        load(path)


def test_a_failing_schedule_becomes_short_and_still_fails() -> None:
    mutant = MUTANTS["commit at a minority"]
    caught = hunt(mutant, range(100), 5)
    assert caught is not None
    with mutant.broken():
        world = World(caught.seed, 5)
        world.run()
    long = recorded(world)
    short = shrunk(long, frozenset(caught.names), mutant.broken, seconds=20)
    assert broken_by(short, mutant.broken) & set(caught.names)
    assert not broken_by(short)
    assert len(short.acts) <= len(long.acts)
    assert short.plan.clients == 1


def test_only_the_acts_that_matter_are_left() -> None:
    acts = tuple(Act(100.0 + at, "break", (PeerId(0), PeerId(1))) for at in range(30))
    culprit = Act(250.0, "crash", (PeerId(2), True))

    @contextmanager
    def fragile():  # type: ignore[no-untyped-def]
        crash = World.crash

        def fatal(self: World, peer: PeerId, power: bool, why: str = "") -> None:
            crash(self, peer, power, why)
            self.watcher.on_error(ValueError("a crash"), "here")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(World, "crash", fatal)
            yield

    scenario = Scenario(1, Plan(nodes=3, clients=1, operations=2, fault_ms=200.0), (*acts, culprit))
    short = shrunk(scenario, frozenset({"CheckDuringAction"}), fragile, seconds=30)
    assert [act.do for act in short.acts] == ["crash"]
