"""What a peer can hear. The closed set of doors into `Peer.step`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from zabzmq.core.history import Batch, Epochs, History, SnapshotMark
from zabzmq.core.messages import Message
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid


class Tick(NamedTuple):
    """Time went by: deadlines at or before now are due."""


class Resumed(NamedTuple):
    """The loop stood still for longer than half a peer_timeout; its sockets have been drained since (F5)."""


# ---- network -----------------------------------------------------------------------------------------------------


class Received(NamedTuple):
    """A message from another process. `link` is None for mesh (NOTIFICATION) and PUB (HEARTBEAT, COMMIT) messages.

    net/link.py has already dropped what is addressed to another incarnation, out of order, or of a link that is
    not the current one of its learner process (T1, T2).
    """

    source: ProcessId
    link: LinkId | None
    message: Message


class MeshUp(NamedTuple):
    """Our mesh connection to this peer's address is up."""

    peer: PeerId


class MeshDown(NamedTuple):
    """It is down: that process is gone, or the way to it."""

    peer: PeerId


class LinkUp(NamedTuple):
    """The link we opened as a learner has shaken hands: speak first."""

    link: LinkId


class LinkLost(NamedTuple):
    """This link is over, at either end: reset, refused, a gap in its numbers, a send that failed."""

    link: LinkId
    why: str


# ---- disk: completions of effects, in the order they were asked for, tagged with the role they were asked in (D4) -


class Durable(NamedTuple):
    """The log up to `zxid` is on disk."""

    role: int
    zxid: Zxid


class EpochsSaved(NamedTuple):
    """META holds these epochs."""

    role: int
    epochs: Epochs


class SnapshotStaged(NamedTuple):
    """The first `offset` bytes of the snapshot being received are written."""

    role: int
    offset: int


class SnapshotInstalled(NamedTuple):
    """The received snapshot has replaced the whole history, durably (L12)."""

    role: int
    zxid: Zxid


class SnapshotTaken(NamedTuple):
    """A snapshot of our own state is on disk and verified, and the log before `base` is purged (L10)."""

    zxid: Zxid
    base: Zxid


class Quiesced(NamedTuple):
    """The writer is idle and has discarded what it had not begun; this is what the disk holds (D4)."""

    role: int
    history: History
    epochs: Epochs


class BatchesRead(NamedTuple):
    """Answer to ReadBatches: the batches just after `after`, possibly fewer than asked, none if purged meanwhile."""

    role: int
    link: LinkId
    after: Zxid
    batches: tuple[Batch, ...]


class SnapshotRead(NamedTuple):
    """Answer to ReadSnapshot: bytes from `offset` on of `size` in all; None when it can no longer be read."""

    role: int
    link: LinkId
    mark: SnapshotMark
    offset: int
    size: int
    data: bytes | None


class Space(IntEnum):
    """How full the disk is (L15)."""

    OK = 0
    LOW = 1  # clients get BUSY
    FULL = 2  # resign, and do not lead


class DiskSpace(NamedTuple):
    level: Space


# ---- this node's own clients -------------------------------------------------------------------------------------


class Request(NamedTuple):
    """Operations of clients that arrived together: `count` transactions in `data`, to be one batch."""

    data: bytes
    count: int  # type: ignore[assignment]  # shadows tuple.count
    time_ms: int


class Read(NamedTuple):
    """A linearizable read arrived (or many, sharing this ticket): which zxid must they see? (C5)"""

    ticket: int


Input: TypeAlias = (
    Tick
    | Resumed
    | Received
    | MeshUp
    | MeshDown
    | LinkUp
    | LinkLost
    | Durable
    | EpochsSaved
    | SnapshotStaged
    | SnapshotInstalled
    | SnapshotTaken
    | Quiesced
    | BatchesRead
    | SnapshotRead
    | DiskSpace
    | Request
    | Read
)
