"""Step mode at the sockets: what waits, what passes by itself, and what people do to it."""

from __future__ import annotations

from zabzmq.core.zxid import PeerId
from zabzmq.net.faults import Faults, FaultTable, Rule
from zabzmq.net.holding import HELD_BYTES_MAX, Frames, Held, Holding

PROPOSE, BEAT, ECHO = (b"ZB\x01%c" % code for code in (16, 21, 18))


class Node:
    """Node 0, held, and what it hears of peers 2 and 3."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.taken: list[tuple[str, int, str, str]] = []
        self.heard: list[int] = []
        self.holding = Holding(lambda: 5.0, self._told)
        self.faults = Faults(lambda *what: self.taken.append(what), lambda: 5.0, self.holding)
        self._sockets = {peer: self.faults.from_peer(PeerId(peer), self._hear) for peer in (2, 3)}
        self._router = self.faults.from_route(lambda frames: self._hear(frames[1:]))
        self.holding.start()

    def _told(self, what: str, held: Held) -> None:
        self.told.append((what, held.id))

    def _hear(self, frames: Frames) -> None:
        self.heard.append(int(frames.pop()[8:]))

    def say(self, number: int, peer: int = 3, kind: bytes = PROPOSE) -> None:
        self._sockets[peer]([kind + b"%4d%d" % (0, number)])

    def say_as(self, name: bytes, number: int) -> None:
        self._router([name, PROPOSE + b"%4d%d" % (0, number)])

    @property
    def waiting(self) -> list[int]:
        return [held.id for held in self.holding.waiting]


def test_nothing_is_heard_before_it_is_delivered_and_then_once() -> None:
    node = Node()
    node.say(10)
    node.say_as(b"2/100/7", 11)
    assert (node.heard, node.waiting) == ([], [1, 2])
    assert node.holding.deliver(1)
    assert (node.heard, node.waiting) == ([10], [2])
    assert not node.holding.deliver(1)
    assert node.told == [("held", 1), ("held", 2), ("delivered", 1)]


def test_a_later_one_may_be_delivered_first() -> None:
    node = Node()
    for number in (10, 11, 12):
        node.say(number)
    for id in (3, 1, 2):
        node.holding.deliver(id)
    assert node.heard == [12, 10, 11]


def test_a_duplicate_is_heard_and_waits_on() -> None:
    node = Node()
    node.say(10)
    assert node.holding.duplicate(1)
    assert node.holding.deliver(1)
    assert node.heard == [10, 10]
    assert node.told == [("held", 1), ("duplicated", 1), ("delivered", 1)]


def test_what_is_dropped_is_never_heard() -> None:
    node = Node()
    node.say(10)
    assert node.holding.drop(1)
    node.holding.stop()
    assert (node.heard, node.waiting) == ([], [])
    assert not node.holding.drop(1)


def test_when_it_ends_all_is_heard_as_it_came_and_what_follows_at_once() -> None:
    node = Node()
    for number in (10, 11):
        node.say(number)
    node.holding.stop()
    node.say(12)
    assert node.heard == [10, 11, 12]


def test_heartbeats_pass_but_never_overtake_what_waits() -> None:
    node = Node()
    node.say(1, kind=BEAT)
    node.say(10)
    node.say(11)
    node.say(2, kind=ECHO)  # numbered on the same link: before the others it would end the link
    node.say(3, peer=2, kind=BEAT)
    assert node.heard == [1, 3]
    node.holding.deliver(2)
    assert node.heard == [1, 3, 11]
    node.holding.drop(1)
    assert node.heard == [1, 3, 11, 2]
    assert [what for what, _ in node.told] == ["held", "held", "delivered", "dropped"], "heartbeats are not told"
    assert not node.holding.deliver(3), "nor are they anybody's to deliver"


def test_a_cut_takes_what_would_wait() -> None:
    node = Node()
    node.faults.set(FaultTable(rules=(Rule(3, "in"),)))
    node.say(10)
    assert node.waiting == []
    assert node.taken == [("PROPOSE", 3, "in", "cut")]


def test_there_is_an_end_to_what_waits() -> None:
    node = Node()
    node._sockets[3]([PROPOSE + bytes(HELD_BYTES_MAX)])
    assert node.waiting == []
    assert node.taken == [("PROPOSE", 3, "in", "hold")]
