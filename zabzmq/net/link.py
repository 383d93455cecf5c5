"""Links as one process keeps them: numbers, who is at the other end, which link is current (T1, T2, T6). Pure.

A *link* is one connection attempt of a learner process to a leader process; it stands for the FIFO channel the
paper assumes. ZeroMQ reconnects on its own, a ROUTER drops what it cannot route, and an address outlives the
process behind it. So every message of a link is numbered from 1 in each direction, and what is not the next one,
or not from or for the very process, is refused: a link is FIFO or it is lost.

Both the sockets and the simulated network ask here, message by message; bytes and connections are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from zabzmq.core.zxid import LinkId, PeerId, ProcessId

LIVES_KEPT: Final = 16
"""Superseded lives remembered per peer; a data directory is wiped seldom."""

REASONS: Final = frozenset({"address", "stranger", "stale", "closed", "gap", "ended"})
"""Every reason a Verdict of this module can have, for counters."""


class Outgoing(NamedTuple):
    """Number and address of the next message on a link. `incarnation` is 0 until the other end has spoken."""

    seq: int
    peer: PeerId
    incarnation: int


class Verdict(NamedTuple):
    """What to do with a message that arrived: hand it on if `reason` is None, else drop it and count the reason.

    `lost`: links that are over because of it, closed here already; the caller tells its peer LinkLost of each,
    before it hands on the message. `tell_closed`: the sender still believes in a link that is over at this end;
    a Closed in return saves it a timeout.
    """

    reason: str | None = None
    lost: tuple[tuple[LinkId, str], ...] = ()
    tell_closed: bool = False


ACCEPT: Final = Verdict()


@dataclass(slots=True)
class _Link:
    peer: PeerId  # at the other end
    process: ProcessId | None  # the same, as soon as it is known
    sent: int = 0
    received: int = 0


class Links:
    """The links of process `me`, in both roles, and the newest known process of every other peer.

    A link of which `me` is the learner begins with `opened`; one of which it is the leader begins with its first
    message. Either ends with `closed`, or with a Verdict that names it lost.
    """

    def __init__(self, me: ProcessId) -> None:
        self.me = me
        self._open: dict[LinkId, _Link] = {}
        self._newest: dict[PeerId, LinkId] = {}  # of each learner, as a leader: the greatest ever met
        self._processes: dict[PeerId, ProcessId] = {}
        self._superseded: dict[PeerId, list[int]] = {}

    def is_open(self, link: LinkId) -> bool:
        return link in self._open

    @property
    def open_links(self) -> list[LinkId]:
        return list(self._open)

    def process(self, peer: PeerId) -> ProcessId | None:
        """The newest process heard of this peer."""
        return self._processes.get(peer)

    # ---- a link's life -------------------------------------------------------------------------------------------

    def opened(self, link: LinkId, peer: PeerId) -> None:
        """As a learner: a link of our own begins."""
        assert link.learner == self.me, f"{link} is not a link of {self.me}"
        assert link not in self._open, f"{link} is opened twice"
        self._open[link] = _Link(peer, None)

    def closed(self, link: LinkId) -> bool:
        """This end gives the link up. Whether it was open."""
        return self._open.pop(link, None) is not None

    def outgoing(self, link: LinkId) -> Outgoing | None:
        """Take the next number of this direction; None if the link is over."""
        state = self._open.get(link)
        if state is None:
            return None
        state.sent += 1
        process = state.process
        return Outgoing(state.sent, state.peer, 0 if process is None else process.incarnation)

    # ---- what arrives --------------------------------------------------------------------------------------------

    def incoming(
        self, link: LinkId, seq: int, source: ProcessId, to_peer: PeerId, to_incarnation: int, *, ends: bool = False
    ) -> Verdict:
        """Judge a message of a link. `ends`: it is the Closed of the other end."""
        learner = link.learner
        if to_peer != self.me.peer or to_incarnation not in (self.me.incarnation, 0):
            # Queued for the process that had this address before (bug 42).
            return Verdict("address")
        if learner == self.me:
            return self._to_learner(link, seq, source, to_incarnation, ends)
        if source != learner or learner.peer == self.me.peer:
            return Verdict("stranger")
        return self._to_leader(link, seq, source, ends)

    def _to_learner(self, link: LinkId, seq: int, source: ProcessId, to_incarnation: int, ends: bool) -> Verdict:
        state = self._open.get(link)
        if state is None:
            return Verdict("closed")  # T6: nothing is accepted after the close
        if to_incarnation == 0:
            return Verdict("address")  # the leader knows us: we spoke first
        if source.peer != state.peer:
            return self._lose(link, "stranger", f"peer {source.peer} answered on a link to peer {state.peer}")
        lost: tuple[tuple[LinkId, str], ...] = ()
        if state.process is None:
            verdict = self.heard(source)
            if verdict.reason is not None:
                return self._lose(link, verdict.reason, f"answered by {source}, which is not the newest")
            state.process, lost = source, verdict.lost
        elif source != state.process:
            return self._lose(link, "stale", f"{source} speaks where {state.process} did")
        return self._in_order(state, link, seq, ends, lost)

    def _to_leader(self, link: LinkId, seq: int, source: ProcessId, ends: bool) -> Verdict:
        heard = self.heard(source)
        if heard.reason is not None:
            return heard
        state, lost = self._open.get(link), heard.lost
        if state is None:
            newest = self._newest.get(source.peer)
            if newest is not None and newest.learner == source and link.number <= newest.number:
                return Verdict("closed", lost, tell_closed=not ends)
            if ends or seq != 1:
                # The first messages went to a process before us, or nowhere: there is no link without them.
                return Verdict("gap", lost, tell_closed=not ends)
            if newest is not None and self.closed(newest):
                lost += ((newest, f"replaced by {link}"),)
            self._newest[source.peer] = link
            state = self._open[link] = _Link(source.peer, source)
        return self._in_order(state, link, seq, ends, lost)

    def _in_order(
        self, state: _Link, link: LinkId, seq: int, ends: bool, lost: tuple[tuple[LinkId, str], ...]
    ) -> Verdict:
        if seq != state.received + 1 and not ends:
            self.closed(link)
            why = f"message {seq} after {state.received}"
            return Verdict("gap", (*lost, (link, why)), tell_closed=True)
        if ends:
            self.closed(link)
            return Verdict("ended", (*lost, (link, f"closed by peer {state.peer}")))
        state.received = seq
        return Verdict(None, lost) if lost else ACCEPT

    def _lose(self, link: LinkId, reason: str, why: str) -> Verdict:
        self.closed(link)
        return Verdict(reason, ((link, why),), tell_closed=True)

    # ---- which process is the peer -------------------------------------------------------------------------------

    def heard(self, source: ProcessId, *, newer: bool = False) -> Verdict:
        """Judge the sender of a mesh or PUB message: is it the newest process of its peer?

        Of one life the greater incarnation is newer. Two lives have no such order (1.1): one never met before
        replaces the one we know, one that was replaced stays out. `newer` says that this came over a connection
        made after all that was heard before, as a SUB can: it is one FIFO to one address, over all reconnections.
        Then that life counts whatever was thought before, so a wrong guess heals with the next heartbeat.
        """
        known = self._processes.get(source.peer)
        if source == known:
            return ACCEPT
        if source.peer == self.me.peer:
            return Verdict("stranger")  # another process under our own id (bug 44)
        if known is not None:
            if source.life == known.life:
                if source.incarnation < known.incarnation:
                    return Verdict("stale")
            else:
                superseded = self._superseded.setdefault(source.peer, [])
                if source.life in superseded:
                    if not newer:
                        return Verdict("stale")
                    superseded.remove(source.life)
                superseded.append(known.life)
                del superseded[:-LIVES_KEPT]
        self._processes[source.peer] = source
        lost = [link for link, state in self._open.items() if state.process == known and known is not None]
        for link in lost:
            self.closed(link)
        return Verdict(None, tuple((link, f"{known} is now {source}") for link in lost))
