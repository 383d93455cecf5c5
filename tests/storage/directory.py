"""What the storage tests share: a store of their own, batches, and disks that fail or lose power on command."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from zabzmq.core.history import Admit, Batch, Epochs, History, SnapshotMark
from zabzmq.core.inputs import BatchesRead, Durable, EpochsSaved, Input, SnapshotRead, SnapshotTaken
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.storage import recovery
from zabzmq.storage.files import Files
from zabzmq.storage.snapshot import zxid_of
from zabzmq.storage.store import Store
from zabzmq.storage.writer import SpaceLimits

VOTERS = (PeerId(0), PeerId(1), PeerId(2))
LINK = LinkId(ProcessId(PeerId(1), 7, 8), 1)
FOREVER = Zxid(1 << 40, 1)
NO_LIMITS = SpaceLimits(0, 0)
DEADLINE_S = 20.0

T = TypeVar("T", bound=Input)


class QuickFiles(Files):
    """The real disk without its syncs: for tests that are not about them and open hundreds of directories."""

    def write_synced(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return self.write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        pass

    def sync_data(self, fd: int) -> None:
        pass

    def sync_dir(self, path: str) -> None:
        pass


class Directory:
    """One data directory, the store that is open on it, and what it said."""

    def __init__(self, path: Path, promised: bool = True, **options: Any) -> None:
        self.path = path
        self.options = options
        self.warnings: list[str] = []
        self.warned = threading.Event()
        self.fatal: list[str] = []
        self.died = threading.Event()
        self.heard: list[Input] = []
        self.store = self.reopen()
        if promised and self.store.epochs == Epochs(0, 0, False):  # So that logs of any epoch are allowed.
            self.store.save_epochs(0, Epochs(9, 0, True))
            self.wait(EpochsSaved)

    def reopen(self, **options: Any) -> Store:
        def on_fatal(text: str) -> None:
            self.fatal.append(text)
            self.died.set()

        def on_warning(text: str) -> None:
            self.warnings.append(text)
            self.warned.set()

        defaults: dict[str, Any] = {
            "cluster": "demo",
            "node": PeerId(0),
            "voters": VOTERS,
            "wall_us": 1_000_000,
            "limits": NO_LIMITS,
            "files": QuickFiles(),
        }
        self.store = Store.open(
            self.path,
            on_fatal=on_fatal,
            on_warning=on_warning,
            **{**defaults, **self.options, **options},
        )
        self.heard = []
        return self.store

    def restart(self, **options: Any) -> Store:
        """A clean stop, and a start."""
        assert self.store.close()
        return self.reopen(**options)

    def wait(self, kind: type[T], until: Callable[[T], bool] = lambda event: True) -> T:
        """The first completion of this kind for which `until` holds; all others before it go to `heard`."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            while self.heard:
                event = self.heard.pop(0)
                if isinstance(event, kind) and until(event):
                    return event
            self.heard = self.store.drain()
            if not self.heard:
                assert not self.fatal, self.fatal
                readable, _, _ = select.select([self.store], [], [], max(0.0, deadline - time.monotonic()))
                assert readable, f"no {kind.__name__} in {DEADLINE_S} s"

    def warning(self) -> str:
        """The next warning, which is taken."""
        assert self.warned.wait(DEADLINE_S)
        self.warned.clear()
        return self.warnings.pop()

    def append(self, *batches: Batch, role: int = 0) -> None:
        """Append and wait until it is durable."""
        self.store.append(role, batches)
        self.wait(Durable, lambda event: event.zxid == batches[-1].last)

    def take(self, mark: SnapshotMark, state: bytes) -> SnapshotTaken:
        self.store.take_snapshot(mark, [state[:3], state[3:]])
        return self.wait(SnapshotTaken)

    def everything(self) -> list[Batch]:
        """All that the log holds and has queued, read through the port."""
        found: list[Batch] = []
        after = self.store.history.base
        while some := self.store.batches(after, FOREVER, 1 << 12):
            found += some
            after = some[-1].last
        return found

    def image(self) -> bytes:
        """The newest snapshot as it would be streamed to a learner."""
        _, data = self.stream(self.store.history.mark(self.store.history.snapshot), 1 << 20)
        return data

    def stream(self, mark: SnapshotMark, piece: int) -> tuple[int, bytes]:
        pieces: list[bytes] = []
        while True:
            offset = sum(map(len, pieces))
            self.store.read_snapshot(0, LINK, mark, offset, piece)
            event = self.wait(SnapshotRead)
            assert event.data is not None
            pieces.append(event.data)
            if sum(map(len, pieces)) == event.size:
                return event.size, b"".join(pieces)

    def read(self, after: Zxid, upto: Zxid, bytes_max: int = 1 << 20) -> list[Batch]:
        self.store.read_batches(0, LINK, after, upto, bytes_max)
        return list(self.wait(BatchesRead).batches)


