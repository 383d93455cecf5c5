"""The end of logs that are still being written: the newest events first, then what comes.

Files are looked at again and again; rotated, deleted or begun anew, they are followed. Only whole lines are taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from zabzmq.trace.reading import Complain, Event, Problem, parse

BYTES_PER_EVENT: Final = 512
"""More than most events take: so far back is looked for the newest ones."""


def order(event: Event) -> tuple[int, int, int]:
    return event.lc, event.n, event.seq


class Follower:
    """The logs of these paths, from near their ends on; `events` is what was added since it was last asked."""

    def __init__(self, paths: Iterable[Path], newest: int, complain: Complain) -> None:
        self._complain = complain
        self._tails = [_Tail(path, max(65_536, newest * BYTES_PER_EVENT)) for path in paths]

    def watch(self, paths: Iterable[Path]) -> None:
        """Follow these too, from their beginnings."""
        known = {tail.path for tail in self._tails}
        self._tails += [_Tail(path, None) for path in paths if path not in known]

    def close(self) -> None:
        for tail in self._tails:
            tail.close()

    def events(self) -> list[Event]:
        found = [event for tail in self._tails for event in tail.read(self._complain)]
        found.sort(key=order)
        return found


class _Tail:
    """One file, held open: what was added to it before it was rotated or deleted is read, too."""

    def __init__(self, path: Path, back: int | None) -> None:
        self.path = path
        self._back = back  # how far before its end to begin; None: at the beginning
        self._file: BinaryIO | None = None
        self._partial = b""

    def read(self, complain: Complain) -> list[Event]:
        data = b"" if self._file is None else self._file.read()
        if self._file is None or not self._is_current(self._file):
            data += self._open()
        *lines, self._partial = (self._partial + data).split(b"\n")
        events = []
        for line in lines:
            try:
                if line.strip():
                    events.append(parse(line))
            except ValueError as error:
                complain(Problem(str(self.path), 0, str(error)))
        return events

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_current(self, file: BinaryIO) -> bool:
        ours = os.fstat(file.fileno())
        try:
            theirs = os.stat(self.path)
        except OSError:
            return False
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) and ours.st_size >= file.tell()

    def _open(self) -> bytes:
        """What the file that is there now holds; nothing if none is."""
        self.close()
        try:
            file = self._file = self.path.open("rb")
        except OSError:
            return b""
        size = os.fstat(file.fileno()).st_size
        if self._back is not None and size > self._back:
            file.seek(size - self._back)
            file.readline()
        self._back = None  # whatever takes its place is read from its beginning
        return file.read()
