"""Phase 3: propose, acknowledge, commit, deliver; when a leader must stop (PROTOCOL 6, B1 to B12, D3, F2 to F6, T9)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.one import One, batch, chain, history, process
from zabzmq.core.effects import (
    Append,
    Busy,
    Deliver,
    Effect,
    Proposed,
    Publish,
    ReadBatches,
    Report,
    Resubscribe,
    SaveEpochs,
    Send,
)
from zabzmq.core.history import Epochs
from zabzmq.core.inputs import DiskSpace, Durable, LinkLost, Resumed, SnapshotTaken, Space
from zabzmq.core.messages import (
    Ack,
    AckNewLeader,
    Commit,
    HbEcho,
    Heartbeat,
    Nack,
    NewLeader,
    Notification,
    Phase,
    Propose,
    Refusal,
    State,
    SyncProgress,
    SyncTxns,
    Trunc,
    UpToDate,
)
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, ProcessId, Zxid

LEADING = (State.LEADING, Phase.BROADCAST)
FOLLOWING = (State.FOLLOWING, Phase.BROADCAST)
LEAVING = (State.LOOKING, Phase.QUIESCE)


COMMIT_DELAY = Timing().commit_delay


def z(counter: int, epoch: int = 2) -> Zxid:
    return Zxid(epoch, counter)


def leading(voters: int = 3, *learners: int, timing: Timing | None = None) -> tuple[One, list[LinkId]]:
    one = One(0, voters, timing=timing)
    return one, one.lead(*learners)


def ack(one: One, link: LinkId, zxid: Zxid) -> None:
    one.hear(link.learner, Ack(2, zxid), link)


def echo(one: One, *links: LinkId, via_link: bool = False) -> None:
    """These learners echo the newest heartbeat."""
    for link in links:
        one.hear(link.learner, HbEcho(2, one.peer.hb_seq, via_link), link)


# ---- proposing ---------------------------------------------------------------------------------------------------


def test_a_request_becomes_one_batch_one_append_and_one_message_for_all() -> None:
    one, links = leading()
    effects = one.request(500)
    proposal = Propose(2, (batch(2, 1, ZERO, 500, data=b"x"),), ZERO)
    assert one.did(Append, effects) == [Append(0, proposal.batches)]
    assert [(e.link, e.message) for e in one.did(Send, effects)] == [(link, proposal) for link in links]
    assert len({id(e.message) for e in one.did(Send, effects)}) == 1
    assert one.did(Proposed, effects) == [Proposed(proposal.batches[0])]


def test_counters_go_on_from_batch_to_batch_and_start_at_one_in_each_epoch() -> None:
    one = One(0, batches=chain((1, 3)))
    one.lead()
    for count in (2, 5, 1):
        one.request(count)
    batches = [b for e in one.did(Append) for b in e.batches]
    assert [(b.first, b.prev, b.last) for b in batches] == [
        (z(1), Zxid(1, 3), z(2)),
        (z(3), z(2), z(7)),
        (z(8), z(7), z(8)),
    ]


@pytest.mark.parametrize("place", ["looking", "following", "leading in discovery", "leading in synchronization"])
def test_only_an_established_leader_proposes(place: str) -> None:
    """C1"""
    one = One(0)
    if place == "following":
        one.follower()
    elif place != "looking":
        one.elect()
        links = [one.info(i) for i in (1, 2)]
        if place == "leading in synchronization":
            one.disk()
            one.ack_epoch(links[0])
            one.disk()
            assert one.place == (State.LEADING, Phase.SYNCHRONIZATION)
    before = len(one.did(Append))
    effects = one.request()
    assert [busy.leading for busy in one.did(Busy, effects)] == [False]
    assert len(one.did(Append)) == before


def test_proposals_go_to_those_who_have_not_acknowledged_newleader_too() -> None:
    """B7, bug 29"""
    one, links = leading(3, 1)
    late = one.info(2)
    one.ack_epoch(late)
    assert one.to(late, NewLeader) == [NewLeader(2, ZERO)]
    one.request()
    assert [p.batches[0].last for p in one.to(late, Propose)] == [z(1)]
    assert len(one.to(links[0], Propose)) == 1


def test_nobody_is_sent_a_proposal_twice_or_with_a_hole_while_the_log_is_read_for_him() -> None:
    """B6, B7: the cursor stands in a read while proposals go on."""
    one, _ = leading(3, 1)
    one.request()
    one.disk()
    late = one.info(2)
    one.ack_epoch(late)  # its cursor is at 0.0, a read of (0.0, 2.1] is under way
    assert one.did(ReadBatches)[-1].upto == z(1)
    one.request()
    one.request()
    one.disk()
    one.request()
    one.disk()
    got = [b for m in one.to(late) if isinstance(m, (SyncTxns, Propose)) for b in m.batches]
    assert [b.first for b in got] == [z(1), z(2), z(3), z(4)]
    kinds = [type(m) for m in one.to(late) if isinstance(m, (SyncTxns, NewLeader, Propose))]
    assert kinds[:2] == [SyncTxns, NewLeader] and set(kinds[2:]) == {Propose}


# ---- committing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voters", "acks", "own", "committed"),
    [
        pytest.param(1, [], True, True, id="alone, durable here"),
        pytest.param(1, [], False, False, id="alone, not yet durable here"),
        pytest.param(3, [], True, False, id="own ack is not enough"),
        pytest.param(3, [1], True, True, id="one of two others, and itself"),
        pytest.param(3, [1], False, False, id="its own vote counts after its own sync only (B4)"),
        pytest.param(3, [1, 2], False, True, id="both others without itself (B4)"),
        pytest.param(4, [1], True, False, id="half is not a majority"),
        pytest.param(5, [1, 1, 1], True, False, id="one peer counts once"),
        pytest.param(5, [1, 2], True, True, id="three of five"),
        pytest.param(5, [1, 2], False, False, id="two of five"),
        pytest.param(5, [1, 2, 3], False, True, id="three of five without itself"),
    ],
)
def test_leader_commits_only_with_a_quorum(voters: int, acks: list[int], own: bool, committed: bool) -> None:
    one, links = leading(voters)
    one.request()
    for i in acks:
        ack(one, links[i - 1], z(1))
    if own:
        one.disk()
    assert (one.peer.committed == z(1)) is committed
    one.tick(COMMIT_DELAY)
    assert (Publish(Commit(2, z(1))) in one.said) is committed


def test_a_commit_is_applied_only_when_durable_here() -> None:
    """D3, B4, C9"""
    one, links = leading()
    one.request()
    for link in links:
        ack(one, link, z(1))
    assert one.peer.committed == z(1) and one.delivered == ZERO
    one.disk()
    assert one.delivered == z(1)


def test_the_leader_counts_itself_up_to_what_is_durable_and_no_further() -> None:
    """B4"""
    one, links = leading()
    one.request()
    one.request()
    one.disk(1)
    ack(one, links[0], z(2))
    assert one.peer.committed == z(1)
    one.disk()
    assert one.peer.committed == z(2)


def test_one_ack_speaks_for_all_before_it() -> None:
    """B1, B2, B8: one watermark and one delivery for the whole burst."""
    one, links = leading()
    for _ in range(10):
        one.request(3)
    one.disk()
    before = len(one.said)
    ack(one, links[0], z(30))
    one.tick(COMMIT_DELAY)
    assert one.sent(Commit, one.said[before:]) == [Commit(2, z(30))]
    assert one.did(Deliver, one.said[before:]) == [Deliver(z(30))]


def test_a_commit_is_published_a_moment_later_and_once() -> None:
    """B2: two watermarks within that moment are one message."""
    one, links = leading()
    one.request()
    one.request()
    one.disk()
    ack(one, links[0], z(1))
    one.tick(COMMIT_DELAY - 1)
    ack(one, links[0], z(2))
    assert one.sent(Commit) == []
    assert one.peer.next_deadline == one.now + 1
    one.tick(1)
    one.tick(1)
    assert one.sent(Commit) == [Commit(2, z(2))]


def test_a_proposal_that_tells_everyone_takes_the_place_of_a_commit() -> None:
    """B2: a busy cluster is told what is committed by what it is sent anyway."""
    one, links = leading()
    one.request()
    one.disk()
    ack(one, links[0], z(1))
    one.request()
    assert [one.to(link, Propose)[-1].committed for link in links] == [z(1), z(1)]
    one.tick(COMMIT_DELAY)
    assert one.sent(Commit) == []


def test_a_proposal_that_one_learner_is_not_sent_leaves_the_commit_due() -> None:
    """B2, B6"""
    one, links = leading(timing=Timing(window_bytes=100))
    one.request(1, b"x" * 200)
    one.disk()
    ack(one, links[0], z(1))
    one.request()
    assert len(one.to(links[0], Propose)) == 2 and len(one.to(links[1], Propose)) == 1
    one.tick(COMMIT_DELAY)
    assert one.sent(Commit) == [Commit(2, z(1))]


def test_late_and_repeated_acks_change_nothing() -> None:
    """B10"""
    one, links = leading()
    one.request()
    one.request()
    one.disk()
    ack(one, links[0], z(2))
    for stale in (z(2), z(1), ZERO, Zxid(1, 7)):
        ack(one, links[0], stale)
    assert one.peer.committed == z(2) and not one.closed(links[0])
    one.tick(COMMIT_DELAY)
    assert one.sent(Commit) == [Commit(2, z(2))]


def test_ack_of_what_was_never_sent_closes_the_link() -> None:
    one, links = leading()
    ack(one, links[0], z(1))
    assert one.closed(links[0]) and one.place == LEADING


def test_ack_before_ack_newleader_closes_the_link_and_not_the_leader() -> None:
    """S6, bug 4"""
    one, _ = leading(3, 1)
    late = one.info(2)
    one.ack_epoch(late)
    one.request()
    ack(one, late, z(1))
    assert one.closed(late) and one.place == LEADING
    one.disk()
    assert one.peer.committed == ZERO


def test_ack_of_another_epoch_closes_the_link() -> None:
    """B5, T2"""
    one, links = leading()
    one.request()
    one.disk()
    one.hear(1, Ack(1, z(1)), links[0])
    assert one.closed(links[0]) and one.peer.committed == ZERO


def test_acks_of_a_closed_link_are_dropped() -> None:
    """B10, B11"""
    one, links = leading()
    one.request()
    one.disk()
    one.step(LinkLost(links[0], "reset"))
    ack(one, links[0], z(1))
    assert one.peer.committed == ZERO


def test_an_ack_is_forgotten_with_its_link() -> None:
    """B11: five voters; two acks that were never there at once are no quorum with a third."""
    one, links = leading(5)
    one.request()
    one.disk()
    ack(one, links[0], z(1))
    one.step(LinkLost(links[0], "reset"))
    ack(one, links[1], z(1))
    assert one.peer.committed == ZERO
    ack(one, links[2], z(1))
    assert one.peer.committed == z(1)


def test_a_latecomers_ack_of_newleader_counts_as_ack_of_its_cut() -> None:
    one, links = leading(5, 1, 2)
    one.request()
    one.disk()
    ack(one, links[0], z(1))
    assert one.peer.committed == ZERO
    late = one.info(3)
    one.ack_epoch(late)
    one.disk()
    one.ack_new_leader(late)
    assert one.peer.committed == z(1)


def test_watermark_travels_with_every_heartbeat_and_proposal() -> None:
    """B2: any number of lost COMMITs is repaired by the next of either."""
    one, links = leading()
    one.request()
    one.disk()
    ack(one, links[0], z(1))
    one.request()
    assert one.to(links[1], Propose)[-1].committed == z(1)
    one.wait(60)
    assert one.sent(Heartbeat)[-1].committed == z(1)


# ---- windows -----------------------------------------------------------------------------------------------------


def test_more_than_max_outstanding_is_refused_until_commits_make_room() -> None:
    """B6, C7"""
    one, links = leading(timing=Timing(max_outstanding=10))
    one.request(6)
    assert [busy.leading for busy in one.did(Busy, one.request(5))] == [True]
    assert one.did(Busy, one.request(4)) == []
    assert len(one.did(Busy, one.request(1))) == 1
    one.disk()
    ack(one, links[0], z(6))
    assert one.did(Busy, one.request(6)) == []
    assert one.peer.history.last == z(16)


def test_more_than_max_outstanding_bytes_is_refused() -> None:
    """B6, C7"""
    one, links = leading(timing=Timing(max_outstanding_bytes=1000))
    one.request(1, b"x" * 900)
    assert len(one.did(Busy, one.request(1, b"x" * 200))) == 1
    one.disk()
    ack(one, links[0], z(1))
    assert one.did(Busy, one.request(1, b"x" * 200)) == []


def test_a_slow_learner_is_sent_no_more_than_its_window_and_slows_nobody() -> None:
    """B6"""
    one, links = leading(timing=Timing(window_bytes=1000, chunk_bytes=400))
    for i in range(1, 11):
        one.request(1, b"x" * 400)
        one.disk()
        ack(one, links[0], z(i))
    assert one.peer.committed == z(10)
    slow = [b.last for p in one.to(links[1], Propose) for b in p.batches]
    assert slow == [z(1), z(2), z(3)]
    ack(one, links[1], z(3))
    one.disk()
    more = [b.last for p in one.to(links[1], Propose) for b in p.batches]
    assert more == [z(i) for i in range(1, len(more) + 1)] and len(more) > 3


def test_a_learner_whose_disk_takes_nothing_is_cut_off_though_it_echoes() -> None:
    """B6"""
    one, links = leading(timing=Timing(sync_progress_timeout=1000))
    one.request()
    one.disk()
    ack(one, links[0], z(1))
    for _ in range(30):
        one.wait(60)
        echo(one, *[link for link in links if not one.closed(link)])
    assert one.closed(links[1]) and not one.closed(links[0])
    assert one.place == LEADING


def test_a_cursor_below_the_retained_history_closes_the_link() -> None:
    """B11"""
    one, links = leading()
    for i in range(1, 4):
        one.request()
        one.disk()
        ack(one, links[0], z(i))
    one.step(LinkLost(links[1], "reset"))
    again = one.info(2, 2)
    one.ack_epoch(again)
    assert one.did(ReadBatches)[-1].after == ZERO
    one.store.take_snapshot(z(2))
    one.disk()
    assert one.closed(again) and one.place == LEADING


# ---- the follower ------------------------------------------------------------------------------------------------


def propose(one: One, link: LinkId, *counters: int, committed: Zxid = ZERO) -> None:
    batches = tuple(batch(2, c, z(c - 1) if c > 1 else ZERO) for c in counters)
    one.hear(link_leader(one), Propose(2, batches, committed), link)


def link_leader(one: One) -> int:
    leader = one.peer.phase.leader
    assert leader is not None
    return leader.peer


def test_follower_acknowledges_what_is_durable_and_not_before() -> None:
    one = One(0)
    link = one.follower()
    propose(one, link, 1)
    assert one.sent(Ack) == []
    one.disk()
    assert one.sent(Ack) == [Ack(2, z(1))]


def test_one_ack_for_all_that_one_sync_made_durable() -> None:
    """B1"""
    one = One(0)
    link = one.follower()
    for c in (1, 2, 3):
        propose(one, link, c)
    one.store.queue.clear()
    one.step(Durable(one.peer.role, z(3)))
    assert one.sent(Ack) == [Ack(2, z(3))]


@pytest.mark.parametrize("via", ["COMMIT", "HEARTBEAT", "HEARTBEAT on the link", "PROPOSE"])
def test_any_watermark_delivers_what_is_durable(via: str) -> None:
    """B2, D3"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1, 2)
    one.disk()
    assert one.delivered == ZERO
    match via:
        case "COMMIT":
            one.hear(1, Commit(2, z(2)))
        case "PROPOSE":
            propose(one, link, 3, committed=z(2))
        case _:
            on = link if "link" in via else None
            one.beat(1, 2, state=State.LEADING, phase=Phase.BROADCAST, committed=z(2), link=on)
    assert one.delivered == z(2)


