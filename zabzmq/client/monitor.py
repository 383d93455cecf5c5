"""The commit stream: every committed transaction once and in order, across leader changes (PROTOCOL 7.3, C4).

Listens to every node's PUB for `tx` (what the leader applied) and `hb`. A subscriber may miss any of it, so a hole in
`prev`, or a heartbeat that tells of more applied than was seen, is answered by asking any node for the range. A
committed transaction is final: it does not matter who tells of it. Rendering is left to cli/client_monitor.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, TypeAlias

import zmq

from zabzmq.client.connection import Connections
from zabzmq.core.messages import Heartbeat, Phase, State
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import UNREADABLE, Operation, Register, Result, decode_results, decode_runs
from zabzmq.net.client_wire import (
    TOPIC_COMMITTED,
    Committed,
    NodeStatus,
    Range,
    RangeReply,
    StatusQuery,
    decode_committed,
)
from zabzmq.net.wire import PUB, Wire, WireError

TOPIC_HEARTBEAT: Final = b"hb"
GRACE_MS: Final = 30.0  # what is on its way from another socket needs no asking for
RANGE_PATIENCE_MS: Final = 500.0
SILENCE_MS: Final = 1_000.0
STATUS_WAIT_MS: Final = 500.0
PENDING_MAX: Final = 4096


class Transaction(NamedTuple):
    """`operation` None: an ADMIT. `digest` is of the state after the batch, told with its last transaction.
    `known`: whether the result is still kept."""

    zxid: Zxid
    prev: Zxid
    name: str
    operation: Operation | None
    result: Result
    known: bool
    time_ms: int
    digest: int | None


class Gap(NamedTuple):
    """What followed `after` is purged everywhere asked; the oldest transaction left follows `oldest`."""

    after: Zxid
    oldest: Zxid


class Fetched(NamedTuple):
    """These were missed and have been fetched from this node; the transactions themselves follow."""

    first: Zxid
    last: Zxid
    node: int


class LeaderLost(NamedTuple):
    leader: int


class LeaderChange(NamedTuple):
    """A leader is established. `former` and `ms`: who led before, and for how long nobody was heard to."""

    leader: int
    epoch: int
    former: int | None
    ms: float | None


Event: TypeAlias = Transaction | Gap | Fetched | LeaderLost | LeaderChange


class Monitor:
    """`pump` returns what is new. `since`: begin after this zxid; None: at the highest applied when we come."""

    def __init__(
        self,
        clients: Mapping[int, str],
        publishers: Mapping[int, str],
        cluster: str = "demo",
        since: Zxid | None = None,
        *,
        clock: Callable[[], float] = lambda: time.monotonic() * 1000.0,
    ) -> None:
        self.position = since
        self.in_touch = False  # any node of this cluster has been heard
        self.foreign: dict[int, str] = {}  # nodes of another cluster, and its name
        self.dropped = 0
        self._cluster = cluster
        self._wire = Wire(cluster)
        self._clock = clock
        self._links = Connections(clients)
        self._subscriber = self._links.subscriber()
        for option, value in (
            (zmq.RCVHWM, 1000),
            (zmq.RECONNECT_IVL, 20),
            (zmq.RECONNECT_IVL_MAX, 500),
            (zmq.HEARTBEAT_IVL, 1000),
            (zmq.HEARTBEAT_TIMEOUT, 1000),
            (zmq.MAXMSGSIZE, 4 << 20),
        ):
            self._subscriber.setsockopt(option, value)
        for topic in (TOPIC_COMMITTED, TOPIC_HEARTBEAT):
            self._subscriber.subscribe(topic)
        for endpoint in publishers.values():
            self._subscriber.connect(endpoint)
        self._events: list[Event] = []
        self._pending: dict[Zxid, Committed] = {}  # by `prev`, ahead of `position`
        self._applied: dict[int, Zxid] = {}  # what each node told last
        self._ahead_since: float | None = None
        self._caught_up = False  # what is fetched before is no hole, it is what `since` asked for
        self._rid = 0
        self._range: tuple[int, int, float] | None = None  # rid, node and patience of the one under way
        self._turn = 0
        self._status: dict[int, int] = {}  # rid of the status query, by node that is connected
        self._ours: set[int] = set()  # those of them that have said they are of this cluster
        self._status_at: float | None = None
        self._heard_at = clock()
        self._asked_at = clock()
        self._leader: tuple[int, int] | None = None  # node and epoch
        self._former: int | None = None
        self._leader_at = clock()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._subscriber.close()
        self._links.close()

    def pump(self, timeout_ms: float = 0.0) -> list[Event]:
        """What is new, in order; waits at most so long for the first of it."""
        end = self._clock() + timeout_ms
        while True:
            self._listen()
            for node, reply in self._links.receive(None):
                if isinstance(reply, RangeReply):
                    self._on_range(node, reply)
                elif isinstance(reply, NodeStatus):
                    self._on_status(node, reply)
            for node, up in self._links.changes:
                if not up:
                    self._status.pop(node, None)
                    self._ours.discard(node)
            self._links.changes.clear()
            now = self._clock()
            self._act(now)
            if self._events or now >= end:
                events, self._events = self._events, []
                return events
            self._links.wait(min(end - now, self._next_look(now)), None)

    def _next_look(self, now: float) -> float:
        if self.position is None or self._range is not None:
            return 20.0
        if self._ahead_since is not None:
            return max(0.0, self._ahead_since + GRACE_MS - now)
        return 100.0

    # ---- PUB -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for _ in range(256):
            try:
                frames = self._subscriber.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if frames[0] == TOPIC_COMMITTED:
                    _, committed = decode_committed(frames, self._cluster)
                    self._take(committed)
                else:
                    envelope, message = self._wire.decode(frames[1:], PUB)
                    if isinstance(message, Heartbeat):
                        self._on_heartbeat(envelope.source.peer, message)
            except WireError:
                self.dropped += 1
                continue
            self.in_touch = True
            self._heard_at = self._clock()

    def _on_heartbeat(self, node: int, beat: Heartbeat) -> None:
        self._applied[node] = beat.applied
        now = self._clock()
        leads = beat.state == State.LEADING and beat.phase == Phase.BROADCAST
        if leads and (self._leader is None or beat.epoch > self._leader[1]):
            former = self._former if self._leader is None else self._leader[0]
            silent = None if former is None else now - self._leader_at
            self._leader = (node, beat.epoch)
            self._events.append(LeaderChange(node, beat.epoch, former, silent))
        if self._leader is not None and node == self._leader[0]:
            if leads and beat.epoch == self._leader[1]:
                self._leader_at = now
            elif not leads:
                self._lose_leader()

    def _lose_leader(self) -> None:
        assert self._leader is not None
        self._former = self._leader[0]
        self._leader = None
        self._events.append(LeaderLost(self._former))

    # ---- order ---------------------------------------------------------------------------------------------------

    def _take(self, committed: Committed) -> None:
        """A committed batch from anywhere: show it if it is next, keep it if it is ahead, drop it if it is old."""
        first, prev = Zxid(*committed.first), Zxid(*committed.prev)
        last = Zxid(first.epoch, first.counter + committed.count - 1)
        if self.position is not None and last <= self.position:
            return
        if self.position is None or prev > self.position:
            if len(self._pending) < PENDING_MAX:
                self._pending[prev] = committed
            return
        self._show(committed)
        while (following := self._pending.pop(self.position, None)) is not None:
            self._show(following)
        if self._pending and min(self._pending) < self.position:
            self._pending = {prev: ahead for prev, ahead in self._pending.items() if prev > self.position}

    def _show(self, committed: Committed) -> None:
        assert self.position is not None
        try:
            transactions = list(_transactions(committed))
        except UNREADABLE:
            self.dropped += 1  # its place is not moved over: the range is asked of others
            return
        self._events += [t for t in transactions if t.zxid > self.position]  # `since` may lie inside a batch
        self.position = transactions[-1].zxid

    # ---- asking --------------------------------------------------------------------------------------------------

    def _act(self, now: float) -> None:
        if self._leader is not None and now - self._leader_at > SILENCE_MS:
            self._lose_leader()
        self._ask_status(now)
        if self.position is None:
            self._find_position(now)
            return
        if self._range is not None and now > self._range[2]:
            self._range = None
        known = max((*self._applied.values(), *self._pending), default=ZERO)
        if known <= self.position:
            self._ahead_since = None
            self._caught_up = self._caught_up or bool(self._applied)
            quiet = max(self._heard_at, self._asked_at)
            if now - quiet > SILENCE_MS:  # PUB is cut, or everybody is down: ask without being told
                self._ask_range(now)
            return
        if self._ahead_since is None:
            self._ahead_since = now
        if now - self._ahead_since >= GRACE_MS:
            self._ask_range(now)

    def _ask_status(self, now: float) -> None:
        """A Range does not name its cluster, so nobody is asked for one who has not said whose it is."""
        for node, connection in self._links.by_node.items():
            if connection.up and node not in self._status:
                self._rid += 1
                if self._links.send(node, StatusQuery(self._rid)):
                    self._status[node] = self._rid
                    self._status_at = self._status_at or now

    def _find_position(self, now: float) -> None:
        """The highest applied of all that answer soon; of the first to answer, if that takes longer."""
        answered = [node for node in self._status if node in self._applied]
        missing = [n for n, c in self._links.by_node.items() if n not in answered and not c.refused]
        if answered and self._status_at is not None and (not missing or now - self._status_at > STATUS_WAIT_MS):
            self.position = max(self._applied[node] for node in answered)
            pending, self._pending = self._pending, {}
            for prev in sorted(pending):
                self._take(pending[prev])

    def _on_status(self, node: int, status: NodeStatus) -> None:
        if status.cluster != self._cluster:
            self.foreign[node] = status.cluster
            return
        self.in_touch = True
        self.foreign.pop(node, None)
        self._ours.add(node)
        self._applied[node] = max(self._applied.get(node, ZERO), Zxid(*status.applied))

    def _ask_range(self, now: float) -> None:
        if self._range is not None or self.position is None:
            return
        up = [node for node, connection in self._links.by_node.items() if connection.up and node in self._ours]
        able = [node for node in up if self._applied.get(node, ZERO) > self.position] or up
        if not able:
            return
        self._turn += 1
        node = able[self._turn % len(able)]
        self._rid += 1
        self._asked_at = now
        if self._links.send(node, Range(self._rid, self.position, ZERO)):
            self._range = (self._rid, node, now + RANGE_PATIENCE_MS)

    def _on_range(self, node: int, reply: RangeReply) -> None:
        if self._range is None or reply.rid != self._range[0] or self.position is None:
            return
        self._range = None
        self._applied[node] = max(self._applied.get(node, ZERO), Zxid(*reply.applied))
        if reply.purged is not None and Zxid(*reply.purged) > self.position:
            oldest = Zxid(*reply.purged)
            self._events.append(Gap(self.position, oldest))
            self.position = oldest
        before, mark = self.position, len(self._events)
        for committed in reply.batches:
            self._take(committed)
        if self.position > before:
            fresh = self._events[mark:]
            first = next(event.zxid for event in fresh if isinstance(event, Transaction))
            ends = [Zxid(c.first[0], c.first[1] + c.count - 1) for c in reply.batches]
            if self._caught_up:
                self._events.insert(mark, Fetched(first, max(ends), node))
            self._ahead_since = self._clock() - GRACE_MS  # more to fetch: at once
        else:
            self._ahead_since = None  # nothing there: look again after the grace, elsewhere


def _transactions(committed: Committed) -> Iterator[Transaction]:
    """The transactions of one batch. Raises UNREADABLE."""
    epoch, counter = committed.first
    prev = Zxid(*committed.prev)
    last = counter + committed.count - 1
    if committed.admit is not None:
        zxid = Zxid(epoch, counter)
        yield Transaction(zxid, prev, "", None, None, True, committed.time_ms, committed.digest)
        return
    for place, run in enumerate(decode_runs(committed.data)):
        name = committed.names[place] if place < len(committed.names) else ""
        kept = committed.results is not None and place < len(committed.results)
        results = decode_results(committed.results[place]) if kept and committed.results is not None else []
        for at, operation in enumerate(run.ops):
            who = operation.name if isinstance(operation, Register) else name
            zxid = Zxid(epoch, counter)
            known = at < len(results)
            digest = committed.digest if counter == last and committed.digest else None  # 0: no longer known
            result = results[at] if known else None
            yield Transaction(zxid, prev, who, operation, result, known, committed.time_ms, digest)
            prev = zxid
            counter += 1
