"""Real sockets on loopback: what must arrive does, in order; what must not is counted; a death is noticed at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zmq
from msgspec import Raw

from tests.net.rig import DEADLINE, GARBAGE, HELLO, Rig, frames
from zabzmq.core.history import Batch
from zabzmq.core.inputs import LinkLost, LinkUp, MeshDown, MeshUp, Received
from zabzmq.core.messages import (
    Ack,
    Commit,
    HbEcho,
    Heartbeat,
    LeaderInfo,
    Nack,
    Notification,
    Phase,
    Propose,
    Refusal,
    State,
)
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.net import client_wire, options, sockets
from zabzmq.net.client_wire import Committed, Hello, Hint, StatusQuery, Submit
from zabzmq.net.endpoints import NetError
from zabzmq.net.sockets import SocketTransport
from zabzmq.net.wire import LINK, MESH, Closed, Wire

VOTE = Notification(State.LOOKING, 3, None, None, 0, True, 0, 1)
BEAT = Heartbeat(State.LEADING, Phase.BROADCAST, 2, None, 1, ZERO, ZERO, ZERO, None)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(3)
    yield made
    made.close()


def never_time_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes of waiting, so what comes was noticed at once, however busy the machine is."""
    rig.link_timeout_ms = 600_000
    for settings in (options.MESH_DEALER, options.SUBSCRIBER, options.LINK_DEALER):
        for option in (zmq.CONNECT_TIMEOUT, zmq.HANDSHAKE_IVL, zmq.HEARTBEAT_IVL, zmq.HEARTBEAT_TIMEOUT):
            monkeypatch.setitem(settings, option, 600_000)


# ---- links -------------------------------------------------------------------------------------------------------


