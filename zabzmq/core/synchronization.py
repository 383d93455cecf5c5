"""Phase 2: every learner comes to hold the leader's history, by DIFF, TRUNC or SNAP, then NEWLEADER (PROTOCOL 5).

The leader's half goes on serving latecomers in BROADCAST, which inherits it. Its send cursor is the heart: from
the moment a method is chosen, everything after `learner.sent` goes to that learner, in order and exactly once, be
it sync data up to `cut`, NEWLEADER, or the proposals after it (S1, B7).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

from zabzmq.core.discovery import LeaderDiscovery, left_by
from zabzmq.core.effects import (
    Append,
    InstallSnapshot,
    ReadBatches,
    ReadSnapshot,
    Send,
    StageSnapshot,
    Truncate,
)
from zabzmq.core.errors import RemoteProtocolError
from zabzmq.core.history import Batch, Epochs, History, SnapshotMark
from zabzmq.core.inputs import BatchesRead, SnapshotRead
from zabzmq.core.learner import Following, Learner, Promised, Tenure
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    HbEcho,
    Heartbeat,
    LinkMessage,
    Nack,
    NewLeader,
    Notification,
    Phase,
    Propose,
    Refusal,
    Snap,
    SnapChunk,
    State,
    SyncProgress,
    SyncTxns,
    Trunc,
    UpToDate,
)
from zabzmq.core.phase import PeerPhase, misplaced
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid

if TYPE_CHECKING:
    from zabzmq.core.peer import Peer


class LeaderSynchronization(LeaderDiscovery):
    """LEADING: bring a quorum to our history, I_e. It is the last thing any of them accepts before ours begins."""

    phase = Phase.SYNCHRONIZATION

    def __init__(self, peer: Peer, tenure: Tenure) -> None:
        super().__init__(peer, tenure)
        self.progress_at = peer.now
        self.short_since = inf  # since when the linked voters are below a quorum (B12)

    def begin(self) -> None:
        peer = self.peer
        assert peer.epochs.current == self.tenure.epoch, "NEWLEADER must not be sent before currentEpoch is durable"
        self.tenure.acked[peer.id] = peer.durable
        for learner in list(self.tenure):
            if learner.ack_epoch is not None:
                self.on_promise(learner, learner.ack_epoch)
        self._establish()

    def acked_by_voter(self) -> Mapping[PeerId, Zxid]:
        return self.tenure.acked

    # ---- time

    def deadline(self) -> float:
        return min(self.progress_at + self.peer.timing.sync_progress_timeout, self._short_deadline())

    def _short_deadline(self) -> float:
        return self.short_since + self.peer.timing.quorum_timeout

    def on_tick(self) -> None:
        peer = self.peer
        if peer.now >= peer.hb_at + peer.timing.hb_interval:
            self.beat()
        self.drop_silent_learners()
        if peer.now - peer.writing_since >= peer.timing.disk_stall:
            peer.leave("the disk is stalled")  # F6
            return
        linked = {peer.id} | {learner.process.peer for learner in self.tenure if learner.joined}
        if peer.voters.is_quorum(linked):
            self.short_since = inf
        elif self.short_since == inf:
            self.short_since = peer.now
        if peer.now >= self._short_deadline():
            peer.leave("the linked voters are no quorum")  # B12
        elif peer.now >= self.progress_at + peer.timing.sync_progress_timeout:
            peer.leave("synchronization makes no progress")  # B12

    def on_resumed(self) -> None:
        self.progress_at = self.peer.now
        self.short_since = inf
        for learner in self.tenure:
            learner.heard_at = learner.progress_at = self.peer.now

    def drop_silent_learners(self) -> None:
        """A learner that says nothing, or whose disk takes nothing, for long is not served any more (B6, F4)."""
        limit = self.peer.now - self.peer.timing.sync_progress_timeout
        for learner in list(self.tenure):
            if learner.heard_at < limit:
                self.drop(learner, "silent")
            elif learner.in_flight and learner.progress_at < limit:
                self.drop(learner, "no progress")

    def drop(self, learner: Learner, why: str) -> None:
        super().drop(learner, why)
        self.tenure.acked.pop(learner.process.peer, None)  # B11

    def on_epochs_saved(self, epochs: Epochs) -> None:
        """Nothing is saved by a leader once its epoch is current."""

    # ---- choosing the method (5.1)

    def on_promise(self, learner: Learner, ack: AckEpoch) -> None:
        """The quorum is complete: whoever promises now is synchronized, however long its history (V3)."""
        fresh = self.tenure.bootstrap and ack.current_epoch == 0
        if ack.counted and not self.was_replaced(learner) and (learner.info.joined or fresh):
            learner.joined = True
            self.tenure.promised[learner.process.peer] = Promised(learner.info.joined, ack.current_epoch)
        self._start_sync(learner, ack)

    def _start_sync(self, learner: Learner, ack: AckEpoch) -> None:
        peer, history = self.peer, self.peer.history
        diverged_at = history.divergence(ack.ends)
        if diverged_at < ack.snapshot or not history.holds(ack.snapshot):
            # Both hold something committed that the other lacks. Never "repair" that.
            peer.report("note", why="committed histories disagree", peer=learner.process.peer, z=ack.snapshot)
            peer.emit(Send(learner.link, Nack(Refusal.HISTORIES_DISAGREE, peer.epochs.accepted)))
            self.drop(learner, "committed histories disagree")
            return
        learner.syncing = True
        learner.progress_at = peer.now
        # S1: choosing the cut and placing the cursor is one step; what is proposed from here on follows it.
        learner.cut = history.last
        if diverged_at < history.base:
            learner.snapshot = history.mark(history.snapshot)
            self._read_snapshot(learner, 0)
            self._report_sync(learner, "SNAP", "purged", last=ack.last, z=history.snapshot, base=history.base)
            return
        if diverged_at < ack.last:
            peer.emit(Send(learner.link, Trunc(self.tenure.epoch, diverged_at)))
        learner.sent = learner.durable = diverged_at
        method, why = ("TRUNC", "diverged") if diverged_at < ack.last else ("DIFF", "prefix")
        count = history.count(diverged_at, learner.cut)
        self._report_sync(learner, method, why, last=ack.last, z=learner.cut, z0=diverged_at, count=count)
        self.pump(learner)

    def _report_sync(self, learner: Learner, method: str, why: str, **fields: object) -> None:
        self.peer.report("sync", method=method, peer=learner.process.peer, why=why, **fields)

    # ---- the send cursor

    def pump(self, learner: Learner) -> None:
        """Send what the windows allow of what comes after the cursor."""
        peer, timing = self.peer, self.peer.timing
        if not learner.syncing or learner.reading or learner.snapshot is not None:
            return
        if learner.sent == learner.cut and not learner.new_leader_sent:
            learner.new_leader_sent = True
            peer.emit(Send(learner.link, NewLeader(self.tenure.epoch, learner.cut)))
        upto = learner.cut if learner.sent < learner.cut else peer.history.last
        if learner.sent < upto and learner.in_flight_bytes < timing.window_bytes:
            learner.reading = True
            peer.emit(ReadBatches(peer.role, learner.link, learner.sent, upto, timing.chunk_bytes))

    def on_batches_read(self, answer: BatchesRead) -> None:
        learner = self.tenure.on(answer.link)
        if learner is None or not learner.reading:
            return
        learner.reading = False
        batches = answer.batches
        if not batches:
            self.drop(learner, f"the log no longer reaches back to {learner.sent}")  # B11
            return
        assert answer.after == learner.sent == batches[0].prev, "a hole in our own log"  # S2
        self.send_batches(learner, batches)
        self.pump(learner)

    def send_batches(self, learner: Learner, batches: tuple[Batch, ...]) -> None:
        """Sync data up to the cut, proposals after it; the cut is the end of a batch."""
        peer = self.peer
        last = batches[-1].last
        learner.flew(last, sum(batch.size for batch in batches), peer.now)
        if learner.new_leader_sent:
            peer.emit(Send(learner.link, Propose(self.tenure.epoch, batches, peer.committed)))
        else:
            assert last <= learner.cut, "sync data beyond the cut"
            peer.emit(Send(learner.link, SyncTxns(self.tenure.epoch, batches)))

    def _read_snapshot(self, learner: Learner, offset: int) -> None:
        assert learner.snapshot is not None
        learner.reading = True
        timing = self.peer.timing
        self.peer.emit(ReadSnapshot(self.peer.role, learner.link, learner.snapshot, offset, timing.chunk_bytes))

    def on_snapshot_read(self, answer: SnapshotRead) -> None:
        peer = self.peer
        learner = self.tenure.on(answer.link)
        if learner is None or not learner.reading or learner.snapshot is None:
            return
        learner.reading = False
        mark, data = learner.snapshot, answer.data
        if data is None:
            self.drop(learner, f"the snapshot at {mark.zxid} is gone")
            return
        epoch = self.tenure.epoch
        if answer.offset == 0:
            peer.emit(Send(learner.link, Snap(epoch, mark.zxid, mark.ends, mark.admits, answer.size)))
        peer.emit(Send(learner.link, SnapChunk(epoch, answer.offset, data)))
        learner.snapshot_sent = answer.offset + len(data)
        if learner.snapshot_sent >= answer.size:
            learner.snapshot = None
            learner.sent = learner.durable = mark.zxid
            self.pump(learner)
        else:
            self._go_on_with_snapshot(learner)

    def _go_on_with_snapshot(self, learner: Learner) -> None:
        if learner.snapshot is None or learner.reading:
            return
        if learner.snapshot_sent - learner.snapshot_staged < self.peer.timing.snapshot_window_bytes:
            self._read_snapshot(learner, learner.snapshot_sent)

    # ---- hearing learners

    def on_learner_message(self, learner: Learner, message: LinkMessage) -> None:
        match message:
            case SyncProgress(_, zxid, staged):
                if staged > learner.snapshot_sent or (learner.snapshot is None and zxid > learner.sent):
                    raise RemoteProtocolError("progress beyond what was sent")
                learner.snapshot_staged = max(learner.snapshot_staged, staged)
                if learner.snapshot is None:
                    learner.landed(zxid, self.peer.now)
                self.progress_at = self.peer.now
                self._go_on_with_snapshot(learner)
                self.pump(learner)
            case AckNewLeader(_, cut):
                self._on_ack_new_leader(learner, cut)
            case _:
                super().on_learner_message(learner, message)

    def _on_ack_new_leader(self, learner: Learner, cut: Zxid) -> None:
        if not learner.new_leader_sent or learner.new_leader_acked or cut != learner.cut:
            raise RemoteProtocolError(f"ACK_NEWLEADER of {cut} that was not asked for")
        learner.new_leader_acked = True
        learner.landed(cut, self.peer.now)
        self.progress_at = self.peer.now
        self.count(learner, cut)
        self.on_synchronized(learner)
        if self.peer.phase is self:
            self.pump(learner)

    def count(self, learner: Learner, zxid: Zxid) -> None:
        """`zxid` and all before it are on this learner's disk, in this epoch (B5); the un-joined never count (V5)."""
        learner.acked = max(learner.acked, zxid)
        if learner.joined:
            self.tenure.acked[learner.process.peer] = learner.acked

    def on_synchronized(self, learner: Learner) -> None:
        """One more learner has acknowledged NEWLEADER."""
        self._establish()

    def _establish(self) -> None:
        """S8: a quorum holds our history and its epoch. All of it is committed, at once."""
        peer = self.peer
        if not peer.voters.is_quorum(self.tenure.acked):
            return
        assert peer.durable == peer.history.last, "nothing is proposed before the epoch is established"
        if peer.committed > peer.history.last:  # A former leader has said so; no bug of ours is needed for it.
            peer.fail(f"histories disagree: {peer.committed} was called committed, and {peer.history.last} leads")
            return
        peer.committed = peer.history.last
        peer.lead_broadcast(self.tenure)


