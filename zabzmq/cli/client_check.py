"""client.py check: is a history that `bench --history` wrote linearizable? (trace/checker.py judges)

One JSON object a line: invocations, and their ends, in the order they happened. What was never answered may have taken
effect at any later time or never; what surely failed has not happened. Guesses are written down without what the
game answered, so only the operations on keys are judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import click
import msgspec
from msgspec import Meta, Struct

from zabzmq.cli.client_options import common_options, setup
from zabzmq.cli.client_output import VERSION, to_json
from zabzmq.cli.common import Command, Exit, UserError, Whole
from zabzmq.machine.operations import UNREADABLE, KvQuery, KvValue, Put
from zabzmq.trace.checker import UNKNOWN, Call, Verdict, check_history, describe

STEPS_MAX: Final = 5_000_000
_Number = Annotated[int, Meta(ge=0)]


class Line(Struct, frozen=True):
    """`process` has one operation under way at a time."""

    process: int
    type: Literal["invoke", "ok", "fail", "unknown"]
    op: str
    key: str | None
    value: str | int | None
    t: float
    zxid: tuple[_Number, _Number] | None = None


class Read(NamedTuple):
    """What a file holds: calls to be judged, and how many others."""

    calls: list[Call]
    unknown: int
    unjudged: int


_decode = msgspec.json.Decoder(Line).decode


def read_history(path: Path) -> Read:
    """Raises UserError, which names the line that cannot be read."""
    under_way: dict[int, Line] = {}
    calls: list[Call] = []
    unjudged = unknown = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    line = _decode(raw)
                except UNREADABLE as error:
                    raise _unreadable(path, number, str(error)) from None
                if line.type == "invoke":
                    if line.process in under_way:
                        raise _unreadable(path, number, f"process {line.process} has an operation under way already")
                    under_way[line.process] = line
                    continue
                asked = under_way.pop(line.process, None)
                if asked is None or (asked.op, asked.key) != (line.op, line.key):
                    raise _unreadable(path, number, f"process {line.process} did not invoke this")
                if line.op not in ("kv.put", "kv.get"):
                    unjudged += 1
                elif line.type == "ok":
                    calls.append(_call(asked, line))
                elif line.type == "unknown":
                    unknown += 1
                    calls.append(_call(asked, None))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    for asked in under_way.values():  # The run was ended while these were on their way.
        if asked.op in ("kv.put", "kv.get"):
            unknown += 1
            calls.append(_call(asked, None))
        else:
            unjudged += 1
    return Read(calls, unknown, unjudged)


def _call(asked: Line, end: Line | None) -> Call:
    key = (asked.key or "").encode()
    returned = UNKNOWN if end is None else end.t
    zxid = None if end is None else end.zxid
    client = f"process {asked.process}"
    if asked.op == "kv.put":
        return Call(client, asked.t, returned, Put(key, _bytes(asked.value)), None, zxid)
    held = None if end is None or end.value is None else _bytes(end.value)
    return Call(client, asked.t, returned, KvQuery(key), KvValue(held), zxid)


def _bytes(value: str | int | None) -> bytes:
    return str("" if value is None else value).encode()


def _unreadable(path: Path, number: int, why: str) -> UserError:
    return UserError(
        f"{path}, line {number}: {why}", "write a history:  client.py bench --op kv.mix --seconds 5 --history FILE"
    )


def report(read: Read, verdict: Verdict) -> dict[str, Any]:
    return {
        "v": VERSION,
        "ok": verdict.ok,
        "decided": verdict.decided,
        "calls": len(read.calls),
        "unknown": read.unknown,
        "unjudged": read.unjudged,
        "part": verdict.part or None,
        "stuck": [describe(call) for call in verdict.stuck],
    }


def spoken(read: Read, verdict: Verdict) -> str:
    calls = f"{len(read.calls):,} operations, {read.unknown:,} of them with an unknown outcome"
    lines = []
    if verdict.ok:
        lines.append(f"linearizable: {calls}")
    elif verdict.decided:
        lines.append(f"not linearizable: {calls}. No order explains {verdict.part}; the search got stuck at")
        lines += [f"  {describe(call)}" for call in verdict.stuck]
    else:
        lines.append(f"not decided: {calls}. The search was given up at {verdict.part}; allow it more with --steps")
    if read.unjudged:
        lines.append(f"  {read.unjudged:,} operations of the game were not judged: a history holds no answers of it")
    return "\n".join(lines)


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--steps", type=Whole(1, 1 << 40), default=STEPS_MAX, show_default=True, help="Of a search, for each key."
)
@common_options
@click.pass_context
def check(ctx: click.Context, file: Path, steps: int) -> None:
    """Judge a history that `bench --history` wrote: is it linearizable?

    \b
    Exit codes: 0 it is, 1 the file cannot be read, 7 it is not, 8 undecided
    """
    asked = setup(ctx)
    read = read_history(file)
    if not read.calls:
        raise UserError(f"{file} holds no operation on keys: there is nothing to judge")
    verdict = check_history(read.calls, steps)
    click.echo(to_json(report(read, verdict)) if asked.json else spoken(read, verdict))
    code = Exit.OK if verdict.ok else Exit.VIOLATION if verdict.decided else Exit.UNDECIDED
    raise click.exceptions.Exit(code)
