"""One session's chain: numbers, doubt, and what may be sent again. No sockets, no clock."""

from __future__ import annotations

import pytest
from msgspec import Raw

from zabzmq.client.call import Call, Calls, Outcome
from zabzmq.client.session import NEVER, PATIENCE_MS, SUBMIT_BYTES_MAX, Session
from zabzmq.machine.operations import Gone, Put, Refused, Result, decode_operations, encode
from zabzmq.net.client_wire import Done, No, Submit

ID = (3, 5)


def session_of(count: int, deadline: float = 5_000.0) -> tuple[Session, Calls]:
    """A registered session with this many operations placed in it."""
    session = Session("ann", None)
    session.identity = ID
    calls = [Call(Put(b"k%d" % i, b"v"), 0.0, deadline) for i in range(count)]
    session.take(calls)
    return session, calls


def done(seq: int, *results: Result, zxid: tuple[int, int] = (3, 10)) -> Done:
    return Done(0, ID, seq, zxid, [0, 1], Raw(encode(results)))


def no(why: str, seq: int, count: int = 1, expected: int | None = None, retry_ms: int | None = None) -> No:
    return No(0, ID, seq, count, why, why, None, expected, retry_ms)


def sent(submits: list[Submit]) -> list[tuple[int, int]]:
    """(first number, how many) of each message."""
    return [(submit.seq, len(decode_operations(submit.ops))) for submit in submits]


def test_numbers_start_at_one_and_follow_each_other() -> None:
    session, calls = session_of(3)
    assert [call.seq for call in calls] == [1, 2, 3]
    assert sent(session.submits(0.0)) == [(1, 3)]
    assert session.submits(0.0) == [], "nothing is sent twice without a reason"


def test_results_are_given_to_their_operations_in_order() -> None:
    session, calls = session_of(3)
    session.submits(0.0)
    ended = session.on_done(done(1, None, Refused("x", "no"), Gone()), 2, 7.0)
    assert ended == calls
    assert [call.outcome for call in calls] == [Outcome.OK, Outcome.REFUSED, Outcome.OK]
    assert [call.zxid for call in calls] == [(3, 10), (3, 11), (3, 12)]
    assert [call.ms for call in calls] == [7.0] * 3
    assert not session.chain and session.patience_at == NEVER


def test_a_place_that_is_no_longer_known_is_none() -> None:
    session, calls = session_of(1)
    session.submits(0.0)
    session.on_done(done(1, Gone(), zxid=(0, 0)), 0, 1.0)
    assert (calls[0].outcome, calls[0].zxid) == (Outcome.OK, None)


@pytest.mark.parametrize("repeat", [(1, 2), (1, 3), (2, 2)])
def test_repeated_and_overlapping_answers_change_nothing(repeat: tuple[int, int]) -> None:
    session, calls = session_of(4)
    session.submits(0.0)
    session.on_done(done(1, None, None), 0, 1.0)
    seq, count = repeat
    ended = session.on_done(done(seq, *[None] * count), 0, 2.0)
    assert [call.seq for call in ended] == [n for n in range(seq, seq + count) if n > 2]
    assert [call.finished for call in calls[:2]] == [1.0, 1.0]
    assert session.base == 3 + len(ended)


def test_answers_out_of_order_wait_for_those_before_them() -> None:
    session, calls = session_of(3)
    session.submits(0.0)
    assert session.on_done(done(3, None), 0, 1.0) == [calls[2]]
    assert session.base == 1
    session.on_done(done(1, None, None), 0, 2.0)
    assert session.base == 4 and not session.chain


def test_acked_is_the_first_number_that_is_not_final() -> None:
    session, _ = session_of(2)
    (first,) = session.submits(0.0)
    assert first.acked == 1
    session.on_done(done(1, None, None), 0, 1.0)
    session.take([Call(Put(b"k", b"v"), 0.0, 5_000.0)])
    (second,) = session.submits(1.0)
    assert (second.seq, second.acked) == (3, 3)


