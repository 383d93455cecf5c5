"""`cluster up`: all nodes as real processes of this one, with a live table on a terminal and plain lines elsewhere."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import click

from zabzmq.cli.client_status import HEALTHY, UNREACHABLE, headline
from zabzmq.cli.common import Exit, UserError, is_terminal
from zabzmq.cli.server_observe import page_path
from zabzmq.cli.server_status import ask, page
from zabzmq.client.client import Client
from zabzmq.cluster.supervisor import Ended, Supervisor
from zabzmq.server.config import BASE_PORT, Config
from zabzmq.server.observe_token import TokenError, fresh_token

LOOK_EVERY_S = 0.5
EVENTS_SHOWN = 8


def run_cluster(config: Config, options: str, *, observe: bool, host: str, allow_hosts: tuple[str, ...]) -> int:
    """Until Ctrl-C or SIGTERM, or until no node is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    node_options = ["--allow-faults", "--host", host] if observe else ["--no-observe"]
    node_options += [part for name in allow_hosts for part in ("--allow-host", name)]
    with Supervisor(config, node_options) as supervisor:
        try:
            page = _page_link(config) if observe else ""
            supervisor.start_all()
            pids = ", ".join(f"{node} (pid {pid})" for node, pid in supervisor.running().items())
            click.echo(f'starting cluster "{config.cluster}": nodes {pids}')
            click.echo(f"data in {config.data_dir}/, logs in {config.log_dir}/; Ctrl-C stops all")
            if page:
                click.echo(f"page: {page}")
            with Client(config.client_endpoints, cluster=config.cluster) as client:
                return _look_after(supervisor, client, config, options)
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            codes = supervisor.stop()
            unclean = [str(node) for node, code in codes.items() if code != 0]
            click.echo("all nodes stopped" + (f"; not cleanly: {' '.join(unclean)}" if unclean else ""))
            return Exit.OK


def _page_link(config: Config) -> str:
    """Where to look, with the new token of this run; a fragment is never sent over a wire. Or "", and why on stderr."""
    page = page_path()
    try:
        token = fresh_token(config.log_dir)
    except TokenError as error:
        click.echo(f"warning: no commands by HTTP: {error}", err=True)
        return ""
    base = "" if config.base_port == BASE_PORT else f"base={config.base_port}&"
    return "" if page is None else f"{page.resolve().as_uri()}#{base}t={token}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _look_after(supervisor: Supervisor, client: Client, config: Config, options: str) -> int:
    show = _Live(options) if is_terminal() else _Lines()
    with show:
        started = False
        while True:
            began = time.monotonic()
            for ended in supervisor.ended():
                if not started and ended.code > 0:
                    supervisor.stop()
                    raise UserError(_first_words(ended), "the other nodes were stopped")
                show.event(_epitaph(ended, options))
            if not supervisor.running():
                raise UserError("no node is left", f"what they said: {config.log_dir}/node-*.log")
            status = ask(client, config, wait_ms=300.0)
            # Another cluster may sit on these ports; ours then ends in a moment, and says so.
            ours = {node["pid"] for node in status["nodes"] if node["up"]} <= {*supervisor.running().values()}
            started = started or (ours and status["health"] == HEALTHY)
            if started or (ours and status["health"] != UNREACHABLE):
                show.status(status)
            time.sleep(max(0.0, began + LOOK_EVERY_S - time.monotonic()))


def _first_words(ended: Ended) -> str:
    return (ended.words or f"node {ended.node} ended with {ended.code}").removeprefix("error: ")


def _epitaph(ended: Ended, options: str) -> str:
    how = signal.Signals(-ended.code).name if ended.code < 0 else f"exit {ended.code}"
    words = f": {ended.words.splitlines()[0]}" if ended.words else ""
    return f"node {ended.node} ended ({how}){words}   restart: python zookeeper_server.py{options} node {ended.node}"


class _Lines:
    """Without a terminal: a line when something changed."""

    def __init__(self) -> None:
        self._said = ""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *unused: object) -> None: ...

    def event(self, text: str) -> None:
        click.echo(text)

    def status(self, status: dict[str, Any]) -> None:
        said = headline(status)
        if said != self._said:
            self._said = said
            click.echo(said)


class _Live(_Lines):
    """On a terminal: the table in place, and the last events under it."""

    def __init__(self, options: str) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self._options = options
        self._events: list[str] = []
        self._live = Live(console=Console(highlight=False), auto_refresh=False)

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._live.stop()

    def event(self, text: str) -> None:
        self._events = [*self._events, f"{time.strftime('%H:%M:%S')}  {text}"][-EVENTS_SHOWN:]

    def status(self, status: dict[str, Any]) -> None:
        from rich.text import Text

        said = headline(status)
        if self._said and said != self._said:
            self.event(said)
        self._said = said
        lines = [*page(status, self._options), "", *self._events, "Ctrl-C stops all nodes"]
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
