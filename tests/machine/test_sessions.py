"""Exactly once: what the table of sessions remembers, drops and refuses (C2, C3)."""

from __future__ import annotations

import pytest

from tests.machine.committed import History, restored, run
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    Cas,
    Gone,
    Guess,
    KvQuery,
    KvValue,
    Operation,
    Put,
    Refused,
    Register,
    Registered,
    Target,
    decode_results,
    encode,
)
from zabzmq.machine.sessions import RESULT_BYTES_KEPT, RESULTS_KEPT, Piece, Sessions, is_printable


def increments(first: int, count: int) -> list[Operation]:
    """Compare-and-sets that count: applied twice they would refuse, applied out of order too."""
    return [Cas(b"n", str(n).encode() if n else None, str(n + 1).encode()) for n in range(first, first + count)]


def counted(history: History) -> bytes | None:
    (answer,) = history.state.query([KvQuery(b"n")])
    assert isinstance(answer, KvValue)
    return answer.value


def test_a_session_is_named_by_the_zxid_of_its_registration() -> None:
    history = History()
    alice = history.register("alice")
    bob = history.register("bob")
    assert (alice, bob) == ((1, 1), (1, 2))
    sessions = history.state.sessions
    assert [sessions.name(s) for s in (alice, bob, (9, 9))] == ["alice", "bob", None]
    assert [sessions.expected(s) for s in (alice, bob, (9, 9))] == [1, 1, None]
    assert len(sessions) == 2


@pytest.mark.parametrize(
    ("seq", "count", "total", "repeated"),
    [
        pytest.param(4, 2, 5, 0, id="next"),
        pytest.param(1, 3, 3, 3, id="the very same run again"),
        pytest.param(2, 1, 3, 1, id="one of them again"),
        pytest.param(2, 4, 5, 2, id="overlapping: the rest is new"),
        pytest.param(1, 5, 5, 3, id="all of it and more"),
    ],
)
def test_an_operation_is_executed_once(seq: int, count: int, total: int, repeated: int) -> None:
    history = History()
    alice = history.register("alice")
    assert history.do(alice, *increments(0, 3)) == [None] * 3
    (applied,) = history.commit(run(alice, seq, *increments(seq - 1, count)))
    assert counted(history) == str(total).encode()
    assert decode_results(applied.results) == [None] * count
    assert (applied.repeated, applied.why, applied.name) == (repeated, "", "alice")
    assert history.state.sessions.expected(alice) == total + 1
    assert history.state.digest == history.state.full_digest()


def test_a_repeat_returns_the_stored_result_whatever_holds_now() -> None:
    history = History()
    alice, bob = history.register("alice"), history.register("bob")
    first = history.do(alice, Target(50), Cas(b"k", b"x", b"y"))
    history.do(bob, Guess(50), Put(b"k", b"x"))
    assert history.results(run(alice, 1, Target(50), Cas(b"k", b"x", b"y"))) == first
    assert history.state.query([KvQuery(b"k")]) == [KvValue(b"x")]


def test_repeats_in_one_batch_are_found_too() -> None:
    history = History()
    alice = history.register("alice")
    again = run(alice, 1, *increments(0, 2))
    applied = history.commit(again, again, run(alice, 2, *increments(1, 2)))
    assert [each.repeated for each in applied] == [0, 2, 1]
    assert counted(history) == b"3"


def test_a_session_that_is_unknown_is_refused_and_nothing_is_done() -> None:
    history = History()
    (applied,) = history.commit(run((7, 7), 1, Put(b"k", b"v"), Put(b"l", b"v")))
    results = decode_results(applied.results)
    assert [r.code for r in results if isinstance(r, Refused)] == ["expired_client"] * 2
    assert (applied.why, applied.name) == ("expired_client", "")
    assert history.state.query([KvQuery(b"k")]) == [KvValue(None)]


def test_a_run_beyond_the_expected_one_is_refused_and_not_recorded() -> None:
    history = History()
    alice = history.register("alice")
    before = history.state.digest
    (applied,) = history.commit(run(alice, 3, Put(b"k", b"v")))
    assert applied.why == "seq_gap"
    assert history.state.digest == before
    assert history.do(alice, *increments(0, 3)) == [None] * 3, "the operations it left out are still to come"


def test_what_is_acked_is_forgotten_and_a_repeat_of_it_says_so() -> None:
    history = History()
    alice = history.register("alice")
    history.do(alice, *increments(0, 2))
    history.do(alice, *increments(2, 2))
    history.do(alice, *increments(4, 1), acked=3)
    assert history.results(run(alice, 1, *increments(0, 5))) == [Gone(), Gone(), None, None, None]
    assert counted(history) == b"5"


def test_a_run_that_is_acked_in_part_is_kept_whole() -> None:
    history = History()
    alice = history.register("alice")
    history.do(alice, *increments(0, 3))
    history.do(alice, *increments(3, 1), acked=3)
    assert history.state.sessions.stored(alice, 1, 3) == [Piece(1, 3, Zxid(1, 2), encode([None] * 3))]


