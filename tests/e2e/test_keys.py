"""`cluster up` on a terminal: the table, a sentence, and keys that do what commands do; the terminal is given back."""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.real import PATIENCE_S, RealCluster, environment

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BEGUN = re.compile(r"\x1b(\[[0-9;?]*)?$")
"""A code that what was read so far ends in the middle of."""
ANOTHER_RUN = "x" * 43


class Terminal:
    """A program on a pseudo-terminal of 100 columns, and what it has shown."""

    def __init__(self, command: list[str]) -> None:
        self.main, child = pty.openpty()
        termios.tcsetwinsize(child, (40, 100))
        self.before = termios.tcgetattr(child)
        self.child = child
        self.process = subprocess.Popen(
            command,
            stdin=child,
            stdout=child,
            stderr=child,
            env=environment(TERM="xterm", PYTHONUTF8="1", ZAB_TOKEN=ANOTHER_RUN),
            start_new_session=True,
        )
        self.shown = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self._from = 0

    def press(self, keys: str) -> None:
        self._from = len(self.shown)
        os.write(self.main, keys.encode())

    def until(self, text: str) -> None:
        """Wait until this is shown, after the last key."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown[self._from :]:
            assert time.monotonic() < deadline, f"{text!r} is not shown, but: {self.shown[-3000:]}"
            self.read(0.1)

    def read(self, wait_s: float) -> None:
        if select.select([self.main], [], [], wait_s)[0]:
            said = self._rest + self._decode(os.read(self.main, 65536))
            begun = BEGUN.search(said)
            self._rest = begun[0] if begun else ""
            self.shown += CODES.sub("", said.removesuffix(self._rest))

    def end(self) -> int:
        """Read until it is over; its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown[-3000:]
            self.read(0.1)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.end()
        os.close(self.main)
        os.close(self.child)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    real = RealCluster(tmp_path)
    up = [sys.executable, "zookeeper_server.py", "cluster", "up", *map(str, (*real.common, *real.directories))]
    made = Terminal(up)
    try:
        made.until("healthy")
        yield made
    finally:
        made.close()
        real.close()


def test_keys_do_what_commands_do_and_the_terminal_is_given_back(terminal: Terminal) -> None:
    terminal.until("a write counts once 3 of 5 have it on disk")
    terminal.until("★  LEADING")
    terminal.until("k kill")
    assert not termios.tcgetattr(terminal.child)[3] & termios.ICANON, "keys come one by one"
    terminal.press("k")
    terminal.until("kill whom? Press 0 to 4 first")
    terminal.press("1k")
    terminal.until("node 1 killed")
    terminal.until("Node 1 is down; the others go on")
    terminal.press("r")
    terminal.until("node 1 started")
    terminal.until("healthy  5/5")
    terminal.press("t5x\x7f0\r")
    terminal.until("the target of a new round is set")
    terminal.press("p0,1/2,3,4\r")
    terminal.until("partition 0 1 / 2 3 4")
    terminal.press("c")
    terminal.until("no faults")
    terminal.press("pnonsense\r")
    terminal.until("not done: there is no node 'nonsense'")
    terminal.press("q")
    terminal.until("all nodes stopped")
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.child) == terminal.before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_however_it_ends_the_terminal_is_given_back(terminal: Terminal, number: signal.Signals) -> None:
    terminal.until("0-4 select")
    terminal.process.send_signal(number)
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.child) == terminal.before
