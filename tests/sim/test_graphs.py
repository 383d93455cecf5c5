"""Partial reachability (bug 39): the short form of the sweep over all link graphs, `python -m tests.sim.graphs`."""

from __future__ import annotations

import pytest

from tests.sim.graphs import sweep

HARD = (59, 87, 155, 211, 279, 307, 634, 700, 746, 748, 1023)
"""A majority is connected pair by pair and nobody led: a better candidate stood outside, or two took turns."""
SPARSE = (0, 1, 11, 36, 448)


@pytest.mark.parametrize("graph", HARD)
def test_a_connected_majority_leads_and_commits(graph: int) -> None:
    (found,) = sweep([graph])
    assert found.clique and not found.violations
    assert found.committed_after is not None


@pytest.mark.parametrize("graph", SPARSE)
def test_without_one_no_promise_is_broken(graph: int) -> None:
    (found,) = sweep([graph], patience=3000)
    assert not found.clique and not found.violations
