"""python -m tests.crash: the files of a node under every power cut, cut and flipped bit; minutes, on one core."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tests.crash import damage
from tests.crash.damage import KIB_64, Tried
from tests.crash.disk import Disk
from tests.crash.script import record
from tests.crash.sweep import Sweep, Swept


@contextmanager
def _row(name: str) -> Iterator[Callable[[str], None]]:
    """One line of the report; while it is worked on it says how far."""
    began = time.monotonic()
    said = [""]

    def say(text: str) -> None:
        said[0] = text
        if sys.stdout.isatty():
            print(f"\r{name:44} {text:70}", end="", flush=True)

    yield say
    print(f"\r{name:44} {said[0]}   {time.monotonic() - began:.0f} s", flush=True)


def _swept(swept: Swept) -> str:
    again = f", {swept.again:,} during recovery" if swept.again else ""
    return f"{swept.points:,} moments{again}, {swept.images:,} disks, {swept.checks:,} checks, 0 violations"


def _tried(tried: Tried) -> str:
    return f"{tried.tried:,} tried: {tried.refused:,} refused, {tried.whole:,} whole, {tried.lost:,} as a torn end"


PARTS = ("power", "log", "small")


@click.command()
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Only this; can be repeated.")
@click.option("--images", default=1024, show_default=True, help="Disks tried of one moment, if there are so many.")
@click.option("--every", default=2, show_default=True, help="A second cut in the recovery of every so many moments.")
@click.option("--bits", default=1, show_default=True, help="Of so many bits, flip one.")
def main(parts: tuple[str, ...], images: int, every: int, bits: int) -> None:
    """Cut the power at every change of the disk, cut every file at every byte, flip every bit."""
    with tempfile.TemporaryDirectory(prefix="zab-crash-") as name:
        for part in parts or PARTS:
            place = Path(name) / part
            place.mkdir()
            if part == "power":
                power(place, images, every)
            elif part == "log":
                log(place, bits)
            else:
                small(place, bits)


def power(place: Path, images: int, every: int) -> None:
    run = record(place)
    for title in ("power cuts", "power cuts, and again during recovery"):
        with _row(title) as say:
            work = place / title.replace(" ", "-")
            work.mkdir()

            def tell(swept: Swept, say: Callable[[str], None] = say) -> None:
                say(_swept(swept))

            if title == "power cuts":
                Sweep(work, images, tell=tell).run(run.trace, Disk())
            else:
                Sweep(work, 0, tell=tell).recoveries(run.trace, Disk(), every, 4)


def log(place: Path, bits: int) -> None:
    for clean in (False, True):
        how = "stopped" if clean else "killed"
        left = damage.make_log(place / how / "node-0", KIB_64, clean=clean)
        [segment] = left.segments
        size = segment.stat().st_size
        with _row(f"log of {size:,} bytes, {how}: cut at every byte") as say:
            say(_tried(damage.cut(left, segment, range(size + 1))))
        with _row(f"log of {size:,} bytes, {how}: sectors") as say:
            say(_tried(damage.sectors(left, segment)))
        with _row(f"log of {size:,} bytes, {how}: {'every bit' if bits == 1 else f'one bit of {bits}'}") as say:
            tried = Tried()
            for start in range(0, size * 8, 1024 * bits):
                some = range(start, min(start + 1024 * bits, size * 8), bits)
                tried = tried.and_(damage.flip(left, segment, some))
                say(_tried(tried))


def small(place: Path, bits: int) -> None:
    left = damage.make_snapshots(place / "node-0")
    for file in sorted((left.path / "gen-1").glob("snap.*")):
        size = file.stat().st_size
        with _row(f"{file.name}, {size:,} bytes: every byte and bit") as say:
            say(_tried(damage.cut(left, file, range(size)).and_(damage.flip(left, file, range(0, size * 8, bits)))))
    for file in (left.file("META"), left.file("CURRENT")):
        size = file.stat().st_size
        with _row(f"{file.name}, {size} bytes: every byte and bit") as say:
            flipped = damage.flip_and_start(left, file, range(size * 8), place / "started")
            say(_tried(damage.cut_and_start(left, file, place / "started").and_(flipped)))


if __name__ == "__main__":
    main()
