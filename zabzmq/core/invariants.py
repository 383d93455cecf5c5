"""The promises of Zab as functions (PROTOCOL 11): each looks at what one step changed and raises InvariantViolation.

Pure, and small enough to run after every step: a predicate over whole histories is checked by induction, at the
one place where it could become false. What "known" is (everything seen so far in the run) belongs to the caller,
the simulator's watcher (sim/watcher.py) or a checker of recorded events. Linearizability is in trace/checker.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from zabzmq.core.errors import ZabError
from zabzmq.core.history import Batch, Epochs, History
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    FollowerInfo,
    LeaderInfo,
    Message,
    NewLeader,
    Notification,
)
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid


class InvariantViolation(ZabError):
    """A promise of section 11 was broken: `name` is the promise, `text` how."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


# ---- who leads ---------------------------------------------------------------------------------------------------


def leadership1(leading: Mapping[PeerId, int]) -> None:
    """`leading`: the epoch of every peer that is LEADING in SYNCHRONIZATION or BROADCAST now. No epoch twice."""
    if len(set(leading.values())) < len(leading):
        raise InvariantViolation("Leadership1", f"two peers lead in one epoch at once: {dict(leading)}")


def leadership2(established: Mapping[int, ProcessId], epoch: int, leader: ProcessId) -> None:
    """For every epoch at most one process was ever established; `established` are those before this one."""
    first = established.get(epoch)
    if first is not None and first != leader:
        raise InvariantViolation("Leadership2", f"epoch {epoch} was established by {first} and again by {leader}")


def leader_completeness(committed: Zxid, initial: Mapping[int, History], epoch: int) -> None:
    """A transaction committed in an epoch below `epoch` is in the initial history of the leader of `epoch`."""
    if committed.epoch < epoch and not initial[epoch].holds(committed):
        last = initial[epoch].last
        raise InvariantViolation(
            "LeaderCompleteness", f"{committed} is committed and not in the initial history of epoch {epoch}, {last}"
        )


# ---- what is delivered -------------------------------------------------------------------------------------------
# `delivered` is the longest sequence of batches anyone delivered, `places` where each of them stands in it. A peer
# that has delivered the first `at` of them delivers `batch` next.


def prefix_consistency(delivered: Sequence[Batch], at: int, batch: Batch, peer: PeerId) -> None:
    """Of any two peers, one delivered a prefix of what the other did."""
    if at < len(delivered) and delivered[at] != batch:
        raise InvariantViolation(
            "PrefixConsistency", f"peer {peer} delivers {batch.first} where another delivered {delivered[at].first}"
        )


def integrity(proposed: Mapping[Zxid, Batch], places: Mapping[Zxid, int], at: int, batch: Batch, peer: PeerId) -> None:
    """What is delivered was proposed, as it is, and no peer delivers it twice."""
    if proposed.get(batch.first) != batch:
        raise InvariantViolation("Integrity", f"peer {peer} delivers {batch.first}, which nobody proposed so")
    if places.get(batch.first, at) < at:
        raise InvariantViolation("Integrity", f"peer {peer} delivers {batch.first} twice")


def agreement(delivered: Sequence[Batch], places: Mapping[Zxid, int], at: int, batch: Batch, peer: PeerId) -> None:
    """If i delivers a and j delivers b, then i delivers b or j delivers a."""
    if at < len(delivered) and batch.first not in places:
        raise InvariantViolation(
            "Agreement", f"peer {peer} delivers {batch.first} and not {delivered[at].first}, another the opposite"
        )


def total_order(places: Mapping[Zxid, int], at: int, batch: Batch, peer: PeerId) -> None:
    """If i delivers a before b, any j that delivers b delivers a before it."""
    place = places.get(batch.first, at)
    if place > at:
        raise InvariantViolation("TotalOrder", f"peer {peer} delivers {batch.first} as number {at}, others as {place}")


def local_primary_order(previous: Batch | None, batch: Batch, peer: PeerId) -> None:
    """Who delivers b delivered before it every a that the same leader proposed before b.

    Universal, by induction: the batch before it in delivery is the one before it in its epoch, if there is one.
    """
    if batch.first.counter == 1:
        return
    if previous is None or previous.last != Zxid(batch.first.epoch, batch.first.counter - 1):
        before = previous.last if previous else ZERO
        raise InvariantViolation("LocalPrimaryOrder", f"peer {peer} delivers {batch.first} just after {before}")


def global_primary_order(previous: Batch | None, batch: Batch, peer: PeerId) -> None:
    """What was proposed in an earlier epoch is delivered before what was proposed in a later one."""
    if previous is not None and previous.first.epoch > batch.first.epoch:
        raise InvariantViolation("GlobalPrimaryOrder", f"peer {peer} delivers {batch.first} after {previous.first}")


