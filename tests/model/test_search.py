"""Everything that may happen to three peers within a small budget: the short form of `python -m tests.model`."""

from __future__ import annotations

import pytest

from tests.model.copies import name_of
from tests.model.search import Search, Violation
from tests.model.world import Budget, World
from tests.mutants.inplace import breakage


def test_in_the_orderly_run_a_request_is_delivered_by_all() -> None:
    world = World.served()
    budget = Budget(0, 1, 0, 0)
    while moves := world.moves(budget):
        if moves[0].what == "request":
            budget = budget._replace(requests=0)
        world.make(moves[0])
    assert len({tuple(delivered) for delivered in world.delivered.values()}) == 1
    assert len(world.delivered[0]) == 1


def test_two_ways_to_one_state_give_it_one_name() -> None:
    """Two followers write what they were sent: whoever ends first."""
    names = []
    for order in (0, -1):
        world = World.served()
        world.make(next(move for move in world.moves(Budget(0, 1, 0, 0)) if move.what == "request"))
        while len(arrive := [m for m in world.moves(Budget(0, 0, 0, 9)) if m.what == "deliver"]) > 1:
            world.make(arrive[order])
        for move in (m for m in world.moves(Budget(0, 0, 0, 9)) if m.what == "deliver"):
            world.make(move)
        names.append(world.name())
    assert names[0] == names[1]
    assert world.name() != World.served().name()


def test_a_copy_goes_its_own_way() -> None:
    """Through a crash, a cut and an election: no step of the copy is seen in what it was copied from."""
    budget = Budget(1, 1, 1, 0)
    world = World.served()
    for number in range(80):
        moves = world.moves(budget)
        if not moves:
            break
        before, named = world.name(), name_of(dict(world.peers))
        for move in moves:
            world.copy().make(move)
        assert (world.name(), name_of(dict(world.peers))) == (before, named)
        wanted = ("request", "crash", "start", "cut", "heal")[number // 16]
        move = next((m for m in moves if m.what == wanted), moves[0])
        world = world.copy()
        world.make(move)
        budget = budget.after(move, is_orderly=True) or budget
    assert budget == Budget(0, 0, 0, 0) and number > 70


def test_every_order_of_one_transaction_within_two_deviations_keeps_every_promise() -> None:
    found = Search(Budget(crashes=0, requests=1, cuts=0, deviations=2)).run()
    assert found.complete and found.ends >= 1 and found.states > 30


@pytest.mark.parametrize(
    "budget", [Budget(1, 1, 0, 0), Budget(0, 1, 1, 0)], ids=["a crash", "one of three cut off and back"]
)
def test_within_a_dozen_moves_every_promise_is_kept(budget: Budget) -> None:
    found = Search(budget, states_max=1200).run()
    assert found.states >= 1200 and found.deepest > 10


@pytest.mark.parametrize(
    ("mutant", "broken", "budget"),
    [
        pytest.param("commit at a minority", "CommitSafety", Budget(0, 1, 0, 0), id="B4"),
        pytest.param("ack before sync", "DurableBeforeAck", Budget(0, 1, 0, 0), id="1.3"),
        pytest.param("no epoch check on ack", "CommitSafety", Budget(1, 1, 0, 0), id="section 6"),
    ],
)
def test_a_broken_rule_is_found_with_the_fewest_moves_that_show_it(mutant: str, broken: str, budget: Budget) -> None:
    with breakage(mutant)(), pytest.raises(Violation, match=rf"{broken}.*\nafter \d+ moves: "):
        Search(budget, states_max=3000).run()
