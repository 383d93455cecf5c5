"""`step ...`: messages of a held cluster, let go one by one (docs/control.md, section 2)."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import click

from zabzmq.cli.asking import NoAnswer, get, hints, post, reason, token_in
from zabzmq.cli.common import Exit, UserError, warn
from zabzmq.server.config import Config

_NAME: Final = re.compile(r"(\d+):(\d+)")


class Waiting(NamedTuple):
    """One message that waits at a node."""

    t: float
    node: int
    about: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.node}:{self.about['id']}"

    def __str__(self) -> str:
        z = self.about.get("z")
        what = self.about["type"] + (f" {z[0]}.{z[1]}" if z else "")
        return f"{self.name:<8}{self.about['from']} -> {self.node}   {what}"


class Steps:
    """The held nodes of a cluster, as they are now."""

    def __init__(self, config: Config, options: str, token: str | None = None) -> None:
        """`token`: instead of that which commands find."""
        self.config = config
        self._options = options
        self.token = token_in(config.log_dir) if token is None else token
        self.holds: dict[int, dict[str, Any] | None] = {}
        """Of every node that answers: what waits there; None of one that is not held."""

    def look(self) -> Steps:
        """Ask all nodes at once. Raises UserError when none answers."""
        config = self.config
        with ThreadPoolExecutor(len(config.listens)) as pool:
            states = list(pool.map(self._state, map(int, config.ids)))
        answered = [state for state in states if state is not None and state.get("cluster") == config.cluster]
        self.holds = {state["n"]: state.get("hold") for state in answered}
        if not answered:
            raise UserError(
                f'no node of cluster "{config.cluster}" answers on its observe port',
                f"start a cluster:  python zookeeper_server.py{self._options} cluster up --step",
                exit_code=Exit.UNREACHABLE,
            )
        return self

    def _state(self, node: int) -> dict[str, Any] | None:
        listen = self.config.listen(node)
        try:
            return get(listen.host, listen.observe, "/state", self.token)
        except NoAnswer:
            return None

    @property
    def held(self) -> dict[int, dict[str, Any]]:
        """Raises UserError when nobody is held."""
        found = {node: hold for node, hold in self.holds.items() if hold is not None}
        if not found:
            turn_on = f"type: python zookeeper_server.py{self._options} step on"
            raise UserError("no node is held", turn_on, exit_code=Exit.NOT_DONE)
        return found

    @property
    def waiting(self) -> list[Waiting]:
        """The oldest first."""
        return sorted(
            (Waiting(about["t"], node, about) for node, hold in self.held.items() for about in hold["messages"]),
            key=lambda each: (each.t, each.node, each.about["id"]),
        )

    def post(self, node: int, path: str, body: dict[str, Any]) -> None:
        """Raises UserError when the node refuses; NoAnswer."""
        listen = self.config.listen(node)
        status, said = post(listen.host, listen.observe, path, body, self.token)
        if status != 200:
            raise UserError(f"node {node}: {reason(said)}", *hints(said, self.config.log_dir, "it"))
        self.holds[node] = said["hold"]

    def to_all(self, path: str, body: dict[str, Any]) -> list[int]:
        """The same to all that are asked; who did not answer. At once: who is not held yet waits in vain for those who
        are, and soon gives them up."""
        nodes = sorted(self.holds)

        def missed(node: int) -> bool:
            try:
                self.post(node, path, body)
            except NoAnswer:
                return True
            return False

        with ThreadPoolExecutor(len(nodes)) as pool:
            return [node for node, is_missed in zip(nodes, pool.map(missed, nodes), strict=True) if is_missed]

    def next_now(self) -> str:
        return self.look().next()

    def next(self) -> str:
        """One step, in words."""
        waiting = self.waiting
        if waiting:
            self.post(waiting[0].node, "/deliver", {"id": waiting[0].about["id"]})
            return f"delivered {waiting[0]}"
        timers = {node: hold["timer_ms"] for node, hold in self.held.items() if hold["timer_ms"] is not None}
        if not timers:
            raise UserError("nothing waits, and no node has a timer", exit_code=Exit.NOT_DONE)
        node = min(timers, key=lambda each: (timers[each], each))
        for each in self.held:
            self.post(each, "/deliver", {"ms": timers[node]})
        return f"nothing waits: {timers[node]:g} ms pass, to the next timer, of node {node}"


def switch(config: Config, options: str, on: bool, *, as_json: bool) -> int:
    steps = Steps(config, options).look()
    missed = steps.to_all("/hold", {"on": on})
    if missed:
        warn(f"node {' '.join(map(str, missed))} does not answer")
    if as_json:
        click.echo(json.dumps({"v": 1, "on": on, "nodes": sorted(steps.holds)}))
    elif on:
        held = " ".join(map(str, sorted(steps.holds)))
        click.echo(f"held: node {held}. Messages wait, timers stand.")
        click.echo(f"next: python zookeeper_server.py{options} step next")
    else:
        click.echo("all that waited is delivered, and time goes on")
    return Exit.OK


def show_held(config: Config, options: str, *, as_json: bool) -> int:
    steps = Steps(config, options).look()
    if as_json:
        click.echo(json.dumps({"v": 1, "hold": {str(node): hold for node, hold in sorted(steps.holds.items())}}))
        return Exit.OK
    waiting = steps.waiting
    for each in waiting:
        click.echo(str(each))
    more = sum(hold["count"] for hold in steps.held.values()) - len(waiting)
    if more:
        click.echo(f"... and {more} more")
    if not waiting:
        click.echo("nothing waits; `step next` lets time pass to the next timer")
    return Exit.OK


def go_on(config: Config, options: str, number: int, *, as_json: bool) -> int:
    steps = Steps(config, options)
    for _ in range(number):
        said = _try(steps.look().next)
        click.echo(json.dumps({"v": 1, "step": said}) if as_json else said)
    return Exit.OK


def let_go(config: Config, options: str, message: str, how: str, *, as_json: bool) -> int:
    found = _NAME.fullmatch(message)
    if found is None or int(found[1]) not in map(int, config.ids):
        raise UserError(f"{message!r} names no message: say 2:7, as `step ls` does", exit_code=Exit.USAGE)
    node, id = int(found[1]), int(found[2])
    _try(lambda: Steps(config, options).post(node, "/deliver", {"id": id, "how": how}))
    done = {"deliver": "delivered", "drop": "dropped", "duplicate": "delivered, and it waits on:"}[how]
    click.echo(json.dumps({"v": 1, "node": node, "id": id, "how": how}) if as_json else f"{done} {message}")
    return Exit.OK


def _try(work: Any) -> Any:
    try:
        return work()
    except NoAnswer as error:
        raise UserError(str(error), exit_code=Exit.UNREACHABLE) from None
