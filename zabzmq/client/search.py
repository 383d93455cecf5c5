"""Who leads (C8): ask every node, believe the established leader of the highest epoch, back off with jitter. Pure."""

from __future__ import annotations

import random
from typing import Final

from zabzmq.net.client_wire import Hint

PAUSE_MS: Final = 20.0
PAUSE_MS_MAX: Final = 1_000.0
GROWTH: Final = 1.4


class Search:
    """`leader` is None while we look. `at`: when to ask again. The sending of Hello is the caller's."""

    def __init__(self, cluster: str, dice: random.Random) -> None:
        self.leader: int | None = None
        self.former: int | None = None  # who led when we last knew
        self.epoch = 0
        self.hints: dict[int, Hint] = {}  # the newest of each node, since this search began
        self.voters: frozenset[int] = frozenset()
        self.foreign: dict[int, str] = {}  # nodes of another cluster, and its name
        self.at = 0.0
        self._cluster = cluster
        self._dice = dice
        self._round = 0

    def begin(self, now: float) -> None:
        """The leader is in doubt. Asking begins at once after any success, else when the pause is over."""
        self.leader = None
        if self._round == 0:
            self.hints.clear()
            self.at = now
        elif self.at <= now:
            self._pause(now)

    def asked(self, now: float) -> None:
        """Everybody was asked just now."""
        self._pause(now)
        self._round += 1

    def succeeded(self) -> None:
        """The leader did something for us: the next search need not wait."""
        self._round = 0

    def _pause(self, now: float) -> None:
        longest = min(PAUSE_MS * GROWTH**self._round, PAUSE_MS_MAX)
        self.at = now + longest * self._dice.uniform(0.5, 1.0)

    def on_hint(self, node: int, hint: Hint) -> bool:
        """Take an answer in; True if it settles who leads."""
        if hint.cluster != self._cluster:
            self.foreign[node] = hint.cluster
            return False
        self.foreign.pop(node, None)
        self.hints[node] = hint
        if hint.endpoints:
            self.voters = frozenset(hint.endpoints)
        # An established leader of a lower epoch than we have seen established is deposed and has not noticed.
        if not hint.established or hint.epoch < self.epoch:
            return False
        if self.leader is not None and hint.epoch == self.epoch:
            return False
        self.leader = self.former = node
        self.epoch = hint.epoch
        return True
