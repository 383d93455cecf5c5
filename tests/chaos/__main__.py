"""python -m tests.chaos: real nodes under fire until so many kills, pauses and partitions are survived."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import click

from tests.chaos.fire import Burnt, Episode


@click.command()
@click.option("--kills", default=1000, show_default=True)
@click.option("--pauses", default=200, show_default=True)
@click.option("--partitions", default=200, show_default=True)
@click.option("--minutes", default=0.0, help="Stop after so long, whatever was reached.")
@click.option("--acts", default=20, show_default=True, help="In one episode, which has a cluster of its own.")
@click.option("--seed", default=1, show_default=True, help="Of the first episode; the next has the next.")
def main(kills: int, pauses: int, partitions: int, minutes: float, acts: int, seed: int) -> None:
    """Kill, pause and cut apart; check that nothing is lost. A violation ends it, and its data and logs are kept."""
    began = time.monotonic()
    total = Burnt()

    def goes_on() -> bool:
        if minutes and time.monotonic() - began > minutes * 60:
            return False
        goals = {"kills": kills, "pauses": pauses, "partitions": partitions}
        return any(total.done[what] < goal for what, goal in goals.items())

    while goes_on():
        directory = Path(tempfile.mkdtemp(prefix="zab-chaos-"))
        try:
            burnt = Episode(directory, seed).run(acts)
        except BaseException:
            print(f"episode of seed {seed} failed; its data and logs are in {directory}", flush=True)
            raise
        shutil.rmtree(directory)
        total.add(burnt)
        print(f"seed {seed}, {time.monotonic() - began:.0f} s: {burnt}", flush=True)
        seed += 1
    print(f"in all, {time.monotonic() - began:.0f} s: {total}")


if __name__ == "__main__":
    main()
