"""Mutated frames at running nodes end nothing, change nothing, and commits go on: the short form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.real import RealCluster
from tests.fuzz.cluster import throw

GROWTH_MIB = 64


@pytest.fixture
def three(tmp_path: Path) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path, nodes=3)
    try:
        yield made
    finally:
        made.close()  # looks for tracebacks


@pytest.mark.parametrize("voters", [False, True], ids=["strangers", "in the names of voters"])
def test_nothing_that_is_thrown_at_a_node_ends_it_or_stops_commits(three: RealCluster, voters: bool) -> None:
    thrown = throw(three, seed=11, frames=4500, voters=voters, tell=lambda thrown: None)
    print(f"\n{thrown.total} frames: {dict(thrown.frames)}, {thrown.commits} commits meanwhile, {thrown.memory_mib}")
    assert thrown.total >= 4500 and thrown.commits > 20
    for node, (before, after) in thrown.memory_mib.items():
        assert after - before < GROWTH_MIB, f"node {node} grew from {before:.0f} to {after:.0f} MiB"
