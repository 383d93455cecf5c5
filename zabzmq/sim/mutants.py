"""Builds that each break one rule on purpose: a checker that never fails proves nothing.

A mutant is a context manager that replaces a method or two of the product for as long as it is entered; the product
itself knows no switches. `MUTANTS` lists them with the rule each breaks. tests/sim/test_mutants.py shows that every one
is caught by a named promise of PROTOCOL 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from zabzmq.core.broadcast import LeaderBroadcast
from zabzmq.core.discovery import LeaderDiscovery, LearnerDiscovery
from zabzmq.core.effects import Append, Deliver, ReadReady, Send
from zabzmq.core.history import Batch, EpochEnd, Epochs
from zabzmq.core.inputs import Durable, SnapshotInstalled
from zabzmq.core.learner import Learner
from zabzmq.core.messages import Ack, AckNewLeader, HbEcho, Heartbeat, LeaderInfo, LinkMessage, State, SyncProgress
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.synchronization import LeaderSynchronization, LearnerSynchronization
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import encode
from zabzmq.machine.state import ReplicatedState
from zabzmq.net.link import ACCEPT, Links
from zabzmq.server.node import Node
from zabzmq.sim.disk import Platter, SimDisk
from zabzmq.sim.world import play

Breakage = Callable[[], AbstractContextManager[Any]]


class Mutant(NamedTuple):
    """`rules`: what of PROTOCOL it breaks. `broken` replaces the code."""

    name: str
    rules: str
    broken: Breakage


def _swap(owner: type[Any], name: str, by: Any) -> Breakage:
    return lambda: patch.object(owner, name, by)


# ---- acknowledging and persisting ----------------------------------------------------------------------------------


@contextmanager
def ack_before_sync() -> Iterator[None]:
    """A learner acknowledges what it has only queued (1.3)."""
    append = LearnerSynchronization._append

    def hasty(self: LearnerSynchronization, batches: tuple[Batch, ...]) -> None:
        append(self, batches)
        if self.following.accepted:
            self.peer.emit(Send(self.link, Ack(self.following.epoch, batches[-1].last)))

    with patch.object(LearnerSynchronization, "_append", hasty):
        yield


@contextmanager
def new_leader_acked_early() -> Iterator[None]:
    """ACK_NEWLEADER as soon as NEWLEADER has come, whatever the disk holds (S4; bugs 1, 2)."""
    on_new_leader = LearnerSynchronization._on_new_leader

    def hasty(self: LearnerSynchronization, cut: Zxid) -> None:
        on_new_leader(self, cut)
        if not self.following.accepted:
            self.following.accepted = True
            self.peer.emit(Send(self.link, AckNewLeader(self.following.epoch, cut)))

    with patch.object(LearnerSynchronization, "_on_new_leader", hasty):
        yield


@contextmanager
def epoch_before_history() -> Iterator[None]:
    """currentEpoch is raised as synchronization begins (S3; bug 3)."""
    begin = LearnerSynchronization.begin

    def hasty(self: LearnerSynchronization) -> None:
        begin(self)
        epochs, epoch = self.peer.epochs, self.following.epoch
        if epochs.current < epoch <= epochs.accepted:
            self.peer.save_epochs(epochs._replace(current=epoch))

    with patch.object(LearnerSynchronization, "begin", hasty):
        yield


def _apply_before_durable(self: Peer) -> None:
    upto = min(self.committed, self.history.last)
    if upto > self.delivered:
        self.delivered = upto
        self.emit(Deliver(upto))


def _recover_without_sync(self: Platter) -> None:
    """What the page cache shows is taken for what the disk holds (D5; bug 46)."""
    self.incarnation += 1
    self.epochs = self.epochs._replace(current=max(self.epochs.current, self.log.last.epoch))


def _recover_without_repair(self: Platter) -> None:
    """A synchronization that broke off leaves txns of an epoch above currentEpoch, and so it stays (S5; bug 19)."""
    self.unsynced = 0
    self.incarnation += 1


@contextmanager
def snapshot_in_memory() -> Iterator[None]:
    """A received snapshot is installed for the process, and not on the disk (L12, S9; bug 7)."""

    def completed(self: SimDisk, done: tuple[Any, ...]) -> None:
        if done[0] != "install":
            complete(self, done)
            return
        self.generation += 1
        self.post(SnapshotInstalled(done[1], done[2].zxid))

    complete = SimDisk._complete
    with patch.object(SimDisk, "_complete", completed):
        yield


@contextmanager
def truncation_in_memory() -> Iterator[None]:
    """A TRUNC is believed before the disk has done it (L11, S9; bug 8)."""

    def completed(self: SimDisk, done: tuple[Any, ...]) -> None:
        if done[0] == "truncate":
            self.post(Durable(done[1], done[2]))
        else:
            complete(self, done)

    complete = SimDisk._complete
    with patch.object(SimDisk, "_complete", completed):
        yield


@contextmanager
def failed_write_believed() -> Iterator[None]:
    """A write that the disk refused is taken for done (L14; bugs 15, 40)."""

    def finished(self: SimDisk, job: int) -> None:
        if self.fail_next and self.in_flight is not None and self.in_flight[0] == "append" and not self.dead:
            self.fail_next = False
            (_, group), self.in_flight = self.in_flight, None
            for _, role, batches in group:  # type: ignore[attr-defined]
                self.post(Durable(role, batches[-1].last))
            if self.queue and self.in_flight is None:
                self._start()
        else:
            finish(self, job)

    finish = SimDisk._finish
    with patch.object(SimDisk, "_finish", finished):
        yield


def _snapshot_of_all(self: Node, batch: Batch) -> None:
    """A snapshot claims what was proposed, and not only what is applied (L7; bug 10)."""
    if self._taking is None:
        self._taking = self.state.applied
        self.storage.take_snapshot(self.peer.history.mark(self.peer.history.last), self.state.snapshot())


# ---- promises ------------------------------------------------------------------------------------------------------


def _equal_epoch_counted(self: LearnerDiscovery, link: LinkId, info: LeaderInfo) -> None:
    """A promise given to one leader counts for another (V1)."""
    peer = self.peer
    if info.epoch == peer.epochs.accepted and self.saving is None:
        self.told_n_seq = info.n_seq
        self._acknowledge(link, info, counted=peer.epochs.joined)
    else:
        _on_leader_info(self, link, info)


_on_leader_info = LearnerDiscovery._on_leader_info


@contextmanager
def promise_forgotten() -> Iterator[None]:
    """A learner follows and acknowledges a leader whose epoch is below its promise (V2)."""

    def lenient(self: LearnerDiscovery, link: LinkId, info: LeaderInfo) -> None:
        if info.epoch < self.peer.epochs.accepted and self.saving is None:
            self.told_n_seq = info.n_seq
            self._acknowledge(link, info, counted=self.peer.epochs.joined)
        else:
            _on_leader_info(self, link, info)

    def acknowledge(self: LearnerSynchronization) -> None:
        self.peer.emit(Send(self.link, Ack(self.following.epoch, self.peer.durable)))

    def on_heartbeat(self: LearnerSynchronization, source: Any, heartbeat: Heartbeat, on_link: bool) -> None:
        following = self.following
        if (source, heartbeat.state, heartbeat.epoch) == (following.leader, State.LEADING, following.epoch):
            following.heard_at = self.peer.now
            self.on_watermark(heartbeat.committed)
            self.peer.emit(Send(self.link, HbEcho(following.epoch, heartbeat.hb_seq, on_link)))

    with (
        patch.object(LearnerDiscovery, "_on_leader_info", lenient),
        patch.object(LearnerSynchronization, "acknowledge", acknowledge),
        patch.object(LearnerSynchronization, "on_heartbeat", on_heartbeat),
    ):
        yield


@contextmanager
def acks_of_a_dead_epoch() -> Iterator[None]:
    """A leader counts what was acknowledged to it in an earlier epoch (section 6: "e == my epoch")."""
    begin = LeaderSynchronization.begin
    count = LeaderSynchronization.count
    heard: dict[tuple[Any, Any], Zxid] = {}

    def remember(self: LeaderSynchronization, learner: Learner, zxid: Zxid) -> None:
        count(self, learner, zxid)
        heard[self.peer.process, learner.process.peer] = learner.acked

    def begin_with_old(self: LeaderSynchronization) -> None:
        for (process, learner), zxid in heard.items():
            if process == self.peer.process and zxid <= self.peer.history.last:
                self.tenure.acked.setdefault(learner, zxid)
        begin(self)

    with (
        patch.object(LeaderSynchronization, "count", remember),
        patch.object(LeaderSynchronization, "begin", begin_with_old),
    ):
        yield


# ---- synchronization and broadcast ---------------------------------------------------------------------------------


def _append_blindly(self: LearnerSynchronization, batches: tuple[Batch, ...]) -> None:
    """A learner that does not look at `prev`, as ZooKeeper's."""
    history = self.peer.history
    for batch in batches:
        last = batch.last
        history.ends = [end for end in history.ends if end.epoch < last.epoch] + [EpochEnd(last.epoch, last.counter)]
        history.last = last
    self.peer.emit(Append(self.peer.role, batches))


