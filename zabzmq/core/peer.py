"""One peer: `step()`, the table of moves, and the phase object of the moment.

Peer keeps what outlives a phase: what the disk holds, what is committed, who is out there. Why a peer moves is
the phases' business; `_enter` alone swaps the phase object, after looking at MOVES.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol, TypeAlias, assert_never

from zabzmq.core.broadcast import LeaderBroadcast, LearnerBroadcast
from zabzmq.core.discovery import LeaderDiscovery, LearnerDiscovery, Waiting
from zabzmq.core.effects import (
    CloseLink,
    Deliver,
    Effect,
    Fail,
    Moved,
    Publish,
    Quiesce,
    Report,
    SaveEpochs,
    SendVote,
)
from zabzmq.core.election import Election
from zabzmq.core.errors import HistoryError, RemoteProtocolError
from zabzmq.core.history import Epochs, History
from zabzmq.core.inputs import (
    BatchesRead,
    DiskSpace,
    Durable,
    EpochsSaved,
    Input,
    LinkLost,
    LinkUp,
    MeshDown,
    MeshUp,
    Quiesced,
    Read,
    Received,
    Request,
    Resumed,
    SnapshotInstalled,
    SnapshotRead,
    SnapshotStaged,
    SnapshotTaken,
    Space,
    Tick,
)
from zabzmq.core.learner import Following, Promise, Tenure
from zabzmq.core.messages import Commit, Heartbeat, Notification, Phase, State, Vote
from zabzmq.core.phase import PeerPhase
from zabzmq.core.quorum import Voters
from zabzmq.core.synchronization import LeaderSynchronization, LearnerSynchronization
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import PeerId, ProcessId, Zxid

Place: TypeAlias = tuple[State, Phase]

_QUIESCE: Final = (State.LOOKING, Phase.QUIESCE)
_ELECTION: Final = (State.LOOKING, Phase.ELECTION)

# Every legal move of a peer is a line here; FAILED can be reached from anywhere and is never left.
MOVES: Final[Mapping[Place, Set[Place]]] = {
    _QUIESCE: {_ELECTION},
    _ELECTION: {_ELECTION, _QUIESCE, (State.LEADING, Phase.DISCOVERY), (State.FOLLOWING, Phase.DISCOVERY)},
    (State.LEADING, Phase.DISCOVERY): {(State.LEADING, Phase.SYNCHRONIZATION), _QUIESCE},
    (State.LEADING, Phase.SYNCHRONIZATION): {(State.LEADING, Phase.BROADCAST), _QUIESCE},
    (State.LEADING, Phase.BROADCAST): {_QUIESCE},
    (State.FOLLOWING, Phase.DISCOVERY): {(State.FOLLOWING, Phase.SYNCHRONIZATION), _QUIESCE},
    (State.FOLLOWING, Phase.SYNCHRONIZATION): {(State.FOLLOWING, Phase.BROADCAST), _QUIESCE},
    (State.FOLLOWING, Phase.BROADCAST): {_QUIESCE},
}


class Dice(Protocol):
    """Where chance comes from: a `random.Random`, handed in."""

    def random(self) -> float: ...


LEAP_MAX: Final = 1 << 32
"""No honest peer is so many epochs or rounds ahead of another: at ten elections a second that takes 13 years. Without
a bound one forged message would use up all there are."""
BEATS_KEPT: Final = 4096
"""How many heartbeats back an echo may come; reads send them as fast as they can (C5)."""


@dataclass(slots=True)
class Contact:
    """What is known of another voter from its mesh connection, votes and heartbeats. Never used for safety."""

    mesh_up: bool = False
    heard_at: float = -inf
    process: ProcessId | None = None
    note: Notification | None = None
    current_epoch: int | None = None


class Peer:
    """A voter of the ensemble. Pure: no socket, clock, file or dice but the one handed in.

    `history` and `epochs` are what storage recovered; `process.incarnation` is already durable (1.2).
    """

    def __init__(
        self,
        process: ProcessId,
        voters: Voters,
        history: History,
        epochs: Epochs,
        dice: Dice,
        timing: Timing | None = None,
        *,
        config_id: int = 0,
        bootstrap_all: bool = False,
        unsafe_rejoin_empty: bool = False,
    ) -> None:
        if process.peer not in voters.ids:
            raise ValueError(f"peer {process.peer} is not one of the voters {voters.ids}")
        self.process = process
        self.id: PeerId = process.peer
        self.voters = voters
        self.timing = timing or Timing()
        self.dice = dice
        self.config_id = config_id
        self.bootstrap_all = bootstrap_all
        self.unsafe_rejoin_empty = unsafe_rejoin_empty  # L20: somebody has decided to go on without the lost disks

        self.now = 0.0
        self.started_at = 0.0
        self.role = 0
        self.history = history.copy()  # includes what is queued for the disk and not yet there
        self.epochs = epochs  # durable
        self.durable: Zxid = history.last
        self.committed: Zxid = history.snapshot
        self.delivered: Zxid = history.snapshot
        self.max_epoch_seen = epochs.accepted
        self.round = 0
        self.n_seq = 0
        self.hb_seq = 0
        self.hb_at = -inf
        self.beat_at: dict[int, float] = {}  # when each recent heartbeat was sent (F2)
        self.link_number = 0
        self.failures = 0  # roles left in a row before BROADCAST (F8)
        self.stable_since = inf
        self.deposed_by_epoch_at = -inf
        self.unanswered_at = -inf  # when no quorum answered a leader (E8)
        self.promise: Promise | None = None
        self.decided: Vote | None = None
        self.disk_full = False
        self.writing_since = inf  # when the oldest write in flight was asked for (F6)
        self.contacts: dict[PeerId, Contact] = {v: Contact() for v in voters.ids if v != self.id}
        self._out: list[Effect] = []
        self.phase: PeerPhase = _Asleep(self)

    # ---- the one door ----------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """The first step of a process: go LOOKING."""
        self.now = self.started_at = now
        self._enter(Election(self), "started")
        return self._take()

    def step(self, now: float, event: Input) -> list[Effect]:
        """Take one input at `now` milliseconds; return what the world must do, in this order."""
        if self.phase.state is State.FAILED:
            return []
        self.now = now
        match event:
            case Received(source, link, message):
                self._on_received(source, link, message)
            case Tick():
                self._on_tick()
            case Durable(role, zxid):
                if role == self.role:
                    self.durable = zxid
                    self.writing_since = now if zxid < self.history.last else inf
                    self.phase.on_durable()
            case Request():
                self.phase.on_request(event)
            case Read(ticket):
                self.phase.on_read(ticket)
            case EpochsSaved(role, epochs):
                if role == self.role:
                    self.epochs = epochs
                    if self.durable >= self.history.last:
                        self.writing_since = inf
                    self.phase.on_epochs_saved(epochs)
            case LinkUp(link):
                self.phase.on_link_up(link)
            case LinkLost(link, why):
                self.phase.on_link_lost(link, why)
            case MeshUp(peer):
                self.contacts[peer].mesh_up = True
                self.phase.on_mesh_up(peer)
                # What we said before was lost if it was not there to hear it (IMMEDIATE=1 keeps no queue).
                self.emit(SendVote(peer, self.notification(self.phase.vote_to_tell)))
            case MeshDown(peer):
                self.contacts[peer].mesh_up = False
                self.phase.on_mesh_down(peer)
            case BatchesRead(role):
                if role == self.role:
                    self.phase.on_batches_read(event)
            case SnapshotRead(role):
                if role == self.role:
                    self.phase.on_snapshot_read(event)
            case SnapshotStaged(role, offset):
                if role == self.role:
                    self.phase.on_snapshot_staged(offset)
            case SnapshotInstalled(role, zxid):
                if role == self.role:
                    self.durable = self.delivered = zxid
                    self.committed = max(self.committed, zxid)
                    self.writing_since = now if zxid < self.history.last else inf
                    self.phase.on_snapshot_installed()
            case SnapshotTaken(zxid, base):
                # Tagged by nothing: storage drops those of a generation that was replaced (L12).
                self.history.snapshot = max(self.history.snapshot, zxid)
                self.history.base = max(self.history.base, base)
            case Quiesced(role, history, epochs):
                if role == self.role:
                    self._on_quiesced(history, epochs)
            case DiskSpace(level):
                self.disk_full = level is Space.FULL
                if self.disk_full:
                    self.phase.on_disk_full()
            case Resumed():
                if self.writing_since != inf:
                    self.writing_since = now  # F5: the disk stood still with us
                self.phase.on_resumed()
            case _:
                assert_never(event)
        return self._take()

    @property
    def next_deadline(self) -> float:
        """When the next Tick is due, in milliseconds of the input clock."""
        if self.phase.state is State.FAILED:
            return inf
        return min(self.hb_at + self._hb_interval, self.phase.deadline())

    @property
    def is_established(self) -> bool:
        """Whether this peer is the leader of an established epoch: it alone may propose (C1)."""
        return self.phase.state is State.LEADING and self.phase.phase is Phase.BROADCAST

    def holders(self, zxid: Zxid) -> list[PeerId]:
        """The voters known to have `zxid` on disk; only a leader knows any."""
        return sorted(voter for voter, acked in self.phase.acked_by_voter().items() if acked >= zxid)

    # ---- for the phases ------------------------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._out.append(effect)

    def report(self, kind: str, **fields: object) -> None:
        self._out.append(Report(kind, fields))

    # Each move has its own door, so that a phase names where it goes and never imports it.

    def look_again(self, why: str) -> None:
        """A new round of the election; only from ELECTION, where no write can be in flight."""
        for link in self.phase.links():
            self.emit(CloseLink(link, why))
        self._enter(Election(self), why)

    def lead(self, vote: Vote, waiting: Sequence[Waiting], why: str) -> None:
        self.decided = vote
        self._enter(LeaderDiscovery(self, Tenure(), waiting), why)

    def lead_synchronization(self, tenure: Tenure) -> None:
        self._enter(LeaderSynchronization(self, tenure), "a quorum has promised")

    def lead_broadcast(self, tenure: Tenure) -> None:
        self._enter(LeaderBroadcast(self, tenure), "a quorum holds the initial history")

    def follow(self, leader: ProcessId, vote: Vote | None, why: str) -> None:
        self.decided = vote
        self._enter(LearnerDiscovery(self, leader), why)

    def follow_synchronization(self, following: Following) -> None:
        self._enter(LearnerSynchronization(self, following), f"promised {following.epoch}")

    def follow_broadcast(self, following: Following) -> None:
        self._enter(LearnerBroadcast(self, following), "up to date")

    def leave(self, why: str) -> None:
        """Back to LOOKING: close all links, stop the disk, and see what it holds (D4)."""
        self.phase.on_leave()
        for link in self.phase.links():
            self.emit(CloseLink(link, why))
        if self.phase.phase is Phase.BROADCAST:
            self.failures = 0 if self.now - self.stable_since >= self.timing.backoff_reset else self.failures
        else:
            self.failures += 1
        self.stable_since = inf
        self.decided = None
        self.role += 1
        self.emit(Quiesce(self.role))
        self._enter(_Quiescing(self), why)

    def leave_unanswered(self, why: str) -> None:
        """The same, of a leader to whom no quorum answers: it may be heard by all, and hear nobody."""
        self.unanswered_at = self.now
        self.leave(why)

    def fail(self, why: str) -> None:
        """FAILED, for good: going on could turn a fault into a wrong answer."""
        self.emit(Fail(why))
        self.phase = _Failed(self)
        self.emit(Moved(State.FAILED, Phase.QUIESCE, self.epochs.current, None, why))

    def saw_epochs(self, *epochs: int) -> None:
        """Others have promised or heard of these: the next epoch will be above them (section 4, V4)."""
        highest = max(self.max_epoch_seen, *epochs)
        if highest - self.max_epoch_seen > LEAP_MAX:
            raise RemoteProtocolError(f"epoch {highest} is out of all bounds")
        self.max_epoch_seen = highest

    def save_epochs(self, epochs: Epochs) -> None:
        """Ask for META to be replaced (D1, D2)."""
        assert epochs.current <= epochs.accepted, f"current epoch beyond the promise: {epochs}"
        assert epochs.accepted >= self.epochs.accepted and epochs.current >= self.epochs.current, "epochs never fall"
        self.writing_since = min(self.writing_since, self.now)
        self.emit(SaveEpochs(self.role, epochs))

    def deliver(self) -> None:
        """Hand the machines all that is committed and durable here (D3, B8). Only in BROADCAST (S7)."""
        upto = min(self.committed, self.durable)
        if upto > self.delivered:
            self.delivered = upto
            self.emit(Deliver(upto))

    def beat(self) -> Heartbeat:
        """Publish a heartbeat now."""
        self.hb_seq += 1
        self.hb_at = self.now
        self.beat_at[self.hb_seq] = self.now
        self.beat_at.pop(self.hb_seq - BEATS_KEPT, None)
        phase = self.phase
        heartbeat = Heartbeat(
            phase.state,
            phase.phase,
            phase.epoch,
            phase.leader,
            self.hb_seq,
            self.committed,
            self.durable,
            self.delivered,
            None,
        )
        self.emit(Publish(heartbeat))
        return heartbeat

    def notification(self, vote: Vote | None) -> Notification:
        """What this peer tells others in the election now (3.1, E6)."""
        self.n_seq += 1
        phase = self.phase
        return Notification(
            phase.state,
            self.round,
            vote,
            phase.leader,
            self.epochs.current,
            self.counts,
            self.config_id,
            self.n_seq,
        )

    def own_vote(self) -> Vote | None:
        """A vote for myself, of durable values only; None when I may not count (E6, L13, L15) or not lead (E8)."""
        if self.disk_full or self.is_deaf() or not (self.counts or self.may_bootstrap()):
            return None
        return Vote(self.process, self.epochs.current, self.history.last)

    def is_deaf(self) -> bool:
        """E8: whether no quorum was heard since none answered. Elected again, we would be waited for in vain."""
        heard = {p for p, contact in self.contacts.items() if contact.heard_at >= self.unanswered_at}
        return not self.voters.is_quorum({*heard, self.id})

    @property
    def counts(self) -> bool:
        """Joined, and by our own history not replaced since: an old disk put back never knew those promises (L18)."""
        replaced = self.history.last_admit(self.id) not in (None, self.process.life)
        return self.epochs.joined and (not replaced or self.unsafe_rejoin_empty)

    def all_voters_are_fresh(self) -> bool:
        """Whether no voter heard of, nor this one, has ever accepted an epoch (L13a)."""
        return self.epochs.current == 0 and not any(c.current_epoch for c in self.contacts.values())

    def may_bootstrap(self) -> bool:
        """Whether this un-joined voter may count now: all are fresh, and all were heard or waited for (L13a, L19)."""
        if not self.all_voters_are_fresh():
            return False
        if all(c.current_epoch is not None for c in self.contacts.values()):
            return True
        return not self.bootstrap_all and self.now >= self.started_at + self.timing.bootstrap_wait

    def reachable(self, peer: PeerId) -> bool:
        """E8: me, or connected and heard from lately."""
        if peer == self.id:
            return True
        contact = self.contacts.get(peer)
        return contact is not None and contact.mesh_up and self.now - contact.heard_at <= self.timing.reach_timeout

    def is_dead(self, process: ProcessId) -> bool:
        """Whether a newer process of the same peer has been heard (E4)."""
        if process.peer == self.id:
            return process != self.process
        contact = self.contacts.get(process.peer)
        return contact is None or (contact.process is not None and contact.process != process)

    def jitter(self, duration: float, part: float = 0.1) -> float:
        return duration * (1 + part * (2 * self.dice.random() - 1))

    def backoff(self) -> float:
        """How long to wait before the next link: nothing after a first failure, then doubling (F8)."""
        if self.failures < 2:
            return 0.0
        step = self.timing.backoff_min * float(2 ** min(self.failures - 2, 8))
        return self.jitter(min(step, self.timing.backoff_max))

    # ---- inside ----------------------------------------------------------------------------------------------

    @property
    def _hb_interval(self) -> float:
        return self.timing.hb_interval if self.phase.state is State.LEADING else self.timing.idle_hb_interval

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _enter(self, phase: PeerPhase, why: str) -> None:
        here = (self.phase.state, self.phase.phase)
        there = (phase.state, phase.phase)
        assert isinstance(self.phase, _Asleep) or there in MOVES[here], f"no move from {here} to {there}"
        self.phase = phase
        if phase.phase is Phase.BROADCAST:
            self.stable_since = self.now
        self.emit(Moved(phase.state, phase.phase, phase.epoch, phase.leader, why))
        self.beat()
        phase.begin()

    def _on_tick(self) -> None:
        if self.now >= self.hb_at + self._hb_interval and self.phase.state is not State.LEADING:
            self.beat()  # F1; a leader beats in its phase, which remembers when it did
        self.phase.on_tick()

    def _on_received(self, source: ProcessId, link: object, message: object) -> None:
        contact = self.contacts.get(source.peer)
        if contact is None:
            self.report("drop", why="not a voter", type=type(message).__name__, peer=source.peer)
            return
        if contact.process != source:
            contact.process = source
            contact.note = None
        contact.heard_at = self.now
        if link is not None:
            try:
                self.phase.on_link_message(source, link, message)  # type: ignore[arg-type]
            except (RemoteProtocolError, HistoryError) as error:
                self.report("drop", why=str(error), type=type(message).__name__, peer=source.peer)
                self.emit(CloseLink(link, str(error)))  # type: ignore[arg-type]
                self.phase.on_link_lost(link, str(error))  # type: ignore[arg-type]
            return
        match message:
            case Heartbeat():
                self.phase.on_heartbeat(source, message, False)
            case Commit():
                self.phase.on_commit(source, message)
            case Notification():
                if message.config_id != self.config_id:
                    self.report("drop", why="another configuration", type="Notification", peer=source.peer)
                    return
                if message.round - self.round > LEAP_MAX:
                    self.report("drop", why="a round out of all bounds", type="Notification", peer=source.peer)
                    return
                if contact.note is not None and message.n_seq <= contact.note.n_seq:
                    return  # An older state, overtaken on its way (3.1).
                contact.note = message
                contact.current_epoch = max(contact.current_epoch or 0, message.current_epoch)
                if message.vote is not None and message.vote.epoch and message.vote.leader.peer in self.contacts:
                    # Told of by another, yet as true: that candidate is not fresh (L13a).
                    voted = self.contacts[message.vote.leader.peer]
                    voted.current_epoch = max(voted.current_epoch or 0, message.vote.epoch)
                self.phase.on_notification(source, message)
                if self.phase.state is not State.LOOKING and message.state is State.LOOKING:
                    # E5: decided peers answer and change nothing.
                    self.emit(SendVote(source.peer, self.notification(self.phase.vote_to_tell)))
            case _:
                self.report("drop", why="not on this socket", type=type(message).__name__, peer=source.peer)

    def _on_quiesced(self, history: History, epochs: Epochs) -> None:
        assert isinstance(self.phase, _Quiescing), "only a quiescing peer hears Quiesced of its role"
        self.history = history
        self.epochs = epochs
        self.durable = history.last
        self.committed = max(self.committed, history.snapshot)
        self.delivered = max(self.delivered, history.snapshot)
        self.writing_since = inf
        if history.last.epoch <= epochs.current:
            self._enter(Election(self), "the disk is quiet")
            return
        # S5: a synchronization broke off after txns of an epoch and before currentEpoch. What is there holds all
        # of that epoch's initial history, which is what a peer holds whose ack of NEWLEADER was lost.
        if epochs.accepted < history.last.epoch:
            self.fail(f"log ends in epoch {history.last.epoch}, but only {epochs.accepted} was ever promised")
            return
        self.save_epochs(epochs._replace(current=history.last.epoch))


class _Asleep(PeerPhase):
    """Before start()."""

    phase = Phase.QUIESCE


class _Quiescing(PeerPhase):
    """D4: a role was left; the write in flight must end before anything is said of the log."""

    phase = Phase.QUIESCE

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.give_up_at = peer.now + peer.timing.disk_stall

    def deadline(self) -> float:
        return self.give_up_at

    def on_tick(self) -> None:
        if self.peer.now >= self.give_up_at:
            self.peer.fail(f"the disk has not finished a write for {self.peer.timing.disk_stall:.0f} ms (D4)")

    def on_resumed(self) -> None:
        self.give_up_at = self.peer.now + self.peer.timing.disk_stall

    def on_epochs_saved(self, epochs: Epochs) -> None:
        self.peer.look_again("epoch repaired after a broken synchronization")


class _Failed(PeerPhase):
    """Deaf and dumb until the process ends."""

    state = State.FAILED
    phase = Phase.QUIESCE
