"""PROTOCOL 12: what happened to others does not happen here, and would if its rule were off."""

from __future__ import annotations

import pytest

from tests.mutants.inplace import breakage
from tests.sim.known_bugs import BUGS, Bug

SEEDS = range(1, 13)


def name_of(bug: Bug) -> str:
    return "-".join(map(str, bug.rows)) + f" {bug.schedule.__name__} {bug.mutant}"


@pytest.mark.parametrize("bug", BUGS, ids=name_of)
def test_it_does_not_happen(bug: Bug) -> None:
    for seed in (1, 2, 3):
        bug.schedule(bug.stage(seed))


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.mutant], ids=name_of)
def test_it_happens_when_its_rule_is_off(bug: Bug) -> None:
    """In one of these seeds: each is the same schedule with other delays."""
    for seed in SEEDS:
        with breakage(bug.mutant)():
            on = bug.stage(seed)
            try:
                bug.schedule(on)
            except AssertionError:
                return
        if on.world.violations:
            return
    pytest.fail(f"the schedule passes with {bug.mutant!r}")
