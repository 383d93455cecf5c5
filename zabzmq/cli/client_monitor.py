"""`monitor` and `log`: the commit stream, for people or as JSON lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from zabzmq.cli import colour
from zabzmq.cli.client_options import ParamType, common_options, setup
from zabzmq.cli.client_output import (
    VERSION,
    dotted,
    no_way,
    operation_object,
    reader_gone,
    result_object,
    story,
    to_json,
    told,
    wrong_cluster,
)
from zabzmq.cli.common import Command, Exit, can_encode, complain
from zabzmq.client.client import UNREACHABLE
from zabzmq.client.monitor import Event, Fetched, Gap, LeaderChange, LeaderLost, Monitor, Transaction
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import Refused, Register


class Place(ParamType):
    """A zxid, as 3.7."""

    name = "zxid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"(\d{1,19})\.(\d{1,19})", value)
        if found is None:
            self.fail(f"{value!r} is not of the form 3.7 (epoch and counter)", param, ctx)
        return Zxid(int(found[1]), int(found[2]))


def event_object(event: Event) -> dict[str, Any]:
    """One line of --jsonl (UX 6)."""
    match event:
        case Transaction(zxid=zxid, prev=prev, name=name, operation=operation, result=result, time_ms=time_ms):
            out: dict[str, Any] = {"v": VERSION, "zxid": zxid, "prev": prev, "as": name}
            if operation is None:
                return out | {"op": "admit", "outcome": "ok", "result": None, "time_ms": time_ms}
            out |= operation_object(operation)
            if event.known:
                out["outcome"] = "refused" if isinstance(result, Refused) else "ok"
                out["result"] = result_object(result)
                if isinstance(result, Refused):
                    out["error"] = {"code": result.code, "text": result.text}
            else:
                out |= {"outcome": None, "result": None}
            out["time_ms"] = time_ms
            return out
        case Gap(after, oldest):
            return {"v": VERSION, "event": "gap", "after": after, "oldest_after": oldest}
        case Fetched(first, last, node):
            return {"v": VERSION, "event": "fetched", "first": first, "last": last, "node": node}
        case LeaderLost(node):
            return {"v": VERSION, "event": "leader_lost", "leader": node}
        case LeaderChange(node, epoch, former, ms):
            without = None if ms is None else round(ms)
            return {"v": VERSION, "event": "leader", "leader": node, "epoch": epoch, "former": former, "ms": without}


def event_line(event: Event) -> str:
    rule, dot = ("──", "·") if can_encode("──·") else ("--", "|")
    match event:
        case Transaction(zxid=zxid, name=name, operation=operation, result=result, digest=digest):
            if operation is None:
                what = "a node with a new disk was admitted"
            elif isinstance(operation, Register):
                what = f"{name} made a session"
            elif event.known:
                what = story(operation, result, name)
            else:
                what = f"{told(operation)} by {name}   (its result is no longer kept)"
            state = "" if digest is None else f"   state {digest & 0xFFFF:04x}"
            return f"commit {dotted(zxid)}  {what}{state}"
        case Gap(after, oldest):
            gap = f"gap: what followed {dotted(after)} is purged; the oldest left follows {dotted(oldest)}"
            return colour.heed(f"{rule} {gap} {rule}")
        case Fetched(first, last, node):
            return f"{rule} missed: {dotted(first)} to {dotted(last)} fetched from node {node} {rule}"
        case LeaderLost(node):
            return colour.heed(f"{rule} leader {node} lost {dot} election {rule}")
        case LeaderChange(node, epoch, former, ms):
            gone = "" if former is None else f"leader {former} lost {dot} "
            took = "" if ms is None else f" ({ms / 1000:.1f} s without a leader)"
            return colour.good(f"{rule} {gone}leader {node}, epoch {epoch}{took} {rule}")


def _wanted(events: Iterable[Event], everything: bool) -> Iterator[Event]:
    for event in events:
        internal = isinstance(event, Transaction) and (event.operation is None or isinstance(event.operation, Register))
        if everything or not internal:
            yield event


_JSONL = click.option("--jsonl", is_flag=True, help="A JSON object a line.")
_ALL = click.option("--all", "everything", is_flag=True, help="Sessions made and nodes admitted, too.")


@click.command(cls=Command)
@click.option("--since", type=Place(), help="Begin after this zxid; 0.0 is the very beginning. Default: now.")
@_JSONL
@_ALL
@common_options
@click.pass_context
def monitor(ctx: click.Context, since: Zxid | None, jsonl: bool, everything: bool) -> None:
    """Show every committed operation once and in order, until Ctrl-C."""
    _show(ctx, since, None, jsonl, everything)


@click.command(cls=Command)
@click.option("--since", type=Place(), default="0.0", show_default=True, help="Begin after this zxid.")
@_JSONL
@_ALL
@common_options
@click.pass_context
def log(ctx: click.Context, since: Zxid, jsonl: bool, everything: bool) -> None:
    """Show what is committed so far, as far as the nodes still keep it."""
    asked = setup(ctx)
    with asked.client() as client:
        answers = [status for status in client.status().values() if status is not None]
    applied = [status.applied for status in answers if status.cluster == asked.config.cluster]
    # None: no node of this cluster answers, which the stream finds out and tells like `monitor` does.
    _show(ctx, since, Zxid(*max(applied)) if applied else None, jsonl, everything)


def _show(ctx: click.Context, since: Zxid | None, upto: Zxid | None, jsonl: bool, everything: bool) -> None:
    """Up to this zxid, or until Ctrl-C."""
    asked = setup(ctx)
    config = asked.config
    try:
        with Monitor(config.client_endpoints, config.publish_endpoints, config.cluster, since) as stream:
            waited = 0.0
            while upto is None or stream.position is None or stream.position < upto:
                news = stream.pump(200.0)
                events = [event for event in news if upto is None or _is_in_log(event, upto)]
                for event in _wanted(events, everything):
                    click.echo(to_json(event_object(event)).decode() if jsonl or asked.json else event_line(event))
                if events:
                    sys.stdout.flush()
                waited = 0.0 if news else waited + 200.0
                elsewhere = len(stream.foreign) == len(config.client_endpoints)
                # A stream may be silent for long, but who waits for the rest of a log wants to know.
                if waited >= asked.timeout_ms and (upto is not None or not stream.in_touch):
                    break
                if elsewhere and not stream.in_touch:
                    break
            else:
                return
        if stream.in_touch:
            complain(f"no node tells what follows {dotted(stream.position or ZERO)}.", ("try again in a moment",))
            raise click.exceptions.Exit(Exit.UNREACHABLE)
        with asked.client() as client:
            if not stream.foreign:
                no_way(UNREACHABLE, "no node can be reached", client, asked, ctx).say()
                raise click.exceptions.Exit(Exit.UNREACHABLE)
            wrong_cluster(next(iter(stream.foreign.values())), config.cluster, ctx).say()
            raise click.exceptions.Exit(Exit.ERROR)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(0) from None
    except BrokenPipeError:
        reader_gone()


def _is_in_log(event: Event, upto: Zxid) -> bool:
    """Not who leads meanwhile, nor what is committed meanwhile."""
    return isinstance(event, Gap) or (isinstance(event, Transaction) and event.zxid <= upto)
