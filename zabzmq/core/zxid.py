"""Names of places in the history and of those who speak: the smallest values of the protocol."""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

PeerId = NewType("PeerId", int)
"""The configured number of a peer, 0 to n-1."""


class Zxid(NamedTuple):
    """The place of one transaction: ordered by epoch, then by counter (PROTOCOL 1.1).

    Never packed into one integer and never counted across an epoch: what follows `(4, 17)` is `(4, 18)`
    or the first of any later epoch.
    """

    epoch: int
    counter: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.counter}"


ZERO: Final = Zxid(0, 0)
"""The empty history."""


class ProcessId(NamedTuple):
    """One run of one peer on one data directory.

    `life` is drawn when the directory is made, `incarnation` grows with every start, so a peer that was
    restarted or wiped is never taken for the process it was before (E4, T1). Compared for equality only.
    """

    peer: PeerId
    life: int
    incarnation: int

    def __str__(self) -> str:
        return f"{self.peer}/{self.life & 0xFFFF:04x}/{self.incarnation}"


class LinkId(NamedTuple):
    """One connection attempt of one learner process to one leader process (PROTOCOL 7.2)."""

    learner: ProcessId
    number: int

    def __str__(self) -> str:
        return f"{self.learner}#{self.number}"