@contextmanager
def no_trunc() -> Iterator[None]:
    """A learner keeps its dead branch and appends the leader's history to it (5.1; bug 11)."""
    with (
        patch.object(LearnerSynchronization, "_on_trunc", lambda self, to: None),
        patch.object(LearnerSynchronization, "_append", _append_blindly),
    ):
        yield


@contextmanager
def append_across_a_hole() -> Iterator[None]:
    """Links do not count their messages, learners do not look at `prev` (T1, B3; bugs 14, 16)."""

    def in_order(self: Links, state: Any, link: LinkId, seq: int, ends: bool, lost: Any) -> Any:
        return links_in_order(self, state, link, seq, ends, lost) if ends else ACCEPT._replace(lost=lost)

    links_in_order = Links._in_order
    with patch.object(Links, "_in_order", in_order), patch.object(LearnerSynchronization, "_append", _append_blindly):
        yield


@contextmanager
def commits_believed_early() -> Iterator[None]:
    """A learner acts on watermarks before UPTODATE, whatever branch it still holds (S7; bug 49)."""

    def on_watermark(self: LearnerSynchronization, zxid: Zxid) -> None:
        self.following.seen = max(self.following.seen, zxid)
        self.peer.committed = max(self.peer.committed, zxid)
        self.peer.deliver()

    with patch.object(LearnerSynchronization, "on_watermark", on_watermark):
        yield


