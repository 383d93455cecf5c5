"""The client against a cluster that answers, refuses, forgets, dies and changes its leader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.fake import LOSE_REPLY, SERVE, SILENT, FakeCluster
from zabzmq.client.call import Outcome
from zabzmq.client.client import ANY, NO_LEADER, UNREACHABLE, WRONG_CLUSTER, Client
from zabzmq.machine.operations import Cas, GameQuery, GameState, Guess, Guessed, KvQuery, KvValue, Put, Target
from zabzmq.net.client_wire import ClientReply, ClientRequest, Hello, No, ReadMany, RegisterSession, Submit


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as made:
        yield made


def client_of(cluster: FakeCluster, timeout_ms: float = 5_000, name: str = "alice") -> Client:
    return Client(cluster.endpoints, name=name, timeout_ms=timeout_ms)


def test_a_write_is_done_once_it_is_answered(cluster: FakeCluster) -> None:
    with client_of(cluster) as alice, client_of(cluster, name="bob") as bob:
        call = alice.do(Target(50))
        assert (call.outcome, call.attempts, call.node, call.seq) == (Outcome.OK, 1, 0, 1)
        assert call.zxid is not None and call.session == (1, 1)
        guess = bob.do(Guess(47))
        assert guess.result == Guessed(47, 3, True, False)


def test_a_refusal_of_the_state_machine_is_final_and_has_a_place(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        call = client.do(Guess(1))
        assert call.outcome is Outcome.REFUSED
        assert call.zxid == (1, 2)
        assert client.do(Cas(b"k", b"old", b"new")).outcome is Outcome.REFUSED


def test_operations_that_wait_together_travel_together(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        calls = client.submit_many([Put(b"%d" % i, b"v") for i in range(500)])
        while any(call.outcome is None for call in calls):
            client.pump(100)
        assert len(cluster.of(Submit)) == 1
        assert [call.seq for call in calls] == list(range(1, 501))
        zxids = [call.zxid for call in calls]
        assert zxids == sorted(zxids, key=lambda z: z or (0, 0)) and len(set(zxids)) == 500


def test_more_than_a_window_opens_further_sessions_of_the_same_name(cluster: FakeCluster) -> None:
    with Client(cluster.endpoints, name="alice", window=100) as client:
        calls = client.submit_many([Put(b"%d" % i, b"v") for i in range(450)])
        ended = 0
        while ended < 450:
            ended += len(client.pump(100))
        sessions = {call.session for call in calls}
        assert len(sessions) > 1
        assert {str(r.name) for r in cluster.of(RegisterSession) if isinstance(r, RegisterSession)} == {"alice"}
        for session in sessions:
            seqs = [call.seq for call in calls if call.session == session]
            assert seqs == list(range(1, len(seqs) + 1))


def test_at_most_a_window_of_one_session_is_outstanding(cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: SILENT if isinstance(request, Submit) else SERVE)
    with Client(cluster.endpoints, name="alice", window=10, timeout_ms=250) as client:
        calls = client.submit_many([Put(b"%d" % i, b"v") for i in range(25)])
        while any(call.outcome is None for call in calls):
            client.pump(50)
        per_session: dict[tuple[int, int], int] = {}
        for request in cluster.of(Submit):
            assert isinstance(request, Submit)
            per_session[request.session] = max(per_session.get(request.session, 0), request.seq)
        assert per_session and max(per_session.values()) <= 10


def test_a_lost_reply_is_asked_for_again_under_the_same_number(cluster: FakeCluster) -> None:
    lost: list[Submit] = []

    def lose_first(node: int, request: ClientRequest) -> str:
        if isinstance(request, Submit) and not lost:
            lost.append(request)
            return LOSE_REPLY
        return SERVE

    cluster.behave(lose_first)
    with client_of(cluster) as client:
        call = client.do(Put(b"k", b"v"))
    assert call.outcome is Outcome.OK
    assert call.attempts == 2
    first, second = cluster.of(Submit)
    assert isinstance(first, Submit) and isinstance(second, Submit)
    assert (first.session, first.seq, bytes(first.ops)) == (second.session, second.seq, bytes(second.ops))
    assert max(cluster.executed.values()) == 1


def test_a_dead_leader_is_replaced_and_nothing_is_executed_twice(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        assert client.do(Put(b"a", b"1")).node == 0
        cluster.behave(lambda node, request: LOSE_REPLY if node == 0 and isinstance(request, Submit) else SERVE)
        calls = client.submit_many([Cas(b"n", None, b"1"), Cas(b"n", b"1", b"2"), Cas(b"n", b"2", b"3")])
        client.pump(30)
        cluster.lead(1)
        cluster.kill(0)
        while any(call.outcome is None for call in calls):
            client.pump(100)
        assert [call.outcome for call in calls] == [Outcome.OK] * 3
        assert {call.node for call in calls} == {1}
        assert max(cluster.executed.values()) == 1
        answer = client.ask(KvQuery(b"n"))
        assert answer.result == KvValue(b"3")


def test_a_node_that_does_not_lead_is_left_for_the_one_that_does(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        client.do(Put(b"a", b"1"))
        cluster.lead(2)
        call = client.do(Put(b"b", b"2"))
        assert (call.outcome, call.node) == (Outcome.OK, 2)
        assert call.attempts == 2 and call.refusals == 1


def test_a_deposed_leader_that_still_calls_itself_established_is_not_believed(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        client.do(Put(b"a", b"1"))
        cluster.lead(1)
        client.do(Put(b"b", b"1"))

        def stale(node: int, request: ClientRequest) -> str | ClientReply:
            if node == 0 and isinstance(request, Hello):
                return cluster.hint(0, request, epoch=1, established=True)
            return SERVE

        cluster.behave(stale)
        cluster.lead(2)
        asked = len(cluster.requests)
        assert client.do(Put(b"c", b"1")).node == 2
        assert 0 not in [node for node, r in cluster.requests[asked:] if isinstance(r, Submit)]


def test_silence_after_sending_leaves_the_outcome_unknown(cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: SILENT if isinstance(request, Submit) else SERVE)
    with client_of(cluster, timeout_ms=600) as client:
        call = client.do(Put(b"k", b"v"))
        assert call.outcome is Outcome.UNKNOWN
        assert call.session is not None and call.seq == 1


def test_an_unknown_operation_goes_before_the_next_one_and_takes_effect_once(cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: SILENT if isinstance(request, Submit) else SERVE)
    with client_of(cluster, timeout_ms=600) as client:
        assert client.do(Cas(b"n", None, b"1")).outcome is Outcome.UNKNOWN
        cluster.behave(lambda node, request: SERVE)
        call = client.do(Cas(b"n", b"1", b"2"), timeout_ms=5_000)
        assert (call.outcome, call.seq) == (Outcome.OK, 2)
        assert max(cluster.executed.values()) == 1


def test_a_refused_attempt_after_a_lost_one_stays_unknown(cluster: FakeCluster) -> None:
    seen: list[int] = []

    def lose_then_refuse(node: int, request: ClientRequest) -> str | ClientReply:
        if isinstance(request, Submit):
            seen.append(node)
            if len(seen) == 1:
                return SILENT
            return No(0, request.session, request.seq, 1, "busy", "full", retry_ms=10)
        return SERVE

    cluster.behave(lose_then_refuse)
    with client_of(cluster, timeout_ms=700) as client:
        call = client.do(Put(b"k", b"v"))
    assert len(seen) > 1
    assert call.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("why", ["busy", "not_executed", "not_leader"])
def test_only_refused_attempts_mean_surely_not_done(cluster: FakeCluster, why: str) -> None:
    refused: list[Submit] = []

    def refuse(node: int, request: ClientRequest) -> str | ClientReply:
        if not isinstance(request, Submit):
            return SERVE
        refused.append(request)
        retry_ms = 10
        if len(refused) == 2:  # and no third attempt that time may run out on
            cluster.leader, retry_ms = None, 1_000
        return No(0, request.session, request.seq, 1, why, "not now", retry_ms=retry_ms)

    cluster.behave(refuse)
    with client_of(cluster) as client:
        call = client.do(Put(b"k", b"v"), timeout_ms=600)
        assert (call.outcome, call.why) == (Outcome.NOT_DONE, why)
        assert call.attempts == 2
        cluster.leader = 0
        cluster.behave(lambda node, request: SERVE)
        again = client.do(Put(b"k", b"w"))
        assert (again.outcome, again.seq) == (Outcome.OK, 1), "a number that was surely not used is used again"


def test_an_attempt_that_a_node_calls_unknown_is_repeated_at_the_next_leader(cluster: FakeCluster) -> None:
    def resign(node: int, request: ClientRequest) -> str | ClientReply:
        if isinstance(request, Submit) and node == 0:
            cluster.leader, cluster.epoch = 1, 2
            return No(0, request.session, request.seq, 1, "unknown", "node 0 stepped down")
        return SERVE

    cluster.behave(resign)
    with client_of(cluster) as client:
        call = client.do(Put(b"k", b"v"))
    assert (call.outcome, call.node, call.attempts) == (Outcome.OK, 1, 2)


def test_an_expired_session_is_replaced_for_what_was_surely_not_executed(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        client.do(Put(b"a", b"1"))
        cluster.do(cluster.expire_sessions)
        call = client.do(Put(b"b", b"2"))
        assert (call.outcome, call.seq) == (Outcome.OK, 1)


def test_an_expired_session_leaves_doubt_where_an_earlier_attempt_was_lost(cluster: FakeCluster) -> None:
    lost: list[int] = []

    def lose_then_expire(node: int, request: ClientRequest) -> str:
        if isinstance(request, Submit):
            if lost:
                cluster.expire_sessions()
                return SERVE
            lost.append(request.seq)
            return SILENT
        return SERVE

    with client_of(cluster) as client:
        client.do(Put(b"a", b"1"))
        cluster.behave(lose_then_expire)
        call = client.do(Put(b"b", b"2"))
        assert (call.outcome, call.why) == (Outcome.UNKNOWN, "expired_client")
        cluster.behave(lambda node, request: SERVE)
        assert client.do(Put(b"c", b"3")).outcome is Outcome.OK


def test_a_gap_is_filled_from_the_number_the_leader_wants(cluster: FakeCluster) -> None:
    """The first of two messages is lost; the second meets SEQ_GAP."""
    dropped: list[int] = []

    def drop_one(node: int, request: ClientRequest) -> str:
        if isinstance(request, Submit) and request.seq == 2 and not dropped:
            dropped.append(2)
            return SILENT
        return SERVE

    with client_of(cluster) as client:
        client.do(Put(b"a", b"1"))
        cluster.behave(drop_one)
        first = client.submit(Put(b"b", b"2"))
        client.pump(0)
        second = client.submit(Put(b"c", b"3"))
        client.wait(first)
        client.wait(second)
        assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
        assert max(cluster.executed.values()) == 1


def test_without_a_leader_nothing_is_sent_and_nothing_is_done(cluster: FakeCluster) -> None:
    cluster.lead(None)
    with client_of(cluster, timeout_ms=600) as client:
        call = client.do(Put(b"k", b"v"))
        assert (call.outcome, call.why, call.attempts) == (Outcome.NOT_DONE, NO_LEADER, 0)
        assert client.ask(GameQuery()).why == NO_LEADER
    assert not cluster.of(Submit)


def test_where_nobody_listens_nothing_is_done() -> None:
    with FakeCluster(up=()) as cluster, client_of(cluster, timeout_ms=100) as client:
        call = client.do(Put(b"k", b"v"))
        assert (call.outcome, call.why) == (Outcome.NOT_DONE, UNREACHABLE)


def test_a_cluster_that_starts_late_is_found() -> None:
    with FakeCluster(up=()) as cluster, client_of(cluster) as client:
        call = client.submit(Put(b"k", b"v"))
        client.pump(50)
        for node in cluster.voters:
            cluster.start(node)
        assert client.wait(call).outcome is Outcome.OK


def test_another_cluster_on_these_ports_is_told_apart() -> None:
    with FakeCluster(cluster="other") as cluster, client_of(cluster) as client:
        call = client.do(Put(b"k", b"v"))
        assert (call.outcome, call.why) == (Outcome.NOT_DONE, WRONG_CLUSTER)


def test_as_long_as_one_address_is_not_taken_by_another_cluster_ours_is_waited_for() -> None:
    with FakeCluster(3, cluster="other", up=(1, 2)) as cluster, Client(cluster.endpoints, timeout_ms=60_000) as client:
        write, read = client.submit(Target(50)), client.read(GameQuery())
        while len(client.search.foreign) < 2:
            client.pump(10)
        assert client.pump(100) == []
        cluster.start(0)
        assert {client.wait(call).why for call in (write, read)} == {WRONG_CLUSTER}
        assert max(write.ms, read.ms) < 30_000, "at once, not when time is up"
        cluster.kill(0)  # and with it, what it had said
        while 0 in client.reachable:
            client.pump(10)
        late = client.submit(Target(50))
        asked = len(cluster.of(Hello))
        while len(cluster.of(Hello)) < asked + 4:  # the first two are answered by now
            client.pump(10)
        assert late.outcome is None


def test_nobody_of_another_cluster_is_asked_for_anything() -> None:
    with FakeCluster(cluster="other") as cluster, client_of(cluster) as client:
        calls = [client.read(GameQuery(), linear=linear, node=node) for linear in (False, True) for node in (ANY, 2)]
        calls.append(client.submit(Put(b"k", b"v"), client.player("alice", 0)))
        for call in calls:
            client.wait(call)
            assert (call.outcome, call.why) == (Outcome.NOT_DONE, WRONG_CLUSTER)
        assert {type(request) for _, request in cluster.requests} == {Hello}


def test_voters_are_learned_from_one_known_node(cluster: FakeCluster) -> None:
    with Client({2: cluster.endpoints[2]}, name="alice") as client:
        assert client.do(Put(b"k", b"v")).node == 0
        assert sorted(client.known) == [0, 1, 2]


def test_writes_to_one_node_alone_do_not_follow_hints(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        call = client.do(Put(b"k", b"v"), client.player("alice", 1))
        assert (call.outcome, call.why, call.node) == (Outcome.NOT_DONE, "not_leader", None)
        assert client.do(Put(b"k", b"v"), client.player("alice", 0)).outcome is Outcome.OK
        assert client.ask(KvQuery(b"k")).result == KvValue(b"v")


def test_a_leader_that_is_deposed_has_the_last_word_on_what_was_for_it_alone(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        player = client.player("alice", 0)
        assert client.do(Put(b"k", b"v"), player).outcome is Outcome.OK
        cluster.lead(1)
        call = client.do(Put(b"k", b"w"), player)
        assert (call.outcome, call.why, call.attempts) == (Outcome.NOT_DONE, "not_leader", 1)


def test_all_sessions_move_to_a_new_leader_at_once(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that the old leader never answers, and that would not lose patience for long."""
    with client_of(cluster) as client:
        monkeypatch.setattr("zabzmq.client.session.PATIENCE_MS", 60_000.0)
        ann, bob = client.player("ann"), client.player("bob")
        client.do(Put(b"a", b"1"), ann)
        client.do(Put(b"b", b"1"), bob)
        session = bob.sessions[0].identity

        def ignore_bob(node: int, request: ClientRequest) -> str:
            return SILENT if isinstance(request, Submit) and request.session == session and node == 0 else SERVE

        cluster.behave(ignore_bob)
        stuck = client.submit(Put(b"b", b"2"), bob)
        client.pump(20)
        cluster.lead(1)
        client.do(Put(b"a", b"2"), ann)
        assert client.wait(stuck).outcome is Outcome.OK
        assert stuck.node == 1


