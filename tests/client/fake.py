"""A cluster of fakes, for the situations a client can meet: real ROUTER and PUB sockets, one shared replicated state,
and a script for how each node behaves. Nothing is elected or written to disk: the test says who leads."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final

import zmq
from msgspec import Raw

from zabzmq.core.history import Batch
from zabzmq.core.messages import Heartbeat, Phase, State
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    Operation,
    Register,
    SealedRun,
    SessionId,
    decode_operations,
    decode_queries,
    decode_results,
    encode,
)
from zabzmq.machine.sessions import Sessions
from zabzmq.machine.state import ReplicatedState
from zabzmq.net import client_wire
from zabzmq.net.client_wire import (
    Answers,
    ClientReply,
    ClientRequest,
    Committed,
    Done,
    Hello,
    Hint,
    No,
    NodeStatus,
    Range,
    RangeReply,
    ReadMany,
    RegisterSession,
    StatusQuery,
    Submit,
    decode_request,
    encode_committed,
)
from zabzmq.net.wire import Envelope, Wire

# What a node may do with a request instead of serving it.
SERVE: Final = "serve"
SILENT: Final = "silent"  # takes it and says nothing; nothing happens
LOSE_REPLY: Final = "lose_reply"  # does it and says nothing

Rule = Callable[[int, ClientRequest], str | ClientReply]


PORTS: Final = (24100, 24950)


class Ports:
    """Ports for one cluster, held from others for as long as it lives: several test runs may go on side by side.

    A held port is bound and does not listen, so connecting to it is refused and nobody else can bind it.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self._held: dict[int, socket.socket] = {}
        first, last = PORTS
        step = max(offsets) + 1
        for turn in range(200):
            base = first + (os.getpid() * 7 + turn * step) % (last - first - step)
            try:
                for offset in offsets:
                    self.hold(base + offset)
            except OSError:
                self.release_all()
                continue
            self.base = base
            return
        raise AssertionError("no free ports")

    def hold(self, port: int) -> None:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            raise
        self._held[port] = holder

    def release(self, port: int) -> None:
        if port in self._held:
            self._held.pop(port).close()

    def release_all(self) -> None:
        for port in list(self._held):
            self.release(port)