def test_a_message_stays_below_its_limit_but_carries_at_least_one_operation() -> None:
    session = Session("ann", None)
    session.identity = ID
    size = SUBMIT_BYTES_MAX // 3
    session.take([Call(Put(b"k", b"v" * size), 0.0, 5_000.0) for _ in range(7)])
    session.take([Call(Put(b"k", b"v" * (SUBMIT_BYTES_MAX)), 0.0, 5_000.0)])
    submits = session.submits(0.0)
    assert all(len(s.ops) <= SUBMIT_BYTES_MAX or len(decode_operations(s.ops)) == 1 for s in submits)
    seqs = [seq + i for seq, count in sent(submits) for i in range(count)]
    assert seqs == list(range(1, 9))


def test_bytes_outstanding_are_bounded() -> None:
    session = Session("ann", None)
    session.identity = ID
    session.take([Call(Put(b"k", b"v" * (1 << 20)), 0.0, 5_000.0) for _ in range(20)])
    assert len(session.submits(0.0)) == 8
    assert session.room == 0
    session.on_done(done(1, None, None), 0, 1.0)
    assert sent(session.submits(1.0)) == [(9, 1), (10, 1)]


def test_a_rewound_chain_travels_again_under_the_same_numbers() -> None:
    session, calls = session_of(3)
    (first,) = session.submits(0.0)
    session.rewind()
    (second,) = session.submits(1.0)
    assert (first.seq, bytes(first.ops)) == (second.seq, bytes(second.ops))
    assert [call.attempts for call in calls] == [2, 2, 2]


def test_patience_doubles_until_there_is_progress() -> None:
    session, _ = session_of(2)
    session.submits(0.0)
    assert session.patience_at == PATIENCE_MS
    session.lose_patience()
    session.submits(300.0)
    assert session.patience_at == 300.0 + 2 * PATIENCE_MS
    session.on_done(done(1, None), 0, 400.0)
    assert session.patience_at == 400.0 + PATIENCE_MS


def test_busy_holds_back_everything_behind_it_for_a_while() -> None:
    session, calls = session_of(4)
    session.submits(0.0)
    session.on_no(no("busy", 2, 3, retry_ms=50), 0, 10.0, False)
    assert session.submits(59.0) == []
    assert sent(session.submits(60.0)) == [(2, 3)]
    assert [call.in_doubt for call in calls] == [True, True, True, True]
    assert (calls[1].attempts, calls[1].refusals) == (2, 1)


def test_what_was_refused_each_time_is_not_done_and_frees_its_number() -> None:
    session, _ = session_of(3, deadline=100.0)
    session.submits(0.0)
    session.on_no(no("busy", 2, 2), 0, 10.0, False)
    session.on_done(done(1, None), 0, 11.0)
    ended, moving = session.expire(100.0, "late", "late")
    assert [call.outcome for call in ended] == [Outcome.NOT_DONE, Outcome.NOT_DONE]
    assert moving == []
    session.take([Call(Put(b"new", b"v"), 0.0, 5_000.0)])
    assert sent(session.submits(10_000.0)) == [(2, 1)]


def test_what_is_surely_not_done_is_not_put_in_doubt_at_the_last_moment() -> None:
    session, calls = session_of(1, deadline=100.0)
    session.submits(0.0)
    session.on_no(no("busy", 1), 0, 1.0, False)
    assert session.submits(60.0) == []
    calls[0].deadline = 200.0
    assert sent(session.submits(60.0)) == [(1, 1)]


def test_an_operation_never_sent_leaves_no_doubt() -> None:
    session, _ = session_of(2, deadline=100.0)
    ended, _ = session.expire(100.0, "no_leader", "nobody leads")
    assert [(call.outcome, call.why) for call in ended] == [(Outcome.NOT_DONE, "no_leader")] * 2
    assert session.base == 1 and not session.chain


def test_one_attempt_in_doubt_is_enough_for_unknown() -> None:
    session, calls = session_of(1, deadline=100.0)
    session.submits(0.0)
    session.rewind()
    session.submits(30.0)
    session.on_no(no("not_leader", 1), 0, 60.0, False)
    ended, _ = session.expire(100.0, "late", "late")
    assert ended == calls and calls[0].outcome is Outcome.UNKNOWN


