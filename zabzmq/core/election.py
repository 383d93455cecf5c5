"""Phase 0: fast leader election (PROTOCOL 3).

Finds a live peer whose history is the most recent among a quorum. It is an oracle: a wrong answer costs time and
never safety, because discovery checks everything again.
"""

from __future__ import annotations

from math import inf

from zabzmq.core.effects import SendVote
from zabzmq.core.messages import FollowerInfo, Heartbeat, LinkMessage, Notification, Phase, Refusal, State, Vote
from zabzmq.core.phase import PeerPhase
from zabzmq.core.zxid import LinkId, PeerId, ProcessId


class Election(PeerPhase):
    """LOOKING: one round of votes, restarted when a higher round is heard (E1) or a vote becomes hopeless (E8)."""

    state = State.LOOKING
    phase = Phase.ELECTION

    def begin(self) -> None:
        peer = self.peer
        peer.round += 1
        self.mine = peer.own_vote()
        self.vote = self.mine  # the best proposal so far; None of a peer that may not count
        self.votes: dict[PeerId, Vote] = {}  # of this round, own included
        self.decided: dict[PeerId, tuple[ProcessId, Notification]] = {}
        self.waiting: dict[PeerId, tuple[ProcessId, LinkId, FollowerInfo]] = {}  # E7
        # Not the same for all: two that gave way to each other at once would do so for ever.
        self._settle_after = peer.timing.peer_timeout * (1 + 0.1 * (peer.id % 5))
        self.passed_over: set[ProcessId] = set()  # better candidates that no quorum can reach, as it seems
        self.finalize_at = inf
        self.resend_every = peer.timing.notif_resend
        self.broadcast()
        # Votes are state, not a stream: what a voter said while we were still in another role still holds.
        for contact in list(peer.contacts.values()):
            note, process = contact.note, contact.process
            if (
                note is not None
                and process is not None
                and note.state is State.LOOKING
                and peer.reachable(process.peer)
            ):
                self.on_notification(process, note)
                if peer.phase is not self:
                    return
        self._try_terminate()

    # ---- time

    def deadline(self) -> float:
        peer = self.peer
        wait = peer.started_at + peer.timing.bootstrap_wait if self.mine is None and peer.epochs.current == 0 else inf
        return min(self.finalize_at, self.resend_at, self.settle_at, wait if wait > peer.now else inf)

    def on_tick(self) -> None:
        peer = self.peer
        if self._gave_up_candidate():
            return
        self._refresh_own_vote()
        if peer.phase is not self:
            return
        if peer.now >= self.finalize_at and self.vote is not None:
            self._decide(self.vote)
        elif peer.now >= self.settle_at:
            self._settle_for_less()
        elif peer.now >= self.resend_at:
            self.resend_every = min(2 * self.resend_every, peer.timing.notif_resend_max)
            self._send_all()

    # ---- telling

    @property
    def vote_to_tell(self) -> Vote | None:
        return self.vote

    def broadcast(self) -> None:
        """Tell everyone our vote, and begin the resend interval anew."""
        self.resend_every = self.peer.timing.notif_resend
        self.settle_at = self.peer.now + self._settle_after
        self._send_all()

    def _send_all(self) -> None:
        note = self.peer.notification(self.vote)
        for peer in self.peer.contacts:
            self.peer.emit(SendVote(peer, note))
        self.resend_at = self.peer.now + self.peer.jitter(self.resend_every)
        if self.vote is not None:
            self.votes[self.peer.id] = self.vote

    def _tell(self, peer: PeerId) -> None:
        self.peer.emit(SendVote(peer, self.peer.notification(self.vote)))

    # ---- hearing

    def on_mesh_up(self, peer: PeerId) -> None:
        """E8: a vote heard while its candidate was out of reach is good from now on; its voter need not repeat it."""
        if self.vote is None or not self.peer.reachable(peer):
            return
        named = [v for v in self.votes.values() if v.leader.peer == peer and self._is_good(v)]
        best = max(named, key=lambda vote: vote.rank, default=self.vote)
        if best.rank > self.vote.rank:
            self.vote = best
            self.finalize_at = inf
            self.broadcast()
            self._try_terminate()

    def on_mesh_down(self, peer: PeerId) -> None:
        if self.vote is not None and self.vote.leader.peer == peer:
            self.peer.look_again(f"candidate {peer} is gone")  # E8
        else:
            self._try_terminate()

    def on_heartbeat(self, source: ProcessId, heartbeat: Heartbeat, on_link: bool) -> None:
        # It follows or leads, and has not told us whom: asking beats waiting for the next resend.
        if heartbeat.leader is None or heartbeat.phase is not Phase.BROADCAST:
            return
        known = self.decided.get(source.peer)
        if known is None or known[1].leader != heartbeat.leader:
            self._tell(source.peer)

    def on_notification(self, source: ProcessId, note: Notification) -> None:
        peer = self.peer
        if self._gave_up_candidate():
            return
        self._refresh_own_vote()
        if peer.phase is not self:
            return
        if note.vote is not None and note.vote.leader.peer not in peer.voters.ids:
            return
        if note.state is State.LOOKING:
            self.decided.pop(source.peer, None)
            self._on_looking(source, note)
        else:
            self._on_decided(source, note)

    def _on_looking(self, source: ProcessId, note: Notification) -> None:
        peer = self.peer
        vote = note.vote
        counts = note.joined or (peer.all_voters_are_fresh() and note.current_epoch == 0)  # V5, L13a
        if vote is None or not counts or peer.is_dead(vote.leader):  # E6, E4
            self.votes.pop(source.peer, None)
            if note.round < peer.round:
                self._tell(source.peer)
            return
        good = self._is_good(vote)
        if note.round > peer.round:
            # E1: start again from our own vote, never from the previous proposal.
            peer.round = note.round
            self.votes.clear()
            self.finalize_at = inf
            self.vote = self._better(self.mine, vote) if good and self.mine is not None else self.mine
            self.broadcast()
        elif note.round < peer.round:
            self._tell(source.peer)
            return
        elif good and self.vote is not None and vote.rank > self.vote.rank:
            self.vote = vote
            self.finalize_at = inf
            self.broadcast()
        self.votes[source.peer] = vote
        self._try_terminate()

    def _on_decided(self, source: ProcessId, note: Notification) -> None:
        peer = self.peer
        leader = note.leader
        if leader is None or peer.is_dead(leader):
            self.decided.pop(source.peer, None)
            return
        self.decided[source.peer] = (source, note)
        if leader.peer != peer.id and not peer.disk_full:
            # E2: only the leader process is compared, and the leader itself must be heard as LEADING.
            followers = {p for p, (_, n) in self.decided.items() if n.leader == leader}
            if self.mine is not None:
                followers.add(peer.id)
            head = self.decided.get(leader.peer)
            leads = head is not None and head[0] == leader and head[1].state is State.LEADING
            if leads and peer.voters.is_quorum(followers):
                peer.round = note.round
                self._follow(leader, note.vote)
                return
        self._try_terminate()

    def on_link_message(self, source: ProcessId, link: LinkId, message: LinkMessage) -> None:
        if isinstance(message, FollowerInfo) and self.vote is not None and self.vote.leader == self.peer.process:
            self.peer.saw_epochs(message.accepted_epoch, message.max_epoch_seen)
            self.waiting[source.peer] = (source, link, message)  # E7: we may be about to lead
        else:
            super().on_link_message(source, link, message)

    def on_link_lost(self, link: LinkId, why: str) -> None:
        held = self.waiting.get(link.learner.peer)
        if held is not None and held[1] == link:
            del self.waiting[link.learner.peer]

    def links(self) -> list[LinkId]:
        return [link for _, link, _ in self.waiting.values()]

    def on_disk_full(self) -> None:
        if self.mine is not None:
            self.peer.leave("the disk is full")  # L15

    # ---- deciding

    def _is_good(self, vote: Vote) -> bool:
        """E8: whether we may vote for this candidate: we reach it, it lives, and it was not given a miss."""
        peer = self.peer
        return (
            peer.reachable(vote.leader.peer) and not peer.is_dead(vote.leader) and vote.leader not in self.passed_over
        )

    def _gave_up_candidate(self) -> bool:
        """A vote for a process that is out of reach (E8) or no more (E4) would stick: begin a new round without it.

        It can be so by a hair's breadth: told of it by others, connected to its successor, not yet spoken to by that.
        """
        peer, vote = self.peer, self.vote
        if vote is None or (peer.reachable(vote.leader.peer) and not peer.is_dead(vote.leader)):
            return False
        if peer.is_dead(vote.leader):
            peer.look_again(f"candidate {vote.leader.peer} has restarted")
        else:
            peer.look_again(f"candidate {vote.leader.peer} cannot be reached")
        return True

    def _settle_for_less(self) -> None:
        """E8: a quorum is here, and has not agreed for long: the best we reach is out of reach for others.

        So the next, whom most others name, or ourselves: who prefers another never told that it could lead. It is
        never one whose history is behind our own, as discovery would send it away.
        """
        peer, settled = self.peer, self.vote
        self.settle_at = peer.now + self._settle_after
        if self.mine is None or settled is None or not peer.voters.is_quorum(self.votes):
            return
        named: dict[ProcessId, set[PeerId]] = {peer.process: {peer.id}}
        for voter, theirs in self.votes.items():
            named.setdefault(theirs.leader, {peer.id}).add(voter)
        possible = [
            theirs
            for theirs in (self.mine, *self.votes.values())
            if theirs.leader != settled.leader
            and (theirs.epoch, theirs.zxid) >= (self.mine.epoch, self.mine.zxid)
            and peer.reachable(theirs.leader.peer)
            and not peer.is_dead(theirs.leader)
        ]
        if possible:
            self.passed_over.add(settled.leader)
            self.vote = max(possible, key=lambda theirs: (len(named[theirs.leader]), theirs.rank))
            self.passed_over.discard(self.vote.leader)
            self.finalize_at = inf
            self.broadcast()
            self._try_terminate()

    def _better(self, a: Vote | None, b: Vote) -> Vote:
        return b if a is None or b.rank > a.rank else a

    def _refresh_own_vote(self) -> None:
        """Whether we may count can change while we look: others are heard, or were waited for (E6, L13a)."""
        mine = self.peer.own_vote()
        if (mine is None) == (self.mine is None):
            return
        self.mine = mine
        self.finalize_at = inf
        if mine is None:
            self.vote = None
            self.votes.pop(self.peer.id, None)
        else:
            self.vote = mine
            for vote in self.votes.values():
                if self._is_good(vote):
                    self.vote = self._better(self.vote, vote)
        self.broadcast()
        self._try_terminate()

    def _try_terminate(self) -> None:
        peer = self.peer
        vote = self.vote
        if vote is None or peer.phase is not self:
            return
        agreed = {
            voter for voter, theirs in self.votes.items() if theirs.leader == vote.leader and theirs.rank == vote.rank
        }
        agreed |= {p for p, (_, n) in self.decided.items() if n.round == peer.round and n.leader == vote.leader}
        if not peer.voters.is_quorum(agreed):
            self.finalize_at = inf  # A voter changed its mind while we waited (bug 24).
            if self._leads(vote):
                # E9: it was named by a quorum, of whom we may not hear the others. Discovery decides.
                self._decide(vote)
                return
            # E9: named by a quorum, we may lead even while we prefer another.
            naming_me = {voter for voter, theirs in self.votes.items() if theirs.leader == peer.process}
            if self.mine is not None and peer.voters.is_quorum(naming_me) and not self._would_start_anew(self.mine):
                self._decide(self.mine)
            return
        if self._would_start_anew(vote):
            return
        connected = {
            p
            for p, c in peer.contacts.items()
            if c.mesh_up and peer.reachable(p) and not (c.note is not None and c.note.vote is None)
        }
        if connected <= agreed:  # E3
            self._decide(vote)
        elif self.finalize_at == inf:
            self.finalize_at = peer.now + peer.timing.finalize_wait

    def _leads(self, vote: Vote) -> bool:
        """Whether our candidate itself says that it leads, elected in this very round."""
        source, note = self.decided.get(vote.leader.peer, (None, None))
        return (
            note is not None
            and source == vote.leader
            and note.state is State.LEADING
            and note.round == self.peer.round
            and not self._would_start_anew(vote)
        )

    def _would_start_anew(self, vote: Vote) -> bool:
        """L20: those who lost their disks wait for a survivor; among themselves they would begin from nothing."""
        return self.peer.unsafe_rejoin_empty and vote.epoch == 0

    def _decide(self, vote: Vote) -> None:
        if vote.leader == self.peer.process:
            self.peer.lead(vote, list(self.waiting.values()), f"elected by {sorted(self.votes)}")
        else:
            self._follow(vote.leader, vote)

    def _follow(self, leader: ProcessId, vote: Vote | None) -> None:
        for _, link, _ in self.waiting.values():
            self.send_away(link, Refusal.NOT_LEADING)
        self.waiting.clear()
        self.peer.follow(leader, vote, f"follows {leader.peer}")
