"""What a peer can ask for. Performed by the node in list order; none of them waits for anything.

Disk effects carry the role they were asked in and go through the log writer's one queue, in order; their
completions come back as inputs with that role. What must not be said before the disk has it is an effect of the
step that hears the completion, never of the step that asks for the write.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from zabzmq.core.history import Batch, Epochs, SnapshotMark
from zabzmq.core.messages import LinkMessage, Notification, Phase, PubMessage, State
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid

# ---- network -----------------------------------------------------------------------------------------------------


class Send(NamedTuple):
    """Say this on a link. Sending one message object to many links lets the wire encode it once."""

    link: LinkId
    message: LinkMessage


class SendVote(NamedTuple):
    peer: PeerId
    message: Notification


class Publish(NamedTuple):
    """To all on PUB. The node fills in `applied` and `digest` of a heartbeat."""

    message: PubMessage


class OpenLink(NamedTuple):
    """As a learner: connect a link to this peer; LinkUp or LinkLost follows."""

    link: LinkId
    peer: PeerId


class CloseLink(NamedTuple):
    """Nothing is sent on or accepted from this link any more. No LinkLost follows."""

    link: LinkId
    why: str


class Resubscribe(NamedTuple):
    """Make our SUB to this peer anew: its heartbeats come by the link only (T9)."""

    peer: PeerId


# ---- disk --------------------------------------------------------------------------------------------------------


class Append(NamedTuple):
    """Write these batches at the end of the log and sync: Durable follows."""

    role: int
    batches: tuple[Batch, ...]


class SaveEpochs(NamedTuple):
    """Replace META: EpochsSaved follows."""

    role: int
    epochs: Epochs


class Truncate(NamedTuple):
    """Cut the log back to `to` (L11): Durable(to) follows."""

    role: int
    to: Zxid


class StageSnapshot(NamedTuple):
    """Write a piece of a snapshot being received; `offset` 0 begins a new one. SnapshotStaged follows."""

    role: int
    offset: int
    data: bytes


class InstallSnapshot(NamedTuple):
    """Verify the staged snapshot (`size` bytes) and make it the whole history (L12): SnapshotInstalled follows."""

    role: int
    mark: SnapshotMark
    size: int


class Quiesce(NamedTuple):
    """Finish the write in flight, discard the rest, and tell what the disk holds (D4): Quiesced follows."""

    role: int


class ReadBatches(NamedTuple):
    """Read the batches of `(after, upto]`, about `bytes_max` of them, for this link: BatchesRead follows."""

    role: int
    link: LinkId
    after: Zxid
    upto: Zxid
    bytes_max: int


class ReadSnapshot(NamedTuple):
    """Read a piece of the snapshot at `mark.zxid` for this link: SnapshotRead follows."""

    role: int
    link: LinkId
    mark: SnapshotMark
    offset: int
    bytes_max: int


# ---- this node's state machine and clients -----------------------------------------------------------------------


class Deliver(NamedTuple):
    """Everything up to `upto` is committed and durable here: apply it, in order (D3, B8)."""

    upto: Zxid


class Proposed(NamedTuple):
    """The Request of this step became this batch."""

    batch: Batch


class Busy(NamedTuple):
    """The Request of this step was surely not proposed, and why: the windows are full, or we do not lead (C1, C7)."""

    leading: bool
    why: str


class ReadReady(NamedTuple):
    """The reads of this ticket may be answered from any state that has applied `zxid` (C5)."""

    ticket: int
    zxid: Zxid


class ReadFailed(NamedTuple):
    """The reads of this ticket cannot be served here now; nothing was done."""

    ticket: int


# ---- people and programs that watch -------------------------------------------------------------------------------


class Moved(NamedTuple):
    """The peer is now here, and why. `leader` and `epoch` are those it leads with or follows."""

    state: State
    phase: Phase
    epoch: int
    leader: ProcessId | None
    why: str


class Report(NamedTuple):
    """Something worth an event: `kind` of UX 3.3, and its operands."""

    kind: str
    fields: dict[str, Any]


class Fail(NamedTuple):
    """FAILED: stop the process, leave the disk as it is, exit non-zero."""

    why: str


Effect: TypeAlias = (
    Send
    | SendVote
    | Publish
    | OpenLink
    | CloseLink
    | Resubscribe
    | Append
    | SaveEpochs
    | Truncate
    | StageSnapshot
    | InstallSnapshot
    | Quiesce
    | ReadBatches
    | ReadSnapshot
    | Deliver
    | Proposed
    | Busy
    | ReadReady
    | ReadFailed
    | Moved
    | Report
    | Fail
)