def test_a_watermark_ahead_of_the_own_disk_waits_for_it() -> None:
    """D3"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1, 2, 3)
    one.hear(1, Commit(2, z(2)))
    assert one.delivered == ZERO
    one.disk()
    assert one.delivered == z(2)


def test_watermarks_never_go_back() -> None:
    """B2, B8"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1, 2, 3)
    one.disk()
    for c in (2, 1, 3, 1):
        one.hear(1, Commit(2, z(c)))
    assert [d.upto for d in one.did(Deliver)] == [z(2), z(3)]


@pytest.mark.parametrize(
    ("source", "epoch"),
    [
        pytest.param(process(2), 2, id="of another peer"),
        pytest.param(process(1), 1, id="of an earlier epoch"),
        pytest.param(process(1), 3, id="of a later epoch"),
    ],
)
@pytest.mark.parametrize("heartbeat", [False, True])
def test_watermarks_count_only_from_the_leader_of_the_link_and_its_epoch(
    source: ProcessId, epoch: int, heartbeat: bool
) -> None:
    """T3"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1)
    one.disk()
    if heartbeat:
        one.beat(source, epoch, state=State.LEADING, phase=Phase.BROADCAST, committed=z(1))
    else:
        one.hear(source, Commit(epoch, z(1)))
    assert one.delivered == ZERO and one.sent(HbEcho) == []


def test_a_repeated_proposal_is_ignored_and_acknowledged_again() -> None:
    """B3, bug 30"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1, 2)
    one.disk()
    propose(one, link, 1)
    propose(one, link, 2)
    assert one.sent(Ack) == [Ack(2, z(2))] * 3
    assert one.store.history.last == z(2) and not one.closed(link)


