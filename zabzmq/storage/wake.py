"""A descriptor that is readable while something waits: how other threads wake the loop's poller."""

from __future__ import annotations

import os
from contextlib import suppress


class Wake:
    """`set` from any thread, `clear` from the loop's, before it looks at what waits. Many sets are one wake."""

    def __init__(self) -> None:
        self._is_set = False
        self._closed = False
        if hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def set(self) -> None:
        # Whoever finds it set relies on a write that is made or about to be made, and on `clear` coming before the
        # loop looks: so no wake is lost.
        if not self._is_set and not self._closed:
            self._is_set = True
            with suppress(BlockingIOError):  # Full means readable.
                os.write(self._write, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        self._is_set = False

    def close(self) -> None:
        self._closed = True
        os.close(self._read)
        if self._write != self._read:
            os.close(self._write)
