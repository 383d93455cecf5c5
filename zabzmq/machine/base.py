"""What a replicated machine is."""

from __future__ import annotations

from typing import Protocol


class StateMachine(Protocol):
    """A deterministic machine inside the replicated state. Pure: no clock, dice, files or set iteration order.

    `digest` is of the state itself, kept incrementally; `full_digest` computes the same from nothing (tests
    compare them). `snapshot` is the exact state, from which `restore` makes an equal machine.
    """

    @property
    def digest(self) -> int: ...
    def full_digest(self) -> int: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...
