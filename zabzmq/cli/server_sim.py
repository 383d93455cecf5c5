"""`sim`: the same nodes in a virtual world, one schedule per seed; what is broken is named."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from zabzmq.cli.common import Exit, UserError, complain
from zabzmq.sim import run

SHOWN_MAX = 20
SEED_MAX = (1 << 63) - 1


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
    violated = False
    for line in run.trace(seed, nodes):
        violated = violated or line.startswith("VIOLATION")
        click.echo(line)
    return Exit.VIOLATION if violated else Exit.OK


def show_hash(seed: int, nodes: int) -> int:
    click.echo(run.trace_hash(seed, nodes))
    return Exit.OK


def show_report(seeds: tuple[int, int], nodes: int, jobs: int, as_json: bool) -> int:
    report = _run(seeds, nodes, jobs)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        _tell(report.as_json())
    for broken in report.violations[:SHOWN_MAX]:
        again = f"see: python zookeeper_server.py sim --seed {broken.seed} --nodes {nodes} --trace"
        complain(f"seed {broken.seed} violates {broken.name}: {broken.text}", (again,))
    if len(report.violations) > SHOWN_MAX:
        complain(f"{len(report.violations) - SHOWN_MAX} more violations")
    return Exit.VIOLATION if report.violations else Exit.OK


def _run(seeds: tuple[int, int], nodes: int, jobs: int) -> run.Report:
    first, last = seeds
    if not sys.stderr.isatty():
        return run.run_seeds(first, last, nodes, jobs)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
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
