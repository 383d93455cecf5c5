"""Voters, and when a set of them is a quorum: more than half of the *configured* ones (B4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from zabzmq.core.zxid import ZERO, PeerId, Zxid


@dataclass(frozen=True, slots=True)
class Voters:
    """The configured voters of an ensemble, by id, ascending."""

    ids: tuple[PeerId, ...]

    def __post_init__(self) -> None:
        if not self.ids:
            raise ValueError("an ensemble needs at least one voter")
        if list(self.ids) != sorted(set(self.ids)):
            raise ValueError(f"voters must be distinct and ascending, not {self.ids}")

    @property
    def needed(self) -> int:
        """How many voters make a quorum."""
        return len(self.ids) // 2 + 1

    def is_quorum(self, peers: Collection[PeerId]) -> bool:
        """Whether these peers hold a majority; strangers and repeats do not count."""
        return len(set(peers).intersection(self.ids)) >= self.needed

    def quorum_th_largest(self, acked: Mapping[PeerId, Zxid]) -> Zxid:
        """The greatest zxid that a quorum has reached; voters not in `acked` have reached nothing (B4)."""
        reached = sorted((acked.get(peer, ZERO) for peer in self.ids), reverse=True)
        return reached[self.needed - 1]
