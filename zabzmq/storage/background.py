"""Work that may take long and must not hold up the log: snapshots of our own state, purging, and deleting.

One thread, started when there is something to do. A snapshot counts once it is synced, read again and in its place;
only then is anything older purged (L8, L10). A failure to purge is a warning.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread

from zabzmq.core.errors import StorageError
from zabzmq.core.history import SnapshotMark
from zabzmq.core.inputs import SnapshotTaken
from zabzmq.storage import snapshot
from zabzmq.storage.files import NO_SPACE, remove_tree
from zabzmq.storage.live import Live, Outlet, explain

_SNAPSHOTS_KEPT = 2
_PAUSE_S = 0.0003
"""Between two stretches of encoding, which hold Python's lock for a tenth of a millisecond each. Giving the lock up
without a pause would take it back before anyone else has woken."""


def _gathered(pieces: Iterable[bytes]) -> list[bytes]:
    """All of them, letting other threads in after each stretch of work."""
    gathered = []
    for piece in pieces:
        if piece:
            gathered.append(piece)
        else:
            time.sleep(_PAUSE_S)
    return gathered


class Worker:
    """A thread that does one thing after another; what any of them raises is fatal."""

    def __init__(self, name: str, fatal: Callable[[str], None]) -> None:
        self._name = name
        self._fatal = fatal
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._starting = Lock()

    def put(self, job: Callable[[], None]) -> None:
        self._queue.put(job)
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Finish what is queued; whether that was done in time."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception as error:
                self._fatal(explain(error))
                return


class Background:
    def __init__(self, live: Live, outlet: Outlet) -> None:
        self._live = live
        self._outlet = outlet
        self._worker = Worker("snapshots", outlet.fatal)

    def take(self, mark: SnapshotMark, pieces: Iterable[bytes]) -> None:
        """Write a snapshot of the present generation; SnapshotTaken follows in any case, so that others come."""
        generation = self._live.generation

        def job() -> None:
            self._take(generation, mark, _gathered(pieces))
            with self._live.lock:
                self._live.history.base = self._live.log.base
                self._outlet.complete(SnapshotTaken(self._live.history.snapshot, self._live.history.base))

        self._worker.put(job)

    def remove(self, directory: str) -> None:
        """Delete a generation that was replaced; after the snapshot that may be under way in it."""
        self._worker.put(lambda: self._remove(directory))

    def close(self, timeout_s: float) -> bool:
        return self._worker.close(timeout_s)

    def _take(self, generation: int, mark: SnapshotMark, pieces: Sequence[bytes]) -> None:
        live, files = self._live, self._live.files
        with live.lock:
            if live.generation != generation or mark.zxid <= live.history.snapshot:
                return
            directory, log = live.directory, live.log
            path = live.snapshot_path(mark.zxid)
        temporary = path + ".tmp"
        snapshot.discard(files, temporary)
        try:
            snapshot.write(files, temporary, live.cluster, mark, pieces)
            files.rename(temporary, path)
            files.sync_dir(directory)
        except OSError as error:
            snapshot.discard(files, temporary)
            if error.errno not in NO_SPACE:
                raise
            self._outlet.warn(f"no room for a snapshot at {mark.zxid}: {error.strerror}")
            return
        except StorageError as error:
            snapshot.discard(files, temporary)
            self._outlet.warn(f"the snapshot at {mark.zxid} was not kept: {error}")
            return
        with live.lock:
            if live.generation != generation:
                return  # Its directory is about to be deleted (L12).
            live.snapshots = [zxid for zxid in live.snapshots if zxid < mark.zxid] + [mark.zxid]
            live.history.snapshot = mark.zxid
            kept = live.snapshots = live.snapshots[-_SNAPSHOTS_KEPT:]
        try:
            if len(kept) == _SNAPSHOTS_KEPT:
                log.purge(kept[0])
            for zxid in snapshot.found_in(directory):
                if zxid not in kept:
                    files.remove(os.path.join(directory, snapshot.snapshot_name(zxid)))
        except OSError as error:
            self._outlet.warn(f"cannot purge: {error.filename}: {error.strerror}")

    def _remove(self, directory: str) -> None:
        try:
            remove_tree(self._live.files, directory)
        except OSError as error:
            self._outlet.warn(f"cannot delete {error.filename}: {error.strerror}")
