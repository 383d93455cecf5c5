"""Simulated clients: sessions that pipeline, look for the leader, retry under the same number, and keep a record.

The rules are C4's: a timeout or UNKNOWN means "it may yet commit", so the same (session, seq) is asked again, of
another node, until a final answer. The record (trace/checker.py `Call`) is what the linearizability check reads.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from msgspec import Raw

from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    Answer,
    Cas,
    Delete,
    GameQuery,
    Gone,
    Guess,
    KvQuery,
    KvValue,
    Put,
    Query,
    Registered,
    Result,
    SessionId,
    SessionOperation,
    Target,
    decode_answers,
    decode_results,
    encode,
)
from zabzmq.net.client_wire import Answers, ClientReply, ClientRequest, Done, No, ReadMany, RegisterSession, Submit
from zabzmq.trace.checker import UNKNOWN, Call

ATTEMPT = 300.0  # ms before another node is tried
PATIENCE = 60_000  # timeout_left told to the server, ms


class Service(Protocol):
    """What a client needs of the world."""

    dice: Random
    now: float

    def later(self, delay: float, act: Callable[..., None], *about: Any) -> None: ...
    def ask(self, client: SimClient, node: PeerId, request: ClientRequest) -> None: ...
    def place(self, session: SessionId, seq: int) -> Zxid | None: ...
    def told(self, node: PeerId, session: Zxid, seq: int, results: list[Result]) -> None: ...
    def read_told(self, node: PeerId, min_zxid: Zxid, zxid: Zxid) -> None: ...


class Pending:
    """An operation of the session that has no final answer."""

    __slots__ = ("called", "op")

    def __init__(self, op: SessionOperation, called: float) -> None:
        self.op = op
        self.called = called


class Reading:
    """A question without an answer; each attempt has a rid of its own."""

    __slots__ = ("called", "linear", "min_zxid", "node", "query")

    def __init__(self, query: Query, linear: bool, node: PeerId, min_zxid: Zxid, called: float) -> None:
        self.query = query
        self.linear = linear
        self.node = node
        self.min_zxid = min_zxid
        self.called = called


class SimClient:
    """One client. `total` operations and reads in all, at most `window` operations outstanding."""

    def __init__(
        self, service: Service, index: int, nodes: tuple[PeerId, ...], total: int, window: int, keys: int, think: float
    ) -> None:
        self.service = service
        self.dice = service.dice
        self.index = index
        self.address = b"c%d" % index
        self.name = f"client-{index}"
        self.nodes = nodes
        self.left = total
        self.window = window
        self.keys = keys
        self.think = think
        self.stubborn = self.dice.random() < 0.3  # asks any node it likes, hints or not
        self.node = self.dice.choice(nodes)
        self.session: SessionId | None = None
        self.rid = 0
        self.register_rid = 0
        self.next_seq = 1
        self.pending: dict[int, Pending] = {}
        self.kept: dict[int, SessionOperation] = {}  # everything from the oldest pending on
        self.reads: dict[int, Reading] = {}
        self.record: list[Call] = []
        self.counter = 0
        self.seen_value: dict[bytes, bytes | None] = {}
        self.seen_zxid = Zxid(0, 0)
        self.attempt = 0  # a number for the present attempt; timers of older ones do nothing
        self.retry_queued = False
        self.given_up = False

    @property
    def done(self) -> bool:
        return self.given_up or (self.left <= 0 and not self.pending and not self.reads)

    def start(self) -> None:
        self._register()

    # ---- asking --------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        self.rid += 1
        self.register_rid = self.rid
        self.service.ask(self, self.node, RegisterSession(self.rid, self.name, PATIENCE))
        self._watch()

    def _watch(self) -> None:
        """Another node, if this attempt brings nothing in time."""
        self.attempt += 1
        attempt = self.attempt

        def late() -> None:
            if attempt == self.attempt and (self.session is None or self.pending):
                self._elsewhere(None)
                self._retry(0.0)

        self.service.later(ATTEMPT * (0.7 + 0.6 * self.dice.random()), late)

    def _elsewhere(self, hint: int | None) -> None:
        if hint is not None and not (self.stubborn and self.dice.random() < 0.5):
            self.node = PeerId(hint)
        else:
            self.node = self.dice.choice(self.nodes)

    def _retry(self, delay: float) -> None:
        if self.retry_queued:
            return
        self.retry_queued = True

        def again() -> None:
            self.retry_queued = False
            if self.session is None:
                self._register()
            elif self.pending:
                self._submit(min(self.pending))

        self.service.later(delay, again)

    def _submit(self, seq: int) -> None:
        """Everything from `seq` on in one breath (all of it has been asked before, or is asked now)."""
        assert self.session is not None
        ops = [self.kept[s] for s in range(seq, self.next_seq)]
        acked = min(self.pending, default=self.next_seq)
        self.service.ask(self, self.node, Submit(self.session, seq, acked, PATIENCE, Raw(encode(ops))))
        self._watch()

    def _work(self) -> None:
        """Think, then ask the next things."""
        if self.session is None or self.left <= 0:
            return
        room = self.window - len(self.pending)
        if room > 0:
            count = min(self.left, self.dice.randint((room + 1) // 2, room))
            self.left -= count
            writes = 0
            for _ in range(count):
                if self.dice.random() < 0.3:
                    self._read()
                else:
                    writes += 1
                    op = self._draw()
                    self.pending[self.next_seq] = Pending(op, self.service.now)
                    self.kept[self.next_seq] = op
                    self.next_seq += 1
            if writes:
                self._submit(self.next_seq - writes)
        self._think()

    def _think(self) -> None:
        if self.left > 0:
            self.service.later(self.think * (0.2 + 1.6 * self.dice.random()), self._work)

    def _draw(self) -> SessionOperation:
        roll = self.dice.random()
        self.counter += 1
        key = b"k%d" % self.dice.randrange(self.keys)
        value = b"%d.%d" % (self.index, self.counter)
        if roll < 0.4:
            return Put(key, value)
        if roll < 0.7:
            return Cas(key, self.seen_value.get(key), value)
        if roll < 0.8:
            return Delete(key)
        if roll < 0.87:
            return Target(self.dice.randint(0, 100), self.dice.random() < 0.5)
        return Guess(self.dice.randint(0, 100))

    def _read(self) -> None:
        query: Query = GameQuery() if self.dice.random() < 0.2 else KvQuery(b"k%d" % self.dice.randrange(self.keys))
        linear = self.dice.random() < 0.7
        node = self.node if self.dice.random() < 0.6 else self.dice.choice(self.nodes)
        self._ask_read(Reading(query, linear, node, self.seen_zxid, self.service.now))

    def _ask_read(self, reading: Reading) -> None:
        self.rid += 1
        rid = self.rid
        self.reads[rid] = reading
        timeout = int(ATTEMPT)
        queries = Raw(encode([reading.query]))
        self.service.ask(self, reading.node, ReadMany(rid, reading.linear, reading.min_zxid, timeout, queries))
        self.service.later(ATTEMPT * (1 + 0.3 * self.dice.random()), self._read_again, rid)

    def _read_again(self, rid: int) -> None:
        reading = self.reads.pop(rid, None)
        if reading is not None:
            reading.node = self.dice.choice(self.nodes)
            self._ask_read(reading)

    # ---- hearing -------------------------------------------------------------------------------------------------

    def hear(self, node: PeerId, reply: ClientReply) -> None:
        match reply:
            case Done():
                self._on_done(node, reply)
            case Answers():
                self._on_answers(node, reply)
            case No(rid=rid) if rid in self.reads:
                self._on_read_refused(rid, reply)
            case No(rid=rid) if rid and rid == self.register_rid and self.session is None:
                self._elsewhere(reply.leader)
                self._retry(20 + 80 * self.dice.random())
            case No(session=session) if session == self.session:
                self._on_no(reply)
            case _:
                pass  # of an attempt given up long ago

    def _on_done(self, node: PeerId, done: Done) -> None:
        results = decode_results(done.results)
        if done.session == NO_SESSION:
            if self.session is None and done.rid == self.register_rid and isinstance(results[0], Registered):
                self.session = results[0].session
                self.attempt += 1
                self._work()
            return
        if done.session != self.session:
            return
        self.service.told(node, Zxid(*done.session), done.seq, results)
        for seq, result in enumerate(results, done.seq):
            pending = self.pending.pop(seq, None)
            if pending is None:
                continue
            self._learn(pending.op, result)
            self._note(pending.called, pending.op, result, self.service.now, self.service.place(done.session, seq))
        if tuple(done.zxid) != (0, 0):
            self.seen_zxid = max(self.seen_zxid, Zxid(done.zxid[0], done.zxid[1] + len(results) - 1))
        oldest = min(self.pending, default=self.next_seq)
        for seq in [s for s in self.kept if s < oldest]:
            del self.kept[seq]
        if self.pending:
            self._watch()
        elif self.left > 0 and self.dice.random() < 0.5:
            self._work()

    def _learn(self, op: SessionOperation, result: Result) -> None:
        match op:
            case Put(key=key, value=value):
                self.seen_value[key] = value
            case Cas(key=key, value=value) if result is None:
                self.seen_value[key] = value
            case Delete(key=key):
                self.seen_value[key] = None

    def _note(
        self,
        called: float,
        asked: SessionOperation | Query,
        answer: Result | Answer,
        returned: float,
        place: tuple[int, int] | None = None,
    ) -> None:
        self.record.append(Call(self.name, called, returned, asked, answer, place))

    def _on_answers(self, node: PeerId, reply: Answers) -> None:
        reading = self.reads.pop(reply.rid, None)
        if reading is None:
            return
        (answer,) = decode_answers(reply.answers)
        zxid = Zxid(*reply.zxid)
        if reading.linear:
            self._note(reading.called, reading.query, answer, self.service.now, reply.zxid)
        else:
            self.service.read_told(node, max(reading.min_zxid, Zxid(0, 0)), zxid)
        self.seen_zxid = max(self.seen_zxid, zxid)
        if isinstance(reading.query, KvQuery) and isinstance(answer, KvValue):
            self.seen_value[reading.query.key] = answer.value

    def _on_read_refused(self, rid: int, no: No) -> None:
        reading = self.reads.pop(rid)

        def again() -> None:
            reading.node = PeerId(no.leader) if no.leader is not None else self.dice.choice(self.nodes)
            self._ask_read(reading)

        reading_rid = -rid  # keeps the client from being done while it waits
        self.reads[reading_rid] = reading

        def after_a_while() -> None:
            self.reads.pop(reading_rid, None)
            again()

        self.service.later(20 + 100 * self.dice.random(), after_a_while)

    def _on_no(self, no: No) -> None:
        if not any(seq in self.pending for seq in range(no.seq, no.seq + max(no.count, 1))):
            return  # speaks of what has its answer already
        match no.why:
            case "expired_client":
                # C4: earlier attempts stay unknown, for ever.
                self.close()
                self.given_up = True
            case "seq_gap":
                if no.expected is not None and no.expected in self.pending:
                    self._retry(1.0)
                else:
                    self._elsewhere(None)  # a stale leader
                    self._retry(20 + 80 * self.dice.random())
            case "busy" | "not_executed":
                self._retry(20 + 80 * self.dice.random())
            case _:
                self._elsewhere(no.leader)
                self._retry((5 if no.leader is not None else 20) + 80 * self.dice.random())

    def close(self) -> None:
        """The end of the run: what has no answer is unknown."""
        for seq, pending in self.pending.items():
            place = self.service.place(self.session, seq) if self.session else None
            self._note(pending.called, pending.op, Gone(), UNKNOWN, place)
        self.pending.clear()
