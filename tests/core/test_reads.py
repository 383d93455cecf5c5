"""Linearizable reads: a quorum shows that no other epoch had begun when the read arrived (C5)."""

from __future__ import annotations

import pytest

from tests.core.one import One, batch
from zabzmq.core.effects import ReadFailed, ReadReady
from zabzmq.core.inputs import LinkLost, Read, Resumed
from zabzmq.core.messages import (
    Ack,
    HbEcho,
    Heartbeat,
    Phase,
    Propose,
    ReadIndex,
    ReadIndexReply,
    State,
)
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, Zxid


def leading(voters: int = 3, *learners: int, timing: Timing | None = None) -> tuple[One, list[LinkId]]:
    one = One(0, voters, timing=timing)
    return one, one.lead(*learners)


def echo(one: One, link: LinkId, hb_seq: int | None = None) -> None:
    one.hear(link.learner, HbEcho(2, one.peer.hb_seq if hb_seq is None else hb_seq, False), link)


def ready(one: One) -> list[int]:
    return [read.ticket for read in one.did(ReadReady)]


def failed(one: One) -> list[int]:
    return [read.ticket for read in one.did(ReadFailed)]


def test_a_read_sends_a_heartbeat_at_once_and_waits_for_a_quorum_of_echoes() -> None:
    one, links = leading(5)
    before = one.peer.hb_seq
    one.step(Read(7))
    assert one.sent(Heartbeat)[-1].hb_seq == before + 1
    echo(one, links[0])
    assert ready(one) == []
    echo(one, links[1])
    assert ready(one) == [7]


@pytest.mark.parametrize("fresh", [False, True])
def test_only_an_echo_of_a_heartbeat_sent_after_the_read_counts(fresh: bool) -> None:
    one, links = leading()
    old = one.peer.hb_seq
    one.step(Read(7))
    echo(one, links[0], one.peer.hb_seq if fresh else old)
    assert (ready(one) == [7]) is fresh


def test_a_promise_that_was_slow_is_no_echo() -> None:
    """Its sender may have promised a higher epoch since; the read could miss what that epoch committed."""
    one, _ = leading(3, 1)
    late = one.info(2)
    one.step(Read(7))
    one.ack_epoch(late)
    one.step(Read(8))
    assert ready(one) == []


def test_acks_are_no_echo_for_reads() -> None:
    one, links = leading()
    one.request()
    one.step(Read(7))
    one.disk()
    one.hear(1, Ack(2, Zxid(2, 1)), links[0])
    assert ready(one) == []


def test_the_index_is_what_was_committed_on_arrival() -> None:
    one, links = leading()
    one.request()
    one.disk()
    one.hear(1, Ack(2, Zxid(2, 1)), links[0])
    one.step(Read(7))
    one.request()
    one.disk()
    one.hear(1, Ack(2, Zxid(2, 2)), links[0])
    echo(one, links[0])
    assert one.did(ReadReady) == [ReadReady(7, Zxid(2, 1))]


def test_reads_that_come_while_a_round_is_out_share_the_next() -> None:
    one, links = leading()
    one.step(Read(1))
    beats = len(one.sent(Heartbeat))
    for ticket in (2, 3, 4):
        one.step(Read(ticket))
    assert len(one.sent(Heartbeat)) == beats
    echo(one, links[0])
    assert ready(one) == [1] and len(one.sent(Heartbeat)) == beats + 1
    echo(one, links[0])
    assert ready(one) == [1, 2, 3, 4]


def test_a_lost_round_is_mended_by_the_next_heartbeat() -> None:
    one, links = leading()
    one.step(Read(1))
    one.step(Read(2))
    one.wait(60)
    echo(one, links[1])
    assert ready(one) == [1, 2]


def test_unjoined_voters_confirm_no_read() -> None:
    """V5"""
    one, _ = leading(3, 1)
    wiped = one.info(2, joined=False)
    one.ack_epoch(wiped, current=0, counted=False)
    one.step(Read(1))
    echo(one, wiped)
    one.step(Read(2))
    assert ready(one) == []


def test_echoes_die_with_their_link() -> None:
    one, links = leading(5)
    one.step(Read(1))
    echo(one, links[0])
    one.step(LinkLost(links[0], "reset"))
    echo(one, links[1])
    assert ready(one) == []


def test_a_leader_alone_answers_at_once() -> None:
    one = One(0, 1)
    one.disk()
    one.step(Read(1))
    one.step(Read(2))
    assert ready(one) == [1, 2]


