"""The keys of `cluster up` on a terminal: one letter is one order. Reads them in a thread, acts where it is told to.

The terminal is put back as it was on every way out: it is changed inside a context, and an exit that skips contexts is
`kill -9` alone, after which nobody can put anything back.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple

from zabzmq.cli.common import can_encode

BAR: Final = (
    "0-{last} select · k kill · r restart · z pause · u powercut · p partition · c clear",
    "t target · s step mode · n next message · o open page · q quit",
)
ESCAPE: Final = "\x1b"
ERASE: Final = ("\x7f", "\b")
ENTER: Final = ("\r", "\n")
LOOK_UP_S: Final = 0.2
TYPED_MAX: Final = 60

ASKED: Final = {
    "p": "partition, such as 0,1/2,3,4 or leader/rest",
    "t": "target, from 0 to 100",
}


def has_keys() -> bool:
    """Whether keys come to us: a terminal, and not as a job in its background, where asking would stop us."""
    if not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return True  # a terminal that controls nobody has no jobs


class KeyReader:
    """Gives each key that is pressed to `pressed`, from a thread, while the context lasts."""

    def __init__(self, pressed: Callable[[str], None]) -> None:
        self._pressed = pressed
        self._fd = sys.stdin.fileno()
        self._before: list[Any] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)

    def __enter__(self) -> KeyReader:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)  # Ctrl-C is a signal all the same
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select([self._fd], [], [], LOOK_UP_S)
            if ready and not self._over.is_set():
                typed = os.read(self._fd, 64)
                if not typed:
                    return
                if typed.startswith(b"\x1b") and len(typed) > 1:
                    continue  # an arrow, or another key that is many bytes
                for key in typed.decode("utf-8", "ignore"):
                    self._pressed(key)


class Acts(NamedTuple):
    """What keys do. Each says in words what came of it, or nothing."""

    order: Callable[[str, int], None]
    is_paused: Callable[[int], bool]
    partition: Callable[[str], None]
    clear: Callable[[], None]
    target: Callable[[int], None]
    open_page: Callable[[], None]
    step: Callable[[], None]
    next: Callable[[], None]
    quit: Callable[[], None]
    say: Callable[[str], None]


class KeyBar:
    """What is selected and what is being typed."""

    def __init__(self, ids: tuple[int, ...], acts: Acts) -> None:
        self._ids = ids
        self._acts = acts
        self.selected: int | None = None
        self._asked = ""
        self._typed = ""

    @property
    def lines(self) -> list[str]:
        """What stands below everything else."""
        if self._asked:
            return [f"{ASKED[self._asked]}: {self._typed}_      (Enter does it, Esc does not)"]
        selected = f"node {self.selected} is selected" if self.selected is not None else "no node is selected"
        dot = "·" if can_encode("·") else "|"
        return [selected, *(line.format(last=max(self._ids)).replace("·", dot) for line in BAR)]

    def press(self, key: str) -> None:
        if self._asked:
            self._type(key)
            return
        acts = self._acts
        orders = {"k": "kill", "r": "restart", "z": "pause", "u": "powercut"}
        if key.isascii() and key.isdigit() and int(key) in self._ids:
            self.selected = int(key)
        elif key in orders:
            self._order(orders[key])
        elif key in ASKED:
            self._asked, self._typed = key, ""
        elif key in (simple := {"c": acts.clear, "o": acts.open_page, "s": acts.step, "n": acts.next, "q": acts.quit}):
            simple[key]()

    def _order(self, verb: str) -> None:
        if self.selected is None:
            self._acts.say(f"{verb} whom? Press 0 to {max(self._ids)} first")
            return
        if verb == "pause" and self._acts.is_paused(self.selected):
            verb = "resume"
        self._acts.order(verb, self.selected)

    def _type(self, key: str) -> None:
        if key == ESCAPE:
            self._asked = ""
        elif key in ERASE:
            self._typed = self._typed[:-1]
        elif key not in ENTER:
            if key.isprintable() and len(self._typed) < TYPED_MAX:
                self._typed += key
        else:
            asked, typed, self._asked = self._asked, self._typed.strip(), ""
            if asked == "p" and typed:
                self._acts.partition(typed)
            elif asked == "t":
                if typed.isascii() and typed.isdigit() and int(typed) <= 100:
                    self._acts.target(int(typed))
                else:
                    self._acts.say(f"{typed!r} is no number from 0 to 100")
