"""Submits on their way through a node: exactly once, bounded, and always answered (C1 to C4, C7, C9)."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from tests.server.served import ACKS, ALICE, Served
from zabzmq.core.inputs import Space
from zabzmq.core.messages import Phase, State
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    Cas,
    Delete,
    Gone,
    Operation,
    Put,
    Refused,
    Register,
    Registered,
    SealedRun,
    decode_results,
    decode_runs,
    encode,
)
from zabzmq.net.client_wire import Done, Hello, Hint, No, NodeStatus, RegisterSession, StatusQuery, Submit
from zabzmq.server.service import SEQ_MAX, Limits, array_length


def increments(first: int, count: int) -> list[Operation]:
    """Compare-and-sets that count; `first` is the seq of the first one, and what it makes of `n`."""
    return [Cas(b"n", b"%d" % (n - 1) if n > 1 else None, b"%d" % n) for n in range(first, first + count)]


# ---- the straight way ------------------------------------------------------------------------------------------------


def test_all_that_arrives_in_a_turn_is_one_request_of_untouched_bytes() -> None:
    served = Served()
    alice, bob = served.register("alice"), served.register("bob")
    odd = b"\xdc\x00\x01" + encode([Put(b"k", b"v")])[1:]  # the same array with a longer header
    served.service.on_request(0, b"b", Submit(bob, 1, 0, 99, Raw(odd)))
    served.submit(alice, 1, *increments(1, 2), acked=1)
    served.submit(alice, 3, *increments(3, 1), acked=2)
    request = served.service.take_request(0, 1234)
    assert request is not None
    assert (request.count, request.time_ms) == (4, 1234)
    assert odd in request.data
    runs = [(run.session, run.seq, run.acked, run.ops) for run in decode_runs(request.data)]
    assert runs == [
        (bob, 1, 0, [Put(b"k", b"v")]),
        (alice, 1, 1, increments(1, 2)),
        (alice, 3, 2, increments(3, 1)),
    ]
    served.service.on_proposed(served.batch(request))
    assert served.service.take_request(0, 1234) is None


def test_an_answer_comes_when_the_operation_is_applied_and_not_before() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    assert served.heard() == []
    assert served.propose() == 1
    assert served.heard() == []
    served.commit()
    ((client, done),) = served.said()
    assert client == ALICE
    assert done == Done(0, alice, 1, Zxid(1, 2), ACKS, Raw(encode([None, None])))


def test_each_run_of_a_batch_is_told_its_own_place() -> None:
    served = Served()
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, *increments(1, 3))
    served.submit(bob, 1, Put(b"k", b"v"), client=b"b")
    served.turn()
    places = [(client, reply.zxid) for client, reply in served.said() if isinstance(reply, Done)]
    assert places == [(ALICE, Zxid(1, 3)), (b"b", Zxid(1, 6))]


def test_a_registration_is_answered_by_its_rid() -> None:
    served = Served()
    served.service.on_request(0, b"c", RegisterSession(41, "carol", 100))
    served.turn()
    ((client, done),) = served.said()
    assert (client, done) == (b"c", Done(41, NO_SESSION, 0, Zxid(1, 1), ACKS, Raw(encode([Registered((1, 1))]))))


def test_batches_are_bounded_and_the_rest_stays_for_the_next() -> None:
    served = Served(Limits(batch_ops=4, batch_bytes=200))
    alice = served.register()
    for seq in range(1, 10, 3):
        served.submit(alice, seq, *increments(seq, 3))
    assert served.propose() == 3
    served.submit(alice, 10, Put(b"k", bytes(150)))
    served.submit(alice, 11, Put(b"k", bytes(150)))
    assert served.propose() == 2
    served.commit()
    assert [seq for seq, _ in served.dones()] == [1, 4, 7, 10, 11]


def test_a_submit_too_large_for_a_batch_is_cut_between_operations() -> None:
    served = Served()
    alice = served.register()
    big = [Put(b"k%d" % n, bytes(700_000)) for n in range(5)]
    served.submit(alice, 1, *big)
    assert served.propose() == 5
    assert max(len(batch.data) for batch in served.proposed) < 1 << 20
    served.commit()
    assert served.dones() == [(seq, [None]) for seq in range(1, 6)]


def test_an_operation_larger_than_a_batch_is_a_batch_of_its_own() -> None:
    served = Served(Limits(batch_bytes=100))
    alice = served.register()
    served.submit(alice, 1, Put(b"k", bytes(500)), Put(b"l", b"v"))
    assert served.propose() == 2
    served.commit()
    assert [seq for seq, _ in served.dones()] == [1, 2]


# ---- exactly once: the leader's look ---------------------------------------------------------------------------------


def test_what_is_applied_is_answered_from_the_table() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.turn()
    first = served.heard()
    served.submit(alice, 1, *increments(1, 2), client=b"new address")
    assert served.service.take_request(0, 0) is None
    ((client, done),) = served.said()
    assert isinstance(done, Done)
    assert client == b"new address"
    assert msgspec.structs.replace(done, acks=ACKS) == first[0]


def test_what_is_outstanding_is_attached_to_and_answered_at_the_newest_address() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.propose()
    served.submit(alice, 1, *increments(1, 2), client=b"new address")
    assert served.service.take_request(0, 0) is None
    assert served.heard() == []
    served.commit()
    ((client, done),) = served.said()
    assert client == b"new address"
    assert isinstance(done, Done)
    assert decode_results(done.results) == [None, None]


def test_what_is_queued_counts_as_expected_and_is_attached_to() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.submit(alice, 1, *increments(1, 2))
    served.submit(alice, 3, *increments(3, 1))
    request = served.service.take_request(0, 0)
    assert request is not None
    assert request.count == 3


def test_a_submit_over_applied_outstanding_and_new_operations_is_sliced() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.turn()
    served.submit(alice, 3, *increments(3, 2))
    served.propose()
    served.said()
    served.submit(alice, 2, *increments(2, 5))
    assert served.dones() == [(2, [None])]
    served.turn()
    assert served.dones() == [(3, [None, None]), (5, [None, None])]
    assert [(run.seq, run.ops) for run in decode_runs(served.log[-1].data)] == [(5, increments(5, 2))]


def test_results_that_are_gone_are_answered_as_done_without_a_place() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.turn()
    served.submit(alice, 3, *increments(3, 1), acked=3)
    served.turn()
    served.said()
    served.submit(alice, 2, *increments(2, 2))
    gone, kept = served.heard()
    assert gone == Done(0, alice, 2, ZERO, [], Raw(encode([Gone()])))
    assert kept == Done(0, alice, 3, Zxid(1, 4), [], Raw(encode([None])))


def test_a_submit_beyond_the_expected_operation_is_told_which_one_that_is() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.submit(alice, 4, *increments(4, 3))
    no = served.no()
    assert (no.session, no.seq, no.count, no.why, no.expected) == (alice, 4, 3, "seq_gap", 3)


def test_an_unknown_session_is_expired() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Put(b"k", b"v"))
    served.turn()
    served.said()
    served.submit((alice[0], alice[1] + 1), 1, Put(b"k", b"v"))
    assert served.nos() == [(1, 1, "expired_client")]


def test_a_session_newer_than_all_that_is_applied_here_is_not_called_expired() -> None:
    """C3, F5: a leader that stood still may have been deposed, and the session made at the next one."""
    served = Served()
    served.register()
    served.submit((3, 3), 1, Put(b"k", b"v"))
    assert served.nos() == [(1, 1, "busy")]


def test_a_session_that_expires_between_proposal_and_apply_is_told_so() -> None:
    served = Served(max_clients=1)
    alice = served.register()
    served.service.on_request(0, b"b", RegisterSession(1, "bob", 100))
    served.submit(alice, 1, Put(b"k", b"v"))
    served.submit(alice, 2, Put(b"k", b"v"))
    served.turn()
    _, first, second = served.heard()
    for seq, no in ((1, first), (2, second)):
        assert isinstance(no, No)
        assert (no.session, no.seq, no.count, no.why) == (alice, seq, 1, "expired_client")


def test_repeats_that_only_apply_can_see_are_answered_with_the_first_place() -> None:
    """The same operations also came through another leader, of whose proposals this one knew nothing."""
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 3))
    request = served.service.take_request(0, 0)
    assert request is not None
    served.apply_foreign(SealedRun(alice, 1, 0, Raw(encode(increments(1, 2)))), count=2)  # 1.2, 1.3
    batch = served.batch(request)
    served.service.on_proposed(batch)
    served.apply(batch)  # 1.4 to 1.6
    applied, fresh = served.heard()
    assert applied == Done(0, alice, 1, Zxid(1, 2), [], Raw(encode([None, None])))
    assert fresh == Done(0, alice, 3, Zxid(1, 6), ACKS, Raw(encode([None])))


def test_a_gap_that_only_apply_can_see_is_answered_with_what_is_expected() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 1))
    request = served.service.take_request(0, 0)
    assert request is not None
    forged = request._replace(data=encode([SealedRun(alice, 5, 0, Raw(encode(increments(5, 1))))]))
    batch = served.batch(forged)
    served.service.on_proposed(batch)
    served.apply(batch)
    no = served.no()
    assert (no.why, no.seq, no.expected) == ("seq_gap", 5, 1)


def test_until_a_new_leader_has_applied_what_it_was_elected_with_it_judges_nobody() -> None:
    """Else operation 2 would be refused as a gap, and its client believe that operation 1 was not done (C4)."""
    served = Served()
    alice = served.register()
    served.lead(cut=Zxid(1, 2))
    served.submit(alice, 2, *increments(2, 1))
    assert served.nos() == [(2, 1, "busy")]
    served.epoch = 1
    served.apply_foreign(SealedRun(alice, 1, 0, Raw(encode(increments(1, 1)))), count=1)
    served.epoch = 2
    served.submit(alice, 2, *increments(2, 1))
    served.turn()
    assert served.dones() == [(2, [None])]


# ---- what is refused -------------------------------------------------------------------------------------------------

SIXTEEN = [Delete(b"k")] * 16


@pytest.mark.parametrize(
    ("seq", "ops"),
    [
        pytest.param(1, b"\xc1", id="no MessagePack"),
        pytest.param(1, b"\xa1k", id="no array"),
        pytest.param(1, encode([]), id="no operations"),
        pytest.param(1, encode([1]), id="an array of something else"),
        pytest.param(1, encode([["kv.drop", b"k"]]), id="an unknown operation"),
        pytest.param(1, b"\x91\x93\xa6kv.pu\xff\xc4\x01k\xc4\x01v", id="an operation whose name is not UTF-8"),
        pytest.param(1, encode([Register("bob")]), id="a registration"),
        pytest.param(1, encode([Put(b"k", b"v"), ["game.guess", 101]]), id="one value out of range"),
        pytest.param(1, encode([["game.target", 5, False, 9]]), id="an unknown field"),
        pytest.param(1, encode([Put(bytes(1025), b"v")]), id="a key too long"),
        pytest.param(1, encode([Put(b"k", bytes((1 << 20) + 1))]), id="a value too long"),
        pytest.param(1, encode(SIXTEEN + SIXTEEN[:1]), id="more than a session may have outstanding"),
        pytest.param(0, encode([Put(b"k", b"v")]), id="operation 0"),
        pytest.param(-1, encode([Put(b"k", b"v")]), id="a negative number"),
        pytest.param(SEQ_MAX, encode([Put(b"k", b"v")] * 2), id="a number that overflows"),
    ],
)
def test_what_is_no_operation_is_invalid(seq: int, ops: bytes) -> None:
    served = Served(Limits(session_ops=16))
    alice = served.register()
    served.service.on_request(0, ALICE, Submit(alice, seq, 0, 100, Raw(ops)))
    ((answered, _, why),) = served.nos()
    assert (answered, why) == (seq, "invalid")
    assert served.propose() == 0


def test_a_name_must_be_printable() -> None:
    served = Served()
    for name in ("", "x" * 65, "a\nb"):
        served.service.on_request(0, ALICE, RegisterSession(4, name, 100))
        no = served.no()
        assert (no.rid, no.why) == (4, "invalid")


def test_a_session_has_a_bounded_number_outstanding() -> None:
    served = Served(Limits(session_ops=4))
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, *increments(1, 3))
    served.propose()
    served.submit(alice, 4, *increments(4, 2))
    no = served.no()
    assert (no.seq, no.count, no.why, no.retry_ms) == (4, 2, "busy", 20)
    served.submit(alice, 4, *increments(4, 1))
    served.submit(bob, 1, Put(b"k", b"v"))
    served.turn()
    assert [seq for seq, _ in served.dones()] == [1, 4, 1]
    served.submit(alice, 5, *increments(5, 4))
    served.turn()
    assert [seq for seq, _ in served.dones()] == [5]


@pytest.mark.parametrize("limits", [Limits(total_ops=3), Limits(total_bytes=60)], ids=["operations", "bytes"])
def test_all_sessions_together_have_a_bounded_amount_outstanding(limits: Limits) -> None:
    served = Served(limits)
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, *increments(1, 3))
    served.submit(bob, 1, Put(b"key", bytes(20)))
    served.service.on_request(0, ALICE, RegisterSession(6, "carol" * 10, 100))
    assert served.nos() == [(1, 1, "busy"), (0, 1, "busy")]
    served.turn()
    served.said()
    for seq in (1, 2, 3):
        served.submit(bob, 2 * seq - 1, Put(b"k", b"v"))
        served.submit(bob, 2 * seq, Put(b"k", b"v"))
        served.turn()
        assert served.dones() == [(2 * seq - 1, [None]), (2 * seq, [None])]


@pytest.mark.parametrize("space", [Space.LOW, Space.FULL])
def test_a_disk_that_is_nearly_full_takes_no_more_but_still_answers(space: Space) -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Put(b"k", b"v"))
    served.turn()
    served.said()
    served.service.space = space
    served.submit(alice, 2, Put(b"k", b"v"))
    served.service.on_request(0, ALICE, RegisterSession(6, "carol", 100))
    assert served.nos() == [(2, 1, "busy"), (0, 1, "busy")]
    served.submit(alice, 1, Put(b"k", b"v"))
    assert served.dones() == [(1, [None])]


def test_who_does_not_lead_says_who_may() -> None:
    served = Served(leads=False)
    served.submit((1, 1), 1, Put(b"k", b"v"), Put(b"k", b"v"))
    no = served.no()
    assert (no.seq, no.count, no.why, no.leader) == (1, 2, "no_leader", None)
    assert no.retry_ms is not None
    served.follow(2)
    served.submit((1, 1), 1, Put(b"k", b"v"), Put(b"k", b"v"))
    served.service.on_request(0, ALICE, RegisterSession(6, "carol", 100))
    submit, register = served.heard()
    assert isinstance(submit, No)
    assert isinstance(register, No)
    assert (submit.session, submit.seq, submit.count, submit.why, submit.leader) == ((1, 1), 1, 2, "not_leader", 2)
    assert (register.rid, register.why, register.leader) == (6, "not_leader", 2)
    served.move(State.LEADING, Phase.SYNCHRONIZATION, leader=0)
    served.submit((1, 1), 1, Put(b"k", b"v"))
    assert served.nos() == [(1, 1, "no_leader")]


# ---- time ------------------------------------------------------------------------------------------------------------


def test_work_whose_time_ran_out_before_it_was_proposed_is_not_executed() -> None:
    served = Served()
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, *increments(1, 2), timeout=50)
    served.submit(alice, 3, *increments(3, 1), timeout=500)
    served.submit(bob, 1, Put(b"k", b"v"), timeout=500)
    assert served.service.next_deadline == 50
    served.now = 49
    served.service.on_tick(49)
    assert served.heard() == []
    served.service.on_tick(50)
    assert served.nos() == [(1, 2, "not_executed"), (3, 1, "not_executed")], "what came after it would leave a gap"
    assert served.service.next_deadline == 500
    served.submit(alice, 1, *increments(1, 1))
    served.turn()
    assert [seq for seq, _ in served.dones()] == [1, 1]


def test_time_is_looked_at_before_proposing() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Put(b"k", b"v"), timeout=10)
    assert served.service.take_request(10, 0) is None
    assert served.nos() == [(1, 1, "not_executed")]


def test_a_registration_times_out_alone() -> None:
    served = Served()
    served.service.on_request(0, ALICE, RegisterSession(1, "a", 10))
    served.service.on_request(0, ALICE, RegisterSession(2, "b", 100))
    served.now = 10
    served.propose()
    no = served.no()
    assert (no.rid, no.why) == (1, "not_executed")
    served.commit()
    assert len(served.dones()) == 1


def test_what_is_proposed_has_no_deadline_here() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Put(b"k", b"v"), timeout=10)
    served.propose()
    assert served.service.next_deadline == float("inf")
    served.service.on_tick(10_000)
    assert served.heard() == []
    served.commit()
    assert served.dones() == [(1, [None])]


# ---- the core's no, and lost leadership ------------------------------------------------------------------------------


def test_a_refused_request_is_busy_and_so_is_what_its_sessions_queued_behind_it() -> None:
    served = Served(Limits(batch_ops=2))
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, *increments(1, 2))
    served.submit(alice, 3, *increments(3, 1))
    served.submit(bob, 1, Put(b"k", b"v"))
    served.refuse()
    assert served.nos() == [(1, 2, "busy"), (3, 1, "busy")]
    served.submit(alice, 1, *increments(1, 3))
    served.turn()
    assert [seq for seq, _ in served.dones()] == [1, 1]


def test_what_was_refused_is_expected_again_behind_what_was_proposed() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.propose()
    served.submit(alice, 3, *increments(3, 2))
    served.refuse()
    served.submit(alice, 5, *increments(5, 1))
    served.submit(alice, 3, *increments(3, 3))
    assert served.nos() == [(3, 2, "busy"), (5, 1, "seq_gap")]
    served.turn()
    assert served.dones() == [(1, [None, None]), (3, [None, None, None])]


def test_a_request_refused_by_who_does_not_lead_is_not_led() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Put(b"k", b"v"))
    served.refuse(leading=False)
    assert served.nos() == [(1, 1, "no_leader")]


def test_a_lost_leadership_leaves_the_proposed_unknown_and_the_queued_surely_not_done() -> None:
    served = Served()
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, *increments(1, 2))
    served.propose()
    served.submit(alice, 3, *increments(3, 1))
    served.submit(bob, 1, Put(b"k", b"v"), client=b"b")
    served.service.on_request(0, b"c", RegisterSession(8, "carol", 100))
    served.look()
    nos = {(no.session, no.seq, no.rid): no.why for no in served.heard() if isinstance(no, No)}
    assert nos == {
        (alice, 1, 0): "unknown",
        (alice, 3, 0): "no_leader",
        (bob, 1, 0): "no_leader",
        (NO_SESSION, 0, 8): "no_leader",
    }
    assert served.propose() == 0


def test_what_commits_after_all_is_found_in_the_table_by_the_next_leadership() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, *increments(1, 2))
    served.propose()
    served.look()
    assert served.nos() == [(1, 2, "unknown")]
    served.commit()
    assert served.heard() == [], "nobody waits for it here any more"
    served.lead(cut=served.last)
    served.submit(alice, 1, *increments(1, 3))
    served.turn()
    assert served.dones() == [(1, [None, None]), (3, [None])]


def test_a_request_proposed_in_the_step_that_lost_the_leadership_is_unknown() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Put(b"k", b"v"))
    request = served.service.take_request(0, 0)
    assert request is not None
    served.look()
    assert served.heard() == []
    served.service.on_proposed(served.batch(request))
    assert served.nos() == [(1, 1, "unknown")]


def test_after_a_lost_leadership_nothing_counts_as_outstanding() -> None:
    served = Served(Limits(session_ops=2, total_ops=2))
    alice = served.register()
    served.submit(alice, 1, *increments(1, 1))
    served.propose()
    served.submit(alice, 2, *increments(2, 1))
    served.look()
    served.said()
    served.proposed.clear()  # a later leader truncated it
    served.last = served.state.applied
    served.lead()
    served.submit(alice, 1, *increments(1, 2))
    served.turn()
    assert served.dones() == [(1, [None, None])]


def test_batches_of_other_leaders_are_nobodys_answer() -> None:
    served = Served(leads=False)
    served.follow(2)
    served.apply_foreign(SealedRun(NO_SESSION, 0, 0, Raw(encode([Register("alice")]))), count=1)
    assert served.heard() == []


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_anyone_tells_who_leads() -> None:
    served = Served(leads=False)
    served.service.on_request(0, ALICE, Hello(1, "other"))
    served.follow(2)
    served.service.on_request(0, ALICE, Hello(2, "demo"))
    served.lead()
    served.service.on_request(0, ALICE, Hello(3, "demo"))
    hints = [(h.rid, h.leader, h.epoch, h.established) for h in served.heard() if isinstance(h, Hint)]
    assert hints == [(1, None, 0, False), (2, 2, 1, False), (3, 0, 2, True)]


def test_status_is_the_nodes_own_account() -> None:
    served = Served()
    served.register()
    served.service.on_request(0, ALICE, StatusQuery(12))
    (status,) = served.heard()
    assert isinstance(status, NodeStatus)
    assert (status.rid, status.sessions) == (12, 1)


def test_a_refusal_by_the_machine_is_done_with_a_place() -> None:
    served = Served()
    alice = served.register()
    served.submit(alice, 1, Cas(b"k", b"x", b"y"))
    served.turn()
    assert served.dones() == [(1, [Refused("cas_mismatch", "the key is missing")])]


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"\x93", 3),
        (b"\xdc\x01\x02", 258),
        (b"\xdd\x00\x00\x00\x05", 5),
        (b"", None),
        (b"\xdc\x01", None),
        (b"\x83", None),
    ],
)
def test_the_length_of_an_array_is_read_off_its_head(data: bytes, length: int | None) -> None:
    assert array_length(memoryview(data)) == length
