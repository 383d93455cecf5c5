"""Is a recorded client history linearizable? (PROTOCOL 11, Linearizability)

A history is cut into parts that cannot disturb each other: one per key, one for the game. Of each part the order that
the cluster itself claims (the zxids it answered with) is tried first; if that is no proof, the search of Wing and Gong
with Lowe's memory looks for any order at all. So a wrong claim never hides a right history, nor a right claim a wrong
one. An operation whose outcome is unknown may take effect at any later time, or never. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from zabzmq.machine.operations import (
    Answer,
    Cas,
    Delete,
    Deleted,
    GameQuery,
    GameState,
    Gone,
    Guess,
    Guessed,
    KvQuery,
    KvValue,
    Operation,
    Put,
    Query,
    Refused,
    Result,
    Target,
    TargetSet,
)

UNKNOWN: Final = float("inf")
"""`returned` of an operation nobody heard the outcome of."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operation as its client saw it: asked at `called`, answered at `returned` (any clock they share).

    `zxid`, if the cluster told: where an operation took effect, or the state a query was answered from.
    """

    client: str
    called: float
    returned: float
    asked: Operation | Query
    answer: Result | Answer = None
    zxid: tuple[int, int] | None = None

    @property
    def is_unknown(self) -> bool:
        return self.returned == UNKNOWN


State: TypeAlias = Hashable
Model: TypeAlias = Callable[[Any, Call], tuple[bool, Any]]
"""From a state and a call to whether its answer fits, and the state after it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`; or the part that has no order, and the calls around the place where the search got furthest.

    `decided` is False when the search was given up after `steps_max` steps: neither proved nor disproved.
    """

    ok: bool
    decided: bool = True
    part: str = ""
    stuck: tuple[Call, ...] = ()

    def __str__(self) -> str:
        if self.ok:
            return "linearizable"
        if not self.decided:
            return f"{self.part}: not decided"
        return f"{self.part} has no order; stuck at " + "; ".join(describe(call) for call in self.stuck)


def check_history(calls: Iterable[Call], steps_max: int = 5_000_000) -> Verdict:
    """Judge a history of operations and queries on kv and game."""
    parts: dict[bytes | None, list[Call]] = {}
    model: Model
    initial: State
    for call in calls:
        key = getattr(call.asked, "key", None)
        parts.setdefault(key, []).append(call)
    undecided = None
    for key in sorted(parts, key=lambda k: (k is not None, k or b"")):
        game = key is None
        name = "game" if game else f"key {key!r}"
        model, initial = (game_model, EMPTY_GAME) if game else (kv_model, None)
        if is_ordered_as_claimed(parts[key], model, initial):
            continue
        verdict = check_part(parts[key], model, initial, steps_max, name)
        if not verdict.ok and verdict.decided:
            return verdict
        if not verdict.decided:
            undecided = verdict
    return undecided or Verdict(True)


def is_ordered_as_claimed(calls: Sequence[Call], model: Model, initial: State) -> bool:
    """Whether the zxids are a proof: in their order, every answer fits and nobody was answered before another asked."""
    if any(call.zxid is None and not call.is_unknown for call in calls):
        return False
    claimed = [call for call in calls if call.zxid is not None]
    claimed.sort(key=lambda call: (call.zxid, _is_query(call), call.called))
    latest_call = -UNKNOWN
    state: Any = initial
    for call in claimed:
        if call.returned < latest_call:
            return False
        latest_call = max(latest_call, call.called)
        fits, state = model(state, call)
        if not fits:
            return False
    return True


def check_part(calls: Sequence[Call], model: Model, initial: State, steps_max: int, name: str = "history") -> Verdict:
    """Find an order of these calls, each between its call and its return, that `model` allows.

    Depth first over "which call comes next": a call may be next if no other call that is still to come returned
    before it was called. (calls done, state) once found hopeless is not entered again.
    """
    # A question nobody heard the answer of says nothing.
    ops = sorted((c for c in calls if not (c.is_unknown and _is_query(c))), key=lambda c: (c.called, c.returned))
    count = len(ops)
    returned = [c.returned for c in ops]
    must = sum(1 for c in ops if not c.is_unknown)  # all these have to find a place
    called = [c.called for c in ops]
    # The calls still to come form a linked list in order of `called`; index `count` is its head and end.
    following = list(range(1, count + 1)) + [0]
    before = [count, *range(count)]
    done = 0  # a bit per call placed
    placed_must = 0
    state: Any = initial
    seen: set[tuple[int, int, Any]] = set()
    stack: list[tuple[int, Any]] = []  # calls placed, with the state before each
    at = following[count]
    horizon = UNKNOWN  # the earliest return among the calls before `at` that are still to come
    steps = 0
    deepest, stuck = -1, -1
    low = 0  # every call below it is placed
    while placed_must < must:
        steps += 1
        if steps > steps_max:
            return Verdict(False, False, name)
        if at != count and called[at] <= horizon:
            fits, after = model(state, ops[at])
            if fits:
                bit = 1 << at
                grown = done | bit
                lowest = low
                while grown >> lowest & 1:
                    lowest += 1
                key = (lowest, grown >> lowest, after)
                if key not in seen:
                    seen.add(key)
                    stack.append((at, state))
                    state, done, low = after, grown, lowest
                    placed_must += returned[at] != UNKNOWN
                    following[before[at]], before[following[at]] = following[at], before[at]
                    at, horizon = following[count], UNKNOWN
                    continue
            horizon = min(horizon, returned[at])
            at = following[at]
            continue
        if len(stack) > deepest:
            deepest, stuck = len(stack), following[count]
        if not stack:
            near = [i for i in range(stuck, count) if called[i] <= returned[stuck]][:6]
            return Verdict(False, True, name, tuple(ops[i] for i in near))
        # Nothing may come next: take the last one back and look behind it.
        at, state = stack.pop()
        done &= ~(1 << at)
        low = min(low, at)
        placed_must -= returned[at] != UNKNOWN
        following[before[at]], before[following[at]] = at, at
        horizon = _horizon(following, returned, count, at)
        horizon = min(horizon, returned[at])
        at = following[at]
    return Verdict(True)


def _horizon(following: list[int], returned: list[float], head: int, at: int) -> float:
    earliest, i = UNKNOWN, following[head]
    while i != at:
        earliest = min(earliest, returned[i])
        i = following[i]
    return earliest


def _is_query(call: Call) -> bool:
    return isinstance(call.asked, KvQuery | GameQuery)


# ---- what each machine promises, said a second time and independently ----------------------------------------------


def kv_model(value: bytes | None, call: Call) -> tuple[bool, bytes | None]:
    """One key."""
    asked, answer, known = call.asked, call.answer, not call.is_unknown and not isinstance(call.answer, Gone)
    if isinstance(asked, KvQuery):
        return isinstance(answer, KvValue) and answer.value == value, value
    if isinstance(asked, Put):
        return not known or answer is None, asked.value
    if isinstance(asked, Delete):
        return not known or answer == Deleted(value is not None), None
    assert isinstance(asked, Cas)
    if value == asked.expect:
        return not known or answer is None, asked.value
    return not known or isinstance(answer, Refused), value


GameTuple: TypeAlias = tuple[int, bool, int | None, int | None, str | None, str | None, int | None]
EMPTY_GAME: Final[GameTuple] = (0, False, None, None, None, None, None)
"""round, open, secret, target, owner, opener, closest."""


def game_model(game: GameTuple, call: Call) -> tuple[bool, GameTuple]:
    """The number game of UX 4."""
    number, is_open, secret, target, owner, opener, closest = game
    asked, answer, known = call.asked, call.answer, not call.is_unknown and not isinstance(call.answer, Gone)
    if isinstance(asked, GameQuery):
        shown = (number, is_open, target, owner, opener, closest)
        fits = isinstance(answer, GameState) and shown == (
            answer.round,
            answer.open,
            answer.target,
            answer.owner,
            answer.opener,
            answer.closest,
        )
        return fits, game
    if isinstance(asked, Target):
        if is_open and not asked.new_round:
            return not known or isinstance(answer, Refused), game
        opened = (number + 1, True, asked.value, asked.value, call.client, call.client, None)
        return not known or answer == TargetSet(asked.value, number + 1), opened
    assert isinstance(asked, Guess)
    if not is_open or secret is None or target is None or opener == call.client:
        return not known or isinstance(answer, Refused), game
    distance = abs(asked.value - secret)
    if closest is not None and distance >= closest:
        return not known or answer == Guessed(target, distance, False, False), game
    won = distance == 0
    guessed = (number, not won, secret, asked.value, call.client, opener, distance)
    return not known or answer == Guessed(asked.value, distance, True, won), guessed


def describe(call: Call) -> str:
    """One line for people."""
    when = f"[{call.called:g}, {'?' if call.is_unknown else f'{call.returned:g}'}]"
    return f"{call.client} {when} {call.asked} -> {'unknown' if call.is_unknown else call.answer}"
