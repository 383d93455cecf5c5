"""The Storage port on a real directory (server/ports.py): what the loop asks for, and its completions.

The loop's thread calls everything here. Writes go to the writer's queue; what they will have done is visible to
`batches` at once, since a leader streams its tail while it is still being written. Completions wait in a deque;
`fileno()` is readable while there are some.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from zabzmq.core.effects import Append, InstallSnapshot, Quiesce, SaveEpochs, StageSnapshot, Truncate
from zabzmq.core.errors import LocalProtocolError, StorageError
from zabzmq.core.history import Batch, Epochs, History, SnapshotMark
from zabzmq.core.inputs import BatchesRead, Input, Quiesced, SnapshotRead, SnapshotTaken
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.storage import lock, recovery, snapshot
from zabzmq.storage import meta as meta_file
from zabzmq.storage.background import Background, Worker
from zabzmq.storage.damage import advice
from zabzmq.storage.files import Files
from zabzmq.storage.live import Live, Outlet
from zabzmq.storage.log import Log
from zabzmq.storage.meta import Meta
from zabzmq.storage.tail import Tail
from zabzmq.storage.wake import Wake
from zabzmq.storage.writer import Close, SpaceLimits, Writer

Say = Callable[[str], None]

_READERS_MAX: Final = 8
_MAKE_ROOM: Final = "Make room on that disk, or move the data to a larger one (--data-dir)."
_ADVICE: Final = {errno.EIO: "Check the disk.", errno.ENOSPC: _MAKE_ROOM, errno.EDQUOT: _MAKE_ROOM}


class Store:
    """One data directory, open. Made by `open`; `close` it, or die: both are safe."""

    def __init__(
        self, live: Live, meta: Meta, held: int, limits: SpaceLimits, cache_bytes: int, on_fatal: Say, on_warning: Say
    ) -> None:
        self.history = live.history.copy()
        self.epochs = meta.epochs
        self.life = meta.life
        self.process = ProcessId(meta.node, meta.life, meta.incarnation)
        self.completions: deque[Input] = deque()
        self.failed: str | None = None
        """Why the process must end; nothing is written any more."""
        self._live = live
        self._held = held
        self._on_fatal = on_fatal
        self._wake = Wake()
        outlet = Outlet(self._complete, on_warning, self._fatal)
        self._warn = on_warning
        self._background = Background(live, outlet)
        self._writer = Writer(live, meta, limits, self._background, outlet)
        self._reader = Worker("log-reader", self._fatal)
        self._being_read: OrderedDict[LinkId, int] = OrderedDict()  # snapshots, by the link they go to
        self._tail = Tail(self.history.last, cache_bytes)
        self._base = self.history.base
        self._quiescing = 0
        self._closed = False
        self._writer.start()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        cluster: str,
        node: PeerId,
        voters: tuple[PeerId, ...],
        wall_us: int,
        on_fatal: Say,
        on_warning: Say,
        segment_bytes: int = 64 << 20,
        cache_bytes: int = 16 << 20,
        limits: SpaceLimits | None = None,
        files: Files | None = None,
    ) -> Store:
        """Make or recover the directory; from here on this process is the only one to use it (L16).

        `wall_us`, the wall clock in microseconds, is the incarnation of a new directory. `on_fatal` and `on_warning`
        are called from any thread; the first means that the process must end with that text.
        Raises StorageError with what is wrong, where, and what to do.
        """
        path, files, limits = os.fspath(path), files or Files(), limits or SpaceLimits()
        try:
            _make_directory(files, path)
            held = lock.take(os.path.join(path, "LOCK"))
            try:
                files.begin(path)
                owner = (cluster, node, voters)
                live, meta = _recover(files, path, owner, wall_us, segment_bytes, limits, on_warning)
            except BaseException:
                os.close(held)
                raise
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "Make the directory writable, or choose another --data-dir.")
            raise StorageError(f"cannot use {error.filename or path}: {error.strerror}. {advice}") from None
        return cls(live, meta, held, limits, cache_bytes, on_fatal, on_warning)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is queued, then the closing marks of a clean stop (L2), and let go of the directory.

        False when the disk did not finish in time or had failed before: the next start then recovers.
        """
        if not self._closed:
            self._closed = True
            self._writer.put(Close())
            # The writer first: it may still have work for the background.
            ended = [self._writer.join(timeout_s), self._background.close(timeout_s), self._reader.close(timeout_s)]
            if all(ended):
                self._forget_readers()
                self._live.files.end()
                os.close(self._held)
                self._wake.close()
            # Else a thread still hangs in the disk: the lock stays ours until the process is gone.
        return self._writer.closed_cleanly

    # ---- completions -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable while completions wait; for a poller."""
        return self._wake.fileno()

    def wake(self) -> None:
        """From any thread: let the poller look up, as if a completion waited."""
        self._wake.set()

    def drain(self) -> list[Input]:
        """Take all completions that wait, in order."""
        self._wake.clear()
        events: list[Input] = []
        while self.completions:
            event = self.completions.popleft()
            if isinstance(event, Quiesced):
                # What was discarded is forgotten here too. By LogMatching a batch in the tail that ends where the disk
                # ends is the disk's own, and so is all before it.
                self._quiescing -= 1
                self._tail.cut(event.history.last)
                self._base = event.history.base
            elif isinstance(event, SnapshotTaken):
                self._base = max(self._base, event.base)
            events.append(event)
        self._tail.evict(self._writer.durable_ticket)
        return events

    def put_back(self, events: Sequence[Input]) -> None:
        """What `drain` gave and nobody has looked at: it comes first again."""
        self.completions.extendleft(reversed(events))
        self._wake.set()

    def _complete(self, event: Input) -> None:
        self.completions.append(event)
        self._wake.set()

    def _fatal(self, text: str) -> None:
        if self.failed is None:
            self.failed = text
            self._on_fatal(text)
            self._wake.set()

    # ---- the port: writes ------------------------------------------------------------------------------------------

    def append(self, role: int, batches: tuple[Batch, ...]) -> None:
        last = self._tail.last
        for batch in batches:
            if batch.prev != last or self._quiescing:
                raise LocalProtocolError(f"batch {batch.first} follows {batch.prev}, but {last} is queued last")
            last = batch.last
        self._tail.append(batches, self._writer.put(Append(role, batches)))

    def save_epochs(self, role: int, epochs: Epochs) -> None:
        self._writer.put(SaveEpochs(role, epochs))

    def truncate(self, role: int, to: Zxid) -> None:
        with self._live.lock:
            snapshot_zxid = self._live.history.snapshot
        if to < max(self._base, snapshot_zxid):
            raise LocalProtocolError(f"cannot truncate to {to}: the snapshot at {snapshot_zxid} is committed (L7)")
        self._tail.cut(to)
        self._writer.put(Truncate(role, to))

    def stage_snapshot(self, role: int, offset: int, data: bytes) -> None:
        self._writer.put(StageSnapshot(role, offset, data))

    def install_snapshot(self, role: int, mark: SnapshotMark, size: int) -> None:
        self._tail.clear(mark.zxid)
        self._base = mark.zxid
        self._writer.put(InstallSnapshot(role, mark, size))

    def quiesce(self, role: int) -> None:
        self._quiescing += 1
        self._writer.cut_off(Quiesce(role))
        if self._being_read:
            self._reader.put(self._forget_readers)

    def take_snapshot(self, mark: SnapshotMark, pieces: Iterable[bytes]) -> None:
        self._background.take(mark, pieces)

    # ---- the port: reads -------------------------------------------------------------------------------------------

    def batches(self, after: Zxid, upto: Zxid, bytes_max: int) -> Sequence[Batch]:
        if after >= self._tail.start:
            return self._tail.read(after, upto, bytes_max)
        if after < self._base:
            return ()
        # Up to the tail's start the files say the same as everything that is queued.
        found = self._live.log.read(after, min(upto, self._tail.start), bytes_max)
        if found and found[-1].last == self._tail.start:
            room = bytes_max - sum(batch.size for batch in found)
            found += (batch for batch in self._tail.read(self._tail.start, upto, room) if batch.size <= room)
        return found

    def near(self, zxid: Zxid) -> Zxid:
        return self._tail.near(zxid) if zxid >= self._tail.start else self._live.log.near(zxid)

    def read_batches(self, role: int, link: LinkId, after: Zxid, upto: Zxid, bytes_max: int) -> None:
        if after >= self._tail.start or after < self._base:
            self._complete(BatchesRead(role, link, after, tuple(self.batches(after, upto, bytes_max))))
            return
        log, limit = self._live.log, min(upto, self._tail.start)
        self._reader.put(
            lambda: self._complete(BatchesRead(role, link, after, tuple(log.read(after, limit, bytes_max))))
        )

    def read_snapshot(self, role: int, link: LinkId, mark: SnapshotMark, offset: int, bytes_max: int) -> None:
        """What is streamed is the snapshot's file as it is, so the receiver checks what was written here."""
        path = self._live.snapshot_path(mark.zxid)
        self._reader.put(lambda: self._read_snapshot(path, role, link, mark, offset, bytes_max))

    def load_snapshot(self) -> tuple[Zxid, bytes]:
        with self._live.lock:
            if not self._live.snapshots:
                return ZERO, b""
            zxid = self._live.snapshots[-1]
            path = self._live.snapshot_path(zxid)
        try:
            return zxid, snapshot.read_state(path, self._live.cluster)
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror}") from None

    def _read_snapshot(
        self, path: str, role: int, link: LinkId, mark: SnapshotMark, offset: int, bytes_max: int
    ) -> None:
        data, size = None, 0
        try:
            fd = self._reader_of(path, link, mark, offset)
            size = os.fstat(fd).st_size
            data = os.pread(fd, bytes_max, offset)
            if offset + len(data) >= size:
                os.close(self._being_read.pop(link))
        except (OSError, StorageError) as error:
            if not isinstance(error, FileNotFoundError):  # That one was purged meanwhile.
                self._warn(f"cannot send the snapshot at {mark.zxid}: {error}")
        self._complete(SnapshotRead(role, link, mark, offset, size, data))

    def _reader_of(self, path: str, link: LinkId, mark: SnapshotMark, offset: int) -> int:
        """A descriptor kept from piece to piece: a file that is purged meanwhile can still be read to its end."""
        fd = self._being_read.get(link)
        if fd is not None and offset > 0:
            self._being_read.move_to_end(link)
            return fd
        if fd is not None:
            os.close(self._being_read.pop(link))
        if snapshot.verify(path, self._live.cluster).mark != mark:
            raise StorageError(f"{path}: it is not the snapshot that was announced")
        while len(self._being_read) >= _READERS_MAX:
            os.close(self._being_read.popitem(last=False)[1])
        fd = self._being_read[link] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return fd

    def _forget_readers(self) -> None:
        while self._being_read:
            os.close(self._being_read.popitem()[1])