def test_a_link_opens_and_carries_messages_both_ways_in_order(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    assert not rig.has_heard(0, LinkUp(link)), "only its learner opened it"
    sent = [Ack(1, Zxid(1, counter)) for counter in range(1000)]
    for message in sent:
        rig.nodes[1].send(link, message)
        rig.nodes[0].send(link, message)
    rig.until(lambda: len(rig.messages(0, link)) == 1001 and len(rig.messages(1, link)) == 1000)
    assert rig.messages(0, link) == [HELLO, *sent]
    assert rig.messages(1, link) == sent
    assert not rig.nodes[0].dropped
    assert not rig.nodes[1].dropped


def test_a_message_says_which_process_sent_it(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    assert rig.has_heard(0, Received(rig.nodes[1].me, link, HELLO))


def test_one_proposal_reaches_two_learners(rig: Rig) -> None:
    rig.meshed(0, 1, 2)
    links = [rig.linked(learner=1, leader=0), rig.linked(learner=2, leader=0)]
    proposal = Propose(1, (Batch(Zxid(1, 1), ZERO, 256, 0, None, os.urandom(30_000)),), ZERO)
    for link in links:
        rig.nodes[0].send(link, proposal)
    rig.until(lambda: rig.messages(1, links[0]) == rig.messages(2, links[1]) == [proposal])


def test_a_link_its_learner_closes_is_lost_at_the_leader(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.nodes[1].close_link(link)
    rig.until(lambda: rig.lost(0, link) == ["closed by peer 1"])
    assert rig.lost(1, link) == []


def test_a_link_its_leader_closes_is_lost_at_the_learner(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.nodes[0].close_link(link)
    rig.until(lambda: rig.lost(1, link) == ["closed by peer 0"])
    assert rig.lost(0, link) == []


@pytest.mark.parametrize("closer", [0, 1], ids=["leader", "learner"])
def test_the_last_word_before_a_close_arrives(rig: Rig, closer: int) -> None:
    rig.meshed(0, 1)
    for number in range(1, 11):
        link = rig.linked(learner=1, leader=0, number=number)
        word = Nack(Refusal.EPOCH_TOO_OLD, number)
        for counter in range(200):
            rig.nodes[closer].send(link, Ack(1, Zxid(1, counter)))
        rig.nodes[closer].send(link, word)
        rig.nodes[closer].close_link(link)
        rig.until(lambda link=link: rig.lost(1 - closer, link))  # type: ignore[misc]
        assert rig.messages(1 - closer, link)[-201:] == [*(Ack(1, Zxid(1, counter)) for counter in range(200)), word]


def test_nothing_of_a_closed_link_is_handed_on(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.nodes[0].close_link(link)
    for counter in range(20):
        rig.nodes[1].send(link, Ack(1, Zxid(1, counter)))
    rig.until(lambda: rig.lost(1, link) and rig.nodes[0].dropped["closed"] == 20)
    assert rig.messages(0, link) == [HELLO]


def test_a_learner_that_does_not_know_its_link_is_over_is_told_again(rig: Rig) -> None:
    rig.start(0)
    learner = ProcessId(PeerId(1), 7, 7)
    link = LinkId(learner, 1)
    dealer = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer, identity=b"1/7/1")
    dealer.send_multipart(frames(learner, rig.nodes[0].me, link, 5, Ack(1, ZERO)))
    rig.until(lambda: rig.nodes[0].dropped["gap"] == 1)
    assert dealer.poll(int(DEADLINE * 1000))
    envelope, message = Wire("demo").decode(dealer.recv_multipart(), LINK)
    assert (envelope.link, message) == (link, Closed())


def test_a_new_link_replaces_the_one_before(rig: Rig) -> None:
    rig.meshed(0, 1)
    first = rig.linked(learner=1, leader=0, number=1)
    second = rig.linked(learner=1, leader=0, number=2)
    assert rig.lost(0, first) == [f"replaced by {second}"]
    assert not rig.lost(0, second)


def test_a_refused_connection_is_a_lost_link_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    never_time_out(rig, monkeypatch)
    node = rig.start(1)
    link = LinkId(node.me, 1)
    node.open_link(link, PeerId(0))
    rig.until(lambda: rig.lost(1, link))
    assert rig.lost(1, link) == ["refused"]


def test_a_peer_that_accepts_and_says_nothing_is_a_lost_link_after_its_time(rig: Rig) -> None:
    port = int(rig.endpoints[PeerId(0)].peer.rpartition(":")[2])
    rig.link_timeout_ms = 300
    with socket.create_server(("127.0.0.1", port)):
        node = rig.start(1)
        link = LinkId(node.me, 1)
        node.open_link(link, PeerId(0))
        assert 200 < rig.until(lambda: rig.lost(1, link)) < 2000
        assert not node.links.is_open(link)


def test_a_link_to_nobody_we_know_is_lost(rig: Rig) -> None:
    node = rig.start(1)
    link = LinkId(node.me, 1)
    node.open_link(link, PeerId(8))
    rig.until(lambda: rig.lost(1, link) == ["no peer 8"])


def test_sending_on_a_link_that_was_never_opened_is_nothing(rig: Rig) -> None:
    node = rig.start(0)
    node.send(LinkId(ProcessId(PeerId(1), 1, 1), 1), Ack(1, ZERO))
    node.close_link(LinkId(ProcessId(PeerId(1), 1, 1), 1))
    rig.turn()
    assert rig.heard[0] == []


def test_sending_before_the_link_is_up_loses_it(rig: Rig) -> None:
    node = rig.start(1)
    link = LinkId(node.me, 1)
    node.open_link(link, PeerId(0))
    node.send(link, HELLO)
    rig.until(lambda: rig.lost(1, link) == ["peer 0 does not take message 1"])


def test_sending_to_a_learner_that_is_gone_loses_the_link(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.stop(1)

    def say_more() -> list[str]:
        rig.nodes[0].send(link, LeaderInfo(1, 1))
        return rig.lost(0, link)

    rig.until(say_more)
    assert len(rig.lost(0, link)) == 1


def test_a_learner_that_does_not_read_loses_its_link_and_never_sees_a_hole(rig: Rig) -> None:
    """Bug 43: a ROUTER accepted 5000 messages and delivered 105."""
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    leader = rig.nodes[0]
    sent = 0
    proposal = Propose(1, (Batch(Zxid(1, 1), ZERO, 1, 0, None, bytes(2000)),), ZERO)
    while leader.links.is_open(link):
        leader.send(link, proposal)
        sent += 1
        assert sent < 200_000
    assert leader.unsent["link"] == 1

    def echo() -> list[str]:
        # Not even the word that the link is over went out; the next message of the learner is answered with it.
        rig.nodes[1].send(link, HbEcho(1, 1, False))
        return rig.lost(1, link)

    rig.until(echo)
    assert rig.lost(0, link) == [f"peer 1 does not take message {sent}"]
    assert rig.lost(1, link) == ["closed by peer 0"]
    assert 0 < len(rig.messages(1, link)) < sent
    assert not rig.nodes[1].dropped


def test_a_leader_that_dies_with_much_unread_leaves_a_prefix(rig: Rig) -> None:
    """With a message in parts libzmq aborted the learner here: its connection ended between two of them."""
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    sent = [Ack(1, Zxid(1, counter)) for counter in range(3000)]
    for message in sent:
        rig.nodes[0].send(link, message)
    rig.until(lambda: rig.messages(1, link))
    rig.stop(0)
    rig.until(lambda: rig.lost(1, link))
    received = rig.messages(1, link)
    assert received == sent[: len(received)]


def test_a_message_larger_than_any_frame_loses_its_link_only(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.nodes[0].send(link, Propose(1, (Batch(Zxid(1, 1), ZERO, 1, 0, None, bytes(5 << 20)),), ZERO))
    rig.until(lambda: rig.lost(0, link) and rig.lost(1, link))
    rig.linked(learner=1, leader=0, number=2)


# ---- the death of a process --------------------------------------------------------------------------------------

CHILD = """
import sys
from zabzmq.core.zxid import PeerId, ProcessId
from zabzmq.net.endpoints import Endpoints, NetConfig
from zabzmq.net.sockets import SocketTransport
nodes = {PeerId(i): Endpoints(*sys.argv[1 + 3 * i : 4 + 3 * i]) for i in range((len(sys.argv) - 1) // 3)}
transport = SocketTransport(NetConfig("demo", ProcessId(PeerId(0), 1000, 100), nodes))
print("up", flush=True)
while True:
    transport.poll(1000)
    transport.receive()
"""


def test_a_killed_leader_is_noticed_within_milliseconds(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    never_time_out(rig, monkeypatch)
    addresses = [address for peer in sorted(rig.endpoints) for address in rig.endpoints[peer]]
    with subprocess.Popen([sys.executable, "-c", CHILD, *addresses], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            node = rig.start(1)
            rig.until_heard(1, MeshUp(PeerId(0)))
            link = LinkId(node.me, 1)
            node.open_link(link, PeerId(0))
            rig.until_heard(1, LinkUp(link))
            child.kill()
            # On an idle machine 1 to 10 ms.
            rig.until(lambda: rig.has_heard(1, MeshDown(PeerId(0))) and rig.lost(1, link) == ["disconnected"])
        finally:
            child.kill()


def test_an_address_that_hangs_up_was_never_up(rig: Rig) -> None:
    port = int(rig.endpoints[PeerId(0)].peer.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.setblocking(False)
        rig.start(1)
        for _ in range(5):
            streams: list[socket.socket] = []

            def accepted(streams: list[socket.socket] = streams) -> bool:
                try:
                    streams.append(listening.accept()[0])
                except BlockingIOError:
                    return False
                return True

            rig.until(accepted)
            streams[0].close()
    rig.start(0)
    rig.until_heard(1, MeshUp(PeerId(0)))
    assert not rig.has_heard(1, MeshDown(PeerId(0)))


def test_a_peer_that_comes_back_is_meshed_again(rig: Rig) -> None:
    rig.meshed(0, 1)
    rig.stop(0)
    rig.until_heard(1, MeshDown(PeerId(0)))
    rig.heard[1].clear()
    rig.start(0, incarnation=101)
    rig.until(lambda: rig.has_heard(1, MeshUp(PeerId(0))) and PeerId(0) in rig.nodes[1].subscribed)
    rig.nodes[0].send_vote(PeerId(1), VOTE)
    rig.nodes[1].send_vote(PeerId(0), VOTE)
    rig.until(lambda: rig.messages(0, None) == rig.messages(1, None) == [VOTE])


def test_the_next_process_on_an_address_hears_nothing_of_the_links_before(rig: Rig) -> None:
    """Bug 42: it was handed what had been sent to its predecessor, with a hole."""
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    for counter in range(500):
        rig.nodes[1].send(link, Ack(1, Zxid(1, counter)))  # not read: the leader stands still
    rig.stop(0)
    for counter in range(500, 1000):
        rig.nodes[1].send(link, Ack(1, Zxid(1, counter)))
    rig.start(0, incarnation=101)
    rig.until(lambda: rig.lost(1, link) and rig.has_heard(0, MeshUp(PeerId(1))))
    again = rig.linked(learner=1, leader=0, number=2)
    assert rig.messages(0, link) == []
    assert rig.messages(0, again) == [HELLO]


def test_what_was_meant_for_the_process_before_is_dropped_and_counted(rig: Rig) -> None:
    """Bug 42 again, as if ZeroMQ had kept it: the right address, the wrong process."""
    rig.start(0, incarnation=101)
    learner, before = ProcessId(PeerId(1), 7, 7), rig.nodes[0].me._replace(incarnation=100)
    dealer = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer, identity=b"1/7/1")
    for seq in (1, 2, 3032):
        dealer.send_multipart(frames(learner, before, LinkId(learner, 1), seq, Ack(1, ZERO)))
    dealer.send_multipart(frames(learner, before, None, 0, VOTE))
    rig.until(lambda: rig.nodes[0].dropped["address"] == 4)
    assert rig.heard[0] == []


def test_messages_of_an_older_incarnation_are_dropped(rig: Rig) -> None:
    rig.start(0)
    old, new = ProcessId(PeerId(1), 7, 7), ProcessId(PeerId(1), 7, 8)
    dealer = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer)
    for source in (new, old, old):
        dealer.send_multipart(frames(source, rig.nodes[0].me, None, 0, VOTE))
    rig.until(lambda: rig.nodes[0].dropped["stale"] == 2)
    assert rig.heard[0] == [Received(new, None, VOTE)]


def test_of_two_processes_with_one_id_the_one_at_its_address_prevails(rig: Rig) -> None:
    """Bug 44: with one routing id for both, one of them was silently dead."""
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    home = rig.endpoints[PeerId(1)]
    rig.endpoints[PeerId(1)] = rig.free_endpoints()
    twin = SocketTransport(rig.config(1, life=99, incarnation=500))
    rig.add(11, twin)
    rig.endpoints[PeerId(1)] = home
    rig.until_heard(11, MeshUp(PeerId(0)))
    twin.send_vote(PeerId(0), VOTE)
    rig.until_heard(0, Received(twin.me, None, VOTE))
    assert rig.lost(0, link), "a life never met before is taken for a wiped directory"
    rig.nodes[1].publish(BEAT)
    rig.until_heard(0, Received(rig.nodes[1].me, None, BEAT))
    again = rig.linked(learner=1, leader=0, number=2)
    twin.send_vote(PeerId(0), VOTE)
    rig.until(lambda: rig.nodes[0].dropped["stale"] == 1)
    assert not rig.lost(0, again)
    rig.nodes[1].send(again, Ack(1, ZERO))
    rig.until(lambda: rig.messages(0, again) == [HELLO, Ack(1, ZERO)])


# ---- mesh and PUB ------------------------------------------------------------------------------------------------


def test_votes_travel_without_a_link(rig: Rig) -> None:
    rig.meshed(0, 1, 2)
    rig.nodes[0].send_vote(PeerId(1), VOTE)
    rig.nodes[0].send_vote(PeerId(2), VOTE)
    for peer in (1, 2):
        rig.until_heard(peer, Received(rig.nodes[0].me, None, VOTE))


def test_a_vote_for_a_peer_that_is_down_is_not_kept_for_it(rig: Rig) -> None:
    rig.start(0)
    for _ in range(5):
        rig.nodes[0].send_vote(PeerId(1), VOTE)
    assert rig.nodes[0].unsent["vote"] == 5
    rig.start(1)
    rig.until(lambda: rig.has_heard(0, MeshUp(PeerId(1))))
    rig.nodes[0].send_vote(PeerId(1), VOTE._replace(n_seq=9))
    rig.until(lambda: rig.messages(1, None))
    assert rig.messages(1, None) == [VOTE._replace(n_seq=9)]


def test_everyone_subscribed_hears_heartbeats_and_commits(rig: Rig) -> None:
    rig.meshed(0, 1, 2)
    rig.nodes[0].publish(BEAT)
    rig.nodes[0].publish(Commit(2, Zxid(2, 1)))
    for peer in (1, 2):
        rig.until(lambda peer=peer: rig.messages(peer, None) == [BEAT, Commit(2, Zxid(2, 1))])  # type: ignore[misc]


def test_a_subscription_made_anew_hears_again(rig: Rig) -> None:
    rig.meshed(0, 1)
    rig.nodes[1].resubscribe(PeerId(0))
    assert PeerId(0) not in rig.nodes[1].subscribed
    rig.until(lambda: PeerId(0) in rig.nodes[1].subscribed)

    def beat() -> list[Any]:
        rig.nodes[0].publish(BEAT)  # a slow joiner misses the first ones (7.3)
        return rig.messages(1, None)

    rig.until(beat)
    rig.nodes[1].resubscribe(PeerId(7))


def until_subscribed(rig: Rig, publisher: zmq.Socket[bytes]) -> None:
    """To both topics, by the one node that runs."""
    for _ in range(2):
        rig.until(lambda: publisher.poll(0))
        publisher.recv()


def test_what_pub_lost_is_counted(rig: Rig) -> None:
    rig.start(1)
    publisher = rig.foreign(zmq.XPUB, bind=rig.endpoints[PeerId(0)].publish)
    until_subscribed(rig, publisher)
    source = ProcessId(PeerId(0), 1000, 1)
    for seq in (1, 2, 7):
        publisher.send_multipart([b"hb", *frames(source, ProcessId(PeerId(0), 0, 0), None, seq, BEAT)])
    rig.until(lambda: len(rig.messages(1, None)) == 3)
    assert rig.nodes[1].pub_missed == 4


def test_a_publisher_speaks_for_itself_only_and_on_the_right_topic(rig: Rig) -> None:
    rig.start(1)
    publisher = rig.foreign(zmq.XPUB, bind=rig.endpoints[PeerId(0)].publish)
    until_subscribed(rig, publisher)
    for topic, source in ((b"hb", ProcessId(PeerId(2), 1, 1)), (b"cm", ProcessId(PeerId(0), 1, 1))):
        publisher.send_multipart([topic, *frames(source, ProcessId(PeerId(0), 0, 0), None, 1, BEAT)])
    rig.until(lambda: rig.nodes[1].dropped == {"stranger": 1, "place": 1})
    assert rig.messages(1, None) == []


def test_monitors_hear_committed_batches(rig: Rig) -> None:
    node = rig.start(0)
    monitor = rig.foreign(zmq.SUB, connect=rig.endpoints[PeerId(0)].publish)
    committed = Committed((1, 1), (0, 0), 1, 0, None, b"runs", [b"result"], ["alice"], 7)

    def publish() -> int:
        node.publish_committed(committed)
        return monitor.poll(1)

    rig.until(publish)
    assert client_wire.decode_committed(monitor.recv_multipart(), "demo") == (0, committed)


# ---- clients -----------------------------------------------------------------------------------------------------


def test_a_client_is_answered_where_it_asked(rig: Rig) -> None:
    rig.start(0)
    clients = [rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].client) for _ in range(2)]
    for rid, client in enumerate(clients):
        client.send_multipart(client_wire.encode(Hello(rid, "demo")))
    rig.until(lambda: len(rig.asked[0]) == 2)
    for where, request in rig.asked[0]:
        assert isinstance(request, Hello)
        rig.nodes[0].reply(where, Hint(request.rid, "demo", 0, None, 0, False, {}))
    for rid, client in enumerate(clients):
        assert client.poll(int(DEADLINE * 1000))
        assert client_wire.decode_reply(client.recv_multipart()) == Hint(rid, "demo", 0, None, 0, False, {})


def test_a_client_that_left_is_not_answered_and_nobody_minds(rig: Rig) -> None:
    node = rig.start(0)
    node.reply(b"nobody", Hint(1, "demo", 0, None, 0, False, {}))
    assert node.unsent["reply"] == 1


def test_a_flood_of_clients_does_not_starve_the_peers(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    client = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].client)
    for rid in range(900):  # below the high-water marks: all of it gets there
        client.send_multipart(client_wire.encode(StatusQuery(rid)))
    node, requests, turns = rig.nodes[0], 0, 0
    rig.nodes[1].send(link, Ack(1, ZERO))
    rig.until(lambda: len(rig.asked[0]) > 0)
    end = time.monotonic() + DEADLINE
    while (requests := len(rig.asked[0])) < 900:
        assert time.monotonic() < end
        node.poll(100)
        inputs, asked = node.receive()
        assert len(asked) <= sockets.CLIENT_MESSAGES_MAX
        rig.heard[0] += inputs
        rig.asked[0] += asked
        turns += 1
    assert turns >= 900 // sockets.CLIENT_MESSAGES_MAX - 1
    assert requests == 900
    rig.until(lambda: rig.messages(0, link) == [HELLO, Ack(1, ZERO)])


def test_large_requests_are_taken_a_few_a_turn(rig: Rig) -> None:
    node = rig.start(0)
    client = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].client)
    ops = Raw(msgspec.msgpack.encode(bytes(1 << 20)))
    for seq in range(20):
        client.send_multipart(client_wire.encode(Submit((1, 1), seq, 0, 300, ops)))
    asked: list[int] = []
    end = time.monotonic() + DEADLINE
    while sum(asked) < 20:
        assert time.monotonic() < end
        node.poll(100)
        asked.append(len(node.receive(drain=True)[1]))
        assert asked[-1] <= sockets.CLIENT_BYTES_MAX // (1 << 20)


def test_after_a_pause_everything_peers_have_sent_is_drained_at_once(rig: Rig) -> None:
    """F5: timers are judged only by what had arrived."""
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    for counter in range(3000):
        rig.nodes[1].send(link, Ack(1, Zxid(1, counter)))
    arrived = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer, identity=b"late")
    arrived.send_multipart([b"", b""])
    # Wait without reading more than a turn's worth, until all of it is surely here.
    rig.nodes[0].poll(1000)
    first, _ = rig.nodes[0].receive()
    assert len(first) <= sockets.PEER_MESSAGES_MAX
    rig.heard[0] += first
    end = time.monotonic() + DEADLINE
    while len(rig.messages(0, link)) < 3001:
        assert time.monotonic() < end
        inputs, _ = rig.nodes[0].receive(drain=True)
        rig.heard[0] += inputs
    assert rig.messages(0, link)[-1] == Ack(1, Zxid(1, 2999))


# ---- waiting -----------------------------------------------------------------------------------------------------


def test_the_loop_is_woken_by_its_writer(rig: Rig) -> None:
    node = rig.start(0)
    reading, writing = os.pipe()
    try:
        while node.poll(0, reading) or node.receive() != ([], []):
            pass
        assert not node.poll(1, reading)
        os.write(writing, b"x")
        start = time.monotonic()
        assert node.poll(5000, reading)
        assert time.monotonic() - start < 1
        os.read(reading, 1)
        assert not node.poll(1, reading)
        assert not node.poll(1)
    finally:
        os.close(reading)
        os.close(writing)


def test_no_message_is_slept_through(rig: Rig) -> None:
    """Sends on a socket may take its descriptor's word away: each side sends between its waits."""
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rounds = 2000
    failures: list[str] = []

    def play(node: SocketTransport, begins: bool) -> None:
        sent = heard = 0
        end = time.monotonic() + 60
        if begins:
            node.send(link, Ack(1, ZERO))
            sent = 1
        while heard < rounds:
            start = time.monotonic()
            node.poll(5000)
            inputs, _ = node.receive()
            if time.monotonic() - start > 4 or time.monotonic() > end:
                failures.append(f"slept after {sent} sent, {heard} heard")
                return
            for event in inputs:
                if isinstance(event, Received):
                    heard += 1
                    if sent < rounds:
                        sent += 1
                        node.send(link, Ack(1, ZERO))

    other = threading.Thread(target=play, args=(rig.nodes[1], False))
    other.start()
    play(rig.nodes[0], True)
    other.join()
    assert failures == []


# ---- garbage -----------------------------------------------------------------------------------------------------


def still_works(rig: Rig) -> None:
    """Peers 0 and 1 hear each other's votes, heartbeats and links, and clients are heard."""
    number = 1 + max((link.number for link in rig.nodes[1].links.open_links), default=10)
    rig.linked(learner=1, leader=0, number=number)
    rig.heard[0].clear()
    rig.nodes[1].send_vote(PeerId(0), VOTE)
    rig.nodes[1].publish(BEAT)
    rig.until(lambda: {VOTE, BEAT} <= set(rig.messages(0, None)))
    client = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].client)
    client.send_multipart(client_wire.encode(StatusQuery(77)))
    rig.until(lambda: StatusQuery(77) in [request for _, request in rig.asked[0]])


