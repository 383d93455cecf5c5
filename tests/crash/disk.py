"""A disk that writes down what is done to it, and what of that a power cut may leave.

`Recorder` stands in the place of `Files` under the real storage code and keeps every change as a value. `Disk` follows
those changes one by one and tells, at any moment, the images that may be found when the power comes back:

- of a file, what was synced; and of what was not, nothing, all, a part up to some sector, or any set of its sectors,
  with what was synced there, or zeros, or the bytes of some older file, in the others;
- of a directory, the entries of its last sync; and of the changes since, nothing, the first few, or any set of them.
  A rename is one step. The sync of a file says nothing of its name, nor that of a directory of its own name.

Linux file systems leave less. What this one leaves is what the rules may rely on (10.4, L1, L11, L12).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from zabzmq.storage.files import Files

SECTOR: Final = 512
"""What a disk writes whole or not at all."""


class Create(NamedTuple):
    path: str
    file: int


class Write(NamedTuple):
    file: int
    data: bytes
    offset: int


class Cut(NamedTuple):
    file: int
    size: int


class Sync(NamedTuple):
    file: int


class SyncDir(NamedTuple):
    path: str


class Rename(NamedTuple):
    old: str
    new: str


class Remove(NamedTuple):
    path: str


class MakeDir(NamedTuple):
    path: str


class RemoveDir(NamedTuple):
    path: str


Op: TypeAlias = Create | Write | Cut | Sync | SyncDir | Rename | Remove | MakeDir | RemoveDir
P = TypeVar("P")


class Recorder(Files, Generic[P]):
    """The real files without their syncs; `trace` holds every change, and between them what the script `note`s."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.trace: list[Op | P] = []
        self._root = str(root)
        self._lock = Lock()
        self._files: dict[int, int] = {}  # by descriptor
        self._at: dict[str, int] = {}  # by name
        for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
            self._at[self._name(str(path))] = number
        self._numbers = itertools.count(len(self._at))

    def note(self, what: P) -> None:
        with self._lock:
            self.trace.append(what)

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._root)

    def create(self, path: str) -> int:
        with self._lock:
            fd = super().create(path)
            self._files[fd] = self._at[self._name(path)] = next(self._numbers)
            self.trace.append(Create(self._name(path), self._files[fd]))
            return fd

    def open(self, path: str) -> int:
        with self._lock:
            fd = super().open(path)
            self._files[fd] = self._at[self._name(path)]
            return fd

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        with self._lock:
            self.trace.append(Write(self._files[fd], b"".join(buffers), offset))
            return super().write(fd, buffers, offset)

    def write_synced(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        end = self.write(fd, buffers, offset)
        self.sync_data(fd)
        return end

    def cut(self, fd: int, size: int) -> None:
        with self._lock:
            self.trace.append(Cut(self._files[fd], size))
            super().cut(fd, size)

    def sync(self, fd: int) -> None:
        with self._lock:
            self.trace.append(Sync(self._files[fd]))

    sync_data = sync

    def sync_dir(self, path: str) -> None:
        with self._lock:
            self.trace.append(SyncDir(self._name(path)))

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            super().rename(old, new)
            self._at[self._name(new)] = self._at.pop(self._name(old))
            self.trace.append(Rename(self._name(old), self._name(new)))

    def remove(self, path: str) -> None:
        with self._lock:
            super().remove(path)
            self.trace.append(Remove(self._name(path)))

    def make_dir(self, path: str) -> None:
        with self._lock:
            super().make_dir(path)
            self.trace.append(MakeDir(self._name(path)))

    def remove_dir(self, path: str) -> None:
        with self._lock:
            super().remove_dir(path)
            self.trace.append(RemoveDir(self._name(path)))


# ---- what may be left ------------------------------------------------------------------------------------------------


class Image(NamedTuple):
    """What is found on a disk: directories, and files with their contents."""

    directories: frozenset[str]
    files: frozenset[tuple[str, bytes]]

    def put(self, root: Path) -> None:
        """Make the directory `root` this and nothing else."""
        wanted = dict(self.files)
        for path in sorted(root.rglob("*"), reverse=True):
            name = str(path.relative_to(root))
            if path.is_dir():
                if name not in self.directories:
                    path.rmdir()
            elif name not in wanted:
                path.unlink()
        for name in sorted(self.directories):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name, content in wanted.items():
            (root / name).write_bytes(content)


@dataclass(eq=False, slots=True)
class _File:
    synced: bytes = b""
    pending: list[Write | Cut] = field(default_factory=list)

    def after(self, steps: int) -> bytes:
        content = bytearray(self.synced)
        for step in self.pending[:steps]:
            if isinstance(step, Cut):
                del content[step.size :]
            else:
                content.extend(bytes(max(0, step.offset - len(content))))
                content[step.offset : step.offset + len(step.data)] = step.data
        return bytes(content)

    def states(self, stale: bytes, sets_max: int) -> list[bytes]:
        """What may be left of it: all lost first, nothing lost second, then everything between."""
        steps = len(self.pending)
        whole = self.after(steps)
        found = [self.synced, whole, *(self.after(n) for n in range(1, steps))]
        if not any(isinstance(step, Cut) for step in self.pending):
            had = len(self.synced)
            parts = [
                (low, min(low + SECTOR, len(whole)))
                for low in range(0, len(whole), SECTOR)
                if whole[low : low + SECTOR] != self.synced[low : low + SECTOR]
            ]
            found += [whole[:end] + self.synced[end:] for _, end in parts]  # up to some sector
            for kept in _sets(len(parts), sets_max):
                for beyond in (bytes(len(whole)), stale.ljust(len(whole), b"\xee")):
                    rest = self.synced + beyond[had : len(whole)]
                    torn = bytearray(whole)
                    for i, (low, high) in enumerate(parts):
                        if i not in kept:
                            torn[low:high] = rest[low:high]
                    found.append(bytes(torn))
        return list(dict.fromkeys(found))


def _sets(n: int, most: int) -> Iterator[frozenset[int]]:
    """Sets of 0..n-1: all if there are at most `most`, else those with one in, one out, and those that end late."""
    if 1 << n <= most:
        for size in range(n + 1):
            yield from map(frozenset, itertools.combinations(range(n), size))
        return
    everything = frozenset(range(n))
    yield frozenset()
    for i in range(n):
        yield frozenset({i})
        yield everything - {i}
        yield frozenset(range(i, n))


_Change: TypeAlias = "tuple[str, _File | _Dir | None, str | None]"
"""A name, what stands there from now on, and the name it had before if it was renamed."""


@dataclass(eq=False, slots=True)
class _Dir:
    synced: dict[str, _File | _Dir] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)

    def after(self, kept: Callable[[int], bool] = lambda at: True) -> dict[str, _File | _Dir]:
        entries = dict(self.synced)
        for at, (name, what, old) in enumerate(self.pending):
            if kept(at):
                if old is not None:
                    entries.pop(old, None)
                if what is None:
                    entries.pop(name, None)
                else:
                    entries[name] = what
        return entries

    def states(self, sets_max: int) -> list[dict[str, _File | _Dir]]:
        n = len(self.pending)
        found = [self.synced, self.after(), *(self.after(range(k).__contains__) for k in range(1, n))]
        found += [self.after(kept.__contains__) for kept in _sets(n, sets_max)]
        unique: list[dict[str, _File | _Dir]] = []
        for entries in found:
            if entries not in unique:
                unique.append(entries)
        return unique


