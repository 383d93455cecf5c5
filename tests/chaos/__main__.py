"""python -m tests.chaos: real nodes under fire until so many kills, pauses and partitions are survived."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import click

from tests.chaos.fire import NODES, Burnt, Episode
from tests.chaos.places import Namespaces, may_make_namespaces


@click.command()
@click.option("--kills", default=1000, show_default=True)
@click.option("--pauses", default=200, show_default=True)
@click.option("--partitions", default=200, show_default=True)
@click.option("--minutes", default=0.0, help="Stop after so long, whatever was reached.")
@click.option("--acts", default=40, show_default=True, help="In one episode, which has a cluster of its own.")
@click.option("--seed", default=1, show_default=True, help="Of the first episode; the next has the next.")
@click.option(
    "--namespaces/--no-namespaces",
    default=None,
    help="In network namespaces, on small disks of memory. As root the default is every other episode.",
)
def main(
    kills: int, pauses: int, partitions: int, minutes: float, acts: int, seed: int, namespaces: bool | None
) -> None:
    """Kill, pause and cut apart; check that nothing is lost. A violation ends it, and its data and logs are kept."""
    began = time.monotonic()
    total = Burnt()
    possible = namespaces is not False and may_make_namespaces()

    def goes_on() -> bool:
        if minutes and time.monotonic() - began > minutes * 60:
            return False
        goals = {"kills": kills, "pauses": pauses, "partitions": partitions}
        return any(total.done[what] < goal for what, goal in goals.items())

    while goes_on():
        directory = Path(tempfile.mkdtemp(prefix="zab-chaos-"))
        inside = possible and (namespaces or seed % 2 == 0)
        try:
            with Namespaces(NODES) if inside else nullcontext() as net:
                burnt = Episode(directory, seed, net).run(acts)
        except BaseException:
            print(f"episode of seed {seed} failed; its data and logs are in {directory}", flush=True)
            raise
        shutil.rmtree(directory)
        total.add(burnt)
        where = "in namespaces" if inside else "on loopback"
        print(f"seed {seed} {where}, {time.monotonic() - began:.0f} s: {burnt}", flush=True)
        seed += 1
    print(f"in all, {time.monotonic() - began:.0f} s: {total}")


if __name__ == "__main__":
    main()
