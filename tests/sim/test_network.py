"""The model of the network: a link is FIFO or lost, and everything else may go wrong."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from zabzmq.core.inputs import Input, LinkLost, LinkUp, MeshDown, MeshUp, Received
from zabzmq.core.messages import Ack, Commit, LinkMessage, Notification, State
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid
from zabzmq.net.link import Links
from zabzmq.sim.network import Network, Weather

A, B, C = PeerId(0), PeerId(1), PeerId(2)


class Stub:
    """A process that only listens."""

    def __init__(self, peer: PeerId, incarnation: int = 1) -> None:
        self.process = ProcessId(peer, 7, incarnation)
        self.links = Links(self.process)
        self.heard: list[Input] = []

    def hear(self, event: Input) -> None:
        self.heard.append(event)

    def messages(self) -> list[object]:
        return [event.message for event in self.heard if isinstance(event, Received)]

    def lost(self) -> list[LinkId]:
        return [event.link for event in self.heard if isinstance(event, LinkLost)]


class Lab:
    """Three stubs on a network."""

    def __init__(self, weather: Weather | None = None, seed: int = 3) -> None:
        self.dice = Random(seed)
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.acts = 0
        self.processes: dict[PeerId, Stub | None] = {}
        self.network = Network(self, (A, B, C), weather or Weather())
        for peer in (A, B, C):
            self.start(peer)
        self.pass_time()

    def start(self, peer: PeerId, incarnation: int = 1) -> Stub:
        stub = self.processes[peer] = Stub(peer, incarnation)
        self.network.started(stub)
        return stub

    def kill(self, peer: PeerId) -> None:
        stub = self.processes[peer]
        assert stub is not None
        self.processes[peer] = None
        self.network.died(stub)

    def __getitem__(self, peer: PeerId) -> Stub:
        stub = self.processes[peer]
        assert stub is not None
        return stub

    def later(self, delay: float, act: Callable[..., None], *about: object) -> None:
        self.acts += 1
        heappush(self.heap, (self.now + delay, self.acts, act, about))

    def pass_time(self, ms: float = 200.0) -> None:
        until = self.now + ms
        while self.heap and self.heap[0][0] <= until:
            self.now, _, act, about = heappop(self.heap)
            act(*about)
        self.now = until

    def link(self, learner: PeerId, leader: PeerId, number: int = 1) -> LinkId:
        """An open link, with its first message delivered."""
        link = LinkId(self[learner].process, number)
        self.network.open_link(self[learner], link, leader)
        self.pass_time()
        assert LinkUp(link) in self[learner].heard
        self.network.send(self[learner], link, ack(0))
        self.pass_time()
        return link


def ack(counter: int) -> LinkMessage:
    return Ack(1, Zxid(1, counter))


def note() -> Notification:
    return Notification(State.LOOKING, 1, None, None, 0, True, 0, 1)


def test_processes_that_are_up_find_each_other() -> None:
    lab = Lab()
    assert {event for event in lab[A].heard if isinstance(event, MeshUp)} == {MeshUp(B), MeshUp(C)}


def test_a_link_is_fifo_whatever_the_delays() -> None:
    lab = Lab(Weather(slow=0.5, slow_by=100.0))
    link = lab.link(A, B)
    for counter in range(1, 50):
        lab.network.send(lab[A], link, ack(counter))
        lab.pass_time(0.2)
    lab.pass_time(1000)
    assert lab[B].messages() == [ack(counter) for counter in range(50)]


def test_a_lost_or_doubled_frame_ends_the_link_at_both_ends() -> None:
    for weather in (Weather(link_loss=1.0), Weather(link_twice=1.0)):
        lab = Lab()
        link = lab.link(A, B)
        lab.network.weather = weather
        lab.network.send(lab[A], link, ack(1))
        lab.network.weather = Weather()
        lab.network.send(lab[A], link, ack(2))
        lab.pass_time()
        assert lab[B].lost() == [link]
        assert lab[A].lost() == [link]
        assert ack(2) not in lab[B].messages(), "nothing after a gap"


def test_a_closed_link_tells_the_other_end_alone_and_carries_nothing_more() -> None:
    lab = Lab()
    link = lab.link(A, B)
    lab.network.close_link(lab[A], link)
    lab.network.send(lab[A], link, ack(1))
    lab.network.send(lab[B], link, ack(9))
    lab.pass_time()
    assert lab[A].lost() == []
    assert lab[B].lost() == [link]
    assert lab[A].messages() == []


def test_a_link_closed_before_it_is_up_never_comes_up() -> None:
    lab = Lab()
    link = LinkId(lab[A].process, 5)
    lab.network.open_link(lab[A], link, B)
    lab.network.close_link(lab[A], link)
    lab.pass_time()
    assert LinkUp(link) not in lab[A].heard
    assert lab[A].lost() == []


def test_a_dead_process_refuses_and_is_noticed() -> None:
    lab = Lab()
    link = lab.link(A, B)
    lab.kill(B)
    lab.pass_time()
    assert lab[A].lost() == [link]
    assert MeshDown(B) in lab[A].heard
    again = LinkId(lab[A].process, 2)
    lab.network.open_link(lab[A], again, B)
    lab.pass_time()
    assert lab[A].lost() == [link, again]


def test_frames_of_a_dead_process_s_link_never_reach_its_successor() -> None:
    lab = Lab(Weather(stale=1.0, delay=30.0, slow=0.0))
    link = lab.link(A, B)
    lab.network.send(lab[A], link, ack(1))
    lab.kill(B)
    successor = lab.start(B, incarnation=2)
    lab.pass_time(1000)
    assert successor.messages() == []
    assert lab[A].lost() == [link]


def test_a_cut_holds_back_one_direction_until_it_is_mended() -> None:
    lab = Lab()
    link = lab.link(A, B)
    lab.network.set_cut(A, B, on=True)
    lab.network.send(lab[A], link, ack(1))
    lab.network.send(lab[B], link, ack(2))
    lab.network.vote(lab[A], B, note())
    lab.pass_time(100)
    assert ack(1) not in lab[B].messages()
    assert ack(2) in lab[A].messages()
    lab.network.set_cut(A, B, on=False)
    lab.pass_time(100)
    assert lab[B].messages() == [ack(0), ack(1)], "the link's frame came late, the vote never"


def test_a_long_cut_is_noticed_by_both_ends() -> None:
    lab = Lab()
    link = lab.link(A, B)
    lab.network.set_cut(A, B, on=True)
    lab.pass_time(3000)
    assert lab[A].lost() == lab[B].lost() == [link]
    assert MeshDown(B) in lab[A].heard
    lab.network.set_cut(A, B, on=False)
    lab.pass_time()
    assert lab[A].heard[-1] == MeshUp(B)


def test_votes_and_pub_messages_may_be_lost_and_doubled() -> None:
    for weather, copies in ((Weather(vote_loss=1.0, pub_loss=1.0), 0), (Weather(vote_twice=1.0, pub_twice=1.0), 2)):
        lab = Lab(weather)
        lab.network.vote(lab[A], B, note())
        lab.network.publish(lab[A], Commit(1, Zxid(1, 1)))
        lab.pass_time()
        assert len(lab[B].messages()) == 2 * copies
        assert len(lab[C].messages()) == copies


def test_the_delivered_messages_are_counted() -> None:
    lab = Lab()
    before = lab.network.delivered
    lab.link(A, B)
    lab.network.publish(lab[A], Commit(1, Zxid(1, 1)))
    lab.pass_time()
    assert lab.network.delivered - before == 3
