"""Depth first through all that may happen, within a budget; a state that was met with as much budget is not entered."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model.world import Budget, Move, World


@dataclass
class Found:
    """`states`: different ones. `complete`: nothing within the budget was left out."""

    states: int = 0
    steps: int = 0
    ends: int = 0
    """Runs in which nothing more could happen."""
    deepest: int = 0
    complete: bool = True
    seconds: float = 0.0


class Violation(AssertionError):
    """A promise was broken; the message holds the moves that led there."""


@dataclass
class Search:
    budget: Budget
    states_max: int
    make: Callable[[], World] = World.served
    tell: Callable[[Found], None] = lambda found: None
    found: Found = field(default_factory=Found)
    _met: dict[bytes, list[Budget]] = field(default_factory=dict)

    def run(self) -> Found:
        began = time.monotonic()
        first = self.make()
        stack: list[tuple[bytes, Budget, tuple[Move, ...]]] = [(first.freeze(), self.budget, ())]
        while stack:
            if self.found.states >= self.states_max:
                self.found.complete = False
                break
            frozen, budget, path = stack.pop()
            world: World = pickle.loads(frozen)  # noqa: S301 - our own
            moves = world.moves(budget)
            if not moves:
                self.found.ends += 1
            for number, move in enumerate(reversed(moves)):
                left = _after(budget, move, is_orderly=move == moves[0])
                if left is None:
                    continue
                if number:
                    world = pickle.loads(frozen)  # noqa: S301 - our own
                try:
                    world.make(move)
                    world.check()
                except Exception as error:
                    said = ", ".join(map(str, (*path, move)))
                    raise Violation(f"{type(error).__name__}: {error}\nafter {len(path) + 1} moves: {said}") from error
                self.found.steps += 1
                if self._is_new(world.name(), left):
                    stack.append((world.freeze(), left, (*path, move)))
                    self.found.deepest = max(self.found.deepest, len(path) + 1)
            self.found.seconds = time.monotonic() - began
            self.tell(self.found)
        return self.found

    def _is_new(self, name: bytes, left: Budget) -> bool:
        met = self._met.get(name)
        if met is None:
            self._met[name] = [left]
            self.found.states += 1
            return True
        if any(all(a >= b for a, b in zip(before, left, strict=True)) for before in met):
            return False
        met.append(left)
        return True


def _after(budget: Budget, move: Move, is_orderly: bool) -> Budget | None:
    """What is left of the budget; None if this move is beyond it."""
    match move.what:
        case "crash":
            return budget._replace(crashes=budget.crashes - 1)
        case "request":
            return budget._replace(requests=budget.requests - 1)
        case "write" | "deliver" if not is_orderly:
            return budget._replace(deviations=budget.deviations - 1) if budget.deviations else None
        case _:
            return budget
