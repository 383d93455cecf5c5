"""Faults in what nodes say: each does what it says to whom it says, and a link never lives on with a hole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.net.rig import HELLO, Rig
from zabzmq.core.messages import Ack, Heartbeat, Notification, Phase, State
from zabzmq.core.zxid import ZERO, PeerId, Zxid
from zabzmq.net.faults import OVERTAKEN_MS, FaultError, Faults, FaultTable, parse_table
from zabzmq.net.holding import HELD_BYTES_MAX, Frames
from zabzmq.net.sockets import SocketTransport
from zabzmq.net.wire import name_of

VOTE = Notification(State.LOOKING, 3, None, None, 0, True, 0, 1)
BEAT = Heartbeat(State.LEADING, Phase.BROADCAST, 2, None, 1, ZERO, ZERO, ZERO, None)
FRAME = b"ZB\x01\x10" + b"." * 20  # type 16: PROPOSE


class Clock:
    def __init__(self) -> None:
        self.ms = 1000.0

    def __call__(self) -> float:
        return self.ms


class Heard:
    """Faults of node 0, and what gets through of what peer 3 says on one socket."""

    def __init__(self, **rule: Any) -> None:
        self.clock = Clock()
        self.taken: list[tuple[str, int, str, str]] = []
        self.heard: list[int] = []
        self.faults = Faults(lambda *what: self.taken.append(what), self.clock)
        self._take = self.faults.from_peer(PeerId(3), self._hear)
        self._route = self.faults.from_route(self._hear)
        self.set(rule)

    def set(self, *rules: dict[str, Any], seed: int = 7) -> None:
        body = {"rules": [{"peer": 3, **rule} for rule in rules], "seed": seed}
        self.faults.set(parse_table(json.dumps(body).encode(), 0, range(5)))

    def _hear(self, frames: Frames) -> None:
        self.heard.append(int(frames.pop()[24:]))

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self._take([FRAME + b"%d" % number])

    def say_as(self, name: bytes, number: int) -> None:
        self._route([name, FRAME + b"%d" % number])

    def after(self, ms: float) -> list[int]:
        """What is heard by then, in this order."""
        self.clock.ms += ms
        self.faults.release()
        heard, self.heard = self.heard, []
        return heard


def test_without_a_rule_everything_is_heard_at_once() -> None:
    peer = Heard()
    peer.set()
    peer.say(1, 2, 3)
    assert peer.after(0) == [1, 2, 3]
    assert peer.taken == []


@pytest.mark.parametrize(("cut", "hears", "says"), [("in", False, True), ("out", True, False), ("both", False, False)])
def test_a_cut_takes_its_way_and_no_other(cut: str, hears: bool, says: bool) -> None:
    peer = Heard(cut=cut)
    peer.say(1)
    assert (peer.after(0) == [1]) is hears
    assert peer.faults.keeps(3, FRAME) is not says
    assert not peer.faults.keeps(2, FRAME), "another peer"
    assert peer.taken == [("PROPOSE", 3, way, "cut") for way in ("in", "out") if cut in (way, "both")]


@pytest.mark.parametrize(
    ("name", "heard"), [(b"3/100", []), (b"3/100/7", []), (b"2/100", [1]), (b"x", [1]), (b"", [1])]
)
def test_at_a_router_who_speaks_is_told_by_the_name_of_its_socket(name: bytes, heard: list[int]) -> None:
    peer = Heard(cut="in")
    peer.say_as(name, 1)
    assert peer.after(0) == heard


def test_what_is_dropped_is_told_and_about_as_much_as_was_asked_for() -> None:
    peer = Heard(drop=0.3)
    peer.say(*range(1000))
    heard = peer.after(0)
    assert 600 < len(heard) < 800
    assert heard == sorted(heard)
    assert peer.taken == [("PROPOSE", 3, "in", "drop")] * (1000 - len(heard))


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    def drawn(seed: int) -> list[int]:
        peer = Heard()
        peer.set({"drop": 0.5}, seed=seed)
        peer.say(*range(100))
        return peer.after(0)

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_is_delayed_is_heard_then_and_not_before() -> None:
    peer = Heard(delay_ms=200)
    peer.say(1)
    assert peer.faults.due_in == 200
    assert peer.after(150) == []
    peer.say(2)
    assert peer.after(49) == []
    assert peer.after(1) == [1]
    assert peer.after(200) == [2]
    assert peer.faults.due_in == float("inf")


def test_jitter_changes_when_but_never_the_order() -> None:
    peer = Heard(delay_ms=10, jitter_ms=50)
    heard = []
    for number in range(50):
        peer.say(number)
        heard += peer.after(1)
    assert 0 < len(heard) < 50
    assert heard + peer.after(60) == list(range(50))


def test_a_duplicate_is_heard_twice_in_a_row() -> None:
    peer = Heard(duplicate=1)
    peer.say(1, 2)
    assert peer.after(0) == [1, 1, 2, 2]


def test_what_is_reordered_is_overtaken_by_what_follows_at_once() -> None:
    peer = Heard(reorder=0.5)
    peer.say(*range(20))
    early = peer.after(0)
    late = peer.after(OVERTAKEN_MS)
    assert early and late
    assert sorted(early + late) == list(range(20))
    assert early == sorted(early)
    assert early + late != list(range(20))


def test_a_new_table_lets_go_of_what_the_old_one_held_back_in_its_order() -> None:
    peer = Heard(delay_ms=60_000)
    peer.say(1, 2, 3)
    peer.set({"cut": "in"})
    peer.say(4)
    assert peer.after(0) == [1, 2, 3]


def test_a_wire_holds_only_so_much() -> None:
    peer = Heard(delay_ms=1000)
    big = FRAME + b"0" * (HELD_BYTES_MAX // 3)
    for _ in range(4):
        peer._take([big])
    assert peer.taken == [("PROPOSE", 3, "in", "delay")] * 2


# ---- tables that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[]", "Expected `object`"),
        ("{", "truncated"),
        ('{"rules":[{"peer":0}]}', "a rule of node 0 is for one of the nodes 1 2 3 4, not for 0"),
        ('{"rules":[{"peer":7}]}', "not for 7"),
        ('{"rules":[{"peer":1},{"peer":1}]}', "two rules for node 1"),
        ('{"rules":[{"peer":1,"drop":1.01}]}', "$.rules[0].drop"),
        ('{"rules":[{"peer":1,"drop":-0.1}]}', "$.rules[0].drop"),
        ('{"rules":[{"peer":1,"delay_ms":60001}]}', "$.rules[0].delay_ms"),
        ('{"rules":[{"peer":1,"delay_ms":"long"}]}', "$.rules[0].delay_ms"),
        ('{"rules":[{"peer":1,"cut":"some"}]}', "$.rules[0].cut"),
        ('{"rules":[{"peer":1,"lose":0.5}]}', "lose"),
        ('{"rules":[{}]}', "peer"),
        ('{"disk_ms":-1}', "$.disk_ms"),
        ('{"seed":1e300}', "$.seed"),
        ('{"fire":1}', "fire"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_words(body: str, words: str) -> None:
    with pytest.raises(FaultError) as refused:
        parse_table(body.encode(), 0, range(5))
    assert words in str(refused.value)


@pytest.mark.parametrize("body", [b'{"rules":[{"peer":1,"cut":"\xff"}]}', b'{"rules":' + b"[" * 100_000])
def test_a_body_that_is_no_text_or_without_end_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(FaultError, match="not a fault table"):
        parse_table(body, 0, range(5))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"rules":[]}', b'{"rules":[{"peer":1}],"disk_ms":0}'])
def test_an_empty_table_is_a_table(body: bytes) -> None:
    assert parse_table(body, 0, range(5)) in (FaultTable(), parse_table(b'{"rules":[{"peer":1}]}', 0, range(5)))


def test_a_frame_is_called_by_its_name_in_events() -> None:
    assert name_of(b"") == name_of(b"ZB\x01\xff....") == "?"
    assert name_of(FRAME) == "PROPOSE"


# ---- at real sockets ------------------------------------------------------------------------------------------------


class Disturbed(Rig):
    """Three nodes, each with faults that can be set."""

    def __init__(self) -> None:
        super().__init__(3)
        self.faults: dict[int, Faults] = {}
        self.taken: dict[int, list[tuple[str, int, str, str]]] = {peer: [] for peer in range(3)}

    def start(self, peer: int, *, life: int | None = None, incarnation: int = 100) -> SocketTransport:
        taken = self.taken[peer]
        self.faults[peer] = Faults(lambda *what: taken.append(what), lambda: time.monotonic() * 1000)
        node = SocketTransport(self.config(peer, life=life, incarnation=incarnation), self.faults[peer])
        self.add(peer, node)
        return node

    def fault(self, peer: int, towards: int, **rule: Any) -> None:
        table = {"rules": [{"peer": towards, **rule}]}
        self.faults[peer].set(parse_table(json.dumps(table).encode(), peer, range(3)))

    def heal(self, peer: int) -> None:
        self.faults[peer].set(FaultTable())


@pytest.fixture
def rig() -> Iterator[Disturbed]:
    made = Disturbed()
    yield made
    made.close()


def test_a_link_that_lost_a_message_is_lost_at_both_ends_with_the_next_one(rig: Disturbed) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.fault(0, 1, cut="in")
    rig.nodes[1].send(link, Ack(1, Zxid(1, 1)))
    rig.until(lambda: rig.taken[0] == [("ACK", 1, "in", "cut")])
    assert rig.lost(0, link) == [], "nobody can know yet"
    rig.heal(0)
    rig.nodes[1].send(link, Ack(1, Zxid(1, 2)))
    rig.until(lambda: rig.lost(0, link) and rig.lost(1, link))
    assert rig.lost(0, link) == ["message 3 after 1"]
    assert rig.messages(0, link) == [HELLO]


@pytest.mark.parametrize("rule", [{"duplicate": 1}, {"reorder": 0.5}, {"drop": 0.5}], ids=str)
def test_a_link_with_doubled_or_overtaken_or_lost_messages_is_a_prefix_and_then_lost(
    rig: Disturbed, rule: dict[str, float]
) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.fault(1, 0, **rule)
    sent = [Ack(1, Zxid(1, counter)) for counter in range(100)]
    for message in sent:
        rig.nodes[0].send(link, message)
    rig.until(lambda: rig.lost(1, link))
    heard = rig.messages(1, link)
    assert heard == sent[: len(heard)]
    assert len(heard) < 100


def test_a_delayed_link_carries_everything_in_order(rig: Disturbed) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.fault(1, 0, delay_ms=100, jitter_ms=20)
    sent = [Ack(1, Zxid(1, counter)) for counter in range(100)]
    for message in sent:
        rig.nodes[0].send(link, message)
    assert rig.until(lambda: len(rig.messages(1, link)) == 100) >= 99
    assert rig.messages(1, link) == sent
    assert rig.lost(1, link) == []


def test_an_outgoing_cut_is_silence_for_the_other_end_and_success_for_this_one(rig: Disturbed) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.fault(0, 1, cut="out")
    rig.nodes[0].send(link, Ack(1, Zxid(1, 1)))
    rig.nodes[0].send_vote(PeerId(1), VOTE)
    assert not rig.nodes[0].unsent
    assert rig.taken[0] == [("ACK", 1, "out", "cut"), ("NOTIFICATION", 1, "out", "cut")]
    rig.nodes[1].send(link, Ack(1, Zxid(1, 2)))
    rig.until(lambda: rig.messages(0, link) == [HELLO, Ack(1, Zxid(1, 2))])
    assert rig.messages(1, link) == []
    assert rig.messages(1, None) == []


def test_what_is_published_is_cut_where_it_arrives_and_only_there(rig: Disturbed) -> None:
    rig.meshed(0, 1, 2)
    rig.fault(1, 0, cut="in")
    rig.nodes[0].publish(BEAT)
    rig.nodes[0].send_vote(PeerId(1), VOTE)
    rig.until(lambda: rig.messages(2, None) == [BEAT] and len(rig.taken[1]) == 2)
    assert sorted(rig.taken[1]) == [("HEARTBEAT", 0, "in", "cut"), ("NOTIFICATION", 0, "in", "cut")]
    assert rig.messages(1, None) == []
    rig.heal(1)
    rig.nodes[0].publish(BEAT)
    rig.until(lambda: rig.messages(1, None) == [BEAT])


def test_a_vote_that_is_doubled_is_heard_twice_and_harms_nothing(rig: Disturbed) -> None:
    rig.meshed(0, 1)
    rig.fault(1, 0, duplicate=1)
    rig.nodes[0].send_vote(PeerId(1), VOTE)
    rig.until(lambda: rig.messages(1, None) == [VOTE, VOTE])


def test_what_was_held_back_for_a_link_that_ended_meanwhile_is_not_handed_on(rig: Disturbed) -> None:
    rig.meshed(0, 1)
    link = rig.linked(learner=1, leader=0)
    rig.fault(1, 0, delay_ms=60_000)
    rig.nodes[0].send(link, Ack(1, Zxid(1, 1)))
    rig.until(lambda: rig.faults[1].due_in < 60_000)
    rig.nodes[1].close_link(link)
    rig.heal(1)
    rig.nodes[0].send_vote(PeerId(1), VOTE)
    rig.until(lambda: rig.messages(1, None) == [VOTE])
    assert rig.messages(1, link) == []
    assert rig.nodes[1].dropped["closed"] == 1
