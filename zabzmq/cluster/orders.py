"""What people may have done to the nodes of a supervisor, and to which one (docs/control.md, section 1).

A node that was started by hand is nobody's child: it is left alone, and people are told what to type instead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from zabzmq.cluster.supervisor import Supervisor
from zabzmq.core.errors import StorageError, ZabError
from zabzmq.server.config import Config

LEADER: Final = "leader"
FOLLOWER: Final = "follower"
ANY: Final = "any"
WORDS: Final = (LEADER, FOLLOWER, ANY)
ON_NODES: Final = ("kill", "restart", "pause", "resume", "powercut")
ON_ALL: Final = ("reset", "down")
ELECTION_MS: Final = 1_500.0
"""How long an order to the leader waits for one: an election takes less, and so does finding a node just started."""


class Refused(ZabError):
    """An order that is not carried out. `status`, as in HTTP: 400 it makes no sense, 404 it is meant for nobody
    at this moment, 409 not now or not by us."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Seen(NamedTuple):
    """The cluster as its nodes tell it: who leads, the process ids of those that answer, and whether any is held."""

    leader: int | None
    pids: Mapping[int, int]
    held: bool = False


def instead(verb: str, node: int, pid: int, options: str) -> str:
    """What to do by hand to a node that was started by hand."""
    typed = {
        "kill": f"type: kill -9 {pid}",
        "pause": f"type: kill -STOP {pid}",
        "resume": f"type: kill -CONT {pid}",
        "restart": f"type: kill {pid}; python zookeeper_server.py{options} node {node}",
        "powercut": "power can be cut only by the supervisor that started it",
        "down": f"type: kill {pid}",
        "reset": f"stop it first: kill {pid}",
    }
    return f"node {node} (pid {pid}) was started by hand; {typed[verb]}"


class Orders:
    """Carries out one order after another, for `look` says who leads at that moment. Belongs to one thread."""

    def __init__(
        self, config: Config, supervisor: Supervisor, look: Callable[[float], Seen], options: str, dice: random.Random
    ) -> None:
        """`look`: the cluster as it is, or as it is once somebody leads, if that takes no more than so many
        milliseconds. `options`: what a command that people are told to type needs, to mean this cluster."""
        self.brought_down: set[int] = set()
        """Nodes that are down because it was ordered."""
        self._config = config
        self._supervisor = supervisor
        self._look = look
        self._options = options
        self._dice = dice

    def perform(self, verb: str, target: str) -> dict[str, Any]:
        """Do it; the answer to who asked for it. Raises Refused."""
        try:
            if verb in ON_NODES:
                node = self._choose(verb, target)
                return {"v": 1, "node": node, **self._to_node(verb, node)}
            self._check_alone(verb)
            return {"v": 1, **self._to_all(verb)}
        except StorageError as error:
            raise Refused(409, str(error)) from None
        except OSError as error:
            raise Refused(409, f"{error.filename or verb}: {error.strerror}") from None

    def others(self, seen: Seen) -> dict[int, int]:
        """Nodes that answer and are not ours, with their process ids."""
        ours = self._supervisor.running()
        return {node: pid for node, pid in seen.pids.items() if ours.get(node) != pid}

    # ---- to whom

    def _choose(self, verb: str, target: str) -> int:
        ids = [int(node) for node in self._config.ids]
        if target not in WORDS and target not in map(str, ids):
            raise Refused(400, f"there is no {target!r} here: say one of {' '.join(map(str, ids))} {' '.join(WORDS)}")
        seen = self._look(ELECTION_MS if target == LEADER else 0.0)
        others = self.others(seen)
        if target == LEADER and seen.leader is None:
            raise Refused(404, "there is no leader now")
        if target in (LEADER, *map(str, ids)):
            node = seen.leader if target == LEADER else int(target)
            assert node is not None
            if node in others:
                raise Refused(409, instead(verb, node, others[node], self._options))
            why_not = self._why_not(verb, node)
            if why_not:
                raise Refused(409, f"node {node} {why_not}")
            return node
        fit = [node for node in ids if node not in others and not self._why_not(verb, node)]
        if target == FOLLOWER:
            fit = [node for node in fit if node != seen.leader]
        if verb == "restart":  # who is down needs it most
            fit = [node for node in fit if node not in self._supervisor.running()] or fit
        if not fit:
            raise Refused(404, f"there is no node to {verb} now")
        return self._dice.choice(fit)

    def _why_not(self, verb: str, node: int) -> str:
        """Why this cannot be done to it now, or nothing."""
        runs, paused = node in self._supervisor.running(), node in self._supervisor.paused
        if verb in ("kill", "pause", "resume") and not runs:
            return "is down already" if verb == "kill" else "is down"
        if verb == "pause" and paused:
            return "is paused already"
        if verb == "resume" and not paused:
            return "is not paused"
        return ""

    def _check_alone(self, verb: str) -> None:
        if verb == "reset":
            for node, pid in self.others(self._look(0.0)).items():
                raise Refused(409, instead(verb, node, pid, self._options))

    # ---- what

    def _to_node(self, verb: str, node: int) -> dict[str, Any]:
        supervisor = self._supervisor
        match verb:
            case "kill":
                supervisor.kill(node)
                self.brought_down.add(node)
                return {"done": "killed"}
            case "pause":
                supervisor.pause(node)
                return {"done": "paused"}
            case "resume":
                supervisor.resume(node)
                return {"done": "resumed"}
            case "powercut":
                lost = supervisor.cut_power(node)
                self.brought_down.add(node)
                return {"done": "powercut", "lost_bytes": lost.bytes, "undone": lost.changes}
        ran = node in supervisor.running()
        supervisor.stop_node(node)
        # Among nodes that are held (step mode) it is too, from its first message on.
        supervisor.start(node, *(["--step"] if self._look(0.0).held else []))
        self.brought_down.discard(node)
        return {"done": "restarted" if ran else "started", "pid": supervisor.running().get(node)}

    def _to_all(self, verb: str) -> dict[str, Any]:
        supervisor = self._supervisor
        supervisor.stop()
        if verb == "down":
            return {"done": "down"}
        for node in self._config.ids:
            supervisor.delete_data(node)
        supervisor.start_all()
        self.brought_down.clear()
        return {"done": "reset"}


def done_in_words(done: Mapping[str, Any]) -> str:
    """The answer to an order, for people."""
    if "node" not in done:
        return "all nodes stopped" if done["done"] == "down" else "all data deleted, all nodes started anew"
    words = {"powercut": "lost its power"}.get(done["done"], done["done"])
    more = ""
    if done["done"] == "powercut":
        lost, undone = done["lost_bytes"], done["undone"]
        more = f": {lost} bytes and {undone} changes of names were not synced, and are gone"
        if not lost and not undone:
            more = "; all it had written was synced"
    elif "pid" in done:
        more = f" (pid {done['pid']})"
    return f"node {done['node']} {words}{more}"


def process_states(config: Config, supervisor: Supervisor, others: Mapping[int, int]) -> list[dict[str, Any]]:
    """Every node's process, for GET /state and `cluster ps`. From any thread."""
    running, paused, codes = supervisor.running(), supervisor.paused, supervisor.codes
    told = []
    for node in config.ids:
        owned = node in running or node not in others
        pid = running.get(node) if owned else others[node]
        state = "down" if pid is None else "paused" if owned and node in paused else "running"
        told.append({"id": node, "pid": pid, "state": state, "code": codes.get(node), "owned": owned})
    return told
