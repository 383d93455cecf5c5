"""All that may happen within a budget, breadth first: a broken promise is told with the fewest moves that show it.

A state that was met with as much budget is not entered again. `deepen` searches with no deviation, then with one, and
so on, until all that time is used up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from tests.model.world import Budget, Move, World


@dataclass
class Found:
    """`states`: different ones. `complete`: nothing within the budget was left out."""

    states: int = 0
    steps: int = 0
    ends: int = 0
    """Runs in which nothing more could happen."""
    deepest: int = 0
    """How many moves, at most, from the first state to one that was entered."""
    complete: bool = True
    seconds: float = 0.0

    def __str__(self) -> str:
        whole = "all there are" if self.complete else f"all within {self.deepest - 1} moves"
        return (
            f"{self.states:,} states ({whole}), {self.steps:,} steps, {self.ends:,} ends, {self.deepest} moves deep, "
            f"0 violations, {self.seconds:.0f} s"
        )


class Violation(AssertionError):
    """A promise was broken; the message holds the moves that led there."""


Path = tuple[Any, Move] | None
"""The moves that led to a state, the last of them first."""


@dataclass
class Search:
    budget: Budget
    states_max: float = inf
    seconds_max: float = inf
    make: Callable[[], World] = World.served
    tell: Callable[[Found], None] = lambda found: None
    found: Found = field(default_factory=Found)
    _met: dict[int, list[Budget]] = field(default_factory=dict)

    def run(self) -> Found:
        began = time.monotonic()
        found = self.found
        waiting: deque[tuple[World, Budget, Path, int]] = deque([(self.make(), self.budget, None, 0)])
        while waiting:
            found.seconds = time.monotonic() - began
            if found.states >= self.states_max or found.seconds >= self.seconds_max:
                found.complete = False
                break
            before, budget, path, depth = waiting.popleft()
            moves = before.moves(budget)
            found.ends += not moves
            for move in moves:
                left = budget.after(move, is_orderly=move == moves[0])
                if left is None:
                    continue
                world = before.copy()
                try:
                    world.make(move)
                except Exception as error:
                    said = ", ".join(map(str, _moves((path, move))))
                    raise Violation(f"{type(error).__name__}: {error}\nafter {depth + 1} moves: {said}") from error
                found.steps += 1
                if self._is_new(world.name(), left):
                    waiting.append((world, left, (path, move), depth + 1))
                    found.deepest = depth + 1
            self.tell(found)
        found.seconds = time.monotonic() - began
        return found

    def _is_new(self, name: int, left: Budget) -> bool:
        met = self._met.get(name)
        if met is None:
            self._met[name] = [left]
            self.found.states += 1
            return True
        if any(all(a >= b for a, b in zip(before, left, strict=True)) for before in met):
            return False
        met.append(left)
        return True


def _moves(path: Path) -> list[Move]:
    moves = []
    while path is not None:
        path, move = path
        moves.append(move)
    return moves[::-1]
