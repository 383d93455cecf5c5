"""What client.py says of an operation: one JSON shape for programs (UX 6), one line for people, one exit code."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import click
import msgspec

from zabzmq.cli.client_options import Setup
from zabzmq.cli.common import Exit, command_line, complain
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import NO_LEADER, UNREACHABLE, WRONG_CLUSTER, Client, monotonic_ms
from zabzmq.machine.operations import (
    Answer,
    Cas,
    Delete,
    Deleted,
    GameQuery,
    GameState,
    Gone,
    Guess,
    Guessed,
    KvQuery,
    KvValue,
    Operation,
    Put,
    Query,
    Refused,
    Register,
    Registered,
    Result,
    Target,
    TargetSet,
)
from zabzmq.net.client_wire import Answers, Done

VERSION = 1
to_json = msgspec.json.Encoder().encode

SILENCE = frozenset({NO_LEADER, UNREACHABLE, "timeout", "interrupted"})  # no node gave a reason

NAMES: Mapping[type, str] = {
    Register: "register",
    Target: "target",
    Guess: "guess",
    Put: "kv.put",
    Delete: "kv.del",
    Cas: "kv.cas",
    KvQuery: "kv.get",
}


def reader_gone() -> NoReturn:
    """Nobody reads our standard output any more: end as a shell says it of such a program, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise click.exceptions.Exit(128 + signal.SIGPIPE)


def name_of(operation: Operation | Query) -> str:
    return NAMES.get(type(operation), "get")


def dotted(zxid: tuple[int, int] | None) -> str | None:
    return None if zxid is None else f"{zxid[0]}.{zxid[1]}"


def request_id(call: Call) -> str | None:
    """What `--id` takes, of an operation that was given a number."""
    return None if call.session is None else f"{dotted(call.session)}-{call.seq}"


# ---- for programs ------------------------------------------------------------------------------------------------


def bytes_field(name: str, value: bytes | None) -> dict[str, str | None]:
    """UTF-8 text as it is; other bytes in base64 under `<name>_b64`."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(value).decode()}


def operation_object(operation: Operation) -> dict[str, Any]:
    """An operation's name and operands."""
    out: dict[str, Any] = {"op": name_of(operation)}
    match operation:
        case Target(value) | Guess(value):
            out["value"] = value
        case Put(key, blob):
            out |= bytes_field("key", key) | bytes_field("value", blob)
        case Cas(key, expect, blob):
            out |= bytes_field("key", key) | bytes_field("expect", expect) | bytes_field("value", blob)
        case Delete(key):
            out |= bytes_field("key", key)
        case Register(name):
            out["as"] = name
    return out


def result_object(result: Result | Answer) -> dict[str, Any] | None:
    match result:
        case TargetSet(target, round_):
            return {"target": target, "round": round_}
        case Guessed(target, distance, closer, won):
            return {"target": target, "distance": distance, "closer": closer, "won": won}
        case Deleted(existed):
            return {"existed": existed}
        case KvValue(value):
            return bytes_field("value", value)
        case GameState():
            state = {name: getattr(result, name) for name in ("round", "open", "target", "owner", "opener", "closest")}
            return state if result.secret is None else state | {"secret": result.secret}
        case Registered(session):
            return {"session": dotted(session)}
        case None | Refused() | Gone():
            return None


def outcome_object(call: Call, line_id: object, leader: int | None) -> dict[str, Any]:
    """The one result shape, for single commands and for batch."""
    assert call.outcome is not None
    out: dict[str, Any] = {
        "v": VERSION,
        "id": line_id,
        "op": name_of(call.operation),
        "outcome": call.outcome.value,
        "zxid": call.zxid,
        "result": result_object(call.result),
    }
    if isinstance(call.result, Refused):
        out["error"] = {"code": call.result.code, "text": call.result.text}
    elif call.outcome is not Outcome.OK:
        out["error"] = {"code": call.why, "text": call.text}
    out["session"] = dotted(call.session)
    out["leader"] = call.node if isinstance(call.reply, Done) else leader
    out["attempts"] = call.attempts
    out["ms"] = round(call.ms, 2)
    if isinstance(call.reply, Answers):
        out |= {"read": "linear" if call.reply.linear else "local", "node": call.node}
        if call.reply.stale:
            out["stale"] = call.reply.stale
    elif call.session is not None:
        out["request"] = request_id(call)
    return out


def exit_code(call: Call) -> int:
    match call.outcome:
        case Outcome.OK:
            return Exit.OK
        case Outcome.REFUSED:
            return Exit.REFUSED
        case Outcome.UNKNOWN:
            return Exit.UNKNOWN
        case _ if call.why == UNREACHABLE:
            return Exit.UNREACHABLE
        case _ if call.why in (WRONG_CLUSTER, "invalid"):
            return Exit.ERROR
        case _:
            return Exit.NOT_DONE


