"""When a set of voters is a quorum, and what a quorum has reached (B4)."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, PeerId, Zxid


def voters(count: int) -> Voters:
    return Voters(tuple(PeerId(i) for i in range(count)))


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (9, 5)])
def test_a_quorum_is_more_than_half_of_the_configured_voters(count: int, needed: int) -> None:
    ids = voters(count).ids
    assert voters(count).needed == needed
    assert voters(count).is_quorum(ids[:needed])
    assert not voters(count).is_quorum(ids[: needed - 1])


@pytest.mark.parametrize("count", range(1, 8))
def test_any_two_quorums_share_a_voter(count: int) -> None:
    all_ids = voters(count).ids
    sets = chain.from_iterable(combinations(all_ids, size) for size in range(count + 1))
    quorums = [set(each) for each in sets if voters(count).is_quorum(each)]
    assert all(a & b for a in quorums for b in quorums)


def test_strangers_and_repeats_do_not_count() -> None:
    three = voters(3)
    assert not three.is_quorum([PeerId(0), PeerId(0), PeerId(0)])
    assert not three.is_quorum([PeerId(0), PeerId(7), PeerId(8)])


@pytest.mark.parametrize("ids", [(), (1, 0), (0, 0, 1)])
def test_voters_are_some_distinct_and_ascending(ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="voter"):
        Voters(tuple(PeerId(i) for i in ids))


@pytest.mark.parametrize(
    ("count", "acked", "reached"),
    [
        pytest.param(1, {0: 4}, 4, id="alone"),
        pytest.param(3, {0: 9}, 0, id="one of three is nothing"),
        pytest.param(3, {0: 9, 1: 5}, 5, id="the second of three"),
        pytest.param(3, {0: 9, 1: 5, 2: 7}, 7, id="the middle of three"),
        pytest.param(4, {0: 9, 1: 8}, 0, id="two of four are nothing"),
        pytest.param(4, {0: 9, 1: 8, 2: 3}, 3, id="the third of four"),
        pytest.param(5, {0: 9, 1: 8, 2: 3, 3: 1}, 3, id="the third of five"),
        pytest.param(3, {0: 9, 7: 9, 8: 9}, 0, id="strangers reached nothing"),
    ],
)
def test_what_a_quorum_has_reached(count: int, acked: dict[int, int], reached: int) -> None:
    zxids = {PeerId(i): Zxid(1, counter) for i, counter in acked.items()}
    assert voters(count).quorum_th_largest(zxids) == (Zxid(1, reached) if reached else ZERO)


@given(
    count=st.integers(1, 7),
    acked=st.dictionaries(
        st.integers(0, 8).map(PeerId), st.builds(Zxid, st.integers(0, 3), st.integers(0, 3)), max_size=9
    ),
)
def test_a_quorum_holds_what_is_reached_and_nothing_more(count: int, acked: dict[PeerId, Zxid]) -> None:
    reached = voters(count).quorum_th_largest(acked)
    assert reached == ZERO or voters(count).is_quorum([p for p, z in acked.items() if z >= reached])
    assert not voters(count).is_quorum([p for p, z in acked.items() if z > reached])
