"""The recorded runs of the page: five real nodes play, fail and recover, and what they told is kept.

    python -m zabzmq.cli.record leader-crash -o docs/runs/leader-crash.jsonl.gz
    python -m zabzmq.cli.record --embed index.html        the runs of docs/runs/ into the page

Nothing is staged: the events are those that the nodes wrote, whole, up to the moment where the story ends.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import click

from zabzmq.cli import common
from zabzmq.cli.asking import NoAnswer, post, reason, token_in
from zabzmq.cli.client_status import HEALTHY, headline
from zabzmq.cli.common import Exit, UserError
from zabzmq.cli.demo import cluster_directory
from zabzmq.cli.server_status import ask
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.client.player import Player
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.machine.operations import Guess, Operation, Target
from zabzmq.server.config import Config
from zabzmq.server.observe_token import fresh_token
from zabzmq.trace import export
from zabzmq.trace.check import checked
from zabzmq.trace.merge import merge
from zabzmq.trace.reading import Event, Problem, logs_in, streams

PATIENCE_S: Final = 20.0
WRITTEN_S: Final = 0.4
"""Twice as long as a node keeps events before it writes them."""
SLOW_DISK_MS: Final = 5000
RUNS: Final = Path("docs/runs")


class Stage:
    """A cluster of five, and what is done to it."""

    def __init__(self, config: Config, supervisor: Supervisor, client: Client) -> None:
        self.config = config
        self.supervisor = supervisor
        self._client = client
        self._token = fresh_token(config.log_dir)

    def start(self) -> None:
        self.supervisor.start_all()
        self.until(HEALTHY, lambda status: bool(status["health"] == HEALTHY))

    def status(self) -> dict[str, Any]:
        return ask(self._client, self.config, 300.0)

    def until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while not holds(status := self.status()):
            if time.monotonic() > deadline:
                raise UserError(f"waited {PATIENCE_S:g} s in vain until {what}", headline(status))
            time.sleep(0.02)
        return status

    def until_equal(self) -> None:
        """All serve, and hold one state."""
        self.until(
            "all states are equal",
            lambda status: (
                status["health"] == HEALTHY and len({(n["applied"], n["digest"]) for n in status["nodes"]}) == 1
            ),
        )

    def leader(self, but: int | None = None) -> int:
        led = self.until("somebody leads", lambda status: status["leader"] not in (None, but))
        leader: int = led["leader"]
        return leader

    def until_ended(self, node: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not any(ended.node == node for ended in self.supervisor.ended()):
            if time.monotonic() > deadline:
                raise UserError(f"node {node} goes on")
            time.sleep(0.005)

    def play(self, name: str, operation: Operation, player: Player | None = None) -> None:
        call = self._client.do(operation, player or self._client.player(name), timeout_ms=PATIENCE_S * 1000)
        if call.outcome is not Outcome.OK:
            raise UserError(f"{name}: {call.outcome}: {call.text}")

    def player_at(self, name: str, node: int) -> Player:
        return self._client.player(name, node=node)

    def offer(self, player: Player, operation: Operation) -> Call:
        """Without waiting for an answer."""
        call = self._client.submit(operation, player)
        self._client.pump(5.0)
        return call

    def tell(self, node: int, path: str, body: Any) -> None:
        """A command to a node's observe port."""
        listen = self.config.listen(node)
        try:
            status, said = post(listen.host, listen.observe, path, body, self._token or token_in(self.config.log_dir))
        except NoAnswer as error:
            raise UserError(str(error)) from None
        if status != 200:
            raise UserError(f"node {node}: {path}: {reason(said)}")

    def split(self, *sides: set[int]) -> None:
        """Between these sides, nothing is heard."""
        for side in sides:
            others = sorted(set().union(*sides) - side)
            for node in sorted(side):
                self.tell(node, "/fault", {"rules": [{"peer": peer, "cut": "both"} for peer in others]})

    def heal(self) -> None:
        for node in self.config.ids:
            self.tell(node, "/fault", {})

    def written(self) -> None:
        """Wait until the nodes have written what they told so far."""
        time.sleep(WRITTEN_S)

    def events(self) -> list[Event]:
        problems: list[Problem] = []
        found = list(merge(streams(logs_in(self.config.log_dir), problems.append)))
        if problems:
            raise UserError(f"the logs cannot be read: {problems[0]}")
        return found


# ---- the stories ---------------------------------------------------------------------------------------------------


def normal(stage: Stage) -> None:
    """A round is played to its end."""
    stage.play("alice", Target(50))
    for name, value in (("bob", 20), ("carol", 47), ("dan", 80), ("bob", 52), ("carol", 50)):
        stage.play(name, Guess(value))