class FakeCluster:
    """`rule(node, request)` decides what becomes of each request: SERVE, SILENT, LOSE_REPLY, or a reply to give."""

    def __init__(
        self, nodes: int = 3, *, cluster: str = "demo", leader: int | None = 0, up: tuple[int, ...] | None = None
    ):
        self.cluster = cluster
        self.leader = leader
        self.epoch = 1
        self.state = ReplicatedState()
        self.batches: list[tuple[Batch, Committed]] = []
        self.rule: Rule = lambda node, request: SERVE
        self.requests: list[tuple[int, ClientRequest]] = []
        self.executed: Counter[tuple[SessionId, int]] = Counter()
        self.purged = ZERO
        self.publishing = True
        self._session: SessionId | None = None
        self._wire = Wire(cluster)
        self.voters = tuple(range(nodes))
        self._ports = Ports([kind + node for node in range(nodes) for kind in (10, 20)])
        self.base_port = self._ports.base
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._routers: dict[int, zmq.Socket[bytes]] = {}
        self._pubs: dict[int, zmq.Socket[bytes]] = {}
        self._commands: list[tuple[Callable[[], None], threading.Event]] = []
        self._speaker = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake cluster", daemon=True)
        self._thread.start()
        for node in self.voters if up is None else up:
            self.start(node)

    # ---- for tests -----------------------------------------------------------------------------------------------

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for made in (*self._routers.values(), *self._pubs.values()):
            made.close(0)
        self._context.term()
        self._ports.release_all()

    @property
    def endpoints(self) -> dict[int, str]:
        return {node: f"tcp://127.0.0.1:{self.base_port + 10 + node}" for node in self.voters}

    @property
    def publish_endpoints(self) -> dict[int, str]:
        return {node: f"tcp://127.0.0.1:{self.base_port + 20 + node}" for node in self.voters}

    def start(self, node: int) -> None:
        self._in_thread(lambda: self._bind(node))

    def kill(self, node: int) -> None:
        """Its sockets vanish, as those of a killed process do."""
        self._in_thread(lambda: self._unbind(node))

    def lead(self, node: int | None) -> None:
        """A new epoch begins, led by this node (or nobody leads)."""

        def change() -> None:
            self.leader = node
            if node is not None:
                self.epoch += 1

        self._in_thread(change)

    def behave(self, rule: Rule) -> None:
        def change() -> None:
            self.rule = rule

        self._in_thread(change)

    def of(self, kind: type) -> list[ClientRequest]:
        return [request for _, request in list(self.requests) if isinstance(request, kind)]

    def commit(self, runs: list[SealedRun], count: int) -> Batch:
        """Commit this on all nodes and publish it from the leader. In the cluster's thread, or through `do`."""
        last = self.state.applied
        counter = last.counter + 1 if last.epoch == self.epoch else 1
        batch = Batch(Zxid(self.epoch, counter), last, count, 1_700_000_000_000, None, encode(runs))
        applied = self.state.apply(batch)
        committed = Committed(
            batch.first,
            batch.prev,
            count,
            batch.time_ms,
            None,
            batch.data,
            [run.results for run in applied],
            [run.name for run in applied],
            self.state.digest,
        )
        self.batches.append((batch, committed))
        if self.publishing and self.leader in self._pubs:
            self.publish(self.leader, committed)
        return batch

    def hint(self, node: int, request: Hello, epoch: int, established: bool) -> Hint:
        bare = {n: e.removeprefix("tcp://") for n, e in self.endpoints.items()}
        return Hint(request.rid, self.cluster, node, self.leader, epoch, established, bare)

    def expire_sessions(self) -> None:
        """As if many others had registered since (C3)."""
        self.state.sessions = Sessions()

    def beat(self, node: int, applied: Zxid | None = None) -> None:
        """Publish one heartbeat of this node."""

        def publish() -> None:
            leading = node == self.leader
            at = self.state.applied if applied is None else applied
            me = ProcessId(PeerId(node), 1, 1)
            state, phase = (State.LEADING, Phase.BROADCAST) if leading else (State.FOLLOWING, Phase.BROADCAST)
            if self.leader is None:
                state, phase = State.LOOKING, Phase.ELECTION
            beat = Heartbeat(state, phase, self.epoch, me if leading else None, 1, at, at, at, None)
            self.publish_frames(node, [b"hb", self._wire.encode(Envelope(me, PeerId(0), 0, None, 1), beat)])

        self._in_thread(publish)

    def write(self, *operations: Operation, published_by: tuple[int, ...] | None = None) -> None:
        """Commit these as one batch of a session of "ann", published by the leader or by these nodes."""

        def commit() -> None:
            if self._session is None:
                self._session = (*self.commit([SealedRun(NO_SESSION, 0, 0, Raw(encode([Register("ann")])))], 1).first,)
            seq = self.state.sessions.expected(self._session)
            assert seq is not None
            publishing, self.publishing = self.publishing, published_by is None and self.publishing
            self.commit([SealedRun(self._session, seq, 0, Raw(encode(operations)))], len(operations))
            self.publishing = publishing
            for node in published_by or ():
                self.publish(node, self.batches[-1][1])

        self._in_thread(commit)

    def publish(self, node: int, committed: Committed) -> None:
        self.publish_frames(node, encode_committed(self.cluster, node, committed))

    def publish_frames(self, node: int, frames: list[bytes]) -> None:
        self._pubs[node].send_multipart(frames)

    def do(self, command: Callable[[], None]) -> None:
        self._in_thread(command)

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _in_thread(self, command: Callable[[], None]) -> None:
        done = threading.Event()
        self._commands.append((command, done))
        assert done.wait(10), "the fake cluster does not answer"

    def _bind(self, node: int) -> None:
        for port in (self.base_port + 10 + node, self.base_port + 20 + node):
            self._ports.release(port)
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.bind(self.endpoints[node])
        self._routers[node] = router
        pub = self._context.socket(zmq.PUB)
        pub.setsockopt(zmq.LINGER, 0)
        pub.bind(self.publish_endpoints[node])
        self._pubs[node] = pub

    def _unbind(self, node: int) -> None:
        self._routers.pop(node).close(0)
        self._pubs.pop(node).close(0)

    def _run(self) -> None:
        while not self._stop.is_set():
            while self._commands:
                command, done = self._commands.pop(0)
                command()
                done.set()
            poller = zmq.Poller()
            for router in self._routers.values():
                poller.register(router, zmq.POLLIN)
            ready = dict(poller.poll(2))
            for node, router in list(self._routers.items()):
                if router in ready:
                    who, *frames = router.recv_multipart()
                    self._serve(node, router, who, decode_request(frames))

    def _serve(self, node: int, router: zmq.Socket[bytes], who: bytes, request: ClientRequest) -> None:
        self.requests.append((node, request))
        self._speaker = who
        verdict = self.rule(node, request)
        if verdict == SILENT:
            return
        replies: list[ClientReply] = [self._answer(node, request)] if isinstance(verdict, str) else [verdict]
        if verdict != LOSE_REPLY:
            for reply in replies:
                router.send_multipart([who, *client_wire.encode(reply)])

    def say(self, node: int, frames: list[bytes]) -> None:
        """Send these to whoever asked last; for use in a rule."""
        self._routers[node].send_multipart([self._speaker, *frames])

    def _answer(self, node: int, request: ClientRequest) -> ClientReply:
        match request:
            case Hello():
                return self.hint(node, request, self.epoch, node == self.leader)
            case RegisterSession(rid, name):
                if node != self.leader:
                    return No(rid, NO_SESSION, 0, 0, "not_leader", f"node {node} does not lead", self.leader)
                batch = self.commit([SealedRun(NO_SESSION, 0, 0, Raw(encode([Register(name)])))], 1)
                return Done(rid, batch.first, 0, batch.first, [0, 1], Raw(self._results()))
            case Submit():
                return self._submit(node, request)
            case ReadMany(rid, linear, _, _, queries):
                if linear and node != self.leader:
                    return No(rid, NO_SESSION, 0, 0, "not_leader", f"node {node} does not lead", self.leader)
                answers = encode(self.state.query(decode_queries(queries)))
                return Answers(rid, node, self.state.applied, linear, "", Raw(answers))
            case Range(rid, after):
                return self._range(node, rid, Zxid(*after))
            case StatusQuery(rid):
                return self._status(node, rid)

    def _results(self) -> bytes:
        results = self.batches[-1][1].results
        assert results is not None
        return results[0]

    def _submit(self, node: int, request: Submit) -> ClientReply:
        ops = decode_operations(request.ops)
        session, seq, count = request.session, request.seq, len(ops)
        if node != self.leader:
            return No(0, session, seq, count, "not_leader", f"node {node} does not lead", self.leader)
        expected = self.state.sessions.expected(session)
        if expected is None:
            return No(0, session, seq, count, "expired_client", "this session is unknown or has expired")
        if seq > expected:
            return No(0, session, seq, count, "seq_gap", f"{expected} is next", None, expected)
        for fresh in range(max(seq, expected), seq + count):
            self.executed[(session, fresh)] += 1
        batch = self.commit([SealedRun(session, seq, request.acked, request.ops)], count)
        assert len(decode_results(self._results())) == count
        return Done(0, session, seq, batch.first, [0, 1], Raw(self._results()))

    def _range(self, node: int, rid: int, after: Zxid) -> RangeReply:
        purged = self.purged if after < self.purged else None
        start = max(after, self.purged)
        kept = [committed for batch, committed in self.batches if batch.last > start][:3]
        return RangeReply(rid, node, self.state.applied, purged, kept)

    def _status(self, node: int, rid: int) -> NodeStatus:
        applied = self.state.applied
        leading = node == self.leader
        return NodeStatus(
            rid=rid,
            node=node,
            cluster=self.cluster,
            state="LEADING" if leading else "LOOKING" if self.leader is None else "FOLLOWING",
            phase="ELECTION" if self.leader is None else "BROADCAST",
            epoch=self.epoch,
            accepted_epoch=self.epoch,
            leader=self.leader,
            established=leading,
            last=applied,
            committed=applied,
            applied=applied,
            base=(0, 0),
            snapshot=(0, 0),
            digest=f"{self.state.digest:016x}",
            joined=True,
            voters=list(self.voters),
            pid=1,
            uptime_ms=1234,
            boot="cafe",
            sessions=len(self.state.sessions),
            dropped={},
            game=self.state.game_status(),
        )
