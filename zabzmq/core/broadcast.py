"""Phase 3: propose, acknowledge, commit, deliver (PROTOCOL 6), and reads that a quorum stands behind (C5)."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from zabzmq.core.effects import Append, Busy, Proposed, Publish, ReadFailed, ReadReady, Resubscribe, Send
from zabzmq.core.errors import RemoteProtocolError
from zabzmq.core.history import Admit, Batch, Epochs
from zabzmq.core.inputs import Request
from zabzmq.core.learner import Following, Learner
from zabzmq.core.messages import (
    Ack,
    Commit,
    Heartbeat,
    Joined,
    LinkMessage,
    Nack,
    Phase,
    Propose,
    ReadIndex,
    ReadIndexReply,
    State,
    UpToDate,
)
from zabzmq.core.synchronization import LeaderSynchronization, LearnerSynchronization
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid

if TYPE_CHECKING:
    from zabzmq.core.peer import Peer


class WaitingRead(NamedTuple):
    """A read index that waits for a quorum to echo a heartbeat sent after it was asked for."""

    ticket: int
    asked_by: LinkId | None  # None: this node's own clients
    committed: Zxid
    hb_seq: int


class LeaderBroadcast(LeaderSynchronization):
    """LEADING, established: the only place where transactions are proposed."""

    phase = Phase.BROADCAST

    def begin(self) -> None:
        peer = self.peer
        self.established_at = peer.now  # F2: the clock of check-quorum starts here
        self.outstanding: deque[tuple[Zxid, int]] = deque()  # proposed, not committed: last zxid, bytes
        self.outstanding_bytes = 0
        self.reads: deque[WaitingRead] = deque()
        self.confirmed_seq = 0  # the heartbeat up to which a quorum has echoed
        self.fresh_seq = 0  # F5: nothing is committed or answered before this heartbeat is echoed by a quorum
        self.resigning = False
        self.echoed_before: dict[PeerId, float] = {}  # by voters whose link was lost since (F2)
        self.doubted_until = inf  # as told to people
        self.commit_due = inf  # when the watermark is published, unless proposals have carried it to everyone by then
        peer.deliver()
        for learner in list(self.tenure):
            if learner.new_leader_acked:
                self.on_synchronized(learner)

    # ---- time: check-quorum

    def deadline(self) -> float:
        return self.commit_due  # for the rest, every tick of the heartbeat is soon enough

    def on_tick(self) -> None:
        peer = self.peer
        if peer.now >= self.commit_due:
            self.commit_due = inf
            peer.emit(Publish(Commit(self.tenure.epoch, peer.committed)))
        if peer.now >= peer.hb_at + peer.timing.hb_interval:
            self.beat()
        self.drop_silent_learners()
        if peer.now - peer.writing_since >= peer.timing.disk_stall:
            peer.leave("the disk is stalled")  # F6
            return
        limit = peer.now - peer.timing.quorum_timeout
        if self.established_at > limit:
            return
        near = {who for who, learner in self.tenure.learners.items() if learner.joined and learner.echoed_at >= limit}
        near |= {who for who, echoed_at in self.echoed_before.items() if echoed_at >= limit}
        if not peer.voters.is_quorum(near | {peer.id}):
            peer.leave_unanswered(f"no quorum of echoes within {peer.timing.quorum_timeout:.0f} ms")  # F2
        else:
            self._tell_doubt()

    def _tell_doubt(self) -> None:
        """When half of the time is up: who has echoed since, and when we give up (F2). Later, that it is over."""
        peer, timeout = self.peer, self.peer.timing.quorum_timeout
        echoed = {**self.echoed_before, peer.id: peer.now}
        for who, learner in self.tenure.learners.items():
            if learner.joined:
                echoed[who] = max(learner.echoed_at, echoed.get(who, 0.0))
        heard_at = sorted(echoed.values(), reverse=True)[peer.voters.needed - 1]
        ends_at = max(self.established_at, heard_at) + timeout
        doubted_until = ends_at if ends_at - peer.now <= timeout / 2 else inf
        if doubted_until == self.doubted_until:
            return
        self.doubted_until = doubted_until
        have = sorted(who for who, echoed_at in echoed.items() if peer.now - echoed_at < timeout / 2)
        left = {} if doubted_until == inf else {"ms": round(ends_at - peer.now, 3)}
        peer.report("quorum", have=have, need=peer.voters.needed, **left)

    def drop(self, learner: Learner, why: str) -> None:
        """F4: an echo grows no older for the loss of its link, so a link that blinks costs no leadership by itself."""
        if learner.joined:
            self.echoed_before[learner.process.peer] = learner.echoed_at
        super().drop(learner, why)

    def on_resumed(self) -> None:
        """F5: we may have been deposed while we stood still; a quorum must answer before we do."""
        peer = self.peer
        super().on_resumed()
        self.established_at = peer.now
        self.beat()
        self.fresh_seq = peer.hb_seq
        self._confirm()

    # ---- proposing

    def on_request(self, request: Request) -> None:
        peer, timing = self.peer, self.peer.timing
        open_count = peer.history.last.counter if peer.history.last.epoch == self.tenure.epoch else 0
        if peer.committed.epoch == self.tenure.epoch:
            open_count -= peer.committed.counter
        if request.count > timing.max_counter:
            peer.emit(Busy(leading=True, why=f"no epoch has counters for {request.count} transactions"))
        elif self.resigning or self._counter() + request.count > timing.max_counter:
            peer.emit(Busy(leading=True, why="this epoch has no counters left"))
            self._resign()
        elif self.fresh_seq > self.confirmed_seq:
            peer.emit(Busy(leading=True, why="the leader stood still and asks its quorum first"))
        elif open_count + request.count > timing.max_outstanding:
            peer.emit(Busy(leading=True, why=f"{open_count} transactions are outstanding"))
        elif self.outstanding_bytes + len(request.data) > timing.max_outstanding_bytes:
            peer.emit(Busy(leading=True, why=f"{self.outstanding_bytes} bytes are outstanding"))
        else:
            batch = self._propose(request.count, request.time_ms, None, request.data)
            peer.emit(Proposed(batch))

    def _counter(self) -> int:
        last = self.peer.history.last
        return last.counter if last.epoch == self.tenure.epoch else 0

    def _propose(self, count: int, time_ms: int, admit: Admit | None, data: bytes) -> Batch:
        peer = self.peer
        prev = peer.history.last
        batch = Batch(Zxid(self.tenure.epoch, self._counter() + 1), prev, count, time_ms, admit, data)
        peer.history.append(batch)
        last, size = peer.history.last, batch.size
        self.outstanding.append((last, size))
        self.outstanding_bytes += size
        peer.writing_since = min(peer.writing_since, peer.now)
        batches = (batch,)
        # One message value for all whose cursor stands at `prev`: the wire encodes it once. Everyone who was sent
        # NEWLEADER is among them, not only who acked it (B7); the others' cursors get there through the log.
        proposal = Propose(self.tenure.epoch, batches, peer.committed)
        all_told = True
        for learner in self.tenure:
            if (
                learner.new_leader_sent
                and learner.sent == prev
                and not learner.reading
                and learner.in_flight_bytes < peer.timing.window_bytes
            ):
                learner.flew(last, size, peer.now)
                peer.emit(Send(learner.link, proposal))
            else:
                all_told = False
        if all_told:
            self.commit_due = inf
        # Our own disk last: the followers' have further to go, and its thread would take the processor from the sends.
        peer.emit(Append(peer.role, batches))
        return batch

    def _resign(self) -> None:
        """B9: stop proposing; leave when all that was proposed is committed."""
        self.resigning = True
        if self.peer.committed == self.peer.history.last:
            self.peer.leave("the epoch has no counters left")

    # ---- acknowledgements

    def on_learner_message(self, learner: Learner, message: LinkMessage) -> None:
        match message:
            case Ack(_, zxid):
                self._on_ack(learner, zxid)
            case Joined():
                learner.joined = True
                self.count(learner, learner.acked)
                self._advance()
            case ReadIndex(_, ticket):
                self._start_read(ticket, learner.link)
            case _:
                super().on_learner_message(learner, message)

    def _on_ack(self, learner: Learner, zxid: Zxid) -> None:
        if not learner.new_leader_acked:
            raise RemoteProtocolError("ACK before ACK_NEWLEADER")  # S6
        if zxid > learner.sent:
            raise RemoteProtocolError(f"ACK of {zxid}, only {learner.sent} was sent")
        if zxid <= learner.acked:
            return  # B10
        sent_at = learner.landed(zxid, self.peer.now)
        learner.echoed_at = max(learner.echoed_at, sent_at)  # F2: an ACK is as good as an echo of that moment
        self.count(learner, zxid)
        self._advance()
        if self.peer.phase is self and learner.sent < self.peer.history.last:
            self.pump(learner)

    def on_durable(self) -> None:
        self.tenure.acked[self.peer.id] = self.peer.durable  # B4: our own vote, after our own sync
        self._advance()
        if self.peer.phase is self:
            self.peer.deliver()

    def _advance(self) -> None:
        """Commit what a quorum has on disk."""
        peer = self.peer
        if self.fresh_seq > self.confirmed_seq:
            return  # F5
        watermark = peer.voters.quorum_th_largest(self.tenure.acked)
        if watermark <= peer.committed:
            return
        assert watermark <= peer.history.last, "nobody can have acked what was not proposed"
        peer.committed = watermark
        while self.outstanding and self.outstanding[0][0] <= watermark:
            self.outstanding_bytes -= self.outstanding.popleft()[1]
        # While clients are busy the next proposal is about to tell it, and saves everyone a message and a wake-up.
        self.commit_due = min(self.commit_due, peer.now + peer.timing.commit_delay)
        peer.deliver()
        if self.resigning:
            self._resign()

    def on_synchronized(self, learner: Learner) -> None:
        """S8: a latecomer learns what is committed now, not what it acked; a wiped one is to be admitted (L13b)."""
        peer = self.peer
        self._advance()
        if peer.phase is not self:
            return
        peer.emit(Send(learner.link, UpToDate(self.tenure.epoch, peer.committed)))
        who, life = learner.process.peer, learner.process.life
        admitted = peer.history.last_admit(who)
        # L20: one that counts, having lost its disk, is admitted too, or a leader after us would ignore it (L18).
        owed = not learner.joined or (peer.unsafe_rejoin_empty and admitted is not None)
        if not owed or admitted == life:
            return
        if self._counter() < peer.timing.max_counter:
            self._propose(1, 0, Admit(who, life), b"")
        else:
            self._resign()  # B9: or it would wait for the next request to end this epoch, perhaps for ever

    def on_epoch_too_old(self, learner: Learner, nack: Nack) -> None:
        """V4: otherwise that peer could never rejoin; but not more than once in a while."""
        peer = self.peer
        if peer.now - peer.deposed_by_epoch_at >= peer.timing.deposed_by_epoch_min:
            peer.deposed_by_epoch_at = peer.now
            peer.leave(f"peer {learner.process.peer} has promised epoch {nack.accepted_epoch}")

    def on_leave(self) -> None:
        for read in self.reads:
            if read.asked_by is None:
                self.peer.emit(ReadFailed(read.ticket))

    def on_learner_left(self) -> None:
        """F4: an established leader steps down only by check-quorum."""

    # ---- linearizable reads

    def on_read(self, ticket: int) -> None:
        self._start_read(ticket, None)

    def _start_read(self, ticket: int, asked_by: LinkId | None) -> None:
        """C5: what is committed now is enough, once a quorum shows that no other epoch had begun by now.

        Only an echo of a heartbeat sent after this moment shows it. Reads share rounds: while one is out, all that
        arrive wait for the next, which starts when it ends.
        """
        in_round = bool(self.reads) and self.reads[-1].hb_seq <= self.peer.hb_seq
        waiting = bool(self.reads) and self.reads[-1].hb_seq > self.peer.hb_seq
        self.reads.append(WaitingRead(ticket, asked_by, self.peer.committed, self.peer.hb_seq + 1))
        if not in_round and not waiting:
            self.beat()
        self._confirm()

    def on_echo(self, learner: Learner, hb_seq: int, on_link: bool) -> None:
        super().on_echo(learner, hb_seq, on_link)
        if learner.joined and (self.reads or self.fresh_seq > self.confirmed_seq):
            self._confirm()

    def _confirm(self) -> None:
        """Answer the reads whose heartbeat a quorum has echoed, ourselves included."""
        peer = self.peer
        seqs = {who: Zxid(0, learner.echoed_seq) for who, learner in self.tenure.learners.items() if learner.joined}
        seqs[peer.id] = Zxid(0, peer.hb_seq)
        was_suspect = self.fresh_seq > self.confirmed_seq
        self.confirmed_seq = max(self.confirmed_seq, peer.voters.quorum_th_largest(seqs).counter)
        if self.fresh_seq > self.confirmed_seq:
            return
        if was_suspect:
            self._advance()
            if peer.phase is not self:
                return
        while self.reads and self.reads[0].hb_seq <= self.confirmed_seq:
            read = self.reads.popleft()
            if read.asked_by is None:
                peer.emit(ReadReady(read.ticket, read.committed))
            elif self.tenure.on(read.asked_by) is not None:
                peer.emit(Send(read.asked_by, ReadIndexReply(self.tenure.epoch, read.ticket, read.committed)))
        if self.reads and self.reads[0].hb_seq > peer.hb_seq:
            self.beat()
            self._confirm()


class LearnerBroadcast(LearnerSynchronization):
    """FOLLOWING, up to date: acknowledge proposals, deliver what is committed and on our own disk."""

    phase = Phase.BROADCAST

    def __init__(self, peer: Peer, following: Following) -> None:
        super().__init__(peer, following)
        self.resubscribed_at = peer.now
        self.reads: set[int] = set()
        self.joining = False

    def begin(self) -> None:
        self.on_watermark(self.following.seen)

    def deadline(self) -> float:
        return self.following.heard_at + self.following.silence

    def on_tick(self) -> None:
        peer = self.peer
        if peer.now >= self.following.heard_at + self.following.silence:
            peer.leave(f"leader {self.following.leader.peer} silent for {peer.now - self.following.heard_at:.0f} ms")

    def on_heartbeat(self, source: ProcessId, heartbeat: Heartbeat, on_link: bool) -> None:
        super().on_heartbeat(source, heartbeat, on_link)
        peer = self.peer
        if on_link and peer.phase is self and heartbeat.state is State.LEADING:
            # T9: the link carries what PUB should have brought; try a new subscription once in a while.
            if peer.now - max(self.following.pub_at, self.resubscribed_at) > peer.timing.peer_timeout:
                self.resubscribed_at = peer.now
                peer.emit(Resubscribe(self.following.leader.peer))
        due = peer.hb_at + peer.timing.idle_hb_interval
        if peer.phase is self and source == self.following.leader and peer.now >= due - peer.timing.hb_interval:
            # Our own, which is due before the leader's next: now that all followers are awake it wakes nobody up.
            peer.beat()

    def on_watermark(self, zxid: Zxid) -> None:
        peer = self.peer
        self.following.seen = max(self.following.seen, zxid)
        peer.committed = max(peer.committed, zxid)
        self._deliver()

    def on_durable(self) -> None:
        self.acknowledge()
        self._deliver()

    def _deliver(self) -> None:
        peer = self.peer
        peer.deliver()
        if not peer.epochs.joined and peer.phase is self:
            self._look_for_admission()

    def _look_for_admission(self) -> None:
        """L13b: joined when an ADMIT of our own life is applied here, durably, and only then told."""
        peer = self.peer
        if self.joining:
            return
        # The last one, not any: of a disk that was lost, replaced and put back, an earlier one tells nothing (L18).
        admitted = next((found for found in reversed(peer.history.admits) if found[1].peer == peer.id), None)
        if admitted is not None and admitted[1].life == peer.process.life and admitted[0] <= peer.delivered:
            self.joining = True
            peer.save_epochs(peer.epochs._replace(joined=True))

    def on_epochs_saved(self, epochs: Epochs) -> None:
        if epochs.joined:
            self.peer.emit(Send(self.link, Joined(self.following.epoch)))

    def on_leave(self) -> None:
        for ticket in sorted(self.reads):
            self.peer.emit(ReadFailed(ticket))

    def on_read(self, ticket: int) -> None:
        """C5: the leader tells which zxid a read that starts now must see."""
        self.reads.add(ticket)
        self.peer.emit(Send(self.link, ReadIndex(self.following.epoch, ticket)))

    def on_leader_message(self, message: LinkMessage) -> None:
        if isinstance(message, ReadIndexReply):
            if message.ticket not in self.reads:
                raise RemoteProtocolError("READ_INDEX_REPLY nobody asked for")
            self.reads.remove(message.ticket)
            self.on_watermark(message.zxid)  # it is committed, and COMMIT may be a moment behind
            self.peer.emit(ReadReady(message.ticket, message.zxid))
        elif isinstance(message, Propose):
            self.on_propose(message.batches, message.committed)
        elif isinstance(message, UpToDate):
            raise RemoteProtocolError("UPTODATE twice")
        else:
            super().on_leader_message(message)
