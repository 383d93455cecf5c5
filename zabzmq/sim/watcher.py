"""The ensemble's view: fed every step, write and answer of a simulated run, it checks all of PROTOCOL 11 at once.

Nothing is scanned twice: each check looks at what one step changed, against what is known of the whole run. It reads
the disks' synced contents, never what a peer believes of its disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zabzmq.core import invariants as promise
from zabzmq.core.effects import Append, Deliver, Effect, Fail, InstallSnapshot, Moved, Report, Send, SendVote, Truncate
from zabzmq.core.errors import HistoryError
from zabzmq.core.history import Batch, Epochs, History
from zabzmq.core.inputs import Quiesced, SnapshotInstalled
from zabzmq.core.invariants import InvariantViolation
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    FollowerInfo,
    HbEcho,
    LeaderInfo,
    NewLeader,
    Notification,
    Phase,
    State,
)
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import NO_SESSION, Gone, Result, SessionId, decode_results
from zabzmq.machine.state import AppliedRun
from zabzmq.sim.disk import Platter

CLAIMS = frozenset({FollowerInfo, LeaderInfo, AckEpoch, NewLeader, AckNewLeader, Ack})
ACKNOWLEDGES = frozenset({Ack, AckNewLeader, HbEcho})
SPEAKS_OF_DISK = CLAIMS | ACKNOWLEDGES

# Refusals that no fault of a peer is needed for: a restarted leader answers the link meant for the process before.
WEATHER = ("promise of a life", "another process than the one elected")


class Seen:
    """What is known of one process."""

    __slots__ = ("applied", "committed", "delivered", "epoch", "place", "process", "queued")

    def __init__(self, process: ProcessId, start: Zxid, place: int, last: Zxid) -> None:
        self.process = process
        self.delivered = start  # by the core
        self.place = place  # how many batches that is
        self.applied = place  # by the machines, in batches
        self.committed = ZERO
        self.queued = last  # end of its history, with what is queued
        self.epoch = 0  # that it leads, established or synchronizing; else 0


class Watcher:
    """`violations` is empty as long as every promise holds."""

    def __init__(self, voters: Voters, platters: Mapping[PeerId, Platter]) -> None:
        self.voters = voters
        self.platters = platters
        self.ghosts: dict[PeerId, list[Platter]] = {}  # of wiped voters, until they have joined again
        self.lives: dict[PeerId, int] = {}  # of each voter, the one that may count
        self.offered: dict[PeerId, int] = {}  # the one last named by an ADMIT in any log, committed or not
        self.violations: list[InvariantViolation] = []
        self.seen: dict[PeerId, Seen] = {}
        self.leader_of: Callable[[LinkId], ProcessId | None] = lambda link: None
        self.excused: Callable[[PeerId, str], bool] = lambda peer, why: False
        self.moved: Callable[[PeerId, Moved], None] = lambda peer, move: None

        self.leading: dict[PeerId, int] = {}
        self.established: dict[int, ProcessId] = {}
        self.initial: dict[int, History] = {}
        self.first_proposal_at: dict[int, int] = {}
        self.promised: dict[tuple[PeerId, int, int], ProcessId] = {}
        self.epochs: dict[tuple[PeerId, int], Epochs] = {}
        self.on_disk: dict[PeerId, Zxid] = dict.fromkeys(voters.ids, ZERO)

        self.logged: dict[Zxid, Batch] = {}  # by first zxid, ever, by anyone
        self.ending: dict[Zxid, Batch] = {}  # the same by last zxid
        self.proposed: dict[Zxid, Batch] = {}
        self.committed: list[Batch] = []
        self.committed_places: dict[Zxid, int] = {ZERO: 0}
        self.delivered: list[Batch] = []  # the longest anyone delivered
        self.places: dict[Zxid, int] = {}  # of a batch, by its first zxid
        self.ends: dict[Zxid, int] = {ZERO: 0}  # how many batches end there
        self.digests: dict[Zxid, int] = {}
        self.runs: dict[tuple[Zxid, SessionId, int], AppliedRun] = {}
        self.results: dict[tuple[Zxid, int], Result] = {}  # of (session, seq)
        self.applied_at: dict[tuple[Zxid, int], Zxid] = {}

        self._last_vote: Notification | None = None
        self.commits = 0  # transactions
        self.elections = 0
        self.syncs = {"DIFF": 0, "TRUNC": 0, "SNAP": 0}
        self._on_effect: dict[type[Any], Callable[[Seen, Any], None]] = {
            Send: self._on_send,
            Append: self._on_append,
            Deliver: self._on_deliver,
            Truncate: self._on_truncate,
            InstallSnapshot: self._on_install,
            SendVote: self._on_vote,
            Moved: self._on_moved,
            Report: self._on_report,
            Fail: self._on_fail,
        }

    def check(self, what: Callable[..., None], *about: Any) -> bool:
        """Run one predicate; remember what it says. Several may fail in one step, and all are told."""
        try:
            what(*about)
        except InvariantViolation as violation:
            self.violations.append(violation)
            return False
        return True

    # ---- processes -----------------------------------------------------------------------------------------------

    def on_start(self, process: ProcessId) -> None:
        """A process has recovered its disk and starts."""
        platter = self.platters[process.peer]
        start = platter.snapshots[-1][0].zxid if platter.snapshots else ZERO
        self.seen[process.peer] = Seen(process, start, self.ends.get(start, 0), platter.log.last)
        self.check(promise.check_during_action, start in self.ends, f"the snapshot of {process} at {start} is no place")

    def on_crash(self, peer: PeerId) -> None:
        self.leading.pop(peer, None)
        self.seen.pop(peer, None)

    def on_wipe(self, peer: PeerId, old: Platter) -> None:
        """A voter's disk is replaced: until it has joined again, what the old one held counts as held (10.6)."""
        self.ghosts.setdefault(peer, []).append(old)
        self.on_disk[peer] = ZERO

    # ---- steps ---------------------------------------------------------------------------------------------------

    def on_step(self, peer: Peer, event: object, effects: list[Effect]) -> None:
        seen = self.seen[peer.id]
        if peer.committed != seen.committed:
            seen.committed = peer.committed
            epoch = seen.epoch or (peer.phase.epoch if peer.phase.state is State.LEADING else 0)
            if epoch:
                self._on_commit(peer.id, epoch, peer.committed)
        if type(event) is SnapshotInstalled and event.role == peer.role:
            self._on_installed(seen, event.zxid)
        elif type(event) is Quiesced and event.history.snapshot > seen.delivered:
            self._on_installed(seen, event.history.snapshot)  # by a write in flight as its role was left
        if not effects:
            return
        handlers = self._on_effect
        try:
            for effect in effects:
                handler = handlers.get(type(effect))
                if handler is not None:
                    handler(seen, effect)
        except InvariantViolation as violation:
            self.violations.append(violation)

    def _on_send(self, seen: Seen, effect: Send) -> None:
        """What is said of a disk must be on it. Nearly half of all effects come here."""
        message = effect.message
        kind = type(message)
        if kind not in SPEAKS_OF_DISK:
            return
        peer = seen.process.peer
        platter = self.platters[peer]
        if kind in CLAIMS:
            promise.durable_before_ack(message, peer, platter.synced_history(), platter.epochs)
        if kind in ACKNOWLEDGES:
            promise.no_ack_after_promise(platter.epochs.accepted, message.epoch, kind.__name__, peer)  # type: ignore[union-attr]
        elif kind is AckEpoch and message.counted:  # type: ignore[union-attr]
            self._on_promise(seen, effect.link, message.epoch)  # type: ignore[union-attr]

    def _on_promise(self, seen: Seen, link: LinkId, epoch: int) -> None:
        to = self.leader_of(link)
        if to is not None:
            source = seen.process
            self.check(promise.one_promise, self.promised, source, epoch, to)
            self.promised.setdefault((source.peer, source.life, epoch), to)

    def _on_vote(self, seen: Seen, effect: SendVote) -> None:
        if effect.message is self._last_vote:
            return  # the same to everybody
        self._last_vote = effect.message
        peer = seen.process.peer
        platter = self.platters[peer]
        promise.durable_before_ack(effect.message, peer, platter.synced_history(), platter.epochs)

    def _on_moved(self, seen: Seen, move: Moved) -> None:
        peer = seen.process.peer
        self.moved(peer, move)
        seen.epoch = 0
        self.leading.pop(peer, None)
        platter = self.platters[peer]
        if move.state is State.LEADING and move.phase in (Phase.SYNCHRONIZATION, Phase.BROADCAST):
            seen.epoch = move.epoch
            self.leading[peer] = move.epoch
            self.check(promise.leadership1, self.leading)
            if move.phase is Phase.SYNCHRONIZATION:
                self.initial[move.epoch] = platter.history.copy()
            else:
                self._on_established(seen, move.epoch)
        elif move.phase is Phase.ELECTION:
            seen.queued = platter.log.last
            self.check(promise.epoch_of_history, platter.epochs, platter.synced_last, peer)
        elif move.phase is Phase.BROADCAST:
            self.check(promise.epoch_of_history, platter.epochs, platter.synced_last, peer)

    def _on_established(self, seen: Seen, epoch: int) -> None:
        self.elections += 1
        self.check(promise.leadership2, self.established, epoch, seen.process)
        self.established.setdefault(epoch, seen.process)
        if self.committed:
            self.check(promise.leader_completeness, self.committed[-1].last, self.initial, epoch)

    def _on_append(self, seen: Seen, effect: Append) -> None:
        peer = seen.process.peer
        logged = self.logged
        for batch in effect.batches:
            last, first = batch.last, batch.first
            if logged.get(first) is not batch or batch.prev != seen.queued:
                self.check(promise.history_continuity, seen.queued, batch, peer)
                self.check(promise.log_matching, logged, batch, peer)
                if first not in logged:
                    logged[first] = self.ending[last] = batch
                    if batch.admit is not None:
                        self.offered[batch.admit.peer] = batch.admit.life
            seen.queued = last
            if first.epoch == seen.epoch:
                self._on_proposed(seen, batch)

    def _on_proposed(self, seen: Seen, batch: Batch) -> None:
        epoch = seen.epoch
        twice = self.proposed.setdefault(batch.first, batch) is not batch
        self.check(promise.check_during_action, not twice, f"{batch.first} is proposed twice (proposalInconsistent)")
        if epoch not in self.first_proposal_at:
            self.first_proposal_at[epoch] = seen.place
            if seen.place < len(self.delivered):
                self.check(promise.primary_integrity, self.first_proposal_at, seen.place, self.delivered[seen.place])

    def _on_report(self, seen: Seen, report: Report) -> None:
        if report.kind == "sync":
            self.syncs[report.fields["method"]] += 1
        elif report.kind == "drop" and not str(report.fields["why"]).startswith(WEATHER):
            # Nothing in this world forges a message: one that does not fit was sent by a peer of ours.
            why = f"peer {seen.process.peer} refuses {report.fields} (messageIllegal)"
            self.check(promise.check_during_action, False, why)

    def _on_fail(self, seen: Seen, effect: Fail) -> None:
        if not self.excused(seen.process.peer, effect.why):
            self.check(promise.check_during_action, False, f"peer {seen.process.peer} fails: {effect.why}")

    # ---- commitment ----------------------------------------------------------------------------------------------

    def holders(self, zxid: Zxid, epoch: int = 0) -> list[PeerId]:
        """Whose disk would still hold `zxid` after a power cut, having accepted `epoch` or a later one."""
        return [
            peer
            for peer, platter in self.platters.items()
            if (platter.holds(zxid) and platter.epochs.current >= epoch)
            or (peer in self.ghosts and any(g.holds(zxid) and g.epochs.current >= epoch for g in self.ghosts[peer]))
        ]

    def counted_holders(self, zxid: Zxid, epoch: int) -> list[PeerId]:
        """The same of those that may count: joined, and with the life last admitted (V5, L18)."""
        held = self.holders(zxid, epoch)
        return [peer for peer in held if peer in self.ghosts or self._may_count(peer)]

    def _may_count(self, peer: PeerId) -> bool:
        platter = self.platters[peer]
        return platter.epochs.joined and self.lives.get(peer) == platter.life

    def _on_commit(self, peer: PeerId, epoch: int, watermark: Zxid) -> None:
        """A leader calls everything up to `watermark` committed."""
        if watermark in self.committed_places:
            return
        path = []
        at = watermark
        while at not in self.committed_places:
            batch = self.ending.get(at)
            if batch is None:
                self.check(promise.check_during_action, False, f"{at} is committed and was never logged")
                return
            path.append(batch)
            at = batch.prev
        for batch in reversed(path):
            if batch.admit is not None:
                self.lives[batch.admit.peer] = self.offered[batch.admit.peer] = batch.admit.life
        self.check(promise.commit_safety, watermark, self.counted_holders(watermark, epoch), self.voters)
        for later in self.established:
            if later > watermark.epoch:
                self.check(promise.leader_completeness, watermark, self.initial, later)
        if self.committed_places[at] != len(self.committed):
            branch = self.committed[self.committed_places[at]].first
            why = f"{path[-1].first} is committed by peer {peer} where {branch} was"
            self.violations.append(InvariantViolation("CommittedStable", why))
            return
        for batch in reversed(path):
            self.committed.append(batch)
            self.committed_places[batch.last] = len(self.committed)
            self.commits += batch.count
        self._check_stable()

    def _check_stable(self) -> None:
        if self.committed:
            last = self.committed[-1].last
            self.check(promise.committed_stable, last, self.holders(last), self.voters)

    # ---- disks ---------------------------------------------------------------------------------------------------

    def on_synced(self, peer: PeerId) -> None:
        """The synced contents of this disk have changed."""
        platter = self.platters[peer]
        key = (peer, platter.life)
        before = self.epochs.get(key)
        if platter.epochs is not before:
            if before is not None:
                self.check(promise.epoch_order, before, platter.epochs, peer)
                if platter.epochs.current > before.current:
                    self.check(promise.epoch_accepted, platter.epochs, self.initial, platter.synced_history(), peer)
            self.epochs[key] = platter.epochs
            if platter.epochs.joined:
                life = self.lives.setdefault(peer, platter.life)  # by bootstrap; later lives are admitted
                if life == platter.life and self.ghosts.pop(peer, []):
                    self._check_stable()
        last, before_last = platter.synced_last, self.on_disk[peer]
        if last != before_last:
            self.on_disk[peer] = last
            if last < before_last or not platter.history.holds(before_last):
                self._check_stable()
        snapshot = platter.history.snapshot
        if peer in self.seen and snapshot != ZERO:
            self.check(promise.check_during_action, snapshot in self.ends, f"peer {peer} has a snapshot at {snapshot}")

    def on_snapshot_taken(self, peer: PeerId, zxid: Zxid) -> None:
        self.check(promise.snapshot_bound, zxid, self.seen[peer].delivered, peer)

    def _on_truncate(self, seen: Seen, effect: Truncate) -> None:
        peer, log = seen.process.peer, self.platters[seen.process.peer].log
        seen.queued = effect.to
        at = log.after(effect.to)
        cut = log.lasts[at] if at is not None and at < len(log.lasts) else None
        self.check(promise.never_truncated, self.committed_places, cut, peer)

    def _on_install(self, seen: Seen, effect: InstallSnapshot) -> None:
        peer, mark = seen.process.peer, effect.mark
        old, new = self.platters[peer].history, History.at(mark)
        for batch in reversed(self.committed):
            if old.holds(batch.last):
                lost = None if new.holds(batch.last) else batch.last
                self.check(promise.never_truncated, self.committed_places, lost, peer)
                break
        seen.queued = mark.zxid

    def _on_installed(self, seen: Seen, zxid: Zxid) -> None:
        self.check(promise.check_during_action, zxid in self.ends, f"a snapshot at {zxid} is no place of the history")
        seen.delivered, seen.place = zxid, self.ends.get(zxid, 0)
        seen.applied = seen.place

    # ---- delivery and the machines --------------------------------------------------------------------------------

    def _on_deliver(self, seen: Seen, effect: Deliver) -> None:
        peer, upto = seen.process.peer, effect.upto
        platter = self.platters[peer]
        durable = platter.holds(upto)
        promise.applied_bound(upto, upto in self.committed_places, durable, peer)
        batches = platter.log.between(seen.delivered, upto) if durable else None
        if batches is None:
            if durable:
                why = f"peer {peer} delivers ({seen.delivered}, {upto}], no range of its log"
                self.check(promise.check_during_action, False, why)
            return
        for batch in batches:
            at = seen.place
            # The very batch that another delivered as this number: all below is known to hold.
            if at >= len(self.delivered) or self.delivered[at] is not batch:
                self._check_delivery(at, batch, peer)
            if at == len(self.delivered):
                self.delivered.append(batch)
                self.places[batch.first] = at
                self.ends[batch.last] = at + 1
            seen.place = at + 1
        seen.delivered = upto

    def _check_delivery(self, at: int, batch: Batch, peer: PeerId) -> None:
        previous = self.delivered[at - 1] if 0 < at <= len(self.delivered) else None
        self.check(promise.prefix_consistency, self.delivered, at, batch, peer)
        self.check(promise.integrity, self.proposed, self.places, at, batch, peer)
        self.check(promise.agreement, self.delivered, self.places, at, batch, peer)
        self.check(promise.total_order, self.places, at, batch, peer)
        self.check(promise.local_primary_order, previous, batch, peer)
        self.check(promise.global_primary_order, previous, batch, peer)
        self.check(promise.primary_integrity, self.first_proposal_at, at, batch)

    def on_applied(self, peer: PeerId, batch: Batch, runs: list[AppliedRun], digest: int) -> None:
        """The machines of a node have taken in a batch."""
        seen = self.seen[peer]
        at = seen.applied
        if at >= seen.place:
            self.check(promise.applied_bound, batch.last, at < len(self.delivered), False, peer)
        elif self.delivered[at] is not batch and self.delivered[at] != batch:
            where = f"peer {peer} applies {batch.first} as number {at}, {self.delivered[at].first} was delivered"
            self.violations.append(InvariantViolation("TotalOrder", where))
        seen.applied = at + 1
        self.on_digest(peer, batch.last, digest)
        for run in runs:
            if run.session != NO_SESSION:
                self._on_run(peer, run)

    def on_digest(self, peer: PeerId, applied: Zxid, digest: int) -> None:
        if self.digests.setdefault(applied, digest) != digest:
            self.check(promise.digest_agreement, self.digests, applied, digest, peer)

    def _on_run(self, peer: PeerId, run: AppliedRun) -> None:
        """Whoever applies this run gets these results, and did what is new in it at this place and no other."""
        session, first, repeated = run.session, run.first, run.repeated
        known = self.runs.setdefault((first, session, run.seq), run)
        if known is not run and known == run:
            return  # as another peer did
        if run.why:
            return
        for offset, result in enumerate(decode_results(run.results)):
            if isinstance(result, Gone):
                continue
            key = (Zxid(*session), run.seq + offset)
            self.check(promise.exactly_once, self.results, key, result, f"on peer {peer}")
            self.results.setdefault(key, result)
            if offset >= repeated:
                place = Zxid(first.epoch, first.counter + offset)
                self.check(promise.exactly_once, self.applied_at, key, place, f"applied on peer {peer} at")
                self.applied_at.setdefault(key, place)

    # ---- answers to clients ----------------------------------------------------------------------------------------

    def on_done(self, node: PeerId, session: Zxid, seq: int, results: list[Result]) -> None:
        """C9: what a client is told was applied, and with this very result."""
        for offset, result in enumerate(results):
            key = (session, seq + offset)
            if isinstance(result, Gone):
                continue
            if key not in self.results:
                why = f"node {node} answers {session}-{seq + offset}, which nobody applied"
                self.violations.append(InvariantViolation("DurableBeforeAck", why))
            self.check(promise.exactly_once, self.results, key, result, f"answered by node {node}")

    def on_error(self, error: Exception, where: str) -> None:
        """An assertion inside the code under test has fired."""
        name = "HistoryContinuity" if isinstance(error, HistoryError) else "CheckDuringAction"
        self.violations.append(InvariantViolation(name, f"{where}: {type(error).__name__}: {error}"))
