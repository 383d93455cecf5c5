"""Phase 1: a quorum promises the new epoch (PROTOCOL 4).

The leader's half goes on serving latecomers while the later phases run: LeaderSynchronization inherits it, and
LeaderBroadcast that. The learner's half ends when its promise is on disk and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from zabzmq.core.effects import CloseLink, OpenLink, Send
from zabzmq.core.errors import RemoteProtocolError
from zabzmq.core.history import Epochs
from zabzmq.core.learner import Following, Learner, Promise, Promised, Tenure
from zabzmq.core.messages import (
    AckEpoch,
    FollowerInfo,
    HbEcho,
    Heartbeat,
    LeaderInfo,
    LinkMessage,
    Nack,
    Notification,
    Phase,
    Refusal,
    State,
)
from zabzmq.core.phase import PeerPhase, misplaced
from zabzmq.core.zxid import LinkId, PeerId, ProcessId

if TYPE_CHECKING:
    from zabzmq.core.peer import Peer

Waiting: TypeAlias = tuple[ProcessId, LinkId, FollowerInfo]
"""A FOLLOWERINFO that came while we were still LOOKING (E7)."""


class LeaderDiscovery(PeerPhase):
    """LEADING: collect promises for one new epoch from a quorum, and see that no history is ahead of ours."""

    state = State.LEADING
    phase = Phase.DISCOVERY

    def __init__(self, peer: Peer, tenure: Tenure, waiting: Sequence[Waiting] = ()) -> None:
        super().__init__(peer)
        self.tenure = tenure
        self.waiting = waiting
        self.complete = False  # a quorum has promised; nothing is weighed any more

    def begin(self) -> None:
        self.give_up_at = self.peer.now + self.peer.timing.discovery_timeout
        self.joined_before = self.peer.counts
        for source, link, info in self.waiting:
            self.on_link_message(source, link, info)
            if self.peer.phase is not self:
                return
        self._form_epoch()

    @property
    def leader(self) -> ProcessId | None:
        return self.peer.process

    @property
    def epoch(self) -> int:
        return self.tenure.epoch

    def links(self) -> list[LinkId]:
        return [learner.link for learner in self.tenure]

    # ---- time: heartbeats go on in every phase

    def deadline(self) -> float:
        return self.give_up_at

    def on_tick(self) -> None:
        peer = self.peer
        if peer.now >= peer.hb_at + peer.timing.hb_interval:
            self.beat()
        if peer.now - peer.writing_since >= peer.timing.disk_stall:
            peer.leave("the disk is stalled")  # F6
        elif peer.now >= self.give_up_at:
            peer.leave_unanswered(f"no quorum of promises within {peer.timing.discovery_timeout:.0f} ms")  # V6

    def beat(self) -> None:
        """A heartbeat to all, and on the link to learners that do not echo what PUB carries (T9)."""
        heartbeat = self.peer.beat()
        for learner in self.tenure:
            if learner.ack_epoch is None:
                continue
            if self.peer.now - learner.pub_echoed_at > 4 * self.peer.timing.hb_interval:
                learner.beat_on_link = True
            if learner.beat_on_link:
                self.peer.emit(Send(learner.link, heartbeat))

    # ---- learners come and go

    def on_link_message(self, source: ProcessId, link: LinkId, message: LinkMessage) -> None:
        if isinstance(message, FollowerInfo):
            self._on_follower_info(source, link, message)
            return
        learner = self.tenure.on(link)
        if learner is None:
            return  # Of a link we closed (T6).
        learner.heard_at = self.peer.now
        if isinstance(message, Nack):
            self._on_nack(learner, message)
        elif self.tenure.epoch and getattr(message, "epoch", 0) != self.tenure.epoch:
            raise RemoteProtocolError(f"{type(message).__name__} is not of epoch {self.tenure.epoch}")  # T2
        elif isinstance(message, AckEpoch):
            self._on_ack_epoch(learner, message)
        else:
            self.on_learner_message(learner, message)

    def on_learner_message(self, learner: Learner, message: LinkMessage) -> None:
        """What a learner says once it has promised; later phases understand more."""
        if not isinstance(message, HbEcho):
            raise misplaced(message, self.phase)
        self.on_echo(learner, message.hb_seq, message.on_link)

    def on_echo(self, learner: Learner, hb_seq: int, on_link: bool) -> None:
        """A sign of life as old as the sending of the heartbeat it echoes (F2)."""
        peer = self.peer
        if hb_seq > peer.hb_seq:
            raise RemoteProtocolError("echo of a heartbeat never sent")
        if hb_seq > learner.echoed_seq:
            learner.echoed_seq = hb_seq
            learner.echoed_at = max(learner.echoed_at, peer.beat_at.get(hb_seq, 0.0))
        if not on_link:
            learner.pub_echoed_at = max(learner.pub_echoed_at, peer.beat_at.get(hb_seq, 0.0))
            learner.beat_on_link = False  # T9: PUB works

    def _on_follower_info(self, source: ProcessId, link: LinkId, info: FollowerInfo) -> None:
        peer = self.peer
        if info.config_id != peer.config_id:
            self.send_away(link, Refusal.OTHER_CONFIG)
            return
        peer.saw_epochs(info.accepted_epoch, info.max_epoch_seen)
        old = self.tenure.learners.get(source.peer)
        if old is not None:
            self.drop(old, "a newer link of the same peer")
        self.tenure.left.discard(source.peer)
        self.tenure.learners[source.peer] = Learner(source, link, info, peer.now, joined=info.joined)
        if self._promised_by_me():
            self._send_leader_info(self.tenure.learners[source.peer])
        else:
            self._form_epoch()

    def _promised_by_me(self) -> bool:
        return self.tenure.epoch > 0 and self.peer.epochs.accepted == self.tenure.epoch

    def _form_epoch(self) -> None:
        """A quorum has told what it promised: the new epoch is above all of it, and never changes again."""
        peer, tenure = self.peer, self.tenure
        if tenure.epoch:
            return
        fresh = peer.all_voters_are_fresh()
        here = {p for p, learner in tenure.learners.items() if learner.joined or fresh}
        if peer.counts or fresh:
            here.add(peer.id)
        if not peer.voters.is_quorum(here):
            return
        if peer.id not in here:
            # V5: elected as a first start, and since then a voter was heard that has been in an epoch.
            peer.leave("an empty disk may not lead beside one that has been in an epoch")
            return
        tenure.epoch = 1 + max(peer.epochs.accepted, peer.max_epoch_seen)
        # L13a: joined is set with the first counted promise, our own included.
        peer.save_epochs(Epochs(tenure.epoch, peer.epochs.current, peer.epochs.joined or fresh))

    def on_epochs_saved(self, epochs: Epochs) -> None:
        tenure = self.tenure
        if epochs.current == tenure.epoch:
            self.peer.lead_synchronization(tenure)
            return
        for learner in list(tenure):
            self._send_leader_info(learner)
        self._count_promises()

    def _send_leader_info(self, learner: Learner) -> None:
        peer = self.peer
        peer.n_seq += 1
        peer.emit(Send(learner.link, LeaderInfo(self.tenure.epoch, peer.n_seq)))

    def _on_ack_epoch(self, learner: Learner, ack: AckEpoch) -> None:
        if not self._promised_by_me() or learner.ack_epoch is not None:
            raise RemoteProtocolError("ACKEPOCH that nobody asked for")
        learner.ack_epoch = ack
        learner.echoed_at = learner.pub_echoed_at = self.peer.now  # No echo: it may be older than a read (C5).
        learner.joined = learner.info.joined and not self.was_replaced(learner)
        self.on_promise(learner, ack)

    def on_promise(self, learner: Learner, ack: AckEpoch) -> None:
        """Before the quorum is complete every promise is weighed; later phases only synchronize (V3)."""
        peer, tenure = self.peer, self.tenure
        who = learner.process.peer
        if self.complete:
            return  # Our epoch is on its way to the disk: this one is only to be synchronized (V3).
        if not ack.counted:
            tenure.uncounted.add(who)
            possible = [p for p in peer.voters.ids if p not in tenure.uncounted or p in tenure.promised]
            if not peer.voters.is_quorum(possible):
                peer.leave("a quorum has promised this epoch to others")  # V6
            return
        if (ack.current_epoch, ack.last) > (peer.epochs.current, peer.durable):
            peer.leave(f"follower {who} is more recent: epoch {ack.current_epoch}, {ack.last}")
            return
        if self.was_replaced(learner):
            peer.report("drop", why="promise of a life that was replaced (L18)", type="AckEpoch", peer=who)
            return
        tenure.promised[who] = Promised(learner.info.joined, ack.current_epoch)
        self._count_promises()

    def was_replaced(self, learner: Learner) -> bool:
        """L18: the last ADMIT of this peer in our history names another life; this one forgot what it promised."""
        admitted = self.peer.history.last_admit(learner.process.peer)
        return admitted is not None and admitted != learner.process.life and not self.peer.unsafe_rejoin_empty

    def _count_promises(self) -> None:
        peer, tenure = self.peer, self.tenure
        if not self._promised_by_me():
            return
        # L13a: the leader judges again over the whole quorum. Who was not joined counts only while all are fresh.
        fresh = peer.epochs.current == 0 and all(p.current_epoch == 0 for p in tenure.promised.values())
        counted = {p for p, promise in tenure.promised.items() if promise.joined_before or fresh}
        if self.joined_before or fresh:
            counted.add(peer.id)
        if peer.voters.is_quorum(counted):
            self.complete = True
            tenure.bootstrap = fresh
            peer.save_epochs(peer.epochs._replace(current=tenure.epoch))

    def _on_nack(self, learner: Learner, nack: Nack) -> None:
        self.peer.saw_epochs(nack.accepted_epoch)
        self.drop(learner, f"NACK {nack.reason.name}")
        if nack.reason is Refusal.EPOCH_TOO_OLD:
            self.on_epoch_too_old(learner, nack)

    def on_epoch_too_old(self, learner: Learner, nack: Nack) -> None:
        """V4: not yet established, so step down at once; an established leader does so less often."""
        self.peer.leave(f"peer {learner.process.peer} has promised epoch {nack.accepted_epoch}")

    def on_notification(self, source: ProcessId, note: Notification) -> None:
        """A learner seen LOOKING after its FOLLOWERINFO has left us; an older, re-sent vote says nothing (3.3, V6)."""
        learner = self.tenure.learners.get(source.peer)
        if learner is None and not self.tenure.epoch:
            self._on_stranger(source, note)
        if note.state is not State.LOOKING or learner is None:
            return
        if learner.process == source and note.n_seq <= learner.info.n_seq:
            return
        self.drop(learner, "it is LOOKING again")
        self.tenure.left.add(source.peer)
        self.on_learner_left()

    def _on_stranger(self, source: ProcessId, note: Notification) -> None:
        """V6: who elected us and has changed its mind since does not come; nor does one that we do not reach."""
        peer = self.peer
        if note.vote is None or note.vote.leader == peer.process or note.round < peer.round:
            return
        self.tenure.left.add(source.peer)
        coming = [p for p in peer.voters.ids if p not in self.tenure.left and peer.reachable(p)]
        if not peer.voters.is_quorum({*coming, *self.tenure.learners}):
            peer.leave("too many voters want another leader")

    def on_learner_left(self) -> None:
        still = [p for p in self.peer.voters.ids if p not in self.tenure.left]
        if not self.peer.voters.is_quorum(still):
            self.peer.leave("too many voters are LOOKING again")  # V6

    def on_link_lost(self, link: LinkId, why: str) -> None:
        learner = self.tenure.on(link)
        if learner is not None:
            self.drop(learner, why)  # F4: this alone never makes a leader step down

    def drop(self, learner: Learner, why: str) -> None:
        del self.tenure.learners[learner.process.peer]
        self.peer.emit(CloseLink(learner.link, why))

    def on_disk_full(self) -> None:
        self.peer.leave("the disk is full")  # L15


class LearnerDiscovery(PeerPhase):
    """FOLLOWING: reach the elected leader and promise it its epoch."""

    state = State.FOLLOWING
    phase = Phase.DISCOVERY

    def __init__(self, peer: Peer, leader: ProcessId) -> None:
        super().__init__(peer)
        self._leader = leader
        self._round = peer.round
        self.link: LinkId | None = None
        self.saving: LeaderInfo | None = None
        self.told_n_seq: int | None = None

    def begin(self) -> None:
        self.give_up_at = self.peer.now + self.peer.timing.discovery_timeout
        self.open_at = self.peer.now + self.peer.backoff()
        self.on_tick()

    @property
    def leader(self) -> ProcessId | None:
        return self._leader

    def links(self) -> list[LinkId]:
        return [self.link] if self.link is not None else []

    def deadline(self) -> float:
        return min(self.give_up_at, self.open_at)

    def on_tick(self) -> None:
        peer = self.peer
        if peer.now >= self.give_up_at:
            peer.leave(f"leader {self._leader.peer} did not answer in {peer.timing.discovery_timeout:.0f} ms")
        elif peer.now >= self.open_at:
            self.open_at = inf
            peer.link_number += 1
            self.link = LinkId(peer.process, peer.link_number)
            peer.emit(OpenLink(self.link, self._leader.peer))

    def on_link_up(self, link: LinkId) -> None:
        if link == self.link:
            peer = self.peer
            peer.n_seq += 1
            info = FollowerInfo(peer.epochs.accepted, peer.max_epoch_seen, peer.counts, peer.config_id, peer.n_seq)
            peer.emit(Send(link, info))

    def on_link_lost(self, link: LinkId, why: str) -> None:
        if link != self.link:
            return
        if self.saving is not None or not self.peer.reachable(self._leader.peer):
            self.peer.leave(f"no link to leader {self._leader.peer}: {why}")  # F3, E8
            return
        self.link = None
        self.open_at = self.peer.now + self.peer.timing.link_retry

    def on_mesh_down(self, peer: PeerId) -> None:
        if peer == self._leader.peer:
            self.peer.leave(f"leader {peer} is gone")  # F3

    def on_link_message(self, source: ProcessId, link: LinkId, message: LinkMessage) -> None:
        if link != self.link:
            super().on_link_message(source, link, message)
            return
        if source != self._leader:
            raise RemoteProtocolError("another process than the one elected")
        match message:
            case LeaderInfo():
                self._on_leader_info(link, message)
            case Nack(Refusal.NOT_LEADING) if self.saving is None:
                self.peer.emit(CloseLink(link, "not leading yet"))
                self.link = None
                self.open_at = self.peer.now + self.peer.timing.link_retry  # E7
            case Nack(reason, accepted):
                self.peer.saw_epochs(accepted)  # V4
                self.peer.leave(f"refused by {source.peer}: {reason.name}")
            case Heartbeat():
                pass  # T3: nothing is echoed before the promise
            case _:
                raise misplaced(message, self.phase)

    def _on_leader_info(self, link: LinkId, info: LeaderInfo) -> None:
        peer = self.peer
        if self.saving is not None:
            raise RemoteProtocolError("LEADERINFO twice")
        peer.saw_epochs(info.epoch)
        self.told_n_seq = info.n_seq
        accepted = peer.epochs.accepted
        if info.epoch < accepted:
            peer.emit(Send(link, Nack(Refusal.EPOCH_TOO_OLD, accepted)))
            peer.leave(f"leader {self._leader.peer} offers epoch {info.epoch}, {accepted} is promised")
        elif info.epoch == accepted:
            # V1: the promise is given, perhaps to another. It counts again only for the very same process.
            promise = peer.promise
            same = promise is not None and (promise.leader, promise.epoch) == (self._leader, info.epoch)
            self._acknowledge(link, info, counted=same and peer.counts)
        else:
            self.saving = info
            self.give_up_at = peer.now + peer.timing.discovery_timeout
            peer.promise = Promise(self._leader, info.epoch)
            peer.save_epochs(Epochs(info.epoch, peer.epochs.current, peer.epochs.joined or peer.may_bootstrap()))

    def on_epochs_saved(self, epochs: Epochs) -> None:
        assert self.saving is not None and self.link is not None, "a promise outlived its link"
        self._acknowledge(self.link, self.saving, counted=self.peer.counts)

    def _acknowledge(self, link: LinkId, info: LeaderInfo, *, counted: bool) -> None:
        peer = self.peer
        history = peer.history
        assert peer.durable == history.last, "nothing is appended before a synchronization"
        ack = AckEpoch(info.epoch, peer.epochs.current, history.last, history.snapshot, tuple(history.ends), counted)
        peer.emit(Send(link, ack))
        peer.follow_synchronization(Following(self._leader, link, info.epoch, info.n_seq, self._round))

    def on_notification(self, source: ProcessId, note: Notification) -> None:
        if source.peer == self._leader.peer and left_by(source, note, self._leader, self._round, self.told_n_seq):
            self.peer.leave(f"leader {source.peer} is LOOKING")  # F3

    def on_heartbeat(self, source: ProcessId, heartbeat: Heartbeat, on_link: bool) -> None:
        if source.peer == self._leader.peer and source != self._leader:
            self.peer.leave(f"leader {source.peer} has restarted")

    def on_disk_full(self) -> None:
        self.peer.leave("the disk is full")


def left_by(
    source: ProcessId, note: Notification, leader: ProcessId, decided_round: int, told_n_seq: int | None
) -> bool:
    """F3: whether this notification shows that our leader has restarted, follows another, or is LOOKING again.

    Before LEADERINFO only a greater round says so: it may simply not have decided yet (E7).
    """
    if source != leader or note.state is State.FOLLOWING:
        return True
    if note.state is not State.LOOKING:
        return False
    return note.round > decided_round or (told_n_seq is not None and note.n_seq > told_n_seq)
