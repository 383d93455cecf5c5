"""The rule of the number game, move by move."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.machine.committed import History
from zabzmq.machine.operations import (
    GameQuery,
    GameState,
    Guess,
    Guessed,
    Put,
    Refused,
    Result,
    Target,
    TargetSet,
)


class Move(NamedTuple):
    by: str
    op: Target | Guess
    result: Result | str  # a str: refused with this code


def play(*moves: Move) -> History:
    history = History()
    sessions = {name: history.register(name) for name in ("alice", "bob", "carol")}
    for move in moves:
        (result,) = history.do(sessions[move.by], move.op)
        got = result.code if isinstance(result, Refused) else result
        assert got == move.result, move
    return history


OPEN = Move("alice", Target(50), TargetSet(50, 1))


@pytest.mark.parametrize(
    "moves",
    [
        pytest.param([OPEN], id="a target opens a round"),
        pytest.param([Move("bob", Guess(3), "no_round")], id="no guess before the first target"),
        pytest.param([OPEN, Move("bob", Target(7), "round_open")], id="no second target while a round is open"),
        pytest.param([OPEN, Move("alice", Target(7), "round_open")], id="not even by the one who opened it"),
        pytest.param(
            [OPEN, Move("bob", Target(7, True), TargetSet(7, 2)), Move("alice", Guess(8), Guessed(8, 1, True, False))],
            id="a new round on request, and its opener is who asked",
        ),
        pytest.param([OPEN, Move("alice", Guess(49), "own_guess")], id="the opener does not guess"),
        pytest.param([OPEN, Move("bob", Guess(90), Guessed(90, 40, True, False))], id="the first guess is closest"),
        pytest.param(
            [
                OPEN,
                Move("bob", Guess(40), Guessed(40, 10, True, False)),
                Move("carol", Guess(60), Guessed(40, 10, False, False)),
            ],
            id="a tie keeps the earlier guess",
        ),
        pytest.param(
            [
                OPEN,
                Move("bob", Guess(40), Guessed(40, 10, True, False)),
                Move("carol", Guess(30), Guessed(40, 20, False, False)),
                Move("carol", Guess(45), Guessed(45, 5, True, False)),
            ],
            id="distances are from the opening number, not from the moving target",
        ),
        pytest.param(
            [
                OPEN,
                Move("bob", Guess(50), Guessed(50, 0, True, True)),
                Move("carol", Guess(50), "no_round"),
                Move("bob", Target(9), TargetSet(9, 2)),
                Move("bob", Guess(9), "own_guess"),
                Move("alice", Guess(0), Guessed(0, 9, True, False)),
            ],
            id="an exact guess ends the round, and the next target opens another",
        ),
        pytest.param(
            [
                Move("alice", Target(0), TargetSet(0, 1)),
                Move("bob", Guess(100), Guessed(100, 100, True, False)),
                Move("bob", Guess(0), Guessed(0, 0, True, True)),
            ],
            id="both ends of the range",
        ),
    ],
)
def test_the_rule(moves: list[Move]) -> None:
    play(*moves)


def test_a_refusal_says_what_holds_and_what_to_do() -> None:
    history = play(OPEN)
    (refused,) = history.do(history.register("dan"), Target(47))
    assert refused == Refused("round_open", "a target is already set (50 by alice, 1.4). Use: client.py guess 47")


def test_the_text_names_who_set_the_present_target_and_where() -> None:
    history = play(OPEN, Move("bob", Guess(47), Guessed(47, 3, True, False)))
    (refused,) = history.do(history.register("dan"), Target(46))
    assert refused == Refused("round_open", "a target is already set (47 by bob, 1.5). Use: client.py guess 46")


def test_own_guess_goes_by_name_not_by_session() -> None:
    history = play(OPEN)
    (refused,) = history.do(history.register("alice"), Guess(49))
    assert isinstance(refused, Refused)
    assert refused.code == "own_guess"


def test_a_refused_guess_changes_nothing() -> None:
    history = play(OPEN)
    before = history.state.game.digest
    history.do(history.register("alice"), Guess(49), Target(3))
    assert history.state.game.digest == before


def test_moves_in_one_run_see_each_other_and_know_their_place() -> None:
    history = play(OPEN)
    dan = history.register("dan")
    results = history.do(dan, Put(b"k", b"v"), Guess(10), Guess(20), Guess(15), Put(b"k", b"w"), Target(1))
    assert results[1:4] == [Guessed(10, 40, True, False), Guessed(20, 30, True, False), Guessed(20, 35, False, False)]
    assert isinstance(results[5], Refused)
    assert "(20 by dan, 1.8)" in results[5].text  # 1.5 registered dan, 1.6 put


def test_the_state_before_any_round_is_empty() -> None:
    assert History().state.query([GameQuery()]) == [GameState(0, False, None, None, None, None, None)]


def test_the_secret_is_told_on_request_only() -> None:
    state = play(OPEN, Move("bob", Guess(47), Guessed(47, 3, True, False))).state
    assert state.query([GameQuery()]) == [GameState(1, True, 47, "bob", "alice", 3, None)]
    assert state.query([GameQuery(reveal=True)]) == [GameState(1, True, 47, "bob", "alice", 3, 50)]
    shown = {"round": 1, "open": True, "target": 47, "owner": "bob", "opener": "alice", "closest": 3}
    assert state.game_status() == shown
    assert state.game_status(reveal=True) == {**shown, "secret": 50}