class Disk:
    """A data directory's disk, change by change."""

    def __init__(self, root: Path | None = None) -> None:
        """With what is in `root`, all of it synced; as a Recorder of the same directory counts it."""
        self._root = _Dir()
        self._dirs: dict[str, _Dir] = {".": self._root}
        self._files: dict[int, _File] = {}
        self._stale = b""
        if root is None:
            return
        for path in sorted(path for path in root.rglob("*") if path.is_dir()):
            made = self._dirs[str(path.relative_to(root))] = _Dir()
            self._parent(str(path.relative_to(root))).synced[path.name] = made
        for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
            file = self._files[number] = _File(path.read_bytes())
            self._parent(str(path.relative_to(root))).synced[path.name] = file

    def _parent(self, path: str) -> _Dir:
        return self._dirs[os.path.dirname(path) or "."]

    def apply(self, op: Op) -> None:
        match op:
            case Create(path, number):
                file = self._files[number] = _File()
                self._parent(path).pending.append((os.path.basename(path), file, None))
            case Write(number) | Cut(number):
                self._files[number].pending.append(op)
            case Sync(number):
                file = self._files[number]
                file.synced, file.pending = file.after(len(file.pending)), []
                if len(file.synced) > len(self._stale):
                    self._stale = file.synced
            case SyncDir(path):
                directory = self._dirs[path]
                directory.synced, directory.pending = directory.after(), []
            case Rename(old, new):
                parent = self._parent(old)
                assert parent is self._parent(new), "nothing is moved between directories"
                what = parent.after()[os.path.basename(old)]
                parent.pending.append((os.path.basename(new), what, os.path.basename(old)))
            case Remove(path) | RemoveDir(path):
                self._parent(path).pending.append((os.path.basename(path), None, None))
            case MakeDir(path):
                made = self._dirs[path] = _Dir()
                self._parent(path).pending.append((os.path.basename(path), made, None))

    def images(self, most: int, dice: Random) -> list[Image]:
        """What a power cut may leave now: all of it if that is about `most`, else the ends and a draw of the rest."""
        dirs = [directory for directory in self._dirs.values() if directory.pending]
        files = [file for file in self._files.values() if file.pending]
        entries = [directory.states(most) for directory in dirs]
        contents = [file.states(self._stale, most) for file in files]
        counts = [*map(len, entries), *map(len, contents)]
        picks: list[tuple[int, ...]]
        if math.prod(counts) <= most:
            picks = list(itertools.product(*map(range, counts)))
        else:
            nothing, everything = (0,) * len(counts), (1,) * len(counts)
            # One thing torn, all others lost or all others there.
            alone = [
                (*others[:at], state, *others[at + 1 :])
                for others in (nothing, everything)
                for at, count in enumerate(counts)
                for state in range(count)
            ]
            drawn = [tuple(map(dice.randrange, counts)) for _ in range(most // 2)]
            picks = [nothing, everything, *dice.sample(alone, min(len(alone), most // 2)), *drawn]
        found: dict[Image, None] = {}
        for pick in dict.fromkeys(picks):
            of_dirs = {each: entries[i][pick[i]] for i, each in enumerate(dirs)}
            of_files = {each: contents[i][pick[len(dirs) + i]] for i, each in enumerate(files)}
            found[self._image(of_dirs, of_files)] = None
        return list(found)

    def _image(self, entries: dict[_Dir, dict[str, _File | _Dir]], contents: dict[_File, bytes]) -> Image:
        directories: list[str] = []
        files: list[tuple[str, bytes]] = []

        def walk(directory: _Dir, name: str) -> None:
            for entry, what in entries.get(directory, directory.synced).items():
                path = os.path.join(name, entry)
                if isinstance(what, _Dir):
                    directories.append(path)
                    walk(what, path)
                else:
                    files.append((path, contents.get(what, what.synced)))

        walk(self._root, "")
        return Image(frozenset(directories), frozenset(files))