def test_reads_that_wait_together_travel_together(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        client.do(Put(b"k", b"v"))
        calls = [client.read(KvQuery(b"k")) for _ in range(100)]
        while any(call.outcome is None for call in calls):
            client.pump(100)
        assert {call.result for call in calls} == {KvValue(b"v")}
        assert len(cluster.of(ReadMany)) == 1


def test_local_reads_go_where_they_are_told_and_never_back(cluster: FakeCluster) -> None:
    with client_of(cluster) as client:
        wrote = client.do(Target(50))
        call = client.ask(GameQuery(), linear=False, node=2)
        assert isinstance(call.result, GameState) and call.node == 2
        assert client.ask(GameQuery(), linear=False, node=ANY).outcome is Outcome.OK
        reads = [r for r in cluster.of(ReadMany) if isinstance(r, ReadMany)]
        assert all(not r.linear and r.min_zxid == wrote.zxid for r in reads)


def test_a_read_is_asked_again_and_never_unknown(cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: SILENT if isinstance(request, ReadMany) else SERVE)
    with client_of(cluster, timeout_ms=800) as client:
        call = client.ask(GameQuery())
        assert call.outcome is Outcome.NOT_DONE
        assert len(cluster.of(ReadMany)) == 2


def test_a_lost_registration_is_made_anew() -> None:
    lost: list[int] = []

    def lose_first(node: int, request: ClientRequest) -> str:
        if isinstance(request, RegisterSession) and not lost:
            lost.append(request.rid)
            return LOSE_REPLY
        return SERVE

    with FakeCluster() as cluster, client_of(cluster) as client:
        cluster.behave(lose_first)
        call = client.do(Put(b"k", b"v"))
        assert (call.outcome, call.seq) == (Outcome.OK, 1)
        assert len(cluster.of(RegisterSession)) == 2


def test_an_operation_of_an_earlier_run_is_repeated_without_a_second_effect(cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: LOSE_REPLY if isinstance(request, Submit) else SERVE)
    with client_of(cluster, timeout_ms=600) as client:
        lost = client.do(Cas(b"n", None, b"1"))
        assert lost.outcome is Outcome.UNKNOWN and lost.session is not None
    cluster.behave(lambda node, request: SERVE)
    with client_of(cluster) as client:
        call = client.wait(client.repeat(lost.session, lost.seq, Cas(b"n", None, b"1")))
        assert call.outcome is Outcome.OK, "a second execution would have been refused"
        assert client.do(Put(b"k", b"v")).outcome is Outcome.OK


def test_status_asks_everybody_and_waits_for_nobody_who_is_down(cluster: FakeCluster) -> None:
    cluster.kill(2)
    with client_of(cluster) as client:
        status = client.status(10_000)
    assert [s.state if s else None for s in status.values()] == ["LEADING", "FOLLOWING", None]


def test_a_node_that_speaks_in_parts_is_hung_up_on_and_called_again(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zabzmq.client.session.PATIENCE_MS", 60_000.0)  # nothing but the lost link brings a retry
    garbled: list[int] = []

    def garble(node: int, request: ClientRequest) -> str:
        if isinstance(request, Submit) and not garbled:
            garbled.append(node)
            cluster.say(node, [b"a", b"b"])
            return LOSE_REPLY
        return SERVE

    cluster.behave(garble)
    with client_of(cluster) as client:
        call = client.do(Put(b"k", b"v"))
    assert (call.outcome, call.attempts) == (Outcome.OK, 2)
    assert max(cluster.executed.values()) == 1


def test_frames_that_are_no_replies_are_dropped(cluster: FakeCluster) -> None:
    def babble(node: int, request: ClientRequest) -> str:
        for frame in (b"", b"ZC1", b"ZC1\xff", b"ZC1\x90", b"ZC1\x91\xa4done", b"\x00" * 5000):
            cluster.say(node, [frame])
        return SERVE

    cluster.behave(babble)
    with client_of(cluster) as client:
        assert client.do(Put(b"k", b"v")).outcome is Outcome.OK