def test_an_unknown_operation_stays_before_those_behind_it() -> None:
    session, calls = session_of(1, deadline=100.0)
    session.submits(0.0)
    session.expire(100.0, "late", "late")
    session.rewind()
    assert session.submits(110.0) == [], "for its own sake it is not sent again"
    late = Call(Put(b"next", b"v"), 110.0, 5_000.0)
    session.take([late])
    assert sent(session.submits(110.0)) == [(1, 2)]
    ended = session.on_done(done(1, None, None), 0, 120.0)
    assert ended == [late], "its caller was already told that the outcome is unknown"
    assert calls[0].outcome is Outcome.UNKNOWN


def test_a_hole_before_doubtful_operations_ends_the_session_for_new_ones() -> None:
    """Number 1 was surely not done, number 2 is in doubt: 1 must not be used again, or 2 might follow it."""
    session, calls = session_of(3)
    calls[0].deadline = 100.0
    session.submits(0.0)
    session.on_no(no("busy", 1, 1), 0, 10.0, False)
    session.on_no(no("busy", 3, 1), 0, 10.0, False)
    ended, moving = session.expire(100.0, "late", "late")
    assert (ended, [call.outcome for call in ended]) == ([calls[0]], [Outcome.NOT_DONE])
    assert moving == [calls[2]], "what is surely not applied goes to another session"
    assert session.room == 0 and session.retired
    session.rewind()
    assert session.submits(200.0) == []
    ended, _ = session.expire(5_000.0, "late", "late")
    assert (ended, calls[1].outcome) == ([calls[1]], Outcome.UNKNOWN)
    assert session.is_settled


def test_a_gap_rewinds_to_the_number_that_is_wanted() -> None:
    session, calls = session_of(5)
    session.submits(0.0)
    session.on_no(no("seq_gap", 4, 2, expected=3), 0, 10.0, False)
    assert session.submits(10.0) == [], "its fellows are refused likewise; give them time to say so"
    assert sent(session.submits(20.0)) == [(3, 3)]
    assert calls[4].refusals == 1


@pytest.mark.parametrize("expected", [None, 1, 2, 9])
def test_a_gap_told_by_a_stale_leader_is_ignored(expected: int | None) -> None:
    session, calls = session_of(4)
    session.submits(0.0)
    session.on_done(done(1, None, None), 0, 1.0)
    session.on_no(no("seq_gap", 3, 2, expected=expected), 0, 10.0, False)
    assert session.submits(1_000.0) == []
    assert calls[3].refusals == 0


def test_a_call_that_a_node_gave_up_on_stays_in_doubt() -> None:
    session, calls = session_of(2)
    session.submits(0.0)
    assert session.on_no(no("unknown", 1, 2), 0, 10.0, False) == ([], [])
    assert [call.in_doubt for call in calls] == [True, True]
    assert sent(session.submits(10.0)) == [(1, 2)]


def test_an_expired_session_gives_back_what_was_surely_not_executed() -> None:
    session, calls = session_of(3)
    session.submits(0.0)
    session.on_done(done(1, None), 0, 1.0)
    calls[1].attempts += 1  # an earlier attempt of it was lost
    ended, moving = session.on_no(no("expired_client", 2, 2), 0, 10.0, False)
    assert (ended, calls[1].outcome) == ([calls[1]], Outcome.UNKNOWN)
    assert moving == [calls[2]]
    assert session.is_settled and session.room == 0


def test_an_invalid_operation_ends_and_lets_the_others_go_on() -> None:
    session, calls = session_of(3)
    session.submits(0.0)
    ended, moving = session.on_no(no("invalid", 1, 1), 0, 10.0, False)
    assert (ended, calls[0].outcome) == ([calls[0]], Outcome.NOT_DONE)
    assert moving == [] and session.retired, "those behind it were sent, and may not be numbered anew"
    session, calls = session_of(2)
    session.submits(0.0)
    session.on_no(no("busy", 2, 1), 0, 5.0, False)
    ended, moving = session.on_no(no("invalid", 1, 1), 0, 10.0, False)
    assert ended == [calls[0]] and moving == [calls[1]]
    assert not session.retired


