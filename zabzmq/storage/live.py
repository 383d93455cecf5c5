"""What the disk holds at this moment, shared by the threads that change it.

The writer thread owns the end of the history and may replace all of it; the background thread owns its beginning:
snapshots of our own, and what they allow to purge. Each changes its part under the lock, and the background
thread looks at `generation` first (L12).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from zabzmq.core.history import History
from zabzmq.core.inputs import Input
from zabzmq.core.zxid import Zxid
from zabzmq.storage.files import Files
from zabzmq.storage.log import Log
from zabzmq.storage.snapshot import snapshot_name


@dataclass(slots=True)
class Live:
    """`history` is of what is durable. `snapshots`: those that may be relied on, oldest first."""

    files: Files
    path: str
    cluster: str
    generation: int
    directory: str
    log: Log
    history: History
    snapshots: list[Zxid]
    lock: Lock = field(default_factory=Lock)

    def snapshot_path(self, zxid: Zxid) -> str:
        return os.path.join(self.directory, snapshot_name(zxid))


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where the threads report to. `fatal`: the process must end, with this text (L14)."""

    complete: Callable[[Input], None]
    warn: Callable[[str], None]
    fatal: Callable[[str], None]


def explain(error: Exception) -> str:
    """A failure for people: what, where, and what to do next."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror or error}. The node stops here: after a failed write nobody knows what the disk "
            "holds. Check the disk, then start the node again; it recovers from what is really there."
        )
    if isinstance(error, AssertionError) or type(error).__module__ == "builtins":
        return f"internal error in storage: {type(error).__name__}: {error}. The disk is left as it is."
    return str(error)
