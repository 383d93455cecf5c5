"""The log writer: one thread, one queue, one write at a time (L1), and a completion for each that is durable.

All appends that wait share one sync. META is written in the same queue, which is what keeps "history, then
currentEpoch" (D1, S3). A quiesce discards what was queued before it and not begun (D4). An error of the disk ends
the process (L14); a full disk only ends the role (L15).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Final, NamedTuple, TypeAlias

import msgspec

from zabzmq.core.effects import Append, InstallSnapshot, Quiesce, SaveEpochs, StageSnapshot, Truncate
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Epochs, History, SnapshotMark
from zabzmq.core.inputs import (
    DiskSpace,
    Durable,
    EpochsSaved,
    Quiesced,
    SnapshotInstalled,
    SnapshotStaged,
    Space,
)
from zabzmq.core.zxid import Zxid
from zabzmq.storage import meta as meta_file
from zabzmq.storage import snapshot
from zabzmq.storage.background import Background
from zabzmq.storage.files import NO_SPACE, remove_tree
from zabzmq.storage.live import Live, Outlet, explain
from zabzmq.storage.meta import Meta
from zabzmq.storage.recovery import generation_path, write_current

_GROUP_BYTES_MAX: Final = 8 << 20
"""More than this does not wait for the same sync: the first in the queue should not wait for megabytes."""
_STAGED_SYNC_EVERY: Final = 4 << 20
"""So that installing a snapshot of any size waits for the last of it only. One sync of all of it takes a slow disk
longer than a synchronization may go without progress (B12), and others on that disk wait meanwhile."""


class Close(NamedTuple):
    """Finish what is queued and stop cleanly."""


Order: TypeAlias = Append | SaveEpochs | Truncate | StageSnapshot | InstallSnapshot | Quiesce | Close


class _Job(NamedTuple):
    cut: int
    ticket: int
    order: Order


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """Free bytes below which clients are held off, and below which a node does not start (L15); how often to look."""

    soft: int = 256 << 20
    hard: int = 64 << 20
    every_s: float = 1.0

    def level(self, free: int) -> Space:
        return Space.FULL if free < self.hard else Space.LOW if free < self.soft else Space.OK


class Writer:
    """`put` and `cut_off` are called by the loop's thread, everything else here runs in the writer's own."""

    def __init__(self, live: Live, meta: Meta, limits: SpaceLimits, background: Background, outlet: Outlet) -> None:
        self.live = live
        self.meta = meta
        self.durable_ticket = 0
        """Of the last append that is on disk; read by the loop's thread."""
        self.closed_cleanly = False
        self._limits = limits
        self._background = background
        self._outlet = outlet
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._held: _Job | None = None  # taken from the queue while a group was collected, and not part of it
        self._ticket = 0
        self._cut = 0  # quiesces asked for; a job of an earlier count is discarded
        self._broken = False  # an order of this role was dropped, so all that follow it are
        self._staging: tuple[int, str, int] | None = None  # descriptor, directory, bytes
        self._space = Space.OK
        self._space_due = 0.0
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ---- the loop's side -------------------------------------------------------------------------------------------

    def put(self, order: Order) -> int:
        """Queue an order; return its ticket."""
        self._ticket += 1
        self._queue.put(_Job(self._cut, self._ticket, order))
        return self._ticket

    def cut_off(self, order: Quiesce) -> None:
        """Discard what is queued and not begun, then quiesce (D4)."""
        self._cut += 1
        self.put(order)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ---- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._check_space()
                job = self._next()
                if job is None:
                    continue
                if isinstance(job.order, Close):
                    self._close()
                    return
                if job.cut == self._cut or isinstance(job.order, Quiesce):
                    self._perform(job)
        except Exception as error:
            self._outlet.fatal(explain(error))

    def _next(self) -> _Job | None:
        """The next job; None when it is time to look at the space again."""
        if self._held is not None:
            job, self._held = self._held, None
            return job
        try:
            return self._queue.get(timeout=None if self._space is Space.OK else self._limits.every_s)
        except Empty:
            return None

    def _perform(self, job: _Job) -> None:
        order = job.order
        if isinstance(order, Quiesce):
            self._quiesce(order.role)
            return
        if self._broken:
            return
        try:
            match order:
                case Append():
                    self._append(job, order)
                case SaveEpochs(role, epochs):
                    self._save_epochs(role, epochs)
                case Truncate(role, to):
                    self._truncate(role, to)
                case StageSnapshot(role, offset, data):
                    self._stage(role, offset, data)
                case InstallSnapshot(role, mark, size):
                    self._install(role, mark, size)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._out_of_space()

    # ---- orders ----------------------------------------------------------------------------------------------------

    def _append(self, job: _Job, order: Append) -> None:
        batches = [*order.batches]
        size = sum(batch.size for batch in batches)
        while size < _GROUP_BYTES_MAX and not self._queue.empty():
            held = self._queue.get_nowait()
            if not isinstance(held.order, Append) or (held.cut, held.order.role) != (job.cut, order.role):
                self._held = held
                break
            job = held
            batches += held.order.batches
            size += sum(batch.size for batch in held.order.batches)
        live = self.live
        try:
            live.log.append(batches)
        except OSError as error:
            if error.errno in NO_SPACE:
                live.log.forget_unsynced()
            raise
        with live.lock:
            for batch in batches:
                live.history.append(batch)
        self.durable_ticket = job.ticket
        self._outlet.complete(Durable(order.role, batches[-1].last))

    def _save_epochs(self, role: int, epochs: Epochs) -> None:
        before = self.meta.epochs
        assert epochs.accepted >= before.accepted and epochs.current >= before.current, "epochs never go back"
        meta = msgspec.structs.replace(self.meta, epochs=epochs)
        meta_file.save(self.live.files, os.path.join(self.live.path, "META"), meta)
        self.meta = meta
        self._outlet.complete(EpochsSaved(role, epochs))

    def _truncate(self, role: int, to: Zxid) -> None:
        live = self.live
        if to < live.history.snapshot or not live.history.holds(to):
            raise StorageError(
                f"{live.directory}: refusing to truncate to {to}: the snapshot at {live.history.snapshot} is "
                f"committed, and the history ends at {live.history.last} (L7)"
            )
        try:
            live.log.truncate(to)
        except OSError as error:
            # Half done is not undone by more room.
            raise StorageError(explain(error)) from None
        with live.lock:
            live.history.truncate(to)
        self._outlet.complete(Durable(role, to))

    def _stage(self, role: int, offset: int, data: bytes) -> None:
        files = self.live.files
        if offset == 0:
            self._drop_staging()
            directory = generation_path(self.live.path, self.live.generation + 1)
            remove_tree(files, directory)
            files.make_dir(directory)
            self._staging = files.create(os.path.join(directory, "snap.tmp")), directory, 0
        if self._staging is None or self._staging[2] != offset:
            self._refuse(f"a piece of a received snapshot at {offset} does not follow the one before")
            return
        fd, directory, _ = self._staging
        end = files.write(fd, [data], offset)
        if end // _STAGED_SYNC_EVERY > offset // _STAGED_SYNC_EVERY:
            files.sync_data(fd)
        self._staging = fd, directory, end
        self._outlet.complete(SnapshotStaged(role, end))

    def _install(self, role: int, mark: SnapshotMark, size: int) -> None:
        """L12: complete the new generation, then point CURRENT at it; until then nothing has happened."""
        live, files = self.live, self.live.files
        if self._staging is None or self._staging[2] != size:
            self._refuse(f"a received snapshot has {self._staging[2] if self._staging else 0} bytes instead of {size}")
            return
        fd, directory, _ = self._staging
        files.sync(fd)
        temporary, path = (
            os.path.join(directory, "snap.tmp"),
            os.path.join(directory, snapshot.snapshot_name(mark.zxid)),
        )
        try:
            found = snapshot.verify(temporary, live.cluster).mark
        except StorageError as error:
            self._refuse(f"a received snapshot is damaged: {error}")
            return
        if found != mark:
            self._refuse(f"a received snapshot is of {found.zxid}, and {mark.zxid} was announced")
            return
        files.rename(temporary, path)
        files.sync_dir(directory)
        files.sync_dir(live.path)
        write_current(files, live.path, live.generation + 1)
        files.close(fd)
        self._staging = None
        old = live.directory
        live.log.close()
        with live.lock:
            live.generation += 1
            live.directory = directory
            live.log = live.log.successor(directory, mark.zxid)
            live.history = History.at(mark)
            live.snapshots = [mark.zxid]
            self._outlet.complete(SnapshotInstalled(role, mark.zxid))
        self._background.remove(old)

    def _quiesce(self, role: int) -> None:
        self._drop_staging()
        self._broken = False
        with self.live.lock:
            self._outlet.complete(Quiesced(role, self.live.history.copy(), self.meta.epochs))

    def _close(self) -> None:
        self._drop_staging()
        self.live.log.stop()
        meta = msgspec.structs.replace(self.meta, closed=self.live.log.last)
        meta_file.save(self.live.files, os.path.join(self.live.path, "META"), meta)
        self.closed_cleanly = True

    # ---- what goes wrong -------------------------------------------------------------------------------------------

    def _refuse(self, why: str) -> None:
        """Received data is not what was announced: a peer's fault. Nothing of this role is done any more."""
        self._outlet.warn(f"{why}; it is not installed")
        self._drop_staging()
        self._broken = True

    def _out_of_space(self) -> None:
        """L15: the order is dropped, and all of this role after it: they build on it."""
        self._drop_staging()
        self._broken = True
        self._space_due = monotonic() + self._limits.every_s
        self._report_space(Space.FULL)

    def _check_space(self) -> None:
        now = monotonic()
        if now >= self._space_due:
            self._space_due = now + self._limits.every_s
            self._report_space(self._limits.level(self.live.files.free_bytes(self.live.path)))

    def _report_space(self, level: Space) -> None:
        if level is not self._space:
            self._space = level
            self._outlet.complete(DiskSpace(level))

    def _drop_staging(self) -> None:
        if self._staging is None:
            return
        fd, directory, _ = self._staging
        self._staging = None
        self.live.files.close(fd)
        with suppress(OSError):  # Half a generation is deleted at the next start, or by the next snapshot.
            remove_tree(self.live.files, directory)
