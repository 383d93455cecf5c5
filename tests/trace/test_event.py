"""What a node does becomes events for programs and lines for people."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw

from zabzmq.core.effects import Append, Fail, Moved, Proposed, Publish, Report, Send, SendVote, Truncate
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Durable, LinkLost, Received, Tick
from zabzmq.core.messages import Ack, Commit, HbEcho, Heartbeat, Notification, Phase, Propose, State, Vote
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.trace.event import LINES_PER_SECOND, Event, EventObserver, encode_events

LEADER = ProcessId(PeerId(0), 11, 1)
LEARNER = ProcessId(PeerId(2), 22, 5)
LINK = LinkId(LEARNER, 3)
BATCH = Batch(Zxid(3, 7), Zxid(3, 6), 4, 0, None, b"data")
BEAT = Heartbeat(State.LEADING, Phase.BROADCAST, 3, LEADER, 1, Zxid(3, 6), Zxid(3, 6), ZERO, None)


class Watched:
    """An observer whose events and lines are kept."""

    def __init__(self, process: ProcessId) -> None:
        self.told: list[Event | Raw] = []
        self.lines: list[str] = []
        self.observer = EventObserver(process, self.told.append, self.lines.append, lambda: "12:00:00.000")

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in encode_events(self.told).splitlines()]

    def event(self, kind: str) -> dict[str, Any]:
        (found,) = [event for event in self.events if event["k"] == kind]
        return found


def test_both_ends_of_a_link_name_a_message_alike() -> None:
    leader, learner = Watched(LEADER), Watched(LEARNER)
    message = Propose(3, (BATCH,), Zxid(3, 6))
    for at in range(2):
        leader.observer.on_step(at, Tick(), [Send(LINK, message)])
        learner.observer.on_step(at, Received(LEADER, LINK, message), [Send(LINK, Ack(3, BATCH.last))])
        leader.observer.on_step(at, Received(LEARNER, LINK, Ack(3, BATCH.last)), [])
    sent = [(e["type"], e["mid"]) for w in (leader, learner) for e in w.events if e["k"] == "send"]
    heard = [(e["type"], e["mid"]) for w in (learner, leader) for e in w.events if e["k"] == "recv"]
    assert sent == heard
    assert len(set(sent)) == 4


def test_a_heartbeat_on_the_link_takes_its_place_in_the_count() -> None:
    leader, learner = Watched(LEADER), Watched(LEARNER)
    for message in (BEAT, Ack(3, ZERO)):
        leader.observer.on_step(0, Tick(), [Send(LINK, message)])
        learner.observer.on_step(0, Received(LEADER, LINK, message), [])
    assert leader.event("send")["mid"] == learner.event("recv")["mid"]


def test_an_event_says_what_every_event_says() -> None:
    leader = Watched(LEADER)
    leader.observer.on_step(12481.13, Tick(), [Proposed(BATCH)])
    event = leader.event("propose")
    assert (event["v"], event["n"], event["seq"], event["t"], event["lc"]) == (1, 0, 1, 12.48113, 1)
    assert (event["z0"], event["z"], event["count"], event["prev"]) == ([3, 7], [3, 10], 4, [3, 6])
    assert len(event["boot"]) == 4


def test_a_batch_is_one_event_however_many_operations_it_holds() -> None:
    learner = Watched(LEARNER)
    big = BATCH._replace(count=500)
    learner.observer.on_step(1, Received(LEADER, LINK, Propose(3, (big,), ZERO)), [Append(1, (big,))])
    learner.observer.on_step(3.5, Durable(1, big.last), [Send(LINK, Ack(3, big.last))])
    learner.observer.on_applied(4, big.last, 0xABCD << 48)
    assert [e["k"] for e in learner.events] == ["recv", "persist", "send", "apply"]
    assert learner.event("persist")["ms"] == 2.5
    assert learner.event("apply")["state"] == "abcd000000000000"


def test_heartbeats_are_told_once_a_second_with_a_count() -> None:
    learner = Watched(LEARNER)
    for at in range(17):
        learner.observer.on_step(at, Received(LEADER, None, BEAT), [Send(LINK, HbEcho(3, at, False))])
    assert learner.events == []
    learner.observer.idle(1000.0)
    assert [(e["k"], e["type"], e["count"]) for e in learner.events] == [
        ("recv", "HEARTBEAT", 17),
        ("send", "HB_ECHO", 17),
    ]


def test_a_vote_is_told_when_it_changes_and_not_when_it_is_sent_again() -> None:
    node = Watched(LEARNER)
    note = Notification(State.LOOKING, 1, Vote(LEARNER, 3, Zxid(3, 8)), None, 3, True, 0, 1)
    for seq in range(3):
        node.observer.on_step(seq, Received(LEADER, None, note), [SendVote(PeerId(1), note._replace(n_seq=seq))])
    better = note._replace(vote=Vote(LEADER, 4, Zxid(4, 1)))
    node.observer.on_step(9, Tick(), [SendVote(PeerId(1), better)])
    assert [(e["k"], e["vote"]["leader"]) for e in node.events] == [("recv", 2), ("vote", 2), ("vote", 0)]
    assert "round 1: vote (4, 4.1, 0)" in node.lines[-1]


def test_a_move_says_where_and_why() -> None:
    node = Watched(LEARNER)
    node.observer.on_step(5, Tick(), [Moved(State.FOLLOWING, Phase.BROADCAST, 3, LEADER, "UPTODATE 3.7")])
    state = node.event("state")
    assert (state["role"], state["phase"], state["epoch"], state["leader"]) == ("FOLLOWING", "BROADCAST", 3, 0)
    assert state["why"] == "UPTODATE 3.7"
    assert node.lines == ["12:00:00.000  n2 e3 FOLLOWING  broadcast  UPTODATE 3.7 (leader 0)\n"]


def test_a_report_passes_through_with_its_operands_as_json() -> None:
    node = Watched(LEARNER)
    fields = {"have": {PeerId(1): Zxid(1, 2)}, "need": 3, "from": LEADER}
    node.observer.on_step(5, Tick(), [Report("quorum", fields), Truncate(1, Zxid(2, 1)), Fail("disk: EIO")])
    assert node.event("quorum")["have"] == {"1": [1, 2]}
    assert node.event("quorum")["from"] == 0
    assert node.event("truncate")["z"] == [2, 1]
    assert node.event("state")["role"] == "FAILED"


def test_a_commit_and_a_lost_link_are_told() -> None:
    node = Watched(LEADER)
    node.observer.on_step(5, LinkLost(LINK, "reset"), [Publish(Commit(3, Zxid(3, 7)))])
    assert node.event("commit")["z"] == [3, 7]
    assert node.event("drop")["peer"] == 2
    assert any("link with 2 lost: reset" in line for line in node.lines)


def test_a_burst_is_cut_to_a_few_lines_a_second_and_says_how_many_it_left_out() -> None:
    node = Watched(LEADER)
    for at in range(432):
        node.observer.on_step(float(at), Tick(), [Proposed(BATCH)])
    assert len(node.events) == 432, "programs get them all"
    assert len(node.lines) == LINES_PER_SECOND
    node.observer.idle(1500.0)
    assert node.lines[-1].endswith("... 412 more\n")
    node.observer.on_step(1600.0, Tick(), [Proposed(BATCH)])
    assert len(node.lines) == LINES_PER_SECOND + 2


def test_a_move_is_never_left_out() -> None:
    node = Watched(LEADER)
    for at in range(100):
        node.observer.on_step(float(at), Tick(), [Proposed(BATCH)])
    node.observer.on_step(101, Tick(), [Moved(State.LOOKING, Phase.ELECTION, 3, None, "no quorum of echoes")])
    assert node.lines[-1].endswith("LOOKING    election   no quorum of echoes\n")
