"""What a run came to: a table for the terminal, and tables and pictures for docs/performance.md.

The document is a person's, but for what stands between the two markers: that is written anew by every run.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.goals import COALESCED, GOALS, OURS
from benchmarks.growth import Curve
from benchmarks.growth import rows as growth_rows
from benchmarks.measure import READ_LOADS, WRITE_LOADS
from benchmarks.run import GAME_LOAD, LOCAL_LOAD, Measured, Results, machine
from benchmarks.svg import dots, lines

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"
GROWTH_BEGIN: Final = "<!-- growth: begin -->"
GROWTH_END: Final = "<!-- growth: end -->"
BUSY: Final = 0.5
"""A load average above which a run is not to be trusted."""
NOTHING: Final = "–"
LOADS: Final = [load for load in WRITE_LOADS if load.clients == 1]

Row = list[str]


def _rows(results: Results) -> list[tuple[str, str, str]]:
    """Label, name of the value, format."""
    rows = [("writes, one at a time, p50, ms", f"write {WRITE_LOADS[0]} p50", ".2f")]
    rows += [(f"writes, {load} outstanding, /s", f"write {load} per_s", ",.0f") for load in WRITE_LOADS[1:]]
    rows += [(f"p99 at {load}, ms", f"write {load} p99", ".1f") for load in WRITE_LOADS]
    rows += [(f"processor of five nodes for a write at {load}, us", f"write {load} cpu us", ",.0f") for load in LOADS]
    rows += [(f"wake-ups of five nodes for a write at {load}", f"write {load} wake-ups", ",.1f") for load in LOADS]
    rows += [("linearizable reads, one at a time, p50, ms", f"read {READ_LOADS[0]} p50", ".2f")]
    rows += [(f"linearizable reads, {load} outstanding, /s", f"read {load} per_s", ",.0f") for load in READ_LOADS[1:]]
    rows += [
        (f"the game, {GAME_LOAD} outstanding, /s", f"game {GAME_LOAD} per_s", ",.0f"),
        (f"local reads, five nodes, {LOCAL_LOAD} each, /s", f"local read {LOCAL_LOAD} per_s", ",.0f"),
        ("leader kill -9 to next commit, ms", "fail-over ms", ",.0f"),
        ("leader frozen to next commit, ms", "frozen ms", ",.0f"),
        ("start to first commit, s", "start s", ".1f"),
        ("memory of a node, empty, MB", "rss MB", ".0f"),
        ("processor, five idle nodes, % of a core", "idle %", ".1f"),
    ]
    rows += [(f"follower {behind:,} behind, s", f"catch-up {behind:,} s", ".1f") for behind in results.plan.behind]
    return rows


def _cell(system: Measured, what: str, form: str) -> str:
    median = system.median(what)
    if median is None:
        return NOTHING
    if what in ("fail-over ms", "frozen ms"):
        values = system.values[what]
        return f"{median:,.0f} (max {max(values):,.0f} of {len(values)})"
    return format(median, form)


def table(results: Results) -> list[Row]:
    """Medians; the first row is the heading."""
    rows = [["", *(system.name for system in results.systems)]]
    for label, what, form in _rows(results):
        cells = [_cell(system, what, form) for system in results.systems]
        if any(cell != NOTHING for cell in cells):
            rows.append([label, *cells])
    return rows


def ratios(results: Results) -> list[Row]:
    """How many times the others' throughput ours is."""
    others = [system.name for system in results.systems if system.name != OURS]
    rows = [["ours against", *others]]
    for load in WRITE_LOADS:
        ours = results.median(OURS, f"write {load} per_s")
        cells = []
        for other in others:
            theirs = results.median(other, f"write {load} per_s")
            cells.append(f"{ours / theirs:.2f}" if ours is not None and theirs else NOTHING)
        rows.append([f"writes, {load} outstanding", *cells])
    return rows


