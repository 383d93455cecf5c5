"""The whole replicated state: batches in, digests, snapshots, and the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine.committed import History, replayed, restored, run, snapped
from zabzmq.core.errors import StorageError
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    Cas,
    Delete,
    GameQuery,
    Guess,
    KvQuery,
    KvValue,
    Operation,
    Put,
    Query,
    Register,
    SealedRun,
    SessionId,
    Target,
    encode,
)
from zabzmq.machine.state import CorruptBatch, ReplicatedState

NAMES = ("alice", "bob", "carol")
KEYS = st.sampled_from([b"a", b"b", b""])
VALUES = st.sampled_from([b"", b"1", b"22"])
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, VALUES),
    st.builds(Delete, KEYS),
    st.builds(Cas, KEYS, st.none() | VALUES, VALUES),
    st.builds(Target, st.integers(0, 100), st.booleans()),
    st.builds(Guess, st.integers(0, 100)),
)
# Who (3: a new registration), how many seqs back or ahead of the expected one, how much is acked, what.
STEPS = st.tuples(st.integers(0, 3), st.integers(-3, 1), st.integers(0, 8), st.lists(OPERATIONS, max_size=4))


def played(steps: list[tuple[int, int, int, list[Operation]]], max_clients: int = 3) -> History:
    """Runs in order, repeated, overlapping and with gaps, three to a batch at most, sessions coming and going."""
    history = History(max_clients)
    sessions = [history.register(name) for name in NAMES]
    runs: list[SealedRun] = []
    for who, shift, acked, ops in steps:
        if who == len(sessions):
            runs.append(run(NO_SESSION, 0, Register(f"guest-{len(history.batches)}")))
        else:
            expected = history.state.sessions.expected(sessions[who]) or 1
            runs.append(run(sessions[who], max(0, expected + shift), *ops, acked=acked))
        if len(runs) == 3 or shift == 0:
            history.commit(*runs)
            runs = []
    return history


@given(st.lists(STEPS, max_size=25))
def test_the_digest_kept_is_the_digest_recomputed(steps: list[tuple[int, int, int, list[Operation]]]) -> None:
    state = played(steps).state
    assert state.digest == state.full_digest()
    assert state.sessions.digest == state.sessions.full_digest()
    assert state.kv.digest == state.kv.full_digest()


@given(st.lists(STEPS, max_size=15), st.lists(STEPS, max_size=10))
def test_a_snapshot_makes_an_equal_state_that_goes_on_equally(
    before: list[tuple[int, int, int, list[Operation]]], after: list[tuple[int, int, int, list[Operation]]]
) -> None:
    whole = played(before + after)
    half = played(before)
    copy = restored(half.state, max_clients=3)
    assert (copy.digest, copy.full_digest(), copy.applied) == (half.state.digest, half.state.digest, half.last)
    assert snapped(copy) == snapped(half.state)
    fresh = replayed(half, max_clients=3)
    for batch in whole.batches[len(half.batches) :]:
        assert copy.apply(batch) == fresh.apply(batch)
        assert copy.digest == fresh.digest
    queries: list[Query] = [GameQuery(True), KvQuery(b"a"), KvQuery(b"b"), KvQuery(b"")]
    assert copy.query(queries) == fresh.query(queries)


@given(st.lists(STEPS, max_size=20))
def test_two_nodes_that_applied_the_same_hold_the_same(steps: list[tuple[int, int, int, list[Operation]]]) -> None:
    history = played(steps)
    other = replayed(history, max_clients=3)
    assert other.digest == history.state.digest
    assert snapped(other) == snapped(history.state)


def test_a_repeat_after_a_snapshot_is_still_a_repeat() -> None:
    """Catches a table of sessions that is left out of the snapshot."""
    history = History()
    alice = history.register("alice")
    increment = run(alice, 1, Cas(b"n", None, b"1"), Put(b"k", b"v"))
    first = history.results(increment)
    copy = restored(history.state)
    assert copy.sessions.expected(alice) == 3
    batch = history.batch(run(alice, 1, Cas(b"n", None, b"1"), Put(b"k", b"other")))
    (applied,) = copy.apply(batch)
    assert (applied.repeated, applied.results) == (2, encode(first))
    assert copy.query([KvQuery(b"k")]) == [KvValue(b"v")]


def test_the_table_of_sessions_is_in_the_digest() -> None:
    one, other = History(), History()
    one.register("alice")
    other.register("bob")
    assert one.state.digest != other.state.digest
    bare = ReplicatedState()
    bare.restore(b"".join(ReplicatedState().snapshot()))
    assert bare.digest != one.state.digest


def test_the_digest_is_of_the_state_and_not_of_the_log() -> None:
    """Two sessions put in another order: other zxids for the same keys, the same kv; and an admission is no state."""
    history = History()
    alice = history.register("alice")
    history.do(alice, Put(b"k", b"v"))
    before, at = history.state.digest, history.state.applied
    assert history.admit() == []
    assert history.state.applied == Zxid(at.epoch, at.counter + 1)
    assert history.state.digest == before
    history.do(alice, Put(b"k", b"w"))
    assert history.state.digest != before


def test_every_single_change_shows_in_the_digest() -> None:
    history = History()
    alice, bob = history.register("alice"), history.register("bob")
    seen = {history.state.digest}
    moves: list[tuple[SessionId, Operation]] = [
        (alice, Put(b"k", b"v")),
        (alice, Put(b"k", b"w")),
        (bob, Target(50)),
        (alice, Guess(40)),
        (alice, Guess(39)),  # farther: the game stays, but one more operation was applied
        (alice, Delete(b"k")),
        (alice, Delete(b"k")),
    ]
    for session, op in moves:
        history.do(session, op)
        seen.add(history.state.digest)
    assert len(seen) == 8


def test_batches_are_applied_in_order_only() -> None:
    history = History()
    history.register("alice")
    late = history.batch(run(NO_SESSION, 0, Register("bob")))
    with pytest.raises(AssertionError, match=r"applied is 0\.0"):
        ReplicatedState().apply(late)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        pytest.param(b"", 1, id="nothing"),
        pytest.param(b"\xc1", 1, id="no MessagePack"),
        pytest.param(encode([run((1, 1), 1, Put(b"k", b"v"))])[:-1], 1, id="cut"),
        pytest.param(encode([run((1, 1), 1, Put(b"k", b"v"))]) + b"\xc0", 1, id="more behind it"),
        pytest.param(encode([[[1, 1], 1, 0, [["kv.drop", b"k"]]]]), 1, id="an unknown operation"),
        pytest.param(encode([[[1, 1], 1, 0, [["game.guess", 101]]]]), 1, id="a value out of range"),
        pytest.param(encode([run((1, 1), 1, Put(b"k", b"v"))]), 2, id="fewer operations than proposed"),
        pytest.param(encode([run((1, 1), 1, Put(b"k", b"v"), Put(b"k", b"v"))]), 1, id="more than proposed"),
    ],
)
def test_a_batch_that_cannot_be_opened_is_named_and_changes_nothing(data: bytes, count: int) -> None:
    history = History()
    history.register("alice")
    before = snapped(history.state)
    with pytest.raises(CorruptBatch, match=r"batch 1\.2"):
        history.state.apply(history.batch(data=data, count=count))
    assert snapped(history.state) == before


def whole_snapshot() -> bytes:
    history = History()
    alice = history.register("alice")
    history.do(alice, Put(b"key", b"value"), Target(50))
    return b"".join(history.state.snapshot())


def test_a_snapshot_of_the_empty_state_is_the_empty_state() -> None:
    copy = restored(ReplicatedState())
    assert (copy.applied, copy.digest) == (ZERO, ReplicatedState().digest)


def test_a_damaged_snapshot_is_refused_wherever_the_damage_is() -> None:
    data = whole_snapshot()
    for cut in range(len(data)):
        with pytest.raises(StorageError, match="snapshot state"):
            ReplicatedState().restore(data[:cut])
    with pytest.raises(StorageError, match="snapshot state"):
        ReplicatedState().restore(data + b"\xc0")
    with pytest.raises(StorageError, match="starts with"):
        ReplicatedState().restore(b"X" + data[1:])
    with pytest.raises(StorageError, match="digest"):
        ReplicatedState().restore(data.replace(b"value", b"valve"))
    with pytest.raises(StorageError, match="digest"):
        ReplicatedState().restore(data.replace(b"alice", b"alicf", 1))
    with pytest.raises(StorageError, match="KvMachine"):
        ReplicatedState().restore(data.replace(b"\xc4\x03key", b"\xc1\x03key"))


SCRIPT = """
from tests.machine.committed import History, run
from zabzmq.machine.operations import *
history = History(max_clients=5)
ids = [history.register(f"client-{n}") for n in range(8)]
for n in range(60):
    session = ids[n * 7 % 8]
    ops = [Put(b"k%d" % (n * 5 % 11), b"v%d" % n), Delete(b"k%d" % (n % 11)), Target(n), Guess(n * 31 % 101)]
    history.commit(run(session, history.state.sessions.expected(session) or 1, *ops, acked=n // 16))
import hashlib
print(hashlib.sha256(b"".join(history.state.snapshot())).hexdigest(), history.state.digest)
"""


def test_the_same_whatever_the_seed_of_python_hashes() -> None:
    root = Path(__file__).parents[2]
    said = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(said) == 1
