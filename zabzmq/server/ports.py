"""What a node needs of the world, as Protocols: sockets and disks in a server, models of them in the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from zabzmq.core.history import Batch, Epochs, SnapshotMark
from zabzmq.core.messages import LinkMessage, Notification, PubMessage
from zabzmq.core.zxid import LinkId, PeerId, Zxid
from zabzmq.net.client_wire import ClientReply, Committed


class Transport(Protocol):
    """The network. Nothing here waits or raises for the other end's sake: failures come back as LinkLost."""

    def send(self, link: LinkId, message: LinkMessage) -> None: ...
    def send_vote(self, peer: PeerId, message: Notification) -> None: ...
    def publish(self, message: PubMessage) -> None: ...
    def publish_committed(self, committed: Committed) -> None:
        """To monitors, topic `tx`."""

    def open_link(self, link: LinkId, peer: PeerId) -> None: ...
    def close_link(self, link: LinkId) -> None: ...
    def resubscribe(self, peer: PeerId) -> None: ...
    def reply(self, client: bytes, message: ClientReply) -> None: ...


class Storage(Protocol):
    """The disk. Each write is queued to the one writer; its completion is an input of the core, in order.

    `batches` and `load_snapshot` answer at once: from memory for what is recent, else from files.
    """

    def append(self, role: int, batches: tuple[Batch, ...]) -> None: ...
    def save_epochs(self, role: int, epochs: Epochs) -> None: ...
    def truncate(self, role: int, to: Zxid) -> None: ...
    def stage_snapshot(self, role: int, offset: int, data: bytes) -> None: ...
    def install_snapshot(self, role: int, mark: SnapshotMark, size: int) -> None: ...
    def quiesce(self, role: int) -> None: ...
    def read_batches(self, role: int, link: LinkId, after: Zxid, upto: Zxid, bytes_max: int) -> None: ...
    def read_snapshot(self, role: int, link: LinkId, mark: SnapshotMark, offset: int, bytes_max: int) -> None: ...

    def batches(self, after: Zxid, upto: Zxid, bytes_max: int) -> Sequence[Batch]:
        """The batches of `(after, upto]` in order, at least one and about `bytes_max` bytes of them.

        Empty when `after` is below the base or not on this branch, or `upto <= after`.
        """

    def near(self, zxid: Zxid) -> Zxid:
        """An end of a batch at or a little before `zxid`, from which batches can be read; the base if it is purged."""

    def take_snapshot(self, mark: SnapshotMark, pieces: Iterable[bytes]) -> None:
        """Write a snapshot of our own state in the background; SnapshotTaken follows once it is verified and purged.

        The pieces are taken there too; an empty one says that work was done, and that others may be let in.

        When it could not be kept (no room, or the history was replaced meanwhile) SnapshotTaken names what is there.
        """

    def load_snapshot(self) -> tuple[Zxid, bytes]:
        """The newest installed snapshot's zxid and state; (ZERO, b"") when there is none. Raises StorageError."""


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic milliseconds."""

    def wall_ms(self) -> int:
        """Wall clock in milliseconds since 1970, for people only."""
