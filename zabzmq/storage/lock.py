"""LOCK: one process at a time in a data directory (L16). Not to be trusted on network file systems (L17)."""

from __future__ import annotations

import fcntl
import os

from zabzmq.core.errors import StorageError


def take(path: str) -> int:
    """Lock the file at `path` until the descriptor is closed or the process ends. Raises StorageError if it is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        who = f"process {holder}" if holder.isdecimal() else "another process"
        directory = os.path.dirname(path)
        raise StorageError(
            f"{directory} is in use by {who}. Stop it first, or choose another node id or --data-dir."
        ) from None
    except OSError:
        os.close(fd)
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