def _make_directory(files: Files, path: str) -> None:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    if not os.path.isdir(path):
        files.make_dir(path)
        files.sync_dir(os.path.dirname(os.path.abspath(path)))


def _recover(
    files: Files,
    path: str,
    owner: tuple[str, PeerId, tuple[PeerId, ...]],
    wall_us: int,
    segment_bytes: int,
    limits: SpaceLimits,
    warn: Say,
) -> tuple[Live, Meta]:
    """Everything between the lock and the first vote; nothing is changed before the directory is known to be ours."""
    cluster, node, voters = owner
    meta_path = os.path.join(path, "META")
    meta, generation = meta_file.load(meta_path), recovery.read_current(path)
    if meta is not None:
        meta_file.check_owner(path, meta, cluster, node, voters)
    if meta is None:
        if not recovery.is_empty(path):
            raise StorageError(f"{meta_path}: missing, but there is a log. {advice(meta_path)}")
        _check_room(files, path, limits)
        # Random, so that a directory that was lost and made again is another one (1.1, L13).
        meta = Meta(
            meta_file.VERSION, cluster, node, voters, secrets.randbits(63), wall_us - 1, Epochs(0, 0, False), None
        )
        if generation is None:
            generation = 1
            if not os.path.isdir(recovery.generation_path(path, generation)):
                files.make_dir(recovery.generation_path(path, generation))
            files.sync_dir(path)  # Before CURRENT names it, as with an installed one (L12).
            recovery.write_current(files, path, generation)
    if generation is None:
        name = os.path.join(path, "CURRENT")
        raise StorageError(f"{name}: missing, so the log cannot be found. {advice(name)}")
    directory = recovery.generation_path(path, generation)
    if not os.path.isdir(directory):
        raise StorageError(f"{directory}: missing, but CURRENT names it. {advice(directory)}")
    found = recovery.recover(directory, cluster, meta.life, meta.closed, warn)
    epochs = _repair(meta_path, meta.epochs, found.history)
    # CURRENT may be in the page cache only, if the process before died there: what it replaced must not go before (D5).
    files.sync_dir(path)
    recovery.clean_up(files, path, generation)
    _check_room(files, path, limits)  # Not before: what was left half made may be all that is too much.
    recovery.settle(files, directory, found, meta.closed is not None, warn)
    # The log first, META after it (D1); and the new incarnation before anything is said (1.2).
    meta = msgspec.structs.replace(meta, epochs=epochs, incarnation=meta.incarnation + 1, closed=None)
    meta_file.save(files, meta_path, meta)
    log = Log(files, directory, cluster, node, meta.life, segment_bytes, found.history.base)
    log.adopt(found.segments)
    live = Live(files, path, cluster, generation, directory, log, found.history, found.snapshots)
    return live, meta


def _check_room(files: Files, path: str, limits: SpaceLimits) -> None:
    free = files.free_bytes(path)
    if free < limits.hard:
        raise StorageError(
            f"{path}: only {free >> 20} MiB are free, and a node needs {limits.hard >> 20} to start (L15). {_MAKE_ROOM}"
        )


def _repair(path: str, epochs: Epochs, history: History) -> Epochs:
    """S5: a log that ends in an epoch holds all of that epoch's initial history, as if its NEWLEADER was accepted."""
    current = max(epochs.current, history.last.epoch)
    if epochs.accepted < current:
        raise StorageError(
            f"{path}: accepted epoch {epochs.accepted}, but the log ends in epoch {history.last.epoch}: "
            f"META and log do not belong together. {advice(path)}"
        )
    return epochs._replace(current=current)
