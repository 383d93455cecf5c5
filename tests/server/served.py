"""A Service with a state behind it and a test in the place of the core: it decides what is proposed and committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Raw

from zabzmq.core.effects import Busy, Moved
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Request
from zabzmq.core.messages import Phase, State
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import (
    Operation,
    Query,
    Registered,
    Result,
    SealedRun,
    SessionId,
    decode_results,
    encode,
)
from zabzmq.machine.state import AppliedRun, ReplicatedState
from zabzmq.net.client_wire import (
    ClientReply,
    Committed,
    Done,
    No,
    NodeStatus,
    Range,
    RangeReply,
    ReadMany,
    RegisterSession,
    Submit,
)
from zabzmq.server.service import Limits, Service

ENDPOINTS = {0: "tcp://a:1", 1: "tcp://b:1", 2: "tcp://c:1"}
ALICE = b"alice's socket"
TIMEOUT = 1000
ACKS = [0, 2]


class Served:
    """Node 0. `turn()` proposes and commits all there is; `propose()` and `commit()` are its halves."""

    def __init__(self, limits: Limits | None = None, *, leads: bool = True, max_clients: int = 10_000) -> None:
        self.now = 0.0
        self.state = ReplicatedState(max_clients)
        self.log: list[Batch] = []
        self.base = ZERO
        self.reads: list[Zxid] = []  # from where the log was read
        self.proposed: deque[Batch] = deque()
        self.applied: list[AppliedRun] = []
        self.committed: list[Committed] = []
        self.service = Service(
            node=PeerId(0),
            cluster="demo",
            endpoints=ENDPOINTS,
            state=self.state,
            status=self._status,
            batches=self._read,
            near=self._near,
            base=lambda: self.base,
            limits=limits,
        )
        self.epoch = 0
        self.last = ZERO
        if leads:
            self.lead()

    def _status(self, rid: int) -> NodeStatus:
        return NodeStatus(
            rid=rid, node=0, cluster="demo", state="LEADING", phase="BROADCAST", epoch=1, accepted_epoch=1, leader=0,
            established=True, last=ZERO, committed=ZERO, applied=ZERO, base=ZERO, snapshot=ZERO, digest="", joined=True,
            voters=[0, 1, 2], pid=1, uptime_ms=1, boot="", sessions=len(self.state.sessions), dropped={}, game={},
        )  # fmt: skip

    def _read(self, after: Zxid, upto: Zxid, bytes_max: int) -> Sequence[Batch]:
        """As storage reads: from the end of a batch on, whole batches up to `upto`."""
        if after < self.base or after not in {batch.prev for batch in self.log}:
            return []
        self.reads.append(after)
        found: list[Batch] = []
        for batch in self.log:
            if batch.prev >= after and batch.last <= upto and (sum(b.size for b in found) < bytes_max):
                found.append(batch)
        return found

    def _near(self, zxid: Zxid) -> Zxid:
        return max((batch.prev for batch in self.log if self.base <= batch.prev <= zxid), default=self.base)

    # ---- where this node is

    def lead(self, cut: Zxid = ZERO) -> None:
        """A new epoch of our own, established."""
        self.epoch += 1
        self.move(State.LEADING, Phase.BROADCAST, leader=0, cut=cut)

    def move(self, state: State, phase: Phase, leader: int | None, cut: Zxid = ZERO) -> None:
        process = None if leader is None else ProcessId(PeerId(leader), 1, 1)
        established = (state, phase) == (State.LEADING, Phase.BROADCAST)
        self.service.on_moved(Moved(state, phase, self.epoch, process, "test"), established, cut)

    def look(self) -> None:
        self.move(State.LOOKING, Phase.ELECTION, leader=None)

    def follow(self, leader: int) -> None:
        self.epoch += 1
        self.move(State.FOLLOWING, Phase.BROADCAST, leader=leader)

    # ---- the core's part

    def batch(self, request: Request) -> Batch:
        counter = self.last.counter + 1 if self.last.epoch == self.epoch else 1
        return Batch(Zxid(self.epoch, counter), self.last, request.count, request.time_ms, None, request.data)

    def propose(self) -> int:
        """Everything submitted; returns in how many batches."""
        made = 0
        while (request := self.service.take_request(self.now, 77)) is not None:
            batch = self.batch(request)
            self.last = batch.last
            self.proposed.append(batch)
            self.service.on_proposed(batch)
            made += 1
        return made

    def refuse(self, leading: bool = True) -> None:
        """The core does not propose what it is offered."""
        assert self.service.take_request(self.now, 77) is not None
        self.service.on_busy(Busy(leading, "the window is full"))

    def commit(self, batches: int | None = None) -> None:
        for _ in range(len(self.proposed) if batches is None else batches):
            self.apply(self.proposed.popleft())

    def apply(self, batch: Batch) -> None:
        runs = self.state.apply(batch)
        self.applied += runs
        self.log.append(batch)
        self.committed.append(self.service.on_applied(batch, runs, ACKS))

    def apply_foreign(self, *runs: SealedRun, count: int) -> None:
        """A batch of another leader."""
        batch = self.batch(Request(encode(list(runs)), count, 1))
        self.last = batch.last
        self.apply(batch)

    def turn(self) -> None:
        self.propose()
        self.commit()

    # ---- the clients' part

    def said(self) -> list[tuple[bytes, ClientReply]]:
        replies, self.service.replies = self.service.replies, []
        return replies

    def heard(self) -> list[ClientReply]:
        """What was said to whomever."""
        return [reply for _, reply in self.said()]

    def nos(self) -> list[tuple[int, int, str]]:
        """`(seq, count, why)` of each No; nothing else may have been said."""
        heard = self.heard()
        nos = [reply for reply in heard if isinstance(reply, No)]
        assert len(nos) == len(heard), heard
        return [(no.seq, no.count, no.why) for no in nos]

    def no(self) -> No:
        (reply,) = self.heard()
        assert isinstance(reply, No), reply
        return reply

    def dones(self) -> list[tuple[int, list[Result]]]:
        """`(seq, results)` of each Done; nothing else may have been said."""
        heard = self.heard()
        dones = [reply for reply in heard if isinstance(reply, Done)]
        assert len(dones) == len(heard), heard
        return [(done.seq, decode_results(done.results)) for done in dones]

    def register(self, name: str = "alice") -> SessionId:
        self.service.on_request(self.now, ALICE, RegisterSession(9, name, TIMEOUT))
        self.turn()
        ((_, (result,)),) = self.dones()
        assert isinstance(result, Registered)
        return result.session

    def submit(
        self,
        session: SessionId,
        seq: int,
        *ops: Operation,
        client: bytes = ALICE,
        acked: int = 0,
        timeout: int = TIMEOUT,
    ) -> None:
        request = Submit(session, seq, acked, timeout, Raw(encode(list(ops))))
        self.service.on_request(self.now, client, request)

    def read(
        self, *queries: Query, linear: bool = True, least: Zxid = ZERO, rid: int = 5, timeout: int = TIMEOUT
    ) -> None:
        request = ReadMany(rid, linear, least, timeout, Raw(encode(list(queries))))
        self.service.on_request(self.now, ALICE, request)

    def range(self, after: Zxid, upto: Zxid = ZERO) -> RangeReply:
        self.service.on_request(self.now, ALICE, Range(3, after, upto))
        (reply,) = self.heard()
        assert isinstance(reply, RangeReply)
        return reply