@pytest.mark.parametrize("which", ["peer", "client"])
def test_garbage_on_a_router_is_counted_and_the_node_lives_on(rig: Rig, which: str) -> None:
    rig.meshed(0, 1)
    dealer = rig.foreign(zmq.DEALER, connect=getattr(rig.endpoints[PeerId(0)], which))
    for message in GARBAGE:
        dealer.send_multipart(message)
    rig.until(lambda: rig.nodes[0].dropped.total() == len(GARBAGE))
    assert rig.heard[0] == [e for e in rig.heard[0] if isinstance(e, MeshUp)]
    assert rig.asked[0] == []
    still_works(rig)


@pytest.mark.parametrize("which", ["peer", "client", "publish"])
def test_random_bytes_and_huge_frames_on_a_port_disturb_nobody(rig: Rig, which: str) -> None:
    rig.meshed(0, 1)
    endpoint = getattr(rig.endpoints[PeerId(0)], which)
    port = int(endpoint.rpartition(":")[2])
    for junk in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\xff" * 64, bytes(64)):
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(junk)
    kind = zmq.SUB if which == "publish" else zmq.DEALER
    large = rig.foreign(kind, connect=endpoint)
    if kind == zmq.SUB:
        large.subscribe(bytes(100_000))
    else:
        large.send_multipart([bytes(5 << 20), b""])
    still_works(rig)


