"""Reads: linearizable by ticket (C5), local at once (C6), all bounded, answered and timed out."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tests.server.served import ALICE, Served
from zabzmq.core.effects import ReadFailed, ReadReady
from zabzmq.core.inputs import Read
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import Answer, GameQuery, KvQuery, KvValue, Put, decode_answers, encode
from zabzmq.net.client_wire import Answers, ReadMany
from zabzmq.server.service import Limits

KEY = KvQuery(b"k")


def written(value: bytes = b"v", limits: Limits | None = None) -> Served:
    served = Served(limits)
    served.submit(served.register(), 1, Put(b"k", value))
    served.turn()
    served.said()
    return served


def answers(served: Served) -> list[tuple[int, tuple[int, int], list[Answer]]]:
    """`(rid, zxid, answers)` of each; nothing else may have been said."""
    heard = served.heard()
    found = [reply for reply in heard if isinstance(reply, Answers)]
    assert len(found) == len(heard), heard
    return [(reply.rid, reply.zxid, decode_answers(reply.answers)) for reply in found]


def test_linear_reads_of_a_turn_share_a_ticket() -> None:
    served = written()
    served.read(KEY, rid=1)
    served.read(KEY, KvQuery(b"other"), rid=2)
    assert served.service.take_reads() == Read(1)
    assert served.service.take_reads() is None
    served.read(KEY, rid=3)
    assert served.service.take_reads() == Read(2)
    served.service.on_read_ready(ReadReady(2, ZERO))
    served.service.on_read_ready(ReadReady(1, ZERO))
    held = KvValue(b"v")
    assert answers(served) == [(3, (1, 2), [held]), (1, (1, 2), [held]), (2, (1, 2), [held, KvValue(None)])]


def test_a_linear_read_waits_until_what_it_must_see_is_applied() -> None:
    served = written()
    served.submit((1, 1), 2, Put(b"k", b"new"))
    served.submit((1, 1), 3, Put(b"k", b"newer"))
    served.propose()
    served.read(KEY)
    served.service.take_reads()
    served.service.on_read_ready(ReadReady(1, Zxid(1, 4)))
    assert served.heard() == []
    served.commit()
    *_, reply = served.heard()
    assert isinstance(reply, Answers)
    assert (reply.zxid, decode_answers(reply.answers), reply.linear) == ((1, 4), [KvValue(b"newer")], True)


def test_a_follower_answers_linear_reads_by_the_same_way() -> None:
    served = written()
    served.follow(2)
    served.read(KEY)
    assert served.service.take_reads() == Read(1)
    served.service.on_read_ready(ReadReady(1, Zxid(1, 2)))
    assert answers(served) == [(5, (1, 2), [KvValue(b"v")])]


@pytest.mark.parametrize("at", ["not yet asked", "asked", "waiting for the state"])
def test_linear_reads_fail_when_the_leader_is_lost(at: str) -> None:
    served = written()
    served.read(KEY, rid=8)
    if at != "not yet asked":
        served.service.take_reads()
    if at == "waiting for the state":
        served.service.on_read_ready(ReadReady(1, Zxid(1, 9)))
    served.look()
    no = served.no()
    assert (no.rid, no.why) == (8, "no_leader")
    served.service.on_read_ready(ReadReady(1, ZERO))
    served.service.on_read_failed(ReadFailed(1))
    served.service.on_tick(10_000)
    assert served.heard() == [], "a late verdict on a ticket that is over, and a time-out of nobody"
    assert served.service.take_reads() is None


def test_a_failed_ticket_names_the_leader() -> None:
    served = Served(leads=False)
    served.follow(2)
    served.read(KEY, rid=8)
    served.service.take_reads()
    served.service.on_read_failed(ReadFailed(1))
    no = served.no()
    assert (no.rid, no.why, no.leader) == (8, "not_leader", 2)


def test_a_local_read_is_answered_at_once_in_any_state_and_says_when_it_may_be_old() -> None:
    served = written()
    served.service.stale_reason = ""
    served.read(KEY, linear=False)
    served.look()
    served.service.stale_reason = "node 0 is not in BROADCAST"
    served.read(KEY, linear=False)
    heard = served.heard()
    assert [(r.node, r.zxid, r.linear, r.stale) for r in heard if isinstance(r, Answers)] == [
        (0, (1, 2), False, ""),
        (0, (1, 2), False, "node 0 is not in BROADCAST"),
    ]


def test_a_local_read_never_goes_back_behind_what_the_client_has_seen() -> None:
    served = written()
    served.read(KEY, linear=False, least=Zxid(1, 3))
    assert served.heard() == []
    served.look()  # no concern of a local read
    served.submit((1, 1), 2, Put(b"k", b"new"))
    served.said()
    served.lead()
    served.submit((1, 1), 2, Put(b"k", b"new"))
    served.turn()
    _, reply = served.heard()
    assert isinstance(reply, Answers)
    assert (reply.zxid, reply.linear, decode_answers(reply.answers)) == ((2, 1), False, [KvValue(b"new")])


@pytest.mark.parametrize("at", ["not yet asked", "asked", "waiting for the state", "local"])
def test_reads_time_out_wherever_they_wait(at: str) -> None:
    served = written()
    served.read(KEY, rid=8, linear=at != "local", least=Zxid(1, 9), timeout=50)
    if at in ("asked", "waiting for the state"):
        served.service.take_reads()
    if at == "waiting for the state":
        served.service.on_read_ready(ReadReady(1, Zxid(1, 9)))
    assert served.service.next_deadline == 50
    served.service.on_tick(49)
    assert served.heard() == []
    served.service.on_tick(50)
    no = served.no()
    assert (no.rid, no.why) == (8, "not_executed")
    assert served.service.next_deadline == float("inf")


def test_only_the_late_ones_time_out() -> None:
    served = written()
    served.read(KEY, rid=1, timeout=50)
    served.read(KEY, rid=2, timeout=90)
    served.service.take_reads()
    served.service.on_tick(60)
    assert served.no().rid == 1
    assert served.service.next_deadline == 90
    served.service.on_read_ready(ReadReady(1, ZERO))
    assert [rid for rid, _, _ in answers(served)] == [2]


def test_reads_that_wait_are_bounded() -> None:
    served = written(limits=Limits(waiting_queries=3))
    served.read(KEY, KEY, rid=1)
    served.read(KEY, KEY, rid=2)
    no = served.no()
    assert (no.rid, no.why) == (2, "busy")
    served.read(KEY, KEY, KEY, KEY, linear=False)  # waits for nothing
    assert len(answers(served)) == 1
    served.service.take_reads()
    served.service.on_read_ready(ReadReady(1, ZERO))
    served.read(KEY, KEY, KEY, rid=3)
    served.service.take_reads()
    served.service.on_read_ready(ReadReady(2, ZERO))
    assert [rid for rid, _, _ in answers(served)] == [1, 3]


@pytest.mark.parametrize(
    "queries",
    [
        pytest.param(b"\xc1", id="no MessagePack"),
        pytest.param(b"\xc0", id="no array"),
        pytest.param(encode([]), id="none"),
        pytest.param(encode([["kv.scan"]]), id="an unknown query"),
        pytest.param(b"\x91\x92\xa6kv.ge\xff\xc4\x01k", id="a query whose name is not UTF-8"),
        pytest.param(encode([KEY] * 5), id="too many"),
        pytest.param(encode([KvQuery(bytes(1025))]), id="a key too long"),
    ],
)
def test_what_is_no_query_is_invalid(queries: bytes) -> None:
    served = written(limits=Limits(read_queries=4))
    served.service.on_request(0, ALICE, ReadMany(8, True, (0, 0), 100, Raw(queries)))
    no = served.no()
    assert (no.rid, no.why) == (8, "invalid")


def test_answers_that_no_frame_can_hold_are_not_sent() -> None:
    served = written(bytes(1 << 20))
    served.read(KEY, KEY, KEY, linear=False)
    assert len(answers(served)) == 1
    served.read(KEY, KEY, KEY, KEY, rid=8, linear=False)
    no = served.no()
    assert (no.rid, no.why) == (8, "invalid")


def test_both_machines_are_read_together() -> None:
    served = written()
    served.read(GameQuery(), KEY, linear=False)
    ((_, _, (game, kv)),) = answers(served)
    assert (type(game).__name__, kv) == ("GameState", KvValue(b"v"))


def test_an_installed_snapshot_answers_what_waited_for_its_state() -> None:
    """C6: nothing need be applied after it."""
    served, later = Served(), written()
    served.read(KEY, rid=1, linear=False, least=later.state.applied)
    assert answers(served) == []
    served.state.restore(b"".join(later.state.snapshot()))
    served.service.on_restored()
    assert answers(served) == [(1, later.state.applied, [KvValue(b"v")])]
