"""Every sentence of explain: when it is said, of whom, and which event proves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.trace.made import Story
from tests.trace.simulated import trace_of
from zabzmq.trace.explain import Answer
from zabzmq.trace.explain_election import explain_election
from zabzmq.trace.explain_entry import explain_entry
from zabzmq.trace.explain_node import explain_node
from zabzmq.trace.explain_words import WORDS
from zabzmq.trace.reading import Event
from zabzmq.trace.reduced import reduce

DOC = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
said: set[str] = set()
"""The codes of all sentences that the tests in this file have heard."""


def entry(story: Story, z: tuple[int, int]) -> Answer:
    return heard(explain_entry(reduce(story.events, z)))


def node(story: Story, n: int) -> Answer:
    return heard(explain_node(reduce(story.events), n))


def election(story: Story) -> Answer:
    return heard(explain_election(reduce(story.events)))


def heard(answer: Answer) -> Answer:
    said.update(clause.code for clause in answer.clauses)
    return answer


def codes(answer: Answer) -> list[str]:
    return [clause.code for clause in answer.clauses]


def proof(answer: Answer, code: str) -> Event:
    """The event that proves the one clause of this code."""
    (clause,) = [clause for clause in answer.clauses if clause.code == code]
    assert clause.proof is not None
    return clause.proof


def text(answer: Answer, code: str) -> str:
    return next(clause.text for clause in answer.clauses if clause.code == code)


@pytest.fixture
def story() -> Story:
    """2 leads epoch 1 of three nodes, and has just proposed 1.1."""
    made = Story()
    made.begin()
    made.proposed(2, (1, 1), (0, 0), [0, 1])
    return made


# ---- an entry ----------------------------------------------------------------------------------------------------


def test_a_committed_entry_is_proven_by_the_leaders_commit(story: Story) -> None:
    story.received(0, 2, (1, 1))
    story.copied(2, 2, (1, 1), [2])
    story.copied(0, 2, (1, 1), [0, 2])
    commit = story.committed(2, (1, 1), [0, 2])
    applied = story.applied(2, (1, 1), "abcd")
    answer = entry(story, (1, 1))
    assert answer.answer == "committed"
    assert answer.clauses[0].text == "1.1 is committed: nodes 0 and 2 had it on disk, 2 of 3 are needed"
    assert proof(answer, "entry.committed") is commit
    assert (text(answer, "entry.applied"), proof(answer, "entry.applied")) == ("applied by node 2, state abcd", applied)
    assert codes(answer)[2:] == ["node.follows", "node.follows"], "where the others are"


def test_an_entry_whose_leader_lost_its_lines_is_proven_by_a_follower(story: Story) -> None:
    told = story(0, "commit", z=[1, 1], epoch=1, by="COMMIT")
    assert text(entry(story, (1, 1)), "entry.heard") == "1.1 is committed: node 0 was told so by COMMIT"
    assert proof(entry(story, (1, 1)), "entry.heard") is told


def test_an_entry_that_the_next_leader_had_is_committed_with_its_epoch(story: Story) -> None:
    story.received(1, 2, (1, 1))
    story.copied(1, 2, (1, 1), [1, 2], heard=False)
    story.looks(2, 1, "no_quorum_of_echoes", "no quorum of echoes within 400 ms")
    began = story.leads(1, 2, [0, 1], z=(1, 1))
    answer = entry(story, (1, 1))
    assert (answer.answer, proof(answer, "entry.inherited")) == ("committed", began)


def test_an_entry_that_waits_says_how_many_have_it_and_what_each_other_lacks(story: Story) -> None:
    received = story.received(0, 2, (1, 1))
    story.copied(2, 2, (1, 1), [2])
    counted = story.events[-1]
    story.wait(4)
    answer = entry(story, (1, 1))
    assert answer.answer == "not committed"
    assert (
        answer.clauses[0].text == "1.1 is not committed: 1 (node 2) of the 2 nodes needed are known to have it on disk"
    )
    assert proof(answer, "entry.waiting") is counted
    assert proof(answer, "voter.writing") is received
    assert proof(answer, "voter.unreached").get("to") == 1


def test_an_ack_that_was_sent_and_not_heard_is_the_reason(story: Story) -> None:
    story.received(0, 2, (1, 1))
    sent = story.copied(0, 2, (1, 1), [0, 2], heard=False)
    assert proof(entry(story, (1, 1)), "voter.ack_lost") is sent


def test_a_voter_that_is_still_in_synchronization_may_not_acknowledge(story: Story) -> None:
    state = story(0, "state", role="FOLLOWING", phase="SYNCHRONIZATION", epoch=1, leader=2, why="promised", text="x")
    assert proof(entry(story, (1, 1)), "voter.syncing") is state


def test_a_voter_with_an_empty_disk_does_not_count(story: Story) -> None:
    vote = story(0, "vote", round=1, candidate=None, why="refused")
    assert proof(entry(story, (1, 1)), "voter.uncounted") is vote


def test_a_message_that_a_fault_took_is_the_reason(story: Story) -> None:
    drop = story(0, "drop", type="PROPOSE", peer=2, way="in", fault="cut", count=1, why="taken by a fault: cut")
    answer = entry(story, (1, 1))
    assert (text(answer, "voter.dropped"), proof(answer, "voter.dropped")) == (
        "the PROPOSE between leader 2 and node 0 was dropped: cut",
        drop,
    )


def test_a_message_that_is_held_is_the_reason_until_it_is_let_go(story: Story) -> None:
    held = story(0, "hold", what="held", id=4, type="PROPOSE", z0=(1, 1), z=(1, 2), **{"from": 2})
    story(0, "hold", what="held", id=5, type="PROPOSE", z0=(1, 3), z=(1, 3), **{"from": 2})
    answer = entry(story, (1, 1))
    assert (text(answer, "voter.held"), proof(answer, "voter.held")) == (
        "the PROPOSE of it waits before node 0: the cluster is held",
        held,
    )
    story(0, "hold", what="delivered", id=4, type="PROPOSE", z0=(1, 1), z=(1, 2), **{"from": 2})
    story.received(0, 2, (1, 1))
    assert "voter.held" not in codes(entry(story, (1, 1)))
    story.copied(0, 2, (1, 1), [0, 2], heard=False)
    ack = story(2, "hold", what="held", id=9, type="ACK", z=(1, 2), **{"from": 0})
    answer = entry(story, (1, 1))
    assert (text(answer, "voter.held"), proof(answer, "voter.held")) == (
        "the ACK of it waits before node 2: the cluster is held",
        ack,
    )
    story(2, "hold", what="off")
    assert "voter.held" not in codes(entry(story, (1, 1)))


def test_a_fault_of_another_time_is_not_the_reason() -> None:
    story = Story()
    story.begin()
    story(0, "drop", type="PROPOSE", peer=2, way="in", fault="cut", count=1, why="x")
    story.proposed(2, (1, 1), (0, 0), [0, 1])
    assert "voter.dropped" not in codes(entry(story, (1, 1)))


def test_a_voter_without_a_link_was_not_sent_it() -> None:
    story = Story()
    story.begin()
    over = story(2, "drop", what="link", link="0#1", peer=0, why="gap")
    story.proposed(2, (1, 1), (0, 0), [1])
    assert proof(entry(story, (1, 1)), "voter.unlinked") is over


def test_a_voter_that_follows_another_or_nobody_is_named(story: Story) -> None:
    other = story(0, "state", role="FOLLOWING", phase="BROADCAST", epoch=2, leader=1, why="up_to_date", text="x")
    lost = story.looks(1, 1, "leader_silent", "leader 2 silent for 500 ms")
    answer = entry(story, (1, 1))
    assert proof(answer, "voter.elsewhere") is other
    assert proof(answer, "node.looking") is lost


def test_an_entry_of_a_leader_that_gave_up_is_undecided_while_somebody_has_it(story: Story) -> None:
    persisted = story.copied(2, 2, (1, 1), [2])
    left = story.looks(2, 1, "no_quorum_of_echoes", "no quorum of echoes within 400 ms")
    answer = entry(story, (1, 1))
    assert answer.answer == "not committed"
    assert proof(answer, "entry.deposed") is left
    assert proof(answer, "entry.open") is persisted


def test_an_entry_that_the_next_epoch_lacks_is_lost_and_who_cut_it_off_is_named(story: Story) -> None:
    story.copied(2, 2, (1, 1), [2])
    story.looks(2, 1, "no_quorum_of_echoes", "no quorum of echoes within 400 ms")
    story.leads(1, 2, [0, 1], z=(0, 0))
    answer = entry(story, (1, 1))
    assert answer.answer == "lost"
    assert answer.clauses[0].text == "1.1 is not committed and never will be: epoch 2 began with 0.0, without it"
    story(2, "state", role="FOLLOWING", phase="SYNCHRONIZATION", epoch=2, leader=1, why="promised", text="promised 2")
    cut = story(2, "truncate", z=[0, 0], was=[1, 1])
    answer = entry(story, (1, 1))
    assert (answer.answer, proof(answer, "entry.cut")) == ("lost", cut)
    assert "leader 1's" in text(answer, "entry.cut")
    answer = node(story, 2)
    assert proof(answer, "node.truncated") is cut


def test_an_entry_that_was_never_proposed_is_told_apart_from_one_that_nobody_speaks_of(story: Story) -> None:
    answer = entry(story, (1, 7))
    assert (answer.answer, text(answer, "entry.unproposed")) == (
        "unknown",
        "1.7 was not proposed: epoch 1 got as far as 1.1",
    )
    story.committed(2, (1, 1), [0, 2])
    assert entry(story, (1, 0)).answer == entry(story, (0, 0)).answer == "unknown", "counters begin at 1"
    answer = entry(story, (9, 9))
    assert (answer.answer, codes(answer), answer.clauses[0].proof) == ("unknown", ["entry.untold"], None)


# ---- a node ------------------------------------------------------------------------------------------------------


def test_a_leader_says_who_holds_its_history_and_who_elected_it(story: Story) -> None:
    answer = node(story, 2)
    assert answer.answer == "leading"
    assert codes(answer)[:2] == ["node.leads", "election.won"]
    assert proof(answer, "node.leads").get("why") == "established"


def test_a_leader_that_nobody_follows_yet_says_so() -> None:
    story = Story()
    story.boots()
    state = story(
        1, "state", role="LEADING", phase="DISCOVERY", epoch=0, leader=1, why="elected", have=[0, 1], text="x"
    )
    assert proof(node(story, 1), "node.leading") is state


def test_a_follower_says_how_it_was_brought_up_to_date_and_how_far_it_is(story: Story) -> None:
    sync = story(2, "note", what="sync", method="DIFF", peer=0, z=[1, 1], z0=[0, 0])
    story.committed(2, (1, 1), [1, 2])
    answer = node(story, 0)
    assert (answer.answer, proof(answer, "node.synced")) == ("following", sync)
    assert "it had 0.0, up to 1.1 was sent" in text(answer, "node.synced")
    assert text(answer, "node.behind") == "it is behind: it has applied nothing, and 1.1 is committed"
    story(2, "note", what="sync", method="TRUNC", peer=0, z=[1, 1], z0=[0, 0], why="diverged", last=[1, 3])
    assert "its log went on to 1.3, which is not in the leader's history" in text(node(story, 0), "node.synced")
    story(2, "note", what="sync", method="SNAP", peer=0, z=[1, 1], why="purged", last=[0, 0], base=[1, 1])
    assert "which begins after 1.1, reaches not so far back" in text(node(story, 0), "node.synced")
    applied = story.applied(0, (1, 1))
    assert proof(node(story, 0), "node.current") is applied


def test_a_node_without_a_leader_says_why_since_when_and_what_it_waits_for(story: Story) -> None:
    committed = story(0, "commit", z=[1, 1], epoch=1, by="COMMIT")
    left = story.looks(0, 1, "leader_silent", "leader 2 silent for 500 ms")
    story.looks(0, 1, "disk_quiet", "the disk is quiet")
    vote = story(0, "vote", round=2, candidate=None, why="refused")
    alone = story(0, "note", what="alone", up=[0], need=2, text="no quorum: 1 of 3 nodes are up")
    answer = node(story, 0)
    assert answer.answer == "looking"
    assert text(answer, "node.looking").endswith("leader 2 silent for 500 ms"), "not that the disk is quiet"
    assert proof(answer, "node.looking") is left
    assert (proof(answer, "node.alone"), proof(answer, "node.uncounted")) == (alone, vote)
    assert text(answer, "node.alone") == "it hears node 0, and 2 nodes are needed to elect a leader"
    assert proof(answer, "node.stale") is committed


def test_a_leader_that_no_quorum_answered_does_not_stand_and_is_not_said_to_be_empty(story: Story) -> None:
    silent = "no quorum was heard since none answered it"
    story.looks(0, 1, "no_quorum", "no quorum of echoes within 400 ms")
    vote = story(0, "vote", round=2, candidate=None, why="abstained", text=silent)
    answer = node(story, 0)
    assert proof(answer, "node.abstains") is vote and "node.uncounted" not in codes(answer)
    assert text(answer, "node.abstains") == f"it does not stand for election: {silent}"
    story.votes(0, round=3)
    assert "node.abstains" not in codes(node(story, 0))


def test_who_did_not_stand_in_the_last_election_is_told_with_the_reason() -> None:
    story = Story()
    story.begin()
    vote = story(0, "vote", round=2, candidate=None, why="abstained", text="its disk is full")
    story.votes(1)
    story.leads(1, 2, [1, 2])
    answer = election(story)
    assert proof(answer, "election.abstained") is vote
    assert text(answer, "election.abstained") == "node 0 did not stand for election: its disk is full"
    assert "election.uncounted" not in codes(answer)


def test_faults_pauses_and_refusals_are_told(story: Story) -> None:
    rules = [{"peer": 1, "cut": "both"}]
    fault = story(2, "fault", what="set", rules=rules, disk_ms=50.0, seed=0)
    paused = story(2, "timer", what="resumed", text="this process stood still")
    refused = story(2, "client", what="fail", count=1, text="windows are full", leading=True)
    lost = story(2, "client", what="unknown", z0=[1, 1], z=[1, 3], count=3)
    answer = node(story, 2)
    assert proof(answer, "node.fault") is fault
    assert text(answer, "node.fault") == "on purpose: every sync of its disk takes 50 ms longer; node 1: cut both"
    assert proof(answer, "node.paused") is paused
    assert (text(answer, "node.refused"), proof(answer, "node.refused")) == (
        "it refused 1 operation: windows are full",
        refused,
    )
    assert proof(answer, "node.undecided") is lost
    story(2, "fault", what="clear", rules=[], disk_ms=0.0, seed=0)
    assert "node.fault" not in codes(node(story, 2))


def test_that_a_node_does_not_lead_is_no_refusal(story: Story) -> None:
    story(0, "client", what="fail", count=1, text="this node does not lead", leading=False)
    assert "node.refused" not in codes(node(story, 0))


def test_how_a_node_went_down_is_told_as_far_as_events_know(story: Story) -> None:
    crash = story(0, "fault", what="crash")
    assert (node(story, 0).answer, proof(node(story, 0), "node.crashed")) == ("down", crash)
    stop = story(1, "note", text="stopped by SIGTERM; the log is closed")
    assert (node(story, 1).answer, proof(node(story, 1), "node.stopped")) == ("down", stop)
    failed = story(
        2, "state", role="FAILED", phase="QUIESCE", epoch=1, leader=None, why="disk_hangs", text="hangs (D4)"
    )
    assert (node(story, 2).answer, proof(node(story, 2), "node.failed")) == ("down", failed)


def test_a_node_that_fell_silent_is_down_or_stands_still(story: Story) -> None:
    last = story.events[-1]
    silent = [event for event in story.events if event.n == 0][-1]
    assert node(story, 0).answer == "following"
    story.wait(2500)
    story(1, "note", text="x")
    story(2, "note", text="x")
    answer = node(story, 0)
    assert (answer.answer, proof(answer, "node.silent")) == ("down", silent)
    assert "2.5 s" in text(answer, "node.silent") and last.t < 1


def test_a_node_that_all_others_lost_is_down_at_once(story: Story) -> None:
    story(1, "note", what="mesh", peer=0, up=False)
    assert node(story, 0).answer == "following", "one alone may have lost its connection"
    story(2, "note", what="mesh", peer=0, up=False)
    assert node(story, 0).answer == "down"
    story(1, "note", what="mesh", peer=0, up=True)
    assert node(story, 0).answer == "following"


def test_a_node_that_came_back_says_with_what(story: Story) -> None:
    boot = story.boot(0, z=(1, 1))
    answer = node(story, 0)
    assert proof(answer, "node.restarted") is boot
    assert text(answer, "node.restarted").endswith("with a log that ended at 1.1")


def test_a_node_of_which_nothing_is_told_is_not_made_up(story: Story) -> None:
    answer = node(story, 8)
    assert (answer.answer, codes(answer)) == ("unknown", ["node.untold"])


# ---- the last election -------------------------------------------------------------------------------------------


def raced() -> Story:
    """0 has more than 1, and 2, which led, is down; 3 is missing altogether."""
    story = Story()
    story.begin()
    story(2, "fault", what="crash")
    cause = story.looks(0, 1, "leader_gone", "leader 2 is gone")
    story.looks(1, 1, "leader_gone", "leader 2 is gone")
    assert cause is not None
    return story


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (((1, 7), 1), "a shorter history"),
        (((1, 9), 0), "an older epoch"),
        (((1, 8), 1), "the same history, and a lower id"),
    ],
)
def test_who_was_not_elected_is_told_by_what_the_votes_are_compared_by(
    theirs: tuple[tuple[int, int], int], reason: str
) -> None:
    story = raced()
    z, epoch = theirs
    story(0, "vote", round=2, candidate=0, epoch=epoch, z=z, id=0, why="own")
    winning = story(1, "vote", round=2, candidate=1, epoch=1, z=[1, 8], id=1, why="own")
    beaten = story(0, "vote", round=2, candidate=1, epoch=1, z=[1, 8], id=1, why="better", source=1)
    story.leads(1, 2, [0, 1], z=(1, 8))
    answer = election(story)
    assert answer.answer == "elected"
    assert text(answer, "election.won").endswith("the vote was (1, 1.8, 1)"), winning
    mine = f"({epoch}, {z[0]}.{z[1]}, 0)"
    assert text(answer, "election.lost") == f"node 0 was not elected: {mine} is less than (1, 1.8, 1), {reason}"
    assert proof(answer, "election.lost") is beaten
    assert codes(answer)[-3:] == ["election.epoch", "election.promised", "election.established"]


def test_who_had_more_and_was_not_heard_is_told_apart_from_who_voted_otherwise_or_not_at_all() -> None:
    story = raced()
    more = story(0, "vote", round=2, candidate=0, epoch=1, z=[1, 9], id=0, why="own")
    story(1, "vote", round=2, candidate=1, epoch=1, z=[1, 8], id=1, why="own")
    story.leads(1, 2, [1], z=(1, 8))
    answer = election(story)
    assert proof(answer, "election.early") is more
    assert proof(answer, "election.absent").get("what") == "crash"


def test_who_voted_for_the_winner_at_once_and_who_did_not_count_are_told() -> None:
    story = Story()
    story.boots()
    for n in (0, 2):
        story.looks(n, 0, "started", "started")
    empty = story(2, "vote", round=1, candidate=None, why="refused")
    story.votes(1)
    follows = story(0, "vote", round=1, candidate=1, epoch=0, z=[0, 0], id=1, why="round", source=1)
    story.leads(1, 1, [0, 1])
    answer = election(story)
    assert proof(answer, "election.same") is follows
    assert proof(answer, "election.uncounted") is empty
    assert "election.joined" not in codes(answer)


@pytest.mark.parametrize("told", ["persist", "boot"])
def test_who_did_not_count_in_the_last_election_and_joined_since_counts_now(told: str) -> None:
    story = Story()
    story.begin()
    story(0, "vote", round=1, candidate=None, why="refused")
    story.votes(1)
    story.leads(1, 2, [1, 2])
    refused = story(0, "persist", what="epochs", accepted=2, current=1, joined=False, ms=1.0)
    follows = {"role": "FOLLOWING", "phase": "BROADCAST", "epoch": 2, "leader": 1, "why": "up_to_date", "text": "x"}
    story(0, "state", **follows)
    story.proposed(1, (2, 1), (0, 0), [0])
    assert "election.joined" not in codes(node(story, 0))
    assert proof(entry(story, (2, 1)), "voter.uncounted") is refused

    joined = (
        story(0, "persist", what="epochs", accepted=2, current=2, joined=True, ms=1.0)
        if told == "persist"
        else story.boot(0, epoch=2)
    )
    story(0, "state", **follows)
    answer = node(story, 0)
    assert codes(answer)[codes(answer).index("election.uncounted") + 1] == "election.joined"
    assert proof(answer, "election.joined") is joined
    assert proof(election(story), "election.joined") is joined
    assert "voter.uncounted" not in codes(entry(story, (2, 1)))


def test_an_election_that_goes_on_shows_cause_and_votes() -> None:
    story = raced()
    story(0, "vote", round=2, candidate=0, epoch=1, z=[1, 8], id=0, why="own")
    newest = story(1, "vote", round=2, candidate=1, epoch=1, z=[1, 8], id=1, why="own")
    answer = election(story)
    assert answer.answer == "electing"
    assert "node 0 looked for a leader: leader 2 is gone" in text(answer, "election.cause")
    assert text(answer, "election.unsupported") == (
        "nobody is elected: the votes are 0 for (1, 1.8, 0), 1 for (1, 1.8, 1), and 2 equal ones are needed"
    )
    assert proof(answer, "election.unsupported") is newest
    assert "node.crashed" in codes(answer), "of the former leader"


def test_a_leader_that_was_elected_and_not_yet_followed_is_unfinished() -> None:
    story = Story()
    story.boots()
    story.votes(1)
    state = story(
        1, "state", role="LEADING", phase="DISCOVERY", epoch=0, leader=1, why="elected", have=[0, 1], text="e"
    )
    answer = election(story)
    assert (answer.answer, proof(answer, "election.unfinished")) == ("elected", state)


def test_without_an_election_there_is_nothing_to_tell() -> None:
    story = Story()
    story(0, "note", text="x")
    story(0, "state", role="FOLLOWING", phase="BROADCAST", epoch=1, leader=2, why="up_to_date", text="up to date")
    assert (election(story).answer, codes(election(story))) == ("unknown", ["election.untold"])


# ---- all of them -------------------------------------------------------------------------------------------------


def test_every_sentence_has_been_heard_in_this_file() -> None:
    assert said == set(WORDS), set(WORDS) ^ said


def test_the_table_for_people_has_the_same_sentences() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| (.*) \| .* \|$", DOC, re.MULTILINE)
    assert rows == list(WORDS.items())


@pytest.mark.parametrize("seed", range(6))
def test_of_any_run_every_question_has_an_answer_whose_proofs_are_events_of_it(seed: int) -> None:
    events = trace_of(seed)
    names = {event.name for event in events}
    placed = sorted({zxid for event in events if event.k in ("propose", "recv") and (zxid := event.zxid())})
    for part in (len(events) // 3, 2 * len(events) // 3, len(events)):
        facts = reduce(events[:part])
        answers = [explain_election(facts), *(explain_node(facts, n) for n in range(3))]
        answers += [explain_entry(reduce(events[:part], z)) for z in placed[:: max(1, len(placed) // 12)]]
        for answer in answers:
            assert answer.clauses
            assert all(clause.proof is None or clause.proof.name in names for clause in answer.clauses), answer


def test_in_a_run_that_ended_well_every_applied_entry_is_explained_as_committed() -> None:
    events = trace_of(3)
    applied = {zxid for event in events if event.k == "apply" and (zxid := event.zxid())}
    for z in sorted(applied)[::7]:
        assert explain_entry(reduce(events, z)).answer == "committed", z