def test_garbage_from_a_publisher_is_counted_and_the_node_lives_on(rig: Rig) -> None:
    publisher = rig.foreign(zmq.XPUB, bind=rig.endpoints[PeerId(2)].publish)
    publisher.set(zmq.XPUB_VERBOSE, 1)
    rig.meshed(0, 1)
    before = rig.nodes[0].dropped.total()
    for _ in range(4):  # two topics of two nodes, before the first message
        assert publisher.poll(int(DEADLINE * 1000))
        publisher.recv()
    for message in GARBAGE:
        publisher.send_multipart([b"hb", *message])
        publisher.send_multipart([b"cm" + message[0][:1000], *message[1:]])
    rig.until(lambda: rig.nodes[0].dropped.total() == before + 2 * len(GARBAGE))
    still_works(rig)


def test_garbage_on_a_link_loses_that_link_at_its_leader(rig: Rig) -> None:
    rig.start(0)
    rig.start(1)
    for peer, message in enumerate(GARBAGE):
        learner = ProcessId(PeerId(2), 7, 7)
        link = LinkId(learner, peer + 1)
        dealer = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer, identity=f"2/7/{peer}".encode())
        dealer.send_multipart(frames(learner, rig.nodes[0].me, link, 1, HELLO))
        dealer.send_multipart(message)
        dealer.send_multipart(frames(learner, rig.nodes[0].me, link, 2, Ack(1, ZERO)))
        rig.until(lambda link=link: rig.lost(0, link))  # type: ignore[misc]
        rig.until(lambda peer=peer: rig.nodes[0].dropped["closed"] == peer + 1)  # type: ignore[misc]
        assert rig.messages(0, link) == [HELLO]
        assert "cannot be read" in rig.lost(0, link)[0]
        assert dealer.poll(int(DEADLINE * 1000))
        assert Wire("demo").decode(dealer.recv_multipart(), LINK)[1] == Closed()
    still_works(rig)


