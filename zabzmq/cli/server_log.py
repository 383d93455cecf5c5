"""`log dump`: what a data directory holds, as text or as one JSON object a line; also beside a running node."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from zabzmq.cli.client_output import dotted, operation_object, told
from zabzmq.cli.common import Exit, UserError
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch
from zabzmq.core.zxid import Zxid
from zabzmq.machine.operations import UNREADABLE, Run, decode_runs
from zabzmq.storage.dump import Damage, Summary, read_log, summarize


def dump_log(directory: Path, as_json: bool) -> int:
    """Exit code 1 if a node would refuse to start on this directory."""
    if not (directory / "META").exists():
        nodes = sorted(path.parent for path in directory.glob("node-*/META"))
        if nodes:
            raise UserError(f"{directory} holds {len(nodes)} nodes; name one of them", *map(str, nodes))
    broken = False
    try:
        summary = summarize(directory)
        broken = any(snapshot.mark is None for snapshot in summary.snapshots)
        for line in _head_json(summary) if as_json else _head_text(summary):
            click.echo(line)
        for part in read_log(directory):
            if isinstance(part, Damage):
                broken = broken or part.fatal
            for line in _json(part) if as_json else _text(part):
                click.echo(line)
    except StorageError as error:
        raise UserError(str(error)) from None
    return Exit.ERROR if broken else Exit.OK


# ---- as JSON -----------------------------------------------------------------------------------------------------


def _line(kind: str, **fields: Any) -> str:
    return json.dumps({"v": 1, "kind": kind, **fields}, ensure_ascii=False)


def _head_json(summary: Summary) -> Iterator[str]:
    meta = summary.meta
    yield _line(
        "meta",
        cluster=meta.cluster,
        node=meta.node,
        voters=meta.voters,
        life=f"{meta.life:x}",
        incarnation=meta.incarnation,
        accepted_epoch=meta.epochs.accepted,
        current_epoch=meta.epochs.current,
        joined=meta.epochs.joined,
        closed=meta.closed,
    )
    for snapshot in summary.snapshots:
        damage = {"damage": snapshot.text} if snapshot.mark is None else {}
        yield _line("snapshot", zxid=snapshot.zxid, path=snapshot.path, bytes=snapshot.bytes, **damage)
    for path, size in summary.segments:
        yield _line("segment", path=path, bytes=size)


def _json(part: Batch | Damage) -> Iterator[str]:
    if isinstance(part, Damage):
        yield _line("damage", path=part.path, offset=part.offset, text=part.text, fatal=part.fatal)
        return
    common = {"time_ms": part.time_ms, "batch": part.last}
    for zxid, prev, run, place in _transactions(part):
        if run is None:
            admit = {} if part.admit is None else {"node": part.admit.peer, "life": f"{part.admit.life:x}"}
            yield _line("txn", zxid=zxid, prev=prev, op="admit" if admit else "?", **admit, **common)
            continue
        fields = operation_object(run.ops[place])
        yield _line("txn", zxid=zxid, prev=prev, session=dotted(run.session), seq=run.seq + place, **fields, **common)


# ---- as text -----------------------------------------------------------------------------------------------------


def _head_text(summary: Summary) -> Iterator[str]:
    meta = summary.meta
    voters = " ".join(map(str, meta.voters))
    yield f'node {meta.node} of cluster "{meta.cluster}", voters {voters}'
    joined = "counts" if meta.epochs.joined else "does not count yet"
    yield f"accepted epoch {meta.epochs.accepted}, current epoch {meta.epochs.current}, {joined}"
    yield "closed cleanly" if meta.closed is not None else "not closed: the node runs, or died"
    for snapshot in summary.snapshots:
        damage = f"   DAMAGED: {snapshot.text}" if snapshot.mark is None else ""
        yield f"snapshot {snapshot.zxid}  {snapshot.bytes} bytes  {snapshot.path}{damage}"
    for path, size in summary.segments:
        yield f"segment  {size} bytes  {path}"


def _text(part: Batch | Damage) -> Iterator[str]:
    if isinstance(part, Damage):
        yield f"{'DAMAGED' if part.fatal else 'note'}: {part.path} at offset {part.offset}: {part.text}"
        return
    seconds = part.time_ms / 1000
    clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{part.time_ms % 1000:03}"
    for zxid, _, run, place in _transactions(part):
        if run is not None:
            what = told(run.ops[place])
            who = f"session {dotted(run.session)} operation {run.seq + place}" if run.seq else ""
        elif part.admit is not None:
            what, who = f"admit node {part.admit.peer}", f"life {part.admit.life:x}"
        else:
            what, who = "an operation that this version cannot read", ""
        yield f"{zxid!s:<10} {clock}  {what}   {who}".rstrip()


def _transactions(batch: Batch) -> Iterator[tuple[Zxid, Zxid, Run | None, int]]:
    """Each transaction's zxid, the zxid before it, and the run and place where its operation stands."""
    runs: list[Run] = []
    if batch.admit is None:
        try:
            runs = decode_runs(batch.data)
        except UNREADABLE:
            pass
    places = [(run, place) for run in runs for place in range(len(run.ops))]
    prev = batch.prev
    for number in range(batch.count):
        zxid = Zxid(batch.first.epoch, batch.first.counter + number)
        run, place = places[number] if number < len(places) else (None, 0)
        yield zxid, prev, run, place
        prev = zxid
