"""Encoding in little steps: the same bytes as at once, of the moment it was asked for."""

from __future__ import annotations

import pytest

from tests.machine.committed import History
from zabzmq.machine.operations import Delete, Put, encode
from zabzmq.machine.pieces import PIECE_BYTES, array_pieces, map_pieces
from zabzmq.machine.state import ReplicatedState


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 47, 48, 4095, 65_535, 65_536, 70_001])
def test_pieces_are_the_bytes_of_the_whole(count: int) -> None:
    items = {b"%d" % i: b"v" * (i % 50) for i in range(count)}
    assert b"".join(map_pieces(items)) == encode(items)
    assert b"".join(array_pieces(list(items))) == encode(list(items))


@pytest.mark.parametrize("size", [1, 1000, 60_000, 1 << 20])
def test_no_piece_is_much_larger_than_asked_for(size: int) -> None:
    items = {b"%d" % i: bytes(size) for i in range(200)}
    sizes = [len(piece) for piece in map_pieces(items)]
    assert max(sizes[2:]) <= max(4 * PIECE_BYTES, 8 * (size + 10)), "only the first one cannot know how large they are"


def test_a_snapshot_is_of_the_moment_it_was_asked_for() -> None:
    """L6: exact at one zxid, however much is applied before its last piece is encoded."""
    history = History()
    alice = history.register("alice")
    for key in range(100):
        history.do(alice, Put(b"%d" % key, b"old"))
    digest, applied = history.state.digest, history.state.applied
    pieces = history.state.snapshot()
    begun = [next(pieces) for _ in range(3)]
    for key in range(0, 100, 2):
        history.do(alice, Put(b"%d" % key, b"new"), Delete(b"%d" % (key + 1)), acked=50)
    history.register("bob")
    copy = ReplicatedState()
    copy.restore(b"".join([*begun, *pieces]))
    assert (copy.applied, copy.digest, copy.full_digest()) == (applied, digest, digest)


def test_work_on_a_snapshot_comes_in_stretches() -> None:
    state = ReplicatedState()
    state.kv._items = {b"%d" % i: bytes(1000) for i in range(2000)}
    pieces = list(state.snapshot())
    assert sum(not piece for piece in pieces) > 10
    assert all(not piece for piece in pieces[:10]), "all is encoded before the header can be told"
