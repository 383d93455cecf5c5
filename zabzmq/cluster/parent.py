"""Parent-death watch: a node that a supervisor started exits when the supervisor is gone, however that died."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

PARENT: Final = "ZAB_PARENT"
"""Set by a supervisor for its children: its process id."""

_PR_SET_PDEATHSIG: Final = 1


class ParentWatch:
    """Asks the kernel to kill us at the parent's death (Linux), stopped or not; `is_gone` is for elsewhere, and for the
    moment before the kernel was asked."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        if sys.platform == "linux":
            import ctypes

            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    @property
    def is_gone(self) -> bool:
        return os.getppid() != self._parent


def watch_parent() -> ParentWatch | None:
    """The watch on our supervisor, if one started us."""
    parent = os.environ.get(PARENT, "")
    return ParentWatch(int(parent)) if parent.isdecimal() else None
