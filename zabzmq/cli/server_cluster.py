"""`cluster up`: all nodes as real processes of this one, with a live table on a terminal and plain lines elsewhere."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from queue import Empty
from typing import Any

import click

from zabzmq.cli import colour
from zabzmq.cli.asking import NoAnswer
from zabzmq.cli.client_status import HEALTHY, UNREACHABLE, headline, sentence
from zabzmq.cli.common import Exit, UserError, interrupt, is_terminal, warn
from zabzmq.cli.server_cluster_keys import Acts, KeyBar, KeyReader, has_keys
from zabzmq.cli.server_cluster_orders import supervisor_of
from zabzmq.cli.server_cluster_page import open_page, page_url, show_page
from zabzmq.cli.server_fault import clear, partition, put_in_force
from zabzmq.cli.server_status import ask, page
from zabzmq.cli.server_step import Steps
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.cluster.control import Control, Job
from zabzmq.cluster.orders import Orders, Refused, Seen, done_in_words, process_states
from zabzmq.cluster.supervisor import Ended, Supervisor
from zabzmq.machine.operations import Target
from zabzmq.server.config import SUPERVISOR_OFFSET, Config
from zabzmq.server.observe_token import TokenError, fresh_token, shared_token

LOOK_EVERY_S = 0.5
EVENTS_SHOWN = 8
KEY = "key"


def run_cluster(
    config: Config,
    options: str,
    *,
    observe: bool,
    host: str,
    allow_hosts: tuple[str, ...],
    open_it: bool = False,
    step: bool = False,
) -> int:
    """Until Ctrl-C or SIGTERM, until `cluster down`, or until no node is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    _refuse_a_second(config, options)
    node_options = ["--allow-faults", *(["--host", host] if observe else ["--no-observe"])]
    node_options += [part for name in allow_hosts for part in ("--allow-host", name)]
    with Supervisor(config, node_options) as supervisor:
        try:
            token, no_token = _new_token(config)
            _start_all(config, supervisor)
            pids = ", ".join(f"{node} (pid {pid})" for node, pid in supervisor.running().items())
            click.echo(f'starting cluster "{config.cluster}": nodes {pids}')
            click.echo(f"data in {config.data_dir}/, logs in {config.log_dir}/; Ctrl-C stops all")
            if observe:
                show_page(config, token, open_it)
            with Client(config.client_endpoints, cluster=config.cluster) as client:
                return Up(config, options, supervisor, client, token, no_token, step=step).run()
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            codes = supervisor.stop()
            unclean = [str(node) for node, code in codes.items() if code != 0]
            click.echo("all nodes stopped" + (f"; not cleanly: {' '.join(unclean)}" if unclean else ""))
            return Exit.OK


def _new_token(config: Config) -> tuple[str | None, str]:
    """The token of this run; or None, and why. Nodes that run already have read theirs, and keep it."""
    with Client(config.client_endpoints, cluster=config.cluster) as client:
        begun = ask(client, config, wait_ms=300.0)["up"] > 0
    try:
        return (shared_token if begun else fresh_token)(config.log_dir), ""
    except TokenError as error:
        warn(f"no commands by HTTP: {error}")
        return None, str(error)


def _refuse_a_second(config: Config, options: str) -> None:
    """Before anything is touched: what it would write anew, the token above all, is that of the first."""
    first = supervisor_of(config)
    if first is not None:
        raise UserError(
            f'cluster "{config.cluster}" is up already, under supervisor {first["supervisor"]}.',
            f"see: python zookeeper_server.py{options} cluster ps      stop it: the same with cluster down",
        )


def _start_all(config: Config, supervisor: Supervisor) -> None:
    try:
        supervisor.start_all()
    except OSError as error:
        raise UserError(
            f"cannot use {config.log_dir}: {error.strerror}.", "make it writable, or choose another --log-dir"
        ) from None


def _quit() -> None:
    raise KeyboardInterrupt


