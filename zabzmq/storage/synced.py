"""A disk that knows what a power cut would leave, and the power cut (docs/control.md, section 1).

A process that is killed loses nothing it wrote: the page cache outlives it. So `SyncedFiles` writes down beside the
data what was really synced: how far each file, where zeros were written over since, and which changes of names no sync
of their directory has covered yet. What a change of a name would destroy is kept under a second name until then.
`lose_power`, called when the process is gone, cuts and undoes accordingly, and puts the zeros back. A line of this
journal is written before a change, and after a sync: a kill in between makes the power cut a moment earlier, never the
disk better than it was.

The journal itself may rest in the page cache: it outlives the process, and the power cut is only played.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Condition, Lock
from time import monotonic
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from zabzmq.core.errors import StorageError
from zabzmq.storage.files import RECORD, Files

JOURNAL: Final = "journal"
LINES_MAX: Final = 4096
"""A longer journal is written anew, without what is over."""


Range: TypeAlias = tuple[int, int]
"""From a byte of a file to another, which is not in it."""


class Synced(Struct, array_like=True, tag="synced"):
    """The file is on disk up to `size`, with all that was written over zeros."""

    path: str
    size: int


class Over(Struct, array_like=True, tag="over"):
    """What was synced from `start` to `end`, zeros, is written over."""

    path: str
    start: int
    end: int


class Cut(Struct, array_like=True, tag="cut"):
    """The file is cut to `size`."""

    path: str
    size: int


class Change(Struct, array_like=True, tag="change"):
    """Change number `number` of names: of a file, or of a directory. `kept`: under what name that which it destroys is
    kept, how far that was synced, and where not."""

    number: int
    what: Literal["create", "rename", "remove", "make_dir", "remove_dir"]
    path: str
    old: str = ""
    kept: str = ""
    kept_size: int = 0
    kept_over: tuple[Range, ...] = ()


class DirSynced(Struct, array_like=True, tag="dir"):
    """All changes in this directory up to that number are on disk."""

    path: str
    number: int


Line: TypeAlias = Synced | Over | Cut | Change | DirSynced

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Lost(NamedTuple):
    """What a power cut took: bytes, and changes of names."""

    bytes: int
    changes: int


class Record:
    """What is synced, as the lines of a journal amount to. Paths are relative to the data directory."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.over: dict[str, tuple[Range, ...]] = {}
        self.changes: list[Change] = []
        self.number = 0

    def take(self, line: Line) -> None:
        match line:
            case Synced(path, size):
                self.sizes[path] = size
                self.over.pop(path, None)
            case Over(path, start, end):
                self.over[path] = (*self.over.get(path, ()), (start, end))
            case Cut(path, size):
                self.sizes[path] = size
                self.over[path] = tuple((low, min(high, size)) for low, high in self.over.get(path, ()) if low < size)
            case Change():
                self.number = line.number
                self.changes.append(line)
                self._follow(line)
            case DirSynced(path, number):
                self._settle(path, number)

    def _follow(self, change: Change) -> None:
        if change.what == "create":
            self.sizes[change.path] = 0
        elif change.what == "rename":
            self._move(change.old, change.path)
        elif change.what == "remove":
            self.sizes.pop(change.path, None)
            self.over.pop(change.path, None)

    def _move(self, old: str, new: str) -> None:
        self.sizes[new] = self.sizes.pop(old, 0)
        self.over[new] = self.over.pop(old, ())

    def _settle(self, path: str, number: int) -> None:
        # With a directory that is surely gone go the changes in it.
        gone = {path} | {
            change.path
            for change in self.changes
            if change.what == "remove_dir" and change.number <= number and os.path.dirname(change.path) == path
        }
        self.changes = [c for c in self.changes if c.number > number or os.path.dirname(c.path) not in gone]

    def lines(self) -> Iterator[Line]:
        """A shorter journal that amounts to the same."""
        undone = Record()
        undone.sizes, undone.over, undone.changes = self.sizes.copy(), self.over.copy(), self.changes.copy()
        while undone.changes:
            undone.unfollow(undone.changes.pop())
        yield from (Synced(path, size) for path, size in undone.sizes.items())
        yield from self.changes
        yield from (Synced(path, size) for path, size in self.sizes.items())
        yield from (Over(path, *each) for path, over in self.over.items() for each in over)

    def unfollow(self, change: Change) -> None:
        """Forget this change, the latest there is."""
        if change.what == "rename":
            self._move(change.path, change.old)
        elif change.what == "create":
            self.sizes.pop(change.path, None)
            self.over.pop(change.path, None)
        if change.kept:
            self.sizes[change.path] = change.kept_size
            self.over[change.path] = change.kept_over