def test_reads_of_a_leader_that_steps_down_fail() -> None:
    one, _ = leading()
    one.step(Read(1))
    one.step(Read(2))
    one.wait(500)
    assert one.place == (State.LOOKING, Phase.QUIESCE)
    assert (ready(one), failed(one)) == ([], [1, 2])


@pytest.mark.parametrize("place", ["looking", "discovery", "synchronization"])
def test_only_an_established_leader_and_its_followers_serve_reads(place: str) -> None:
    one = One(0)
    if place != "looking":
        link = one.follow()
        if place == "synchronization":
            one.promise(link)
    one.step(Read(5))
    assert failed(one) == [5] and one.sent(ReadIndex) == []


def test_a_leader_not_yet_established_serves_no_reads() -> None:
    """C5: what it holds may never have been committed."""
    one = One(0)
    one.elect()
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    for link in links:
        one.ack_epoch(link)
    one.disk()
    assert one.place == (State.LEADING, Phase.SYNCHRONIZATION)
    one.step(Read(5))
    assert failed(one) == [5]


def test_after_a_pause_reads_wait_for_a_fresh_round() -> None:
    """F5, bug 25"""
    one, links = leading()
    one.step(Read(1))
    before = one.peer.hb_seq
    one.now += 3000
    one.step(Resumed())
    one.step(Read(2))
    echo(one, links[0], before)
    assert 2 not in ready(one)
    echo(one, links[0])
    echo(one, links[0])
    assert ready(one) == [1, 2]


def test_each_read_is_answered_once_though_the_leader_resigns_on_confirming() -> None:
    """B9, F5"""
    one, links = leading(timing=Timing(max_counter=1))
    one.request()
    one.disk()
    one.now += 300
    one.step(Resumed())
    one.hear(1, Ack(2, Zxid(2, 1)), links[0])
    one.step(Read(9))
    one.request()  # no counter is left: resigns as soon as 2.1 is committed
    echo(one, links[0])
    assert one.place == (State.LOOKING, Phase.QUIESCE)
    assert len(ready(one)) + len(failed(one)) == 1


# ---- at a follower -----------------------------------------------------------------------------------------------


def test_a_follower_asks_its_leader_for_the_index() -> None:
    one = One(0)
    link = one.follower()
    one.step(Read(3))
    assert one.to(link, ReadIndex) == [ReadIndex(2, 3)]
    one.hear(1, ReadIndexReply(2, 3, Zxid(2, 5)), link)
    assert one.did(ReadReady) == [ReadReady(3, Zxid(2, 5))]


def test_a_followers_read_need_not_wait_for_commit() -> None:
    """The index is committed, and COMMIT may be a moment behind (B2)."""
    one = One(0)
    link = one.follower()
    one.hear(1, Propose(2, (batch(2, 1, ZERO),), ZERO), link)
    one.disk()
    one.step(Read(3))
    one.hear(1, ReadIndexReply(2, 3, Zxid(2, 1)), link)
    assert one.delivered == Zxid(2, 1)


def test_a_follower_that_loses_its_leader_fails_its_reads() -> None:
    one = One(0)
    link = one.follower()
    one.step(Read(4))
    one.step(Read(3))
    one.step(LinkLost(link, "reset"))
    assert failed(one) == [3, 4]


def test_an_index_nobody_asked_for_closes_the_link() -> None:
    one = One(0)
    link = one.follower()
    one.hear(1, ReadIndexReply(2, 3, ZERO), link)
    assert one.closed(link)


def test_a_leader_serves_a_followers_read_like_its_own() -> None:
    one, links = leading()
    one.hear(1, ReadIndex(2, 30), links[0])
    assert one.to(links[0], ReadIndexReply) == []
    echo(one, links[1])
    assert one.to(links[0], ReadIndexReply) == [ReadIndexReply(2, 30, ZERO)]


def test_a_followers_read_is_forgotten_with_its_link() -> None:
    one, links = leading()
    one.hear(1, ReadIndex(2, 30), links[0])
    one.step(LinkLost(links[0], "reset"))
    echo(one, links[1])
    assert one.sent(ReadIndexReply) == [] and failed(one) == []


def test_a_read_at_a_follower_says_nothing_of_its_own_state() -> None:
    """The index may be beyond what is applied here: the shell waits until it is."""
    one = One(0)
    link = one.follower()
    one.hear(1, Propose(2, (batch(2, 1, ZERO),), ZERO), link)
    one.step(Read(1))
    one.hear(1, ReadIndexReply(2, 1, Zxid(2, 1)), link)
    assert one.did(ReadReady) == [ReadReady(1, Zxid(2, 1))]
    assert one.delivered == ZERO