class Up:
    """A cluster that is up: looks at it now and then, and carries out what people order in between."""

    def __init__(
        self,
        config: Config,
        options: str,
        supervisor: Supervisor,
        client: Client,
        token: str | None,
        no_token: str,
        *,
        step: bool = False,
    ) -> None:
        """`step`: hold the nodes as soon as there is a leader."""
        self._config = config
        self._options = options
        self._supervisor = supervisor
        self._client = client
        self._orders = Orders(config, supervisor, self._look, options, random.Random())
        self._others: dict[int, int] = {}
        self._started = False
        self._to_be_held = step
        self._warnings: list[str] = []
        port = config.base_port + SUPERVISOR_OFFSET
        self._control = Control(port, token, no_token, self._state, self._warnings.append)
        self._token = token
        self._asked: list[Call] = []  # of this terminal's own, not answered yet
        self._show = _Lines()

    def run(self) -> int:
        self._control.start()
        try:
            with ExitStack() as leaving:
                if is_terminal():
                    bar = self._bar() if has_keys() else None
                    self._show = _Live(self._options, bar)
                    if bar is not None:
                        leaving.enter_context(KeyReader(lambda key: self._control.jobs.put(Job(KEY, key, Future()))))
                return self._look_after(leaving.enter_context(self._show))
        finally:
            self._control.stop()

    def _look_after(self, show: _Lines) -> int:
        look_at = 0.0
        while True:
            try:
                job = self._control.jobs.get(timeout=max(0.0, look_at - time.monotonic()))
            except Empty:
                look_at = time.monotonic() + LOOK_EVERY_S
                self._look_up(show)
            else:
                if job.verb == KEY:
                    show.press(job.target)
                    continue
                done = job.carry_out(self._orders.perform)
                if done is not None:
                    self._hear_of(show, expected=True)
                    show.event(done_in_words(done))
                    if done["done"] == "down":
                        return Exit.OK

    # ---- keys

    def _bar(self) -> KeyBar:
        config, options, token = self._config, self._options, self._token or ""
        acts = Acts(
            order=lambda verb, node: self._do(lambda: self._order(verb, node)),
            is_paused=lambda node: node in self._supervisor.paused,
            partition=lambda groups: self._do(lambda: put_in_force(config, options, partition(groups), token=token)[0]),
            clear=lambda: self._do(lambda: put_in_force(config, options, clear, token=token)[0]),
            target=self._set_target,
            open_page=lambda: self._do(lambda: open_page(config, page_url(config.base_port, self._token))),
            step=lambda: self._do(self._switch_step),
            next=lambda: self._do(self._steps().next_now),
            quit=_quit,
            say=self._say,
        )
        return KeyBar(tuple(map(int, config.ids)), acts)

    def _say(self, text: str) -> None:
        self._show.event(text)

    def _do(self, work: Callable[[], str]) -> None:
        """What a key asked for; what came of it, and what was in its way, is told below the table."""
        try:
            said = work()
        except (Refused, UserError, NoAnswer) as error:
            said = f"not done: {error}"
        if said:
            self._show.event(said)

    def _order(self, verb: str, node: int) -> str:
        done = self._orders.perform(verb, str(node))
        self._hear_of(self._show, expected=True)
        return done_in_words(done)

    def _steps(self) -> Steps:
        return Steps(self._config, self._options, self._token or "")

    def _switch_step(self) -> str:
        steps = self._steps().look()
        on = all(hold is None for hold in steps.holds.values())
        steps.to_all("/hold", {"on": on})
        return "held: messages wait, timers stand" if on else "all that waited is delivered, and time goes on"

    def _set_target(self, value: int) -> None:
        self._asked.append(self._client.submit(Target(value, True)))

    def _hear_answers(self) -> None:
        for call in [call for call in self._asked if call.outcome is not None]:
            self._asked.remove(call)
            said = "is set" if call.outcome is Outcome.OK else f"is not set: {call.text or call.why}"
            self._show.event(f"the target of a new round {said}")

    def _look_up(self, show: _Lines) -> None:
        supervisor, config = self._supervisor, self._config
        while self._warnings:
            warn(self._warnings.pop(0))
        self._hear_of(show)
        self._hear_answers()
        if not supervisor.running() and not self._orders.brought_down:
            raise UserError("no node is left", f"what they said: {config.log_dir}/node-*.log")
        status = ask(self._client, config, wait_ms=300.0)
        seen = _seen(status)
        self._others = self._orders.others(seen)
        # Another cluster may sit on these ports; ours then ends in a moment, and says so.
        ours = not seen.pids or bool({*seen.pids.values()} & {*supervisor.running().values()})
        self._started = self._started or (ours and status["health"] == HEALTHY)
        if self._to_be_held and self._started:
            self._to_be_held = False
            self._steps().look().to_all("/hold", {"on": True})
            show.event(f"held; next: python zookeeper_server.py{self._options} step next")
        if self._started or (ours and status["health"] != UNREACHABLE):
            show.status(status)

    def _hear_of(self, show: _Lines, expected: bool = False) -> None:
        """Nodes that ended. `expected`: by order, so there is nothing to add."""
        for ended in self._supervisor.ended():
            if not self._started and ended.code > 0:
                pid = self._orders.others(self._look(0.0)).get(ended.node)
                if pid is not None and self._supervisor.running():
                    show.event(f"node {ended.node} (pid {pid}) runs already, started by hand: it is left alone")
                    continue
                self._supervisor.stop()
                raise UserError(_first_words(ended), "the other nodes were stopped")
            if not expected:
                show.event(_epitaph(ended, self._options))

    def _look(self, patience_ms: float) -> Seen:
        end = time.monotonic() + patience_ms / 1_000.0
        while True:
            seen = _seen(ask(self._client, self._config, wait_ms=300.0))
            if seen.leader is not None or time.monotonic() >= end:
                return seen
            time.sleep(0.02)

    def _state(self) -> dict[str, Any]:
        """GET /state of the control port, in its thread."""
        return {
            "v": 1,
            "supervisor": os.getpid(),
            "cluster": self._config.cluster,
            "base_port": self._config.base_port,
            "nodes": process_states(self._config, self._supervisor, self._others),
        }


