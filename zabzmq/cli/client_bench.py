"""`bench`: what the cluster commits in a second, seen from a client.

`--history FILE` writes what a linearizability checker needs: one JSON object a line, in the order things happened,

    {"process": 3, "type": "invoke", "op": "kv.put", "key": "key-5e1f-17", "value": "3.41", "t": 12.48113}
    {"process": 3, "type": "ok", "op": "kv.put", "key": "key-5e1f-17", "value": "3.41", "t": 12.48252, "zxid": [3, 907]}

`type` is invoke, then ok, fail (surely not done) or unknown (may take effect at any later time, or never); `value` of
an ok kv.get is what was read (null: no value), of kv.put what was written, without its padding. A process has one
operation at a time; after an unknown its number is never used again. `t` is in seconds of the monotonic clock.
The keys are new in every run with a history, so each begins with no value.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle, groupby
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click

from zabzmq.cli import colour
from zabzmq.cli.client_options import TIMEOUT_S_MAX, Seconds, common_options, setup
from zabzmq.cli.client_output import VERSION, Trouble, exit_code, name_of, no_way, to_json, trouble
from zabzmq.cli.common import Command, Exit, UserError, Whole
from zabzmq.client.call import Call, Calls, Outcome
from zabzmq.client.client import Client
from zabzmq.machine.operations import GameQuery, Guess, KvQuery, KvValue, Operation, Put, Query, Target
from zabzmq.net.client_wire import NodeStatus

OPERATIONS: Final = ("kv.put", "kv.get", "kv.mix", "guess", "get")
SECRET: Final = 100
"""The round that `guess` plays in is opened with it, and it is never guessed, so the round stays open."""

PREPARED: Final = 4096


class Plan(NamedTuple):
    op: str
    clients: int
    outstanding: int
    seconds: float
    size: int
    keys: int
    number: int | None = None


class History:
    """The file of --history; see the module."""

    def __init__(self, file: IO[str], processes: int) -> None:
        self._file = file
        self._process = list(range(processes))
        self._next = processes

    def invoke(self, slot: int, operation: Operation | Query) -> None:
        key, value = _parts(operation)
        self._write(slot, "invoke", operation, key, value, {})

    def end(self, slot: int, call: Call) -> None:
        key, value = _parts(call.operation)
        if isinstance(call.result, KvValue):
            value = None if call.result.value is None else _unpadded(call.result.value)
        kind = {Outcome.OK: "ok", Outcome.UNKNOWN: "unknown"}.get(call.outcome or Outcome.UNKNOWN, "fail")
        self._write(slot, kind, call.operation, key, value, {"zxid": call.zxid})
        if call.outcome is Outcome.UNKNOWN:
            self._process[slot] = self._next
            self._next += 1

    def _write(
        self,
        slot: int,
        kind: str,
        operation: Operation | Query,
        key: str | None,
        value: str | int | None,
        more: dict[str, Any],
    ) -> None:
        event = {"process": self._process[slot], "type": kind, "op": name_of(operation), "key": key, "value": value}
        self._file.write(json.dumps(event | {"t": round(time.monotonic(), 6)} | more) + "\n")


def _parts(operation: Operation | Query) -> tuple[str | None, str | int | None]:
    match operation:
        case Put(key, value):
            return key.decode(), _unpadded(value)
        case KvQuery(key):
            return key.decode(), None
        case Guess(value) | Target(value):
            return None, value
        case _:
            return None, None


def _unpadded(value: bytes) -> str:
    return value.split(b"|", 1)[0].decode(errors="backslashreplace")


class Bench:
    """One run. Each client is a session of its own name with `outstanding` operations under way."""

    def __init__(self, client: Client, plan: Plan, history: History | None, dice: random.Random) -> None:
        self.client = client
        self.plan = plan
        self.history = history
        self.dice = dice
        base = client.name[:56]
        self.players = [client.player(f"{base}-{i}" if plan.clients > 1 else client.name) for i in range(plan.clients)]
        self.latencies: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.under_way = 0
        self._left = plan.number if plan.number is not None else 1 << 62
        self._serial = 0
        self._wish = self._wishes()

    def _wishes(self) -> Callable[[], Operation | Query]:
        """Makes the next operation."""
        plan, randrange = self.plan, self.dice.randrange
        # A history begins with keys that nobody has written before, so that it can be judged by itself.
        run = b"" if self.history is None else b"%08x-" % self.dice.getrandbits(32)
        keys = [b"key-%b%d" % (run, i) for i in range(plan.keys)]
        padding = b"x" * plan.size

        def put() -> Operation:
            self._serial += 1
            value = b"%d|%b" % (self._serial, padding)
            return Put(keys[randrange(len(keys))], value[: plan.size])

        def get() -> Query:
            return KvQuery(keys[randrange(len(keys))])

        def mix() -> Operation | Query:
            return put() if randrange(2) else get()

        wishes: dict[str, Callable[[], Operation | Query]] = {
            "kv.put": put,
            "kv.get": get,
            "kv.mix": mix,
            "guess": lambda: Guess(randrange(SECRET)),
            "get": GameQuery,
        }
        wish = wishes[plan.op]
        if self.history is None:
            # A history needs a value of its own for every write. Without one, what a client costs should be the
            # client and not the dice: a few thousand operations made beforehand come round and round.
            return cycle([wish() for _ in range(PREPARED)]).__next__
        return wish

    def prepare(self) -> Call | None:
        """Make the sessions, and the round to play in; returns the call that could not be done, if any."""
        if self.plan.op in ("kv.get", "get"):
            calls = [self.client.read(GameQuery())]
        else:
            calls = [self.client.submit(Put(b"bench", b""), player) for player in self.players]
        if self.plan.op == "guess":
            calls.append(self.client.submit(Target(SECRET, True), self.client.player("bench-opener")))
        for call in calls:
            self.client.wait(call)
        self.client.pump(0)
        return next((call for call in calls if call.outcome is not Outcome.OK), None)

    def _start(self, slots: list[int]) -> None:
        """One operation for each of these slots; slot s belongs to client s // outstanding."""
        slots = slots[: self._left]
        self._left -= len(slots)
        self.under_way += len(slots)
        if self.history is None and self.plan.op in ("kv.put", "guess"):
            for first, players in groupby(sorted(slots), lambda slot: slot // self.plan.outstanding):
                wishes = [self._wish() for _ in players]
                self.client.submit_many(wishes, self.players[first], tag=first * self.plan.outstanding)  # type: ignore[arg-type]
            return
        for slot in slots:
            wish = self._wish()
            player = self.players[slot // self.plan.outstanding]
            if self.history is not None:
                self.history.invoke(slot, wish)
            if isinstance(wish, GameQuery | KvQuery):
                self.client.read(wish, player, tag=slot)
            else:
                self.client.submit(wish, player, tag=slot)

    def _end(self, calls: Calls) -> list[int]:
        """Account for these; returns their slots."""
        slots: list[int] = []
        for call in calls:
            slots.append(call.tag)  # type: ignore[arg-type]
            if call.outcome is not Outcome.OK:
                self.outcomes[str(call.outcome)] += 1
            if self.history is not None:
                self.history.end(slots[-1], call)
        self.under_way -= len(calls)
        return slots

    def run(self, progress: Callable[[float, int], None]) -> float:
        """Returns the seconds it took."""
        client, latencies = self.client, self.latencies
        began = shown = now = time.monotonic()
        end = began + self.plan.seconds
        self._start(list(range(self.plan.clients * self.plan.outstanding)))
        while now < end and self.under_way:
            calls = client.pump(100.0)
            now = time.monotonic()
            latencies += [call.finished - call.started for call in calls if call.reply is not None]
            slots = self._end(calls)
            if now < end:
                self._start(slots)
            if now - shown >= 0.1:
                shown = now
                progress(now - began, len(latencies))
        took = time.monotonic() - began
        while self.under_way:  # They end too, for the outcomes and the history, but not in time to count.
            self._end(client.pump(100.0))
        return took


def percentile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def filesystem_of(nodes: dict[int, NodeStatus | None]) -> str | None:
    """What kind of file system the nodes write to, where they run on this host and /proc tells."""
    for node, status in nodes.items():
        if status is None:
            continue
        try:
            for link in Path(f"/proc/{status.pid}/fd").iterdir():
                target = link.readlink()
                if f"node-{node}" in target.parts and "data" not in target.suffix and "logs" not in target.parts:
                    return _mount_of(target, status.pid)
        except OSError:
            continue
    return None


def _mount_of(path: Path, pid: int) -> str | None:
    best, kind = -1, None
    for line in Path(f"/proc/{pid}/mounts").read_text().splitlines():
        _, where, what, *_ = line.split()
        if path.is_relative_to(where) and len(where) > best:
            best, kind = len(where), what
    return kind


def report(
    plan: Plan, run: Bench, took: float, nodes: dict[int, NodeStatus | None], history: Path | None
) -> dict[str, Any]:
    ordered = sorted(run.latencies)
    out: dict[str, Any] = {
        "v": VERSION,
        **plan._asdict(),
        "seconds": round(took, 3),
        "ops": len(ordered),
        "ops_per_s": round(len(ordered) / took, 1),
        "p50_ms": percentile(ordered, 0.50),
        "p99_ms": percentile(ordered, 0.99),
        "refused": run.outcomes["refused"],
        "unknown": run.outcomes["unknown"],
        "not_done": run.outcomes["not_done"],
        "filesystem": filesystem_of(nodes),
        "nodes": len(nodes),
        "nodes_up": sum(status is not None for status in nodes.values()),
    }
    if history is not None:
        out["history"] = str(history)
    return out


def spoken(out: dict[str, Any]) -> str:
    disk = f", on {out['filesystem']}" if out["filesystem"] else ""
    doubts = ", ".join(f"{out[name]} {name.replace('_', ' ')}" for name in ("refused", "unknown", "not_done"))
    return (
        f"{out['ops_per_s']:,.0f} {out['op']} a second   p50 {out['p50_ms']} ms, p99 {out['p99_ms']} ms   {doubts}\n"
        f"  {out['ops']:,} in {out['seconds']} s, {out['clients']} x {out['outstanding']} outstanding, "
        f"{out['nodes_up']} of {out['nodes']} nodes up{disk}"
    )


@click.command(cls=Command)
@click.option("--op", type=click.Choice(OPERATIONS), default="kv.put", show_default=True, help="What to do.")
@click.option("--outstanding", type=Whole(1, 65_536), default=256, show_default=True, help="Under way, of each client.")
@click.option("--seconds", type=Seconds(), metavar="SECONDS", help="For how long.  [default: 10, or as -n takes]")
@click.option("-n", "--number", type=Whole(1, 1_000_000_000), help="How many operations, and then end.")
@click.option("-c", "--clients", type=Whole(1, 256), default=1, show_default=True, help="Sessions, each with a name.")
@click.option("--size", type=Whole(0, 1 << 20), default=128, show_default=True, help="Bytes of a value.")
@click.option("--keys", type=Whole(1, 1_000_000), default=10_000, show_default=True, help="Different keys.")
@click.option(
    "--history",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every invocation and its end to this file, for a checker.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@common_options
@click.pass_context
def bench(
    ctx: click.Context,
    op: str,
    outstanding: int,
    seconds: float | None,
    number: int | None,
    clients: int,
    size: int,
    keys: int,
    path: Path | None,
    quiet: bool,
) -> None:
    """Measure what the cluster commits in a second."""
    asked = setup(ctx)
    if seconds is None:
        seconds = 10.0 if number is None else TIMEOUT_S_MAX
    plan = Plan(op, clients, outstanding, seconds, size, keys, number)
    try:
        file = path.open("w", encoding="utf-8") if path is not None else None
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from None
    try:
        with asked.client() as client:
            history = None if file is None else History(file, clients * outstanding)
            run = Bench(client, plan, history, random.Random())
            trouble_call = run.prepare()
            if trouble_call is not None:
                if trouble_call.outcome is Outcome.NOT_DONE:
                    no_way(trouble_call.why, trouble_call.text, client, asked, ctx).say()
                else:
                    trouble(trouble_call, client, asked, ctx, asked.name).say()
                raise click.exceptions.Exit(exit_code(trouble_call))
            nodes = client.status(500.0)
            if sys.stderr.isatty() and not (asked.json or quiet):
                took = _with_progress(run, plan)
            else:
                took = run.run(lambda elapsed, done: None)
            out = report(plan, run, took, nodes, path)
    finally:
        if file is not None:
            file.close()
    click.echo(to_json(out) if asked.json else spoken(out))
    if out["unknown"] or out["not_done"]:
        text = f"{out['unknown']} outcomes are unknown, {out['not_done']} operations were surely not done"
        Trouble("note", text, ()).say()
    raise click.exceptions.Exit(Exit.OK if out["ops"] else Exit.UNKNOWN if out["unknown"] else Exit.NOT_DONE)


def _with_progress(run: Bench, plan: Plan) -> float:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn(plan.op), BarColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=colour.console(stderr=True), transient=True) as bar:
        task = bar.add_task("bench", total=plan.seconds, rate="")

        def show(elapsed: float, done: int) -> None:
            bar.update(task, completed=elapsed, rate=f"{done / elapsed:,.0f} a second")

        return run.run(show)