def leader_crash(stage: Stage) -> None:
    """The leader is ended by kill -9 in the middle of a round, and comes back."""
    stage.play("alice", Target(50))
    stage.play("bob", Guess(20))
    stage.play("carol", Guess(47))
    leader = stage.leader()
    stage.written()
    stage.tell(leader, "/crash", {})
    stage.until_ended(leader)
    stage.play("bob", Guess(52))
    stage.play("dan", Guess(49))
    stage.supervisor.start(leader)
    stage.until_equal()
    stage.play("bob", Guess(50))


def partition(stage: Stage) -> None:
    """The leader is cut off with one follower; what it proposes there is truncated when all is healed."""
    stage.play("alice", Target(50))
    stage.play("bob", Guess(20))
    leader = stage.leader()
    carol = stage.player_at("carol", leader)
    stage.play("carol", Guess(47), carol)
    stage.until_equal()
    others = [node for node in stage.config.ids if node != leader]
    stage.split({leader, others[0]}, set(others[1:]))
    stage.offer(carol, Guess(70))
    new = stage.leader(but=leader)
    assert new not in (leader, others[0]), "a leader needs a majority"
    stage.play("dan", Guess(52))
    stage.play("bob", Guess(51))
    stage.written()
    stage.heal()
    stage.until_equal()
    stage.play("bob", Guess(50))


def power_cut(stage: Stage) -> None:
    """A follower whose disk is slow loses power, and with it what it had not synced; it fetches that again."""
    stage.play("alice", Target(50))
    stage.play("bob", Guess(20))
    leader = stage.leader()
    follower = next(node for node in reversed(stage.config.ids) if node != leader)
    stage.tell(follower, "/fault", {"disk_ms": SLOW_DISK_MS})
    for name, value in (("carol", 47), ("dan", 80), ("bob", 52)):
        stage.play(name, Guess(value))
    stage.written()
    stage.supervisor.cut_power(follower)
    stage.until_ended(follower)
    stage.play("carol", Guess(49))
    stage.supervisor.start(follower)
    stage.until_equal()
    stage.play("bob", Guess(50))


class Story(NamedTuple):
    title: str
    play: Callable[[Stage], None]


STORIES: Final = {
    "normal": Story("A round of the game", normal),
    "leader-crash": Story("kill -9 of the leader", leader_crash),
    "partition": Story("The leader is cut off with one follower", partition),
    "power-cut": Story("A follower loses power and unsynced writes", power_cut),
}


def record(name: str) -> list[Event]:
    """Play this story on five real nodes; what they told, checked."""
    with (
        cluster_directory() as config,
        Supervisor(config, ["--allow-faults"]) as supervisor,
        Client(config.client_endpoints, cluster=config.cluster) as client,
    ):
        stage = Stage(config, supervisor, client)
        stage.start()
        STORIES[name].play(stage)
        stage.until_equal()
        stage.written()
        events = stage.events()
    found = checked(events)
    if found.violations:
        raise UserError(f"{name}: {found.violations[0].check}: {found.violations[0].text}")
    return events


def keep(path: Path, events: list[Event]) -> None:
    data = "".join(f"{line}\n" for line in export.to_jsonl(events)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def embed(page: Path, runs: Path = RUNS) -> None:
    """The recorded runs into the page, instead of those it has."""
    packed = []
    for name, story in STORIES.items():
        path = runs / f"{name}.jsonl.gz"
        if not path.exists():
            raise UserError(f"{path} is not there.", f"record it: python -m zabzmq.cli.record {name} -o {path}")
        packed.append((name, story.title, export.packed(path.read_bytes())))
    page.write_bytes(export.with_runs(page.read_bytes(), packed))


@click.command()
@click.argument("name", required=False, type=click.Choice(list(STORIES)))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; else docs/runs/.")
@click.option(
    "--embed",
    "page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Put the runs of docs/runs/ into this page, instead of those it has.",
)
def main_command(name: str | None, output: Path | None, page: Path | None) -> int:
    """Record run NAME on five real nodes."""
    if name is None and page is None:
        raise click.UsageError("say which run, or --embed a page")
    if name is not None:
        events = record(name)
        path = output or RUNS / f"{name}.jsonl.gz"
        keep(path, events)
        click.echo(f"{path}: {len(events)} events, {path.stat().st_size} bytes", err=True)
    if page is not None:
        embed(page)
        click.echo(f"{page}: {page.stat().st_size} bytes", err=True)
    return Exit.OK


def main() -> NoReturn:
    common.run(main_command, "record")


if __name__ == "__main__":
    main()
