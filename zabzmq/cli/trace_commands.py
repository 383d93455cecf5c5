"""`trace ...` and `explain` on the command line; their work is in cli/server_trace.py and cli/server_explain.py."""

from __future__ import annotations

from pathlib import Path

import click

from zabzmq.cli.common import Command, Whole, cluster_options, directory_options, json_option, settled

FILES = click.argument("files", nargs=-1, type=click.Path(path_type=Path))
FORMATS = ("html", "jsonl", "shiviz", "mermaid", "csv")
HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP)
@cluster_options
@directory_options
def trace() -> None:
    """Read what the nodes told of themselves, all in one order.

    FILES are event logs (.jsonl, rotated, gzipped) or exported pages; without any, those in --log-dir are read. What
    cannot be read is named on standard error by file, line and reason, and the rest is read all the same.
    """


@trace.command("merge", cls=Command)
@FILES
@click.option("--columns", is_flag=True, help="One column for each node.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="The events themselves, one JSON object a line.")
@click.option("--all", "everything", is_flag=True, help="Heartbeats too.")
@cluster_options
@directory_options
@click.pass_context
def merge_command(ctx: click.Context, files: tuple[Path, ...], columns: bool, as_jsonl: bool, everything: bool) -> int:
    """Show the events of all nodes, no effect before its cause."""
    from zabzmq.cli.server_trace import show_merged

    return show_merged(settled(ctx), files, columns=columns, as_jsonl=as_jsonl, everything=everything)


@trace.command("tail", cls=Command)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--number", type=Whole(0, 100_000), default=20, show_default=True, help="How many events.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="The events themselves, one JSON object a line.")
@click.option("--all", "everything", is_flag=True, help="Heartbeats too.")
@cluster_options
@directory_options
@click.pass_context
def tail_command(ctx: click.Context, follow: bool, number: int, as_jsonl: bool, everything: bool) -> int:
    """Show the newest events."""
    from zabzmq.cli.server_trace import show_tail

    return show_tail(settled(ctx), number, follow=follow, as_jsonl=as_jsonl, everything=everything)


@trace.command("check", cls=Command)
@FILES
@json_option
@cluster_options
@directory_options
@click.pass_context
def check_command(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> int:
    """Check the promises of the protocol against the events.

    Exit code 7 on a violation, with the two events that contradict each other.
    """
    from zabzmq.cli.server_trace import show_check

    return show_check(settled(ctx), files, as_json=as_json)


@trace.command("export", cls=Command)
@FILES
@click.option("--to", "kind", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; else standard output.")
@click.option("--limit", type=Whole(1, 100_000), default=250, show_default=True, help="Lines of a mermaid diagram.")
@cluster_options
@directory_options
@click.pass_context
def export_command(ctx: click.Context, files: tuple[Path, ...], kind: str, output: Path | None, limit: int) -> int:
    """Write the merged events for other programs.

    html is the page with the trace inside: one file that opens anywhere, with no cluster.
    """
    from zabzmq.cli.server_trace import write_export

    return write_export(settled(ctx), files, kind, output, limit)


@click.command("explain", cls=Command, context_settings=HELP)
@click.argument("question", nargs=-1, required=True)
@json_option
@click.option(
    "--trace",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An event log or a recorded run, instead of those in --log-dir; can be repeated.",
)
@cluster_options
@directory_options
@click.pass_context
def explain(ctx: click.Context, question: tuple[str, ...], as_json: bool, files: tuple[Path, ...]) -> int:
    """Say why, and by which events: explain 3.8, explain node 3, explain last-election.

    It reads the event logs in --log-dir, beside a running cluster or after it.
    """
    from zabzmq.cli.server_explain import show_explanation

    return show_explanation(settled(ctx), question, files, as_json=as_json)
