"""`cluster kill` and its kin: asks the supervisor, or says what to do where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from heapq import merge
from pathlib import Path
from typing import Any, Final, TextIO

import click

from zabzmq.cli import colour
from zabzmq.cli.asking import LOOPBACK, NoAnswer, get, hints, post, reason, token_in
from zabzmq.cli.common import Exit, UserError, interrupt_on_sigterm
from zabzmq.cli.server_status import ask
from zabzmq.client.client import Client
from zabzmq.cluster.orders import LEADER, ON_ALL, WORDS, done_in_words, instead
from zabzmq.server.config import SUPERVISOR_OFFSET, Config

LOOK_MS: Final = 500.0
FOLLOW_EVERY_S: Final = 0.2
EXITS: Final = {400: Exit.USAGE, 404: Exit.NOT_DONE, 503: Exit.UNKNOWN}


def order(config: Config, options: str, verb: str, target: str, *, as_json: bool) -> int:
    """Have the supervisor do it."""
    ids = [str(node) for node in config.ids]
    if verb not in ON_ALL and target not in (*ids, *WORDS):
        raise UserError(
            f'there is no node {target!r} in cluster "{config.cluster}"',
            f"say one of {' '.join((*ids, *WORDS))}",
            exit_code=Exit.USAGE,
        )
    port = config.base_port + SUPERVISOR_OFFSET
    if _supervisor(config) is None:
        return _without_supervisor(config, options, verb, target)
    try:
        status, said = post(LOOPBACK, port, f"/{verb}", {"target": target}, token_in(config.log_dir))
    except NoAnswer as error:
        raise UserError(
            str(error),
            f"what was ordered may have been done: python zookeeper_server.py{options} cluster ps",
            exit_code=Exit.UNKNOWN,
        ) from None
    if status != 200:
        why = hints(said, config.log_dir, "the supervisor")
        raise UserError(reason(said), *why, exit_code=EXITS.get(status, Exit.ERROR))
    click.echo(json.dumps(said) if as_json else done_in_words(said))
    return Exit.OK


def supervisor_of(config: Config) -> dict[str, Any] | None:
    """The state of this cluster's supervisor; None if none answers there."""
    try:
        state = get(LOOPBACK, config.base_port + SUPERVISOR_OFFSET, "/state")
    except NoAnswer:
        return None
    return state if state.get("cluster") == config.cluster and "supervisor" in state else None


def _supervisor(config: Config) -> dict[str, Any] | None:
    """The state of this cluster's supervisor; None if nobody listens there. Raises UserError for somebody else."""
    port = config.base_port + SUPERVISOR_OFFSET
    try:
        state = get(LOOPBACK, port, "/state")
    except NoAnswer as error:
        if not error.listens:
            return None
        raise UserError(f"what listens on {LOOPBACK}:{port} is no supervisor, or stands still") from None
    if state.get("cluster") != config.cluster:
        raise UserError(
            f'the supervisor on {LOOPBACK}:{port} is of cluster "{state.get("cluster")}", not of "{config.cluster}"',
            f"try: --cluster {state.get('cluster')}",
        )
    return state


# ---- without a supervisor


def _nobody(config: Config, options: str) -> UserError:
    return UserError(
        f"no supervisor listens on {LOOPBACK}:{config.base_port + SUPERVISOR_OFFSET}.",
        f"start one:  python zookeeper_server.py{options} cluster up    (other ports? set ZAB_BASE_PORT)",
        exit_code=Exit.UNREACHABLE,
    )


def _look(config: Config) -> dict[str, Any]:
    with Client(config.client_endpoints, cluster=config.cluster) as client:
        return ask(client, config, LOOK_MS)


def _without_supervisor(config: Config, options: str, verb: str, target: str) -> int:
    """Nodes that were started by hand are told of, with what to type; with none at all, how to start some."""
    status = _look(config)
    pids = {node["node"]: node["pid"] for node in status["nodes"] if node["up"]}
    if verb == "reset" and not pids:
        return _delete_data(config)
    if not pids:
        raise _nobody(config, options)
    chosen = sorted(pids) if verb in ON_ALL else [_one_of(target, status, pids)]
    lines = [instead(verb, node, pids[node], options) for node in chosen if node in pids]
    if not lines:
        up = f"type: python zookeeper_server.py{options} node {chosen[0]}"
        raise UserError(f"node {chosen[0]} is down, and no supervisor runs that could start it", up)
    raise UserError("no supervisor runs: " + lines[0], *lines[1:])