def primary_integrity(first_proposal_at: Mapping[int, int], at: int, batch: Batch) -> None:
    """A leader that proposes in epoch e has delivered everything of earlier epochs that anyone ever delivers.

    `first_proposal_at`: how many batches each epoch's leader had delivered when it first proposed.
    """
    for epoch, had in first_proposal_at.items():
        if batch.first.epoch < epoch and at >= had:
            raise InvariantViolation(
                "PrimaryIntegrity", f"{batch.first} is delivered; the leader of epoch {epoch} proposed without it"
            )


# ---- histories and disks -----------------------------------------------------------------------------------------


def log_matching(known: Mapping[Zxid, Batch], batch: Batch, peer: PeerId) -> None:
    """Equal zxid, equal transaction, equal prefix: by induction over `prev`, the batch anyone ever logged here."""
    other = known.get(batch.first)
    if other is not None and other is not batch and other != batch:
        raise InvariantViolation("LogMatching", f"peer {peer} logs another {batch.first} than was logged before")


def history_continuity(last: Zxid, batch: Batch, peer: PeerId) -> None:
    """Every `prev` matches; counters of one epoch are 1, 2, 3, ..."""
    first = batch.first
    counter = last.counter + 1 if first.epoch == last.epoch else 1
    if batch.prev != last or first.epoch < last.epoch or first.counter != counter or batch.count < 1:
        raise InvariantViolation(
            "HistoryContinuity", f"peer {peer} logs {first} (after {batch.prev}) on a history that ends at {last}"
        )


def commit_safety(committed: Zxid, holders: Collection[PeerId], voters: Voters) -> None:
    """`holders`: who has it durably, after its NEWLEADER of that epoch, at the moment a leader calls it committed."""
    if not voters.is_quorum(holders):
        raise InvariantViolation(
            "CommitSafety", f"{committed} is called committed and is on the disks of {sorted(holders)} only"
        )


def committed_stable(committed: Zxid, holders: Collection[PeerId], voters: Voters) -> None:
    """Once committed, every quorum contains a disk that holds it: those without it are no quorum."""
    without = set(voters.ids).difference(holders)
    if voters.is_quorum(without):
        raise InvariantViolation(
            "CommittedStable", f"{committed} was committed; the disks of {sorted(without)} lack it"
        )


def never_truncated(committed: Collection[Zxid], cut: Zxid | None, peer: PeerId) -> None:
    """CommittedStable, its other half: no peer that holds a committed transaction truncates it. `cut`: the end of the
    oldest batch a truncation removes."""
    if cut is not None and cut in committed:
        raise InvariantViolation("CommittedStable", f"peer {peer} truncates {cut}, which was committed")


def epoch_order(before: Epochs, after: Epochs, peer: PeerId) -> None:
    """D2 of META, and neither epoch ever falls."""
    if after.current > after.accepted:
        raise InvariantViolation("EpochOrder", f"peer {peer}: current epoch above the accepted one: {after}")
    if after.accepted < before.accepted or after.current < before.current:
        raise InvariantViolation("EpochOrder", f"peer {peer}: epochs fall from {before} to {after}")


def epoch_of_history(epochs: Epochs, last: Zxid, peer: PeerId) -> None:
    """D2 of the log, wherever no synchronization is under way."""
    if last.epoch > epochs.current:
        raise InvariantViolation("EpochOrder", f"peer {peer} holds {last} and its current epoch is {epochs.current}")


def epoch_accepted(epochs: Epochs, initial: Mapping[int, History], synced: History, peer: PeerId) -> None:
    """What currentEpoch means (1.1): all of that epoch's initial history is on this disk (S3)."""
    history = initial.get(epochs.current)
    if history is not None and not synced.holds(history.last):
        raise InvariantViolation(
            "EpochOrder",
            f"peer {peer} accepted epoch {epochs.current}, which began with {history.last}, but holds {synced.last}",
        )


# ---- what is said ------------------------------------------------------------------------------------------------


def one_promise(
    given: Mapping[tuple[PeerId, int, int], ProcessId], source: ProcessId, epoch: int, to: ProcessId
) -> None:
    """A counted ACKEPOCH(e) goes to one leader process only; `given` by (peer, life, epoch)."""
    first = given.get((source.peer, source.life, epoch))
    if first is not None and first != to:
        raise InvariantViolation("OnePromise", f"peer {source.peer} promised epoch {epoch} to {first} and to {to}")


def no_ack_after_promise(accepted: int, epoch: int, what: str, peer: PeerId) -> None:
    """V2: nothing of epoch e is acknowledged or echoed once a promise above e is durable."""
    if accepted > epoch:
        raise InvariantViolation(
            "NoAckAfterPromise", f"peer {peer} sends {what} of {epoch}, having promised {accepted}"
        )


