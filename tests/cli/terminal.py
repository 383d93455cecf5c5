"""A terminal for programs that look whether they have one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0


def on_terminal(*command: str | int, until: bytes = b"", environ: Mapping[str, str] = {}) -> bytes:
    """What the command writes to a terminal, up to `until` or to its end."""
    ours, its = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZAB_") and name != "NO_COLOR"}
    env |= {"TERM": "xterm", "COLUMNS": "100", **environ}
    with subprocess.Popen(
        [sys.executable, *map(str, command)], stdin=subprocess.DEVNULL, stdout=its, stderr=its, cwd=ROOT, env=env
    ) as process:
        os.close(its)
        killer = threading.Timer(PATIENCE_S, process.kill)
        killer.start()
        said = b""
        try:
            while not (until and until in said):
                said += os.read(ours, 4096)
        except OSError:
            pass  # it has ended
        process.terminate()
        process.wait()
        killer.cancel()
        os.close(ours)
    return said
