"""A Lamport clock: orders what several processes did so that nothing is shown before its cause.

For people and their tools alone. No rule of the protocol reads it, and a wrong one harms a picture, never a promise.
"""

from __future__ import annotations

from typing import Final

LAMPORT_MAX: Final = 1 << 53
"""Beyond it a number is not exact in every reader of JSON. No honest run comes near."""


class Lamport:
    """One process's clock. Each event of the process ticks it; a message carries it, and who hears one is later."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def tick(self) -> int:
        self.value += 1
        return self.value

    def heard(self, stamp: int) -> None:
        """A message with this stamp arrived. A stamp out of all bounds is forged or damaged: it is passed over."""
        if self.value < stamp < LAMPORT_MAX:
            self.value = stamp