def _one_of(target: str, status: dict[str, Any], pids: dict[int, int]) -> int:
    leader: int | None = status["leader"]
    if target == LEADER:
        if leader is None:
            raise UserError("there is no leader now, and no supervisor", exit_code=Exit.NOT_DONE)
        return leader
    if target in WORDS:
        return next((node for node in sorted(pids) if node != leader), min(pids))
    return int(target)


def _delete_data(config: Config) -> int:
    """`reset` of a cluster that is down: what its nodes must not lose, lost on purpose."""
    for node in config.ids:
        if _is_used(config.node_data_dir(node)):
            raise UserError(f"{config.node_data_dir(node)} is in use: node {node} runs. Stop it first")
    for node in config.ids:
        try:
            shutil.rmtree(config.node_data_dir(node))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be deleted: {error.strerror}") from None
    click.echo(f"no node runs; the data of all in {config.data_dir}/ is deleted")
    return Exit.OK


def _is_used(directory: Path) -> bool:
    try:
        fd = os.open(directory / "LOCK", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


# ---- ps


def show_processes(config: Config, options: str, *, as_json: bool) -> int:
    """Every node's process: of the supervisor, or those that answer."""
    state = _supervisor(config)
    if state is None:
        nodes = _look(config)["nodes"]
        if not any(node["up"] for node in nodes):
            raise _nobody(config, options)
        state = {"v": 1, "supervisor": None, "cluster": config.cluster, "base_port": config.base_port}
        state["nodes"] = [
            {
                "id": node["node"],
                "pid": node["pid"] if node["up"] else None,
                "state": "running" if node["up"] else "down",
                "code": None,
                "owned": False,
            }
            for node in nodes
        ]
    if as_json:
        click.echo(json.dumps(state))
        return Exit.OK
    _show_table(state)
    return Exit.OK


def _show_table(state: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("NODE", "PROCESS", "PID", "ENDED WITH", "STARTED", box=box.SIMPLE_HEAD, show_edge=False)
    for node in state["nodes"]:
        by = "" if node["state"] == "down" else "here" if node["owned"] else "by hand"
        table.add_row(*(_cell(value) for value in (node["id"], node["state"], node["pid"], node["code"], by)))
    who = "no supervisor" if state["supervisor"] is None else f"supervisor {state['supervisor']}"
    click.echo(f'cluster "{state["cluster"]}", {who}')
    colour.console().print(table)


def _cell(value: object) -> str:
    return "-" if value in (None, "") else str(value)


# ---- logs


def show_logs(config: Config, nodes: Sequence[int], number: int, *, follow: bool) -> int:
    """The newest lines for people, of all nodes in the order of their time of day."""
    for node in nodes:
        config.listen(node)
    followed = [_Followed(config.log_dir / f"node-{node}.log") for node in nodes or config.ids]
    if not follow and not any(each.path.exists() for each in followed):
        raise UserError(f"{config.log_dir} has no logs of these nodes", "is it the --log-dir they were started with?")
    with ExitStack() as leaving:
        for each in followed:
            leaving.callback(each.close)
        lines = list(merge(*(each.new_lines() for each in followed)))
        for line in lines[max(0, len(lines) - number) :]:
            click.echo(line)
        interrupt_on_sigterm()
        try:
            while follow:
                time.sleep(FOLLOW_EVERY_S)
                for line in merge(*(each.new_lines() for each in followed)):
                    click.echo(line)
        except KeyboardInterrupt:
            pass
    return Exit.OK


class _Followed:
    """One log file that grows, is rotated, deleted and made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def new_lines(self) -> list[str]:
        """Whole lines since the last call."""
        lines: list[str] = []
        if self._file is not None:
            lines = self._read()
            if not self._is_current():
                lines += self._read()
                self.close()
        if self._file is None:
            try:
                self._file = self.path.open(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return lines
            lines += self._read()
        return lines

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> list[str]:
        assert self._file is not None
        lines: list[str] = []
        while True:
            place = self._file.tell()
            line = self._file.readline()
            if not line.endswith("\n"):
                self._file.seek(place)
                return lines
            lines.append(line[:-1])

    def _is_current(self) -> bool:
        assert self._file is not None
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except OSError:
            return False