@pytest.mark.parametrize("message", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_a_link_loses_that_link_at_its_learner(rig: Rig, message: list[bytes]) -> None:
    impostor = rig.foreign(zmq.ROUTER, bind=rig.endpoints[PeerId(2)].peer)
    rig.meshed(0, 1)
    node = rig.nodes[0]
    link = LinkId(node.me, 1)
    node.open_link(link, PeerId(2))
    rig.until_heard(0, LinkUp(link))
    node.send(link, HELLO)
    assert impostor.poll(int(DEADLINE * 1000))
    route, *_ = impostor.recv_multipart()
    impostor.send_multipart([route, *message])
    rig.until(lambda: rig.lost(0, link))
    assert node.dropped.total() == 1
    still_works(rig)


def test_a_message_in_parts_is_not_read_to_its_end(rig: Rig) -> None:
    """libzmq looks for ended connections at every hundredth read; between two parts it then aborts the process."""
    for number in range(1, 7):
        impostor = rig.foreign(zmq.ROUTER, bind=rig.endpoints[PeerId(2)].peer)
        node = rig.start(0, incarnation=100 + number)
        link = LinkId(node.me, 1)
        node.open_link(link, PeerId(2))
        rig.until_heard(0, LinkUp(link))
        node.send(link, HELLO)
        assert impostor.poll(int(DEADLINE * 1000))
        route, *_ = impostor.recv_multipart()
        leader = ProcessId(PeerId(2), 1, 1)
        before = 94 + number
        for seq in range(1, before + 1):
            impostor.send_multipart([route, *frames(leader, node.me, link, seq, Ack(1, ZERO))])
        impostor.send_multipart([route, b"", b""])
        node.poll(1000)
        impostor.close()
        monitor = node._dealers[link].monitor
        assert monitor.socket.poll(int(DEADLINE * 1000)), "the connection has ended, and nothing of it was read"
        node._readers.touched(monitor)  # that was a look
        rig.until(lambda link=link: rig.lost(0, link))  # type: ignore[misc]
        rig.stop(0)


def test_an_answer_of_another_link_loses_the_link_it_came_on(rig: Rig) -> None:
    impostor = rig.foreign(zmq.ROUTER, bind=rig.endpoints[PeerId(2)].peer)
    node = rig.start(0)
    link = LinkId(node.me, 1)
    node.open_link(link, PeerId(2))
    rig.until_heard(0, LinkUp(link))
    node.send(link, HELLO)
    assert impostor.poll(int(DEADLINE * 1000))
    route, *_ = impostor.recv_multipart()
    other = link._replace(number=2)
    impostor.send_multipart([route, *frames(ProcessId(PeerId(2), 1, 1), node.me, other, 1, LeaderInfo(1, 1))])
    rig.until(lambda: rig.lost(0, link))
    assert node.dropped == {"stranger": 1}


def test_an_answer_on_the_mesh_is_counted(rig: Rig) -> None:
    impostor = rig.foreign(zmq.ROUTER, bind=rig.endpoints[PeerId(2)].peer)
    impostor.set(zmq.ROUTER_HANDOVER, 1)
    rig.meshed(0, 1)
    rig.until_heard(0, MeshUp(PeerId(2)))
    rig.nodes[0].send_vote(PeerId(2), VOTE)
    route = b""
    while not route.startswith(b"0/"):
        assert impostor.poll(int(DEADLINE * 1000))
        route, *vote = impostor.recv_multipart()
    assert Wire("demo").decode(vote, MESH)[1] == VOTE
    for counted, message in enumerate(GARBAGE, 1):
        # After a message in parts the connection is made anew, and a vote shows when it is there.
        route = b""
        while not route.startswith(b"0/"):
            rig.nodes[0].send_vote(PeerId(2), VOTE)
            rig.turn()
            if impostor.poll(0):
                route, *_ = impostor.recv_multipart()
        impostor.send_multipart([route, *message])
        rig.until(lambda counted=counted: rig.nodes[0].dropped == {"place": counted})  # type: ignore[misc]
    still_works(rig)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(ProcessId(PeerId(9), 1, 1), id="no voter"),
        pytest.param(ProcessId(PeerId(0), 1, 1), id="our own id"),
    ],
)
def test_strangers_are_counted(rig: Rig, source: ProcessId) -> None:
    rig.start(0)
    dealer = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer)
    dealer.send_multipart(frames(source, rig.nodes[0].me, None, 0, VOTE))
    dealer.send_multipart(frames(source, rig.nodes[0].me, LinkId(source, 1), 1, HELLO))
    rig.until(lambda: rig.nodes[0].dropped == {"stranger": 2})
    assert rig.heard[0] == []