def _seen(status: dict[str, Any]) -> Seen:
    up = [node for node in status["nodes"] if node["up"]]
    held = any(node["held"] is not None for node in up)
    return Seen(status["leader"], {node["node"]: node["pid"] for node in up}, held)


def _first_words(ended: Ended) -> str:
    return (ended.words or f"node {ended.node} ended with {ended.code}").removeprefix("error: ")


def _epitaph(ended: Ended, options: str) -> str:
    how = signal.Signals(-ended.code).name if ended.code < 0 else f"exit {ended.code}"
    words = f": {ended.words.splitlines()[0]}" if ended.words else ""
    again = f"python zookeeper_server.py{options} cluster restart {ended.node}"
    return f"node {ended.node} ended ({how}){words}   restart: {again}"


class _Lines:
    """Without a terminal: a line when something changed."""

    def __init__(self) -> None:
        self._said = ""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *unused: object) -> None: ...

    def event(self, text: str) -> None:
        click.echo(text)

    def press(self, key: str) -> None:
        """Without a terminal there are no keys."""

    def status(self, status: dict[str, Any]) -> None:
        said = headline(status)
        if said != self._said:
            self._said = said
            click.echo(said)


class _Live(_Lines):
    """On a terminal: the table in place, what goes on in a sentence, the last events, and the keys."""

    def __init__(self, options: str, bar: KeyBar | None) -> None:
        from rich.live import Live

        super().__init__()
        self._options = options
        self._events: list[str] = []
        self._table: list[str] = []
        self._bar = bar
        self._live = Live(console=colour.console(), auto_refresh=False)

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._live.stop()

    def event(self, text: str) -> None:
        self._events = [*self._events, f"{time.strftime('%H:%M:%S')}  {text}"][-EVENTS_SHOWN:]
        self._draw()

    def press(self, key: str) -> None:
        if self._bar is not None:
            self._bar.press(key)
        self._draw()

    def status(self, status: dict[str, Any]) -> None:
        said = headline(status)
        if self._said and said != self._said:
            self.event(said)
        self._said = said
        self._table = [*page(status, self._options), "", sentence(status)]
        self._draw()

    def _draw(self) -> None:
        lines = [*self._table, "", *self._events, ""]
        lines += ["Ctrl-C stops all nodes"] if self._bar is None else self._bar.lines
        self._live.update(colour.text(lines), refresh=True)
