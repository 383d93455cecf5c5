"""`status`: one look at the cluster, or a look a second."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from zabzmq.cli import colour
from zabzmq.cli.client_output import addresses
from zabzmq.cli.client_status import UNREACHABLE, advice, exit_of, headline, summary, table
from zabzmq.cli.common import Exit, complain, interrupt_on_sigterm, is_terminal
from zabzmq.client.client import Client
from zabzmq.server.config import Config

if TYPE_CHECKING:
    from rich.live import Live

EVERY_S = 1.0


def ask(client: Client, config: Config, wait_ms: float = 1000.0) -> dict[str, Any]:
    """The status object of this moment."""
    client.pump()  # hear of nodes that came up since they were last asked
    return summary(config.cluster, client.status(wait_ms))


def page(status: dict[str, Any], options: str) -> list[str]:
    """Headline, table and the next command, as lines."""
    next_step = advice(status, options)
    lines = [headline(status), *table(status), *([next_step] if next_step else [])]
    held = {n["node"]: n["held"] for n in status["nodes"] if n["up"] and n["held"] is not None}
    if held:
        waits = ", ".join(f"{count} at node {node}" for node, count in held.items() if count) or "no message waits"
        lines.append(f"held: node {' '.join(map(str, held))}; timers stand; {waits}")
        lines.append(f"next: python zookeeper_server.py{options} step next        (step off lets all go on)")
    refused = {n["node"]: _refused(n["dropped"]) for n in status["nodes"] if n["up"]}
    if any(refused.values()):
        told = ", ".join(f"node {node}: {count}" for node, count in refused.items() if count)
        lines.append(f"frames refused (damaged, foreign or of another version): {told}")
    full = [str(n["node"]) for n in status["nodes"] if n["up"] and n["space"] != "ok"]
    if full:
        lines.append(f"disk nearly full on node {' '.join(full)}")
    empty = [str(n["node"]) for n in status["nodes"] if n["up"] and not n["joined"]]
    if empty and status["leader"] is None:
        lines.append(f"not counted yet, for their disks are empty: node {' '.join(empty)}")
    return lines


def _refused(dropped: dict[str, int]) -> int:
    """Without the last words of links that had just ended: those are weather."""
    return sum(count for reason, count in dropped.items() if reason != "closed")


def show_status(
    config: Config, options: str, *, as_json: bool, strict: bool, watch: bool = False, wait_ms: float = 1_000.0
) -> int:
    with Client(config.client_endpoints, cluster=config.cluster) as client:
        if watch:
            return _watch(client, config, options, as_json)
        status = ask(client, config, wait_ms)
        foreign = dict(client.search.foreign)
    if as_json:
        click.echo(json.dumps(status, ensure_ascii=False))
    elif status["health"] != UNREACHABLE:
        click.echo("\n".join(page(status, options)))
    if status["health"] == UNREACHABLE:
        _say_unreachable(config, options, foreign)
    return exit_of(status, strict)


def _say_unreachable(config: Config, options: str, foreign: dict[int, str]) -> None:
    if foreign:
        node, name = next(iter(foreign.items()))
        say = f"say which one: --cluster {shlex.quote(name)}"
        complain(f'node {node} belongs to cluster "{name}", not to "{config.cluster}".', (say,))
        return
    complain(
        f"nobody listens on {addresses(config.client_endpoints)}.",
        (f"start a cluster:  python zookeeper_server.py{options} cluster up    (other ports? set ZAB_BASE_PORT)",),
    )


def _watch(client: Client, config: Config, options: str, as_json: bool) -> int:
    """Once a second until Ctrl-C: in place on a terminal, one line (or object) a second elsewhere."""
    interrupt_on_sigterm()
    with ExitStack() as leaving:
        live: Live | None = None
        if is_terminal() and not as_json:
            from rich.live import Live

            live = leaving.enter_context(Live(console=colour.console(), auto_refresh=False))
        try:
            while True:
                began = time.monotonic()
                status = ask(client, config)
                if live is not None:
                    live.update(colour.text(page(status, options)), refresh=True)
                else:
                    click.echo(json.dumps(status, ensure_ascii=False) if as_json else headline(status))
                time.sleep(max(0.0, began + EVERY_S - time.monotonic()))
        except KeyboardInterrupt:
            return Exit.OK
