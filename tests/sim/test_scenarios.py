"""Every schedule kept in tests/scenarios plays without harm, and breaks a named promise when its rule is off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.inplace import breakage
from zabzmq.core.invariants import NAMES
from zabzmq.sim.scenario import Scenario, load
from zabzmq.sim.shrink import broken_by

FILES = sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml"))
NEARBY = 40
"""A change of the core shifts the dice: then the same acts catch the mutant with other delays."""


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return load(request.param)


def test_it_breaks_no_promise(scenario: Scenario) -> None:
    assert scenario.play().violations == []


def test_it_fails_when_its_rule_is_off(scenario: Scenario) -> None:
    assert scenario.title and scenario.rule
    assert scenario.breaks in {*NAMES, "Liveness", "Linearizability"}
    build = breakage(scenario.mutant)
    seeds = (replace(scenario, seed=scenario.seed + more) for more in range(NEARBY))
    assert any(scenario.breaks in broken_by(each, build) for each in seeds)