def test_a_repeat_is_acknowledged_only_up_to_what_is_durable() -> None:
    """B3"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1)
    one.disk()
    propose(one, link, 2)
    propose(one, link, 2)
    assert one.sent(Ack) == [Ack(2, z(1))] * 2
    one.disk()
    assert one.sent(Ack)[-1] == Ack(2, z(2))


def test_of_a_message_half_known_the_new_half_is_appended() -> None:
    """B3"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1)
    propose(one, link, 1, 2, 3)
    one.disk()
    assert [b.first for b in one.store.batches] == [z(1), z(2), z(3)]


@pytest.mark.parametrize("counters", [(2,), (1, 3)], ids=["a batch is missing", "a hole inside"])
def test_nothing_is_appended_across_a_hole(counters: tuple[int, ...]) -> None:
    """B3: the link is closed, and what came before the hole is not pretended to be queued."""
    one = One(0)
    link = one.follower()
    batches = tuple(batch(2, c, z(c - 1)) if c > 1 else batch(2, 1, ZERO) for c in counters)
    one.hear(1, Propose(2, batches, ZERO), link)
    assert one.closed(link) and one.place == LEAVING
    one.disk()
    assert one.store.history.last == ZERO == one.peer.history.last and one.sent(Ack) == []


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Propose(2, (batch(3, 1, ZERO),), ZERO), id="proposal of a later epoch"),
        pytest.param(Propose(2, (batch(1, 1, ZERO),), ZERO), id="proposal of an earlier epoch"),
        pytest.param(Propose(2, (batch(2, 1, ZERO), batch(3, 1, z(1))), ZERO), id="later epoch behind a good one"),
        pytest.param(Propose(3, (batch(2, 1, ZERO),), ZERO), id="message of another epoch"),
        pytest.param(Trunc(2, ZERO), id="TRUNC"),
        pytest.param(SyncTxns(2, (batch(2, 1, ZERO),)), id="SYNC_TXNS"),
        pytest.param(NewLeader(2, ZERO), id="NEWLEADER twice"),
        pytest.param(UpToDate(2, ZERO), id="UPTODATE twice"),
        pytest.param(Ack(2, ZERO), id="ACK"),
    ],
)
def test_what_does_not_belong_here_closes_the_link(message: object) -> None:
    one = One(0)
    link = one.follower()
    one.hear(1, message, link)
    assert one.closed(link) and one.place == LEAVING
    one.disk()
    assert one.store.history.last == ZERO