@contextmanager
def propose_to_acked_only() -> Iterator[None]:
    """Learners that have not acknowledged NEWLEADER yet are skipped, and never get what they missed (B7; bug 29).

    The learner's own look at `prev` is off too: else the hole would be refused.
    """
    propose = LeaderBroadcast._propose

    def skipping(self: LeaderBroadcast, *about: Any) -> Batch:
        late = [learner for learner in self.tenure if learner.new_leader_sent and not learner.new_leader_acked]
        late = [learner for learner in late if not learner.reading]
        for learner in late:
            learner.reading = True  # as if it were busy: not sent to
        batch = propose(self, *about)
        for learner in late:
            learner.reading = False
            if learner.sent == batch.prev:
                learner.sent = batch.last
        return batch

    with (
        patch.object(LeaderBroadcast, "_propose", skipping),
        patch.object(LearnerSynchronization, "_append", _append_blindly),
    ):
        yield


@contextmanager
def copies_counted() -> Iterator[None]:
    """Copies of older transactions commit them, before any NEWLEADER quorum (B5; bug 32, Raft's figure 8)."""
    begin = LeaderSynchronization.begin
    on_message = LeaderSynchronization.on_learner_message
    copies: dict[ProcessId, dict[PeerId, Zxid]] = {}

    def counting(self: LeaderSynchronization, learner: Learner, message: LinkMessage) -> None:
        on_message(self, learner, message)
        peer = self.peer
        if isinstance(message, SyncProgress) and peer.phase is self:
            held = copies[peer.process]
            held.update({learner.process.peer: message.zxid, peer.id: peer.durable})
            watermark = peer.voters.quorum_th_largest(held)
            if watermark > peer.committed and peer.history.holds(watermark):
                peer.committed = watermark
                peer.deliver()

    def begin_without(self: LeaderSynchronization) -> None:
        copies[self.peer.process] = {}
        begin(self)

    with (
        patch.object(LeaderSynchronization, "begin", begin_without),
        patch.object(LeaderSynchronization, "on_learner_message", counting),
    ):
        yield


def _minority(self: Voters, acked: Mapping[PeerId, Zxid]) -> Zxid:
    """One voter fewer than a quorum is enough (B4)."""
    reached = sorted((acked.get(peer, ZERO) for peer in self.ids), reverse=True)
    return reached[max(self.needed - 2, 0)]


# ---- wiped voters --------------------------------------------------------------------------------------------------