def test_another_connection_cannot_speak_on_a_link(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    dealer = rig.foreign(zmq.DEALER, connect=rig.endpoints[PeerId(0)].peer)
    dealer.send_multipart(frames(rig.nodes[1].me, rig.nodes[0].me, link, 9, Ack(1, ZERO)))
    rig.until(lambda: rig.nodes[0].dropped == {"stranger": 1})
    assert not rig.lost(0, link)


# ---- ports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["peer", "client", "publish"])
def test_a_taken_port_is_said_in_words(rig: Rig, which: str) -> None:
    port = int(getattr(rig.endpoints[PeerId(2)], which).rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(NetError) as caught:
        rig.start(2)
    assert caught.value.port == port
    assert f"port {port} is taken (pid {os.getpid()}, " in str(caught.value)
    assert str(caught.value).endswith("Node 2 may already run.")
    rig.start(2)  # nothing was left behind


def test_a_second_node_with_the_same_id_finds_its_port_taken(rig: Rig) -> None:
    rig.start(0)
    with pytest.raises(NetError, match="Node 0 may already run"):
        SocketTransport(rig.config(0, incarnation=101))


def test_closing_does_not_wait_for_what_was_not_sent(rig: Rig) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    for _ in range(200):
        rig.nodes[0].send(link, Propose(1, (Batch(Zxid(1, 1), ZERO, 1, 0, None, bytes(100_000)),), ZERO))
    start = time.monotonic()
    rig.stop(0)
    assert time.monotonic() - start < 1
    rig.until(lambda: rig.has_heard(1, MeshDown(PeerId(0))) and rig.has_heard(1, LinkLost(link, "disconnected")))


# ---- options (7.5) -----------------------------------------------------------------------------------------------


def test_every_socket_has_its_options(rig: Rig) -> None:
    node = rig.start(0)
    link = LinkId(node.me, 1)
    node.open_link(link, PeerId(1))
    everywhere: dict[int, int] = {zmq.LINGER: 0, zmq.MAXMSGSIZE: 4 << 20, zmq.TCP_KEEPALIVE: 1, zmq.TCP_MAXRT: 2000}
    connecting: dict[int, int] = {zmq.CONNECT_TIMEOUT: 300, zmq.HANDSHAKE_IVL: 300, zmq.HEARTBEAT_IVL: 1000}
    again: dict[int, int] = {zmq.RECONNECT_IVL: 20, zmq.RECONNECT_IVL_MAX: 500}
    expected: list[tuple[zmq.Socket[bytes], dict[int, int]]] = [
        (node._peers.socket, {zmq.SNDHWM: 10000, zmq.RCVHWM: 10000}),
        (node._clients.socket, {zmq.SNDHWM: 10000}),
        (node._publisher.socket, {zmq.SNDHWM: 1000, zmq.MAXMSGSIZE: 1024}),
        (node._mesh[PeerId(1)].source.socket, {**connecting, **again, zmq.IMMEDIATE: 1, zmq.SNDHWM: 100}),
        (node._subscribers[PeerId(1)].source.socket, {**connecting, **again, zmq.RCVHWM: 1000}),
        (node._dealers[link].source.socket, {**connecting, zmq.RECONNECT_IVL: -1, zmq.IMMEDIATE: 1}),
    ]
    for sock, wanted in expected:
        for option, value in {**everywhere, **wanted}.items():
            assert sock.get(option) == value
    assert node._dealers[link].source.socket.get(zmq.ROUTING_ID) == b"0/100/1"
    assert node._mesh[PeerId(1)].source.socket.get(zmq.ROUTING_ID) == b"0/100"


def test_a_peer_that_comes_up_and_votes_is_connected_to_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when a reconnection that has backed off gets round to it: here, in ten minutes."""
    for settings in (options.MESH_DEALER, options.SUBSCRIBER):
        monkeypatch.setitem(settings, zmq.RECONNECT_IVL, 600_000)
        monkeypatch.setitem(settings, zmq.RECONNECT_IVL_MAX, 600_000)
    rig.start(0)
    rig.start(2)
    rig.until_heard(2, MeshUp(PeerId(0)))  # by now 0 has been refused by 1, which does not run
    rig.start(1)
    rig.until_heard(1, MeshUp(PeerId(0)))
    rig.nodes[1].send_vote(PeerId(0), VOTE)
    rig.until_heard(0, MeshUp(PeerId(1)))
    rig.until(lambda: PeerId(1) in rig.nodes[0].subscribed)
