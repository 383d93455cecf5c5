"""Curves instead of points: zabzmq over nodes, what is outstanding, sessions, connections, and the size of values.

A curve that bends is expected, one that breaks off is not: queues are bounded, and BUSY is an answer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure import NODES, Load, Rate, Trouble, file_system, rss_mb
from benchmarks.ours import Ours
from benchmarks.run import NOT_DISKS, Tell

LOAD: Final = Load(1, 256)
ENSEMBLES: Final = (3, 5, 7, 9)
OUTSTANDING: Final = (1, 4, 16, 64, 256, 1024, 4096, 10_000)
SIZES: Final = (16, 128, 1024, 8192, 65_536)
SESSIONS: Final = (1, 4, 16, 64, 256, 1000)
CONNECTIONS: Final = (1, 10, 100, 1000)


class Point(NamedTuple):
    x: int
    rate: Rate | None  # None: nothing was answered in time
    rss_mb: float
    """Of the node that holds most, when the load was over."""


class Curve(NamedTuple):
    what: str
    points: list[Point]


class Growth:
    def __init__(self, directory: Path | None, seconds: float, tell: Tell) -> None:
        self._directory = directory
        self._seconds = seconds
        self._tell = tell

    def measure(self) -> list[Curve]:
        seconds = self._seconds
        curves = [self._nodes()]
        with self._cluster(NODES) as system:

            def outstanding(x: int) -> Rate:
                return system.writes(Load(1, x), seconds)

            def sessions(x: int) -> Rate:
                return system.writes(Load(x, 1), seconds)

            def connections(x: int) -> Rate:
                return system.writes_over(x, seconds)

            curves.append(self._curve("outstanding, one client", system, OUTSTANDING, outstanding))
            curves.append(self._curve("sessions of one client, one write each", system, SESSIONS, sessions))
            curves.append(self._curve("connections, one write each", system, CONNECTIONS, connections))
        # Large values last, on disks of their own: what they leave behind in memory is not the others' fault.
        with self._cluster(NODES) as system:

            def sizes(x: int) -> Rate:
                return system.writes_of(x, LOAD, seconds)

            curves.append(self._curve(f"bytes of a value, {LOAD} outstanding", system, SIZES, sizes))
        return curves

    def _nodes(self) -> Curve:
        points: list[Point] = []
        for nodes in ENSEMBLES:
            with self._cluster(nodes) as system:
                system.writes(LOAD, self._seconds)
                points += self._curve("nodes", system, (nodes,), partial(self._at_load, system)).points
        return Curve(f"nodes, {LOAD} outstanding", points)

    def _at_load(self, system: Ours, nodes: int) -> Rate:
        return system.writes(LOAD, self._seconds)

    def _curve(self, what: str, system: Ours, xs: Sequence[int], load: Callable[[int], Rate]) -> Curve:
        points = []
        for x in xs:
            measured = None
            try:
                measured = load(x)
                self._tell(f"  {what} {x:,}: {measured.per_s:,.0f}/s, p99 {measured.p99:.1f} ms")
            except Trouble as trouble:
                self._tell(f"  {what} {x:,}: {trouble}")
            points.append(Point(x, measured, max(rss_mb(system.pids()))))
        return Curve(what, points)

    @contextmanager
    def _cluster(self, nodes: int) -> Iterator[Ours]:
        scratch = Path(tempfile.mkdtemp(prefix="benchmark-", dir=self._directory))
        system = Ours(scratch, nodes)
        try:
            if (kind := file_system(scratch)) in NOT_DISKS:
                raise Trouble(f"{scratch} is on {kind}, where syncing costs nothing; name a directory with --directory")
            system.start()
            yield system
        finally:
            system.stop()
            shutil.rmtree(scratch, ignore_errors=True)


def rows(curves: Iterable[Curve]) -> Iterator[tuple[str, list[list[str]]]]:
    """For each curve its name and a table."""
    for curve in curves:
        yield (
            curve.what,
            [
                ["", *(f"{point.x:,}" for point in curve.points)],
                ["writes/s", *(f"{point.rate.per_s:,.0f}" if point.rate else "–" for point in curve.points)],
                ["p50, ms", *(f"{point.rate.p50:.1f}" if point.rate else "–" for point in curve.points)],
                ["p99, ms", *(f"{point.rate.p99:.1f}" if point.rate else "–" for point in curve.points)],
                ["largest node, MB", *(f"{point.rss_mb:.0f}" for point in curve.points)],
            ],
        )
