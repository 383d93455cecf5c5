"""The number game: one opens a round with a secret number, the others guess, the closest guess is the target.

Distances are measured from the number the round was opened with, not from the moving target (PROTOCOL 15.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from zabzmq.core.errors import LocalProtocolError
from zabzmq.core.zxid import Zxid
from zabzmq.machine.operations import (
    Answer,
    GameQuery,
    GameState,
    Guess,
    Guessed,
    Operation,
    Query,
    Refused,
    Result,
    Target,
    TargetSet,
    encode,
)


class _Round(msgspec.Struct, array_like=True):
    """The whole state. `since` is the zxid that set the present target; `closest` the least distance guessed so far."""

    number: int = 0
    open: bool = False
    secret: int | None = None
    target: int | None = None
    owner: str | None = None
    opener: str | None = None
    closest: int | None = None
    since: tuple[int, int] = (0, 0)


_decode = msgspec.msgpack.Decoder(_Round).decode


class GameMachine:
    """A StateMachine. Owner, opener and "own guess" go by the client's name."""

    OPERATIONS: Final = (Target, Guess)
    QUERIES: Final = (GameQuery,)

    def __init__(self) -> None:
        self._round = _Round()

    def apply(self, operations: Iterable[Operation], by: str, first: Zxid) -> list[Result]:
        epoch, counter = first
        results: list[Result] = []
        for place, op in enumerate(operations, counter):
            if isinstance(op, Guess):
                results.append(self._guess(op.value, by, (epoch, place)))
            elif isinstance(op, Target):
                results.append(self._target(op, by, (epoch, place)))
            else:
                raise LocalProtocolError(f"not an operation of the game: {op}")
        return results

    def _target(self, op: Target, by: str, zxid: tuple[int, int]) -> Result:
        now = self._round
        if now.open and not op.new_round:
            where = f"{now.target} by {now.owner}, {now.since[0]}.{now.since[1]}"
            return Refused("round_open", f"a target is already set ({where}). Use: client.py guess {op.value}")
        self._round = _Round(now.number + 1, True, op.value, op.value, by, by, None, zxid)
        return TargetSet(op.value, now.number + 1)

    def _guess(self, value: int, by: str, zxid: tuple[int, int]) -> Result:
        now = self._round
        if now.secret is None or now.target is None:
            return Refused("no_round", "no target yet. The first client sets one: client.py target 50")
        if not now.open:
            over = f"round {now.number} was won by {now.owner}"
            return Refused("no_round", f"no target yet: {over}. Open the next one: client.py target 50")
        if by == now.opener:
            return Refused("own_guess", f"{by} opened this round and knows its number; others guess")
        distance = abs(value - now.secret)
        closer = now.closest is None or distance < now.closest  # A tie keeps the earlier guess.
        won = distance == 0
        if closer:
            now.target, now.owner, now.closest, now.since = value, by, distance, zxid
            now.open = not won
            return Guessed(value, distance, True, won)
        return Guessed(now.target, distance, False, False)

    def query(self, query: Query) -> Answer:
        if not isinstance(query, GameQuery):
            raise LocalProtocolError(f"not a query of the game: {query}")
        now = self._round
        secret = now.secret if query.reveal else None
        return GameState(now.number, now.open, now.target, now.owner, now.opener, now.closest, secret)

    def status(self, reveal: bool = False) -> dict[str, int | bool | str | None]:
        """The state under the names that people and programs read (UX 6)."""
        now = self._round
        shown: dict[str, int | bool | str | None] = {
            "round": now.number,
            "open": now.open,
            "target": now.target,
            "owner": now.owner,
            "opener": now.opener,
            "closest": now.closest,
        }
        if reveal:
            shown["secret"] = now.secret
        return shown

    @property
    def digest(self) -> int:
        """The state is one small record: hashing it whole is as cheap as keeping a sum."""
        return self.full_digest()

    def full_digest(self) -> int:
        return xxh3_64_intdigest(encode(self._round))

    def snapshot(self) -> Iterable[bytes]:
        return [encode(self._round)]

    def restore(self, data: bytes | memoryview) -> None:
        self._round = _decode(data)
