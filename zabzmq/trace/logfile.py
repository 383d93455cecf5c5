"""Log files that never get in the way: bounded, rotated, reopened when deleted, written by a thread of their own.

What cannot be written is dropped and counted; a full, broken or stalled disk costs lines, never the node.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
FILES_MAX: Final = 4
PENDING_BYTES_MAX: Final = 8 * 1024 * 1024

T = TypeVar("T")


class LogFile:
    """One log: `path` is the newest file, `path.1` the one before it, and so on, `files` in all.

    Raises OSError; the next write starts anew.
    """

    def __init__(self, path: Path, bytes_max: int = FILE_BYTES_MAX, files: int = FILES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._files = files
        self._fd = -1
        self._inode = (0, 0)
        self._size = 0

    def write(self, data: bytes) -> None:
        try:
            if self._fd >= 0 and not self._is_ours():
                self.close()
            if self._fd < 0:
                self._open()
            if self._size > 0 and self._size + len(data) > self._bytes_max:
                self._rotate()
            view = memoryview(data)
            while view:
                written = os.write(self._fd, view)
                self._size += written
                view = view[written:]
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        stat = os.fstat(self._fd)
        self._inode = (stat.st_dev, stat.st_ino)
        self._size = stat.st_size

    def _is_ours(self) -> bool:
        """Whether the file at our path is still the one we have open."""
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (stat.st_dev, stat.st_ino) == self._inode

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            try:
                os.replace(newer, older)
            except FileNotFoundError:
                pass
        self._open()


def encode_text(lines: list[str]) -> bytes:
    return "".join(lines).encode("utf-8", "backslashreplace")


class Drain(Generic[T]):
    """Takes things to log without waiting; a daemon thread writes them in blocks.

    `write` may wait and may fail: while it does, blocks pile up to a bound and are dropped beyond it. `put` only
    gathers; nothing moves before `flush`, so a busy loop pays for one wake-up per flush, not per line.
    """

    def __init__(
        self,
        encode: Callable[[list[T]], bytes],
        write: Callable[[bytes], None],
        name: str,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        self._encode = encode
        self._write = write
        self._pending_bytes_max = pending_bytes_max
        self._gathered: list[T] = []
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._lock = threading.Condition()
        self._writing = False
        self._closed = False
        self.dropped = 0
        """Lines that never reached their place."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, line: T) -> None:
        self._gathered.append(line)

    def flush(self) -> None:
        """Hand over what was gathered. Never waits."""
        if not self._gathered:
            return
        lines, self._gathered = self._gathered, []
        self.feed(self._encode(lines), len(lines))

    def feed(self, block: bytes, lines: int) -> None:
        """Hand over a block that is encoded already. Never waits."""
        with self._lock:
            if self._closed or self._pending_bytes + len(block) > self._pending_bytes_max:
                self.dropped += lines
                return
            self._pending.append(block)
            self._pending_bytes += len(block)
            self._lock.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Write what is left, for at most `timeout` seconds."""
        self.flush()
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join(timeout)

    def settle(self, timeout: float = 5.0) -> bool:
        """Wait until all that was flushed is written or dropped; False when that took too long."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._pending and not self._writing, timeout)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._pending or self._closed)
                if not self._pending:
                    return
                blocks, self._pending = self._pending, []
                self._writing = True
            data = b"".join(blocks)
            lost = 0
            try:
                self._write(data)
            except (OSError, ValueError):
                lost = data.count(b"\n")
            with self._lock:
                self.dropped += lost
                self._pending_bytes -= len(data)
                self._writing = False
                self._lock.notify_all()