def goals(results: Results) -> list[Row]:
    rows = [["goal", "limit", "measured", ""]]
    for goal in GOALS:
        measured, limit = goal.measured(results), goal.limit(results)
        unit = goal.unit if goal.unit.startswith("/") else f" {goal.unit}" if goal.unit else ""
        said = NOTHING if measured is None else f"{_short(measured)}{unit}"
        asked = NOTHING if limit is None else f"{_short(limit)}{unit}"
        rows.append([goal.what, goal.goal.format(asked), said, goal.verdict(results)])
    return rows


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def text(rows: Sequence[Row]) -> str:
    """For the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formed = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *cells[1:]]) for row, cells in zip(rows, formed, strict=True))


def _markdown(rows: Sequence[Row]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    right = " ---: |" * (len(rows[0]) - 1)
    return "\n".join([head, f"| --- |{right}", *body])


def _about(results: Results) -> Iterable[str]:
    plan = results.plan
    yield (
        f"{results.date}, one run of {results.minutes:.0f} minutes; repeats, in turn: {plan.repeats}, "
        f"{plan.seconds:g} s for each load after {plan.warm_up_s:g} s of warming up; medians."
    )
    yield f"Machine: {results.machine}; data on {results.file_system}; all on one loopback; values of 128 bytes."
    yield from _busy(results.busy)
    yield ""
    yield _markdown(
        [
            ["", "version", "synced to disk", "driven by", "settings"],
            *([s.name, s.version, s.syncs, s.driver, s.settings] for s in results.systems),
        ]
    ).replace(" ---: |", " --- |")
    for name, why in results.missing.items():
        yield f"\n{name} was not measured: {why}."
    for system in results.systems:
        for trouble in system.troubles:
            yield f"\n{system.name}: {trouble}."


def _costs(results: Results) -> Iterable[str]:
    for name in (OURS, COALESCED):
        system = results.of(name)
        if system is not None and (cost := cost_of_a_round(system)) is not None:
            ms, us = cost
            yield f"{name}: a round costs five nodes {ms:.1f} ms of processor time, and each write {us:.0f} us more."
            yield ""


def _busy(load_average: float) -> Iterable[str]:
    if load_average > BUSY:
        yield ""
        yield (
            f"**The machine was busy** (load average {load_average:.1f} before the run): all figures are too low, and "
            "not by the same share."
        )


def _pictures(results: Results, directory: Path) -> Iterable[str]:
    """Write them; yields the lines that show them."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [system.name for system in results.systems]
    for file, title, value in (
        ("throughput", "Committed writes of 128 bytes, a second", "per_s"),
        ("latency", "Latency of a write, p50, ms", "p50"),
    ):
        series = {}
        for system in results.systems:
            points = [(load.outstanding, system.median(f"write {load} {value}")) for load in LOADS]
            kept = [(float(x), y) for x, y in points if y is not None]
            if kept:
                series[system.name] = kept
        if series:
            (directory / f"{file}.svg").write_text(lines(title, "outstanding operations, one client", series, names))
            yield f"![{title}]({directory.name}/{file}.svg)\n"
    killed = {s.name: s.values["fail-over ms"] for s in results.systems if s.values.get("fail-over ms")}
    if killed:
        title = "Leader killed: until the next commit"
        (directory / "fail-over.svg").write_text(
            dots(title, "ms; one dot for each kill, a bar at the median", killed, names)
        )
        yield f"![{title}]({directory.name}/fail-over.svg)\n"


def write(results: Results, document: Path) -> None:
    """Put this run between the markers of the document, and its pictures beside it."""
    parts = [
        *_about(results),
        "",
        _markdown(table(results)),
        "",
        "Throughput of zabzmq as a multiple of the others':",
        "",
        _markdown(ratios(results)),
        "",
        *_costs(results),
        *_pictures(results, document.with_suffix("")),
        "Goals:",
        "",
        _markdown(goals(results)).replace(" ---: |", " --- |"),
    ]
    _replace(document, BEGIN, END, parts)


def write_growth(curves: Sequence[Curve], busy: float, document: Path) -> None:
    parts = [f"Of {datetime.date.today().isoformat()}, on this machine: {machine()}.", *_busy(busy)]
    for what, rows in growth_rows(curves):
        parts += ["", f"Over {what}:", "", _markdown(rows)]
    _replace(document, GROWTH_BEGIN, GROWTH_END, parts)


def _replace(document: Path, begin: str, end: str, parts: Sequence[str]) -> None:
    before, _, rest = document.read_text(encoding="utf-8").partition(begin)
    _, marker, after = rest.partition(end)
    if not marker:
        raise ValueError(f"{document} has no place for the results: {begin} ... {end}")
    document.write_text("\n".join([before + begin, "", *parts, "", end + after]), encoding="utf-8")


def cost_of_a_round(system: Measured) -> tuple[float, float] | None:
    """Processor time of five nodes: milliseconds for a round, and microseconds more for each write in it.

    A line through the loads of one client from 64 on: there all that is outstanding travels in one round.
    """
    points = []
    for load in LOADS:
        cost = system.median(f"write {load} cpu us")
        if load.outstanding >= 64 and cost is not None:
            points.append((load.outstanding, cost * load.outstanding))
    if len(points) < 2:
        return None
    slope, start = statistics.linear_regression(*zip(*points, strict=True))
    return start / 1000, slope


def share_of_coalesced(results: Results) -> float | None:
    """Our throughput with 256 outstanding as a share of the coalesced loop's in the same run."""
    ours, loop = results.median(OURS, "write 256 per_s"), results.median(COALESCED, "write 256 per_s")
    return ours / loop if ours is not None and loop else None


def spoken(results: Results) -> str:
    parts = [text(table(results))]
    if results.of(OURS) is not None:
        parts += ["", "throughput of zabzmq as a multiple of the others':", text(ratios(results))]
    share = share_of_coalesced(results)
    if share is not None:
        parts += ["", f"256 outstanding: {share:.2f} of the coalesced bare loop (goal: 0.40)"]
    for system in results.systems:
        parts += [f"{system.name}: {trouble}" for trouble in system.troubles]
    parts += [f"{name} is missing: {why}" for name, why in results.missing.items()]
    return "\n".join(parts)
