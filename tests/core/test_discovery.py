"""Phase 1: who promises what to whom, and when a leader has a quorum of it (PROTOCOL 4, V1 to V6)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.core.one import JOINED, One, batch, history, process
from zabzmq.core.effects import CloseLink, OpenLink, SaveEpochs, Send, SendVote
from zabzmq.core.history import Admit, Epochs, History
from zabzmq.core.inputs import DiskSpace, EpochsSaved, LinkLost, LinkUp, Space
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    FollowerInfo,
    HbEcho,
    LeaderInfo,
    Nack,
    NewLeader,
    Phase,
    Refusal,
    State,
    Trunc,
)
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import LinkId, PeerId, Zxid

LEADING_DISCOVERY = (State.LEADING, Phase.DISCOVERY)
LEADING_SYNC = (State.LEADING, Phase.SYNCHRONIZATION)
FOLLOWING_DISCOVERY = (State.FOLLOWING, Phase.DISCOVERY)
FOLLOWING_SYNC = (State.FOLLOWING, Phase.SYNCHRONIZATION)
LEAVING = (State.LOOKING, Phase.QUIESCE)
ELECTION = (State.LOOKING, Phase.ELECTION)


def offered(one: One) -> list[LeaderInfo]:
    return one.sent(LeaderInfo)


def elected(voters: int = 3, held: History | None = None, epochs: Epochs = JOINED) -> One:
    one = One(0, voters, held=held, epochs=epochs)
    one.elect()
    return one


# ---- the leader: forming the epoch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "accepted", "seen", "epoch"),
    [
        pytest.param(1, 1, 0, 2, id="all promised the same"),
        pytest.param(1, 7, 0, 8, id="a follower promised more"),
        pytest.param(9, 1, 0, 10, id="the leader itself promised more"),
        pytest.param(1, 1, 12, 13, id="a follower has heard of more"),
    ],
)
def test_new_epoch_exceeds_every_epoch_reported(own: int, accepted: int, seen: int, epoch: int) -> None:
    one = elected(epochs=Epochs(own, 1, True))
    one.info(1, accepted=accepted, seen=seen)
    one.disk()
    assert [info.epoch for info in offered(one)] == [epoch]


@pytest.mark.parametrize(("accepted", "seen"), [(1 << 63, 0), (1, (1 << 64) - 1)])
def test_an_epoch_that_no_honest_run_reaches_closes_the_link_and_is_forgotten(accepted: int, seen: int) -> None:
    one = elected()
    link = one.info(1, accepted=accepted, seen=seen)
    assert one.closed(link)
    one.info(2)
    one.disk()
    assert [info.epoch for info in offered(one)] == [2]


def test_leader_offers_an_epoch_only_when_its_own_promise_of_it_is_durable() -> None:
    one = elected()
    one.info(1)
    assert offered(one) == []
    assert one.did(SaveEpochs)[-1].epochs == Epochs(2, 1, True)
    one.disk()
    assert offered(one) != []


def test_who_comes_while_the_leaders_promise_is_written_waits_for_it_too() -> None:
    one = elected()
    one.info(1)
    one.info(2)
    assert offered(one) == [] and len(one.writes) == 1
    one.disk()
    assert len(offered(one)) == 2


@pytest.mark.parametrize(("voters", "infos"), [(3, 1), (4, 2), (5, 2)])
def test_leader_forms_its_epoch_from_a_quorum_of_followerinfo_counting_itself(voters: int, infos: int) -> None:
    one = elected(voters)
    for i in range(1, infos):
        one.info(i)
    one.disk()
    assert offered(one) == []
    one.info(infos)
    one.disk()
    assert len(offered(one)) == infos


def test_one_peer_that_comes_twice_is_no_quorum() -> None:
    one = elected(5)
    one.info(1, 1)
    one.info(1, 2)
    one.disk()
    assert offered(one) == []


def test_later_followers_are_offered_the_very_same_epoch() -> None:
    one = elected()
    one.info(1)
    one.disk()
    one.info(2, accepted=40)
    assert [info.epoch for info in offered(one)] == [2, 2]


def test_a_follower_of_another_configuration_is_refused() -> None:
    one = elected()
    link = one.info(1, config=99)
    assert one.to(link, Nack) == [Nack(Refusal.OTHER_CONFIG, 1)]
    assert one.closed(link)
    one.disk()
    assert offered(one) == []


def test_followerinfo_that_came_while_looking_is_kept_until_the_decision() -> None:
    """E7"""
    one = One(0)
    one.meet(1, 2)
    link = one.info(1)
    assert not one.closed(link)
    one.elect()
    one.disk()
    assert one.to(link, LeaderInfo) != []


def test_followerinfo_is_sent_away_by_a_looking_peer_that_votes_for_another() -> None:
    """E7"""
    one = One(0)
    one.meet(1, 2)
    one.looking(2, 2)
    link = one.info(1)
    assert one.to(link, Nack) == [Nack(Refusal.NOT_LEADING, 1)]
    assert one.closed(link)


def test_followerinfo_kept_while_looking_is_sent_away_when_another_is_followed() -> None:
    """E7"""
    one = One(0)
    one.meet(1, 2)
    link = one.info(1)
    one.looking(2, 2)
    one.looking(1, 2)
    assert one.place == FOLLOWING_DISCOVERY
    assert one.to(link, Nack) == [Nack(Refusal.NOT_LEADING, 1)]


@pytest.mark.parametrize("looking", [True, False], ids=["kept while looking", "while leading"])
def test_an_epoch_out_of_all_bounds_costs_its_teller_the_link(looking: bool) -> None:
    one = One(0)
    one.meet(1, 2)
    if looking:
        forged = one.info(1, accepted=(1 << 64) - 1)
        one.elect()
    else:
        one.elect()
        forged = one.info(1, accepted=(1 << 64) - 1)
    assert one.closed(forged)
    one.info(2)
    one.disk()
    assert [info.epoch for info in offered(one)] == [2]


# ---- the leader: weighing promises -----------------------------------------------------------------------------


def test_currentepoch_rises_with_a_quorum_of_counted_promises_and_newleader_waits_for_it() -> None:
    one = elected(5)
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    one.ack_epoch(links[0])
    assert one.epochs.current == 1 and not one.writes
    one.ack_epoch(links[1])
    assert one.did(SaveEpochs)[-1].epochs == Epochs(2, 2, True)
    assert one.place == LEADING_DISCOVERY and one.sent(NewLeader) == []
    one.disk()
    assert one.place == LEADING_SYNC and len(one.sent(NewLeader)) == 2


@pytest.mark.parametrize(
    ("current", "held", "steps_down"),
    [
        pytest.param(3, history((1, 1)), True, id="later currentEpoch, shorter history"),
        pytest.param(2, history((1, 3)), True, id="same currentEpoch, longer history"),
        pytest.param(2, history((1, 2)), False, id="equal"),
        pytest.param(2, history((1, 1)), False, id="behind"),
        pytest.param(1, history((1, 9)), False, id="longer history of an earlier currentEpoch"),
    ],
)
def test_leader_steps_down_for_a_more_recent_follower(current: int, held: History, steps_down: bool) -> None:
    one = elected(5, held=history((1, 2)), epochs=Epochs(4, 2, True))
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    one.ack_epoch(links[0], held, current=current)
    assert (one.place == LEAVING) is steps_down


def test_an_uncounted_answer_does_not_unseat_the_leader_however_recent() -> None:
    one = elected(5)
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    one.ack_epoch(links[0], history((1, 5)), current=1, counted=False)
    assert one.place == LEADING_DISCOVERY


@pytest.mark.parametrize("durable_first", [False, True])
def test_a_more_recent_follower_after_the_quorum_is_truncated(durable_first: bool) -> None:
    """V3"""
    one = elected(held=history((1, 1)))
    links = [one.info(1), one.info(2)]
    one.disk()
    one.ack_epoch(links[0], history((1, 1)))
    if durable_first:
        one.disk()
    one.ack_epoch(links[1], history((1, 4)), current=2)
    one.disk()
    assert one.place == LEADING_SYNC
    assert one.to(links[1], Trunc) == [Trunc(2, Zxid(1, 1))]


def test_promises_beyond_the_quorum_cost_no_further_write() -> None:
    one = elected(5)
    links = [one.info(i) for i in (1, 2, 3, 4)]
    one.disk()
    for link in links:
        one.ack_epoch(link)
    assert [save.epochs.current for save in one.did(SaveEpochs)] == [1, 2]


def test_an_uncounted_answer_does_not_help_to_form_the_quorum() -> None:
    """V1"""
    one = elected(5)
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    one.ack_epoch(links[0], counted=False)
    one.ack_epoch(links[1])
    one.disk()
    assert one.place == LEADING_DISCOVERY


def test_who_answered_uncounted_is_synchronized_all_the_same() -> None:
    one = elected(3)
    links = [one.info(1), one.info(2)]
    one.disk()
    one.ack_epoch(links[0], counted=False)
    one.ack_epoch(links[1])
    one.disk()
    assert one.to(links[0], NewLeader) == [NewLeader(2, Zxid(0, 0))]


def test_leader_steps_down_when_uncounted_answers_make_a_quorum_impossible() -> None:
    """V6"""
    one = elected(3)
    links = [one.info(1), one.info(2)]
    one.disk()
    one.ack_epoch(links[0], counted=False)
    assert one.place == LEADING_DISCOVERY
    one.ack_epoch(links[1], counted=False)
    assert one.place == LEAVING


def test_a_counted_promise_stays_counted_when_its_link_is_lost() -> None:
    """V1"""
    one = elected(5)
    links = [one.info(i) for i in (1, 2)]
    one.disk()
    one.ack_epoch(links[0])
    one.step(LinkLost(links[0], "reset"))
    one.ack_epoch(links[1])
    one.disk()
    assert one.place == LEADING_SYNC


def test_a_peer_counted_once_is_not_uncounted_by_a_later_answer() -> None:
    """V1: it restarted and remembers no promise, yet its first answer was true."""
    one = elected(3)
    links = [one.info(1), one.info(2)]
    one.disk()
    one.step(LinkLost(links[1], "reset"))
    one.ack_epoch(links[0])
    again = one.info(process(1, 2), accepted=2)
    one.ack_epoch(again, counted=False)
    one.disk()
    assert one.place == LEADING_SYNC


def test_one_peer_that_promises_over_two_links_counts_once() -> None:
    one = elected(5)
    one.info(2)
    first = one.info(1)
    one.disk()
    one.ack_epoch(first)
    one.ack_epoch(one.info(1, 2, accepted=2))
    one.disk()
    assert one.place == LEADING_DISCOVERY


def test_a_life_that_was_replaced_is_ignored() -> None:
    """L18: the last ADMIT of peer 1 names another life; its promise was given before it forgot everything."""
    held = History()
    held.append(batch(1, 1, Zxid(0, 0), admit=Admit(PeerId(1), 777)))
    one = elected(3, held=held)
    old = one.info(1)
    one.disk()
    one.ack_epoch(old, held)
    one.disk()
    assert one.place == LEADING_DISCOVERY
    admitted = one.info(process(1, life=777), accepted=2)
    one.ack_epoch(admitted, held)
    one.disk()
    assert one.place == LEADING_SYNC


def test_who_lost_a_disk_counts_and_is_admitted_anew_when_people_have_said_so() -> None:
    """L20: with --unsafe-rejoin-empty a replaced life counts (not L18), and the log says so for leaders to come."""
    held = History()
    held.append(batch(1, 1, Zxid(0, 0), admit=Admit(PeerId(1), 777)))
    one = elected(3, held=held)
    one.peer.unsafe_rejoin_empty = True
    empty = one.info(1)
    one.disk()
    one.ack_epoch(empty, held)
    one.disk()
    assert one.place == LEADING_SYNC
    one.ack_new_leader(empty)
    one.disk()
    assert one.peer.history.last_admit(PeerId(1)) == empty.learner.life


def test_the_last_admit_of_a_peer_wiped_twice_is_the_one_that_counts() -> None:
    """L18: last, not any."""
    held = History()
    for counter, life in enumerate((777, 888), start=1):
        held.append(batch(1, counter, held.last, admit=Admit(PeerId(1), life)))
    one = elected(3, held=held)
    one.info(process(1, life=888))
    one.disk()
    one.ack_epoch(one.link(process(1, life=888)), held)
    one.disk()
    assert one.place == LEADING_SYNC


def test_learners_may_echo_heartbeats_while_the_leader_still_collects_promises() -> None:
    one = elected(5)
    link = one.info(1)
    one.info(2)
    one.disk()
    one.ack_epoch(link)
    one.wait(60)
    one.hear(1, HbEcho(2, one.peer.hb_seq, False), link)
    assert not one.closed(link)


# ---- the leader: giving up ---------------------------------------------------------------------------------------


def test_discovery_ends_after_its_timeout() -> None:
    """V6"""
    one = elected()
    one.wait(1999)
    assert one.place == LEADING_DISCOVERY
    one.wait(1)
    assert one.place == LEAVING


def test_leader_gives_up_when_too_many_are_looking_again() -> None:
    """V6: counted from their FOLLOWERINFO on; an older vote, re-sent late, says nothing."""
    one = elected(5)
    early = one.n_seq + 1
    one.n_seq += 2
    for i in (1, 2, 3):
        one.info(i)
    one.disk()
    one.looking(4, None, n_seq=early)
    one.looking(1, 1, n_seq=early + 1)
    assert not one.closed(one.link(1))
    for i in (1, 2):
        one.looking(i, 3, 2)
        assert one.closed(one.link(i)) and one.place == LEADING_DISCOVERY
    one.looking(3, 3, 2)
    assert one.place == LEAVING


def test_who_comes_back_after_looking_again_is_not_missing() -> None:
    one = elected(3)
    for i in (1, 2):
        one.info(i)
        one.looking(i, 2, 2)
        one.info(i, 2)
    assert one.place == LEADING_DISCOVERY


def test_a_follower_with_a_higher_promise_unseats_a_leader_not_yet_established() -> None:
    """V4: and the next epoch will exceed it."""
    one = elected()
    link = one.info(1)
    one.disk()
    one.hear(1, Nack(Refusal.EPOCH_TOO_OLD, 30), link)
    assert one.place == LEAVING
    one.disk()
    one.elect()
    one.info(2, 2)
    one.disk()
    assert offered(one)[-1].epoch == 31


def test_a_lost_link_alone_never_makes_a_leader_step_down() -> None:
    """F4"""
    one = elected()
    links = [one.info(1), one.info(2)]
    for link in links:
        one.step(LinkLost(link, "reset"))
    assert one.place == LEADING_DISCOVERY


def test_leader_whose_promise_does_not_reach_the_disk_resigns() -> None:
    """F6"""
    one = elected()
    one.info(1)
    one.wait(1020)
    assert one.place == LEAVING


def test_leader_without_space_on_disk_resigns() -> None:
    """L15"""
    one = elected()
    one.step(DiskSpace(Space.FULL))
    assert one.place == LEAVING


@pytest.mark.parametrize("message", [Ack(2, Zxid(1, 1)), NewLeader(2, Zxid(0, 0)), HbEcho(9, 1, False)])
def test_what_does_not_fit_the_phase_or_the_epoch_closes_the_link(message: Ack | NewLeader | HbEcho) -> None:
    one = elected()
    link = one.info(1)
    one.disk()
    one.hear(1, message, link)
    assert one.closed(link) and one.place == LEADING_DISCOVERY


def test_an_echo_of_a_heartbeat_never_sent_closes_the_link() -> None:
    one = elected()
    link = one.info(1)
    one.disk()
    one.ack_epoch(link)
    one.hear(1, HbEcho(2, 1_000_000, False), link)
    assert one.closed(link)


@pytest.mark.parametrize("offer_first", [False, True])
def test_ackepoch_that_nobody_asked_for_closes_the_link(offer_first: bool) -> None:
    one = elected(5)
    link = one.info(1)
    if offer_first:
        one.info(2)
        one.disk()
        one.ack_epoch(link)
    one.ack_epoch(link, epoch=2)
    assert one.closed(link)


def test_nothing_is_accepted_from_a_link_that_a_newer_one_replaced() -> None:
    """T2, T6"""
    one = elected(5)
    old = one.info(1, 1)
    new = one.info(1, 2)
    assert one.closed(old) and not one.closed(new)
    one.info(2)
    one.disk()
    one.ack_epoch(old)
    one.ack_epoch(new)
    assert one.epochs.current == 1 and not one.writes


# ---- the follower: promising -------------------------------------------------------------------------------------


def test_a_promise_is_told_only_when_it_is_durable() -> None:
    one = One(0, held=history((1, 2)))
    link = one.follow()
    one.hear(1, LeaderInfo(2, 100), link)
    assert one.sent(AckEpoch) == []
    assert one.did(SaveEpochs) == [SaveEpochs(0, Epochs(2, 1, True))]
    one.disk()
    assert [ack.counted for ack in one.sent(AckEpoch)] == [True]
    assert one.place == FOLLOWING_SYNC


def test_followerinfo_carries_what_was_promised_and_heard_of() -> None:
    one = One(0, epochs=Epochs(7, 5, True))
    one.peer.max_epoch_seen = 11
    one.follow()
    info = one.sent(FollowerInfo)[-1]
    assert (info.accepted_epoch, info.max_epoch_seen, info.joined) == (7, 11, True)


def test_ackepoch_carries_the_whole_shape_of_the_history() -> None:
    one = One(0, held=history((1, 5), (3, 2), snapshot=(1, 4)), epochs=Epochs(3, 3, True))
    ack = one.promise(one.follow(), epoch=4)
    assert (ack.current_epoch, ack.last, ack.snapshot) == (3, Zxid(3, 2), Zxid(1, 4))
    assert ack.ends == ((1, 5), (3, 2))


def test_an_epoch_already_promised_is_acknowledged_and_not_counted() -> None:
    """V1: the promise may have gone to another."""
    one = One(0, epochs=Epochs(4, 1, True))
    link = one.follow()
    one.hear(1, LeaderInfo(4, 100), link)
    assert [ack.counted for ack in one.sent(AckEpoch)] == [False]
    assert one.did(SaveEpochs) == []


@pytest.mark.parametrize(
    ("incarnation", "counted"),
    [pytest.param(1, True, id="the very same process"), pytest.param(2, False, id="restarted since")],
)
def test_only_the_process_that_holds_the_promise_may_count_it_again(incarnation: int, counted: bool) -> None:
    """V1: the first answer may have been lost with its link."""
    one = One(0)
    link = one.follow()
    one.promise(link)
    one.step(LinkLost(link, "reset"))
    one.disk()
    leader = process(1, incarnation)
    one.beat(leader)
    one.decided(leader, leader, 3)
    one.decided(2, leader, 3)
    one.wait(0)
    again = one.did(OpenLink)[-1].link
    one.step(LinkUp(again))
    one.hear(leader, LeaderInfo(2, 1000), again)
    assert [ack.counted for ack in one.sent(AckEpoch)] == [True, counted]


def test_a_restarted_follower_remembers_no_promise() -> None:
    """V1: the memory of whom it was given to is in memory only."""
    one = One(0, epochs=Epochs(2, 1, True))
    link = one.follow()
    one.hear(1, LeaderInfo(2, 100), link)
    assert [ack.counted for ack in one.sent(AckEpoch)] == [False]


def test_an_epoch_below_the_promise_is_refused() -> None:
    one = One(0, epochs=Epochs(4, 1, True))
    link = one.follow()
    one.hear(1, LeaderInfo(3, 100), link)
    assert one.to(link, Nack) == [Nack(Refusal.EPOCH_TOO_OLD, 4)]
    assert one.closed(link) and one.place == LEAVING


def test_a_promise_in_flight_when_its_link_breaks_is_told_to_nobody() -> None:
    """D4: its completion is of an older role."""
    one = One(0)
    link = one.follow()
    one.hear(1, LeaderInfo(2, 100), link)
    save = one.did(SaveEpochs)[-1]
    one.store.epochs = save.epochs  # the disk was already at it
    one.step(LinkLost(link, "reset"))
    assert one.place == LEAVING
    one.step(EpochsSaved(save.role, save.epochs))
    one.disk()
    assert one.place == ELECTION and one.sent(AckEpoch) == []
    assert one.peer.epochs.accepted == 2


def test_a_promise_that_never_reached_the_disk_is_given_anew() -> None:
    one = One(0)
    link = one.follow()
    one.hear(1, LeaderInfo(2, 100), link)
    one.step(LinkLost(link, "reset"))  # discarded before it was begun
    one.disk()
    assert one.peer.epochs.accepted == 1
    one.decided(1, 1, 5)
    one.decided(2, 1, 5)
    one.wait(0)
    again = one.did(OpenLink)[-1].link
    one.step(LinkUp(again))
    one.hear(1, LeaderInfo(2, 1000), again)
    assert one.sent(AckEpoch) == []
    one.disk()
    assert [ack.counted for ack in one.sent(AckEpoch)] == [True]


def test_nothing_is_echoed_before_the_promise() -> None:
    """T3"""
    one = One(0)
    link = one.follow()
    one.beat(1, 2, state=State.LEADING, phase=Phase.DISCOVERY)
    one.beat(1, 2, state=State.LEADING, phase=Phase.DISCOVERY, link=link)
    assert one.sent(HbEcho) == []


@pytest.mark.parametrize("second", [LeaderInfo(3, 101), Nack(Refusal.NOT_LEADING, 0)])
def test_a_leader_that_changes_its_mind_while_the_promise_is_written_loses_the_link(second: LeaderInfo | Nack) -> None:
    one = One(0)
    link = one.follow()
    one.hear(1, LeaderInfo(2, 100), link)
    one.hear(1, second, link)
    assert one.closed(link) and one.place == LEAVING
    one.disk()
    assert one.sent(AckEpoch) == [] and one.place == ELECTION


def test_an_offered_epoch_out_of_all_bounds_is_not_promised() -> None:
    one = One(0)
    link = one.follow()
    one.hear(1, LeaderInfo((1 << 64) - 1, 100), link)
    assert one.closed(link) and one.did(SaveEpochs) == []


def test_another_process_than_the_elected_one_gets_no_promise() -> None:
    one = One(0)
    link = one.follow()
    one.hear(2, LeaderInfo(2, 100), link)
    one.disk()
    assert one.sent(AckEpoch) == []
    assert one.closed(link)


# ---- the follower: giving up --------------------------------------------------------------------------------------


def test_follower_knocks_again_while_its_leader_has_not_decided_yet() -> None:
    """E7"""
    one = One(0)
    link = one.follow()
    one.hear(1, Nack(Refusal.NOT_LEADING, 1), link)
    assert one.closed(link) and one.place == FOLLOWING_DISCOVERY
    one.wait(9)
    assert len(one.did(OpenLink)) == 1
    one.wait(1)
    assert len(one.did(OpenLink)) == 2


def test_who_follows_another_says_so_to_who_knocks() -> None:
    """E7, F3: else it would knock for discovery_timeout."""
    one = One(0)
    one.meet(1, 2)
    one.looking(1, 2)
    one.looking(2, 2)
    assert one.place == FOLLOWING_DISCOVERY
    before = len(one.said)
    one.info(1)
    (told,) = one.did(SendVote, one.said[before:])
    assert (told.peer, told.message.state, told.message.leader) == (1, State.FOLLOWING, process(2))
    two = One(1)
    two.follow(0)
    two.hear(0, told.message._replace(n_seq=1000))
    assert two.place == LEAVING


def test_follower_stops_knocking_after_discovery_timeout() -> None:
    """E7"""
    one = One(0)
    one.follow()
    one.wait(1999)
    assert one.place == FOLLOWING_DISCOVERY
    one.wait(1)
    assert one.place == LEAVING


def test_refusals_raise_the_highest_epoch_seen() -> None:
    """V4"""
    one = One(0)
    link = one.follow()
    one.hear(1, Nack(Refusal.OTHER_CONFIG, 44), link)
    assert one.place == LEAVING and one.peer.max_epoch_seen == 44


@pytest.mark.parametrize(
    ("reachable", "place"),
    [pytest.param(True, FOLLOWING_DISCOVERY, id="try again"), pytest.param(False, LEAVING, id="new round")],
)
def test_a_link_that_cannot_be_made(reachable: bool, place: tuple[State, Phase]) -> None:
    """E8"""
    one = One(0)
    link = one.follow()
    if not reachable:
        one.now += 1300  # nothing heard from the leader for longer than E8 allows
    one.step(LinkLost(link, "refused"))
    assert one.place == place


def test_follower_leaves_when_the_way_to_its_leader_breaks() -> None:
    """F3"""
    one = One(0)
    one.follow()
    one.lose(2)
    assert one.place == FOLLOWING_DISCOVERY
    one.lose(1)
    assert one.place == LEAVING


@pytest.mark.parametrize(
    ("told", "round", "newer", "leaves"),
    [
        pytest.param(False, 1, True, False, id="same round before LEADERINFO: it has not decided yet"),
        pytest.param(False, 2, True, True, id="greater round"),
        pytest.param(True, 1, True, True, id="newer than LEADERINFO"),
        pytest.param(True, 1, False, False, id="a vote from before LEADERINFO, re-sent late"),
    ],
)
def test_leader_seen_looking(told: bool, round: int, newer: bool, leaves: bool) -> None:
    """F3"""
    one = One(0)
    link = one.follow()
    before = one._number(None)
    if told:
        one.promise(link)
    one.looking(1, 1, round, n_seq=None if newer else before)
    assert (one.place == LEAVING) is leaves


@pytest.mark.parametrize("how", ["vote", "heartbeat"])
def test_follower_leaves_a_leader_that_has_restarted(how: str) -> None:
    """F3"""
    one = One(0)
    one.follow()
    if how == "vote":
        one.looking(process(1, 2), 1)
    else:
        one.beat(process(1, 2))
    assert one.place == LEAVING


def test_follower_ignores_the_votes_of_others() -> None:
    """F7"""
    one = One(0)
    one.follow()
    one.looking(2, 2, 50)
    assert one.place == FOLLOWING_DISCOVERY and one.peer.round == 1


def test_repeated_failures_are_followed_by_longer_and_longer_waits() -> None:
    """F8"""
    one = One(0, timing=Timing(backoff_min=50, backoff_max=500))
    waits = []
    for round in range(1, 9):
        one.meet(1, 2)
        opened, began = len(one.did(OpenLink)), one.now
        one.decided(1, 1, round)
        one.decided(2, 1, round)
        while len(one.did(OpenLink)) == opened and one.now < began + 1000:
            one.wait(1)
        waits.append(one.now - began)
        one.lose(1)
        one.disk()
    assert waits[:2] == [0, 0]
    assert all(a < b for a, b in pairwise(waits[1:6]))
    assert all(450 <= wait <= 551 for wait in waits[6:])


def test_follower_without_space_on_disk_leaves() -> None:
    """L15"""
    one = One(0)
    one.follow()
    one.step(DiskSpace(Space.FULL))
    assert one.place == LEAVING


# ---- who may count (V5, L13a) ------------------------------------------------------------------------------------


def test_unjoined_followers_form_no_epoch_outside_bootstrap() -> None:
    """V5"""
    one = elected(3)
    one.info(1, joined=False)
    one.disk()
    assert offered(one) == []
    one.info(2)
    one.disk()
    assert len(offered(one)) == 2


def test_unjoined_promise_outside_bootstrap_is_not_counted_even_if_it_says_so() -> None:
    """V5, L13a: the leader judges again over the whole quorum."""
    one = elected(3)
    links = [one.info(1, joined=False), one.info(2)]
    one.disk()
    one.ack_epoch(links[0], current=0)
    one.disk()
    assert one.place == LEADING_DISCOVERY
    one.ack_epoch(links[1])
    one.disk()
    assert one.place == LEADING_SYNC


def fresh(me: int = 0, voters: int = 3) -> One:
    """An empty directory, and all others have said that theirs are empty too."""
    one = One(me, voters, epochs=Epochs(0, 0, False))
    others = [i for i in range(voters) if i != me]
    one.meet(*others)
    for i in others:
        one.looking(i, None, 0, current=0, joined=False)
    return one


def test_bootstrap_counts_unjoined_voters_and_joins_the_leader_with_its_first_promise() -> None:
    """L13a"""
    one = fresh()
    one.elect()
    link = one.info(1, accepted=0, joined=False)
    assert one.did(SaveEpochs)[-1].epochs == Epochs(1, 0, True)
    one.disk()
    one.ack_epoch(link, current=0)
    one.disk()
    assert one.place == LEADING_SYNC
    assert one.epochs == Epochs(1, 1, True)


def test_bootstrap_joins_the_follower_with_its_first_promise() -> None:
    """L13a: one META write for both."""
    one = fresh()
    one.looking(1, 2, current=0, joined=False)
    one.looking(2, 2, current=0, joined=False)
    one.wait(20)
    assert one.place == FOLLOWING_DISCOVERY
    link = one.did(OpenLink)[-1].link
    one.step(LinkUp(link))
    one.hear(2, LeaderInfo(1, 100), link)
    assert one.did(SaveEpochs)[-1].epochs == Epochs(1, 0, True)
    one.disk()
    assert [ack.counted for ack in one.sent(AckEpoch)] == [True]


def test_unjoined_follower_of_an_old_ensemble_promises_uncounted_and_stays_unjoined() -> None:
    """V5, L13a"""
    one = One(0, epochs=Epochs(0, 0, False))
    link = one.follow()
    one.hear(1, LeaderInfo(2, 100), link)
    assert one.did(SaveEpochs)[-1].epochs == Epochs(2, 0, False)
    one.disk()
    assert [ack.counted for ack in one.sent(AckEpoch)] == [False]


def test_fresh_members_do_not_count_beside_one_that_has_been_in_an_epoch() -> None:
    """L13a: five voters; the leader judges again when an ACKEPOCH tells of currentEpoch 0 or more."""
    one = One(0, 5, epochs=Epochs(0, 0, False))
    one.meet(1, 2, 3, 4)
    for i in (1, 2, 3, 4):
        one.looking(i, None, 0, current=0, joined=False)
    one.elect()
    links = [one.info(i, accepted=0, joined=False) for i in (1, 2)]
    one.disk()
    one.ack_epoch(links[0], current=0)
    one.ack_epoch(links[1], current=1)
    assert one.place == LEAVING, "it is more recent, too"


def test_leader_keeps_its_links_closed_on_leaving() -> None:
    one = elected()
    links = [one.info(1), one.info(2)]
    one.wait(2000)
    assert all(one.closed(link) for link in links)
    assert all(isinstance(e, CloseLink) for e in one.said[-4:] if isinstance(e, (CloseLink, Send)))


def test_link_numbers_never_repeat_in_one_process() -> None:
    one = One(0)
    one.follow()
    for _ in range(3):
        one.hear(1, Nack(Refusal.NOT_LEADING, 1), one.did(OpenLink)[-1].link)
        one.wait(10)
        one.step(LinkUp(one.did(OpenLink)[-1].link))
    links = [opened.link for opened in one.did(OpenLink)]
    assert links == [LinkId(process(0), n) for n in (1, 2, 3, 4)]


def test_joined_is_kept_from_one_epoch_to_the_next() -> None:
    one = One(0, epochs=JOINED)
    one.promise(one.follow(), epoch=9)
    assert one.epochs == Epochs(9, 1, True)


# ---- voters that have changed their mind ---------------------------------------------------------------------------


def test_a_leader_whose_voters_want_another_by_now_does_not_wait_for_them() -> None:
    """V6: 3 and 4 are out of reach, and 1, which elected us, votes for 4."""
    one = elected(5)
    for gone in (3, 4):
        one.lose(gone)
    assert one.place == (State.LEADING, Phase.DISCOVERY)
    one.looking(2, 0, one.peer.round)
    assert one.place == (State.LEADING, Phase.DISCOVERY), "2 still wants us"
    one.looking(1, 4, one.peer.round)
    assert one.peer.phase.state is State.LOOKING


def test_a_vote_of_an_earlier_round_says_nothing_of_the_present() -> None:
    """V6"""
    one = elected(5)
    for gone in (3, 4):
        one.lose(gone)
    one.looking(1, 4, one.peer.round - 1)
    assert one.place == (State.LEADING, Phase.DISCOVERY)
