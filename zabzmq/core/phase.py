"""What every phase of a peer is: a set of doors, closed unless the phase opens them.

A phase lives as an object, made on entry and dropped on exit, so that acks and votes of a dead epoch cannot
count in the next: what held them is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, ClassVar

from zabzmq.core.effects import Busy, CloseLink, ReadFailed, Send, SendVote
from zabzmq.core.errors import RemoteProtocolError
from zabzmq.core.history import Epochs
from zabzmq.core.inputs import BatchesRead, Request, SnapshotRead
from zabzmq.core.messages import (
    Commit,
    FollowerInfo,
    Heartbeat,
    LinkMessage,
    Nack,
    Notification,
    Phase,
    Refusal,
    State,
    Vote,
)
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid

if TYPE_CHECKING:
    from zabzmq.core.peer import Peer


class PeerPhase:
    """Base of all phases. Handlers add effects through `self.peer.emit`; the default is to ignore, or to refuse."""

    state: ClassVar[State] = State.LOOKING
    phase: ClassVar[Phase]

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    @property
    def leader(self) -> ProcessId | None:
        """The process it leads with or follows, None while LOOKING."""
        return None

    @property
    def vote_to_tell(self) -> Vote | None:
        """What it tells others in the election: here, what it decided with (3.1)."""
        return self.peer.decided

    @property
    def epoch(self) -> int:
        """The epoch of the leadership it belongs to; of no leadership, the last one it accepted."""
        return self.peer.epochs.current

    def links(self) -> list[LinkId]:
        """Every link that must be closed when this phase is left for LOOKING."""
        return []

    def begin(self) -> None:
        """Called once, when the peer has entered this phase."""

    def on_leave(self) -> None:
        """Called once, when the peer goes back to LOOKING from here."""

    def acked_by_voter(self) -> Mapping[PeerId, Zxid]:
        """What each voter is known to have on disk; nothing outside a leadership."""
        return {}

    # ---- time

    def deadline(self) -> float:
        """When on_tick wants to be called next, in milliseconds of the input clock."""
        return inf

    def on_tick(self) -> None: ...

    def on_resumed(self) -> None: ...

    # ---- network

    def on_notification(self, source: ProcessId, note: Notification) -> None: ...

    def on_heartbeat(self, source: ProcessId, heartbeat: Heartbeat, on_link: bool) -> None: ...

    def on_commit(self, source: ProcessId, commit: Commit) -> None: ...

    def on_mesh_up(self, peer: PeerId) -> None: ...

    def on_mesh_down(self, peer: PeerId) -> None: ...

    def on_link_up(self, link: LinkId) -> None: ...

    def on_link_lost(self, link: LinkId, why: str) -> None: ...

    def on_link_message(self, source: ProcessId, link: LinkId, message: LinkMessage) -> None:
        """Not leading: a learner that comes here is sent away, anything else is of a link long closed (E7)."""
        if isinstance(message, FollowerInfo):
            self.send_away(link, Refusal.NOT_LEADING)
            if self.leader is not None:
                # It would knock until discovery_timeout; whom we follow tells it not to.
                self.peer.emit(SendVote(source.peer, self.peer.notification(self.vote_to_tell)))

    def send_away(self, link: LinkId, reason: Refusal) -> None:
        self.peer.emit(Send(link, Nack(reason, self.peer.epochs.accepted)))
        self.peer.emit(CloseLink(link, reason.name))

    # ---- disk

    def on_durable(self) -> None:
        """`peer.durable` has moved."""

    def on_epochs_saved(self, epochs: Epochs) -> None: ...

    def on_snapshot_staged(self, offset: int) -> None: ...

    def on_snapshot_installed(self) -> None: ...

    def on_batches_read(self, answer: BatchesRead) -> None: ...

    def on_snapshot_read(self, answer: SnapshotRead) -> None: ...

    def on_disk_full(self) -> None: ...

    # ---- this node's clients

    def on_request(self, request: Request) -> None:
        self.peer.emit(Busy(leading=False, why="this node does not lead"))

    def on_read(self, ticket: int) -> None:
        self.peer.emit(ReadFailed(ticket))


def misplaced(message: LinkMessage, phase: Phase) -> RemoteProtocolError:
    """A message that does not fit the phase is a violation, never handled anyway (PROTOCOL 2)."""
    return RemoteProtocolError(f"{type(message).__name__} does not belong in {phase.name}")
