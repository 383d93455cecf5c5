"""What is known of a whole run of the model, and the promises of PROTOCOL 11 looked at against it, step by step.

Nothing of this is in a peer. It is part of a state's name: two runs that left the same peers behind, but of which one
has committed more, may break different promises.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from tests.core.disk import Disk
from tests.model.copies import name_of
from zabzmq.core import invariants as promise
from zabzmq.core.effects import Append, Deliver, Effect, InstallSnapshot, Moved, Send, SendVote, Truncate
from zabzmq.core.history import Batch, Epochs, History
from zabzmq.core.messages import Ack, AckEpoch, AckNewLeader, HbEcho, Phase, State
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid


class Ghosts:
    """`copy` before a step: a step changes what is known in place."""

    def __init__(self) -> None:
        self.logged: dict[Zxid, Batch] = {}  # ever, by anyone, by first zxid (here of one transaction: also the last)
        self.proposed: dict[Zxid, Batch] = {}
        self.committed: list[Batch] = []
        self.delivered: list[Batch] = []  # the longest anyone delivered
        self.places: dict[Zxid, int] = {}
        self.at: dict[PeerId, int] = {}  # how many of them each process delivered
        self.queued: dict[PeerId, Zxid] = {}  # the end of each history, with what is queued for the disk
        self.leading: dict[PeerId, int] = {}
        self.established: dict[int, ProcessId] = {}
        self.initial: dict[int, History] = {}  # never changed once it is here
        self.first_proposal_at: dict[int, int] = {}
        self.promised: dict[tuple[PeerId, int, int], ProcessId] = {}

    def copy(self) -> Ghosts:
        new = object.__new__(Ghosts)
        new.__dict__.update({name: known.copy() for name, known in self.__dict__.items()})
        return new

    def name(self) -> Hashable:
        return tuple(name_of(known) for known in self.__dict__.values())

    # ---- processes

    def on_start(self, peer: PeerId, last: Zxid) -> None:
        self.at[peer] = 0
        self.queued[peer] = last

    def on_crash(self, peer: PeerId) -> None:
        self.leading.pop(peer, None)

    # ---- what a peer asks for, before it is done

    def on_effects(self, peer: Peer, disk: Disk, effects: list[Effect], leaders: Mapping[Any, PeerId]) -> None:
        for effect in effects:
            match effect:
                case Send(link, message):
                    promise.durable_before_ack(message, peer.id, disk.history, disk.epochs)
                    if isinstance(message, Ack | AckNewLeader | HbEcho):
                        what = type(message).__name__
                        promise.no_ack_after_promise(disk.epochs.accepted, message.epoch, what, peer.id)
                    elif isinstance(message, AckEpoch) and message.counted and link in leaders:
                        leader = peer.phase.leader
                        assert leader is not None and leader.peer == leaders[link]
                        promise.one_promise(self.promised, peer.process, message.epoch, leader)
                        self.promised[peer.id, peer.process.life, message.epoch] = leader
                case SendVote(_, note):
                    promise.durable_before_ack(note, peer.id, disk.history, disk.epochs)
                case Moved():
                    self._on_moved(peer, disk, effect)
                case Append(_, batches):
                    for batch in batches:
                        self._on_append(peer, batch)
                case Truncate(_, to):
                    cut = next((batch.last for batch in disk.batches if batch.last > to), None)
                    promise.never_truncated([batch.last for batch in self.committed], cut, peer.id)
                    self.queued[peer.id] = to
                case Deliver(upto):
                    self._on_deliver(peer, disk, upto)
                case InstallSnapshot():
                    raise AssertionError("nobody takes snapshots here")
                case _:
                    pass

    def _on_moved(self, peer: Peer, disk: Disk, move: Moved) -> None:
        self.leading.pop(peer.id, None)
        if move.state is State.LEADING and move.phase is Phase.SYNCHRONIZATION:
            self.initial[move.epoch] = disk.history.copy()
            self.leading[peer.id] = move.epoch
        elif move.state is State.LEADING and move.phase is Phase.BROADCAST:
            promise.leadership2(self.established, move.epoch, peer.process)
            self.established[move.epoch] = peer.process
            self.leading[peer.id] = move.epoch
            for batch in self.committed:
                promise.leader_completeness(batch.last, self.initial, move.epoch)
        promise.leadership1(self.leading)
        if move.phase in (Phase.ELECTION, Phase.BROADCAST):
            promise.epoch_of_history(disk.epochs, disk.history.last, peer.id)
            self.queued[peer.id] = disk.history.last

    def _on_append(self, peer: Peer, batch: Batch) -> None:
        promise.history_continuity(self.queued[peer.id], batch, peer.id)
        promise.log_matching(self.logged, batch, peer.id)
        self.logged[batch.first] = batch
        self.queued[peer.id] = batch.last
        if self.leading.get(peer.id) == batch.first.epoch:
            twice = batch.first in self.proposed
            promise.check_during_action(not twice, f"{batch.first} is proposed twice")
            self.proposed[batch.first] = batch
            had = self.first_proposal_at.setdefault(batch.first.epoch, self.at[peer.id])
            if had < len(self.delivered):
                promise.primary_integrity(self.first_proposal_at, had, self.delivered[had])

    def _on_deliver(self, peer: Peer, disk: Disk, upto: Zxid) -> None:
        promise.applied_bound(upto, any(b.last == upto for b in self.committed), disk.history.holds(upto), peer.id)
        done = self.delivered[self.at[peer.id] - 1].last if self.at[peer.id] else ZERO
        for batch in disk.batches:
            if not done < batch.last <= upto:
                continue
            at = self.at[peer.id]
            previous = self.delivered[at - 1] if at else None
            promise.prefix_consistency(self.delivered, at, batch, peer.id)
            promise.integrity(self.proposed, self.places, at, batch, peer.id)
            promise.agreement(self.delivered, self.places, at, batch, peer.id)
            promise.total_order(self.places, at, batch, peer.id)
            promise.local_primary_order(previous, batch, peer.id)
            promise.global_primary_order(previous, batch, peer.id)
            promise.primary_integrity(self.first_proposal_at, at, batch)
            if at == len(self.delivered):
                self.delivered.append(batch)
                self.places[batch.first] = at
            self.at[peer.id] = at + 1

    # ---- after a write, and before effects

    def on_epochs(self, before: Epochs, disk: Disk, peer: PeerId) -> None:
        promise.epoch_order(before, disk.epochs, peer)
        if disk.epochs.current > before.current:
            promise.epoch_accepted(disk.epochs, self.initial, disk.history, peer)

    def on_committed(self, peer: Peer, disks: Mapping[PeerId, Disk], voters: Voters) -> None:
        """A leader may have called more committed in this step."""
        epoch = self.leading.get(peer.id, 0)
        if peer.phase.state is State.LEADING and peer.phase.phase is Phase.BROADCAST:
            epoch = peer.phase.epoch
        known = {batch.last for batch in self.committed}
        at, path = peer.committed, []
        while epoch and at > ZERO and at not in known:
            path.append(self.logged[at])
            at = self.logged[at].prev
        if not path:
            return
        promise.check_during_action(
            at == (self.committed[-1].last if self.committed else ZERO), f"{path[-1].first} is committed beside others"
        )
        self.committed += reversed(path)
        holders = [p for p, d in disks.items() if d.history.holds(peer.committed) and d.epochs.current >= epoch]
        promise.commit_safety(peer.committed, holders, voters)
        for later in self.established:
            if later > peer.committed.epoch:
                promise.leader_completeness(peer.committed, self.initial, later)

    def check(self, disks: Mapping[PeerId, Disk], voters: Voters) -> None:
        """What holds of all disks together in every state."""
        for batch in self.committed:
            holders = [p for p, disk in disks.items() if disk.history.holds(batch.last)]
            promise.committed_stable(batch.last, holders, voters)