def test_stored_results_come_in_pieces_with_their_places() -> None:
    history = History()
    alice = history.register("alice")
    history.do(alice, *increments(0, 3))  # 1.2 to 1.4
    history.epoch = 2
    history.do(alice, *increments(3, 2))  # 2.1, 2.2
    stored = history.state.sessions.stored
    nil, nils = encode([None]), encode([None] * 2)
    assert stored(alice, 2, 3) == [Piece(2, 2, Zxid(1, 3), nils), Piece(4, 1, Zxid(2, 1), nil)]
    assert stored(alice, 5, 1) == [Piece(5, 1, Zxid(2, 2), nil)]
    history.do(alice, *increments(5, 1), acked=4)
    assert stored(alice, 3, 3) == [Piece(3, 1, ZERO, encode([Gone()])), Piece(4, 2, Zxid(2, 1), nils)]


def test_a_client_that_acks_nothing_keeps_a_bounded_number_of_results() -> None:
    history = History()
    alice = history.register("alice")
    total = RESULTS_KEPT // 100 * 100 + 400
    for n in range(0, total, 100):
        history.do(alice, *increments(n, 100))
    pieces = history.state.sessions.stored(alice, 1, total)
    assert pieces[0] == Piece(1, 400, ZERO, encode([Gone()] * 400))
    assert sum(piece.count for piece in pieces[1:]) == RESULTS_KEPT // 100 * 100, "runs are dropped whole"
    assert history.state.digest == history.state.full_digest()


def test_stored_results_are_bounded_in_bytes_but_the_newest_run_is_kept() -> None:
    table = Sessions()
    alice = table.register("alice", Zxid(1, 1))
    for n in range(4):
        entry = table.get(alice)
        assert entry is not None
        table.record(entry, 0, Zxid(1, 2 + n), 1, bytes(RESULT_BYTES_KEPT // 2 if n < 3 else RESULT_BYTES_KEPT * 2))
        assert table.digest == table.full_digest()
    assert [len(piece.results) > 100 for piece in table.stored(alice, 1, 4)] == [False, True]


def test_the_least_recently_used_session_makes_room() -> None:
    history = History(max_clients=3)
    alice, bob, carol = (history.register(name) for name in ("alice", "bob", "carol"))
    history.do(alice, Put(b"k", b"v"))
    dan = history.register("dan")
    assert [history.state.sessions.expected(s) for s in (alice, bob, carol, dan)] == [2, None, 1, 1]
    assert len(history.state.sessions) == 3
    assert history.state.digest == history.state.full_digest()
    (applied,) = history.commit(run(bob, 1, Put(b"k", b"bob")))
    assert applied.why == "expired_client", "a retry of an expired client is never a second execution"


def test_a_repeat_counts_as_use() -> None:
    history = History(max_clients=2)
    alice, bob = history.register("alice"), history.register("bob")
    history.do(alice, Put(b"k", b"v"))
    history.do(bob, Put(b"k", b"v"))
    history.results(run(alice, 1, Put(b"k", b"v")))
    history.register("carol")
    assert [history.state.sessions.expected(s) for s in (alice, bob)] == [2, None]


def test_who_is_expired_next_survives_a_snapshot_and_is_part_of_the_digest() -> None:
    history = History(max_clients=2)
    alice, bob = history.register("alice"), history.register("bob")
    history.do(alice, Put(b"k", b"v"))
    before = history.state.digest
    history.commit(run(bob, 1), run(alice, 1, Put(b"k", b"v")))  # heard of both, nothing new
    assert history.state.digest != before
    copy = restored(history.state, max_clients=2)
    batch = history.batch(run(NO_SESSION, 0, Register("carol")))
    for state in (history.state, copy):
        state.apply(batch)
        assert [state.sessions.expected(s) for s in (alice, bob)] == [2, None]
    assert copy.digest == history.state.digest


@pytest.mark.parametrize(
    ("session_of_alice", "op", "code"),
    [
        pytest.param(True, Register("mallory"), "not_in_session", id="register inside a session"),
        pytest.param(False, Put(b"k", b"v"), "no_session", id="put outside a session"),
        pytest.param(False, Register("tab\tname"), "bad_name", id="a name that is not printable"),
    ],
)
def test_what_no_service_lets_through_is_refused_in_apply_as_well(
    session_of_alice: bool, op: Operation, code: str
) -> None:
    history = History()
    alice = history.register("alice")
    (result,) = history.results(run(alice, 1, op) if session_of_alice else run(NO_SESSION, 0, op))
    assert isinstance(result, Refused)
    assert result.code == code
    assert len(history.state.sessions) == 1
    assert history.state.query([KvQuery(b"k")]) == [KvValue(None)]


def test_registrations_of_one_run_are_each_a_session() -> None:
    history = History()
    results = history.results(run(NO_SESSION, 0, Register("a"), Register("b")))
    assert results == [Registered((1, 1)), Registered((1, 2))]


@pytest.mark.parametrize(
    ("name", "printable"),
    [("alice", True), ("Łukasz 王", True), ("a b", True), ("a\nb", False), ("\x7f", False), ("a\u202eb", False),
     ("\u2028", False), ("\u200b", False), ("\ufeff", False), ("\u0085", False)],
)  # fmt: skip
def test_names_are_printable(name: str, printable: bool) -> None:
    assert is_printable(name) is printable
