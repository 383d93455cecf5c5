"""`cluster kill`, `fault cut` and their kin on the command line; their work is in cli/server_cluster_orders.py and
cli/server_fault.py."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from zabzmq.cli import environment
from zabzmq.cli.common import (
    Command,
    Whole,
    cluster_options,
    command_line,
    directory_options,
    json_option,
    settled,
    unmarked,
)
from zabzmq.cli.completion import complete_target
from zabzmq.server.config import NODES_MAX

F = TypeVar("F", bound=Callable[..., Any])

HELP: Final = {"help_option_names": ["-h", "--help"]}
TARGET: Final = click.argument("target", shell_complete=complete_target)


def told(ctx: click.Context) -> str:
    """The common options that were given, to be repeated in commands we tell people to type."""
    return "".join(f" {shlex.quote(part)}" for part in command_line(ctx))


def _common(function: F) -> F:
    return click.pass_context(json_option(cluster_options(directory_options(function))))  # type: ignore[return-value]


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


# ---- step ---------------------------------------------------------------------------------------------------------


@click.group(context_settings=HELP)
@cluster_options
@directory_options
def step() -> None:
    """Be the network: hold every message between nodes, and deliver, drop or repeat them one by one.

    While nodes are held their timers stand still, so that nobody is taken for dead. A message is named as `step ls`
    shows it, 2:7 for the 7th that came to node 2. The nodes must have been started with --allow-faults, as `cluster up`
    does; `cluster up --step` begins held.
    """


def _switch(name: str, on: bool, text: str) -> None:
    @step.command(name, cls=Command, help=text)
    @_common
    def command(ctx: click.Context, as_json: bool) -> int:
        from zabzmq.cli import server_step

        return server_step.switch(settled(ctx), told(ctx), on, as_json=as_json)


_switch("on", True, "Hold all nodes.")
_switch("off", False, "Deliver all that waits, and let time go on.")


@step.command("ls", cls=Command)
@_common
def list_held(ctx: click.Context, as_json: bool) -> int:
    """Show what waits, the oldest first."""
    from zabzmq.cli import server_step

    return server_step.show_held(settled(ctx), told(ctx), as_json=as_json)


@step.command("next", cls=Command)
@click.option("-n", "--number", type=Whole(1, 10_000), default=1, show_default=True, help="How many steps.")
@_common
def next_one(ctx: click.Context, number: int, as_json: bool) -> int:
    """Deliver the oldest message; where none waits, let time pass to the next timer."""
    from zabzmq.cli import server_step

    return server_step.go_on(settled(ctx), told(ctx), number, as_json=as_json)


def _let_go(name: str, how: str, text: str) -> None:
    @step.command(name, cls=Command, help=text)
    @click.argument("message")
    @_common
    def command(ctx: click.Context, message: str, as_json: bool) -> int:
        from zabzmq.cli import server_step

        return server_step.let_go(settled(ctx), told(ctx), message, how, as_json=as_json)


_let_go("deliver", "deliver", "Deliver MESSAGE now, also before those that came earlier.")
_let_go("drop", "drop", "Lose MESSAGE.")
_let_go("dup", "duplicate", "Deliver MESSAGE now, and keep it to be delivered again.")


# ---- fault --------------------------------------------------------------------------------------------------------


@click.group(context_settings=HELP)
@cluster_options
@directory_options
def fault() -> None:
    """Disturb what nodes say to each other, and their disks.

    A pair of nodes is 0-3 for both ways, '0->3' (or 0to3) for one; a side may list several, 0,1-2,3,4, or be leader or
    rest. Each command adds to what is there; `clear` ends it all. The nodes must have been started with --allow-faults,
    as `cluster up` does.
    """


SEEDS: Final = Whole(-(1 << 63), (1 << 63) - 1)


class Chance(click.FloatRange):
    """A probability."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        typed: Any = unmarked(value) if isinstance(value, str) else value
        return super().convert(typed, param, ctx)


def _or_environment(ctx: click.Context, parameter: click.Parameter, value: int | None) -> Any:
    return environment.taken(environment.SEED, parameter.type) if value is None else value


SEED: Final = click.option(
    "--seed",
    type=SEEDS,
    metavar="NUMBER",
    callback=_or_environment,
    help="Of all that is drawn; the same seed draws the same.  [env ZAB_SEED]",
)
CHANCE: Final = click.option("-p", "--probability", type=Chance(), required=True, help="How often; 0 ends it.")
PAIR: Final = click.argument("pair")


@fault.command(cls=Command)
@click.argument("groups")
@_common
def partition(ctx: click.Context, groups: str, as_json: bool) -> int:
    """Let only nodes of one group hear each other, as in 0,1/2,3,4 or leader/rest; instead of all cuts before."""
    from zabzmq.cli import server_fault

    return server_fault.change(settled(ctx), told(ctx), server_fault.partition(groups), as_json=as_json)


@fault.command(cls=Command)
@PAIR
@_common
def cut(ctx: click.Context, pair: str, as_json: bool) -> int:
    """Let nothing through: 0-3, or one way '0->3'."""
    from zabzmq.cli import server_fault

    return server_fault.change(settled(ctx), told(ctx), server_fault.cut(pair), as_json=as_json)


def _chance(name: str, field: str, text: str) -> None:
    @fault.command(name, cls=Command, help=text)
    @PAIR
    @CHANCE
    @SEED
    @_common
    def command(ctx: click.Context, pair: str, probability: float, seed: int | None, as_json: bool) -> int:
        from zabzmq.cli import server_fault

        work = server_fault.on_arrival(pair, f"{name} {probability:g}", **{field: probability})
        return server_fault.change(settled(ctx), told(ctx), work, seed=seed, as_json=as_json)


_chance("drop", "drop", "Lose messages.")
_chance("dup", "duplicate", "Deliver messages twice.")
_chance("reorder", "reorder", "Let messages be overtaken.")


@fault.command(cls=Command)
@PAIR
@click.argument("time")
@click.option("--jitter", default="0ms", help="And up to so much more, drawn for each message.")
@SEED
@_common
def delay(ctx: click.Context, pair: str, time: str, jitter: str, seed: int | None, as_json: bool) -> int:
    """Deliver messages later by TIME, such as 200ms; in order."""
    from zabzmq.cli import server_fault

    wait, more = server_fault.parse_wait(time), server_fault.parse_wait(jitter)
    work = server_fault.on_arrival(pair, f"delay {wait:g} ms", delay_ms=wait, jitter_ms=more)
    return server_fault.change(settled(ctx), told(ctx), work, seed=seed, as_json=as_json)


@fault.command(cls=Command)
@click.argument("ids")
@click.argument("time")
@_common
def disk(ctx: click.Context, ids: str, time: str, as_json: bool) -> int:
    """Let every sync of these nodes' disks take longer by TIME, such as 50ms; 0 ends it."""
    from zabzmq.cli import server_fault

    work = server_fault.disk(ids, server_fault.parse_wait(time))
    return server_fault.change(settled(ctx), told(ctx), work, as_json=as_json)


@fault.command(cls=Command)
@_common
def clear(ctx: click.Context, as_json: bool) -> int:
    """End all faults."""
    from zabzmq.cli import server_fault

    return server_fault.change(settled(ctx), told(ctx), server_fault.clear, as_json=as_json)


@fault.command(cls=Command)
@_common
def ls(ctx: click.Context, as_json: bool) -> int:
    """Show the faults in force."""
    from zabzmq.cli import server_fault

    return server_fault.show_faults(settled(ctx), told(ctx), as_json=as_json)
