"""A node as its observe endpoint shows it: joins server/observe.py to the parts of a running node and to the client."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

import zabzmq
from zabzmq.cli.node_faults import NodeFaults
from zabzmq.core.messages import Phase, State
from zabzmq.core.peer import Peer
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.machine.operations import decode_results, decode_runs
from zabzmq.net.client_wire import Committed, NodeStatus, RangeReply
from zabzmq.server.config import Config
from zabzmq.server.node import Node
from zabzmq.trace.event import EventObserver
from zabzmq.trace.words import vote_operands

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zabzmq.client.call import Call
    from zabzmq.client.client import Client

ENDS_TOLD: Final = 64
OPS_WAITING_MAX: Final = 64
LOG_TOLD_MAX: Final = 1000
PAGE: Final = "index.html"

Written = tuple[int, Mapping[str, Any]]


def page_path() -> Path | None:
    """index.html: beside the package in a checkout, or where an installation put it (setup.cfg)."""
    beside = Path(zabzmq.__file__).parents[1] / PAGE
    if beside.is_file():
        return beside
    from sysconfig import get_path

    installed = Path(get_path("data"), "share", "zabzmq", PAGE)
    return installed if installed.is_file() else None


# ---- what the node is now; called in its loop --------------------------------------------------------------------


def node_state(
    config: Config,
    node: Node,
    observer: EventObserver,
    status: NodeStatus,
    t: float,
    *,
    faults: NodeFaults | None,
    log_dropped: int,
    unsafe: list[str],
) -> dict[str, Any]:
    """GET /state: exactly what the events up to `seq` amount to (docs/events.md, section 4). `t` in milliseconds."""
    peer, now = node.peer, node.clock.now()
    told = msgspec.to_builtins(status)
    told.pop("rid")
    told.pop("type", None)
    vote = getattr(peer.phase, "vote", None) if peer.phase.phase is Phase.ELECTION else None
    leading = peer.phase.state is State.LEADING
    return {
        **told,
        "n": peer.id,
        "seq": observer.seq,
        "lc": observer.lamport.value,
        "t": round(t / 1000, 6),
        "wall_ms": node.clock.wall_ms(),
        "version": zabzmq.__version__,
        "role": told["state"],
        "quorum": peer.voters.needed,
        "round": peer.round,
        "vote": None if vote is None else vote_operands(vote),
        "proposed": peer.history.last,
        "ends": peer.history.ends[-ENDS_TOLD:],
        "tail": [{"z0": batch.first, "z": batch.last, "count": batch.count} for batch in observer.tail],
        "held": {str(voter): zxid for voter, zxid in peer.phase.acked_by_voter().items()} if leading else None,
        "peers": [_contact(peer, other, now) for other in sorted(peer.contacts)],
        "observe": {str(listen.id): f"{listen.host}:{listen.observe}" for listen in config.listens},
        "faults": faults is not None and faults.now,
        "hold": None if faults is None else faults.held,
        "log_dropped": log_dropped,
        "unsafe": unsafe,
    }


def _contact(peer: Peer, other: PeerId, now: float) -> dict[str, Any]:
    contact = peer.contacts[other]
    silent = round(now - contact.heard_at) if contact.process is not None else None
    return {"id": other, "connected": contact.mesh_up, "silent_ms": silent}


# ---- what was committed -------------------------------------------------------------------------------------------


def log_teller(reply: RangeReply, after: Zxid) -> Callable[[], dict[str, Any]]:
    """GET /log, from a range read in the loop: to be called elsewhere, as it decodes every operation."""
    return lambda: log_object(reply, after)


def log_object(reply: RangeReply, after: Zxid) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for committed in reply.batches:
        entries += [entry for entry in _entries(committed) if tuple(entry["zxid"]) > tuple(after)]
        if len(entries) >= LOG_TOLD_MAX:
            break
    entries = entries[:LOG_TOLD_MAX]
    last = entries[-1]["zxid"] if entries else after
    return {
        "v": 1,
        "n": reply.node,
        "from": after,
        "purged": reply.purged,
        "applied": reply.applied,
        "next": None if tuple(last) >= tuple(reply.applied) else f"{last[0]}.{last[1]}",
        "entries": entries,
    }


def _entries(committed: Committed) -> list[dict[str, Any]]:
    """One for each operation, as `client.py monitor --jsonl` has them."""
    from zabzmq.cli.client_monitor import event_object
    from zabzmq.client.monitor import Transaction

    (epoch, counter), prev, when = committed.first, Zxid(*committed.prev), committed.time_ms
    if committed.admit is not None:
        return [event_object(Transaction(Zxid(epoch, counter), prev, "", None, None, True, when, None))]
    entries = []
    for at, run in enumerate(decode_runs(committed.data)):
        known = committed.results is not None
        results = decode_results(committed.results[at]) if committed.results is not None else [None] * len(run.ops)
        for operation, result in zip(run.ops, results, strict=True):
            zxid = Zxid(epoch, counter)
            named = committed.names[at]
            entries.append(event_object(Transaction(zxid, prev, named, operation, result, known, when, None)))
            prev, counter = zxid, counter + 1
    return entries


# ---- what is done -------------------------------------------------------------------------------------------------


def crash() -> None:
    """kill -9, by our own hand: nothing is closed, nothing is said."""
    # A moment for the answer to get out; the loop goes on meanwhile, as it does until any crash.
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()


class Operations:
    """Does what POST /op asks for, as any client would: by this node's own client port, in a thread of its own.

    It asks this node alone. One that does not lead says who does, and the asker goes there.
    """

    def __init__(self, config: Config, node: int, leader: Callable[[], int | None]) -> None:
        """`leader` is whom this node takes for the leader; called in that thread."""
        self._config = config
        self._leader = leader
        self._node = node
        self._jobs: queue.SimpleQueue[tuple[bytes, Future[Written]] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, body: bytes) -> Future[Written]:
        from concurrent.futures import Future

        done: Future[Written] = Future()
        with self._lock:
            if self._waiting >= OPS_WAITING_MAX:
                done.set_result((503, _failure("busy", f"{self._waiting} operations wait already")))
                return done
            self._waiting += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="operations", daemon=True)
                self._thread.start()
        self._jobs.put((body, done))
        return done

    def _run(self) -> None:
        from zabzmq.client.client import Client

        with Client(self._config.client_endpoints, cluster=self._config.cluster, timeout_ms=5_000.0) as client:
            under_way: dict[Call, Future[Written]] = {}
            while True:
                self._begin(client, under_way)
                for call in client.pump(5.0):
                    self._end(client, call, under_way.pop(call))

    def _begin(self, client: Client, under_way: dict[Call, Future[Written]]) -> None:
        """Take what waits; while nothing is under way, wait for it."""
        while not under_way or not self._jobs.empty():
            job = self._jobs.get()
            if job is None:
                return
            body, done = job
            try:
                under_way[self._start(client, body)] = done
            except Exception as error:
                self._settle(done, 400, _failure(getattr(error, "code", "bad_request"), str(error)))

    def _start(self, client: Client, body: bytes) -> Call:
        from zabzmq.cli.client_batch import parse
        from zabzmq.machine.operations import GameQuery, KvQuery

        line, wish = parse(body)
        timeout_ms = None if line.timeout is None else line.timeout * 1000.0
        player = client.player(line.name or client.name, self._node)
        if isinstance(wish, GameQuery | KvQuery):
            linear = line.read != "local"
            return client.read(wish, player, linear=linear, node=self._node, timeout_ms=timeout_ms, tag=line.id)
        return client.submit(wish, player, timeout_ms=timeout_ms, tag=line.id)

    def _end(self, client: Client, call: Call, done: Future[Written]) -> None:
        from zabzmq.cli.client_output import outcome_object

        self._settle(done, 200, outcome_object(call, call.tag, self._leader()))

    def _settle(self, done: Future[Written], status: int, said: Mapping[str, Any]) -> None:
        with self._lock:
            self._waiting -= 1
        if done.set_running_or_notify_cancel():
            done.set_result((status, said))


def _failure(code: str, text: str) -> dict[str, Any]:
    return {"v": 1, "outcome": "not_done", "zxid": None, "result": None, "error": {"code": code, "text": text}}
