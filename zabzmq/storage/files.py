"""The seam to the operating system: every change of a file or a directory, and nothing else.

Reading needs no seam. Tests put a class in its place that counts, refuses or holds up a chosen call, or models
what a power cut leaves; so no other module of this package calls a writing function of `os` itself. Errors are
OSErrors that name the file, also where the system call knew only a descriptor.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from zabzmq.core.errors import StorageError

RECORD: Final = "synced"
"""The directory of that record, in a data directory."""
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
_BUFFERS_MAX: Final = 1024
"""IOV_MAX: the kernel takes no more in one call."""
_DSYNC: Final[int] = getattr(os, "RWF_DSYNC", 0)
"""Makes a write return when its data can be read back whatever happens, as fdatasync after it would."""


class Files:
    """The real disk."""

    def __init__(self) -> None:
        self._paths: dict[int, str] = {}

    def begin(self, directory: str) -> None:
        """From now on this process alone uses this data directory."""
        # A record of what was synced (synced.py) that is not kept up would be a lie.
        shutil.rmtree(os.path.join(directory, RECORD), ignore_errors=True)

    def end(self) -> None:
        """It lets go of the directory."""

    def create(self, path: str) -> int:
        """A new empty file, open for writing. What is there of that name already is an error."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._paths[fd] = path
        return fd

    def open(self, path: str) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._paths[fd] = path
        return fd

    def close(self, fd: int) -> None:
        self._paths.pop(fd, None)
        os.close(fd)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write all of `buffers` one after another from `offset` on; return where they end."""
        try:
            for start in range(0, len(buffers), _BUFFERS_MAX):
                some = list(islice(buffers, start, start + _BUFFERS_MAX))
                size = sum(map(len, some))
                done = os.pwritev(fd, some, offset)
                if done < size:  # A full disk or a signal: the rest goes piece by piece, or says why not.
                    rest = memoryview(b"".join(some))[done:]
                    while rest:
                        rest = rest[os.pwrite(fd, rest, offset + size - len(rest)) :]
                offset += size
        except OSError as error:
            raise self._named(error, fd) from None
        return offset

    def write_synced(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """`write` and `sync_data`. In one system call where there is one for it: a thread that returns from a call
        must wait for the interpreter, which the loop's thread may hold."""
        if _DSYNC and len(buffers) <= _BUFFERS_MAX:
            size = sum(map(len, buffers))
            try:
                if os.pwritev(fd, buffers, offset, _DSYNC) == size:
                    return offset + size
            except OSError as error:
                raise self._named(error, fd) from None
        end = self.write(fd, buffers, offset)  # after a short write all of it again, which says why
        self.sync_data(fd)
        return end

    def cut(self, fd: int, size: int) -> None:
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            raise self._named(error, fd) from None

    def sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            raise self._named(error, fd) from None

    def sync_data(self, fd: int) -> None:
        """Enough for appends: it flushes the size too (L17)."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise self._named(error, fd) from None

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def make_dir(self, path: str) -> None:
        os.mkdir(path)

    def remove_dir(self, path: str) -> None:
        os.rmdir(path)

    def free_bytes(self, path: str) -> int:
        """What an unprivileged process may still write on the file system of `path`."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def _named(self, error: OSError, fd: int) -> OSError:
        error.filename = self._paths.get(fd)
        return error


def replace(files: Files, path: str, content: Sequence[bytes]) -> None:
    """Put `content` in the place of the file `path`, whole or not at all, durably (10.4).

    An OSError leaves the old file as it was and no `.tmp`; a StorageError leaves it unknown which of the two a power
    cut would bring back.
    """
    temporary = path + ".tmp"
    with suppress(FileNotFoundError):
        files.remove(temporary)
    try:
        fd = files.create(temporary)
        try:
            files.write(fd, content, 0)
            files.sync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            files.remove(temporary)
        raise
    try:
        files.sync_dir(os.path.dirname(path))
    except OSError as error:
        raise StorageError(f"{path}: replaced, but its directory cannot be synced: {error.strerror}") from None


def remove_tree(files: Files, path: str) -> None:
    """Delete a generation: a directory of plain files. What is gone already is fine."""
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(path)):
            with suppress(FileNotFoundError):
                files.remove(os.path.join(path, name))
        files.remove_dir(path)
