"""`trace merge|tail|check|export`: the event logs of all nodes as one story, on a terminal or for other programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import click

from zabzmq.cli.common import Exit, UserError, can_encode, interrupt_on_sigterm, warn
from zabzmq.cli.server_observe import page_path
from zabzmq.server.config import Config
from zabzmq.trace import export
from zabzmq.trace.check import CHECKS, Checker, Violation
from zabzmq.trace.follow import Follower
from zabzmq.trace.merge import merge
from zabzmq.trace.reading import Event, Problem, logs_in, streams
from zabzmq.trace.telling import is_quiet, tell

LOOK_EVERY_S: Final = 0.2
COLUMN_MIN: Final = 14
WIDTH_ELSEWHERE: Final = 160


class Logs:
    """The files of one command, and what in them could not be read."""

    def __init__(self, config: Config, files: Iterable[Path]) -> None:
        self.paths = list(files) or logs_in(config.log_dir)
        self.problems: list[Problem] = []
        if not self.paths:
            raise UserError(
                f"no event logs in {config.log_dir}/: no node has run with this --log-dir.",
                "start a cluster:  python zookeeper_server.py cluster up",
                "logs elsewhere?   --log-dir DIR, or name the files",
            )

    def events(self) -> Iterator[Event]:
        """All of them, merged. Raises UserError if there is not one."""
        none = True
        for event in merge(streams(self.paths, self.complain)):
            none = False
            yield event
        if none:
            which = str(self.paths[0]) if len(self.paths) == 1 else f"these {len(self.paths)} files"
            raise UserError(f"no event could be read from {which}.")

    def complain(self, problem: Problem) -> None:
        """Told at once; the rest is read all the same."""
        self.problems.append(problem)
        warn(str(problem))


def _nodes_of(logs: Logs) -> list[int]:
    """For columns: the nodes of these files, known before the first event is shown."""
    return sorted({event.n for event in merge(streams(logs.paths, lambda problem: None))})


# ---- merge ---------------------------------------------------------------------------------------------------------


def show_merged(config: Config, files: Iterable[Path], *, columns: bool, as_jsonl: bool, everything: bool) -> int:
    logs = Logs(config, files)
    events = logs.events()
    if as_jsonl:
        for line in export.to_jsonl(events):
            click.echo(line)
        return Exit.OK
    shown = (event for event in events if everything or not is_quiet(event))
    for line in _in_columns(shown, _nodes_of(logs)) if columns else _in_lines(shown):
        click.echo(line)
    return Exit.OK


def _in_lines(events: Iterable[Event]) -> Iterator[str]:
    began: float | None = None
    for event in events:
        began = event.t if began is None else began
        yield fitting(f"{event.t - began:9.3f}  {event.name:<14} {tell(event)}")


def _in_columns(events: Iterable[Event], nodes: list[int]) -> Iterator[str]:
    """A column for each node; what does not fit goes on below."""
    width = shutil.get_terminal_size((WIDTH_ELSEWHERE, 24)).columns if sys.stdout.isatty() else WIDTH_ELSEWHERE
    column = max(COLUMN_MIN, (width - 10) // max(1, len(nodes)) - 1)
    yield fitting(" " * 10 + " ".join(f"node {node}".ljust(column) for node in nodes).rstrip())
    began: float | None = None
    for event in events:
        began = event.t if began is None else began
        at = " " * (nodes.index(event.n) * (column + 1))
        first, *rest = textwrap.wrap(tell(event), column, subsequent_indent="  ") or [""]
        yield fitting(f"{event.t - began:9.3f} {at}{first}")
        yield from (fitting(f"{'':9} {at}{line}") for line in rest)


def fitting(line: str) -> str:
    """Signs that this terminal cannot show are spelled in ASCII."""
    if can_encode(line):
        return line
    for sign, plain in (("★", "*"), ("●", "o"), ("○", "o"), ("✕", "x")):
        line = line.replace(sign, plain)
    return line.encode("ascii", "replace").decode()


# ---- tail ----------------------------------------------------------------------------------------------------------


def show_tail(config: Config, count: int, *, follow: bool, as_jsonl: bool, everything: bool) -> int:
    """With `follow` until Ctrl-C or SIGTERM."""
    paths = logs_in(config.log_dir) if follow else Logs(config, ()).paths
    follower = Follower(_newest_of(paths), count, lambda problem: warn(str(problem)))

    def news() -> list[Event]:
        return [event for event in follower.events() if everything or not is_quiet(event)]

    def show(events: list[Event]) -> None:
        for event in events:
            line = f"{_time_of_day(event.t)}  {event.name:<14} {tell(event)}"
            click.echo(event.raw.decode("utf-8") if as_jsonl else fitting(line))
        sys.stdout.flush()

    with closing(follower), suppress(KeyboardInterrupt):
        newest = news()
        show(newest[max(0, len(newest) - count) :])
        if follow:
            interrupt_on_sigterm()
            if not paths:
                click.echo(f"waiting for logs in {config.log_dir}/", err=True)
        while follow:
            time.sleep(LOOK_EVERY_S)
            follower.watch(_newest_of(logs_in(config.log_dir)))
            show(news())
    return Exit.OK


def _newest_of(paths: Iterable[Path]) -> list[Path]:
    """The logs that are still written to."""
    return [path for path in paths if path.suffix == ".jsonl"]


def _time_of_day(t: float) -> str:
    """As in node-<id>.log, when the event is of this run of the host; else seconds of its clock."""
    now = time.monotonic()
    if not now - 86_400 < t <= now:
        return f"{t:12.3f}"
    wall = time.time() - now + t
    return f"{time.strftime('%H:%M:%S', time.localtime(wall))}.{int(wall * 1000) % 1000:03}"


# ---- check ---------------------------------------------------------------------------------------------------------


def show_check(config: Config, files: Iterable[Path], *, as_json: bool) -> int:
    """Exit code 7 on a violation."""
    logs = Logs(config, files)
    checker = Checker()
    for event in logs.events():
        checker.feed(event)
    click.echo(json.dumps(_verdict(checker, logs), ensure_ascii=False) if as_json else fitting(_verdict_text(checker)))
    if logs.problems and not as_json:
        warn(f"this is the verdict on the {checker.events} events that could be read")
    return Exit.VIOLATION if checker.violation_count else Exit.OK


def _verdict(checker: Checker, logs: Logs) -> dict[str, Any]:
    broken = {violation.check for violation in checker.violations}
    return {
        "v": 1,
        "ok": not checker.violation_count,
        "events": checker.events,
        "nodes": sorted(checker.nodes),
        "missing": checker.missing,
        "unsafe": {name: sorted(nodes) for name, nodes in sorted(checker.unsafe.items())},
        "checks": [{"name": name, "ok": name not in broken, "count": checker.counts[name]} for name in CHECKS],
        "violations": [
            {"check": v.check, "text": v.text, "events": [event.fields for event in v.events]}
            for v in checker.violations
        ],
        "unread": [problem._asdict() for problem in logs.problems],
    }


def _verdict_text(checker: Checker) -> str:
    broken = {violation.check for violation in checker.violations}
    width = max(len(name) for name in CHECKS)
    lines = [f"{checker.events} events of nodes {' '.join(map(str, sorted(checker.nodes)))}"]
    if checker.missing:
        lines.append(f"no events of node {' '.join(map(str, checker.missing))}: what it alone would show is not judged")
    for switch, nodes in sorted(checker.unsafe.items()):
        lines.append(
            f"TAINTED: --unsafe-{switch} on node {' '.join(map(str, sorted(nodes)))}; a rule was left out there"
        )
    for name, counted in CHECKS.items():
        lines.append(f"{'BROKEN' if name in broken else 'ok':<6}  {name:<{width}}  {checker.counts[name]} {counted}")
    for violation in checker.violations:
        lines += ["", *_violation_text(violation)]
    more = checker.violation_count - len(checker.violations)
    if more:
        lines.append(f"\n... {more} more")
    return "\n".join(lines)


def _violation_text(violation: Violation) -> list[str]:
    told = [f"  {event.t:.3f}  {event.name}  {tell(event)}" for event in violation.events]
    return [f"BROKEN  {violation.check}: {violation.text}", *told]


# ---- export --------------------------------------------------------------------------------------------------------


def write_export(config: Config, files: Iterable[Path], kind: str, output: Path | None, limit: int) -> int:
    logs = Logs(config, files)
    events = logs.events()
    data = _page_with(events) if kind == "html" else "".join(f"{x}\n" for x in _exported(events, kind, limit)).encode()
    if output is None:
        sys.stdout.buffer.write(data)
        return Exit.OK
    try:
        output.write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    click.echo(f"{output}: {len(data)} bytes", err=True)
    return Exit.OK


def _exported(events: Iterator[Event], kind: str, limit: int) -> Iterator[str]:
    match kind:
        case "csv":
            return export.to_csv(events)
        case "shiviz":
            return export.to_shiviz(events)
        case "mermaid":
            return export.to_mermaid(events, limit)
        case _:
            return export.to_jsonl(events)


def _page_with(events: Iterator[Event]) -> bytes:
    path = page_path()
    if path is None:
        raise UserError("this installation has no index.html to put the trace into.", "other formats: --to jsonl")
    try:
        return export.to_html(path.read_bytes(), events)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
