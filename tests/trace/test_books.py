"""What nobody watches is told in part, and what is told stays true."""

from __future__ import annotations

import pytest

from tests.trace.test_event import BEAT, LEADER, LEARNER, LINK, Watched
from zabzmq.core.effects import Append, Deliver, Effect, Moved, Proposed, Send
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Durable, Input, LinkLost, Received, Request
from zabzmq.core.messages import Ack, HbEcho, Phase, Propose, State
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.trace.books import RUSH_BURST
from zabzmq.trace.event import PENDING_MAX

MOVE = Moved(State.LOOKING, Phase.ELECTION, 3, None, "leader 0 is gone")


class Busy:
    """A leader and a learner at work; `round` is one batch of both."""

    def __init__(self, *, watched: bool) -> None:
        self.leader, self.learner = Watched(LEADER), Watched(LEARNER)
        self.leader.lead()
        self.learner.observer.on_step(0, LinkLost(LINK, ""), [Moved(State.FOLLOWING, Phase.BROADCAST, 3, LEADER, "")])
        for node in (self.leader, self.learner):
            node.observer.is_watched = lambda: watched
        self.last = ZERO
        self.now = 0.0

    def round(self) -> None:
        self.now += 0.5
        batch = Batch(Zxid(3, self.last.counter + 1), self.last, 4, 0, None, b"data")
        message, ack = Propose(3, (batch,), self.last), Ack(3, batch.last)
        steps: list[tuple[Watched, Input, list[Effect]]] = [
            (self.leader, Request(b"data", 4, 0), [Proposed(batch), Send(LINK, message), Append(1, (batch,))]),
            (self.learner, Received(LEADER, LINK, message), [Append(1, (batch,))]),
            (self.learner, Durable(1, batch.last), [Send(LINK, ack)]),
            (self.leader, Durable(1, batch.last), []),
            (self.leader, Received(LEARNER, LINK, ack), [Deliver(batch.last)]),
        ]
        for node, event, effects in steps:
            if event is steps[-1][1]:
                node.peer.committed = batch.last
            node.observer.on_step(self.now, event, effects)
        self.leader.observer.on_applied(self.now, batch, 7)
        self.last = batch.last

    def rush(self) -> None:
        """Until nothing is told any more, and further."""
        for _ in range(int(RUSH_BURST) // 2 + PENDING_MAX):
            self.round()


def test_while_nobody_watches_a_rush_is_passed_over() -> None:
    busy = Busy(watched=False)
    busy.rush()
    told = len(busy.leader.told)
    assert told < 1.5 * RUSH_BURST
    before = busy.leader.observer.seq
    for _ in range(100):
        busy.round()
    assert len(busy.leader.told) == told
    assert busy.leader.observer.seq == before + 100 * 4, "numbers skip what is not told"


def test_whoever_watches_is_told_all() -> None:
    busy = Busy(watched=True)
    busy.rush()
    assert [event["seq"] for event in busy.leader.events] == list(
        range(busy.leader.events[0]["seq"], busy.leader.observer.seq + 1)
    )


def test_what_comes_after_a_rush_says_how_much_was_passed_over() -> None:
    busy = Busy(watched=False)
    busy.rush()
    for _ in range(100):
        busy.round()
    told = len(busy.leader.events)
    before, number = busy.leader.events[-1]["seq"], busy.leader.observer.seq
    busy.leader.observer.idle(busy.now)
    note, *standing = busy.leader.events[told:]
    assert (note["k"], note["what"], note["steps"]) == ("note", "rush", number - before)
    assert note["seq"] == busy.leader.observer.unbroken == number + 1
    z = list(busy.last)
    assert [(event["k"], event["z"]) for event in standing[:4]] == [
        ("propose", z),
        ("persist", z),
        ("commit", z),
        ("apply", z),
    ]
    assert standing[2]["have"] == [0, 2]
    assert standing[3]["digest"] == f"{7:016x}"
    told = len(busy.leader.told)
    busy.leader.observer.idle(busy.now)
    assert len(busy.leader.told) == told, "it is told once"


def test_a_turning_point_is_told_at_once_whatever_the_load() -> None:
    busy = Busy(watched=False)
    busy.rush()
    told = len(busy.learner.told)
    busy.learner.observer.on_step(busy.now, LinkLost(LINK, "leader 0 is gone"), [MOVE])
    fresh = busy.learner.events[told:]
    assert [event["k"] for event in fresh] == ["note", "drop", "state"]


def test_both_ends_still_name_a_message_alike_after_a_rush() -> None:
    busy = Busy(watched=False)
    busy.rush()
    busy.leader.observer.on_step(busy.now, Request(b"", 1, 0), [Send(LINK, BEAT)])
    busy.learner.observer.on_step(busy.now, Received(LEADER, LINK, BEAT), [])
    for node in (busy.leader, busy.learner):
        node.observer.is_watched = lambda: True
        node.observer.idle(busy.now)
    busy.round()
    mids = {}
    for node, kind in ((busy.leader, "send"), (busy.learner, "recv"), (busy.learner, "send"), (busy.leader, "recv")):
        (mids[node, kind],) = [e["mid"] for e in node.events if e["k"] == kind and e.get("z") == list(busy.last)]
    assert mids[busy.leader, "send"] == mids[busy.learner, "recv"]
    assert mids[busy.learner, "send"] == mids[busy.leader, "recv"]


def test_a_rush_ends_when_somebody_watches_or_time_has_passed() -> None:
    for watched, later in ((True, 0.0), (False, 3_000.0)):
        busy = Busy(watched=False)
        busy.rush()
        for node in (busy.leader, busy.learner):
            node.observer.is_watched = lambda watched=watched: watched  # type: ignore[misc]
        busy.now += later
        busy.leader.observer.idle(busy.now)
        told = len(busy.leader.events)
        busy.round()
        assert len(busy.leader.events) > told + 5


def test_heartbeats_are_no_rush() -> None:
    busy = Busy(watched=False)
    for _ in range(10_000):
        busy.now += 10.0
        busy.leader.observer.on_step(busy.now, Received(LEARNER, LINK, HbEcho(3, 1, False)), [Send(LINK, BEAT)])
    busy.leader.observer.idle(busy.now)
    told = len(busy.leader.events)
    busy.round()
    assert len(busy.leader.events) > told + 5
    assert all(event.get("what") != "rush" for event in busy.leader.events)


@pytest.mark.parametrize("rounds", [1, 20])
def test_a_few_rounds_are_told_in_full_although_nobody_watches(rounds: int) -> None:
    alone, watched = Busy(watched=False), Busy(watched=True)
    for _ in range(rounds):
        alone.round()
        watched.round()
    assert alone.leader.events == watched.leader.events