def test_a_proposal_of_nothing_is_but_a_watermark() -> None:
    one = One(0)
    link = one.follower()
    propose(one, link, 1)
    one.disk()
    one.hear(1, Propose(2, (), z(1)), link)
    assert one.delivered == z(1) and not one.closed(link)


def test_completions_of_an_older_role_acknowledge_nothing() -> None:
    """D4, V2, bug 18"""
    one = One(0)
    link = one.follower()
    propose(one, link, 1)
    write = one.did(Append)[-1]
    one.step(LinkLost(link, "reset"))
    one.store.history.append(write.batches[0])  # it was in flight, and made it
    one.step(Durable(write.role, z(1)))
    assert one.sent(Ack) == [] and one.peer.durable == ZERO
    one.disk()
    assert one.peer.history.last == z(1)
    assert one.peer.own_vote() is not None and one.peer.own_vote().zxid == z(1)  # type: ignore[union-attr]


# ---- signs of life -----------------------------------------------------------------------------------------------


def test_follower_echoes_its_leaders_heartbeats() -> None:
    one = One(0)
    link = one.follower()
    one.beat(1, 2, state=State.LEADING, phase=Phase.BROADCAST, hb_seq=7)
    one.beat(1, 2, state=State.LEADING, phase=Phase.BROADCAST, hb_seq=8, link=link)
    assert one.sent(HbEcho) == [HbEcho(2, 7, False), HbEcho(2, 8, True)]


