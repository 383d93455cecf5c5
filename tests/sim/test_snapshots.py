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


def test_a_large_state_is_not_written_more_often_than_as_much_has_come() -> None:
    """Else every 64 MiB of log would cost a snapshot of whatever size, and large values many times theirs."""
    stage = Stage(nodes=3, snapshot_txns=1 << 30)
    stage.start()
    leader = stage.leader()
    node = stage[leader].node
    node.snapshot_bytes = 200
    taken: list[int] = []
    for _ in range(120):
        before = node.peer.history.snapshot
        stage.commit(leader)
        stage.play(50)
        if node.peer.history.snapshot > before:
            taken.append(node.peer.history.snapshot.counter)
    first, *_, last = (b - a for a, b in pairwise(taken))
    assert len(taken) >= 3 and last > 3 * first, "the state has grown, and so has the log between two snapshots"
