"""The end of logs that are still being written: the newest events first, then what comes.

Files are looked at again and again; rotated, deleted or begun anew, they are followed. Only whole lines are taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

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

    def events(self) -> list[Event]:
        found = [event for tail in self._tails for event in tail.read(self._complain)]
        found.sort(key=order)
        return found


class _Tail:
    def __init__(self, path: Path, back: int | None) -> None:
        self.path = path
        self._back = back  # how far before its end to begin; None: at the beginning
        self._at = 0
        self._inode: tuple[int, int] | None = None
        self._partial = b""

    def read(self, complain: Complain) -> list[Event]:
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                self._place(stat)
                file.seek(self._at)
                data = file.read(max(0, stat.st_size - self._at))
        except OSError:
            return []  # Not there now; it may come again.
        self._at += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        events = []
        for line in lines:
            try:
                if line.strip():
                    events.append(parse(line))
            except ValueError as error:
                complain(Problem(str(self.path), 0, str(error)))
        return events

    def _place(self, stat: os.stat_result) -> None:
        inode = (stat.st_dev, stat.st_ino)
        if inode == self._inode and stat.st_size >= self._at:
            return
        first = self._inode is None
        self._inode = inode
        self._partial = b""
        self._at = 0
        if first and self._back is not None and stat.st_size > self._back:
            self._at = _next_line(self.path, stat.st_size - self._back)


def _next_line(path: Path, at: int) -> int:
    """Where the first whole line after `at` begins."""
    with path.open("rb") as file:
        file.seek(at)
        return at + len(file.readline())