def test_followers_beat_when_their_leader_has_woken_them() -> None:
    """8.1: at least every 500 ms all the same."""
    one = One(0)
    one.follower()
    began, beats = one.now, len(one.sent(Heartbeat))
    at: list[float] = []
    for i in range(1, 41):
        one.wait(60)
        assert len(one.sent(Heartbeat)) == beats, "not by its own clock"
        one.beat(1, 2, state=State.LEADING, phase=Phase.BROADCAST, hb_seq=i)
        if len(one.sent(Heartbeat)) > beats:
            beats += 1
            at.append(one.now - began)
    assert at == [480, 960, 1440, 1920, 2400]


def test_followers_beat_also_without_a_heartbeat_of_their_leader() -> None:
    one = One(0, timing=Timing(peer_timeout=2000))
    one.follower()
    beats = len(one.sent(Heartbeat))
    one.wait(500)
    assert len(one.sent(Heartbeat)) == beats + 1


def test_a_silent_leader_is_left_after_peer_timeout() -> None:
    one = One(0)
    one.follower()
    one.wait(449)
    assert one.place == FOLLOWING
    one.wait(102)
    assert one.place == LEAVING


@pytest.mark.parametrize("sign", ["heartbeat", "commit", "link"])
def test_anything_valid_from_the_leader_is_a_sign_of_life(sign: str) -> None:
    """T9"""
    one = One(0)
    link = one.follower()
    for i in range(1, 6):
        one.wait(400)
        match sign:
            case "heartbeat":
                one.beat(1, 2, state=State.LEADING, phase=Phase.BROADCAST, hb_seq=i)
            case "commit":
                one.hear(1, Commit(2, ZERO))
            case _:
                propose(one, link, i)
    assert one.place == FOLLOWING


