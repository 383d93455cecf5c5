"""When nodes take snapshots of their own."""

from __future__ import annotations

from itertools import pairwise

from tests.sim.stage import Stage


def test_voters_take_their_snapshots_in_turn() -> None:
    """So that four of five have processor and disk for commits while one writes its state."""
    stage = Stage(nodes=5, snapshot_txns=20)
    stage.start()
    leader = stage.leader()
    taken: dict[int, list[int]] = {peer: [0] for peer in stage.peers}
    for _ in range(60):
        stage.commit(leader)
        stage.play(50)
        for peer in stage.peers:
            snapshot = stage[peer].node.peer.history.snapshot.counter
            if snapshot > taken[peer][-1]:
                taken[peer].append(snapshot)
    moments = sorted(moment for each in taken.values() for moment in each[1:])
    assert len(moments) >= 12 and len(set(moments)) == len(moments), "no two at once"
    for each in taken.values():
        assert {b - a for a, b in pairwise(each[1:])} == {20}, "as often as asked for"
