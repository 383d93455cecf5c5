"""What a node does becomes events for programs and lines for people."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from zabzmq.core.effects import Append, Busy, Fail, Moved, Proposed, Publish, Report, Send, SendVote, Truncate
from zabzmq.core.history import Admit, Batch, Epochs, History
from zabzmq.core.inputs import DiskSpace, Durable, Input, LinkLost, MeshUp, Quiesced, Received, Request, Space, Tick
from zabzmq.core.lamport import Lamport
from zabzmq.core.messages import (
    Ack,
    AckEpoch,
    Commit,
    HbEcho,
    Heartbeat,
    Notification,
    Phase,
    Propose,
    State,
    Trunc,
    Vote,
)
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import Delete, Guess, Operation, Put, Register, SealedRun
from zabzmq.trace.counts import boot_of
from zabzmq.trace.event import EventObserver
from zabzmq.trace.steps import KINDS
from zabzmq.trace.teller import LINES_PER_SECOND, encode_events

LEADER = ProcessId(PeerId(0), 11, 1)
LEARNER = ProcessId(PeerId(2), 22, 5)
LINK = LinkId(LEARNER, 3)
BATCH = Batch(Zxid(3, 7), Zxid(3, 6), 4, 0, None, b"data")
BEAT = Heartbeat(State.LEADING, Phase.BROADCAST, 3, LEADER, 1, Zxid(3, 6), Zxid(3, 6), ZERO, None)


class FakePeer:
    """What an observer looks up."""

    def __init__(self) -> None:
        self.committed = ZERO
        self.durable = ZERO
        self.voters = Voters((PeerId(0), PeerId(1), PeerId(2)))


class Watched:
    """An observer whose events and lines are kept."""

    def __init__(self, process: ProcessId, lamport: Lamport | None = None) -> None:
        self.told: list[str] = []
        self.spoken: list[str] = []
        self.observer = EventObserver(
            process, self.told.append, self.spoken.append, lambda now: "12:00:00.000", lamport=lamport
        )
        self.game: dict[str, Any] = {"target": None}
        self.peer = FakePeer()
        self.observer.watch(self.peer, lambda: dict(self.game))

    def lead(self) -> None:
        """Make it an established leader, and forget what that told."""
        self.observer.on_step(0, MeshUp(PeerId(1)), [Moved(State.LEADING, Phase.BROADCAST, 3, LEADER, "up to date")])
        self.observer.settle()
        self.told.clear()
        self.spoken.clear()

    @property
    def lines(self) -> list[str]:
        self.observer.settle()
        return self.spoken

    def kinds(self) -> list[str]:
        return [event["k"] for event in self.events]

    @property
    def events(self) -> list[dict[str, Any]]:
        self.observer.settle()
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
    leader.lead()
    leader.observer.on_step(12481.13, Tick(), [Append(1, (BATCH,))])
    event = leader.event("propose")
    assert (event["v"], event["n"], event["seq"], event["t"], event["lc"]) == (1, 0, 3, 12.48113, 2)
    assert event["k"] in KINDS
    assert (event["z0"], event["z"], event["count"], event["prev"]) == ([3, 7], [3, 10], 4, [3, 6])
    assert len(event["boot"]) == 4


def test_a_batch_is_one_event_however_many_operations_it_holds() -> None:
    learner = Watched(LEARNER)
    big = BATCH._replace(count=500)
    learner.observer.on_step(1, Received(LEADER, LINK, Propose(3, (big,), ZERO)), [Append(1, (big,))])
    learner.observer.on_step(3.5, Durable(1, big.last), [Send(LINK, Ack(3, big.last))])
    learner.observer.on_applied(4, big, 0xABCD << 48)
    assert [e["k"] for e in learner.events] == ["recv", "persist", "send", "apply"]
    assert learner.event("persist")["ms"] == 2.5
    applied = learner.event("apply")
    assert (applied["z0"], applied["z"], applied["count"]) == ([3, 7], [3, 506], 500)
    assert applied["digest"] == "abcd000000000000"


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


NOTE = Notification(State.LOOKING, 1, Vote(LEARNER, 3, Zxid(3, 8)), None, 3, True, 0, 1)
BETTER = Vote(LEADER, 4, Zxid(4, 1))


def test_a_vote_is_told_when_it_changes_and_why() -> None:
    node = Watched(LEARNER)
    for seq in range(1, 4):
        node.observer.on_step(seq, Tick(), [SendVote(PeerId(1), NOTE._replace(n_seq=seq))])
    heard = Received(LEADER, None, NOTE._replace(vote=BETTER))
    node.observer.on_step(9, heard, [SendVote(PeerId(1), NOTE._replace(vote=BETTER, n_seq=4))])
    own, better = [e for e in node.events if e["k"] == "vote"]
    assert (own["candidate"], own["epoch"], own["z"], own["id"], own["why"]) == (2, 3, [3, 8], 2, "own")
    assert (better["candidate"], better["why"], better["from"]) == (0, "better", 0)
    assert better["than"] == {"candidate": 2, "epoch": 3, "z": [3, 8], "id": 2}
    assert "round 1: vote (4, 4.1, 0)" in node.lines[-1]
    assert [e["what"] for e in node.events if e["k"] == "timer"] == ["resend", "resend"]


def test_a_vote_of_a_higher_round_and_one_that_may_not_count_are_told_as_such() -> None:
    node = Watched(LEARNER)
    node.observer.on_step(1, Tick(), [SendVote(PeerId(1), NOTE._replace(vote=None, joined=False))])
    later = NOTE._replace(round=5, vote=BETTER)
    node.observer.on_step(2, Received(LEADER, None, later), [SendVote(PeerId(1), later)])
    assert [(e["round"], e["candidate"], e["why"]) for e in node.events if e["k"] == "vote"] == [
        (1, None, "refused"),
        (5, 0, "round"),
    ]


@pytest.mark.parametrize(
    ("level", "text"), [(Space.FULL, "its disk is full"), (Space.OK, "no quorum was heard since none answered it")]
)
def test_one_that_counts_and_does_not_stand_is_told_with_the_reason(level: Space, text: str) -> None:
    node = Watched(LEARNER)
    node.observer.on_step(1, DiskSpace(Space.FULL), [])
    node.observer.on_step(2, DiskSpace(level), [])
    node.observer.on_step(3, Tick(), [SendVote(PeerId(1), NOTE._replace(vote=None, joined=True))])
    vote = node.event("vote")
    assert (vote["candidate"], vote["why"], vote["text"]) == (None, "abstained", text)
    assert node.lines[-1].rstrip().endswith(f"round 1: vote none: {text}")


def test_every_notification_that_leaves_has_the_name_it_is_heard_by() -> None:
    node, other = Watched(LEARNER), Watched(LEADER)
    for seq in range(1, 4):
        note = NOTE._replace(n_seq=seq)
        node.observer.on_step(seq, Tick(), [SendVote(LEADER.peer, note)])
        other.observer.on_step(seq, Received(LEARNER, None, note), [])
    sent = [(e["to"], e["mid"]) for e in node.events if e["k"] == "send"]
    assert sent == [(0, e["mid"]) for e in other.events if e["k"] == "recv"]
    assert len(set(sent)) == 3


def test_a_commit_is_heard_by_the_name_it_is_published_under() -> None:
    leader, learner = Watched(LEADER), Watched(LEARNER)
    commit = Commit(3, Zxid(3, 7))
    leader.observer.on_step(1, Tick(), [Publish(commit)])
    learner.observer.on_step(2, Received(LEADER, None, commit), [])
    assert leader.event("send")["mid"] == learner.event("recv")["mid"] == f"0-{boot_of(LEADER)}-c3.7"
    assert leader.event("send")["type"] == "COMMIT" and "to" not in leader.event("send")


def test_a_learner_tells_when_and_by_what_it_knows_of_a_commit() -> None:
    learner = Watched(LEARNER)
    learner.peer.committed = Zxid(3, 6)
    learner.observer.on_step(1, Received(LEADER, LINK, Propose(3, (BATCH,), Zxid(3, 6))), [])
    learner.observer.on_step(2, Tick(), [])
    assert (learner.event("commit")["z"], learner.event("commit")["by"]) == ([3, 6], "PROPOSE")


def test_a_leader_counts_copies_up_to_the_quorum() -> None:
    leader = Watched(LEADER)
    leader.lead()
    last = BATCH.last

    def holds(step: Input, *, commits: bool = False) -> None:
        if commits:
            leader.peer.committed = last
        leader.observer.on_step(1, step, [])

    holds(Durable(1, last))
    holds(Received(LEARNER, LINK, Ack(3, last)), commits=True)
    holds(Received(LEARNER._replace(peer=PeerId(1)), LINK, Ack(3, last)))
    acks = [(e["from"], e["have"], e["need"]) for e in leader.events if e["k"] == "ack"]
    assert acks == [(0, [0], 2), (2, [0, 2], 2)]
    assert leader.kinds() == ["persist", "ack", "recv", "ack", "commit", "recv"]
    assert (leader.event("commit")["have"], leader.event("commit")["need"]) == ([0, 2], 2)


def test_the_fate_of_what_clients_asked_is_told_per_batch() -> None:
    leader = Watched(LEADER)
    leader.lead()
    lost = BATCH._replace(first=Zxid(3, 11), prev=BATCH.last)
    for batch in (BATCH, lost):
        leader.observer.on_step(1, Request(b"", 4, 0), [Append(1, (batch,)), Proposed(batch)])
    leader.observer.on_step(2, Request(b"", 9, 0), [Busy(True, "windows are full")])
    leader.observer.on_applied(3, BATCH, 1)
    leader.observer.on_step(4, Tick(), [Moved(State.LOOKING, Phase.QUIESCE, 3, None, "the disk is full")])
    told = [(e["what"], e.get("z0"), e["count"]) for e in leader.events if e["k"] == "client"]
    assert told == [
        ("invoke", None, 4),
        ("invoke", None, 4),
        ("invoke", None, 9),
        ("fail", None, 9),
        ("ok", [3, 7], 4),
        ("unknown", [3, 11], 4),
    ]


def test_the_game_is_told_when_it_changed() -> None:
    node = Watched(LEARNER)
    node.observer.on_applied(1, BATCH, 1)
    node.game["target"] = 50
    node.observer.on_applied(2, BATCH, 2)
    node.observer.on_applied(3, BATCH, 2)
    assert [e.get("game") for e in node.events] == [{"target": None}, {"target": 50}, None]


def test_a_receipt_is_later_than_what_was_sent() -> None:
    slow, fast = Lamport(), Lamport()
    fast.value = 100
    sender, receiver = Watched(LEADER, fast), Watched(LEARNER, slow)
    sender.observer.on_step(1, Tick(), [Send(LINK, Ack(3, ZERO))])
    slow.heard(fast.value)  # as the wire does
    receiver.observer.on_step(1, Received(LEADER, LINK, Ack(3, ZERO)), [])
    assert receiver.event("recv")["lc"] > sender.event("send")["lc"]


def test_who_stood_behind_an_epoch_is_told() -> None:
    leader = Watched(LEADER)
    leader.observer.on_step(1, Tick(), [Moved(State.LEADING, Phase.DISCOVERY, 3, LEADER, "elected by [0, 1]")])
    promise = AckEpoch(4, 3, ZERO, ZERO, (), True)
    leader.observer.on_step(2, Received(LEARNER, LINK, promise), [])
    leader.observer.on_step(
        3, Tick(), [Moved(State.LEADING, Phase.SYNCHRONIZATION, 4, LEADER, "a quorum has promised")]
    )
    elected, promised = [e for e in leader.events if e["k"] == "state"]
    assert (elected["why"], elected["have"], elected["need"]) == ("elected", [0, 1], 2)
    assert (promised["why"], promised["have"], promised["need"]) == ("quorum_promised", [0, 2], 2)


def test_a_leader_without_echoes_tells_whose_it_had() -> None:
    leader = Watched(LEADER)
    leader.lead()
    leader.observer.on_step(100, Received(LEARNER, LINK, HbEcho(3, 1, False)), [])
    for at in (450, 900):
        why = "no quorum of echoes within 400 ms"
        leader.observer.on_step(at, Tick(), [Moved(State.LOOKING, Phase.QUIESCE, 3, None, why)])
    assert [e["have"] for e in leader.events if e["k"] == "state"] == [[0, 2], [0]]
    assert [e["what"] for e in leader.events if e["k"] == "timer"] == ["no_quorum_of_echoes"] * 2


def test_the_newest_batches_are_kept_for_who_comes_late() -> None:
    node = Watched(LEARNER)
    more = BATCH._replace(first=Zxid(3, 11), prev=BATCH.last)
    node.observer.on_step(1, Tick(), [Append(1, (BATCH, more))])
    node.observer.settle()
    assert [batch.first for batch in node.observer.tail] == [(3, 7), (3, 11)]
    node.observer.on_step(2, Received(LEADER, LINK, Trunc(4, BATCH.last)), [Truncate(1, BATCH.last)])
    node.observer.settle()
    assert [batch.first for batch in node.observer.tail] == [(3, 7)]
    cut = node.event("truncate")
    assert (cut["z"], cut["was"]) == ([3, 10], [3, 14])
    assert (node.event("recv")["z"], node.event("recv")["epoch"]) == ([3, 10], 4)


def test_a_broken_promise_and_a_fault_are_events() -> None:
    node = Watched(LEARNER)
    node.observer.on_violation(1, "same state at same zxid", "differs at 3.7")
    node.observer.fault(2, "crash")
    assert [(e["k"], e.get("name"), e.get("ok"), e.get("what")) for e in node.events] == [
        ("invariant", "same state at same zxid", False, None),
        ("fault", None, None, "crash"),
    ]


def test_a_move_says_where_and_why() -> None:
    node = Watched(LEARNER)
    node.observer.on_step(5, LinkLost(LINK, "x"), [Moved(State.FOLLOWING, Phase.BROADCAST, 3, LEADER, "up to date")])
    state = node.event("state")
    assert (state["role"], state["phase"], state["epoch"], state["leader"]) == ("FOLLOWING", "BROADCAST", 3, 0)
    assert (state["why"], state["text"]) == ("up_to_date", "up to date")
    assert node.lines[-1] == "12:00:00.000  n2 e3 FOLLOWING  broadcast  up to date (leader 0)\n"


def test_a_report_passes_through_with_its_operands_as_json() -> None:
    node = Watched(LEARNER)
    fields = {"have": {PeerId(1): Zxid(1, 2)}, "need": 3, "from": LEADER}
    node.observer.on_step(5, Tick(), [Report("sync", fields), Report("drop", {"type": "AckEpoch"}), Fail("disk: EIO")])
    assert node.event("note")["have"] == {"1": [1, 2]}
    assert (node.event("note")["from"], node.event("note")["what"]) == (0, "sync")
    assert node.event("drop")["type"] == "ACKEPOCH"
    assert node.lines[-1].endswith("ERROR disk: EIO\n")


def test_a_commit_and_a_lost_link_are_told() -> None:
    node = Watched(LEADER)
    node.peer.committed = Zxid(3, 7)
    node.observer.on_step(5, LinkLost(LINK, "reset"), [])
    assert node.event("commit")["z"] == [3, 7]
    assert node.event("drop")["peer"] == 2
    assert any("link with 2 lost: reset" in line for line in node.lines)


def test_a_burst_is_cut_to_a_few_lines_a_second_and_says_how_many_it_left_out() -> None:
    node = Watched(LEADER)
    node.lead()
    for at in range(432):
        node.observer.on_step(float(at), Tick(), [Append(1, (BATCH,))])
    assert len(node.events) == 432, "programs get them all"
    assert len(node.lines) == LINES_PER_SECOND
    node.observer.idle(1500.0)
    assert node.lines[-1].endswith("... 412 more\n")
    node.observer.on_step(1600.0, Tick(), [Append(1, (BATCH,))])
    assert len(node.lines) == LINES_PER_SECOND + 2


def test_a_move_is_never_left_out() -> None:
    node = Watched(LEADER)
    node.lead()
    for at in range(100):
        node.observer.on_step(float(at), Tick(), [Append(1, (BATCH,))])
    node.observer.on_step(101, Tick(), [Moved(State.LOOKING, Phase.ELECTION, 3, None, "no quorum of echoes")])
    assert node.lines[-1].endswith("LOOKING    election   no quorum of echoes\n")


def test_what_a_quiet_disk_holds_is_told_as_it_was_then() -> None:
    node = Watched(LEARNER)
    history = History()
    history.append(Batch(Zxid(3, 1), ZERO, 1, 0, None, b""))
    node.observer.on_step(1, Quiesced(1, history, Epochs(3, 3, True)), [])
    history.append(Batch(Zxid(3, 2), Zxid(3, 1), 1, 0, None, b""))
    assert (node.event("persist")["what"], node.event("persist")["z"]) == ("quiesced", [3, 1])


# ---- what clients asked for, in the lines for people ------------------------------------------------------------


def seal(ops: tuple[Operation, ...]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(list(ops)))


def a_batch(*ops: Operation, session: Zxid = Zxid(1, 1), seq: int = 1) -> Batch:
    return BATCH._replace(count=len(ops), data=msgspec.msgpack.encode([SealedRun(session, seq, 0, seal(ops))]))


def test_a_line_says_what_one_operation_asks_and_by_whom() -> None:
    node = Watched(LEARNER)
    node.observer.watch(node.peer, lambda: node.game, lambda session: "carol" if session == (1, 1) else None)
    guess = a_batch(Guess(61))
    node.observer.on_step(1, Received(LEADER, LINK, Propose(3, (guess,), ZERO)), [])
    assert node.lines[-1].endswith("recv PROPOSE 3.7 from 0   guess 61 by carol\n")
    node.game = {"target": 52, "owner": "bob", "open": True, "round": 4}
    node.observer.on_applied(2, guess, 0x9C1E << 48)
    assert node.lines[-1].endswith("applied 3.7: guess 61 by carol, target 52 by bob, state 9c1e\n")
    node.observer.on_applied(3, guess, 0x9C1E << 48)
    assert node.lines[-1].endswith("applied 3.7: guess 61 by carol, target stays 52, state 9c1e\n")
    node.game = {**node.game, "open": False}
    node.observer.on_applied(4, guess, 0x9C1E << 48)
    assert node.lines[-1].endswith("applied 3.7: guess 61 by carol, a hit: 52, round 4 is over, state 9c1e\n")


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (a_batch(Guess(1), Guess(2)), "applied 3.8 (2 operations), state"),
        (a_batch(Put(b"k" * 50, b"v")), f"applied 3.7: put {'k' * 40}..., state"),
        (a_batch(Delete(b"\x1b[2J")), "applied 3.7: del ?[2J, state"),
        (a_batch(Register("ann"), session=ZERO, seq=0), "applied 3.7: a new session of ann, state"),
        (BATCH._replace(count=1), "applied 3.7, state"),
        (BATCH._replace(count=1, admit=Admit(PeerId(4), 7)), "applied 3.7: admit node 4, state"),
    ],
    ids=["many", "a long key", "a hostile key", "a session", "what cannot be read", "an admission"],
)
def test_a_line_never_says_more_than_fits_it(batch: Batch, told: str) -> None:
    node = Watched(LEARNER)
    node.observer.on_applied(1, batch, 0)
    assert told in node.lines[-1]