def test_heartbeats_of_others_are_no_sign_of_my_leaders_life() -> None:
    """T3"""
    one = One(0)
    one.follower()
    for _ in range(3):
        one.wait(200)
        one.beat(2, 2, state=State.LEADING, phase=Phase.BROADCAST)
    assert one.place == LEAVING


def test_a_reset_link_is_noticed_at_once() -> None:
    """F3"""
    one = One(0)
    one.step(LinkLost(one.follower(), "reset"))
    assert one.place == LEAVING


def test_follower_leaves_a_leader_seen_looking_or_restarted() -> None:
    """F3"""
    for sign in ("looking", "restarted"):
        one = One(0)
        one.follower()
        if sign == "looking":
            one.looking(1, 1, 2)
        else:
            one.beat(process(1, 2), 2)
        assert one.place == LEAVING, sign


def test_follower_answers_a_looking_peer_and_stays() -> None:
    """F7, E5"""
    one = One(0)
    one.follower()
    before = len(one.said)
    one.looking(2, 2, 99)
    (answer,) = one.sent(Notification, one.said[before:])
    assert (answer.state, answer.leader, answer.round) == (State.FOLLOWING, process(1), 1)
    assert one.place == FOLLOWING


def test_follower_makes_its_subscription_anew_when_heartbeats_come_by_the_link_only() -> None:
    """T9"""
    one = One(0)
    link = one.follower()
    for i in range(1, 30):
        one.wait(60)
        one.beat(1, 2, state=State.LEADING, phase=Phase.BROADCAST, hb_seq=i, link=link)
    assert 2 <= len(one.did(Resubscribe)) <= 4


def test_leader_beats_on_the_link_while_pub_is_cut_and_stops_when_it_works_again() -> None:
    """T9"""
    one, links = leading()
    for _ in range(10):
        one.wait(60)
        echo(one, links[0])
        if one.to(links[1], Heartbeat):
            echo(one, links[1], via_link=True)
    assert one.to(links[0], Heartbeat) == []
    assert 3 <= len(one.to(links[1], Heartbeat)) <= 8
    assert one.place == LEADING
    echo(one, links[1])
    before = len(one.to(links[1], Heartbeat))
    one.wait(60)
    assert len(one.to(links[1], Heartbeat)) == before


# ---- when a leader must stop ---------------------------------------------------------------------------------------


def test_leader_without_a_quorum_of_echoes_steps_down() -> None:
    """F2"""
    one, _ = leading()
    one.wait(399)
    assert one.place == LEADING
    one.wait(62)
    assert one.place == LEAVING


def test_echoes_of_a_quorum_keep_the_leader() -> None:
    """F2"""
    one, links = leading(5)
    for _ in range(20):
        one.wait(60)
        echo(one, links[0], links[1])
    assert one.place == LEADING
    for _ in range(10):
        one.wait(60)
        echo(one, links[0])
    assert one.place == (State.LOOKING, Phase.QUIESCE)


def doubts(effects: list[Effect]) -> list[dict[str, Any]]:
    return [e.fields for e in effects if isinstance(e, Report) and e.kind == "quorum"]


def test_a_leader_in_doubt_tells_when_it_gives_up_and_when_that_is_over() -> None:
    """F2, for people: half the time is up."""
    one, links = leading(5)
    for _ in range(10):
        one.wait(60)
        echo(one, links[0], links[1])
        assert doubts(one.said) == []
    beat_at = one.now
    (told,) = doubts(one.wait(240))
    assert told == {"have": [0], "need": 3, "ms": 160.0}, "the tick of 240 ms after the heartbeat that was echoed"
    echo(one, links[0], links[1])
    assert doubts(one.wait(60)) == [{"have": [0, 1, 2], "need": 3}]
    assert [each["have"] for each in doubts(one.wait(340))] == [[0]]
    assert one.now - beat_at == 640 and one.place == LEADING
    one.wait(60)
    assert one.place == LEAVING


def test_a_leader_in_doubt_tells_again_when_the_moment_has_moved() -> None:
    one, links = leading(5)
    for _ in range(10):
        one.wait(60)
        echo(one, links[0], links[1])
    one.wait(240)
    for link in links[:2]:
        one.hear(link.learner, HbEcho(2, one.peer.hb_seq - 3, False), link)  # of the next heartbeat, and late
    one.wait(60)
    assert [each["ms"] for each in doubts(one.said)] == [160.0, 160.0]


def test_a_link_that_blinks_costs_no_leadership_before_its_last_echo_is_old() -> None:
    """F2, F4, E2: with one voter down, the other has quorum_timeout to come back."""
    one, links = leading()
    one.step(LinkLost(links[1], "reset"))
    for _ in range(10):
        one.wait(60)
        echo(one, links[0])
    one.step(LinkLost(links[0], "reset"))
    one.wait(350)
    assert one.place == LEADING
    one.wait(120)
    assert one.place == LEAVING


