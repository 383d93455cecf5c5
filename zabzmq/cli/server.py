"""zookeeper_server.py: runs a node, and looks after a cluster. Each command's work is in its own cli/server_*.py."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from zabzmq import __version__
from zabzmq.cli import cluster_commands, common, environment, trace_commands
from zabzmq.cli.common import Command, Whole, cluster_options, command_line, directory_options, json_option, settled
from zabzmq.cli.completion import complete_node, completion
from zabzmq.server.config import NODES_MAX

F = TypeVar("F", bound=Callable[..., Any])

FILE: Final = click.Path(dir_okay=False, path_type=Path)


def observe_options(function: F) -> F:
    """--no-observe, --host and --allow-host."""
    for option in (
        click.option(
            "--allow-host",
            metavar="NAME",
            multiple=True,
            help="A further name that requests to the observe port may call it by; can be repeated.",
        ),
        click.option(
            "--host",
            metavar="ADDRESS",
            default="127.0.0.1",
            show_default=True,
            help="Where the observe port listens. Beyond loopback reading, too, needs the token in logs/token.",
        ),
        click.option("--no-observe", is_flag=True, help="No observe port: no page, no metrics."),
    ):
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, message="zabzmq %(version)s")
@cluster_options
@directory_options
def server() -> None:
    """Five nodes that elect a leader, replicate, commit and recover.

    Common options stand before or after the command.
    """


@server.command(cls=Command)
@click.argument("id", type=Whole(0, NODES_MAX - 1), shell_complete=complete_node)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="What this terminal shows.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing here; the log files get it all the same.")
@click.option("-v", "--verbose", is_flag=True, help="Show every event here, not only those that matter.")
@click.option(
    "--bootstrap",
    type=click.Choice(["quorum", "all"]),
    default="quorum",
    show_default=True,
    help="Whose presence the very first start of a cluster demands.",
)
@click.option(
    "--unsafe-rejoin-empty",
    is_flag=True,
    help="On all nodes, when a majority of disks is lost: let those that lost theirs count at once. "
    "What they alone held is gone.  [env ZAB_UNSAFE=rejoin-empty]",
)
@click.option(
    "--allow-faults", is_flag=True, help="Let it be crashed and its network be disturbed, by who has logs/token."
)
@click.option("--step", is_flag=True, help="With --allow-faults: hold every message from the start; see `step`.")
@observe_options
@cluster_options
@directory_options
@click.pass_context
def node(
    ctx: click.Context,
    id: int,
    log_format: str,
    quiet: bool,
    verbose: bool,
    bootstrap: str,
    unsafe_rejoin_empty: bool,
    allow_faults: bool,
    step: bool,
    no_observe: bool,
    host: str,
    allow_host: tuple[str, ...],
) -> int:
    """Run node ID in this terminal, until Ctrl-C."""
    if step and not allow_faults:
        raise click.UsageError("--step holds its messages, and needs --allow-faults", ctx)
    if verbose and (quiet or log_format == "json"):
        raise click.UsageError("-v shows every event, in words: leave out -q and --log-format json", ctx)
    from zabzmq.cli.server_node import NodeProcess, ObserveOptions

    config = settled(ctx)
    process = NodeProcess(
        config,
        id,
        options(ctx),
        bootstrap_all=bootstrap == "all",
        unsafe_rejoin_empty=unsafe_rejoin_empty or environment.REJOIN_EMPTY in environment.unsafe(),
        log_format="none" if quiet else "words" if verbose else log_format,
        observe=ObserveOptions(not no_observe, host, allow_host, allow_faults, step),
    )
    return process.run()


@server.command(cls=Command)
@json_option
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@click.option("--strict", is_flag=True, help="Exit with 9 when the cluster is degraded.")
@cluster_options
@click.pass_context
def status(ctx: click.Context, as_json: bool, watch: bool, strict: bool) -> int:
    """Show every node: who leads, who is behind, what to do.

    Exit codes: 0 healthy or degraded, 3 electing or no quorum, 4 nobody answers, 9 degraded with --strict.
    """
    from zabzmq.cli.server_status import show_status

    return show_status(settled(ctx), options(ctx), as_json=as_json, watch=watch, strict=strict)


@server.group()
@cluster_options
@directory_options
def cluster() -> None:
    """All nodes at once, as real processes."""


@cluster.command(cls=Command)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("--step", is_flag=True, help="Hold every message as soon as there is a leader; see `step`.")
@observe_options
@cluster_options
@directory_options
@click.pass_context
def up(
    ctx: click.Context, open_page: bool, step: bool, no_observe: bool, host: str, allow_host: tuple[str, ...]
) -> int:
    """Start every node and show how they are; Ctrl-C stops them all.

    The nodes are processes of this one and end with it, however it ends.
    """
    from zabzmq.cli.server_cluster import run_cluster

    if step and no_observe:
        raise click.UsageError("--step is done through the observe ports, which --no-observe leaves out", ctx)
    environment.unsafe()  # it is the nodes' to heed; what is wrong with it is told once
    return run_cluster(
        settled(ctx),
        options(ctx),
        observe=not no_observe,
        host=host,
        allow_hosts=allow_host,
        open_it=open_page,
        step=step,
    )


for command in cluster_commands.CLUSTER_COMMANDS:
    cluster.add_command(command)


@server.command(cls=Command)
@click.option("--seeds", metavar="A..B", help="Run every seed of this inclusive range.  [default: 0..99]")
@click.option("--seed", type=Whole(0), help="Run this one.  [env ZAB_SEED]")
@click.option("--trace", is_flag=True, help="With --seed: show the run, line by line.")
@click.option("--trace-hash", is_flag=True, help="With --seed: show one number that stands for the whole run.")
@click.option("--shrink", is_flag=True, help="With --seed: the shortest schedule that breaks the same, as a scenario.")
@click.option("--scenario", type=FILE, help="Play this scenario file; with --trace line by line.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Run seed after seed for so long.")
@click.option("--report", type=FILE, help="With --hours: keep the sum in this file, and go on from it next time.")
@click.option("--jobs", type=Whole(1, 256), default=1, show_default=True, help="How many processes share the seeds.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@json_option
@cluster_options
@click.pass_context
def sim(
    ctx: click.Context,
    seeds: str | None,
    seed: int | None,
    trace: bool,
    trace_hash: bool,
    shrink: bool,
    scenario: Path | None,
    hours: float | None,
    report: Path | None,
    jobs: int,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run nodes in a virtual world of delays, losses, crashes and partitions, and check every invariant.

    A seed fixes everything. Exit code 7 when an invariant is violated.
    """
    from zabzmq.cli import server_sim
    from zabzmq.cli.server_sim import parse_seeds, show_hash, show_report, show_trace

    nodes = len(settled(ctx).listens)
    if seeds is not None and seed is not None:
        raise click.UsageError("give --seed or --seeds, not both", ctx)
    if sum(given is not None for given in (seeds if seed is None else seed, scenario, hours)) > 1:
        raise click.UsageError("give seeds, --scenario or --hours, one of them", ctx)
    if all(given is None for given in (seeds, seed, scenario, hours)):
        seed = environment.taken(environment.SEED, Whole(0, server_sim.SEED_MAX))
    if report is not None and hours is None:
        raise click.UsageError("--report is for --hours", ctx)
    if scenario is not None:
        return server_sim.show_scenario(scenario, trace)
    if (trace or trace_hash or shrink) and seed is None:
        raise click.UsageError("--trace, --trace-hash and --shrink are of one run: give --seed", ctx)
    if hours is not None:
        return server_sim.run_hours(hours, nodes, jobs, report, as_json, quiet)
    if seed is not None and shrink:
        return server_sim.show_shrunk(seed, nodes)
    if seed is not None and trace_hash:
        return show_hash(seed, nodes)
    if seed is not None and trace:
        return show_trace(seed, nodes)
    first_and_last = (seed, seed) if seed is not None else parse_seeds(seeds or "0..99")
    return show_report(first_and_last, nodes, jobs, as_json, quiet)


@server.group()
def log() -> None:
    """Look into a node's transaction log."""


@log.command(cls=Command)
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def dump(directory: Path, as_json: bool) -> int:
    """Print the log in DIRECTORY, such as data/node-2; the node may be running.

    Exit code 1 if it is damaged so that a node would not start on it.
    """
    from zabzmq.cli.server_log import dump_log

    return dump_log(directory, as_json)


@server.command(cls=Command)
@cluster_options
@directory_options
@click.pass_context
def doctor(ctx: click.Context) -> int:
    """Check this machine: Python, packages, ports, disk; and where each setting comes from."""
    from zabzmq.cli.server_doctor import examine

    return examine(settled(ctx), options(ctx))


server.add_command(completion)
server.add_command(cluster_commands.fault)
server.add_command(cluster_commands.step)
server.add_command(trace_commands.trace)
server.add_command(trace_commands.explain)


def options(ctx: click.Context) -> str:
    """The common options that were given, to be repeated in commands we tell people to type."""
    return "".join(f" {shlex.quote(part)}" for part in command_line(ctx))


def main() -> NoReturn:
    common.run(server, "zookeeper_server.py")


if __name__ == "__main__":
    main()
