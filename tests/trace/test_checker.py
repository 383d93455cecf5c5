"""The linearizability checker: equal to trying every order on small histories, quick on long ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from random import Random

import pytest

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
from zabzmq.trace.checker import EMPTY_GAME, UNKNOWN, Call, check_history, check_part, game_model, kv_model

NO = Refused("cas_mismatch", "no")
K = b"k"


def call(
    called: float, returned: float, asked: Operation | Query, answer: Result | Answer = None, client: str = "c"
) -> Call:
    return Call(client, called, returned, asked, answer)


def is_linearizable_by_trying_all(calls: Sequence[Call]) -> bool:
    known = [c for c in calls if not c.is_unknown]
    doubtful = [c for c in calls if c.is_unknown]
    for many in range(len(doubtful) + 1):
        for happened in combinations(doubtful, many):
            for order in permutations(known + list(happened)):
                if any(b.returned < a.called for i, a in enumerate(order) for b in order[i + 1 :]):
                    continue
                value: bytes | None = None
                for c in order:
                    fits, value = kv_model(value, c)
                    if not fits:
                        break
                else:
                    return True
    return False


def draw_history(dice: Random) -> list[Call]:
    calls = []
    for _ in range(dice.randint(1, 6)):
        called = dice.randint(0, 10)
        returned = UNKNOWN if dice.random() < 0.2 else called + dice.randint(1, 6)
        value = bytes([dice.randint(65, 67)])
        asked: Operation | Query
        answer: Result | Answer
        match dice.randrange(4):
            case 0:
                asked, answer = Put(K, value), None
            case 1:
                asked, answer = KvQuery(K), KvValue(dice.choice([None, b"A", b"B", b"C"]))
            case 2:
                asked, answer = Delete(K), Deleted(dice.random() < 0.5)
            case _:
                asked, answer = Cas(K, dice.choice([None, b"A", b"B"]), value), dice.choice([None, NO])
        calls.append(call(called, returned, asked, None if returned == UNKNOWN else answer))
    return calls


def test_it_agrees_with_trying_every_order() -> None:
    dice = Random(1)
    verdicts = []
    for _ in range(1500):
        calls = draw_history(dice)
        verdict = check_part(calls, kv_model, None, 1_000_000)
        assert verdict.decided
        assert verdict.ok == is_linearizable_by_trying_all(calls), calls
        verdicts.append(verdict.ok)
    assert 300 < sum(verdicts) < 1200, "both verdicts must be common for this to mean anything"


@pytest.mark.parametrize(
    ("calls", "ok"),
    [
        pytest.param([call(0, 1, Put(K, b"A")), call(2, 3, KvQuery(K), KvValue(b"A"))], True, id="read your write"),
        pytest.param([call(0, 1, Put(K, b"A")), call(2, 3, KvQuery(K), KvValue(None))], False, id="stale read"),
        pytest.param([call(0, 9, Put(K, b"A")), call(2, 3, KvQuery(K), KvValue(None))], True, id="still under way"),
        pytest.param([call(0, UNKNOWN, Put(K, b"A")), call(5, 6, KvQuery(K), KvValue(b"A"))], True, id="unknown, done"),
        pytest.param([call(0, UNKNOWN, Put(K, b"A")), call(5, 6, KvQuery(K), KvValue(None))], True, id="unknown, not"),
        pytest.param(
            [
                call(0, UNKNOWN, Put(K, b"A")),
                call(1, 2, KvQuery(K), KvValue(b"A")),
                call(3, 4, Put(K, b"B")),
                call(5, 6, KvQuery(K), KvValue(b"A")),
            ],
            False,
            id="unknown takes effect once",
        ),
        pytest.param(
            [call(0, 1, Cas(K, None, b"A")), call(0, 1, Cas(K, None, b"B"))], False, id="two cas from one value"
        ),
        pytest.param(
            [call(0, 1, Put(K, b"A")), call(2, 3, Cas(K, b"A", b"B"), Gone()), call(4, 5, KvQuery(K), KvValue(b"B"))],
            True,
            id="done, its result forgotten",
        ),
        pytest.param(
            [call(0, 1, Put(b"x", b"A")), call(2, 3, KvQuery(b"y"), KvValue(None))], True, id="keys are apart"
        ),
    ],
)
def test_histories_of_one_key(calls: list[Call], ok: bool) -> None:
    assert check_history(calls).ok == ok


def test_the_game_is_judged_by_its_rule() -> None:
    first = [
        call(0, 1, Target(50), TargetSet(50, 1), "alice"),
        call(2, 3, Guess(40), Guessed(40, 10, True, False), "bob"),
        call(4, 5, Guess(60), Guessed(40, 10, False, False), "carol"),
        call(6, 7, GameQuery(), GameState(1, True, 40, "bob", "alice", 10, None)),
    ]
    assert check_history(first).ok
    own = [*first, call(8, 9, Guess(50), Guessed(50, 0, True, True), "alice")]
    assert not check_history(own).ok
    won = [*first, call(8, 9, Guess(50), Guessed(50, 0, True, True), "bob"), call(10, 11, Guess(1), NO, "carol")]
    assert check_history(won).ok
    assert not check_history([*won, call(12, 13, Target(1), NO, "bob")]).ok


def test_a_wrong_history_says_where_it_is_stuck() -> None:
    verdict = check_history([call(0, 1, Put(K, b"A")), call(2, 3, KvQuery(K), KvValue(None))])
    assert verdict.decided
    assert "key b'k'" in str(verdict)
    assert "KvQuery" in str(verdict)


def test_the_claimed_order_is_no_proof_when_it_is_wrong_and_no_obstacle_when_another_is_right() -> None:
    first, second = Put(K, b"A"), Put(K, b"B")
    backwards = [
        Call("c", 0, 1, first, None, (1, 2)),
        Call("c", 2, 3, second, None, (1, 1)),
        Call("c", 4, 5, KvQuery(K), KvValue(b"B"), (1, 2)),
    ]
    assert check_history(backwards).ok
    stale = [*backwards[:2], Call("c", 4, 5, KvQuery(K), KvValue(b"A"), (1, 2))]
    assert not check_history(stale).ok


def long_history(count: int, at_once: float, with_zxids: bool) -> list[Call]:
    dice = Random(7)
    calls: list[Call] = []
    value: bytes | None = None
    for i in range(count):
        called, returned = i - dice.random() * at_once, i + dice.random() * at_once
        fresh = b"%d" % i
        asked: Operation | Query
        answer: Result | Answer = None
        match dice.randrange(3):
            case 0:
                asked = Put(K, fresh)
            case 1:
                asked, answer = KvQuery(K), KvValue(value)
            case _:
                asked = Cas(K, value if dice.random() < 0.7 else b"never", fresh)
                answer = None if asked.expect == value else NO
        zxid = (1, i) if with_zxids else None
        made = Call("c", called, returned, asked, answer, zxid)
        _, value = kv_model(value, made)
        calls.append(made)
    return calls


@pytest.mark.parametrize("with_zxids", [True, False])
def test_long_histories_are_decided(with_zxids: bool) -> None:
    calls = long_history(2000, 6.0, with_zxids)
    assert check_history(calls).ok
    # A value that was overwritten long ago cannot be read at the end.
    wrong = [*calls, Call("c", 3000, 3001, KvQuery(K), KvValue(b"0"), (1, 2000) if with_zxids else None)]
    assert not check_history(wrong, steps_max=200_000).ok


def test_a_search_that_takes_too_long_is_called_undecided() -> None:
    # All at once, and no answer tells them apart; then one that none of them explains.
    calls = [call(0, 100, Put(K, b"%d" % i)) for i in range(30)]
    verdict = check_part([*calls, call(101, 102, KvQuery(K), KvValue(b"none of them"))], kv_model, None, 10_000)
    assert not verdict.ok
    assert not verdict.decided


def test_an_empty_game_part_starts_empty() -> None:
    assert check_part([call(0, 1, Guess(3), NO)], game_model, EMPTY_GAME, 100).ok