def test_acks_are_as_good_as_echoes() -> None:
    """F2"""
    one, links = leading()
    for i in range(1, 21):
        one.request()
        one.disk()
        ack(one, links[0], z(i))
        one.wait(60)
    assert one.place == LEADING


def test_an_echo_is_as_old_as_the_heartbeat_it_echoes() -> None:
    """F2"""
    one, links = leading()
    old = one.peer.hb_seq
    for _ in range(8):
        one.wait(60)
        if one.place != LEADING:
            break
        for link in links:
            one.hear(link.learner, HbEcho(2, old, False), link)
    assert one.place == LEAVING


@pytest.mark.parametrize(("beats_late", "place"), [(3, LEADING), (8, LEAVING)])
def test_echoes_that_come_late_keep_a_leader_only_while_they_are_young(
    beats_late: int, place: tuple[State, Phase]
) -> None:
    """F2: there is always a new one, of a heartbeat sent 180 or 480 ms ago."""
    one, links = leading()
    for _ in range(20):
        one.wait(60)
        if one.place == LEADING:
            for link in links:
                one.hear(link.learner, HbEcho(2, one.peer.hb_seq - beats_late, False), link)
    assert one.place == place


def test_an_ack_is_as_old_as_the_proposal_it_answers() -> None:
    """F2"""
    one, links = leading()
    one.request()
    one.disk()
    one.wait(380)
    for link in links:
        ack(one, link, z(1))
    assert one.place == LEADING
    one.wait(80)
    assert one.place == LEAVING


def test_unjoined_voters_do_not_keep_a_leader() -> None:
    """V5, F2"""
    one, links = leading(3, 1)
    wiped = one.info(2, joined=False)
    one.ack_epoch(wiped, current=0, counted=False)
    one.disk()
    one.step(LinkLost(links[0], "reset"))
    for _ in range(8):
        one.wait(60)
        if one.place == LEADING:
            echo(one, wiped)
    assert one.place == LEAVING


def test_lost_links_alone_do_not_unseat_a_leader() -> None:
    """F4"""
    one, links = leading()
    for link in links:
        one.step(LinkLost(link, "reset"))
    assert one.place == LEADING


def test_a_leader_whose_disk_is_stalled_resigns() -> None:
    """F6, bug 17"""
    one, links = leading()
    one.request()
    for _ in range(20):
        one.wait(60)
        if one.place == LEADING:
            echo(one, *links)
    assert one.place == LEAVING


def test_a_busy_disk_is_not_a_stalled_one() -> None:
    """F6: each write ends in time, though there is always another."""
    one, links = leading()
    one.request()
    for _ in range(40):
        one.request()
        one.disk(1)
        one.wait(60)
        echo(one, *links)
    assert one.place == LEADING


def test_a_leader_whose_disk_is_full_resigns() -> None:
    """L15"""
    one, _ = leading()
    one.step(DiskSpace(Space.LOW))
    assert one.place == LEADING
    one.step(DiskSpace(Space.FULL))
    assert one.place == LEAVING
    one.disk()
    assert one.peer.own_vote() is None


def test_a_leader_with_no_counters_left_refuses_commits_what_it_proposed_and_resigns() -> None:
    """B9, bug 21"""
    one, links = leading(timing=Timing(max_counter=5))
    one.request(4)
    assert [busy.leading for busy in one.did(Busy, one.request(2))] == [True]
    assert one.place == LEADING, "4 transactions are still on their way"
    assert len(one.did(Busy, one.request(1))) == 1
    one.disk()
    ack(one, links[0], z(4))
    assert one.peer.committed == z(4) and one.place == LEAVING


def test_counters_are_used_up_to_the_last() -> None:
    """B9"""
    one, _ = leading(timing=Timing(max_counter=5))
    one.request(4)
    assert one.did(Busy, one.request(1)) == []
    assert one.peer.history.last == z(5)


def test_a_request_that_fits_no_epoch_is_refused_without_resigning() -> None:
    """B9: else every epoch would end with it."""
    one, _ = leading(timing=Timing(max_counter=5))
    assert [busy.leading for busy in one.did(Busy, one.request(6))] == [True]
    assert one.place == LEADING


