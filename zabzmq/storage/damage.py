"""What is said when a file does not hold what was written to it (L3): which file, where, why, and what to do."""

from __future__ import annotations

import os

from zabzmq.core.errors import StorageError


class Damaged(StorageError):
    """`path` is not whole from `offset` on. Nothing is ever repaired by guessing."""

    def __init__(self, path: str, offset: int, why: str) -> None:
        super().__init__(f"{path}: damaged at offset {offset}: {why}. {advice(path)}")
        self.path = path
        self.offset = offset


def advice(path: str) -> str:
    """What to do about a file of a data directory that is missing or damaged."""
    directory = os.path.dirname(path)
    if os.path.basename(directory).startswith("gen-"):
        directory = os.path.dirname(directory)
    return (
        "Nothing was changed. Restore the directory from a copy, or move it away "
        f"(mv {directory} {directory}.damaged) and start again: the node then joins anew from the others."
    )
