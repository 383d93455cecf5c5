"""client.py: target, guess, get, kv, status; batch, bench, check and monitor are in modules of their own."""

from __future__ import annotations

import os
import re
import shlex
from copy import copy
from typing import Any, NoReturn

import click

from zabzmq import __version__
from zabzmq.cli.client_batch import batch
from zabzmq.cli.client_bench import bench
from zabzmq.cli.client_check import check
from zabzmq.cli.client_monitor import log, monitor
from zabzmq.cli.client_options import ParamType, Text, common_options, quiet_option, setup, verbose_option
from zabzmq.cli.client_output import wait_and_tell
from zabzmq.cli.client_play import play
from zabzmq.cli.common import Command, Whole, command_line, interrupt_on_sigterm, run
from zabzmq.cli.completion import complete_node, complete_reader, completion
from zabzmq.cli.server_status import show_status
from zabzmq.client.client import ANY, Client
from zabzmq.machine.operations import (
    Cas,
    Delete,
    GameQuery,
    Guess,
    KvQuery,
    Operation,
    Put,
    Query,
    SessionId,
    Target,
)
from zabzmq.server.config import NODES_MAX

KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 1 << 20


class RequestId(ParamType):
    """`3.5-1`: session and number, as an unknown outcome prints them."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"(\d{1,19})\.(\d{1,19})-(\d{1,18})", value)
        if found is None or int(found[3]) < 1:
            self.fail(f"{value!r} is not of the form 3.5-1 (session and number)", param, ctx)
        return (int(found[1]), int(found[2])), int(found[3])


class Reader(ParamType):
    """A node, `leader`, or `any`."""

    name = "node"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("leader", "any"):
            return value
        return Whole(0, NODES_MAX - 1).convert(value, param, ctx)


class Bytes(Text):
    """A key or a value: the very bytes of the argument."""

    name = "bytes"

    def __init__(self, most: int) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, bytes):
            return value
        raw = os.fsencode(super().convert(value, param, ctx))
        if len(raw) > self.most:
            self.fail(f"{len(raw)} bytes are more than the {self.most} allowed", param, ctx)
        return raw


KEY = Bytes(KEY_BYTES_MAX)
VALUE = Bytes(VALUE_BYTES_MAX)
ONE_NODE = click.option(
    "--node",
    type=Whole(0, NODES_MAX - 1),
    shell_complete=complete_node,
    help="Send to this node alone; do not follow it to the leader.",
)
REPEAT = click.option(
    "--id", "again", type=RequestId(), help="Ask again for the very same operation; it takes effect once at most."
)
READ_FROM = click.option(
    "--from",
    "source",
    type=Reader(),
    shell_complete=complete_reader,
    help="Read the state of this node, which may be old.",
)
SYNC = click.option(
    "--sync", "--linear", "linear", is_flag=True, help="With --from: linearizable there, as without --from."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zabzmq")
@common_options
def cli() -> None:
    """Play the number game on a replicated cluster, and look into it.

    \b
    Exit codes: 0 done, 1 cannot run, 2 wrong usage, 3 surely not done (no
    leader, no quorum), 4 no node reachable, 5 outcome unknown, 6 refused,
    7 and 8 of check, 9 degraded (status --strict), 130 interrupted
    """
    interrupt_on_sigterm()  # as Ctrl-C: what was awaited decides how we end


def perform(
    ctx: click.Context, operation: Operation, node: int | None, again: tuple[SessionId, int] | None
) -> NoReturn:
    """One write, its outcome told, and the end of the program."""
    asked = setup(ctx)
    with asked.client() as client:
        _check_node(ctx, client, node, "--node")
        if again is not None:
            call = client.repeat(*again, operation, player=client.player(client.name, node))
        else:
            call = client.submit(operation, client.player(client.name, node))
        raise click.exceptions.Exit(wait_and_tell(ctx, client, call, asked))


def look(ctx: click.Context, query: Query, source: int | str | None, linear: bool) -> NoReturn:
    """One read, its answer told, and the end of the program."""
    asked = setup(ctx)
    with asked.client() as client:
        if linear and source == "any":
            raise click.UsageError("--sync needs one node, or the leader: --from any reads locally", ctx)
        node = None if source in (None, "leader") else ANY if source == "any" else int(source)
        if node is not None and node != ANY:
            _check_node(ctx, client, node, "--from")
        call = client.read(query, linear=linear or node is None, node=node)
        raise click.exceptions.Exit(wait_and_tell(ctx, client, call, asked))


def _check_node(ctx: click.Context, client: Client, node: int | None, option: str) -> None:
    if node is not None and node not in client.known:
        names = " ".join(map(str, sorted(client.known)))
        raise click.BadParameter(f"there is no node {node}: the nodes are {names}", ctx, param_hint=f"'{option}'")


@cli.command(cls=Command)
@click.argument("value", type=Whole(0, 100))
@click.option("--new-round", is_flag=True, help="Open a new round even while one is open.")
@ONE_NODE
@REPEAT
@quiet_option
@verbose_option
@common_options
@click.pass_context
def target(
    ctx: click.Context, value: int, new_round: bool, node: int | None, again: tuple[SessionId, int] | None
) -> None:
    """Open a round with a number from 0 to 100."""
    perform(ctx, Target(value, new_round), node, again)


@cli.command(cls=Command)
@click.argument("value", type=Whole(0, 100))
@ONE_NODE
@REPEAT
@quiet_option
@verbose_option
@common_options
@click.pass_context
def guess(ctx: click.Context, value: int, node: int | None, again: tuple[SessionId, int] | None) -> None:
    """Guess the number of the open round: the closest guess becomes the target."""
    perform(ctx, Guess(value), node, again)


@cli.command(cls=Command)
@READ_FROM
@SYNC
@click.option("--reveal", is_flag=True, help="Show the number the round was opened with, too.")
@verbose_option
@common_options
@click.pass_context
def get(ctx: click.Context, source: int | str | None, linear: bool, reveal: bool) -> None:
    """Show the game: the target, whose it is, the round."""
    look(ctx, GameQuery(reveal), source, linear)


@cli.group()
@common_options
def kv() -> None:
    """Keys and values, beside the game in the same cluster."""


@kv.command(cls=Command)
@click.argument("key", type=KEY)
@click.argument("value", type=VALUE)
@ONE_NODE
@REPEAT
@quiet_option
@verbose_option
@common_options
@click.pass_context
def put(ctx: click.Context, key: bytes, value: bytes, node: int | None, again: tuple[SessionId, int] | None) -> None:
    """Set KEY to VALUE."""
    perform(ctx, Put(key, value), node, again)


@kv.command("get", cls=Command)
@click.argument("key", type=KEY)
@READ_FROM
@SYNC
@verbose_option
@common_options
@click.pass_context
def kv_get(ctx: click.Context, key: bytes, source: int | str | None, linear: bool) -> None:
    """Show the value of KEY."""
    look(ctx, KvQuery(key), source, linear)


@kv.command("del", cls=Command)
@click.argument("key", type=KEY)
@ONE_NODE
@REPEAT
@quiet_option
@verbose_option
@common_options
@click.pass_context
def delete(ctx: click.Context, key: bytes, node: int | None, again: tuple[SessionId, int] | None) -> None:
    """Delete KEY."""
    perform(ctx, Delete(key), node, again)


@kv.command(cls=Command)
@click.argument("key", type=KEY)
@click.argument("values", type=VALUE, nargs=-1, metavar="OLD NEW")
@click.option("--absent", is_flag=True, help="Only if KEY has no value: give NEW alone.")
@ONE_NODE
@REPEAT
@quiet_option
@verbose_option
@common_options
@click.pass_context
def cas(
    ctx: click.Context,
    key: bytes,
    values: tuple[bytes, ...],
    absent: bool,
    node: int | None,
    again: tuple[SessionId, int] | None,
) -> None:
    """Set KEY to NEW if its value is OLD."""
    if len(values) != (1 if absent else 2):
        form = "kv cas --absent KEY NEW" if absent else "kv cas KEY OLD NEW"
        raise click.UsageError(f"{len(values)} values given; the form is: {form}", ctx)
    perform(ctx, Cas(key, None if absent else values[0], values[-1]), node, again)


@cli.command()
@click.option("--strict", is_flag=True, help="Exit with 9 when any node is missing.")
@common_options
@click.pass_context
def status(ctx: click.Context, strict: bool) -> None:
    """Show every node as it sees itself."""
    asked = setup(ctx)
    options = "".join(f" {shlex.quote(part)}" for part in command_line(ctx))
    code = show_status(asked.config, options, as_json=asked.json, strict=strict, wait_ms=min(asked.timeout_ms, 1_000.0))
    raise click.exceptions.Exit(code)


cli.add_command(batch)
cli.add_command(bench)
cli.add_command(check)
cli.add_command(completion)
cli.add_command(log)
cli.add_command(monitor)
cli.add_command(play)
watch = copy(monitor)
watch.hidden = True
cli.add_command(watch, "watch")


def main() -> NoReturn:
    run(cli, "client.py")