def test_established_leader_steps_down_for_a_higher_promise_but_not_often() -> None:
    """V4"""
    one, links = leading()
    one.hear(1, Nack(Refusal.EPOCH_TOO_OLD, 40), links[0])
    assert one.place == LEAVING
    one.disk()
    one.elect()
    again = [one.info(i, 2, accepted=40) for i in (1, 2)]
    one.disk()
    assert one.peer.phase.epoch == 41
    for link in again:
        one.ack_epoch(link)
    one.disk()
    one.ack_new_leader(again[0])
    assert one.place == LEADING
    one.hear(2, Nack(Refusal.EPOCH_TOO_OLD, 50), again[1])
    assert one.place == LEADING and one.closed(again[1])
    late = one.now + 3000
    while one.now < late:
        one.wait(60)
        one.hear(1, HbEcho(41, one.peer.hb_seq, False), again[0])
    third = one.info(2, 3, accepted=50)
    one.hear(2, Nack(Refusal.EPOCH_TOO_OLD, 50), third)
    assert one.place == LEAVING


# ---- standing still (F5) -----------------------------------------------------------------------------------------


def test_after_a_pause_a_quorum_is_asked_before_clients_are_served() -> None:
    """F5"""
    one, links = leading()
    one.now += 5000
    one.step(Resumed())
    assert len(one.did(Busy, one.request())) == 1
    one.tick()
    assert one.place == LEADING, "one quorum_timeout to pass a fresh round"
    echo(one, links[0])
    assert one.did(Busy, one.request()) == []


def test_after_a_pause_nothing_is_committed_before_the_fresh_round() -> None:
    """F5"""
    one, links = leading()
    one.request()
    one.disk()
    one.now += 5000
    one.step(Resumed())
    ack(one, links[0], z(1))
    assert one.peer.committed == ZERO
    echo(one, links[1])
    assert one.peer.committed == z(1)


def test_after_a_pause_old_echoes_do_not_help() -> None:
    """F5, F2"""
    one, links = leading()
    old = one.peer.hb_seq
    one.now += 5000
    one.step(Resumed())
    one.hear(1, HbEcho(2, old, False), links[0])
    assert len(one.did(Busy, one.request())) == 1
    one.wait(470)
    assert one.place == LEAVING


def test_after_a_pause_the_disk_has_its_time_anew() -> None:
    """F5, F6: it stood still with the process."""
    one, links = leading()
    one.request()
    one.now += 5000
    one.step(Resumed())
    one.tick()
    assert one.place == LEADING
    echo(one, links[0])
    one.disk()
    ack(one, links[0], z(1))
    assert one.peer.committed == z(1)


def test_a_follower_that_stood_still_does_not_blame_its_leader() -> None:
    """F5"""
    one = One(0)
    one.follower()
    one.now += 5000
    one.step(Resumed())
    one.tick()
    assert one.place == FOLLOWING


def test_a_leader_alone_goes_on_after_a_pause() -> None:
    """F5: it is its own quorum."""
    one = One(0, 1)
    one.disk()
    assert one.place == LEADING
    one.now += 5000
    one.step(Resumed())
    assert one.did(Busy, one.request()) == []


# ---- small things the rules rest on ------------------------------------------------------------------------------


def test_holders_are_the_voters_known_to_have_it_on_disk() -> None:
    one, links = leading(5)
    one.request()
    one.disk()
    ack(one, links[2], z(1))
    assert one.peer.holders(z(1)) == [0, 3]
    assert One(0).peer.holders(ZERO) == []


def test_a_snapshot_of_our_own_moves_base_and_snapshot_and_nothing_else() -> None:
    one, links = leading()
    for i in (1, 2, 3):
        one.request()
        one.disk()
        ack(one, links[0], z(i))
    one.step(SnapshotTaken(z(3), z(1)))
    index = one.peer.history
    assert (index.snapshot, index.base, index.last) == (z(3), z(1), z(3))


def test_no_epochs_are_written_in_broadcast() -> None:
    one, _ = leading()
    before = len(one.did(SaveEpochs))
    one.request()
    one.disk()
    assert len(one.did(SaveEpochs)) == before
    assert one.epochs == Epochs(2, 2, True)


@pytest.mark.parametrize("message", [AckNewLeader(2, ZERO), SyncProgress(2, Zxid(9, 9), 0), Propose(2, (), ZERO)])
def test_nonsense_from_a_learner_closes_its_link_only(message: object) -> None:
    one, links = leading()
    one.hear(1, message, links[0])
    assert one.closed(links[0]) and not one.closed(links[1]) and one.place == LEADING


def test_history_of_earlier_epochs_is_not_committed_again_by_counting() -> None:
    """B5: what was there before is committed by NEWLEADER, once and whole."""
    one = One(0, held=history((1, 3)))
    one.elect()
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    for link in links:
        one.ack_epoch(link, history((1, 3)))
    one.disk()
    assert one.peer.committed == ZERO and one.sent(Commit) == []
    one.ack_new_leader(links[0])
    assert one.peer.committed == Zxid(1, 3) and one.delivered == Zxid(1, 3)
