"""`fault ...`: asks every node that answers for its fault table, changes it, and sets it (docs/control.md).

A fault between two nodes acts where messages arrive, so it is set at both ends; a cut of one way is `in` at one and
`out` at the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import click
import msgspec

from zabzmq.cli import colour
from zabzmq.cli.asking import NoAnswer, get, hints, post, reason, token_in
from zabzmq.cli.common import Exit, UserError, unmarked, warn
from zabzmq.cli.node_faults import rule_in_words
from zabzmq.net.faults import WAIT_MS_MAX, FaultTable, Rule
from zabzmq.server.config import Config

LEADER: Final = "leader"
REST: Final = "rest"
_SPEC: Final = re.compile(r"(?P<a>[a-z0-9,]+?)(?P<how>->|→|>|to|-)(?P<b>[a-z0-9,]+)")
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s)?")

Way: TypeAlias = tuple[int, int]
"""From one node to another."""
Tables: TypeAlias = dict[int, FaultTable]


class Nodes(NamedTuple):
    """The nodes of the cluster: all ids, the tables of those that answer and may be harmed, and who leads."""

    ids: tuple[int, ...]
    tables: Tables
    silent: tuple[int, ...]
    leader: int | None


# ---- asking and setting ---------------------------------------------------------------------------------------------


def look(config: Config, options: str, token: str | None = None) -> Nodes:
    """Ask all nodes at once. Raises UserError when none answers, or none lets itself be harmed."""
    token = token_in(config.log_dir) if token is None else token
    with ThreadPoolExecutor(len(config.listens)) as pool:
        states = list(pool.map(lambda listen: _state(listen.host, listen.observe, token), config.listens))
    by_node = dict(zip(map(int, config.ids), states, strict=True))
    answered = {node: state for node, state in by_node.items() if state and state.get("cluster") == config.cluster}
    if not answered:
        ports = " ".join(f"{listen.host}:{listen.observe}" for listen in config.listens)
        raise UserError(
            f'no node of cluster "{config.cluster}" answers on its observe port: {ports}',
            f"start a cluster:  python zookeeper_server.py{options} cluster up    (other ports? set ZAB_BASE_PORT)",
            exit_code=Exit.UNREACHABLE,
        )
    safe = [node for node, state in answered.items() if not isinstance(state.get("faults"), dict)]
    if safe:
        raise UserError(
            f"faults are off on node {_ids(safe)}, started without --allow-faults",
            f"stop such a node, and type: python zookeeper_server.py{options} node {safe[0]} --allow-faults",
        )
    leaders = [(state["epoch"], node) for node, state in answered.items() if state.get("established")]
    return Nodes(
        tuple(by_node),
        {node: msgspec.convert(state["faults"], FaultTable) for node, state in answered.items()},
        tuple(node for node in by_node if node not in answered),
        max(leaders)[1] if leaders else None,
    )


def _state(host: str, port: int, token: str) -> dict[str, Any] | None:
    try:
        return get(host, port, "/state", token)
    except NoAnswer:
        return None


def change(
    config: Config,
    options: str,
    work: Callable[[Nodes, Tables], str],
    *,
    seed: int | None = None,
    as_json: bool = False,
) -> int:
    """Let `work` change the tables, and set those that are not as they were; `work` says in words what was done."""
    words, nodes, tables, done, missed = put_in_force(config, options, work, seed)
    if missed:
        warn(f"node {_ids(missed)} does not answer; what is to be done there is not done")
    if as_json:
        faults = {str(node): tables[node].to_json() for node in nodes.tables}
        click.echo(json.dumps({"v": 1, "set": done, "missed": missed, "faults": faults}))
    else:
        click.echo(words + (f"   set at node {_ids(done)}" if done else "   it was so already"))
    return Exit.OK


def put_in_force(
    config: Config,
    options: str,
    work: Callable[[Nodes, Tables], str],
    seed: int | None = None,
    token: str | None = None,
) -> tuple[str, Nodes, Tables, list[int], list[int]]:
    """What was done in words, the nodes as they were, the tables as they are, and where they were set and were not.

    `token`: instead of that which commands find.
    """
    token = token_in(config.log_dir) if token is None else token
    nodes = look(config, options, token)
    tables: Tables = {node: nodes.tables.get(node, FaultTable()) for node in nodes.ids}
    words = work(nodes, tables)
    before = {node: nodes.tables.get(node, FaultTable()) for node in nodes.ids}
    changed = {node: table for node, table in tables.items() if table != before[node]}
    if seed is not None:
        changed = {node: msgspec.structs.replace(table, seed=seed) for node, table in changed.items()}
        tables.update(changed)
    missed = []
    for node, table in changed.items():
        if node in nodes.silent or not _set(config, node, table, token):
            missed.append(node)
    if changed and len(missed) == len(changed):
        raise UserError(f"node {_ids(missed)} does not answer: nothing was done", exit_code=Exit.UNREACHABLE)
    return words, nodes, tables, [node for node in changed if node not in missed], missed


def _set(config: Config, node: int, table: FaultTable, token: str) -> bool:
    """Whether the node took it. Raises UserError when it refuses."""
    listen = config.listen(node)
    try:
        status, said = post(listen.host, listen.observe, "/fault", table.to_json(), token)
    except NoAnswer:
        return False
    if status != 200:
        raise UserError(f"node {node}: {reason(said)}", *hints(said, config.log_dir, "it"))
    return True


# ---- what is to be done ---------------------------------------------------------------------------------------------


def partition(groups: str) -> Callable[[Nodes, Tables], str]:
    def work(nodes: Nodes, tables: Tables) -> str:
        sides = _sides(nodes, groups.split("/"))
        if len(sides) < 2:
            raise _usage("a partition has two sides or more, such as 0,1/2,3,4 or leader/rest")
        for node, table in tables.items():
            for rule in table.rules:
                _edit(tables, node, rule.peer, cut=None)
        for one, other in combinations(sides, 2):
            _cut(tables, [(a, b) for a in one for b in other] + [(b, a) for a in one for b in other])
        return "partition " + " / ".join(_ids(side) for side in sides)

    return work


def cut(spec: str) -> Callable[[Nodes, Tables], str]:
    def work(nodes: Nodes, tables: Tables) -> str:
        ways = parse_ways(nodes, spec)
        _cut(tables, ways)
        return f"cut {_ways_in_words(ways)}"

    return work


def on_arrival(spec: str, words: str, **fields: float) -> Callable[[Nodes, Tables], str]:
    """`fields` of the rule at the node where each way ends."""

    def work(nodes: Nodes, tables: Tables) -> str:
        ways = parse_ways(nodes, spec)
        for source, target in ways:
            _edit(tables, target, source, **fields)
        return f"{words} {_ways_in_words(ways)}"

    return work


def disk(spec: str, delay_ms: float) -> Callable[[Nodes, Tables], str]:
    def work(nodes: Nodes, tables: Tables) -> str:
        (chosen,) = _sides(nodes, [spec])
        for node in chosen:
            tables[node] = msgspec.structs.replace(tables[node], disk_ms=delay_ms)
        return f"every sync of node {_ids(chosen)} takes {delay_ms:g} ms longer"

    return work


def clear(nodes: Nodes, tables: Tables) -> str:
    for node in tables:
        tables[node] = FaultTable()
    return "no faults"


def _cut(tables: Tables, ways: Iterable[Way]) -> None:
    for source, target in ways:
        _edit(tables, target, source, cut=_with(_rule(tables[target], source).cut, "in"))
        _edit(tables, source, target, cut=_with(_rule(tables[source], target).cut, "out"))


def _with(cut: str | None, way: Literal["in", "out"]) -> str:
    return way if cut in (None, way) else "both"


def _rule(table: FaultTable, peer: int) -> Rule:
    return next((rule for rule in table.rules if rule.peer == peer), Rule(peer))


def _edit(tables: Tables, node: int, peer: int, **fields: Any) -> None:
    """Change one rule of one table; a rule that does nothing is left out."""
    table = tables[node]
    rule = msgspec.structs.replace(_rule(table, peer), **fields)
    rules = [other for other in table.rules if other.peer != peer] + ([] if rule == Rule(peer) else [rule])
    tables[node] = msgspec.structs.replace(table, rules=tuple(sorted(rules, key=lambda each: each.peer)))


# ---- how people say it ----------------------------------------------------------------------------------------------


def parse_ways(nodes: Nodes, spec: str) -> list[Way]:
    """0-3 (both ways), 0->3 (one way), 0,1-2,3 (each of these with each of those). Raises a usage error."""
    found = _SPEC.fullmatch(spec.replace(" ", ""))
    if found is None:
        quote = (
            ' Did you type 0->3? The shell took > for itself: quote it, "0->3", or say 0to3.'
            if spec[-1:] == "-"
            else ""
        )
        raise _usage(f"{spec!r} names no pair of nodes: say 0-3, or '0->3' for one way.{quote}")
    ones, others = _sides(nodes, [found["a"], found["b"]])
    ways = [(a, b) for a in ones for b in others]
    return ways if found["how"] != "-" else ways + [(b, a) for a, b in ways]


def parse_wait(text: str) -> float:
    """200ms, 0.2s or 200, in milliseconds. Raises a usage error."""
    text = unmarked(text)
    found = _TIME.fullmatch(text)
    value = -1.0 if found is None else float(found[1]) * (1000 if found[2] == "s" else 1)
    if not 0 <= value <= WAIT_MS_MAX:
        raise _usage(f"{text!r} is no time from 0 to {WAIT_MS_MAX // 1000} s: say 200ms or 0.2s")
    return value


def _sides(nodes: Nodes, texts: Sequence[str]) -> list[list[int]]:
    """Each text is a list of node ids, or `leader`; `rest` is everyone who is not named. No node stands twice."""
    named: list[list[str]] = [[word for word in text.split(",") if word] for text in texts]
    sides: list[list[int]] = []
    taken: set[int] = set()
    for words in named:
        side = [_node(nodes, word) for word in words if word != REST]
        if taken & {*side} or len({*side}) < len(side):
            raise _usage(f"a node stands twice in {'/'.join(texts)}")
        taken |= {*side}
        sides.append(side)
    for words, side in zip(named, sides, strict=True):
        if REST in words:
            side += [node for node in nodes.ids if node not in taken]
            taken |= {*side}
        if not side:
            raise _usage(f"a side of {'/'.join(texts)} is empty")
    return sides


def _node(nodes: Nodes, word: str) -> int:
    if word == LEADER:
        if nodes.leader is None:
            raise UserError("there is no leader now", exit_code=Exit.NOT_DONE)
        return nodes.leader
    if word not in map(str, nodes.ids):
        raise _usage(f"there is no node {word!r}: the nodes are {_ids(nodes.ids)}")
    return int(word)


def _usage(text: str) -> UserError:
    return UserError(text, exit_code=Exit.USAGE)


def _ids(nodes: Iterable[int]) -> str:
    return " ".join(map(str, nodes))


def _ways_in_words(ways: Sequence[Way]) -> str:
    said = []
    for a, b in ways:
        if (b, a) not in ways:
            said.append(f"{a}->{b}")
        elif ways.index((a, b)) < ways.index((b, a)):
            said.append(f"{a}-{b}")
    return " ".join(said)


# ---- ls -------------------------------------------------------------------------------------------------------------


def show_faults(config: Config, options: str, *, as_json: bool) -> int:
    nodes = look(config, options)
    if as_json:
        faults = {str(node): table.to_json() for node, table in nodes.tables.items()}
        click.echo(json.dumps({"v": 1, "silent": nodes.silent, "faults": faults}))
        return Exit.OK
    if nodes.silent:
        warn(f"node {_ids(nodes.silent)} does not answer")
    rows = [
        (str(node), what, words)
        for node, table in nodes.tables.items()
        for what, words in [
            *((f"node {rule.peer}", rule_in_words(rule)) for rule in table.rules),
            *([("its disk", f"{table.disk_ms:g} ms slower")] if table.disk_ms else []),
        ]
    ]
    if not rows:
        click.echo("no faults")
        return Exit.OK
    from rich import box
    from rich.table import Table

    shown = Table("NODE", "TOWARDS", "FAULTS", box=box.SIMPLE_HEAD, show_edge=False)
    for row in rows:
        shown.add_row(*row)
    colour.console().print(shown)
    return Exit.OK
