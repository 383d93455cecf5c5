"""The client's side of a peer: sessions' operations on their way into batches and back, and all else clients ask. Pure.

The node brings requests in, asks for what is to be proposed (`take_request`, `take_reads`), tells what became of it
(the hooks named after the core's effects), and drains `replies`. Nothing here is what makes an operation happen once:
that is the table inside the replicated state (C2). This side only keeps repeats out of the log.

Operations are counted, never listed: work here is per Submit, apart from the one decoding that validates them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, assert_never

from msgspec import Raw

from zabzmq.core.effects import Busy, Moved, ReadFailed, ReadReady
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Read, Request, Space
from zabzmq.core.messages import State
from zabzmq.core.zxid import ZERO, PeerId, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    UNREADABLE,
    Register,
    SealedRun,
    SessionId,
    SessionOperation,
    decode_results,
    decode_session_operations,
    encode,
)
from zabzmq.machine.sessions import is_printable
from zabzmq.machine.state import AppliedRun, ReplicatedState
from zabzmq.net.client_wire import (
    ClientReply,
    ClientRequest,
    Committed,
    Done,
    Hello,
    NodeStatus,
    Range,
    RangeReply,
    ReadMany,
    RegisterSession,
    StatusQuery,
    Submit,
)
from zabzmq.server.commits import Commits, ReadBatches
from zabzmq.server.reads import NEVER, Reads
from zabzmq.server.replies import Replies

SEQ_MAX: Final = (1 << 63) - 1
NAME_MAX: Final = 64


class Limits(NamedTuple):
    """What is refused beyond: never queue without bound, never drop silently (C7)."""

    session_ops: int = 1024  # W: what one session may have outstanding (PROTOCOL 15.3)
    total_ops: int = 65_536
    total_bytes: int = 64 << 20
    batch_ops: int = 16_384
    batch_bytes: int = 1 << 20  # a single larger operation is a batch of its own
    read_queries: int = 1024  # in one read
    waiting_queries: int = 65_536
    recent_bytes: int = 8 << 20
    retry_ms: int = 20


class _Stream:
    """One session with operations outstanding here. `next` is the seq it may submit now."""

    __slots__ = ("client", "next", "open_ops")

    def __init__(self, client: bytes, next_seq: int) -> None:
        self.client = client  # where its answers go: the address it was last heard from
        self.next = next_seq
        self.open_ops = 0


class _Pending(NamedTuple):
    """A run on its way. `stream` is None for a registration, which is answered by `rid`."""

    run: SealedRun
    ops: int
    size: int
    deadline: float
    client: bytes
    rid: int
    stream: _Stream | None


class Service:
    """See the module. `space` and `stale_reason` are kept by the node."""

    def __init__(
        self,
        *,
        node: PeerId,
        cluster: str,
        endpoints: Mapping[int, str],
        state: ReplicatedState,
        status: Callable[[int], NodeStatus],
        batches: ReadBatches,
        near: Callable[[Zxid], Zxid],
        base: Callable[[], Zxid],
        limits: Limits | None = None,
    ) -> None:
        """`status` describes the node for a rid; `batches`, `near` are Storage's; `base` is where its log begins."""
        self.limits = Limits() if limits is None else limits
        self.state = state
        self.space = Space.OK
        self._status = status
        self._base = base
        self._replies = Replies(node, cluster, endpoints, self.limits.retry_ms)
        self._reads = Reads(state, self._replies, self.limits.read_queries, self.limits.waiting_queries)
        self._commits = Commits(state, self.limits.recent_bytes, batches, near)
        self._cut = ZERO
        self._streams: dict[SessionId, _Stream] = {}
        self._queue: deque[_Pending] = deque()  # not yet offered to the core
        self._queue_deadline = NEVER  # never later than the first in the queue
        self._offered: list[_Pending] = []  # the Request of this step
        self._proposed: deque[tuple[Zxid, list[_Pending]]] = deque()  # by first zxid
        self._open_ops = 0
        self._open_bytes = 0

    @property
    def replies(self) -> list[tuple[bytes, ClientReply]]:
        """What is to be sent, in order; the node takes the list and puts an empty one in its place."""
        return self._replies.out

    @replies.setter
    def replies(self, fresh: list[tuple[bytes, ClientReply]]) -> None:
        self._replies.out = fresh

    @property
    def stale_reason(self) -> str:
        """Why local reads may be old beyond the usual, in words, or ""."""
        return self._reads.stale_reason

    @stale_reason.setter
    def stale_reason(self, reason: str) -> None:
        self._reads.stale_reason = reason

    @property
    def next_deadline(self) -> float:
        return min(self._queue_deadline, self._reads.next_deadline)

    # ---- what clients ask ----------------------------------------------------------------------------------------

    def on_request(self, now: float, client: bytes, request: ClientRequest) -> None:
        """Take a client's request in. Whatever it holds, nothing is raised: at worst it is answered INVALID."""
        match request:
            case Submit():
                self._submit(now, client, request)
            case ReadMany():
                self._reads.on_request(now, client, request)
            case RegisterSession():
                self._register(now, client, request)
            case Hello():
                self._replies.hint(client, request.rid)
            case StatusQuery():
                self._replies.send(client, self._status(request.rid))
            case Range():
                after, upto = Zxid(*request.after), Zxid(*request.upto)
                self._replies.send(client, self.committed_range(request.rid, after, upto))
            case _:
                assert_never(request)

    def _register(self, now: float, client: bytes, request: RegisterSession) -> None:
        no, rid, name = self._replies.no, request.rid, request.name
        if not self._replies.established:
            self._replies.not_here(client, rid=rid, count=1)
        elif not 1 <= len(name) <= NAME_MAX or not is_printable(name):
            no(client, "invalid", f"a name is 1 to {NAME_MAX} printable characters", rid=rid, count=1)
        elif (overload := self._overload(1, len(name), 0)) is not None:
            no(client, "busy", overload, rid=rid, count=1)
        else:
            run = SealedRun(NO_SESSION, 0, 0, Raw(encode([Register(name)])))
            self._enqueue(_Pending(run, 1, len(name), now + request.timeout_ms, client, rid, None))

    def _submit(self, now: float, client: bytes, request: Submit) -> None:
        """C2: applied operations get their stored results, outstanding ones are attached to, the rest is queued."""
        session, seq = request.session, request.seq
        count = array_length(memoryview(request.ops)) or 0

        def no(why: str, text: str, expected: int | None = None) -> None:
            self._replies.no(client, why, text, session=session, seq=seq, count=count, expected=expected)

        if not self._replies.established:
            self._replies.not_here(client, session=session, seq=seq, count=count)
            return
        if not 1 <= count <= self.limits.session_ops:
            return no("invalid", f"a submit holds 1 to {self.limits.session_ops} operations, not {count}")
        if seq < 1 or seq + count - 1 > SEQ_MAX:
            return no("invalid", f"operations are numbered from 1 to {SEQ_MAX}, not {seq}")
        if self.state.applied < self._cut:
            return no("busy", "this leader is still applying what it was elected with")
        try:
            operations = decode_session_operations(request.ops)
        except UNREADABLE as error:
            return no("invalid", f"operations cannot be decoded: {error}")
        expected = self.state.sessions.expected(session)
        if expected is None:
            if session > self.state.applied:  # Who made it may have deposed us while we stood still (F5).
                return no("busy", f"session {session[0]}.{session[1]} is newer than all that this leader has applied")
            return no("expired_client", "this session is unknown or has expired")
        stream = self._streams.get(session)
        next_seq = expected if stream is None else stream.next
        if seq > next_seq:
            return no("seq_gap", f"operation {seq} came before operation {next_seq}", next_seq)
        end = seq + count
        if stream is not None:
            stream.client = client
        if seq < expected:
            self._answer_stored(client, session, seq, min(end, expected) - seq)
        if end <= next_seq:
            return None
        ops = request.ops
        if seq < next_seq:  # What precedes is answered above, or will be when it is applied.
            operations = operations[next_seq - seq :]
            ops = Raw(encode(operations))
            seq, count = next_seq, len(operations)
        size = len(memoryview(ops))
        overload = self._overload(count, size, 0 if stream is None else stream.open_ops)
        if overload is not None:
            return no("busy", overload)
        if stream is None:
            stream = self._streams[session] = _Stream(client, next_seq)
        stream.open_ops += count
        stream.next = end
        deadline = now + request.timeout_ms
        for part_count, part in _parts(operations, ops, self.limits.batch_bytes):
            run = SealedRun(session, seq, request.acked, part)
            self._enqueue(_Pending(run, part_count, len(memoryview(part)), deadline, client, 0, stream))
            seq += part_count
        return None

    def _overload(self, ops: int, size: int, session_ops: int) -> str | None:
        """Why this much more cannot be taken in now (C7, L15)."""
        limits = self.limits
        if self.space is not Space.OK:
            return "the disk of the leader is nearly full"
        if session_ops + ops > limits.session_ops:
            return f"{session_ops} operations of this session are outstanding"
        if self._open_ops + ops > limits.total_ops:
            return f"{self._open_ops} operations are outstanding"
        if self._open_bytes + size > limits.total_bytes and self._open_ops:
            return f"{self._open_bytes} bytes of operations are outstanding"
        return None

    def _answer_stored(self, client: bytes, session: SessionId, seq: int, count: int) -> None:
        for piece in self.state.sessions.stored(session, seq, count):
            self._replies.send(client, Done(0, session, piece.seq, piece.zxid, [], Raw(piece.results)))

    # ---- the way to the core -------------------------------------------------------------------------------------

    def _enqueue(self, pending: _Pending) -> None:
        self._queue.append(pending)
        self._queue_deadline = min(self._queue_deadline, pending.deadline)
        self._open_ops += pending.ops
        self._open_bytes += pending.size

    def take_request(self, now: float, wall_ms: int) -> Request | None:
        """All that was submitted since the last call, of all clients, as one Request; the core must be given it.

        More than one batch may carry is left for the next call.
        """
        if not self._queue:
            return None
        self._expire_queue(now)
        queue, limits = self._queue, self.limits
        runs: list[SealedRun] = []
        ops = size = 0
        assert not self._offered, "the last Request was neither proposed nor refused"
        while queue:
            head = queue[0]
            if runs and (ops + head.ops > limits.batch_ops or size + head.size > limits.batch_bytes):
                break
            self._offered.append(queue.popleft())
            runs.append(head.run)
            ops += head.ops
            size += head.size
        if not queue:
            self._queue_deadline = NEVER
        return Request(encode(runs), ops, wall_ms) if runs else None

    def take_reads(self) -> Read | None:
        """One ticket for all linearizable reads since the last call."""
        return self._reads.take_reads()

    def on_proposed(self, batch: Batch) -> None:
        offered, self._offered = self._offered, []
        self._proposed.append((batch.first, offered))
        if not self._replies.established:
            self._disown()

    def on_busy(self, effect: Busy) -> None:
        """The Request was not proposed. What its sessions queued behind it must not overtake it."""
        offered, self._offered = self._offered, []
        streams = {pending.stream for pending in offered if pending.stream is not None}
        behind = [pending for pending in self._queue if pending.stream in streams]
        self._queue = deque(pending for pending in self._queue if pending.stream not in streams)
        for pending in offered + behind:
            self._refuse(pending, "busy" if effect.leading else "not_leader", effect.why)

    def on_read_ready(self, effect: ReadReady) -> None:
        self._reads.on_ready(effect.ticket, effect.zxid)

    def on_read_failed(self, effect: ReadFailed) -> None:
        self._reads.on_failed(effect.ticket)

    def on_moved(self, moved: Moved, established: bool, cut: Zxid = ZERO) -> None:
        """`established`: as leader. `cut` is then the end of the history it was elected with: until that is applied
        the table of sessions is older than what clients have heard, and cannot judge them."""
        replies = self._replies
        was_established, replies.established = replies.established, established
        replies.leader = None if moved.leader is None else moved.leader.peer
        replies.epoch = moved.epoch
        self._cut = cut if established else ZERO
        if was_established and not established:
            queued, self._queue = self._queue, deque()
            self._queue_deadline = NEVER
            for pending in queued:
                self._refuse(pending, "not_leader", "")
            self._disown()
        if moved.state not in (State.FOLLOWING, State.LEADING):
            self._reads.on_lost()

    def _disown(self) -> None:
        """No longer leading: what was proposed may yet commit, or never (C4)."""
        batches, self._proposed = self._proposed, deque()
        for _, pendings in batches:
            for pending in pendings:
                self._refuse(pending, "unknown", "this node lost its leadership before it was committed here")

    def _expire_queue(self, now: float) -> None:
        """C7: late before it was proposed. What its session queued behind it would leave a gap, and goes too."""
        if now < self._queue_deadline:
            return
        kept: deque[_Pending] = deque()
        broken: set[_Stream] = set()
        for pending in self._queue:
            if pending.stream in broken:
                self._refuse(pending, "not_executed", "an operation before it was not proposed in time")
            elif pending.deadline <= now:
                self._refuse(pending, "not_executed", "its time ran out before it was proposed")
                if pending.stream is not None:
                    broken.add(pending.stream)
            else:
                kept.append(pending)
        self._queue = kept
        self._queue_deadline = min((pending.deadline for pending in kept), default=NEVER)

    def _refuse(self, pending: _Pending, why: str, text: str) -> None:
        client, run = self._release(pending), pending.run
        stream = pending.stream
        if stream is not None:
            stream.next = min(stream.next, run.seq)
        if why == "not_leader":
            self._replies.not_here(client, rid=pending.rid, session=run.session, seq=run.seq, count=pending.ops)
        else:
            about = {"rid": pending.rid, "seq": run.seq, "count": pending.ops}
            self._replies.no(client, why, text, session=run.session, **about)

    def _release(self, pending: _Pending) -> bytes:
        """This run is outstanding no longer; returns where its answer goes."""
        self._open_ops -= pending.ops
        self._open_bytes -= pending.size
        stream = pending.stream
        if stream is None:
            return pending.client
        stream.open_ops -= pending.ops
        if not stream.open_ops:
            self._streams.pop(pending.run.session, None)
        return stream.client

    # ---- the way back --------------------------------------------------------------------------------------------

    def on_applied(self, batch: Batch, runs: Sequence[AppliedRun], acks: list[int]) -> Committed:
        """The state has applied this batch, which `acks` hold on disk: answer who waits for it, and only now (C9).

        Returns the batch as monitors see it.
        """
        committed = self._commits.add(batch, runs)
        if self._proposed and self._proposed[0][0] == batch.first:
            _, pendings = self._proposed.popleft()
            for pending, run in zip(pendings, runs, strict=True):
                self._answer(pending, run, acks)
        self._reads.on_applied()
        return committed

    def on_restored(self) -> None:
        """The state is that of a snapshot: what waited for it is answered."""
        self._reads.on_applied()

    def _answer(self, pending: _Pending, run: AppliedRun, acks: list[int]) -> None:
        client = self._release(pending)
        session, seq = run.session, run.seq
        if run.why:
            expected = self.state.sessions.expected(session) if run.why == "seq_gap" else None
            text = "this session is unknown or has expired" if expected is None else f"operation {expected} is next"
            self._replies.no(client, run.why, text, session=session, seq=seq, count=run.count, expected=expected)
            return
        if not run.repeated:
            self._replies.send(client, Done(pending.rid, session, seq, run.first, acks, Raw(run.results)))
            return
        self._answer_stored(client, session, seq, run.repeated)
        if run.repeated < run.count:
            fresh = Raw(encode(decode_results(run.results)[run.repeated :]))
            first = Zxid(run.first.epoch, run.first.counter + run.repeated)
            self._replies.send(client, Done(0, session, seq + run.repeated, first, acks, fresh))

    def on_tick(self, now: float) -> None:
        """Time-outs of what was not proposed and of reads. Of what was proposed the client knows best."""
        self._expire_queue(now)
        self._reads.on_tick(now)

    # ---- for monitors --------------------------------------------------------------------------------------------

    def committed_range(self, rid: int, after: Zxid, upto: Zxid) -> RangeReply:
        """RANGE: batches of `(after, upto]`, as many as fit, and only what is applied here (C4)."""
        purged, found = self._commits.range(after, upto, self._base())
        return RangeReply(rid, self._replies.node, self.state.applied, purged, found)


def _parts(operations: list[SessionOperation], ops: Raw, bytes_max: int) -> Iterator[tuple[int, Raw]]:
    """These operations, cut where they are too many bytes for one batch: no frame may grow beyond 4 MiB (7.5)."""
    if len(operations) == 1 or len(memoryview(ops)) <= bytes_max:
        yield len(operations), ops
        return
    middle = len(operations) // 2
    for half in (operations[:middle], operations[middle:]):
        yield from _parts(half, Raw(encode(half)), bytes_max)


def array_length(data: memoryview) -> int | None:
    """How many items a MessagePack array says it has, without decoding them; None if it is no array."""
    head = data[0] if data else 0
    if head & 0xF0 == 0x90:
        return head & 0x0F
    width = {0xDC: 2, 0xDD: 4}.get(head)
    if width is None or len(data) < 1 + width:
        return None
    return int.from_bytes(data[1 : 1 + width], "big")