def read(directory: str) -> Record | None:
    """What the journal of this data directory says; None if there is none."""
    try:
        with open(os.path.join(directory, RECORD, JOURNAL), "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    record = Record()
    for line in lines[:-1]:  # What has no end was about to be written when the process was killed.
        try:
            record.take(_decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(f"{directory}: the record of what was synced cannot be read: {error}") from None
    return record


class SyncedFiles(Files):
    """The real disk with such a record, and made slow on request."""

    def __init__(self) -> None:
        super().__init__()
        self._root = ""
        self._journal = -1
        self._lines = 0
        self._record = Record()
        self._lock = Lock()
        self._slower = Condition()
        self._delay_s = 0.0

    def slow_down(self, delay_ms: float) -> None:
        """From any thread: each sync takes so much longer, those under way included."""
        with self._slower:
            self._delay_s = delay_ms / 1000
            self._slower.notify_all()

    def begin(self, directory: str) -> None:
        self._root = directory
        place = os.path.join(directory, RECORD)
        os.makedirs(place, exist_ok=True)
        try:
            record = read(directory)
        except StorageError:
            record = None
        if record is None:
            # Whoever wrote here before kept no record; what is synced now is known to be.
            record = Record()
            for path in _files(directory):
                record.sizes[path] = self._sync(os.path.join(directory, path))
            for path, _, _ in os.walk(directory):
                self._sync(path)
        self._record = record
        self._rewrite()
        for name in set(os.listdir(place)) - {JOURNAL, *(change.kept for change in record.changes)}:
            os.unlink(os.path.join(place, name))  # kept for a change that was never begun

    def end(self) -> None:
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    # ---- changes of names: each is undone by a power cut until its directory is synced

    def create(self, path: str) -> int:
        with self._lock:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._change("create", path)
            return super().create(path)

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            self._change("rename", new, old, keep=os.path.lexists(new))
            super().rename(old, new)
            for fd, path in self._paths.items():
                if path == old:
                    self._paths[fd] = new

    def remove(self, path: str) -> None:
        with self._lock:
            if not os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._change("remove", path, keep=True)
            super().remove(path)

    def make_dir(self, path: str) -> None:
        with self._lock:
            if self._is_ours(path) and not os.path.lexists(path):
                self._change("make_dir", path)
            super().make_dir(path)

    def remove_dir(self, path: str) -> None:
        with self._lock:
            if not os.listdir(path):
                self._change("remove_dir", path)
            super().remove_dir(path)

    # ---- syncs

    def cut(self, fd: int, size: int) -> None:
        path = self._name(self._paths[fd])
        with self._lock:
            if size < self._record.sizes.get(path, 0):
                self._write(Cut(path, size))
        super().cut(fd, size)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        path = self._name(self._paths[fd])
        end = min(offset + sum(map(len, buffers)), self._record.sizes.get(path, 0))
        if offset < end:
            known = any(low <= offset and end <= high for low, high in self._record.over.get(path, ()))
            assert known or not any(os.pread(fd, end - offset, offset)), "of what is synced only zeros are written over"
            with self._lock:
                self._write(Over(path, offset, end))
        return super().write(fd, buffers, offset)

    def write_synced(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        end = self.write(fd, buffers, offset)
        self.sync_data(fd)
        return end

    def sync(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._wait()
        super().sync(fd)
        self._synced(fd, size)

    def sync_data(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._wait()
        super().sync_data(fd)
        self._synced(fd, size)

    def sync_dir(self, path: str) -> None:
        with self._lock:
            number = self._record.number
        self._wait()
        super().sync_dir(path)
        if self._is_ours(path) or path == self._root:
            with self._lock:
                before = {change.kept for change in self._record.changes if change.kept}
                self._write(DirSynced(self._name(path), number))
                for kept in before - {change.kept for change in self._record.changes}:
                    with suppress(OSError):
                        os.unlink(os.path.join(self._root, RECORD, kept))

    def _wait(self) -> None:
        began = monotonic()
        with self._slower:
            while (left := began + self._delay_s - monotonic()) > 0:
                self._slower.wait(left)

    # ---- the record

    @staticmethod
    def _sync(path: str) -> int:
        """Sync a file or a directory that is not open; its size."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _is_ours(self, path: str) -> bool:
        return bool(self._root) and path.startswith(self._root + os.sep)

    def _name(self, path: str) -> str:
        return path[len(self._root) + 1 :]

    def _change(
        self,
        what: Literal["create", "rename", "remove", "make_dir", "remove_dir"],
        path: str,
        old: str = "",
        keep: bool = False,
    ) -> None:
        name, number = self._name(path), self._record.number + 1
        kept = str(number) if keep else ""
        if keep:
            os.link(path, os.path.join(self._root, RECORD, kept))
        size, over = self._record.sizes.get(name, 0), self._record.over.get(name, ())
        self._write(Change(number, what, name, self._name(old) if old else "", kept, size, over))

    def _synced(self, fd: int, size: int) -> None:
        with self._lock:
            self._write(Synced(self._name(self._paths[fd]), size))

    def _write(self, line: Line) -> None:
        _append(self._journal, _encode(line) + b"\n")
        self._record.take(line)
        self._lines += 1
        if self._lines > LINES_MAX:
            self._rewrite()

    def _rewrite(self) -> None:
        path = os.path.join(self._root, RECORD, JOURNAL)
        fd = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
        _append(fd, b"".join(_encode(line) + b"\n" for line in self._record.lines()))
        os.rename(path + ".tmp", path)
        self.end()
        self._journal, self._lines = fd, 0


def lose_power(directory: str) -> Lost:
    """What the process that used this data directory had not synced is gone. It must have ended.

    Raises StorageError when no record was kept, OSError when the files cannot be changed.
    """
    record = read(directory)
    if record is None:
        raise StorageError(
            f"{directory} keeps no record of what was synced: its node ran without --allow-faults, "
            "or its power was cut and it was not started since"
        )
    changes = 0
    while record.changes:
        change = record.changes.pop()
        changes += _undo(directory, change)
        record.unfollow(change)
    lost = 0
    for name, size in record.sizes.items():
        path = os.path.join(directory, name)
        with suppress(FileNotFoundError), open(path, "r+b", buffering=0) as file:
            written = os.path.getsize(path)
            if written > size:
                lost += written - size
                os.truncate(path, size)
            for start, end in record.over.get(name, ()):
                if any(os.pread(file.fileno(), end - start, start)):  # else not begun, or met twice
                    lost += end - start
                    os.pwrite(file.fileno(), bytes(end - start), start)
    shutil.rmtree(os.path.join(directory, RECORD))  # All that is left is synced.
    return Lost(lost, changes)


def _undo(directory: str, change: Change) -> bool:
    """Take one change of names back; whether there was anything to take back."""
    path, old = os.path.join(directory, change.path), os.path.join(directory, change.old)
    kept = os.path.join(directory, RECORD, change.kept)
    done = os.path.lexists(path)
    match change.what:
        case "create" if done:
            os.unlink(path)
        case "make_dir" if done:
            shutil.rmtree(path)
        case "remove_dir" if not done and os.path.isdir(os.path.dirname(path)):
            os.mkdir(path)
        case "remove" if not done and os.path.isdir(os.path.dirname(path)):
            os.link(kept, path)
        case "rename" if done and not os.path.lexists(old):
            os.rename(path, old)
            if change.kept:
                os.link(kept, path)
        case _:
            return False
    return True


def _append(fd: int, data: bytes) -> None:
    """All of it or nothing: half a line would spoil the next one."""
    done = os.write(fd, data)
    if done < len(data):
        os.ftruncate(fd, os.fstat(fd).st_size - done)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), JOURNAL)


def _files(directory: str) -> Iterator[str]:
    """All files of a data directory but the lock and the record itself, by their names in it."""
    for path, folders, names in os.walk(directory):
        if path == directory:
            folders[:] = [name for name in folders if name != RECORD]
        yield from (os.path.relpath(os.path.join(path, name), directory) for name in names if name != "LOCK")
