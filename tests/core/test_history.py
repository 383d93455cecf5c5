"""The index of a history: no hole, exact points of divergence, and nothing forgotten by purging (PROTOCOL 1.1, 5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.one import batch, chain, history
from zabzmq.core.errors import HistoryError
from zabzmq.core.history import EMPTY_MARK, Admit, Batch, EpochEnd, History, SnapshotMark
from zabzmq.core.zxid import ZERO, PeerId, Zxid


def ends(*pairs: tuple[int, int]) -> tuple[EpochEnd, ...]:
    return tuple(EpochEnd(*pair) for pair in pairs)


# ---- appending ---------------------------------------------------------------------------------------------------


def test_a_batch_ends_where_its_count_says() -> None:
    assert batch(3, 5, Zxid(3, 4), count=7).last == Zxid(3, 11)


@pytest.mark.parametrize(
    ("then", "why"),
    [
        pytest.param(batch(2, 3, Zxid(2, 1)), "a hole", id="a hole"),
        pytest.param(batch(2, 2, Zxid(2, 1)), "a repeat", id="a repeat"),
        pytest.param(batch(2, 4, Zxid(2, 2)), "a skipped counter", id="a skipped counter"),
        pytest.param(batch(3, 2, Zxid(2, 2)), "an epoch that starts at 2", id="an epoch that starts at 2"),
        pytest.param(batch(3, 0, Zxid(2, 2)), "counter 0 is no transaction", id="an epoch that starts at 0"),
        pytest.param(batch(1, 9, Zxid(2, 2)), "an earlier epoch", id="an earlier epoch"),
        pytest.param(batch(1, 1, Zxid(2, 2)), "an earlier epoch, anew", id="an earlier epoch from its start"),
        pytest.param(batch(2, 3, Zxid(2, 2), count=0), "an empty batch", id="an empty batch"),
        pytest.param(batch(3, 1, Zxid(2, 1)), "another branch", id="a new epoch from another branch"),
    ],
)
def test_what_does_not_follow_is_refused_and_changes_nothing(then: Batch, why: str) -> None:
    """HistoryContinuity, B3"""
    held = history((1, 1), (2, 2))
    before = held.copy()
    with pytest.raises(HistoryError):
        held.append(then)
    assert held == before, why


def test_epochs_may_be_skipped_and_counters_start_anew_in_each() -> None:
    held = history((1, 2), (4, 3), (9, 1))
    assert held.last == Zxid(9, 1)
    assert tuple(held.ends) == ends((1, 2), (4, 3), (9, 1))


def test_a_copy_shares_nothing() -> None:
    held = history((1, 2))
    other = held.copy()
    other.append(batch(1, 3, Zxid(1, 2), admit=Admit(PeerId(1), 5)))
    assert held == history((1, 2)) and other != held


# ---- truncating --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "left"),
    [
        pytest.param((2, 4), ((1, 5), (2, 4)), id="nothing"),
        pytest.param((2, 1), ((1, 5), (2, 1)), id="inside the last epoch"),
        pytest.param((1, 5), ((1, 5),), id="a whole epoch"),
        pytest.param((1, 2), ((1, 2),), id="across epochs"),
        pytest.param((0, 0), (), id="everything"),
    ],
)
def test_truncating_leaves_the_prefix(to: tuple[int, int], left: tuple[tuple[int, int], ...]) -> None:
    held = history((1, 5), (2, 4))
    held.truncate(Zxid(*to))
    assert held == history(*left)


@pytest.mark.parametrize("to", [(2, 5), (3, 1), (1, 6), (0, 1), (2, 0)])
def test_nothing_is_truncated_to_a_place_that_is_not_held(to: tuple[int, int]) -> None:
    held = history((1, 5), (2, 4))
    with pytest.raises(HistoryError):
        held.truncate(Zxid(*to))
    assert held == history((1, 5), (2, 4))


def test_nothing_is_truncated_below_the_base() -> None:
    held = history((1, 5), (2, 4), snapshot=(2, 3), base=(2, 2))
    with pytest.raises(HistoryError):
        held.truncate(Zxid(2, 1))
    held.truncate(Zxid(2, 2))
    assert held.last == Zxid(2, 2)


def test_truncating_forgets_the_admits_behind_it() -> None:
    held = History()
    for counter, life in ((1, 50), (2, 60)):
        held.append(batch(1, counter, held.last, admit=Admit(PeerId(2), life)))
    assert held.last_admit(PeerId(2)) == 60
    held.truncate(Zxid(1, 1))
    assert held.last_admit(PeerId(2)) == 50 and held.last_admit(PeerId(1)) is None


def test_the_history_goes_on_after_a_truncation() -> None:
    held = history((1, 5), (2, 4))
    held.truncate(Zxid(1, 3))
    held.append(batch(3, 1, Zxid(1, 3)))
    assert held == history((1, 3), (3, 1))


# ---- what is held ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zxid", "held"),
    [((0, 0), True), ((1, 1), True), ((1, 5), True), ((1, 6), False), ((1, 0), False), ((2, 1), False), ((3, 2), True)],
)
def test_a_place_is_held_if_it_lies_on_the_branch_purged_or_not(zxid: tuple[int, int], held: bool) -> None:
    assert history((1, 5), (3, 2)).holds(Zxid(*zxid)) is held
    assert history((1, 5), (3, 2), snapshot=(3, 1)).holds(Zxid(*zxid)) is held


def test_a_mark_tells_all_up_to_its_place_back_to_the_beginning() -> None:
    """L6"""
    held = History()
    for each in (batch(1, 1, ZERO), batch(1, 2, Zxid(1, 1), admit=Admit(PeerId(1), 9)), batch(3, 1, Zxid(1, 2), 5)):
        held.append(each)
    held.append(batch(3, 6, Zxid(3, 5), admit=Admit(PeerId(1), 10)))
    assert held.mark(Zxid(3, 5)) == SnapshotMark(Zxid(3, 5), ends((1, 2), (3, 5)), ((Zxid(1, 2), Admit(PeerId(1), 9)),))
    assert held.mark(Zxid(1, 1)) == SnapshotMark(Zxid(1, 1), ends((1, 1)), ())
    assert held.mark(ZERO) == EMPTY_MARK


def test_no_mark_is_made_of_a_place_that_is_not_held() -> None:
    with pytest.raises(HistoryError):
        history((1, 5)).mark(Zxid(1, 6))


def test_a_history_that_is_a_snapshot_goes_on_from_it() -> None:
    """L12"""
    index = History.at(history((1, 5), (3, 2)).mark(Zxid(3, 2)))
    assert (index.snapshot, index.base, index.last) == (Zxid(3, 2), Zxid(3, 2), Zxid(3, 2))
    index.append(batch(3, 3, Zxid(3, 2)))
    assert index.last == Zxid(3, 3) and tuple(index.ends) == ends((1, 5), (3, 3))


# ---- where two histories part --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "parted"),
    [
        pytest.param(((1, 5),), ((1, 5),), (1, 5), id="equal"),
        pytest.param(((1, 3),), ((1, 5), (2, 4)), (1, 3), id="behind on the same branch"),
        pytest.param(((1, 5), (2, 6)), ((1, 5), (2, 4)), (2, 4), id="ahead in our newest epoch"),
        pytest.param(((1, 7),), ((1, 5), (2, 4)), (1, 5), id="ahead in an old epoch"),
        pytest.param(((1, 5), (3, 2)), ((1, 5), (2, 4), (4, 1)), (1, 5), id="an epoch we never saw"),
        pytest.param(((1, 5), (3, 2)), ((1, 5), (4, 9)), (1, 5), id="diverged and overtaken numerically"),
        pytest.param(((1, 5),), ((1, 5), (4, 3)), (1, 5), id="a gap between epochs"),
        pytest.param((), ((1, 5),), (0, 0), id="empty"),
        pytest.param(((1, 5),), (), (0, 0), id="we are empty"),
        pytest.param(((2, 1),), ((3, 1),), (0, 0), id="nothing in common"),
        pytest.param(((1, 5), (2, 2), (3, 1)), ((1, 5), (2, 3)), (2, 2), id="ours went on where theirs ended"),
    ],
)
def test_the_point_of_divergence(
    theirs: tuple[tuple[int, int], ...], ours: tuple[tuple[int, int], ...], parted: tuple[int, int]
) -> None:
    """5.1, bug 11"""
    assert history(*ours).divergence(ends(*theirs)) == Zxid(*parted)


def test_transactions_are_counted_over_epochs() -> None:
    ours = history((1, 5), (3, 2), (4, 9))
    assert ours.count(ZERO, ZERO) == 0
    assert ours.count(ZERO, Zxid(4, 9)) == 16
    assert ours.count(Zxid(1, 5), Zxid(4, 1)) == 3
    assert ours.count(Zxid(1, 2), Zxid(1, 4)) == 2
    assert ours.count(Zxid(1, 4), Zxid(3, 2)) == 3


def test_the_point_of_divergence_is_exact_though_all_is_purged() -> None:
    purged = history((1, 5), (2, 4), (4, 1), snapshot=(4, 1))
    assert purged.divergence(ends((1, 7))) == Zxid(1, 5)
    assert purged.divergence(ends((1, 5), (3, 2))) == Zxid(1, 5)


@st.composite
def two_branches(draw: st.DrawFn) -> tuple[list[Zxid], list[Zxid]]:
    """Two histories as Zab makes them: a common stem, then leaderships of disjoint epochs on either side."""
    stem = draw(st.lists(st.integers(1, 4), max_size=3))
    left = draw(st.lists(st.integers(1, 4), max_size=3))
    right = draw(st.lists(st.integers(1, 4), max_size=3))
    epochs = iter(range(1, 20))
    common = [Zxid(e, c + 1) for n in stem for e in [next(epochs)] for c in range(n)]
    # One side may have more of the last common epoch: what its leader proposed and only it received.
    more = draw(st.integers(0, 3)) if common else 0
    extra = [Zxid(common[-1].epoch, common[-1].counter + 1 + i) for i in range(more)]
    rest: list[list[Zxid]] = [[], []]
    for side, counts in ((0, left), (1, right)):
        for n in counts:
            epoch = next(epochs)
            rest[side] += [Zxid(epoch, c + 1) for c in range(n)]
    return common + extra + rest[0], common + rest[1]


@given(two_branches())
def test_divergence_is_the_greatest_place_both_hold(branches: tuple[list[Zxid], list[Zxid]]) -> None:
    def index(zxids: list[Zxid]) -> History:
        made = History()
        for zxid in zxids:
            made.append(batch(*zxid, made.last))
        return made

    a, b = map(index, branches)
    shared = max(set(branches[0]) & set(branches[1]), default=ZERO)
    assert a.divergence(tuple(b.ends)) == shared == b.divergence(tuple(a.ends))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=12))
def test_the_index_says_what_a_list_of_batches_would(steps: list[tuple[int, int]]) -> None:
    made, listed = History(), []
    for skip, count in steps:
        last = made.last
        epoch = last.epoch + skip if last.epoch + skip else 1
        first = Zxid(epoch, last.counter + 1 if epoch == last.epoch else 1)
        each = Batch(first, last, count, 0, None, b"")
        made.append(each)
        listed.append(each)
    zxids = [Zxid(b.first.epoch, b.first.counter + i) for b in listed for i in range(b.count)]
    assert made.last == (zxids[-1] if zxids else ZERO)
    assert all(made.holds(zxid) for zxid in zxids)
    assert [max(z for z in zxids if z.epoch == e) for e in sorted({z.epoch for z in zxids})] == [
        Zxid(*end) for end in made.ends
    ]
    for each in reversed(listed):
        made.truncate(each.prev)
        assert made.last == each.prev
    assert made == History()


def test_chain_is_what_it_says() -> None:
    """The tests rest on it."""
    assert [str(b.last) for b in chain((1, 2), (3, 1))] == ["1.1", "1.2", "3.1"]
