"""Make a scenario file: `python -m tests.scenarios NAME MUTANT [--bug N]... [--nodes N] [--title TEXT]`.

Looks for a seed that a mutant fails, shrinks its schedule, and writes it to tests/scenarios/NAME.toml.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from tests.mutants.inplace import breakage
from tests.mutants.patches import patches
from zabzmq.sim.mutants import MUTANTS, NOT_ENOUGH
from zabzmq.sim.run import seldom_collected
from zabzmq.sim.scenario import dump, recorded
from zabzmq.sim.shrink import broken_by, shrunk
from zabzmq.sim.world import World

HERE = Path(__file__).parent


@click.command()
@click.argument("name")
@click.argument("mutant")
@click.option("--bug", "bugs", type=int, multiple=True)
@click.option("--nodes", type=int, default=3, show_default=True)
@click.option("--seeds", type=int, default=1000, show_default=True)
@click.option("--seconds", type=float, default=60.0, show_default=True, help="For shrinking.")
@click.option("--title", default="")
@click.option("--liveness", is_flag=True, help="Not becoming well again, and assertions, count too.")
def main(
    name: str, mutant: str, bugs: tuple[int, ...], nodes: int, seeds: int, seconds: float, title: str, liveness: bool
) -> None:
    build = breakage(mutant)
    rule = MUTANTS[mutant].rules if mutant in MUTANTS else next(p.rule for p in patches() if p.key == mutant)
    for seed in range(seeds):
        with build(), seldom_collected():
            world = World(seed, nodes)
            world.run()
        names = frozenset(violation.name for violation in world.violations) - (frozenset() if liveness else NOT_ENOUGH)
        if names:
            break
    else:
        sys.exit(f"no promise is broken in {seeds} seeds")
    scenario = shrunk(recorded(world), names, build, seconds)
    breaks = min(broken_by(scenario, build) & names)
    scenario = replace(scenario, title=title or mutant, bugs=bugs, rule=rule, mutant=mutant, breaks=breaks)
    assert not broken_by(scenario), "the shipped build fails it too"
    (HERE / f"{name}.toml").write_text(dump(scenario), encoding="utf-8")
    click.echo(f"{name}: seed {seed}, {len(scenario.acts)} acts, breaks {breaks}")


if __name__ == "__main__":
    main()
