"""python -m tests.fuzz --frames 1000000: mutated input at every decoder, and at every socket of running nodes."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click

from tests.e2e.real import RealCluster
from tests.fuzz.cluster import Thrown, throw
from tests.fuzz.decoders import Fuzzer, decoders
from tests.fuzz.mutate import Mutator

CLUSTER_FRAMES = 50_000
"""At one cluster; then another is made, with another seed."""


@click.command()
@click.option("--frames", default=1_000_000, show_default=True, help="In all: half at decoders, half at sockets.")
@click.option("--seed", default=1, show_default=True)
@click.option("--sockets/--no-sockets", default=True, show_default=True, help="Throw at running nodes too.")
def main(frames: int, seed: int, sockets: bool) -> None:
    """Throw mutated frames until one does what it must not; exit code 1 and the frame, if one does."""
    began = time.monotonic()
    at_decoders = frames // 2 if sockets else frames
    with tempfile.TemporaryDirectory(prefix="zab-fuzz-") as name:
        found = decoders(Path(name))
        for number, decoder in enumerate(found):
            report = Fuzzer(decoder, Mutator(seed * 1000 + number)).run(at_decoders // len(found))
            print(
                f"{decoder.name:18} {report.tried:9,} tried, {report.taken:,} taken, {report.refused:,} refused, "
                f"{report.ways} ways, {report.kept} kept",
                flush=True,
            )
    total = Thrown()
    round_ = 0
    while sockets and total.total < frames - at_decoders:
        round_ += 1
        with tempfile.TemporaryDirectory(prefix="zab-fuzz-") as name:
            cluster = RealCluster(Path(name), nodes=3)
            try:
                some = min(CLUSTER_FRAMES, frames - at_decoders - total.total)
                thrown = throw(cluster, seed * 1000 + round_, some, round_ % 2 == 0, _progress)
            finally:
                cluster.close()
        total.frames += thrown.frames
        total.commits += thrown.commits
        grown = max(after - before for before, after in thrown.memory_mib.values())
        who = "in the names of voters" if round_ % 2 == 0 else "as strangers"
        print(f"\rcluster {round_}, {who}: {thrown.total:,} frames, grew by {grown:.0f} MiB at most", flush=True)
    print(f"sockets {dict(total.frames)}, {total.commits:,} commits meanwhile")
    print(f"no finding in {at_decoders + total.total:,} frames, {time.monotonic() - began:.0f} s")


def _progress(thrown: Thrown) -> None:
    if sys.stdout.isatty():
        print(f"\r{thrown.total:9,} frames thrown", end="", flush=True)


if __name__ == "__main__":
    main()
