"""The shell around a peer: feeds it inputs, performs its effects front to back, applies what it delivers.

Meets sockets, disk and clock only through ports.py, so that the simulator runs this very class. It never waits:
a turn takes what has come, performs what follows, and ends with `flush()`, which lets everything that clients
sent meanwhile become one batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, Protocol

from zabzmq.core.effects import (
    Append,
    Busy,
    CloseLink,
    Deliver,
    Effect,
    Fail,
    InstallSnapshot,
    Moved,
    OpenLink,
    Proposed,
    Publish,
    Quiesce,
    ReadBatches,
    ReadFailed,
    ReadReady,
    ReadSnapshot,
    Report,
    Resubscribe,
    SaveEpochs,
    Send,
    SendVote,
    StageSnapshot,
    Truncate,
)
from zabzmq.core.errors import ZabError
from zabzmq.core.history import Batch
from zabzmq.core.inputs import DiskSpace, Input, Quiesced, Received, SnapshotInstalled, SnapshotTaken, Tick
from zabzmq.core.messages import Heartbeat, Phase, State
from zabzmq.core.peer import Peer
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.state import ReplicatedState
from zabzmq.net.client_wire import ClientRequest, NodeStatus
from zabzmq.server.ports import Clock, Storage, Transport
from zabzmq.server.service import Service

APPLY_AFTER_MS = 2.0  # applying waits no longer for a disk to begin
APPLY_BYTES = 1 << 20  # applied in one turn at most, so that sockets are looked at in between (F1)
DIGESTS_KEPT = 256
DIGEST_EVERY = 10  # heartbeats (PROTOCOL 15.4)


class Observer(Protocol):
    """Who watches: the event log and whoever reads it. Must not wait, and must not raise."""

    def on_step(self, now: float, event: Input, effects: list[Effect]) -> None:
        """The peer took this input; its effects are about to be performed."""

    def on_applied(self, now: float, batch: Batch, digest: int) -> None:
        """The replicated state has taken this batch in, and this is its digest now."""

    def on_violation(self, now: float, name: str, text: str) -> None:
        """A promise of the protocol is broken, as far as this node can see."""


class Node:
    """One server. Raises nothing; `failed` says why it must stop."""

    def __init__(
        self,
        peer: Peer,
        state: ReplicatedState,
        service: Service,
        transport: Transport,
        storage: Storage,
        clock: Clock,
        observer: Observer | None = None,
        *,
        snapshot_txns: int = 100_000,
        snapshot_bytes: int = 64 << 20,
    ) -> None:
        self.peer = peer
        self.state = state
        self.service = service
        self.transport = transport
        self.storage = storage
        self.clock = clock
        self.observer = observer
        self.snapshot_txns = snapshot_txns
        self.snapshot_bytes = snapshot_bytes
        self.failed: str | None = None
        self._deliver_upto: Zxid = peer.delivered
        self._appended = False  # in this turn
        self._apply_at = -inf  # what was left unapplied, so that a disk could begin, is applied then at the latest
        # Voters take their snapshots in turn, each a share of the way before the next, so that a quorum of disks and
        # processors is free for commits meanwhile.
        turn = peer.voters.ids.index(peer.id) / len(peer.voters.ids)
        self._head_start = (int(turn * snapshot_txns), int(turn * snapshot_bytes))
        self._since_snapshot = self._head_start  # transactions and bytes applied since the last one was begun
        self._taking: Zxid | None = None
        self._snapshot_size = 0  # bytes of the newest snapshot's state
        self._digests: OrderedDict[Zxid, int] = OrderedDict()
        transport_, storage_ = transport, storage
        self._perform: dict[type, Callable[[Any], None]] = {
            Send: lambda e: transport_.send(e.link, e.message),
            SendVote: lambda e: transport_.send_vote(e.peer, e.message),
            Publish: self._publish,
            OpenLink: lambda e: transport_.open_link(e.link, e.peer),
            CloseLink: lambda e: transport_.close_link(e.link),
            Resubscribe: lambda e: transport_.resubscribe(e.peer),
            Append: self._append,
            SaveEpochs: lambda e: storage_.save_epochs(e.role, e.epochs),
            Truncate: lambda e: storage_.truncate(e.role, e.to),
            StageSnapshot: lambda e: storage_.stage_snapshot(e.role, e.offset, e.data),
            InstallSnapshot: lambda e: storage_.install_snapshot(e.role, e.mark, e.size),
            Quiesce: lambda e: storage_.quiesce(e.role),
            ReadBatches: lambda e: storage_.read_batches(e.role, e.link, e.after, e.upto, e.bytes_max),
            ReadSnapshot: lambda e: storage_.read_snapshot(e.role, e.link, e.mark, e.offset, e.bytes_max),
            Deliver: self._deliver,
            Proposed: lambda e: service.on_proposed(e.batch),
            Busy: service.on_busy,
            ReadReady: service.on_read_ready,
            ReadFailed: service.on_read_failed,
            Moved: self._moved,
            Report: lambda e: None,
            Fail: self._fail,
        }

    # ---- doors

    def start(self) -> None:
        """Restore the newest snapshot and go LOOKING."""
        self._restore()
        now = self.clock.now()
        self._run(now, Tick(), self.peer.start(now))

    def handle(self, event: Input) -> None:
        """One input to the core, and all that follows from it."""
        if self.failed is not None:
            return
        now = self.clock.now()
        match event:
            case Received(message=Heartbeat(digest=int())):
                self._compare_digests(event)
            case SnapshotTaken():
                self._taking = None
            case DiskSpace(level):
                self.service.space = level
        self._run(now, event, self.peer.step(now, event))
        if isinstance(event, (Quiesced, SnapshotInstalled)) and self.peer.history.snapshot > self.state.applied:
            self._restore()

    def on_client(self, client: bytes, request: ClientRequest) -> None:
        if self.failed is None:
            self.service.on_request(self.clock.now(), client, request)

    def flush(self) -> None:
        """End of a turn: what clients sent becomes one batch, what was delivered is applied, answers go out."""
        if self.failed is not None:
            return
        now = self.clock.now()
        if now >= self.peer.next_deadline:
            self._run(now, Tick(), self.peer.step(now, Tick()))
        request = self.service.take_request(now, self.clock.wall_ms())
        while request is not None:
            self._run(now, request, self.peer.step(now, request))
            request = self.service.take_request(now, self.clock.wall_ms())
        read = self.service.take_reads()
        if read is not None:
            self._run(now, read, self.peer.step(now, read))
        if self._deliver_upto > self.state.applied and not self._lets_disk_begin(now):
            self._apply()
        self._appended = False
        self.service.on_tick(now)
        self._reply()

    @property
    def next_deadline(self) -> float:
        """When flush() wants to be called again at the latest, in milliseconds of the clock."""
        if self.failed is not None:
            return inf
        deadline: float = min(self.peer.next_deadline, self.service.next_deadline)
        if self._deliver_upto > self.state.applied:
            deadline = min(deadline, self._apply_at)
        return deadline

    # ---- effects

    def _run(self, now: float, event: Input, effects: list[Effect]) -> None:
        if self.observer is not None:
            # Before anything is sent: a message carries the Lamport clock of an event that is told already.
            self.observer.on_step(now, event, effects)
        perform = self._perform
        for effect in effects:
            perform[type(effect)](effect)

    def _append(self, effect: Append) -> None:
        self._appended = True
        self.storage.append(effect.role, effect.batches)

    def _reply(self) -> None:
        if self.service.replies:
            replies, self.service.replies = self.service.replies, []
            for client, reply in replies:
                self.transport.reply(client, reply)

    def _publish(self, effect: Publish) -> None:
        message = effect.message
        if isinstance(message, Heartbeat):
            applied = self.state.applied
            digest = self.state.digest if message.hb_seq % DIGEST_EVERY == 0 else None
            message = message._replace(applied=applied, digest=digest)
        self.transport.publish(message)

    def _moved(self, effect: Moved) -> None:
        serving = effect.phase is Phase.BROADCAST
        self.service.stale_reason = "" if serving else f"node {self.peer.id} is not in BROADCAST"
        # An established leader has committed all of the history it was elected with, by definition.
        self.service.on_moved(effect, serving and effect.state is State.LEADING, self.peer.committed)

    def _fail(self, effect: Fail) -> None:
        self.failed = effect.why

    # ---- applying

    def _deliver(self, effect: Deliver) -> None:
        self._deliver_upto = effect.upto

    def _lets_disk_begin(self, now: float) -> bool:
        """Whether applying waits for the next turn, since the disk was given something in this one.

        The log's writer cannot begin before this thread goes to sleep, and others wait for our ACK, not for our state.
        A leader's clients wait for its state.
        """
        if not self._appended or self.peer.is_established or self._apply_at > -inf:
            self._apply_at = -inf
            return False
        self._apply_at = now + APPLY_AFTER_MS
        return True

    def _apply(self) -> None:
        """Apply a slice of what is delivered, in order (B8); the rest waits for the next turn."""
        state = self.state
        leading = self.peer.is_established
        try:
            for batch in self.storage.batches(state.applied, self._deliver_upto, APPLY_BYTES):
                runs = state.apply(batch)
                acks: list[int] = [*self.peer.holders(batch.last)] if leading else []
                committed = self.service.on_applied(batch, runs, acks)
                if leading:
                    self._reply()
                    self.transport.publish_committed(committed)
                digest = self._remember_digest()
                if self.observer is not None:
                    self.observer.on_applied(self.clock.now(), batch, digest)
                self._count_for_snapshot(batch)
        except ZabError as error:
            self.failed = str(error)

    def _restore(self) -> None:
        """State := the newest snapshot, if that is ahead of it (start, and SNAP of a synchronization)."""
        if self.peer.history.snapshot == ZERO:
            return
        try:
            zxid, data = self.storage.load_snapshot()
            self.state.restore(data)
        except ZabError as error:
            self.failed = str(error)
            return
        if self.state.applied != zxid or zxid < self.peer.history.snapshot:
            self.failed = f"the snapshot at {zxid} holds the state at {self.state.applied}"
        self._since_snapshot = self._head_start
        self.service.on_restored()
        self._snapshot_size = len(data)

    def _count_for_snapshot(self, batch: Batch) -> None:
        txns, size = self._since_snapshot[0] + batch.count, self._since_snapshot[1] + batch.size
        self._since_snapshot = (txns, size)
        # A large state is not written more often than as much has come: else large values would cost many times
        # their size.
        bytes_max = max(self.snapshot_bytes, self._snapshot_size)
        if self._taking is None and (txns >= self.snapshot_txns or size >= bytes_max):
            # L6, L7: the exact state at this zxid, copied here, written in the background.
            self._taking = self.state.applied
            self._since_snapshot = (0, 0)
            pieces = self._measured(self.state.snapshot())
            self.storage.take_snapshot(self.peer.history.mark(self.state.applied), pieces)

    def _measured(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """These pieces, which another thread may take."""
        size = 0
        for piece in pieces:
            size += len(piece)
            yield piece
        self._snapshot_size = size

    # ---- do all nodes hold the same state?

    def _remember_digest(self) -> int:
        digest = self._digests[self.state.applied] = self.state.digest
        if len(self._digests) > DIGESTS_KEPT:
            self._digests.popitem(last=False)
        return digest

    def _compare_digests(self, event: Received) -> None:
        """DigestAgreement: equal applied zxid implies equal state. A node that differs from its leader stops."""
        heartbeat = event.message
        assert isinstance(heartbeat, Heartbeat)
        ours = self._digests.get(heartbeat.applied)
        if ours is not None and ours != heartbeat.digest and event.source == self.peer.phase.leader:
            self.failed = (
                f"the state at {heartbeat.applied} is {ours:016x} here and {heartbeat.digest:016x} at the leader, "
                f"node {event.source.peer}"
            )
            if self.observer is not None:
                self.observer.on_violation(self.clock.now(), "same state at same zxid", self.failed)

    # ---- for people

    def status(self, rid: int, **about: Any) -> NodeStatus:
        """This node as it sees itself; `about` is what only the process knows (pid, uptime, boot, cluster, dropped)."""
        peer, phase, state = self.peer, self.peer.phase, self.state
        leader = phase.leader
        return NodeStatus(
            rid=rid,
            node=peer.id,
            state=phase.state.name,
            phase=phase.phase.name,
            epoch=phase.epoch,
            accepted_epoch=peer.epochs.accepted,
            leader=None if leader is None else leader.peer,
            established=peer.is_established,
            last=peer.durable,
            committed=peer.committed,
            applied=state.applied,
            base=peer.history.base,
            snapshot=peer.history.snapshot,
            digest=f"{state.digest:016x}",
            joined=peer.epochs.joined,
            voters=list(peer.voters.ids),
            sessions=len(state.sessions),
            game=state.game_status(),
            space=self.service.space.name.lower(),
            **about,
        )
