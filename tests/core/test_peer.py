"""One peer as a whole: its table of moves, its way back to LOOKING (D4, S5), and who is told what."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from tests.core.ensemble import Ensemble
from tests.core.one import One, batch, chain, history, process
from zabzmq.core.effects import Append, CloseLink, Fail, Moved, OpenLink, Publish, Quiesce, Report, SaveEpochs
from zabzmq.core.history import Epochs, History
from zabzmq.core.inputs import (
    BatchesRead,
    DiskSpace,
    Durable,
    EpochsSaved,
    Input,
    LinkLost,
    LinkUp,
    Quiesced,
    Read,
    Request,
    Resumed,
    SnapshotInstalled,
    SnapshotStaged,
    SnapshotTaken,
    Space,
    Tick,
)
from zabzmq.core.learner import Tenure
from zabzmq.core.messages import (
    Ack,
    AckNewLeader,
    Commit,
    HbEcho,
    Heartbeat,
    LeaderInfo,
    Nack,
    NewLeader,
    Notification,
    Phase,
    Propose,
    Refusal,
    State,
    UpToDate,
    Vote,
)
from zabzmq.core.peer import MOVES, Peer, Place
from zabzmq.core.quorum import Voters
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, PeerId, Zxid

QUIESCE = (State.LOOKING, Phase.QUIESCE)
ELECTION = (State.LOOKING, Phase.ELECTION)
LEADER = [(State.LEADING, phase) for phase in (Phase.DISCOVERY, Phase.SYNCHRONIZATION, Phase.BROADCAST)]
FOLLOWER = [(State.FOLLOWING, phase) for phase in (Phase.DISCOVERY, Phase.SYNCHRONIZATION, Phase.BROADCAST)]
FAILED = (State.FAILED, Phase.QUIESCE)
BETTER = Vote(process(2), 1, Zxid(1, 9))


def at(place: Place) -> One:
    """A peer that has come to this place."""
    one = One(0, held=history((1, 2)))
    if place == ELECTION:
        one.meet(1, 2)
    elif place == QUIESCE:
        one.follower()
        one.step(LinkLost(one.did(OpenLink)[-1].link, "reset"))
    elif place == FAILED:
        one.peer.fail("for a test")
        one.tick()
    elif place in FOLLOWER:
        link = one.follow()
        if place[1] != Phase.DISCOVERY:
            one.promise(link)
        if place[1] == Phase.BROADCAST:
            one.hear(1, NewLeader(2, Zxid(1, 2)), link)
            one.disk()
            one.hear(1, UpToDate(2, Zxid(1, 2)), link)
    else:
        one.elect()
        if place[1] != Phase.DISCOVERY:
            links = [one.info(i) for i in (1, 2)]
            one.disk()
            for link in links:
                one.ack_epoch(link, history((1, 2)))
            one.disk()
            if place[1] == Phase.BROADCAST:
                one.ack_new_leader(links[0])
                one.ack_new_leader(links[1])
    assert one.place == place
    return one


EVERYWHERE = [QUIESCE, ELECTION, *LEADER, *FOLLOWER, FAILED]


def named(place: Place) -> str:
    return f"{place[0].name} {place[1].name}"


# ---- the table of moves ------------------------------------------------------------------------------------------


def moves_of(one: One) -> set[tuple[Place, Place]]:
    places = [(m.state, m.phase) for m in one.did(Moved)]
    return set(pairwise(places))


def test_every_move_of_the_table_is_made_and_no_other() -> None:
    """The table is what the diagrams are drawn from."""
    made: set[tuple[Place, Place]] = set()
    for place in [*LEADER, *FOLLOWER]:
        one = at(place)
        one.step(DiskSpace(Space.FULL))
        one.disk()
        made |= moves_of(one)
    one = at(ELECTION)
    one.looking(2, BETTER)
    one.lose(2)  # a new round
    one.step(DiskSpace(Space.FULL))
    one.disk()
    made |= moves_of(one)
    assert made == {(here, there) for here, places in MOVES.items() for there in places}


def test_a_move_that_is_not_in_the_table_is_a_bug_of_ours() -> None:
    one = at(ELECTION)
    with pytest.raises(AssertionError, match="no move"):
        one.peer.lead_broadcast(Tenure())


@pytest.mark.parametrize("place", [*LEADER, *FOLLOWER], ids=named)
def test_every_role_is_left_through_a_quiet_disk(place: Place) -> None:
    """D4, section 2"""
    assert QUIESCE in MOVES[place] and ELECTION not in MOVES[place]


@pytest.mark.parametrize("place", EVERYWHERE[:-1], ids=named)
def test_every_move_is_told_with_its_reason(place: Place) -> None:
    one = at(place)
    last = one.did(Moved)[-1]
    assert (last.state, last.phase) == place and last.why


# ---- leaving a role (D4) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [*LEADER, *FOLLOWER], ids=named)
def test_leaving_a_role_closes_every_link_and_quiets_the_disk(place: Place) -> None:
    """D4, section 2"""
    one = at(place)
    role, before = one.peer.role, len(one.said)
    links = one.peer.phase.links()
    one.step(DiskSpace(Space.FULL))
    effects = one.said[before:]
    assert one.place == QUIESCE and one.peer.role == role + 1
    assert {e.link for e in one.did(CloseLink, effects)} == set(links)
    assert one.did(Quiesce, effects) == [Quiesce(role + 1)]
    assert one.peer.phase.leader is None


def test_nobody_hears_of_the_log_before_the_write_in_flight_has_ended() -> None:
    """D4, bug 18: no vote, no answer, while the disk is held."""
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.hold(0)
    ensemble.request(leader)
    ensemble.reset(0)
    assert ensemble.place(0) == QUIESCE
    said = len(ensemble.effects)
    ensemble.run(900)
    mine = [e for p, e in ensemble.effects[said:] if p == 0]
    assert all(isinstance(e, Publish) for e in mine)
    ensemble.release(0)
    assert ensemble.place(0) != QUIESCE
    assert ensemble.peer(0).durable == Zxid(1, 1) == ensemble.last(0)
    ensemble.serve()


def test_what_was_queued_and_not_begun_is_discarded() -> None:
    """D4"""
    ensemble = Ensemble(3)
    ensemble.start()
    leader = ensemble.serve()
    ensemble.hold(0)
    for _ in range(3):
        ensemble.request(leader)
    ensemble.reset(0)
    ensemble.cut(0, leader)
    ensemble.release(0)
    assert ensemble.last(0) == Zxid(1, 1) == ensemble.peer(0).history.last
    ensemble.heal()
    ensemble.serve()
    assert ensemble.last(0) == Zxid(1, 3)


def test_a_write_that_does_not_end_stops_the_node() -> None:
    """D4: exit if it exceeds disk_stall."""
    one = at(FOLLOWER[2])
    one.step(LinkLost(one.did(OpenLink)[-1].link, "reset"))
    one.wait(999)
    assert one.place == QUIESCE
    one.wait(1)
    assert one.place == FAILED and len(one.did(Fail)) == 1


def test_a_pause_is_no_stalled_disk() -> None:
    """F5"""
    one = at(QUIESCE)
    one.now += 5000
    one.step(Resumed())
    one.tick()
    assert one.place == QUIESCE
    one.disk()
    assert one.place == ELECTION


@pytest.mark.parametrize("place", EVERYWHERE, ids=named)
def test_completions_of_an_older_role_are_dropped_everywhere(place: Place) -> None:
    """D4"""
    one = at(place)
    peer, said = one.peer, len(one.said)
    old = peer.role - 1
    state = (peer.history.copy(), peer.epochs, peer.durable, peer.committed, peer.delivered, one.place)
    for event in (
        Durable(old, Zxid(1, 9)),
        EpochsSaved(old, Epochs(9, 9, True)),
        SnapshotStaged(old, 100),
        SnapshotInstalled(old, Zxid(1, 9)),
        Quiesced(old, History(), Epochs(0, 0, False)),
        BatchesRead(old, one.link(1), ZERO, chain((1, 1))),
    ):
        one.step(event)
    assert (peer.history, peer.epochs, peer.durable, peer.committed, peer.delivered, one.place) == state
    assert one.said[said:] == []


def test_a_leader_reads_its_own_end_from_the_disk_again() -> None:
    """D4: what it proposed and did not write is not its history."""
    one = at(LEADER[2])
    one.request()
    one.request()
    assert one.peer.history.last == Zxid(2, 2)
    one.wait(600)
    one.disk()
    assert one.peer.history.last == Zxid(1, 2) == one.peer.durable


# ---- repair after a broken synchronization (S5) ------------------------------------------------------------------


def quieted(last: tuple[tuple[int, int], ...], epochs: Epochs) -> One:
    """A peer that left its role and finds this on its disk."""
    one = at(QUIESCE)
    one.store.history = history(*last)
    one.store.epochs = epochs
    one.disk(1)
    return one


def test_currentepoch_is_raised_to_the_epoch_of_the_log_before_the_first_vote() -> None:
    """S5, D2"""
    one = quieted(((1, 2), (3, 1)), Epochs(4, 2, True))
    assert one.place == QUIESCE
    assert one.did(SaveEpochs)[-1].epochs == Epochs(4, 3, True)
    one.disk()
    mine = one.peer.own_vote()
    assert one.place == ELECTION and mine is not None and (mine.epoch, mine.zxid) == (3, Zxid(3, 1))


def test_nothing_is_written_when_there_is_nothing_to_repair() -> None:
    one = quieted(((1, 2),), Epochs(4, 2, True))
    assert one.place == ELECTION and not one.writes


def test_a_log_beyond_every_promise_stops_the_node() -> None:
    """S5"""
    assert quieted(((1, 2), (5, 1)), Epochs(4, 2, True)).place == FAILED


@pytest.mark.parametrize("place", EVERYWHERE, ids=named)
def test_epochs_never_fall_and_current_never_passes_accepted(place: Place) -> None:
    """D2, EpochOrder: an assertion, for it would be a bug of ours."""
    one = at(place)
    with pytest.raises(AssertionError):
        one.peer.save_epochs(Epochs(one.peer.epochs.accepted, one.peer.epochs.accepted + 1, True))
    with pytest.raises(AssertionError):
        one.peer.save_epochs(one.peer.epochs._replace(accepted=one.peer.epochs.accepted - 1))


# ---- what comes in anywhere --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", EVERYWHERE, ids=named)
@pytest.mark.parametrize(
    "event",
    [
        pytest.param(Tick(), id="Tick"),
        pytest.param(Resumed(), id="Resumed"),
        pytest.param(Request(b"x", 1, 0), id="Request"),
        pytest.param(Read(5), id="Read"),
        pytest.param(LinkUp(One(1).link(7)), id="LinkUp of no link"),
        pytest.param(LinkLost(One(1).link(7), "x"), id="LinkLost of no link"),
        pytest.param(SnapshotTaken(Zxid(1, 2), Zxid(1, 1)), id="SnapshotTaken"),
        pytest.param(DiskSpace(Space.LOW), id="DiskSpace"),
    ],
)
def test_any_input_may_come_in_any_place(place: Place, event: Input) -> None:
    one = at(place)
    one.step(event)
    assert one.place == place


@pytest.mark.parametrize("place", EVERYWHERE, ids=named)
def test_any_message_may_come_in_any_place(place: Place) -> None:
    """A peer at odds with us costs a link at most, never the node (section 2, STYLE 8)."""
    messages = [
        Ack(2, ZERO),
        AckNewLeader(2, ZERO),
        HbEcho(2, 1, False),
        LeaderInfo(1, 1),
        NewLeader(2, ZERO),
        Nack(Refusal.NOT_LEADING, 3),
        Nack(Refusal.OTHER_CONFIG, 3),
        Propose(2, (batch(2, 1, ZERO),), ZERO),
        UpToDate(2, ZERO),
        Commit(2, ZERO),
    ]
    for message in messages:
        for number in (0, 1):
            one = at(place)
            links = one.peer.phase.links()
            link = links[0] if links and number else one.link(1, 99)
            one.hear(1, message, link if not isinstance(message, Commit) else None)
            assert (one.place == FAILED) is (place == FAILED), message


@pytest.mark.parametrize("place", [QUIESCE, ELECTION, *FOLLOWER], ids=named)
def test_followerinfo_is_sent_away_by_whoever_does_not_lead(place: Place) -> None:
    """E7"""
    one = at(place)
    if place == ELECTION:
        one.looking(2, BETTER)
    link = one.info(1, 50)
    assert one.to(link, Nack) == [Nack(Refusal.NOT_LEADING, one.peer.epochs.accepted)]
    assert one.closed(link)


@pytest.mark.parametrize("place", EVERYWHERE, ids=named)
def test_a_looking_peer_is_answered_by_whoever_has_decided(place: Place) -> None:
    """E5, 3.3"""
    one = at(place)
    before = len(one.said)
    one.looking(2, None, 0)
    answers = [n for n in one.sent(Notification, one.said[before:]) if n.state != State.LOOKING]
    if place in (QUIESCE, ELECTION, FAILED):
        assert answers == []
    else:
        assert [(a.state, a.leader) for a in answers] == [(place[0], one.peer.phase.leader)]


def test_a_failed_peer_is_deaf_and_dumb() -> None:
    one = at(FAILED)
    before = len(one.said)
    one.looking(2, None, 0)
    one.decided(2, 2)
    one.wait(2000)
    assert one.said[before:] == []


def test_an_undelivered_link_message_of_a_stranger_changes_nothing() -> None:
    one = at(LEADER[2])
    before = one.place
    one.hear(process(8), Ack(2, ZERO), one.link(8))
    assert one.place == before and [r.kind for r in one.did(Report)][-1] == "drop"


# ---- heartbeats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [ELECTION, LEADER[0], LEADER[1], FOLLOWER[0]], ids=named)
def test_heartbeats_are_published_in_every_state_at_the_rate_of_that_state(place: Place) -> None:
    """F1, 8.1"""
    one = at(place)
    one.wait(600 if place[0] != State.LEADING else 0)
    if one.place == place:
        before, began = len(one.said), one.now
        one.wait(300 if place[0] is State.LEADING else 1000)
        beats = sum(isinstance(e.message, Heartbeat) for e in one.did(Publish, one.said[before:]))
        assert beats == (5 if place[0] is State.LEADING else 2), one.now - began


@pytest.mark.parametrize("place", EVERYWHERE[:-1], ids=named)
def test_every_change_of_state_is_published_at_once(place: Place) -> None:
    """8.1"""
    one = at(place)
    beats = [m for m in one.sent(Heartbeat) if (m.state, m.phase) == place]
    assert beats and beats[0].hb_seq == min(b.hb_seq for b in beats)
    assert beats[-1].epoch == one.peer.phase.epoch


def test_a_heartbeat_tells_what_is_durable_and_committed() -> None:
    one = at(LEADER[2])
    one.request()
    one.wait(60)
    beat = one.sent(Heartbeat)[-1]
    assert (beat.last, beat.committed, beat.applied, beat.digest) == (Zxid(1, 2), Zxid(1, 2), Zxid(1, 2), None)


# ---- making one --------------------------------------------------------------------------------------------------


def test_a_peer_starts_with_what_its_disk_holds_and_no_more_than_the_snapshot_committed() -> None:
    """1.1: committed and applied start at S."""
    one = One(0, held=history((1, 5), (2, 2), snapshot=(1, 4)), epochs=Epochs(3, 2, True))
    peer = one.peer
    assert (peer.durable, peer.committed, peer.delivered) == (Zxid(2, 2), Zxid(1, 4), Zxid(1, 4))
    assert one.place == ELECTION and peer.is_established is False


def test_only_a_voter_can_be_a_peer() -> None:
    with pytest.raises(ValueError, match="voters"):
        Peer(process(5), Voters((PeerId(0), PeerId(1))), History(), Epochs(0, 0, False), Random(0))


@pytest.mark.parametrize(
    "timing",
    [
        pytest.param({"quorum_timeout": 460, "peer_timeout": 500}, id="leaders must notice first"),
        pytest.param({"hb_interval": 70, "peer_timeout": 500}, id="eight heartbeats before a leader is given up"),
    ],
)
def test_timings_that_cannot_work_are_refused(timing: dict[str, float]) -> None:
    """8.1"""
    with pytest.raises(ValueError):
        Timing(**timing)  # type: ignore[arg-type]


def test_the_same_inputs_give_the_same_effects() -> None:
    """STYLE 4: pure; time and chance come in from outside."""
    runs = []
    for _ in range(2):
        ensemble = Ensemble(3)
        ensemble.start()
        leader = ensemble.serve()
        ensemble.request(leader)
        ensemble.crash(leader)
        ensemble.run(2000)
        runs.append([(p, repr(e)) for p, e in ensemble.effects])
    assert runs[0] == runs[1]


def test_writes_are_asked_for_under_the_present_role() -> None:
    one = at(FOLLOWER[2])
    link = one.did(OpenLink)[-1].link
    one.hear(1, Propose(2, (batch(2, 1, Zxid(1, 2)),), ZERO), link)
    assert one.did(Append)[-1].role == one.peer.role