def batch(first: tuple[int, int], prev: tuple[int, int], count: int = 1, data: bytes | None = None) -> Batch:
    payload = f"{first[0]}.{first[1]} x{count}".encode() if data is None else data
    return Batch(Zxid(*first), Zxid(*prev), count, 1_700_000_000_000, None, payload)


def chain(epoch: int, n: int, prev: Zxid = ZERO, count: int = 2, size: int = 20) -> list[Batch]:
    """`n` batches of one epoch, one after another."""
    made = []
    for _ in range(n):
        first = Zxid(epoch, prev.counter + 1 if prev.epoch == epoch else 1)
        one = batch(first, prev, count, f"{first} ".encode().ljust(size, b"."))
        made.append(one)
        prev = one.last
    return made


def end_of(segment: Path) -> int:
    """Where the last record of a newest segment ends; zeros may follow."""
    first = zxid_of(segment.name, "log")
    assert first is not None
    return max(record.end for record in recovery.scan_segment(str(segment), first, "demo", None, True))


def cut_zeros(path: Path) -> None:
    """Make the newest segment of a directory end with its last record."""
    _, name = recovery.segment_files(str(path / "gen-1"))[-1]
    os.truncate(name, end_of(Path(name)))


def admit(after: Batch) -> Batch:
    first = Zxid(after.last.epoch, after.last.counter + 1)
    return Batch(first, after.last, 1, 0, Admit(PeerId(2), 99), b"")


def history_of(batches: Sequence[Batch]) -> History:
    history = History()
    for one in batches:
        history.append(one)
    return history