class LearnerSynchronization(PeerPhase):
    """FOLLOWING: take the leader's history, then its epoch, to disk; acknowledge both; wait for UPTODATE (5.2)."""

    state = State.FOLLOWING
    phase = Phase.SYNCHRONIZATION

    def __init__(self, peer: Peer, following: Following) -> None:
        super().__init__(peer)
        self.following = following
        self.link = following.link
        self.snapshot: SnapshotMark | None = None  # being received
        self.snapshot_size = 0
        self.snapshot_got = 0
        self.snapshot_installing: Zxid | None = None
        self.accepting: Epochs | None = None  # what META says when this epoch is accepted

    def begin(self) -> None:
        following, now = self.following, self.peer.now
        following.heard_at = following.progress_at = following.pub_at = now
        following.silence = self.peer.jitter(self.peer.timing.peer_timeout)

    @property
    def leader(self) -> ProcessId | None:
        return self.following.leader

    @property
    def epoch(self) -> int:
        return self.following.epoch

    def links(self) -> list[LinkId]:
        return [self.link]

    # ---- time

    def deadline(self) -> float:
        return min(
            self.following.heard_at + self.following.silence,
            self.following.progress_at + self.peer.timing.sync_progress_timeout,
        )

    def on_tick(self) -> None:
        peer = self.peer
        if peer.now >= self.following.heard_at + self.following.silence:
            peer.leave(f"leader {self.following.leader.peer} silent for {peer.now - self.following.heard_at:.0f} ms")
        elif peer.now >= self.following.progress_at + peer.timing.sync_progress_timeout:
            peer.leave("synchronization makes no progress")  # B12

    def on_resumed(self) -> None:
        self.following.heard_at = self.following.progress_at = self.peer.now

    # ---- signs of life and of commitment

    def on_notification(self, source: ProcessId, note: Notification) -> None:
        if source.peer == self.following.leader.peer and left_by(
            source, note, self.following.leader, self.following.decided_round, self.following.told_n_seq
        ):
            self.peer.leave(f"leader {source.peer} is LOOKING")  # F3

    def on_heartbeat(self, source: ProcessId, heartbeat: Heartbeat, on_link: bool) -> None:
        peer = self.peer
        if source.peer != self.following.leader.peer:
            return
        if source != self.following.leader:
            peer.leave(f"leader {source.peer} has restarted")  # F3
            return
        if heartbeat.state is not State.LEADING or heartbeat.epoch != self.following.epoch:
            return  # T3
        self.following.heard_at = peer.now
        if not on_link:
            self.following.pub_at = peer.now
        self.on_watermark(heartbeat.committed)
        # V2: our promise is of this very epoch, else this phase would be over.
        assert peer.epochs.accepted == self.following.epoch, "echo after a higher promise"
        peer.emit(Send(self.link, HbEcho(self.following.epoch, heartbeat.hb_seq, on_link)))

    def on_commit(self, source: ProcessId, commit: Commit) -> None:
        if source == self.following.leader and commit.epoch == self.following.epoch:
            self.following.heard_at = self.peer.now
            self.on_watermark(commit.zxid)

    def on_watermark(self, zxid: Zxid) -> None:
        """S7: remembered, not applied: what we hold may still be a dead branch."""
        if zxid > self.following.seen:
            self.following.seen = zxid

    def on_link_lost(self, link: LinkId, why: str) -> None:
        if link == self.link:
            self.peer.leave(f"link to leader {self.following.leader.peer} lost: {why}")  # F3

    # ---- the leader's history, in order

    def on_link_message(self, source: ProcessId, link: LinkId, message: LinkMessage) -> None:
        if link != self.link:
            super().on_link_message(source, link, message)
            return
        self.following.heard_at = self.peer.now
        if isinstance(message, Heartbeat):
            self.on_heartbeat(source, message, True)
        elif isinstance(message, Nack):
            self._on_nack(message)
        elif getattr(message, "epoch", 0) != self.following.epoch:
            raise RemoteProtocolError(f"{type(message).__name__} is not of epoch {self.following.epoch}")  # T2
        else:
            self.on_leader_message(message)

    def _on_nack(self, nack: Nack) -> None:
        self.peer.saw_epochs(nack.accepted_epoch)  # V4
        if nack.reason is Refusal.HISTORIES_DISAGREE:
            self.peer.fail("the leader's committed history and ours disagree")
        else:
            self.peer.leave(f"refused by {self.following.leader.peer}: {nack.reason.name}")

    def on_leader_message(self, message: LinkMessage) -> None:
        self.following.progress_at = self.peer.now
        match message:
            case Trunc(_, to):
                self._on_trunc(to)
            case Snap():
                self._on_snap(message)
            case SnapChunk():
                self._on_snap_chunk(message)
            case SyncTxns(_, batches):
                if self.following.cut is not None or self.snapshot is not None:
                    raise misplaced(message, self.phase)
                self._append(batches)
            case NewLeader(_, cut):
                self._on_new_leader(cut)
            case Propose(_, batches, committed):
                self.on_propose(batches, committed)
            case UpToDate(_, committed):
                self._on_up_to_date(committed)
            case _:
                raise misplaced(message, self.phase)

    def _on_trunc(self, to: Zxid) -> None:
        peer = self.peer
        if self.following.cut is not None or self.snapshot is not None:
            raise RemoteProtocolError("TRUNC in the middle of a synchronization")
        if to < peer.history.snapshot or to < min(peer.committed, peer.history.last):
            peer.fail(f"asked to truncate to {to}, but {peer.committed} is committed")
            return
        peer.history.truncate(to)
        peer.durable = min(peer.durable, to)
        peer.emit(Truncate(peer.role, to))

    def _on_snap(self, snap: Snap) -> None:
        peer = self.peer
        if self.following.cut is not None or self.snapshot is not None:
            raise RemoteProtocolError("SNAP in the middle of a synchronization")
        if snap.zxid < peer.delivered:
            peer.fail(f"offered a snapshot at {snap.zxid}, but {peer.delivered} is applied here")
            return
        self.snapshot = SnapshotMark(snap.zxid, snap.ends, snap.admits)
        self.snapshot_size = snap.size
        self.snapshot_got = 0

    def _on_snap_chunk(self, chunk: SnapChunk) -> None:
        peer = self.peer
        if self.snapshot is None or chunk.offset != self.snapshot_got:
            raise RemoteProtocolError("a piece of a snapshot that does not fit")
        self.snapshot_got += len(chunk.data)
        if self.snapshot_got > self.snapshot_size:
            raise RemoteProtocolError("a snapshot longer than announced")
        peer.emit(StageSnapshot(peer.role, chunk.offset, chunk.data))
        if self.snapshot_got == self.snapshot_size:
            # From here on our history is that snapshot; what follows is written after it in the same queue.
            peer.emit(InstallSnapshot(peer.role, self.snapshot, self.snapshot_size))
            peer.history = History.at(self.snapshot)
            peer.durable = peer.delivered  # of the new history; the old tail may lie beyond it in number
            self.snapshot_installing = self.snapshot.zxid
            self.snapshot = None

    def on_snapshot_staged(self, offset: int) -> None:
        self.following.progress_at = self.peer.now
        self.peer.emit(Send(self.link, SyncProgress(self.following.epoch, ZERO, offset)))

    def on_snapshot_installed(self) -> None:
        self.following.progress_at = self.peer.now
        self.snapshot_installing = None
        self._accept()

    def _append(self, batches: tuple[Batch, ...]) -> None:
        """Queue for the disk. Raises HistoryError on a hole, which closes the link (B3)."""
        peer = self.peer
        if not batches or batches[-1].last.epoch > self.following.epoch:
            raise RemoteProtocolError(f"no batches, or of an epoch beyond {self.following.epoch}")  # D2
        for batch in batches:
            peer.history.append(batch)
        peer.writing_since = min(peer.writing_since, peer.now)
        peer.emit(Append(peer.role, batches))

    def _on_new_leader(self, cut: Zxid) -> None:
        peer = self.peer
        if self.following.cut is not None or self.snapshot is not None or cut != peer.history.last:
            raise RemoteProtocolError(f"NEWLEADER with cut {cut}, but {peer.history.last} was sent")
        self.following.cut = cut
        # L18: whoever finds its own life replaced is un-joined from here on, until it is admitted again: an ADMIT
        # that is not committed yet must not make it count.
        current = max(peer.epochs.current, self.following.epoch)
        self.accepting = peer.epochs._replace(current=current, joined=peer.counts)
        if peer.epochs != self.accepting:
            # S3: behind the history in the writer's one queue, so it is on disk only after all of it.
            peer.save_epochs(self.accepting)
        self._accept()

    def _accept(self) -> None:
        """S4: acknowledge NEWLEADER when the history up to the cut, then currentEpoch, are on disk."""
        peer = self.peer
        if self.following.accepted or self.following.cut is None or self.snapshot_installing is not None:
            return
        if peer.durable < self.following.cut or peer.epochs != self.accepting:
            return
        self.following.accepted = True
        peer.emit(Send(self.link, AckNewLeader(self.following.epoch, self.following.cut)))
        if peer.durable > self.following.cut:
            self.acknowledge()

    def on_durable(self) -> None:
        self.following.progress_at = self.peer.now
        if self.following.accepted:
            self.acknowledge()
            return
        self.peer.emit(Send(self.link, SyncProgress(self.following.epoch, self.peer.durable, 0)))
        self._accept()

    def on_epochs_saved(self, epochs: Epochs) -> None:
        self._accept()

    def on_propose(self, batches: tuple[Batch, ...], committed: Zxid) -> None:
        """B3. A repeat is acknowledged again; a hole is never appended across: the link is closed."""
        peer = self.peer
        if self.following.cut is None:
            raise RemoteProtocolError("PROPOSE before NEWLEADER")
        if any(batch.first.epoch != self.following.epoch for batch in batches):
            raise RemoteProtocolError(f"PROPOSE of another epoch than {self.following.epoch}")
        fresh = tuple(batch for batch in batches if batch.last > peer.history.last)
        if fresh:
            self._append(fresh)
        elif self.following.accepted:
            self.acknowledge()  # A repeat of what we hold: LogMatching makes its bytes the same.
        self.on_watermark(committed)

    def acknowledge(self) -> None:
        """B1: one cumulative ACK for all that one sync made durable; never before ACK_NEWLEADER (S6)."""
        peer = self.peer
        assert peer.epochs.accepted == self.following.epoch, "ACK after a higher promise"  # V2
        peer.emit(Send(self.link, Ack(self.following.epoch, peer.durable)))

    def _on_up_to_date(self, committed: Zxid) -> None:
        if not self.following.accepted:
            raise RemoteProtocolError("UPTODATE before ACK_NEWLEADER")
        self.on_watermark(committed)
        self.peer.follow_broadcast(self.following)

    def on_disk_full(self) -> None:
        self.peer.leave("the disk is full")  # L15
