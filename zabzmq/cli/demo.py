"""`make demo`: five real nodes play the game, lose their leader to kill -9, play on, and agree in the end.

Everything happens in a temporary directory and on free ports. What is shown is what the nodes answered; nothing is
staged. `--bench` starts the same five nodes and runs `client.py bench` on them instead.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from zabzmq.cli import common
from zabzmq.cli.client_monitor import event_line
from zabzmq.cli.client_output import success, told
from zabzmq.cli.client_status import HEALTHY, headline, table
from zabzmq.cli.common import Exit, UserError
from zabzmq.cli.server_cluster_page import page_url
from zabzmq.cli.server_status import ask
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.client.monitor import Monitor
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import Guess, Operation, Target
from zabzmq.server.config import BASE_PORT, PORT_OFFSETS, SUPERVISOR_OFFSET, Config, load

CLUSTER: Final = "make-demo"
PATIENCE_S: Final = 15.0


class Demo:
    """The story, step by step."""

    def __init__(self, config: Config, supervisor: Supervisor, client: Client, monitor: Monitor) -> None:
        self._config = config
        self._supervisor = supervisor
        self._client = client
        self._monitor = monitor
        self._began = time.monotonic()
        self._heading = 0
        self._facts: list[tuple[str, str]] = []

    def run(self) -> None:
        self._say("Five nodes start, elect a leader and agree on an epoch")
        self._supervisor.start_all()
        took = self._until("all five nodes serve", lambda: self._status()["health"] == HEALTHY)
        status = self._status()
        leader: int = status["leader"]
        self._tell(f"node {leader} leads epoch {status['epoch']}, {took:.1f} s after the start")
        self._facts.append(("five nodes, start to service", f"{took:.1f} s"))

        self._say("alice sets a target, the others guess; every answer is on the disks of a majority")
        self._play("alice", Target(50))
        for name, value in (("bob", 20), ("carol", 47), ("dan", 80)):
            self._play(name, Guess(value))

        self._say("What a monitor saw: every commit once, in order")
        self._watch()

        self._say(f"kill -9 of the leader, node {leader}, in the middle of the game")
        self._supervisor.kill(leader)
        killed = time.monotonic()
        call = self._play("bob", Guess(52))
        gap = (time.monotonic() - killed) * 1000
        self._supervisor.ended()
        self._tell(f"next commit {gap:.0f} ms after the kill; node {call.node} leads epoch {self._status()['epoch']}")
        self._facts.append(("kill -9 of the leader to the next commit", f"{gap:.0f} ms"))

        self._say("Four nodes play on")
        for name, value in (("carol", 49), ("dan", 51), ("bob", 50)):
            self._play(name, Guess(value))
        self._play("carol", Target(7))
        self._watch()

        self._say(f"Node {leader} is started again on its old disk and catches up")
        self._supervisor.start(leader)
        took = self._until("all five states are equal", self._agree)
        status = self._status()
        digest = next(node["digest"] for node in status["nodes"])
        self._tell(f"after {took:.1f} s all five nodes hold the same state: digest {digest}")
        self._facts.append(("restart to five equal digests", f"{took:.1f} s"))

        self._say("In the end")
        click.echo("\n".join(["  " + line for line in (headline(status), *table(status))]))
        width = max(len(what) for what, _ in self._facts)
        for what, fact in self._facts:
            click.echo(f"  {what:<{width}}  {fact}")

    # ---- pieces

    def _play(self, name: str, operation: Operation) -> Call:
        call = self._client.do(operation, self._client.player(name), timeout_ms=10_000)
        if call.outcome is not Outcome.OK:
            raise UserError(f"{name}: {told(operation)}: {call.outcome}: {call.text}")
        self._tell(success(call, name, len(self._config.listens)))
        return call

    def _watch(self) -> None:
        """Show what the monitor saw, up to everything that is committed now."""
        target = max(tuple(node["committed"]) for node in self._status()["nodes"] if node["up"])
        deadline = time.monotonic() + PATIENCE_S
        while (self._monitor.position or ZERO) < Zxid(*target):
            if time.monotonic() > deadline:
                raise UserError(f"the monitor did not see {target} within {PATIENCE_S:g} s")
            for event in self._monitor.pump(100.0):
                self._tell(event_line(event))

    def _status(self) -> dict[str, Any]:
        return ask(self._client, self._config, 300.0)

    def _agree(self) -> bool:
        nodes = self._status()["nodes"]
        return all(node["up"] for node in nodes) and len({(node["applied"], node["digest"]) for node in nodes}) == 1

    def _until(self, what: str, holds: Callable[[], bool]) -> float:
        """Wait until it holds; how long that took, in seconds."""
        began = time.monotonic()
        while not holds():
            for ended in self._supervisor.ended():
                raise UserError(f"node {ended.node} ended with {ended.code}", ended.words)
            if time.monotonic() - began > PATIENCE_S:
                raise UserError(f"waited {PATIENCE_S:g} s in vain until {what}", headline(self._status()))
            time.sleep(0.02)
        return time.monotonic() - began

    def _say(self, heading: str) -> None:
        self._heading += 1
        click.echo(f"\n{self._heading}. {heading}  [{time.monotonic() - self._began:.1f} s]")

    def _tell(self, line: str) -> None:
        click.echo(f"  {line}")


@contextmanager
def cluster_directory() -> Iterator[Config]:
    """A cluster on free ports whose files go away in the end, unless something went wrong."""
    directory = Path(tempfile.mkdtemp(prefix="zabzmq-"))
    try:
        yield load(
            base_port=free_base_port(),
            cluster=CLUSTER,
            nodes=5,
            data_dir=directory / "data",
            log_dir=directory / "logs",
            environ={},
        )
    except Exception:
        click.echo(f"what the nodes said is kept in {directory / 'logs'}", err=True)
        raise
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def free_base_port() -> int:
    """A base whose ports nobody holds at the moment, below the ranges from which systems give out ports."""
    dice = random.Random()
    for _ in range(100):
        base = dice.randrange(22_000, 32_000, SUPERVISOR_OFFSET + 10)
        ports = [base + offset + node for offset in PORT_OFFSETS.values() for node in range(5)]
        if all(_is_free(port) for port in ports):
            return base
    raise UserError("no free ports were found between 22000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def play() -> int:
    with (
        cluster_directory() as config,
        Supervisor(config) as supervisor,
        Client(config.client_endpoints, cluster=CLUSTER) as client,
        Monitor(config.client_endpoints, config.publish_endpoints, CLUSTER, ZERO) as monitor,
    ):
        click.echo(f"five nodes on 127.0.0.1:{config.base_port} and up, data in {config.data_dir}")
        Demo(config, supervisor, client, monitor).run()
        codes = supervisor.stop()
        if any(codes.values()):
            raise UserError(f"nodes did not stop cleanly: {codes}")
        click.echo("  all nodes stopped cleanly")
    click.echo("\nWatch five of your own, and kill their leader: python zookeeper_server.py cluster up --open")
    page = page_url(BASE_PORT, None)
    if page:
        click.echo(f"The page: {page}")
    return Exit.OK


def bench(arguments: Sequence[str]) -> int:
    with cluster_directory() as config, Supervisor(config) as supervisor:
        supervisor.start_all()
        with Client(config.client_endpoints, cluster=CLUSTER) as client:
            deadline = time.monotonic() + PATIENCE_S
            while ask(client, config, 300.0)["health"] != HEALTHY:
                if time.monotonic() > deadline:
                    raise UserError(f"five nodes did not come up within {PATIENCE_S:g} s")
        # A process of its own, as a user's would be.
        command = [sys.executable, "-c", "from zabzmq.cli.client import main; main()", "bench", *arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")}
        return subprocess.call([*command, "--cluster", CLUSTER, "--base-port", str(config.base_port)], env=environ)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--bench", "is_bench", is_flag=True, help="Measure instead of playing; ARGUMENTS are of `client.py bench`."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(is_bench: bool, arguments: tuple[str, ...]) -> int:
    """Five real nodes on free ports in a temporary directory."""
    if arguments and not is_bench:
        raise click.UsageError(f"nothing is known of {arguments[0]!r} here")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, common.interrupt)
    return bench(arguments) if is_bench else play()


def main() -> NoReturn:
    common.run(demo, "demo")


if __name__ == "__main__":
    main()
