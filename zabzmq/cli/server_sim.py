"""`sim`: the same nodes in a virtual world, one schedule per seed; what is broken is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from zabzmq.cli import colour
from zabzmq.cli.common import Exit, UserError, complain
from zabzmq.sim import campaign, run
from zabzmq.sim.scenario import ScenarioError, dump, load, recorded
from zabzmq.sim.shrink import broken_by, shrunk
from zabzmq.sim.world import World

SHOWN_MAX = 20
SEED_MAX = (1 << 63) - 1
SIM = "python zookeeper_server.py sim"


def parse_seeds(text: str) -> tuple[int, int]:
    """ "0..999" or "7", both ends included. Raises UserError."""
    first, dots, last = text.partition("..")
    try:
        low, high = int(first), int(last if dots else first)
    except ValueError:
        raise UserError(f"--seeds: {text!r} is neither a seed nor a range like 0..999", exit_code=Exit.USAGE) from None
    if not 0 <= low <= high <= SEED_MAX:
        raise UserError(f"--seeds: {text} is not a range that goes up from 0 or more", exit_code=Exit.USAGE)
    return low, high


def show_trace(seed: int, nodes: int) -> int:
    return _show_lines(run.trace(seed, nodes))


def _show_lines(lines: Iterable[str]) -> int:
    violated = False
    for line in lines:
        violated = violated or line.startswith("VIOLATION")
        click.echo(line)
    return Exit.VIOLATION if violated else Exit.OK


def show_hash(seed: int, nodes: int) -> int:
    click.echo(run.trace_hash(seed, nodes))
    return Exit.OK


def show_scenario(path: Path, trace: bool) -> int:
    """Play a scenario file again."""
    try:
        scenario = load(path)
    except ScenarioError as error:
        raise UserError(str(error), "see: tests/scenarios/", exit_code=Exit.USAGE) from None
    if trace:
        return _show_lines(run.trace_of(scenario.seed, scenario.plan, scenario.acts))
    violations = scenario.play().violations
    for violation in violations:
        complain(f"{path} violates {violation.name}: {violation.text}", (f"see: {SIM} --scenario {path} --trace",))
    if not violations:
        click.echo(f"{path}: no promise is broken")
    return Exit.VIOLATION if violations else Exit.OK


def show_shrunk(seed: int, nodes: int) -> int:
    """The shortest schedule found that breaks what this seed breaks, as a scenario file on standard output."""
    world = World(seed, nodes)
    world.run()
    names = frozenset(violation.name for violation in world.violations)
    if not names:
        raise UserError(f"seed {seed} with {nodes} nodes breaks no promise", "see: --seeds finds seeds that do")
    scenario = shrunk(recorded(world), names)
    broken = ", ".join(sorted(broken_by(scenario) & names))
    click.echo(f"# seed {seed}, {nodes} nodes: breaks {broken}; play it with: {SIM} --scenario FILE --trace")
    click.echo(dump(scenario), nl=False)
    return Exit.VIOLATION


def run_hours(hours: float, nodes: int, jobs: int, path: Path | None, as_json: bool, quiet: bool) -> int:
    """Schedules for so long, on from where the report file stands."""
    try:
        going = campaign.resume(path, nodes) if path is not None else campaign.Campaign(nodes)
        _go_on(going, hours * 3600, jobs, path, quiet)
    except campaign.CampaignError as error:
        raise UserError(str(error), "name another file with --report") from None
    return _show(going.report, nodes, as_json)


def _go_on(going: campaign.Campaign, seconds: float, jobs: int, path: Path | None, quiet: bool) -> None:
    if quiet or not sys.stderr.isatty():
        campaign.run_for(going, seconds, jobs, path, lambda sum, spent: None)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=colour.console(stderr=True), transient=True) as progress:
        task = progress.add_task("schedules", total=seconds)

        def told(sum: campaign.Campaign, spent: float) -> None:
            found = len(sum.report.violations)
            text = f"{sum.report.schedules} schedules, {found} {'violation' if found == 1 else 'violations'}"
            progress.update(task, completed=min(spent, seconds), description=text)

        campaign.run_for(going, seconds, jobs, path, told)


def show_report(seeds: tuple[int, int], nodes: int, jobs: int, as_json: bool, quiet: bool) -> int:
    return _show(_run(seeds, nodes, jobs, quiet), nodes, as_json)


def _show(report: run.Report, nodes: int, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        _tell(report.as_json())
    for broken in report.violations[:SHOWN_MAX]:
        again = f"{SIM} --seed {broken.seed} --nodes {nodes}"
        complain(
            f"seed {broken.seed} violates {broken.name}: {broken.text}",
            (f"see: {again} --trace", f"make it short: {again} --shrink"),
        )
    if len(report.violations) > SHOWN_MAX:
        complain(f"{len(report.violations) - SHOWN_MAX} more violations")
    return Exit.VIOLATION if report.violations else Exit.OK


def _run(seeds: tuple[int, int], nodes: int, jobs: int, quiet: bool) -> run.Report:
    first, last = seeds
    if quiet or not sys.stderr.isatty():
        return run.run_seeds(first, last, nodes, jobs)
    from rich.progress import Progress

    with Progress(console=colour.console(stderr=True), transient=True) as progress:
        task = progress.add_task("schedules", total=last - first + 1)
        return run.run_seeds(first, last, nodes, jobs, lambda sum: progress.update(task, completed=sum.schedules))


def _tell(report: dict[str, Any]) -> None:
    seconds = report["seconds"]
    rate = report["schedules"] / seconds * 60 if seconds else 0.0
    click.echo(f"schedules   {report['schedules']}   ({seconds:.1f} s, {rate:.0f} a minute)")
    click.echo(f"delivered   {report['delivered']} messages, {report['delivered_min']} in the shortest schedule")
    click.echo(f"commits     {report['commits']}, {report['commits_median']:g} in the median schedule")
    click.echo(f"elections   {report['elections']}")
    click.echo("syncs       " + ", ".join(f"{name} {count}" for name, count in report["syncs"].items()))
    click.echo("crashes in  " + ", ".join(f"{name.lower()} {count}" for name, count in report["crashes"].items()))
    click.echo(f"violations  {len(report['violations'])}")
