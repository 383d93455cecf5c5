"""python -m benchmarks.faults: fail-over, catching up under load, and whether a hard-pressed cluster keeps its leader.

--kills and --freezes take the leader away, again and again, and tell how long a client at default settings waited for
its next write. --behind starts a follower that missed so many writes, while others go on. --history starts one, and
then all, with so many writes in the past. --steady gives all cores something else to do, makes every sync 50 ms longer,
and counts the elections that nothing but slowness has caused: there should be none.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from pathlib import Path
from threading import Thread
from typing import Final

import click

from benchmarks.measure import VALUE_BYTES, Trouble, seconds_until, wait_until
from benchmarks.ours import CLUSTER, Ours
from zabzmq.cli import common
from zabzmq.cli.asking import NoAnswer, post
from zabzmq.cli.common import Exit, UserError
from zabzmq.client.call import Outcome
from zabzmq.client.client import Client
from zabzmq.machine.operations import Put
from zabzmq.server.observe_token import shared_token

SYNC_MS: Final = 50.0
OUTSTANDING: Final = 64
BEFORE_S: Final = 3.0
TOLD_EVERY_S: Final = 60.0


@click.command()
@click.option("--kills", default=100, show_default=True, help="Of the leader, with kill -9.")
@click.option("--freezes", default=5, show_default=True, help="Of the leader, with SIGSTOP.")
@click.option("--behind", default=0, help="Instead: a follower this many writes behind catches up under load.")
@click.option("--history", default=0, help="Instead: nodes start again after so many writes.")
@click.option("--size", default=VALUE_BYTES, show_default=True, help="Bytes of these writes; 10,000 keys take turns.")
@click.option("--outstanding", default=OUTSTANDING, show_default=True, help="That load, and that of --steady.")
@click.option("--steady", "minutes", default=0.0, help="Instead: so many minutes of busy cores and slow syncs.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where data goes for the time being: a real disk.")
def faults(
    kills: int,
    freezes: int,
    behind: int,
    history: int,
    size: int,
    outstanding: int,
    minutes: float,
    directory: Path | None,
) -> int:
    """Take the leader away, or press it hard, and tell what clients notice."""
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-", dir=directory))
    system = Ours(scratch, options=("--allow-faults",) if minutes else ())
    try:
        system.start()
        if minutes:
            _steady(system, scratch, minutes * 60, outstanding)
        elif history:
            _history(system, history)
        elif behind:
            _behind(system, scratch, behind, size, outstanding)
        else:
            _tell("leader killed, to the next commit", kills, system.fail_over)
            _tell("leader frozen, to the next commit", freezes, system.freeze)
    except Trouble as trouble:
        raise UserError(str(trouble)) from None
    finally:
        system.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    return Exit.OK


def _tell(what: str, count: int, act: Callable[[], float]) -> None:
    if count:
        took = sorted(act() for _ in range(count))
        p50, p99 = (took[ceil(count * share) - 1] for share in (0.5, 0.99))
        click.echo(f"{what}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {took[-1]:.0f} ms, {count} times")


def _history(system: Ours, count: int) -> None:
    with Client(system.config.client_endpoints, cluster=CLUSTER) as client:
        began = time.monotonic()
        system.fill(client, count)
        click.echo(f"{count:,} writes in {time.monotonic() - began:.0f} s")
        follower, target = system.leave_behind(client, 1)
        took = seconds_until(
            lambda: system.bring_back(follower), "a follower", lambda: system.is_at(client, follower, target)
        )
        click.echo(f"a follower that is started serves after {took:.2f} s")
    system.stop()
    took = seconds_until(system.start, "a first write", lambda: True)
    click.echo(f"all nodes started: first commit after {took:.2f} s")


class _Writing:
    """A client that always has so many writes under way."""

    def __init__(self, client: Client, outstanding: int) -> None:
        self.done = 0
        self.unsure = 0
        self._client = client
        value = b"x" * VALUE_BYTES
        client.submit_many([Put(b"load-%d" % i, value) for i in range(outstanding)])

    def go_on(self, ms: float) -> None:
        """What is answered within so long is written again."""
        calls = self._client.pump(ms)
        done = sum(call.outcome is Outcome.OK for call in calls)
        self.done += done
        self.unsure += len(calls) - done
        self._client.submit_many([call.operation for call in calls])  # type: ignore[misc]


def _behind(system: Ours, directory: Path, count: int, size: int, outstanding: int) -> None:
    endpoints = system.config.client_endpoints
    with Client(endpoints, cluster=CLUSTER) as client, Client(endpoints, cluster=CLUSTER) as asking:
        follower, target = system.leave_behind(client, count, size)
        load = _Writing(client, outstanding)

        def rate_until(holds: Callable[[], bool]) -> tuple[float, float]:
            began, before = time.monotonic(), load.done
            while not holds():
                load.go_on(20.0)
            took = time.monotonic() - began
            return (load.done - before) / took, took

        ends = time.monotonic() + BEFORE_S
        before, _ = rate_until(lambda: time.monotonic() >= ends)
        system.bring_back(follower)
        # Asked in a thread of its own, for the load must not wait for the answer.
        watch = Thread(
            target=wait_until, args=("a follower to catch up", partial(system.is_at, asking, follower, target))
        )
        watch.start()
        meanwhile, took = rate_until(lambda: not watch.is_alive())
    click.echo(
        f"{count:,} writes of {size:,} bytes behind, caught up by {_method(directory, follower)} in {took:.2f} s; "
        f"with {outstanding} writes outstanding {meanwhile:,.0f} a second meanwhile, {before:,.0f} before "
        f"({meanwhile / before:.0%}); {load.unsure} not done"
    )


def _method(directory: Path, follower: int) -> str:
    """How its leader brought it up to date the last time."""
    logs = "".join(path.read_text() for path in (directory / "logs").glob("node-*.jsonl"))
    told = [json.loads(line) for line in logs.splitlines() if '"what":"sync"' in line and f'"peer":{follower},' in line]
    return str(max(told, key=lambda event: event["t"])["method"]) if told else "what no log tells"


def _steady(system: Ours, directory: Path, seconds: float, outstanding: int) -> None:
    token = shared_token(directory / "logs")
    for listen in system.config.listens:

        def is_slow(host: str = listen.host, port: int = listen.observe) -> bool:
            try:
                return post(host, port, "/fault", {"disk_ms": SYNC_MS}, token)[0] == 200
            except NoAnswer:
                return False

        wait_until(f"node {listen.id} to take a fault", is_slow)
    with Client(system.config.client_endpoints, cluster=CLUSTER) as client, _busy_cores():
        epochs = {system.leader_and_epoch(client)}
        load = _Writing(client, outstanding)
        began = told = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            load.go_on(100.0)
            if now - told >= TOLD_EVERY_S:
                told = now
                epochs.add(system.leader_and_epoch(client))
                click.echo(f"{now - began:.0f} s: {load.done:,} writes, leader and epoch {sorted(epochs)}", err=True)
        epochs.add(system.leader_and_epoch(client))
    elections = max(epoch for _, epoch in epochs) - min(epoch for _, epoch in epochs)
    click.echo(
        f"{seconds / 60:.1f} minutes, {os.cpu_count()} cores busy, syncs {SYNC_MS:.0f} ms longer: "
        f"{elections} elections, {load.done:,} writes, {load.unsure} without an answer in time"
    )
    if elections:
        raise Trouble(f"{elections} elections that nothing but slowness has caused")


@contextmanager
def _busy_cores() -> Iterator[None]:
    burning = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in burning:
        process.start()
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.join()


def _burn() -> None:
    while True:
        pass


if __name__ == "__main__":
    common.run(faults, "benchmarks.faults")
