"""Messages of the protocol itself, well made, from who has no right to send them.

A stranger is anybody who is not the process that a peer believes to be at the other end: no voter, a former
process, somebody else on a link that stands. What it says changes nothing. Who takes a voter's name under a life
never heard before may cost that voter its link (1.1: a wiped disk looks the same), never a committed write.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from tests.e2e.real import RealCluster
from tests.e2e.strangers import Bystander, Foreign, Writing, framed
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    HbEcho,
    Heartbeat,
    Joined,
    LeaderInfo,
    LinkMessage,
    Nack,
    NewLeader,
    Notification,
    Phase,
    Propose,
    Refusal,
    State,
    Trunc,
    UpToDate,
    Vote,
)
from zabzmq.core.zxid import ZERO, PeerId, ProcessId, Zxid

HIGH = 1 << 63
FAR = Zxid(HIGH, 1 << 40)


def forged_votes(source: ProcessId, config_id: int) -> list[Notification]:
    vote = Vote(source, HIGH, FAR)
    return [
        Notification(state, HIGH, vote, None if state is State.LOOKING else source, HIGH, True, config_id, HIGH)
        for state in (State.LOOKING, State.FOLLOWING, State.LEADING)
    ]


def forged_link(epoch: int, config_id: int) -> list[LinkMessage]:
    """Everything a leader or a learner might say, of this epoch and far ahead of all that is."""
    return [
        FollowerInfo(epoch, epoch, True, config_id, HIGH),
        AckEpoch(epoch, epoch, FAR, ZERO, (), True),
        AckNewLeader(epoch, FAR),
        Ack(epoch, FAR),
        HbEcho(epoch, HIGH, True),
        Joined(epoch),
        LeaderInfo(epoch, HIGH),
        Trunc(epoch, ZERO),
        NewLeader(epoch, FAR),
        UpToDate(epoch, FAR),
        Propose(epoch, (), FAR),
        Nack(Refusal.EPOCH_TOO_OLD, epoch),
    ]


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    made = Foreign()
    yield made
    made.close()


class Forger:
    """Sends every forgery to every node, as `source`."""

    def __init__(self, cluster: RealCluster, foreign: Foreign) -> None:
        self.cluster = cluster
        self.foreign = foreign
        self.config_id = cluster.config.config_id

    def speak(self, node: int, source: ProcessId, number: int | None, epoch: int = HIGH) -> int:
        """Votes if `number` is None, else what is said on the link of this number; how many frames."""
        to = self.foreign.process_of(self.cluster, node)
        dealer = self.foreign.connect(zmq.DEALER, self.cluster.config.listen(node).peer)
        said = forged_votes(source, self.config_id) if number is None else forged_link(epoch, self.config_id)
        for seq, message in enumerate(said, 1):
            dealer.send(framed(message, source, node, to.incarnation, number, seq))
        return len(said)


@pytest.mark.parametrize("epoch", [1, HIGH, (1 << 64) - 1])
def test_no_voter_is_heard(shared: RealCluster, foreign: Foreign, epoch: int) -> None:
    bystander, forger = Bystander(shared), Forger(shared, foreign)
    stranger = ProcessId(PeerId(7), 77, 1)
    with Writing(shared) as writing:
        for node in shared.config.ids:
            said = forger.speak(node, stranger, None) + forger.speak(node, stranger, 1, epoch)
            bystander.until_dropped(node, "stranger", said)
        writing.go_on()
    bystander.check()


def test_a_former_process_of_a_voter_is_not_heard(shared: RealCluster, foreign: Foreign) -> None:
    bystander, forger = Bystander(shared), Forger(shared, foreign)
    with Writing(shared) as writing:
        for node in shared.config.ids:
            for other in shared.config.ids:
                if other != node:
                    now = foreign.process_of(shared, other)
                    former = now._replace(incarnation=now.incarnation - 1)
                    said = forger.speak(node, former, None) + forger.speak(node, former, 1)
                    bystander.until_dropped(node, "stale", said)
                    bystander = Bystander(shared)
        writing.go_on()
    bystander.check()


def test_the_node_itself_is_not_heard_by_itself(shared: RealCluster, foreign: Foreign) -> None:
    bystander, forger = Bystander(shared), Forger(shared, foreign)
    with Writing(shared) as writing:
        for node in shared.config.ids:
            itself = foreign.process_of(shared, node)
            said = forger.speak(node, itself, None) + forger.speak(node, itself, 1)
            bystander.until_dropped(node, "stranger", said - 12)
        writing.go_on()
    bystander.check()


def test_another_connection_on_a_link_that_stands_is_not_heard(shared: RealCluster, foreign: Foreign) -> None:
    """It knows the follower's life, incarnation and link number, and guesses the epoch right."""
    bystander, forger = Bystander(shared), Forger(shared, foreign)
    leader = shared.until_led()
    with Writing(shared) as writing:
        for follower in shared.others(leader):
            process = foreign.process_of(shared, follower)
            for number in range(1, 5):
                forger.speak(leader, process, number, bystander.before["epoch"])
        bystander.until_dropped(leader, "stranger", 12)
        writing.go_on()
    bystander.check()


def test_a_publisher_cannot_be_spoken_to(shared: RealCluster, foreign: Foreign) -> None:
    bystander = Bystander(shared)
    leader = shared.until_led()
    process = foreign.process_of(shared, leader)
    beat = Heartbeat(State.LEADING, Phase.BROADCAST, HIGH, process, HIGH, FAR, FAR, FAR, 1)
    with Writing(shared) as writing:
        for node in shared.config.ids:
            sender = foreign.connect(zmq.XSUB, shared.config.listen(node).publish)
            for topic, message in ((b"hb", beat), (b"cm", Commit(bystander.before["epoch"], FAR))):
                sender.send_multipart([topic, framed(message, process, node)])
            peers = foreign.connect(zmq.DEALER, shared.config.listen(node).peer)
            peers.send(framed(beat, process, node))
            bystander.until_dropped(node, "place")
        writing.go_on()
    bystander.check()


@pytest.mark.parametrize("number", [None, 1], ids=["votes", "links"])
@pytest.mark.parametrize("epoch", [1, HIGH, (1 << 64) - 1])
def test_who_takes_a_voters_name_loses_no_write_and_stops_nobody(
    three: RealCluster, foreign: Foreign, number: int | None, epoch: int
) -> None:
    three.up()
    pids = three.supervisor.running()
    forger = Forger(three, foreign)
    three.put("before")
    with Writing(three) as writing:
        for node in three.config.ids:
            for other in three.others(node):
                forger.speak(node, ProcessId(PeerId(other), 4711, 1), number, epoch)
        writing.go_on(20)
    three.until("healthy", lambda status: bool(status["health"] == "healthy"))
    three.kill(three.until_led())  # a new epoch must be found
    three.up()
    three.put("after")
    three.until_equal()
    assert three.missing("before", "after") == []
    assert len(set(pids.items()) & set(three.supervisor.running().items())) == 2, "no node stopped by itself"
