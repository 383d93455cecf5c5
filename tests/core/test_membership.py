"""First starts and wiped voters: who may count, and from when (PROTOCOL 10.6, L13, L18 to L20, V5)."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.core.ensemble import Ensemble
from tests.core.one import One, batch, process
from zabzmq.core.effects import Append, SaveEpochs
from zabzmq.core.history import Admit, Batch, Epochs, History
from zabzmq.core.inputs import LinkLost, LinkUp
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    Joined,
    LeaderInfo,
    NewLeader,
    Notification,
    Phase,
    Propose,
    State,
    SyncTxns,
    UpToDate,
)
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, PeerId, Zxid

FRESH = Epochs(0, 0, False)
SERVING = (State.FOLLOWING, Phase.BROADCAST)
LEADING = (State.LEADING, Phase.BROADCAST)
ELECTION = (State.LOOKING, Phase.ELECTION)


def votes(one: One) -> list[bool]:
    """Whether each notification it sent carried a vote."""
    return [note.vote is not None for note in one.sent(Notification)]


# ---- bootstrap ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_empty_directories_become_an_ensemble_and_all_are_joined(count: int) -> None:
    """L13a"""
    ensemble = Ensemble(count)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.request(leader)
    ensemble.run(200)
    assert all(ensemble.epochs(i) == Epochs(1, 1, True) for i in range(count))
    assert all(ensemble.delivered[i] == [Zxid(1, 1)] for i in range(count)), "no ADMIT was needed"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_order_of_first_starts_does_not_matter(order: tuple[int, ...]) -> None:
    """L13a: also for those that come long after the first quorum."""
    ensemble = Ensemble(3)
    for i in order:
        ensemble.start(i)
        ensemble.run(1500)
    leader = ensemble.serve()
    ensemble.request(leader)
    ensemble.run(500)
    assert all(ensemble.epochs(i).joined for i in range(3))
    assert len({tuple(ensemble.disks[PeerId(i)].history.ends) for i in range(3)}) == 1


def test_a_late_first_start_is_admitted_and_counts_then() -> None:
    """L13b"""
    ensemble = Ensemble(3)
    ensemble.start(0, 1)
    leader = ensemble.serve()
    ensemble.start(2)
    ensemble.run(500)
    assert ensemble.epochs(2).joined
    admits = ensemble.disks[PeerId(2)].history.admits
    assert [admit for _, admit in admits] == [Admit(PeerId(2), ensemble.disks[PeerId(2)].life)]
    ensemble.crash(1 - leader)
    ensemble.request(leader)
    ensemble.run(100)
    assert ensemble.delivered[2][-1] == ensemble.last(leader), "leader and newcomer are a quorum"


def test_a_fresh_voter_waits_for_the_others_before_its_vote_counts() -> None:
    """L13a: 300 ms, or all others heard."""
    one = One(0, 3, epochs=FRESH)
    one.meet(1, 2)
    one.wait(299)
    assert not any(votes(one))
    one.wait(2)
    assert votes(one)[-1]


def test_a_fresh_voter_that_has_heard_all_others_need_not_wait() -> None:
    """L13a"""
    one = One(0, 3, epochs=FRESH)
    one.meet(1, 2)
    one.looking(1, None, 0, current=0, joined=False)
    assert not any(votes(one))
    one.looking(2, None, 0, current=0, joined=False)
    assert votes(one)[-1]


def test_a_fresh_voter_does_not_vote_beside_one_that_has_been_in_an_epoch() -> None:
    """L13a"""
    one = One(0, 3, epochs=FRESH)
    one.meet(1, 2)
    one.wait(301)
    assert votes(one)[-1]
    one.looking(1, None, current=1)
    assert not votes(one)[-1]


def test_a_vote_for_a_candidate_that_has_been_in_an_epoch_ends_bootstrap_too() -> None:
    """L13a: told by another, yet as true."""
    one = One(0, 3, epochs=FRESH)
    one.meet(1, 2)
    one.wait(301)
    one.looking(1, 2, current=0)  # a vote for peer 2, epoch 0
    assert votes(one)[-1]
    ensemble_is_old = One(0, 3, epochs=FRESH)
    ensemble_is_old.meet(1, 2)
    ensemble_is_old.wait(301)
    candidate = One(2, epochs=Epochs(1, 1, True)).peer.own_vote()
    ensemble_is_old.looking(1, candidate, current=0)
    assert not votes(ensemble_is_old)[-1]
    ensemble_is_old.wait(2000)
    assert ensemble_is_old.place == ELECTION


def test_bootstrap_all_waits_for_every_voter() -> None:
    """L19"""
    one = One(0, 3, epochs=FRESH, bootstrap_all=True)
    one.meet(1, 2)
    one.looking(1, None, 0, current=0, joined=False)
    one.wait(5000)
    assert not any(votes(one))
    one.looking(2, None, 0, current=0, joined=False)
    assert votes(one)[-1]
    ensemble = Ensemble(3, bootstrap_all=True)
    ensemble.start(0, 1)
    ensemble.run(5000)
    assert ensemble.leader is None
    ensemble.start(2)
    ensemble.serve()


def test_a_half_joined_first_start_does_not_block() -> None:
    """L13a, bug 48: the link breaks after the leader's currentEpoch is durable, before its follower's is."""
    ensemble = Ensemble(3)
    ensemble.blocked = lambda source, to, message: isinstance(message, NewLeader)
    ensemble.start(0, 1)
    ensemble.run(400)
    assert ensemble.epochs(1) == Epochs(1, 1, True) and ensemble.epochs(0) == Epochs(1, 0, True)
    ensemble.crash(0, 1)
    ensemble.blocked = lambda source, to, message: False
    ensemble.start()
    ensemble.serve()
    ensemble.run(500)
    assert all(ensemble.epochs(i).joined for i in range(3))


def test_a_leader_and_a_follower_join_with_their_first_promise() -> None:
    """L13a: in the same META write."""
    ensemble = Ensemble(2)
    ensemble.start()
    ensemble.serve()
    for i in range(2):
        first = next(e for p, e in ensemble.effects if p == i and isinstance(e, SaveEpochs))
        assert first.epochs == Epochs(1, 0, True)


def test_a_first_start_that_hears_of_an_epoch_before_it_leads_steps_down() -> None:
    """V5: or it counts its own disk, which has forgotten what it promised."""
    one = One(1, 3, epochs=FRESH)
    one.meet(0, 2)
    for other in (0, 2):
        one.looking(other, 1, current=0, joined=False)
    assert one.place == (State.LEADING, Phase.DISCOVERY)
    one.beat(2, epoch=1)
    one.decided(2, 1, state=State.FOLLOWING, current=1)
    one.info(process(0), accepted=1)
    one.info(process(2), accepted=1)
    assert one.place[0] is State.LOOKING
    assert not one.did(SaveEpochs)


# ---- admission: the leader ----------------------------------------------------------------------------------------


def leading_with_wiped(voters: int = 3, life: int = 900, timing: Timing | None = None) -> tuple[One, list[LinkId]]:
    """Established with all voters but the last, which comes wiped and is synchronized; ends with its ADMIT queued."""
    last = voters - 1
    one = One(0, voters, timing=timing)
    links = one.lead(*range(1, last))
    wiped = one.info(process(last, life=life), accepted=0, joined=False)
    one.ack_epoch(wiped, current=0, counted=False)
    one.disk()
    one.ack_new_leader(wiped)
    return one, [*links, wiped]


def test_a_wiped_voter_is_synchronized_told_uptodate_and_admitted_through_the_log() -> None:
    """L13b"""
    one, links = leading_with_wiped()
    assert one.to(links[-1], UpToDate) == [UpToDate(2, ZERO)]
    (proposed,) = one.did(Append)
    assert proposed.batches == (batch(2, 1, ZERO, admit=Admit(PeerId(2), 900)),)
    assert one.to(links[-1], Propose) == one.to(links[0], Propose) != []


def test_an_admit_needs_a_quorum_without_the_admitted() -> None:
    """L13b, V5"""
    one, links = leading_with_wiped()
    one.disk()
    one.hear(links[-1].learner, Ack(2, Zxid(2, 1)), links[-1])
    assert one.peer.committed == ZERO
    one.hear(1, Ack(2, Zxid(2, 1)), links[0])
    assert one.peer.committed == Zxid(2, 1)


def test_the_admitted_counts_only_from_its_joined_on() -> None:
    """L13b, V5"""
    one, links = leading_with_wiped()
    wiped = links[-1]
    one.disk()
    one.hear(1, Ack(2, Zxid(2, 1)), links[0])
    one.request()
    one.disk()
    one.hear(wiped.learner, Ack(2, Zxid(2, 2)), wiped)
    assert one.peer.committed == Zxid(2, 1)
    one.hear(wiped.learner, Joined(2), wiped)
    assert one.peer.committed == Zxid(2, 2)


def test_nobody_is_admitted_twice_for_one_life() -> None:
    """L13b"""
    one, links = leading_with_wiped()
    one.disk()
    wiped = links[-1]
    one.step(LinkLost(wiped, "reset"))
    again = one.info(wiped.learner, 2, accepted=2, joined=False)
    one.ack_epoch(again, one.store.history, current=0, counted=False)
    one.disk()
    one.ack_new_leader(again)
    assert len(one.did(Append)) == 1


def test_a_voter_wiped_again_is_admitted_again() -> None:
    """L13b, L18"""
    one, links = leading_with_wiped()
    one.disk()
    one.step(LinkLost(links[-1], "reset"))
    again = one.info(process(2, life=901), accepted=0, joined=False)
    one.ack_epoch(again, current=0, counted=False)
    one.disk()
    one.ack_new_leader(again)
    assert one.peer.history.last_admit(PeerId(2)) == 901


def test_who_has_joined_needs_no_admit() -> None:
    one = One(0, 3)
    one.lead()
    assert one.did(Append) == []


def test_a_leader_at_its_last_counter_leaves_the_admission_to_the_next_epoch() -> None:
    """B9, L13b: without a request to come it would stay, and the wiped voter would never count."""
    one = One(0, 3, timing=Timing(max_counter=1))
    one.lead(1)
    one.request()
    one.disk()
    wiped = one.info(process(2, life=900), accepted=0, joined=False)
    one.ack_epoch(wiped, current=0, counted=False)
    one.disk()
    one.ack_new_leader(wiped)
    assert one.peer.history.last == Zxid(2, 1)
    assert one.place == LEADING, "its last transaction is not committed yet"
    one.hear(1, Ack(2, Zxid(2, 1)), LinkId(process(1), 1))
    assert one.peer.committed == Zxid(2, 1)
    assert one.place[0] is State.LOOKING


def test_a_life_that_was_replaced_is_synchronized_and_counts_nowhere() -> None:
    """L18: however joined it thinks it is."""
    one = One(0, batches=(batch(1, 1, ZERO, admit=Admit(PeerId(1), 777)),))
    one.elect()
    first = one.info(2)
    one.disk()
    one.ack_epoch(first)
    one.disk()
    one.step(LinkLost(first, "reset"))
    old = one.info(1)
    one.ack_epoch(old)
    one.disk()
    one.ack_new_leader(old)
    assert one.place == (State.LEADING, Phase.SYNCHRONIZATION)


# ---- admission: the wiped voter ------------------------------------------------------------------------------------


def wiped_follower() -> tuple[One, LinkId]:
    one = One(0, epochs=FRESH)
    return one, one.follower()


def admit(one: One, link: LinkId, life: int, counter: int = 1) -> Zxid:
    prev = one.peer.history.last
    one.hear(1, Propose(2, (batch(2, counter, prev, admit=Admit(PeerId(0), life)),), ZERO), link)
    return Zxid(2, counter)


def test_a_wiped_follower_promises_uncounted_and_serves_unjoined() -> None:
    """V5"""
    one, _ = wiped_follower()
    assert one.sent(FollowerInfo)[-1].joined is False
    assert [ack.counted for ack in one.sent(AckEpoch)] == [False]
    assert one.epochs == Epochs(2, 2, False) and one.place == SERVING


def test_it_joins_when_it_applies_the_admit_of_its_own_life_and_tells_when_that_is_durable() -> None:
    """L13b"""
    one, link = wiped_follower()
    zxid = admit(one, link, life=100)
    one.disk()
    assert one.epochs.joined is False, "durable, and not yet committed"
    one.hear(1, Commit(2, zxid))
    assert one.did(SaveEpochs)[-1].epochs == Epochs(2, 2, True)
    assert one.sent(Joined) == []
    one.disk()
    assert one.sent(Joined) == [Joined(2)]
    one.hear(1, Commit(2, zxid))
    one.hear(1, Propose(2, (batch(2, 2, zxid),), zxid), link)
    one.disk()
    assert one.sent(Joined) == [Joined(2)]


def test_an_admit_committed_before_it_is_durable_here_waits() -> None:
    """L13b, D3"""
    one, link = wiped_follower()
    zxid = admit(one, link, life=100)
    one.hear(1, Commit(2, zxid))
    assert len(one.writes) == 1
    one.disk(1)
    assert [type(e) for e in one.writes] == [SaveEpochs]


@pytest.mark.parametrize("other", [Admit(PeerId(0), 99), Admit(PeerId(2), 100)], ids=["another life", "another peer"])
def test_the_admit_of_another_joins_nobody(other: Admit) -> None:
    """L13b"""
    one, link = wiped_follower()
    one.hear(1, Propose(2, (batch(2, 1, ZERO, admit=other),), Zxid(2, 1)), link)
    one.disk()
    assert one.delivered == Zxid(2, 1) and one.epochs.joined is False


def test_an_admit_found_on_synchronization_counts_as_well() -> None:
    """L13b: of an earlier leadership, committed by NEWLEADER."""
    held = History()
    held.append(batch(1, 1, ZERO, admit=Admit(PeerId(0), 100)))
    one = One(0, held=held, epochs=Epochs(1, 1, False))
    one.follower()
    one.disk()
    assert one.epochs.joined and one.sent(Joined) == [Joined(2)]


def test_a_link_lost_between_joining_and_telling_loses_nothing() -> None:
    """L13b: the next FOLLOWERINFO says it."""
    one, link = wiped_follower()
    zxid = admit(one, link, life=100)
    one.disk()
    one.hear(1, Commit(2, zxid))
    save = one.did(SaveEpochs)[-1]
    one.store.epochs = save.epochs  # made it to the disk, its completion did not reach us
    one.step(LinkLost(link, "reset"))
    one.disk()
    assert one.sent(Joined) == []
    assert one.peer.epochs.joined and one.peer.own_vote() is not None


# ---- whole stories -----------------------------------------------------------------------------------------------


def test_a_wiped_voter_comes_back_through_the_log() -> None:
    """L13b"""
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.request(leader)
    ensemble.crash(0)
    ensemble.wipe(0)
    ensemble.start(0)
    ensemble.run(500)
    assert ensemble.epochs(0) == Epochs(1, 1, True)
    assert ensemble.last(0) == ensemble.last(leader) == Zxid(1, 2)


def test_a_wiped_voter_and_one_other_elect_nobody() -> None:
    """L13, V5: the other may lack what the dead one and the wiped one had committed."""
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    other = 1
    ensemble.blocked = lambda source, to, message: to == other and isinstance(message, Propose)
    ensemble.request(leader)  # committed by the leader and peer 0
    assert ensemble.delivered[leader] == [Zxid(1, 1)]
    ensemble.crash(0, leader)
    ensemble.wipe(0)
    ensemble.blocked = lambda source, to, message: False
    ensemble.start(0)
    ensemble.run(20_000)
    assert ensemble.leader is None
    ensemble.start(leader)
    ensemble.serve()
    ensemble.run(300)
    assert ensemble.delivered[other][0] == Zxid(1, 1)


def test_a_deposed_leader_commits_nothing_with_a_voter_that_forgot_its_promise() -> None:
    """V5, L13b, L18, bug 47"""
    ensemble = Ensemble(3)
    ensemble.start()
    b = ensemble.serve()
    a, c = sorted({0, 1, 2} - {b})
    ensemble.isolate(b)
    # b is cut off; it has a while before it notices. a and c go on with epoch 2.
    for i in (a, c):
        ensemble.reset(i)
    ensemble.run(300, lambda: ensemble.leader not in (None, b))
    new = ensemble.leader
    assert new is not None and new != b and ensemble.place(b) == LEADING
    ensemble.request(new)
    gone = c if new == a else a
    assert ensemble.delivered[new] == [Zxid(2, 1)]
    ensemble.crash(gone)
    ensemble.wipe(gone)
    ensemble.cuts = {(x, new) for x in range(3)} | {(new, x) for x in range(3)}
    ensemble.start(gone)
    ensemble.request(b)
    ensemble.run(300)
    assert all(Zxid(1, 1) not in delivered for delivered in ensemble.delivered.values())
    assert not ensemble.epochs(gone).joined
    ensemble.heal()
    ensemble.run(10_000)
    assert all(d[:1] == [Zxid(2, 1)] for d in ensemble.delivered.values())


def test_two_wiped_one_after_the_other() -> None:
    """L13b: each is admitted by a quorum of the joined before the next."""
    ensemble = Ensemble(3)
    ensemble.start()
    ensemble.request(ensemble.serve())
    for i in (0, 1, 2, 0):
        ensemble.crash(i)
        ensemble.wipe(i)
        ensemble.start(i)
        ensemble.run(4000)
        assert ensemble.epochs(i).joined, i
    lives = {i: ensemble.disks[PeerId(i)].life for i in range(3)}
    history = ensemble.disks[PeerId(0)].history
    assert {i: history.last_admit(PeerId(i)) for i in range(3)} == lives


def test_a_majority_wiped_never_forms_a_quorum() -> None:
    """L20"""
    ensemble = Ensemble(3)
    ensemble.start()
    ensemble.request(ensemble.serve())
    ensemble.crash(0, 1)
    ensemble.wipe(0)
    ensemble.wipe(1)
    ensemble.start(0, 1)
    ensemble.run(20_000)
    assert ensemble.leader is None
    assert not ensemble.epochs(0).joined and not ensemble.epochs(1).joined


@pytest.mark.parametrize("unsafe", [False, True])
def test_going_on_without_the_lost_disks_counts_and_admits_who_was_admitted_before(unsafe: bool) -> None:
    """L20: somebody decided it on every node; a later leader without the option agrees by the ADMIT."""
    one = One(0, batches=(batch(1, 1, ZERO, admit=Admit(PeerId(1), 777)),), unsafe_rejoin_empty=unsafe)
    one.elect()
    rejoined = one.info(1, accepted=0)
    one.disk()
    one.ack_epoch(rejoined, History(), current=0)
    one.disk()
    assert (one.place == (State.LEADING, Phase.SYNCHRONIZATION)) is unsafe
    if unsafe:
        one.ack_new_leader(rejoined)
        assert one.place == LEADING
        assert one.peer.history.last_admit(PeerId(1)) == rejoined.learner.life


def test_a_wiped_single_node_starts_empty() -> None:
    """L19"""
    ensemble = Ensemble(1)
    ensemble.start()
    ensemble.request(0)
    ensemble.crash(0)
    ensemble.wipe(0)
    ensemble.start(0)
    assert ensemble.serve() == 0 and ensemble.last(0) == ZERO


def test_an_unjoined_follower_joins_nothing_by_being_offered_an_epoch() -> None:
    """L13a, V5: it heard that the ensemble is old before it promised."""
    one = One(0, epochs=FRESH)
    one.wait(400)
    link = one.follow()
    one.hear(1, LeaderInfo(2, 500), link)
    one.disk()
    assert one.epochs == Epochs(2, 0, False)
    one.hear(1, NewLeader(2, ZERO), link)
    one.disk()
    assert one.sent(AckNewLeader) != [] and one.epochs == Epochs(2, 2, False)


def test_link_up_of_an_older_link_says_nothing() -> None:
    one = One(0, epochs=FRESH)
    one.follow()
    before = len(one.sent(FollowerInfo))
    one.step(LinkUp(LinkId(process(0), 77)))
    assert len(one.sent(FollowerInfo)) == before


# ---- a majority lost -----------------------------------------------------------------------------------------------


def test_those_who_lost_their_disks_wait_for_a_survivor_even_when_they_are_a_quorum() -> None:
    """L20: what only a survivor holds must not be begun anew over."""
    ensemble = Ensemble(3)
    ensemble.start()
    ensemble.request(ensemble.serve())
    ensemble.run(200)
    ensemble.crash(0, 1, 2)
    ensemble.unsafe_rejoin_empty = True
    for i in (1, 2):
        ensemble.wipe(i)
        ensemble.disks[PeerId(i)].epochs = Epochs(0, 0, True)  # what the server does with --unsafe-rejoin-empty
    ensemble.start(1, 2)
    ensemble.run(5000)
    assert ensemble.leader is None
    ensemble.start(0)
    assert ensemble.serve() == 0
    ensemble.run(200)
    assert {ensemble.last(i) for i in range(3)} == {Zxid(1, 1)}


# ---- a disk that was lost, replaced, and put back ------------------------------------------------------------------


def replaced() -> tuple[Batch, ...]:
    """Admitted once under this life, and then under another."""
    own = batch(1, 1, ZERO, admit=Admit(PeerId(0), 100))
    return own, batch(1, 2, own.last, admit=Admit(PeerId(0), 777))


def test_a_replaced_life_that_knows_it_neither_votes_nor_claims_to_have_joined() -> None:
    """L18, E6"""
    one = One(0, batches=replaced())
    assert one.peer.own_vote() is None
    one.follow()
    assert one.sent(FollowerInfo)[-1].joined is False
    assert not one.sent(Notification)[-1].joined


def test_a_replaced_life_is_unjoined_before_it_acknowledges_newleader_and_until_it_is_admitted_again() -> None:
    """L18, L13b: by the last ADMIT; neither an earlier one nor one that is not committed yet makes it count."""
    one = One(0)
    link = one.follow()
    one.promise(link)
    assert one.sent(AckEpoch)[-1].counted, "nothing here tells of the other disk yet"
    one.hear(1, SyncTxns(2, replaced()), link)
    one.hear(1, NewLeader(2, Zxid(1, 2)), link)
    one.disk(1)
    assert one.sent(AckNewLeader) == []
    one.disk()
    assert one.sent(AckNewLeader) != [] and one.epochs == Epochs(2, 2, False)
    one.hear(1, UpToDate(2, Zxid(1, 2)), link)
    one.disk()
    assert one.delivered == Zxid(1, 2) and not one.epochs.joined and not one.peer.counts
    again = batch(2, 1, Zxid(1, 2), admit=Admit(PeerId(0), 100))
    one.hear(1, Propose(2, (again,), Zxid(1, 2)), link)
    one.disk()
    assert not one.epochs.joined and not one.peer.counts
    one.hear(1, Commit(2, Zxid(2, 1)))
    one.disk()
    assert one.epochs == Epochs(2, 2, True) and one.sent(Joined) == [Joined(2)] and one.peer.counts