def test_what_was_never_sent_does_not_wait_for_an_expired_session() -> None:
    session = Session("ann", None)
    session.identity = ID
    calls = [Call(Put(b"k", b"v" * (1 << 20)), 0.0, 5_000.0) for _ in range(10)]
    session.take(calls)
    assert len(session.submits(0.0)) == 8, "and two wait for room"
    ended, moving = session.on_no(no("expired_client", 1), 0, 10.0, False)
    assert (ended, moving) == ([], [calls[0], calls[8], calls[9]]), "the others are told one by one"
    for seq in range(2, 9):
        assert session.on_no(no("expired_client", seq), 0, 10.0, False) == ([], [calls[seq - 1]])
    assert session.is_settled


@pytest.mark.parametrize("bad", [{1}, {7}, {3, 4}, {1, 2, 3, 4, 5, 6, 7}, {2, 7}])
def test_an_invalid_operation_does_not_take_its_fellows_along(bad: set[int]) -> None:
    session, calls = session_of(7)
    wanted = {call.seq: call for call in calls}
    failed: Calls = []
    for _ in range(50):
        submits = session.submits(0.0)
        if not submits:
            break
        for submit in submits:
            keys = [operation.key for operation in decode_operations(submit.ops) if isinstance(operation, Put)]
            if any(int(key[1:]) + 1 in bad for key in keys):
                ended, moving = session.on_no(no("invalid", submit.seq, len(keys)), 0, 1.0, False)
                failed += ended
                session.take(moving)
            else:
                session.on_done(done(submit.seq, *[None] * len(keys)), 0, 1.0)
    assert failed == [wanted[seq] for seq in sorted(bad)]
    assert {call.outcome for seq, call in wanted.items() if seq not in bad} <= {Outcome.OK}
    assert not session.chain and not session.retired


def test_what_was_sent_behind_a_hole_moves_on_when_it_is_refused() -> None:
    session, calls = session_of(2)
    session.submits(0.0)
    session.take([later := Call(Put(b"later", b"v"), 0.0, 5_000.0)])
    session.submits(0.0)
    assert session.on_no(no("invalid", 1, 1), 0, 10.0, False)[0] == [calls[0]]
    assert session.on_no(no("seq_gap", 2, 1, expected=1), 0, 10.0, False) == ([], [calls[1]])
    assert session.on_no(no("seq_gap", 3, 1, expected=1), 0, 10.0, False) == ([], [later])
    assert session.is_settled


def test_a_node_that_alone_may_be_asked_has_the_last_word() -> None:
    session, calls = session_of(1)
    session.submits(0.0)
    ended, _ = session.on_no(no("not_leader", 1), 0, 10.0, True)
    assert (ended, calls[0].outcome) == (calls, Outcome.NOT_DONE)
    session, calls = session_of(1)
    session.submits(0.0)
    ended, _ = session.on_no(no("unknown", 1), 0, 10.0, True)
    assert (ended, calls[0].outcome) == (calls, Outcome.UNKNOWN)


def test_an_adopted_operation_is_in_doubt_from_the_start() -> None:
    session = Session("ann", None)
    call = Call(Put(b"k", b"v"), 0.0, 100.0)
    session.adopt(ID, call, 17)
    (submit,) = session.submits(0.0)
    assert (submit.seq, submit.acked) == (17, 0), "results of its fellows are not ours to discard"
    session.on_no(no("busy", 17), 0, 10.0, False)
    ended, _ = session.expire(100.0, "late", "late")
    assert ended[0].outcome is Outcome.UNKNOWN


def test_what_did_not_leave_the_process_is_no_attempt() -> None:
    session, calls = session_of(3)
    (submit,) = session.submits(0.0)
    session.unsent(submit.seq)
    assert [call.attempts for call in calls] == [0, 0, 0]
    assert sent(session.submits(0.0)) == [(1, 3)]
