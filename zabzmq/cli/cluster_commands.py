"""`cluster kill`, `fault cut` and their kin on the command line; their work is in cli/server_cluster_orders.py and
cli/server_fault.py."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from zabzmq.cli.common import Command, Whole, cluster_options, command_line, directory_options, settled
from zabzmq.server.config import NODES_MAX

F = TypeVar("F", bound=Callable[..., Any])

HELP: Final = {"help_option_names": ["-h", "--help"]}
JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
TARGET: Final = click.argument("target")


def told(ctx: click.Context) -> str:
    """The common options that were given, to be repeated in commands we tell people to type."""
    return "".join(f" {shlex.quote(part)}" for part in command_line(ctx))


def _common(function: F) -> F:
    return click.pass_context(JSON(cluster_options(directory_options(function))))  # type: ignore[return-value]


# ---- cluster ------------------------------------------------------------------------------------------------------


def _order(verb: str, text: str) -> click.Command:
    @click.command(verb, cls=Command, help=text)
    @TARGET
    @_common
    def command(ctx: click.Context, target: str, as_json: bool) -> int:
        from zabzmq.cli.server_cluster_orders import order

        return order(settled(ctx), told(ctx), verb, target, as_json=as_json)

    return command


def _order_to_all(verb: str, text: str) -> click.Command:
    @click.command(verb, cls=Command, help=text)
    @_common
    def command(ctx: click.Context, as_json: bool) -> int:
        from zabzmq.cli.server_cluster_orders import order

        return order(settled(ctx), told(ctx), verb, "", as_json=as_json)

    return command


@click.command(cls=Command)
@_common
def ps(ctx: click.Context, as_json: bool) -> int:
    """Show the process of every node."""
    from zabzmq.cli.server_cluster_orders import show_processes

    return show_processes(settled(ctx), told(ctx), as_json=as_json)


@click.command(cls=Command)
@click.argument("ids", type=Whole(0, NODES_MAX - 1), nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--number", type=Whole(0, 1_000_000), default=20, show_default=True, help="How many lines.")
@cluster_options
@directory_options
@click.pass_context
def logs(ctx: click.Context, ids: tuple[int, ...], follow: bool, number: int) -> int:
    """Show what nodes said last, of all of them or of these."""
    from zabzmq.cli.server_cluster_orders import show_logs

    return show_logs(settled(ctx), ids, number, follow=follow)


_WHO: Final = "TARGET is a node's number, leader, follower or any."

CLUSTER_COMMANDS: Final = (
    ps,
    _order("kill", f"kill -9 a node. {_WHO}"),
    _order("restart", f"Stop a node cleanly and start it, or start one that is down. {_WHO}"),
    _order("pause", f"Let a node stand still (SIGSTOP). {_WHO}"),
    _order("resume", f"Let a paused node go on. {_WHO}"),
    _order("powercut", f"kill -9 a node, and take from its disk all that was not synced. {_WHO}"),
    logs,
    _order_to_all("reset", "Stop all nodes, delete their data, and start them anew if a supervisor runs."),
    _order_to_all("down", "Stop all nodes, and their supervisor."),
)