@contextmanager
def born_joined() -> Iterator[None]:
    """A fresh directory counts from the start, wiped or not (L13)."""
    init = Platter.__init__

    def joined(self: Platter, life: int) -> None:
        init(self, life)
        self.epochs = Epochs(0, 0, True)

    with patch.object(Platter, "__init__", joined):
        yield


@contextmanager
def unjoined_acks_counted() -> Iterator[None]:
    """Acks of a voter that has forgotten what it acknowledged before count (V5; bug 47)."""

    def count(self: LeaderSynchronization, learner: Learner, zxid: Zxid) -> None:
        learner.acked = max(learner.acked, zxid)
        self.tenure.acked[learner.process.peer] = learner.acked

    with patch.object(LeaderSynchronization, "count", count):
        yield


# ---- clients -------------------------------------------------------------------------------------------------------


@contextmanager
def snapshot_without_sessions() -> Iterator[None]:
    """A snapshot brings back the machines and not the table of clients (C2, L6)."""
    restore = ReplicatedState.restore

    def forgetful(self: ReplicatedState, data: bytes) -> None:
        restore(self, data)
        self.sessions.restore(encode([]))

    with patch.object(ReplicatedState, "restore", forgetful):
        yield


def _read_at_once(self: LeaderBroadcast, ticket: int) -> None:
    """The leader believes that it leads (C5; bug 25)."""
    self.peer.emit(ReadReady(ticket, self.peer.committed))


NOT_ENOUGH = frozenset({"CheckDuringAction", "Liveness"})
"""An assertion of the code under test, or a time-out: they do not show that the watcher sees the broken promise."""


class Caught(NamedTuple):
    """The first schedule in which the watcher named what a mutant breaks."""

    seed: int
    names: tuple[str, ...]
    text: str


def hunt(mutant: Mutant, seeds: Iterable[int], nodes: int) -> Caught | None:
    """Run seeds with this rule broken until a promise of section 11 is named."""
    for seed in seeds:
        with mutant.broken():
            violations = play(seed, nodes).violations
        names = sorted({violation.name for violation in violations} - NOT_ENOUGH)
        if names:
            return Caught(seed, tuple(names), violations[0].text)
    return None


MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        Mutant("ack before sync", "1.3", ack_before_sync),
        Mutant("epoch raised before history", "S3", epoch_before_history),
        Mutant("new leader acked early", "S4", new_leader_acked_early),
        Mutant("commits believed early", "S7", commits_believed_early),
        Mutant("equal epoch counted", "V1", _swap(LearnerDiscovery, "_on_leader_info", _equal_epoch_counted)),
        Mutant("promise forgotten", "V2", promise_forgotten),
        Mutant("unjoined acks counted", "V5", unjoined_acks_counted),
        Mutant("no epoch check on ack", "section 6", acks_of_a_dead_epoch),
        Mutant("no TRUNC", "5.1", no_trunc),
        Mutant("append across a hole", "B3", append_across_a_hole),
        Mutant("commit at a minority", "B4", _swap(Voters, "quorum_th_largest", _minority)),
        Mutant("copies counted", "B5", copies_counted),
        Mutant("PROPOSE only to acked learners", "B7", propose_to_acked_only),
        Mutant("apply before durable", "D3", _swap(Peer, "deliver", _apply_before_durable)),
        Mutant("page cache believed", "D5", _swap(Platter, "recover", _recover_without_sync)),
        Mutant("epoch not repaired", "S5", _swap(Platter, "recover", _recover_without_repair)),
        Mutant("snapshot in memory only", "L12", snapshot_in_memory),
        Mutant("truncation in memory only", "L11", truncation_in_memory),
        Mutant("failed write believed", "L14", failed_write_believed),
        Mutant("snapshot of what is not applied", "L7", _swap(Node, "_count_for_snapshot", _snapshot_of_all)),
        Mutant("born joined", "L13", born_joined),
        Mutant(
            "promise of a replaced life", "L18", _swap(LeaderDiscovery, "was_replaced", lambda self, learner: False)
        ),
        Mutant(
            "a replaced life counts itself", "L18", _swap(Peer, "counts", property(lambda self: self.epochs.joined))
        ),
        Mutant("dedupe table left out of the snapshot", "C2", snapshot_without_sessions),
        Mutant("wall-order read", "C5", _swap(LeaderBroadcast, "on_read", _read_at_once)),
    )
}
