"""Phase 0: fast leader election (PROTOCOL 3, E1 to E9)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.core.ensemble import Ensemble
from tests.core.one import One, chain, history, process
from zabzmq.core.effects import SendVote
from zabzmq.core.history import Epochs, History
from zabzmq.core.inputs import DiskSpace, MeshUp, Space
from zabzmq.core.messages import Heartbeat, Notification, Phase, State, Vote
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid

ELECTION = (State.LOOKING, Phase.ELECTION)
LEADING = (State.LEADING, Phase.DISCOVERY)
FOLLOWING = (State.FOLLOWING, Phase.DISCOVERY)

FRESH = Epochs(0, 0, False)


def looking(voters: int = 3, me: int = 0, held: History | None = None, epochs: Epochs | None = None) -> One:
    """LOOKING, all others connected and heard of, none of them has voted yet."""
    one = One(me, voters, held=held, epochs=Epochs(1, 1, True) if epochs is None else epochs)
    one.meet(*(i for i in range(voters) if i != me))
    return one


def vote(leader: int | ProcessId, epoch: int = 1, zxid: Zxid = ZERO) -> Vote:
    return Vote(leader if isinstance(leader, ProcessId) else process(leader), epoch, zxid)


def another_round(one: One) -> None:
    one.peer.look_again("for a test")
    one.tick()


def proposal(one: One) -> Vote | None:
    """What the peer proposes now, as it last told."""
    return one.sent(Notification)[-1].vote


# ---- the order on votes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(vote(0, 2, Zxid(1, 1)), vote(9, 1, Zxid(1, 9)), id="epoch first, though the other holds more"),
        pytest.param(vote(0, 2, Zxid(2, 1)), vote(9, 2, Zxid(1, 90)), id="then the zxid, by its epoch"),
        pytest.param(vote(0, 2, Zxid(2, 8)), vote(9, 2, Zxid(2, 7)), id="then the zxid, by its counter"),
        pytest.param(vote(1, 2, Zxid(2, 8)), vote(0, 2, Zxid(2, 8)), id="then the id"),
    ],
)
def test_order_on_votes(better: Vote, worse: Vote) -> None:
    assert better.rank > worse.rank


def test_a_peer_votes_for_itself_with_what_is_durable() -> None:
    one = looking(held=history((1, 4), (3, 2)), epochs=Epochs(5, 3, True))
    note = one.sent(Notification)[0]
    assert note.vote == Vote(process(0), 3, Zxid(3, 2))
    assert (note.state, note.round, note.current_epoch, note.joined) == (State.LOOKING, 1, 3, True)


def test_a_better_vote_is_adopted_and_told_to_all() -> None:
    one = looking(5)
    before = len(one.said)
    one.looking(3, vote(3))
    told = one.did(SendVote, one.said[before:])
    assert {e.peer for e in told} == {1, 2, 3, 4}
    assert {e.message.vote for e in told} == {vote(3)}


def test_a_worse_vote_is_not_adopted() -> None:
    one = looking(5, held=history((1, 4)))
    before = len(one.said)
    one.looking(3, vote(3))
    assert one.did(SendVote, one.said[before:]) == []
    assert proposal(one) == vote(0, 1, Zxid(1, 4))


# ---- deciding ----------------------------------------------------------------------------------------------------


def test_the_one_named_by_a_quorum_leads_and_the_others_follow() -> None:
    one = looking(5, me=4)
    one.looking(0, vote(4))
    assert one.place == ELECTION
    one.looking(1, vote(4))
    one.wait(20)
    assert one.place == LEADING
    two = looking(5)
    two.looking(4, vote(4))
    two.looking(1, vote(4))
    two.wait(20)
    assert two.place == FOLLOWING and two.peer.phase.leader == process(4)


def test_the_wait_is_skipped_when_every_connected_voter_agrees() -> None:
    """E3"""
    one = looking(3)
    one.looking(1, vote(2))
    assert one.place == ELECTION, "peer 2 is connected and has said nothing yet"
    one.looking(2, vote(2))
    assert one.place == FOLLOWING


def test_a_voter_that_is_gone_is_not_waited_for() -> None:
    """E3"""
    one = One(0, 3)
    one.meet(1)
    one.looking(1, vote(1))
    assert one.place == FOLLOWING


def test_who_may_not_vote_is_not_waited_for() -> None:
    """E3, E6"""
    one = looking(3)
    one.looking(2, None, current=0, joined=False)
    one.looking(1, vote(1))
    assert one.place == FOLLOWING


def test_the_wait_ends_when_a_disagreeing_voter_is_lost() -> None:
    """E3"""
    one = looking(3)
    one.looking(1, vote(1))
    assert one.place == ELECTION
    one.lose(2)
    assert one.place == FOLLOWING


def test_otherwise_a_better_vote_is_waited_for() -> None:
    """E3, bug 24"""
    one = looking(5)
    one.looking(1, vote(2))
    one.looking(2, vote(2))
    one.wait(19)
    assert one.place == ELECTION
    one.looking(4, vote(4))
    one.wait(19)
    assert one.place == ELECTION and proposal(one) == vote(4)


def test_a_quorum_that_fell_apart_while_waiting_decides_nothing() -> None:
    """E3, bug 24: a voter changed its mind for one that we cannot reach."""
    one = looking(5)
    one.lose(4)
    one.looking(1, vote(2))
    one.looking(2, vote(2))
    one.looking(1, vote(4))
    one.wait(40)
    assert one.place == ELECTION


def test_named_by_a_quorum_we_may_lead_though_we_prefer_another() -> None:
    """E9"""
    one = looking(5)
    one.looking(4, vote(4))
    assert proposal(one) == vote(4)
    for i in (1, 2, 3):
        one.looking(i, vote(0))
    assert one.place == LEADING


def test_half_of_the_voters_decide_nothing() -> None:
    one = looking(4)
    one.looking(3, vote(3))
    one.wait(300)
    assert one.place == ELECTION


def test_one_voter_alone_elects_itself() -> None:
    one = One(0, 1)
    assert one.place == LEADING


# ---- rounds ------------------------------------------------------------------------------------------------------


def test_a_vote_counts_only_in_its_own_round() -> None:
    """E1"""
    one = looking(3)
    another_round(one)
    for candidate in (2, 0):
        one.looking(1, vote(candidate), 1)
        one.looking(2, vote(candidate), 1)
        one.wait(100)
        assert one.place == ELECTION


def test_an_older_round_is_told_of_the_present_one() -> None:
    """E1"""
    one = looking(3)
    another_round(one)
    before = len(one.said)
    one.looking(1, vote(1), 1)
    (told,) = one.did(SendVote, one.said[before:])
    assert (told.peer, told.message.round, told.message.vote) == (1, 2, vote(0))


def test_a_higher_round_starts_again_from_the_own_vote() -> None:
    """E1: never from the previous proposal, whose round is over."""
    one = looking(5)
    one.looking(4, vote(4))
    assert proposal(one) == vote(4)
    one.looking(1, vote(1), 7)
    assert one.peer.round == 7 and proposal(one) == vote(1)
    one.looking(2, vote(2), 8)
    one.looking(3, vote(0), 9)
    assert one.peer.round == 9 and proposal(one) == vote(0)


def test_a_round_out_of_all_bounds_is_not_joined() -> None:
    """One forged vote must not use up all rounds there are."""
    one = looking(3)
    one.looking(1, vote(1), (1 << 64) - 1)
    one.decided(2, 2, (1 << 64) - 1)
    assert one.peer.round == 1 and one.place == ELECTION


def test_votes_of_a_round_that_is_over_are_forgotten() -> None:
    """E1"""
    one = looking(5)
    one.looking(4, vote(4))
    one.looking(1, vote(4), 2)
    one.wait(100)
    assert one.place == ELECTION, "of round 2 only peer 1 and this one have voted"


def test_every_return_to_looking_is_a_new_round() -> None:
    one = looking(3)
    one.looking(1, vote(1), 5)
    one.looking(2, vote(1), 5)
    assert one.place == FOLLOWING and one.peer.round == 5
    one.lose(1)
    one.disk()
    assert one.place == ELECTION and one.peer.round == 6


def test_a_restarted_peer_with_a_lower_round_catches_up() -> None:
    """bug 36"""
    ensemble = Ensemble(3)
    for i in (0, 1):
        ensemble.disks[PeerId(i)].epochs = Epochs(1, 1, True)
    ensemble.disks[PeerId(2)].epochs = Epochs(1, 1, True)
    ensemble.start(0, 1)
    for peer in ensemble.peers.values():
        peer.round = 50
    ensemble.start(2)
    leader = ensemble.leader
    assert leader is not None
    ensemble.crash(leader)
    ensemble.run(2000, lambda: ensemble.leader is not None)
    assert ensemble.leader is not None


# ---- votes are state, not a stream ---------------------------------------------------------------------------------


def test_an_older_notification_does_not_replace_a_newer_one() -> None:
    one = looking(5)
    one.looking(1, vote(3), n_seq=100)
    one.looking(1, vote(4), n_seq=99)
    assert proposal(one) == vote(3)


def test_a_restarted_peer_counts_from_the_beginning() -> None:
    one = looking(5)
    one.looking(1, vote(3), n_seq=100)
    one.looking(process(1, 2), vote(4), n_seq=1)
    assert proposal(one) == vote(4)


def test_votes_are_sent_again_and_ever_more_seldom() -> None:
    one = One(0, 3)
    times = []
    for _ in range(4000):
        if one.sent(Notification, one.wait(1)):
            times.append(one.now)
    gaps = [b - a for a, b in pairwise(times)]
    assert 45 <= times[0] - 1000 <= 56 and gaps == sorted(gaps) and 850 <= gaps[-1] <= 1101


def test_a_new_connection_is_told_at_once() -> None:
    one = One(0, 3)
    before = len(one.said)
    one.meet(2)
    assert [e.peer for e in one.did(SendVote, one.said[before:])] == [2]


def test_what_was_said_while_we_were_in_another_role_still_holds() -> None:
    one = looking(3)
    one.looking(1, vote(1))
    one.looking(2, vote(1))
    assert one.place == FOLLOWING
    one.looking(2, vote(2), 2)  # peer 2 has given peer 1 up already
    one.lose(1)
    one.disk()
    assert one.place == FOLLOWING and one.peer.phase.leader == process(2)


# ---- joining an ensemble that has a leader -------------------------------------------------------------------------


def test_joiner_follows_a_leader_that_a_quorum_follows_whatever_their_rounds_and_zxids() -> None:
    """E2, bug 22"""
    one = looking(5)
    one.decided(1, 3, 12, zxid=Zxid(1, 3))
    one.decided(2, 3, 4, zxid=Zxid(1, 9))
    assert one.place == ELECTION
    one.decided(3, 3, 7)
    assert one.place == FOLLOWING and one.peer.phase.leader == process(3) and one.peer.round == 7


def test_the_leader_itself_must_be_heard_as_leading() -> None:
    """E2: followers of a dead leader would go on electing it."""
    one = looking(5)
    for i in (1, 2, 4):
        one.decided(i, 3)
    assert one.place == ELECTION
    one.decided(3, 3)
    assert one.place == FOLLOWING


def test_a_leader_heard_as_following_is_not_leading() -> None:
    """E2"""
    one = looking(3)
    one.decided(2, 1)
    one.decided(1, 1, state=State.FOLLOWING)
    assert one.place == ELECTION


def test_followers_of_an_earlier_process_of_the_leader_do_not_count() -> None:
    """E2, E4: the incarnation differs."""
    one = looking(5)
    one.decided(1, process(3, 1))
    one.decided(2, process(3, 1))
    one.decided(process(3, 2), process(3, 2))
    assert one.place == ELECTION
    one.decided(4, process(3, 2))
    one.decided(1, process(3, 2))
    assert one.place == FOLLOWING


def test_the_joiner_counts_itself() -> None:
    """E2: with one voter down and a link that blinked, the pair finds itself again at once."""
    one = looking(3)
    one.decided(1, 1)
    assert one.place == FOLLOWING


def test_a_joiner_that_may_not_count_does_not_count_itself() -> None:
    """E2, V5"""
    one = looking(3, epochs=FRESH)
    one.decided(1, 1)
    assert one.place == ELECTION
    one.decided(2, 1)
    assert one.place == FOLLOWING


def test_who_is_looking_again_no_longer_follows() -> None:
    """E2"""
    one = looking(5)
    one.decided(1, 3)
    one.looking(1, vote(4))
    one.decided(3, 3)
    assert one.place == ELECTION


def test_others_claims_that_i_lead_do_not_make_me_lead() -> None:
    """E4: it was my former process that they followed."""
    one = One(0, 3)
    one.meet(1, 2)
    for i in (1, 2):
        one.decided(i, process(0, 9))
    one.wait(100)
    assert one.place == ELECTION


def test_a_decided_voter_of_this_round_counts_for_its_leader() -> None:
    one = looking(5)
    one.decided(3, 4)
    one.looking(4, vote(4))
    assert one.place == ELECTION and proposal(one) == vote(4)
    one.wait(20)
    assert one.place == FOLLOWING, "peers 0, 3 and 4 are a quorum"


def test_a_candidate_that_leads_is_followed_by_who_does_not_hear_its_quorum() -> None:
    """E9: it was named by voters that it hears and we do not."""
    one = looking(5)
    one.looking(4, vote(4))
    assert one.place == ELECTION and proposal(one) == vote(4)
    one.decided(4, 4)
    assert one.place == FOLLOWING


@pytest.mark.parametrize(
    ("leader", "round"),
    [pytest.param(3, 1, id="not the one we vote for"), pytest.param(4, 2, id="elected in another round")],
)
def test_another_that_leads_is_not_followed_without_a_quorum(leader: int, round: int) -> None:
    one = looking(5)
    one.looking(4, vote(4))
    one.decided(leader, leader, round)
    assert one.place == ELECTION


def test_the_newcomer_with_the_highest_id_does_not_disturb_an_ensemble() -> None:
    """E5, bug 23"""
    ensemble = Ensemble(3)
    ensemble.start(0, 1)
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == 1
    ensemble.start(2)
    ensemble.run(1000)
    assert ensemble.leader == 1 and ensemble.place(2) == (State.FOLLOWING, Phase.BROADCAST)


def test_a_joiner_asks_a_serving_peer_that_has_not_told_whom_it_follows() -> None:
    one = looking(3)
    before = len(one.said)
    heartbeat = Heartbeat(State.LEADING, Phase.BROADCAST, 4, process(2), 9, ZERO, ZERO, ZERO, None)
    one.hear(2, heartbeat)
    assert [e.peer for e in one.did(SendVote, one.said[before:])] == [2]
    one.decided(2, 2)
    before = len(one.said)
    one.hear(2, heartbeat._replace(hb_seq=10))
    assert one.did(SendVote, one.said[before:]) == []


# ---- whom a vote may name ------------------------------------------------------------------------------------------


def test_a_candidate_out_of_reach_is_not_adopted_and_its_voter_still_counted() -> None:
    """E8, bug 39"""
    one = looking(5)
    one.lose(4)
    one.looking(1, vote(4))
    assert proposal(one) == vote(0)
    for i in (2, 3):
        one.looking(i, vote(4))
    one.wait(100)
    assert one.place == ELECTION


def test_a_vote_heard_before_its_candidate_was_in_reach_is_good_from_then_on() -> None:
    """E8: its voter need not repeat it, which may take a second."""
    one = One(0, 3)
    one.meet(1)
    one.beat(2)
    one.looking(2, vote(2))
    assert proposal(one) == vote(0)
    one.step(MeshUp(PeerId(2)))
    assert proposal(one) == vote(2) and one.place == ELECTION
    one.wait(20)
    assert one.place == FOLLOWING


def test_a_candidate_not_heard_for_long_is_out_of_reach() -> None:
    """E8"""
    one = looking(5)
    one.now += 1300
    one.looking(1, vote(4))
    assert proposal(one) == vote(0)


def test_when_the_candidate_is_lost_a_new_round_begins() -> None:
    """E8: else the old vote sticks."""
    one = looking(5)
    one.looking(4, vote(4))
    assert proposal(one) == vote(4)
    one.lose(4)
    assert one.place == ELECTION and one.peer.round == 2 and proposal(one) == vote(0)


def test_when_the_candidate_falls_silent_a_new_round_begins() -> None:
    """E8"""
    one = looking(5)
    one.looking(4, vote(4))
    for _ in range(5):
        one.wait(300)
        one.beat(1)
    assert one.peer.round == 2 and proposal(one) == vote(0)


def test_votes_for_a_process_that_is_no_more_are_ignored() -> None:
    """E4"""
    one = looking(5)
    one.beat(process(4, 2))
    one.looking(1, vote(process(4, 1)))
    assert proposal(one) == vote(0)


def test_a_vote_does_not_stick_to_a_process_that_is_no_more() -> None:
    """E4: told of it by another, connected to its successor, and only then spoken to by that."""
    one = looking(5)
    one.looking(1, vote(process(4, 1)))
    assert proposal(one) == vote(process(4, 1))
    one.looking(process(4, 2), vote(process(4, 2)))
    assert one.peer.round == 2 and proposal(one) != vote(process(4, 1))
    one.looking(process(4, 2), vote(process(4, 2)), round=2)
    assert proposal(one) == vote(process(4, 2))


def test_votes_for_strangers_are_ignored() -> None:
    one = looking(3)
    one.looking(1, vote(9, 50))
    assert proposal(one) == vote(0)


def test_notifications_of_strangers_and_of_other_configurations_are_dropped() -> None:
    one = looking(3)
    one.hear(process(7), Notification(State.LOOKING, 90, vote(2), None, 1, True, 0, 500))
    one.hear(process(1), Notification(State.LOOKING, 90, vote(2), None, 1, True, 5, 500))
    assert one.peer.round == 1 and proposal(one) == vote(0)


@pytest.mark.parametrize("count", [3, 5])
def test_the_best_candidate_that_reaches_only_one_does_not_block_the_others(count: int) -> None:
    """E8, bug 39"""
    ensemble = Ensemble(count)
    ensemble.start()
    ensemble.run(1000, lambda: ensemble.leader is not None)
    best = ensemble.leader
    assert best == count - 1
    for i in range(1, count - 1):
        ensemble.cut(best, i)
    ensemble.run(5000)
    assert ensemble.leader is not None
    if count > 3:
        assert ensemble.leader != best
    before = ensemble.peers[PeerId(ensemble.leader)].phase.epoch
    ensemble.run(60_000)
    assert ensemble.peers[PeerId(ensemble.leader)].phase.epoch == before, "an election without end"


def test_a_better_candidate_that_no_quorum_reaches_is_passed_over_for_one_that_ours_would_complete() -> None:
    """E8, bug 39: 4 is seen by us alone, 1 and 2 agree on 2, and 3 is down."""
    one = looking(5)
    one.looking(4, vote(4))
    one.looking(1, vote(2))
    one.looking(2, vote(2))
    assert proposal(one) == vote(4)
    one.wait(700)
    assert proposal(one) == vote(2)
    one.looking(4, vote(4))
    one.wait(20)
    assert one.place == FOLLOWING and one.peer.phase.leader == process(2)


def test_who_names_a_process_that_is_no_more_is_not_among_those_that_settle() -> None:
    """E4, E8: 1 has changed its mind, 2 will name another as soon as it hears of the new process: no quorum is here."""
    one = looking(5)
    one.looking(1, vote(4))
    one.looking(1, vote(1))
    one.beat(process(3, 2))
    one.looking(2, vote(process(3, 1)))
    one.wait(700)
    assert proposal(one) == vote(4)


def test_nobody_settles_for_a_candidate_whose_history_is_behind_its_own_but_stands_itself() -> None:
    """E8, bug 39: discovery would send 2 away, again and again; and 1 and 2 never heard that we could lead."""
    one = looking(5, held=history((1, 3)))
    one.looking(4, vote(4, zxid=Zxid(1, 9)))
    one.looking(1, vote(2, zxid=Zxid(1, 2)))
    one.looking(2, vote(2, zxid=Zxid(1, 2)))
    one.wait(700)
    assert proposal(one) == vote(0, zxid=Zxid(1, 3)) and one.place == ELECTION
    one.looking(4, vote(4, zxid=Zxid(1, 9)))
    one.looking(1, vote(0, zxid=Zxid(1, 3)))
    one.looking(2, vote(0, zxid=Zxid(1, 3)))
    one.wait(20)
    assert one.place == LEADING


# ---- who may vote ------------------------------------------------------------------------------------------------


def test_a_wiped_voter_votes_none_is_answered_and_counts_nowhere() -> None:
    """E6, V5"""
    one = looking(3, epochs=FRESH)
    one.looking(1, vote(1), current=4)
    assert one.sent(Notification)[-1].vote is None
    one.wait(400)
    assert one.place == ELECTION
    two = looking(3)
    two.looking(1, None, 0, current=0, joined=False)
    assert two.sent(Notification)[-1].round == 1
    two.wait(100)
    assert two.place == ELECTION


def test_an_unjoined_vote_counts_nothing_beside_a_voter_that_has_been_in_an_epoch() -> None:
    """V5"""
    one = looking(3)
    one.looking(1, vote(0), current=0, joined=False)
    one.looking(2, vote(0), current=0, joined=False)
    one.wait(100)
    assert one.place == ELECTION


def test_a_peer_without_space_does_not_vote_and_follows_nobody() -> None:
    """L15"""
    one = looking(3)
    one.step(DiskSpace(Space.FULL))
    one.disk()
    assert one.sent(Notification)[-1].vote is None
    one.decided(1, 1)
    one.decided(2, 1)
    assert one.place == ELECTION
    round = one.peer.round
    for _ in range(5):
        one.step(DiskSpace(Space.FULL))
        one.disk()
    assert one.peer.round == round
    one.step(DiskSpace(Space.OK))
    one.wait(1200)
    assert one.sent(Notification)[-1].vote is not None


# ---- whole elections ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_of_equal_voters_the_highest_id_leads(count: int) -> None:
    ensemble = Ensemble(count)
    ensemble.start()
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == count - 1
    ensemble.run(500)
    others = [ensemble.place(i) for i in range(count - 1)]
    assert others == [(State.FOLLOWING, Phase.BROADCAST)] * (count - 1)


def test_the_most_recent_history_leads_whatever_the_ids() -> None:
    ensemble = Ensemble(3)
    for i, ends in enumerate([((1, 3),), ((1, 2),), ((1, 1),)]):
        disk = ensemble.disks[PeerId(i)]
        disk.hold(chain(*ends))
        disk.epochs = Epochs(1, 1, True)
    ensemble.start()
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == 0


def test_a_later_epoch_beats_a_longer_history() -> None:
    """3.2, bug 20"""
    ensemble = Ensemble(3)
    for i, (ends, epochs) in enumerate(
        [(((1, 3),), Epochs(2, 2, True)), (((1, 9),), Epochs(1, 1, True)), (((1, 3),), Epochs(2, 2, True))]
    ):
        disk = ensemble.disks[PeerId(i)]
        disk.hold(chain(*ends))
        disk.epochs = epochs
    ensemble.start()
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == 2
    ensemble.run(500)
    assert ensemble.disks[PeerId(1)].history.last == Zxid(1, 3)


@pytest.mark.parametrize("count", [3, 5])
def test_a_killed_leader_is_replaced_within_a_few_exchanges(count: int) -> None:
    """8.3: nobody waits for a timeout when connections break."""
    ensemble = Ensemble(count)
    ensemble.start()
    ensemble.run(1000, lambda: ensemble.leader is not None)
    ensemble.run(1000)
    assert ensemble.leader is not None
    ensemble.crash(ensemble.leader)
    began = ensemble.now
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == count - 2
    assert ensemble.now - began <= 30


def test_an_isolated_peer_raises_rounds_and_changes_no_leader_when_it_returns() -> None:
    """E5, 8.4, bug 35"""
    ensemble = Ensemble(3)
    ensemble.start()
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == 2
    epoch = ensemble.peers[PeerId(2)].phase.epoch
    ensemble.isolate(0)
    ensemble.run(60_000)
    assert ensemble.leader == 2
    ensemble.heal()
    ensemble.run(5000)
    assert ensemble.leader == 2 and ensemble.peers[PeerId(2)].phase.epoch == epoch
    assert ensemble.place(0) == (State.FOLLOWING, Phase.BROADCAST)


@pytest.mark.parametrize("count", [3, 5])
def test_a_leader_that_hears_nobody_and_is_heard_by_all_is_not_elected_again(count: int) -> None:
    """E8: its voters would wait for its answer until discovery_timeout."""
    ensemble = Ensemble(count)
    ensemble.start()
    deaf, began = ensemble.serve(), ensemble.now
    ensemble.blocked = lambda source, to, message: to == deaf
    ensemble.run(5000, lambda: ensemble.leader not in (None, deaf))
    assert ensemble.leader != deaf
    assert ensemble.now - began < 1000
    # Once it hears them it follows, and may lead again.
    ensemble.blocked = lambda source, to, message: False
    ensemble.crash(ensemble.serve())
    assert ensemble.serve() == deaf


def test_a_leader_whose_quorum_stood_still_leads_again_once_that_is_heard() -> None:
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.blocked = lambda source, to, message: True
    ensemble.run(1000)
    assert ensemble.leader is None
    ensemble.blocked = lambda source, to, message: False
    assert ensemble.serve() == leader


def test_a_minority_elects_nobody() -> None:
    ensemble = Ensemble(5)
    ensemble.start(0, 1)
    ensemble.run(10_000)
    assert ensemble.leader is None
    ensemble.start(2)
    ensemble.run(1000, lambda: ensemble.leader is not None)
    assert ensemble.leader == 2
