"""A failing schedule, made as short as it can be and still fail.

`shrunk` drops acts by halves, quarters and so on down to single ones (Zeller's ddmin), then calms what is left: fewer
clients and operations, a quieter network, an earlier end, rounder times. Each step is kept if the schedule still breaks
one of the promises that it broke before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from typing import Any

from zabzmq.sim.acts import Act
from zabzmq.sim.network import Weather
from zabzmq.sim.run import seldom_collected
from zabzmq.sim.scenario import Scenario

Build = Callable[[], AbstractContextManager[Any]]
SECONDS = 120.0


def broken_by(scenario: Scenario, build: Build = nullcontext) -> frozenset[str]:
    """The promises that this schedule breaks, of this build."""
    with build(), seldom_collected():
        return frozenset(violation.name for violation in scenario.play().violations)


def shrunk(scenario: Scenario, names: frozenset[str], build: Build = nullcontext, seconds: float = SECONDS) -> Scenario:
    """The shortest schedule found in this time that still breaks one of `names`."""
    over = time.monotonic() + seconds

    def fails(candidate: Scenario) -> bool:
        return time.monotonic() < over and bool(broken_by(candidate, build) & names)

    smaller = True
    while smaller and time.monotonic() < over:
        before = scenario
        scenario = _fewer_acts(scenario, fails)
        for calmer in _calmer(scenario):
            candidate = calmer(scenario)
            if candidate != scenario and fails(candidate):
                scenario = candidate
        smaller = scenario != before
    return scenario


def _fewer_acts(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    acts, parts = scenario.acts, 2
    if acts and fails(replace(scenario, acts=())):
        return replace(scenario, acts=())
    while len(acts) > 1:
        size = -(-len(acts) // parts)
        for at in range(0, len(acts), size):
            candidate = replace(scenario, acts=acts[:at] + acts[at + size :])
            if fails(candidate):
                acts, scenario, parts = candidate.acts, candidate, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(acts))
    return scenario


def _calmer(scenario: Scenario) -> Iterator[Callable[[Scenario], Scenario]]:
    """Changes that make a schedule simpler, each to be tried on what is left after those before."""
    yield lambda s: replace(s, plan=replace(s.plan, clients=1))
    for part in (8, 4, 2):
        yield lambda s, part=part: replace(s, plan=replace(s.plan, operations=s.plan.operations // part))  # type: ignore[misc]
    yield lambda s: replace(s, plan=replace(s.plan, weather=Weather(delay=s.plan.weather.delay)))
    for each in fields(scenario.plan.weather):
        yield lambda s, name=each.name: replace(  # type: ignore[misc]
            s, plan=replace(s.plan, weather=replace(s.plan.weather, **{name: getattr(Weather(), name)}))
        )
    yield lambda s: replace(s, plan=replace(s.plan, timing=type(s.plan.timing)()))
    yield lambda s: replace(s, plan=replace(s.plan, slow_sync=0.0))
    if scenario.acts:
        yield lambda s: replace(s, plan=replace(s.plan, fault_ms=max(s.acts[-1].at + 10 - s.plan.first_fault, 0.0)))
    for digits in (0, 1, 2):
        yield lambda s, digits=digits: replace(  # type: ignore[misc]
            s, acts=tuple(Act(round(act.at, digits), act.do, act.about) for act in s.acts)
        )
