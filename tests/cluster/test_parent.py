"""The parent-death watch: who has no supervisor watches nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from zabzmq.cluster.parent import PARENT, watch_parent

CHILD = """
import os, sys, time
from zabzmq.cluster.parent import watch_parent
watch = watch_parent()
assert watch is not None and not watch.is_gone
print(os.getpid(), flush=True)
while not watch.is_gone:
    time.sleep(0.01)
"""

PARENT_PROGRAM = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], env={{**os.environ, "{PARENT}": str(os.getpid())}})
child.wait()
"""


def test_without_a_supervisor_there_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARENT, raising=False)
    assert watch_parent() is None
    monkeypatch.setenv(PARENT, "nobody")
    assert watch_parent() is None


def test_a_child_ends_with_its_supervisor() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT_PROGRAM], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0, "the child runs"
    os.kill(parent.pid, signal.SIGKILL)
    # The child holds the pipe too, so this ends only when both are gone.
    assert parent.stdout.read() == b""
    parent.wait()
    parent.stdout.close()