# ---- for people --------------------------------------------------------------------------------------------------


def told(operation: Operation | Query) -> str:
    """The operation in the words of the command line."""
    match operation:
        case Target(value):
            return f"target {value}"
        case Guess(value):
            return f"guess {value}"
        case Put(key, value):
            return f"kv put {shown(key)} {shown(value)}"
        case Delete(key):
            return f"kv del {shown(key)}"
        case Cas(key, None, value):
            return f"kv cas --absent {shown(key)} {shown(value)}"
        case Cas(key, expect, value):
            return f"kv cas {shown(key)} {shown(expect or b'')} {shown(value)}"
        case Register(name):
            return f"register {name}"
        case KvQuery(key):
            return f"kv get {shown(key)}"
        case _:
            return "get"


def shown(value: bytes, longest: int = 60) -> str:
    """Bytes on a line of text: never control characters, never endless."""
    text = value.decode(errors="backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if not text or " " in text:
        text = f"'{text}'"
    return text if len(text) <= longest else f"{text[:longest]}… ({len(value)} bytes)"


def story(operation: Operation, result: Result, by: str) -> str:
    """What an applied operation did."""
    match operation, result:
        case Target(), TargetSet(target, round_):
            return f"target = {target}   by {by}   round {round_}"
        case Guess(value), Guessed(target, distance, closer, won):
            if won:
                return f"guess {value} by {by}   exact: {by} wins, target = {target}"
            if closer:
                return f"guess {value} by {by}   closer, distance {distance}: target = {target}"
            return f"guess {value} by {by}   not closer, distance {distance}: target stays {target}"
        case Delete(key), Deleted(existed):
            return f"{shown(key)} deleted" if existed else f"{shown(key)} was not there"
        case ((Put(key, value) | Cas(key, _, value)), None):
            return f"{shown(key)} = {shown(value)}"
        case _, Gone():
            return f"{told(operation)}   done earlier; its result is no longer kept"
        case _, Refused(_, text):
            return f"{told(operation)} by {by}   refused: {text}"
        case _:
            return told(operation)


def wait_and_tell(ctx: click.Context, client: Client, call: Call, setup: Setup) -> int:
    """Until it has ended, or Ctrl-C; then what became of it, and the exit code."""
    code = None
    try:
        client.wait(call)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
        if call.outcome is None:
            writes = not isinstance(call.operation, GameQuery | KvQuery)
            outcome = Outcome.UNKNOWN if writes and call.in_doubt else Outcome.NOT_DONE
            call.finish(outcome, "interrupted", "interrupted before the answer came", monotonic_ms())
    if setup.quiet and call.outcome is Outcome.OK:
        pass
    elif setup.json:
        click.echo(to_json(outcome_object(call, request_id(call), client.leader)))
    elif call.outcome is Outcome.OK:
        click.echo(success(call, client.name, len(client.search.voters) or len(client.known)))
    if call.outcome is not Outcome.OK:
        trouble(call, client, setup, ctx, setup.name).say()
    return exit_code(call) if code is None else code


def success(call: Call, name: str, voters: int) -> str:
    """One line, in the past tense: it is committed, or read."""
    match call.reply, call.result:
        case Done(acks=acks), result:
            place = f"committed {dotted(call.zxid)}" if call.zxid is not None else "committed earlier"
            # The machine's results are of this very operation: the node answered by session and number.
            what = story(call.operation, result, name)  # type: ignore[arg-type]
            by = f", acks {' '.join(map(str, acks))} ({len(acks)} of {voters})" if acks else ""
            return f"{place}  {what}   leader {call.node}{by}, {call.ms:.1f} ms"
        case Answers(linear=linear, stale=stale), result:
            how = "linearizable" if linear else "a local read, may be old"
            line = (
                f"{_value(call.operation, result)}   at {dotted(call.zxid)}, {how}, node {call.node}, {call.ms:.1f} ms"
            )
            return f"{line}\n  note: {stale}" if stale else line
        case _:
            raise AssertionError(f"{call} has no answer")


def _value(operation: Operation | Query, result: Result | Answer) -> str:
    match operation, result:
        case KvQuery(key), KvValue(value):
            return f"{shown(key)} has no value" if value is None else f"{shown(key)} = {shown(value, 2000)}"
        case _, GameState(target=None):
            return "no target yet"
        case _, GameState() as game:
            closest = "no guess yet" if game.closest is None else f"closest {game.closest}"
            secret = "" if game.secret is None else f", secret {game.secret}"
            phase = "open" if game.open else f"won by {game.owner}"
            return (
                f"target = {game.target} by {game.owner}"
                f"   round {game.round} ({phase}), opened by {game.opener}, {closest}{secret}"
            )
        case _:
            return str(result)


class Trouble(NamedTuple):
    """What to tell of a call that did not succeed: what, why, what next."""

    label: str
    text: str
    hints: tuple[str, ...]

    def say(self) -> None:
        complain(self.text, self.hints, self.label)


def trouble(call: Call, client: Client, setup: Setup, ctx: click.Context, player: str | None) -> Trouble:
    what = told(call.operation)
    options = "".join(f" {part}" for part in command_line(ctx))
    if isinstance(call.result, Refused):
        return Trouble("refused", call.result.text, ())
    if call.outcome is Outcome.UNKNOWN and call.why == "expired_client":
        return Trouble(
            "unknown",
            f"the session of your {what} has expired since it was sent.",
            (f"Whether {request_id(call)} was committed cannot be learned any more by repeating it.",),
        )
    if call.outcome is Outcome.UNKNOWN:
        former = client.search.former  # it may be looked for anew by now
        to = "the cluster" if former is None else f"leader {former}"
        again = f"client.py{options}{f' --as {player}' if player else ''} {what} --id {request_id(call)}"
        spoke = bool(call.text) and call.why not in SILENCE
        silent = "which went silent before answering"
        if call.why == "interrupted":
            silent = "and its answer was not awaited"
        elif spoke:
            silent = "and what became of it was not told in time"
        why = f" Last word: {call.text}." if spoke else ""
        return Trouble(
            "unknown",
            f"your {what} was sent to {to}, {silent}.{why}",
            (f"It may or may not be committed. Request id {request_id(call)} is safe to repeat:  {again}",),
        )
    return no_way(call.why, call.text, client, setup, ctx)


def no_way(why: str, text: str, client: Client, setup: Setup, ctx: click.Context) -> Trouble:
    """Why nothing was done, or could be asked."""
    options = "".join(f" {part}" for part in command_line(ctx))
    server = f"python zookeeper_server.py{options}"
    known, up = sorted(client.known), sorted(client.reachable)
    if why == UNREACHABLE and not up:
        return Trouble(
            "error",
            f"nobody listens on {addresses(client.known)}.",
            (f"start a cluster:  {server} cluster up    (other ports? set ZAB_BASE_PORT)",),
        )
    if why == UNREACHABLE:
        down = [node for node in known if node not in up]
        asked = ctx.params.get("node", ctx.params.get("source"))  # it alone, by --node or --from
        which = asked if isinstance(asked, int) else down[0] if down else 0
        return Trouble("error", f"{text}.", (f"up: {numbers(up)}   start it:  {server} node {which}",))
    if why == NO_LEADER:
        voters = sorted(client.search.voters) or known
        need = len(voters) // 2 + 1
        live = [node for node in voters if node in up]
        dead = [node for node in voters if node not in up]
        if len(live) < need:
            return Trouble(
                "error",
                f"no leader yet. {len(live)} of {len(voters)} nodes are up; {need} are needed to elect one.",
                (f"up: {numbers(live)}   down: {numbers(dead)}     start one:  {server} node {dead[0]}",),
            )
        return Trouble(
            "error",
            f"no leader yet. {len(live)} of {len(voters)} nodes are up, enough to elect one; they have not finished.",
            (f"try again, or see:  {server} status",),
        )
    if why == WRONG_CLUSTER:
        return wrong_cluster(next(iter(client.search.foreign.values()), ""), setup.config.cluster, ctx)
    if why == "not_leader":
        return Trouble("error", f"not done: {text}.", ("without --node the leader is found by itself",))
    return Trouble("error", f"not done: {text or why}.", (f"see:  {server} status",))


def wrong_cluster(other: str, ours: str, ctx: click.Context) -> Trouble:
    return Trouble(
        "error",
        f'the nodes that answer belong to cluster "{other}", not "{ours}".',
        (f"say which one:  {ctx.command_path.split()[0]} --cluster {shlex.quote(other)} ...",),
    )


def numbers(nodes: list[int]) -> str:
    return " ".join(map(str, nodes)) or "none"


def addresses(known: Mapping[int, str]) -> str:
    """`127.0.0.1:21810-21814` where the addresses are neighbours, else one after the other."""
    bare = [endpoint.removeprefix("tcp://") for _, endpoint in sorted(known.items())]
    hosts, ports = zip(*(address.rsplit(":", 1) for address in bare), strict=True)
    first = int(ports[0])
    if len(bare) > 1 and len(set(hosts)) == 1 and [int(p) for p in ports] == list(range(first, first + len(ports))):
        return f"{hosts[0]}:{first}-{ports[-1]}"
    return ", ".join(bare)