class FaultyFiles(QuickFiles):
    """Counts calls, and refuses or holds up those that are named.

    `fail(call, error, match, times)`: the next calls of that name whose path contains `match` raise.
    `hold(call, match)`: the next such call waits for `release()`; `held` is set while it does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str]] = []
        self.free = 1 << 40
        self.held = threading.Event()
        self._free_to_go = threading.Event()
        self._failing: list[tuple[str, str, int]] = []
        self._holding: tuple[str, str] | None = None
        self.partial = 0
        """How many bytes a failing write leaves behind."""

    def fail(self, call: str, code: int, match: str = "", times: int = 1) -> None:
        self._failing += [(call, match, code)] * times

    def hold(self, call: str, match: str = "") -> None:
        self.held.clear()
        self._free_to_go.clear()
        self._holding = call, match

    def release(self) -> None:
        self._free_to_go.set()

    def count(self, call: str, match: str = "") -> int:
        return sum(name == call and match in path for name, path in self.calls)

    def _call(self, name: str, path: str) -> None:
        self.calls.append((name, path))
        if self._holding is not None and self._holding[0] == name and self._holding[1] in path:
            self._holding = None
            self.held.set()
            assert self._free_to_go.wait(DEADLINE_S)
        for failing in self._failing:
            if failing[0] == name and failing[1] in path:
                self._failing.remove(failing)
                raise OSError(failing[2], os.strerror(failing[2]), path)

    def create(self, path: str) -> int:
        self._call("create", path)
        return super().create(path)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        try:
            self._call("write", self._paths[fd])
        except OSError:
            super().write(fd, [b"".join(buffers)[: self.partial]], offset)
            raise
        return super().write(fd, buffers, offset)

    def write_synced(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        end = self.write(fd, buffers, offset)
        self.sync_data(fd)
        return end

    def cut(self, fd: int, size: int) -> None:
        self._call("cut", self._paths[fd])
        super().cut(fd, size)

    def sync(self, fd: int) -> None:
        self._call("sync", self._paths[fd])

    def sync_data(self, fd: int) -> None:
        self._call("sync_data", self._paths[fd])

    def sync_dir(self, path: str) -> None:
        self._call("sync_dir", path)

    def rename(self, old: str, new: str) -> None:
        self._call("rename", new)
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self._call("remove", path)
        super().remove(path)

    def make_dir(self, path: str) -> None:
        self._call("make_dir", path)
        super().make_dir(path)

    def free_bytes(self, path: str) -> int:
        return self.free


NO_SPACE = errno.ENOSPC
BROKEN = errno.EIO


class PowerCut(Exception):
    """The process and the page cache are gone."""


class _File:
    """An inode: what of it was synced, and what it holds."""

    def __init__(self) -> None:
        self.synced = b""
        self.data = bytearray()
        self.lies = False
        """A sync of it failed once: the kernel takes its pages for clean now, and says it is synced (L14)."""


class PowerFiles(Files):
    """A disk that loses power before its `cut_at`-th change, and knows what may be left then.

    A file keeps what was synced of it, perhaps some of what was not; a directory keeps the entries of its last sync,
    and perhaps the first few changes after it.
    """

    def __init__(self, root: Path, cut_at: int | None = None) -> None:
        super().__init__()
        self.root = str(root)
        self.cut_at = cut_at
        self.changes = 0
        self.is_off = False
        self._lock = threading.Lock()
        self._names: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._pending: dict[str, list[tuple[str, _File | None]]] = {}  # by directory: entry, None when removed
        for path in sorted(root.rglob("*")):
            if path.is_file():
                file = self._names[str(path)] = self._durable[str(path)] = _File()
                file.synced = path.read_bytes()
                file.data = bytearray(file.synced)

    def _change(self) -> None:
        if self.is_off or self.changes == self.cut_at:
            self.is_off = True
            raise PowerCut
        self.changes += 1

    def _entry(self, path: str, file: _File | None) -> None:
        self._pending.setdefault(os.path.dirname(path), []).append((path, file))

    def create(self, path: str) -> int:
        with self._lock:
            self._change()
            fd = super().create(path)
            self._names[path] = _File()
            self._entry(path, self._names[path])
            return fd

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        with self._lock:
            self._change()
            data = b"".join(buffers)
            self._names[self._paths[fd]].data[offset : offset + len(data)] = data
            return super().write(fd, buffers, offset)

    def write_synced(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        end = self.write(fd, buffers, offset)
        self.sync_data(fd)
        return end

    def cut(self, fd: int, size: int) -> None:
        with self._lock:
            self._change()
            super().cut(fd, size)
            del self._names[self._paths[fd]].data[size:]

    def sync(self, fd: int) -> None:
        with self._lock:
            self._change()
            file = self._names[self._paths[fd]]
            if not file.lies:
                file.synced = bytes(file.data)

    sync_data = sync

    def sync_dir(self, path: str) -> None:
        with self._lock:
            self._change()
            for entry, file in self._pending.pop(path, []):
                self._settle(self._durable, entry, file)

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            self._change()
            super().rename(old, new)
            file = self._names[new] = self._names.pop(old)
            for fd, path in self._paths.items():
                if path == old:
                    self._paths[fd] = new
            # One step on every journalling file system: never both names, never neither.
            self._pending.setdefault(os.path.dirname(new), []).append((f"{old}\0{new}", file))

    def remove(self, path: str) -> None:
        with self._lock:
            self._change()
            super().remove(path)
            del self._names[path]
            self._entry(path, None)

    def outlive_the_process(self) -> None:
        """The process is gone, the page cache is not: the next one sees all that was written, synced or not."""
        self.is_off, self.cut_at = False, None
        self._paths.clear()
        for file in self._names.values():
            file.lies = bytes(file.data) != file.synced

    @staticmethod
    def _settle(names: dict[str, _File], entry: str, file: _File | None) -> None:
        old, _, new = entry.partition("\0")
        names.pop(old, None)
        if file is not None:
            names[new or old] = file

    def leave(self, target: Path, dice: Random | None) -> None:
        """Write what is left to `target`. `dice` None: what was synced and nothing else."""
        names = dict(self._durable)
        for changes in self._pending.values():
            for entry, file in changes[: dice.randint(0, len(changes)) if dice else 0]:
                self._settle(names, entry, file)
        for path in Path(self.root).rglob("*"):
            if path.is_dir():
                (target / path.relative_to(self.root)).mkdir(parents=True, exist_ok=True)
        for name, file in names.items():
            path = target / Path(name).relative_to(self.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.synced if dice is None else _torn(file, dice))


def _torn(file: _File, dice: Random) -> bytes:
    """Some mixture of what was synced and what was written since."""
    data = bytes(file.data)
    if data == file.synced or dice.random() < 0.3:
        return file.synced
    if len(data) < len(file.synced):  # It was cut: either the whole old file, or the cut one.
        return file.synced if dice.random() < 0.5 else data
    old = bytearray(file.synced)
    for low in range(0, len(old), 512):  # What was written over: any of its sectors.
        if dice.random() < 0.5:
            old[low : low + 512] = data[low : min(low + 512, len(old))]
    new = bytearray(data[len(file.synced) :][: dice.randint(0, len(data) - len(file.synced))])
    if new and dice.random() < 0.5:  # Pages may arrive out of order: a hole of zeros where one is missing.
        start = dice.randrange(len(new))
        end = dice.randint(start, len(new))
        new[start:end] = bytes(end - start)
    return bytes(old + new)
