"""`make bench` and `make bench-peers`: measure five nodes, the bare loop they are compared with, and their peers.

python -m benchmarks                       ours and the bare loop, about two minutes
python -m benchmarks --peers build/peers   and ZooKeeper, etcd, NATS JetStream, PySyncObj, about twelve minutes
python -m benchmarks --quick               the same in seconds, to see that it works
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from benchmarks import report
from benchmarks.growth import Growth
from benchmarks.growth import rows as growth_rows
from benchmarks.measure import Trouble
from benchmarks.ours import Ours
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.nats import Nats
from benchmarks.peers.packages import Packages
from benchmarks.peers.pysyncobj import PySyncObj, PySyncObjTuned
from benchmarks.peers.zookeeper import ZooKeeper
from benchmarks.raw import Coalesced, Raw
from benchmarks.run import Make, Plan, Run
from zabzmq.cli import common
from zabzmq.cli.common import Exit, UserError

ALONE: Final = Plan(seconds=1.2, warm_up_s=1.0, kills=4, behind=(20_000, 100_000))
BESIDE_PEERS: Final = Plan(behind=(20_000, 100_000))
GROWTH_S: Final = 3.0
QUICK: Final = {"repeats": 1, "seconds": 0.3, "warm_up_s": 0.3, "kills": 1, "idle_s": 0.3, "behind": (1_000,)}
PEERS: Final = (ZooKeeper, Etcd, Nats, PySyncObj, PySyncObjTuned)


@click.command()
@click.option("--peers", type=click.Path(path_type=Path), help="Measure the peers too; their programs are kept here.")
@click.option("--install/--no-install", default=True, show_default=True, help="Fetch the peers that are missing.")
@click.option("--only", multiple=True, help="Measure this system alone; may be given again.")
@click.option("--quick", is_flag=True, help="See that all of it works; the figures mean little.")
@click.option("--growth", is_flag=True, help="Curves of zabzmq instead of single figures.")
@click.option("--repeats", type=click.IntRange(1, 20), help="How often every system has its turn.")
@click.option("--minutes", type=click.FloatRange(0.1), help="Begin nothing new after this.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where data goes for the time being: a real disk.")
@click.option("--write", "document", type=click.Path(path_type=Path, exists=True), help="Put the results here.")
@click.option("--at-least", type=click.FloatRange(0), help="Fail below this share of the coalesced loop, at 256.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every single value here.")
def benchmarks(
    peers: Path | None,
    install: bool,
    only: tuple[str, ...],
    quick: bool,
    growth: bool,
    repeats: int | None,
    minutes: float | None,
    directory: Path | None,
    document: Path | None,
    at_least: float | None,
    json_path: Path | None,
) -> int:
    """Measure zabzmq and the bare loop, and with --peers others, side by side on this machine."""
    plan = ALONE if peers is None else BESIDE_PEERS
    if quick:
        plan = replace(plan, **QUICK)  # type: ignore[arg-type]
    if repeats is not None:
        plan = replace(plan, repeats=repeats)
    if minutes is not None:
        plan = replace(plan, minutes=minutes)
    if growth:
        return _grow(plan.seconds if quick else GROWTH_S, directory, document)
    makes: dict[str, Make] = {system.name: system for system in (Ours, Raw, Coalesced)}
    if peers is not None:
        packages = Packages(peers)
        for line in packages.install() if install else ():
            _tell(line)
        makes |= {system.name: partial(system, packages=packages) for system in PEERS}
    if unknown := set(only) - set(makes):
        raise UserError(f"nothing is known of {sorted(unknown)[0]!r}", f"--only takes: {', '.join(makes)}")
    try:
        results = Run(plan, {n: m for n, m in makes.items() if n in only or not only}, directory, _tell).measure()
    except Trouble as trouble:
        raise UserError(str(trouble)) from None
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    if document is not None:
        report.write(results, document)
        _tell(f"written: {document}")
    click.echo(report.spoken(results))
    if at_least is not None:
        share = report.share_of_coalesced(results)
        if share is None:
            raise UserError("--at-least compares zabzmq with the coalesced loop, and one of them was not measured")
        if share < at_least:
            raise UserError(f"zabzmq has {share:.2f} of the coalesced loop's throughput, less than {at_least:.2f}")
    return Exit.OK


def _grow(seconds: float, directory: Path | None, document: Path | None) -> int:
    busy = os.getloadavg()[0]
    try:
        curves = Growth(directory, seconds, _tell).measure()
    except Trouble as trouble:
        raise UserError(str(trouble)) from None
    if document is not None:
        report.write_growth(curves, busy, document)
    for what, rows in growth_rows(curves):
        click.echo(f"\nover {what}\n{report.text(rows)}")
    return Exit.OK


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    common.run(benchmarks, "benchmarks")


if __name__ == "__main__":
    main()
