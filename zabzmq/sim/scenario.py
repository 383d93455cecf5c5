"""A schedule as a file: TOML that a person can read, change and play again.

    title = "..."            what it shows
    bugs = [29]              rows of the table in docs/testing.md
    rule = "B7"
    mutant = "..."           of mutants.py: with it the promise `breaks` is broken, without it none is
    breaks = "..."
    seed = 17                of the dice for delays, losses and clients
    [plan]                   what differs from plan.py's defaults
    acts = [ ... ]           at which ms, what, to whom: acts.py

`recorded` makes one of a world that has run, `load` reads one, `dump` writes one, `play` runs one.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from zabzmq.core.errors import ZabError
from zabzmq.core.zxid import PeerId
from zabzmq.sim.acts import Act
from zabzmq.sim.plan import Plan
from zabzmq.sim.world import World

PEERS = frozenset({"crash", "start", "pause", "resume", "stall", "release", "fail write", "fill", "empty"}) | {
    "wipe",
    "swap",
    "deafen",
    "hear",
}
"""Acts whose first argument is a node."""


class ScenarioError(ZabError):
    """The file is not a scenario."""


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    plan: Plan
    acts: tuple[Act, ...]
    title: str = ""
    bugs: tuple[int, ...] = ()
    rule: str = ""
    mutant: str = ""
    breaks: str = ""

    def play(self) -> World:
        world = World(self.seed, self.plan.nodes, self.plan, acts=self.acts)
        world.run()
        return world


def recorded(world: World) -> Scenario:
    """What this world went through."""
    # Only drawing faults needs these; the acts say it all.
    plan = replace(world.plan, faults=(), pause_between=Plan().pause_between, heal_ms=Plan().heal_ms)
    return Scenario(world.seed, plan, tuple(world.faults.hands.done))


# ---- files -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    seed: int
    plan: Plan = field(default_factory=Plan)
    acts: list[tuple[float, str, list[Any]]] = field(default_factory=list)
    title: str = ""
    bugs: list[int] = field(default_factory=list)
    rule: str = ""
    mutant: str = ""
    breaks: str = ""


def load(path: Path) -> Scenario:
    try:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path} is not a scenario: {error}") from None
    acts = tuple(Act(at, do, _arguments(do, about)) for at, do, about in file.acts)
    return Scenario(file.seed, file.plan, acts, file.title, tuple(file.bugs), file.rule, file.mutant, file.breaks)


def _arguments(do: str, about: list[Any]) -> tuple[Any, ...]:
    return (PeerId(about[0]), *about[1:]) if do in PEERS else tuple(about)


def dump(scenario: Scenario) -> str:
    """As TOML. Top-level keys come first, as that language wants it."""
    about = {name: getattr(scenario, name) for name in ("title", "bugs", "rule", "mutant", "breaks")}
    lines = [f"{name} = {_toml(value)}" for name, value in about.items() if value]
    lines.append(f"seed = {scenario.seed}")
    lines += ["acts = [", *(f"    {_toml([act.at, act.do, act.about])}," for act in scenario.acts), "]"]
    lines += _table("plan", scenario.plan, Plan(), {"faults"})
    lines += _table("plan.weather", scenario.plan.weather, Plan().weather)
    lines += _table("plan.timing", scenario.plan.timing, Plan().timing)
    return "\n".join(lines) + "\n"


def _table(name: str, values: Any, defaults: Any, leave_out: set[str] | None = None) -> list[str]:
    lines = ["", f"[{name}]"]
    for each in fields(values):
        value = getattr(values, each.name)
        if value != getattr(defaults, each.name) and each.name not in {"weather", "timing", *(leave_out or ())}:
            lines.append(f"{each.name} = {_toml(value)}")
    return lines if len(lines) > 2 else []


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