def durable_before_ack(message: Message, sender: PeerId, synced: History, epochs: Epochs) -> None:
    """The matrix of 1.3: what a message claims of its sender's disk is on it. `synced`, `epochs`: of that disk."""

    def need(on_disk: bool, what: str) -> None:
        if not on_disk:
            raise InvariantViolation(
                "DurableBeforeAck", f"peer {sender} sends {message}, and {what} is not synced: {synced.last}, {epochs}"
            )

    match message:
        case Notification(_, _, vote, _, current_epoch):
            need(effective_epoch(synced, epochs) >= current_epoch, f"current epoch {current_epoch}")
            if vote is not None and vote.leader.peer == sender:
                need(effective_epoch(synced, epochs) >= vote.epoch, f"current epoch {vote.epoch}")
                if current_epoch == vote.epoch and vote.zxid > synced.last:
                    need(False, f"the history up to {vote.zxid}")
        case FollowerInfo(accepted_epoch):
            need(epochs.accepted >= accepted_epoch, f"accepted epoch {accepted_epoch}")
        case LeaderInfo(epoch):
            need(epochs.accepted == epoch, f"accepted epoch {epoch}")
        case AckEpoch(epoch, current_epoch, last):
            need(epochs.accepted == epoch, f"accepted epoch {epoch}")
            need(effective_epoch(synced, epochs) >= current_epoch, f"current epoch {current_epoch}")
            need(synced.holds(last), f"the history up to {last}")
        case NewLeader(epoch):
            need(epochs.current == epoch, f"current epoch {epoch}")
        case AckNewLeader(epoch, cut):
            need(synced.holds(cut), f"the history up to {cut}")
            need(epochs.current == epoch, f"current epoch {epoch}")
        case Ack(_, zxid):
            need(synced.holds(zxid), f"the history up to {zxid}")
        case _:
            pass


def effective_epoch(synced: History, epochs: Epochs) -> int:
    """The currentEpoch this disk would be recovered with (S5)."""
    return max(epochs.current, synced.last.epoch)


# ---- state -------------------------------------------------------------------------------------------------------


def applied_bound(applied: Zxid, committed: bool, durable: bool, peer: PeerId) -> None:
    """applied <= min(committed, durable here)."""
    if not committed:
        raise InvariantViolation("AppliedBound", f"peer {peer} applies {applied}, which nobody committed")
    if not durable:
        raise InvariantViolation("AppliedBound", f"peer {peer} applies {applied}, which is not on its disk")


def snapshot_bound(snapshot: Zxid, applied: Zxid, peer: PeerId) -> None:
    """L7: a snapshot holds only what was applied."""
    if snapshot > applied:
        raise InvariantViolation(
            "AppliedBound", f"peer {peer} has a snapshot at {snapshot}, but applied only {applied}"
        )


def digest_agreement(known: Mapping[Zxid, int], applied: Zxid, digest: int, peer: PeerId) -> None:
    """Equal applied zxid, equal state."""
    if known.get(applied, digest) != digest:
        raise InvariantViolation(
            "DigestAgreement", f"peer {peer} at {applied} has digest {digest:016x}, another had {known[applied]:016x}"
        )


def exactly_once(known: Mapping[tuple[Zxid, int], object], key: tuple[Zxid, int], result: object, where: str) -> None:
    """Per (client, seq) one result, wherever and however often it is told."""
    if key in known and known[key] != result:
        raise InvariantViolation("ExactlyOnce", f"{key[0]}-{key[1]} {where}: {result}; before: {known[key]}")


def monotonic_reads(min_zxid: Zxid, zxid: Zxid, node: PeerId) -> None:
    """C6: a local read with `min_zxid` is answered from that state or a later one."""
    if zxid < min_zxid:
        raise InvariantViolation("MonotonicReads", f"node {node} answers from {zxid}, asked for {min_zxid} or later")


def check_during_action(sound: bool, text: str) -> None:
    """The peers' own assertions: a state, proposal, commit, ack or message that no schedule may produce."""
    if not sound:
        raise InvariantViolation("CheckDuringAction", text)


NAMES = (
    "Leadership1",
    "Leadership2",
    "PrefixConsistency",
    "Integrity",
    "Agreement",
    "TotalOrder",
    "LocalPrimaryOrder",
    "GlobalPrimaryOrder",
    "PrimaryIntegrity",
    "LogMatching",
    "HistoryContinuity",
    "LeaderCompleteness",
    "CommitSafety",
    "CommittedStable",
    "EpochOrder",
    "OnePromise",
    "NoAckAfterPromise",
    "DurableBeforeAck",
    "AppliedBound",
    "DigestAgreement",
    "ExactlyOnce",
    "Linearizability",
    "MonotonicReads",
    "CheckDuringAction",
)
"""Every name of section 11, in its order."""
