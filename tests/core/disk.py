"""A disk without files, for tests of the core: what was synced, what is queued, and what a reader finds in the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from zabzmq.core.effects import (
    Append,
    Effect,
    InstallSnapshot,
    Quiesce,
    ReadBatches,
    ReadSnapshot,
    SaveEpochs,
    StageSnapshot,
    Truncate,
)
from zabzmq.core.history import Batch, Epochs, History
from zabzmq.core.inputs import (
    BatchesRead,
    Durable,
    EpochsSaved,
    Input,
    Quiesced,
    SnapshotInstalled,
    SnapshotRead,
    SnapshotStaged,
    SnapshotTaken,
)
from zabzmq.core.zxid import Zxid

DiskEffect: TypeAlias = (
    Append | SaveEpochs | Truncate | StageSnapshot | InstallSnapshot | Quiesce | ReadBatches | ReadSnapshot
)
STATE = b"state of the machines"
"""What a snapshot holds here; read in pieces of 8 bytes."""


class Disk:
    """One writer, one queue, one write at a time; `queue[0]` is the write in flight while the disk is `held`."""

    def __init__(self, life: int, history: History | None = None, epochs: Epochs | None = None) -> None:
        self.life = life
        self.incarnation = 0
        self.history = History() if history is None else history
        self.batches: list[Batch] = []
        self.epochs = Epochs(0, 0, False) if epochs is None else epochs
        self.held = False
        self.queue: deque[DiskEffect] = deque()
        self.done: list[str] = []  # every write that ended, in order

    def ask(self, effect: Effect) -> None:
        """Queue it, if it is of the disk. Leaving a role discards what was not begun (D4)."""
        if isinstance(effect, Quiesce):
            writing = [each for each in list(self.queue)[:1] if self.held]
            self.queue = deque([*writing, effect])
        elif isinstance(effect, DiskEffect):
            self.queue.append(effect)

    def crash(self) -> None:
        """What was not synced is gone."""
        self.queue.clear()
        self.held = False

    def next(self) -> Input:
        """Do what is first in the queue, durably."""
        effect = self.queue.popleft()
        match effect:
            case Append(role, batches):
                for batch in batches:
                    self.history.append(batch)
                    self.batches.append(batch)
                self.done.append(f"append {self.history.last}")
                return Durable(role, self.history.last)
            case SaveEpochs(role, epochs):
                self.epochs = epochs
                self.done.append(f"epochs {epochs.accepted} {epochs.current}")
                return EpochsSaved(role, epochs)
            case Truncate(role, to):
                self.history.truncate(to)
                self.batches = [batch for batch in self.batches if batch.last <= to]
                self.done.append(f"truncate {to}")
                return Durable(role, to)
            case StageSnapshot(role, offset, data):
                return SnapshotStaged(role, offset + len(data))
            case InstallSnapshot(role, mark, _):
                self.history, self.batches = History.at(mark), []
                self.done.append(f"install {mark.zxid}")
                return SnapshotInstalled(role, mark.zxid)
            case Quiesce(role):
                return Quiesced(role, self.history.copy(), self.epochs)
            case ReadBatches(role, link, after, upto, _):
                return BatchesRead(role, link, after, self.read(after, upto))
            case ReadSnapshot(role, link, mark, offset, _):
                piece = STATE[offset : offset + 8] if self.history.snapshot >= mark.zxid else None
                return SnapshotRead(role, link, mark, offset, len(STATE), piece)

    def read(self, after: Zxid, upto: Zxid) -> tuple[Batch, ...]:
        """The log of `(after, upto]`, including what is queued for it."""
        if after < self.history.base:
            return ()
        queued = [batch for effect in self.queue if isinstance(effect, Append) for batch in effect.batches]
        return tuple(batch for batch in (*self.batches, *queued) if after < batch.last <= upto)

    def take_snapshot(self, at: Zxid) -> SnapshotTaken:
        """A snapshot at `at`, and the log purged up to there."""
        self.history.snapshot = self.history.base = at
        self.batches = [batch for batch in self.batches if batch.last > at]
        return SnapshotTaken(at, at)

    def hold(self, batches: Sequence[Batch]) -> None:
        """Begin with these in the log."""
        for batch in batches:
            self.history.append(batch)
            self.batches.append(batch)
