"""The short form of `python -m tests.chaos`: one episode, some of the acts."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.fire import Episode

ACTS = ["power cut of all", "pause the leader", "cut off the leader", "kill a minority", "cut one way", "failing sync"]


def test_under_fire_nothing_is_lost_and_a_majority_goes_on(tmp_path: Path) -> None:
    burnt = Episode(tmp_path, seed=5).run(ACTS)
    print(f"\n{burnt}")
    assert burnt.acknowledged > 100
