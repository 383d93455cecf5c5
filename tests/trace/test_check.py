"""Each promise that events show kept or broken: a broken one is named, with the two events that contradict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.trace.made import Story
from tests.trace.simulated import trace_of
from zabzmq.trace import books, check
from zabzmq.trace.check import CHECKS, Violation, checked
from zabzmq.trace.reading import Event


def broken(story: Story) -> list[Violation]:
    return checked(story.events).violations


def told(violation: Violation) -> list[tuple[int, str]]:
    return [(event.n, event.k) for event in violation.events]


def one_write(story: Story) -> None:
    story.begin()
    story.proposed(2, (1, 1), (0, 0), [0, 1])
    story.received(0, 2, (1, 1))
    story.copied(2, 2, (1, 1), [2])
    story.copied(0, 2, (1, 1), [0, 2])
    story.committed(2, (1, 1), [0, 2])
    story.applied(2, (1, 1))
    story(2, "client", what="ok", z0=[1, 1], z=[1, 1], count=1)


def test_a_right_story_is_judged_right_in_every_respect_it_touches() -> None:
    story = Story()
    one_write(story)
    checker = checked(story.events)
    assert checker.violations == []
    touched = {name for name, count in checker.counts.items() if count}
    assert {check.ONE_LEADER, check.ACK_AFTER_PERSIST, check.QUORUM_OF_ACKS, check.CLIENT_ACKS} <= touched


# ---- one story for each promise that is broken -------------------------------------------------------------------


def two_leaders(story: Story) -> None:
    story.begin()
    story.leads(1, 1, [0, 1])


def two_promises(story: Story) -> None:
    story.boots()
    story(0, "persist", what="epochs", accepted=4, current=0)
    story(0, "send", type="ACKEPOCH", to=1, mid="a", epoch=4, counted=True)
    story(0, "send", type="ACKEPOCH", to=2, mid="b", epoch=4, counted=True)


def promises_heard_by_two_processes_of_one_node(story: Story) -> None:
    for _ in range(2):
        story.boot(1)
        story(1, "recv", type="ACKEPOCH", mid="a", epoch=4, counted=True, source=0)


def epoch_goes_back(story: Story) -> None:
    story.boots()
    story(0, "persist", what="epochs", accepted=5, current=4)
    story.boot(0, epoch=4)


def proposal_leaves_a_gap(story: Story) -> None:
    story.begin()
    story(2, "propose", z0=[1, 1], z=[1, 2], count=2, prev=[0, 0])
    story(2, "propose", z0=[1, 4], z=[1, 4], count=1, prev=[1, 2])


def applied_out_of_order(story: Story) -> None:
    story.boot(0)
    story(0, "persist", z=[1, 9], ms=1)
    story(0, "commit", z=[1, 9], epoch=1, by="COMMIT")
    for counter in (1, 3):
        story.applied(0, (1, counter))


def acked_before_the_disk_has_it(story: Story) -> None:
    story.begin()
    story.received(0, 2, (1, 1))
    story(0, "send", type="ACK", to=2, mid="x", epoch=1, z=[1, 1])


def promised_before_the_disk_has_it(story: Story) -> None:
    story.boots()
    story(0, "send", type="ACKEPOCH", to=1, mid="a", epoch=1, counted=True)


def began_an_epoch_without_its_history(story: Story) -> None:
    story.boots()
    story(0, "recv", type="NEWLEADER", mid="a", epoch=2, z=[1, 7], source=2)
    story(0, "persist", what="epochs", accepted=2, current=2)


def committed_by_too_few(story: Story) -> None:
    story.begin()
    story.committed(2, (1, 1), [2])


def committed_by_no_majority(story: Story) -> None:
    story.begin()
    story(2, "commit", z=[1, 1], epoch=1, have=[2], need=1)


def committed_without_an_ack(story: Story) -> None:
    story.begin()
    story.proposed(2, (1, 1), (0, 0), [0, 1])
    story.copied(2, 2, (1, 1), [2])
    story.committed(2, (1, 1), [0, 2])


def applied_what_its_disk_lacks(story: Story) -> None:
    story.boot(0)
    story(0, "commit", z=[1, 1], epoch=1, by="COMMIT")
    story.applied(0, (1, 1))


def histories_part(story: Story) -> None:
    for n, end in ((0, 1), (1, 2)):
        story.boot(n, z=(9, 9))
        for counter in range(1, end + 1):
            story.applied(n, (1, counter))
        story.applied(n, (2, 1))


def one_goes_on_where_another_left(story: Story) -> None:
    for n, zxids in ((0, [(1, 1), (2, 1)]), (1, [(1, 1), (1, 2)])):
        story.boot(n, z=(9, 9))
        for z in zxids:
            story.applied(n, z)


def next_epoch_lacks_a_commit(story: Story) -> None:
    one_write(story)
    story.leads(1, 2, [0, 1], z=(0, 0))


def next_epoch_lacks_a_commit_of_which_was_heard_later(story: Story) -> None:
    story.begin()
    story.leads(1, 2, [0, 1], z=(0, 0))
    story(0, "commit", z=[1, 3], epoch=1, by="COMMIT")


def commit_lost_two_epochs_later(story: Story) -> None:
    one_write(story)
    story(1, "propose", z0=[2, 1], z=[2, 1], count=1, prev=[0, 0])
    story.leads(0, 3, [0, 1], z=(2, 1))


def truncated_what_it_knew_to_be_committed(story: Story) -> None:
    story.boot(0, z=(1, 5))
    story(0, "commit", z=[1, 5], epoch=1, by="COMMIT")
    story(0, "truncate", z=[1, 4], was=[1, 5])


def states_differ(story: Story) -> None:
    for n, digest in ((0, "aa"), (1, "bb")):
        story.boot(n, z=(1, 1))
        story.applied(n, (1, 1), digest)


def told_before_it_was_applied(story: Story) -> None:
    story.begin()
    story(2, "client", what="ok", z0=[1, 1], z=[1, 1], count=1)


def heard_before_it_was_sent(story: Story) -> None:
    sent = story(0, "send", type="ACK", to=1, mid="m", epoch=1, z=[0, 0])
    heard = story(1, "recv", type="ACK", mid="m", epoch=1, z=[0, 0], source=0)
    story.events[-1] = heard._replace(lc=sent.lc)


def a_node_says_so(story: Story) -> None:
    story.boot(0)
    story(0, "invariant", name="same state at same zxid", ok=False, text="differs at 3.7")


BREAKS: list[tuple[str, Callable[[Story], None], list[tuple[int, str]]]] = [
    (check.ONE_LEADER, two_leaders, [(2, "state"), (1, "state")]),
    (check.ONE_PROMISE, two_promises, [(0, "send"), (0, "send")]),
    (check.ONE_PROMISE, promises_heard_by_two_processes_of_one_node, [(1, "recv"), (1, "recv")]),
    (check.EPOCHS_GROW, epoch_goes_back, [(0, "persist"), (0, "boot")]),
    (check.ZXID_ORDER, proposal_leaves_a_gap, [(2, "propose"), (2, "propose")]),
    (check.ZXID_ORDER, applied_out_of_order, [(0, "apply"), (0, "apply")]),
    (check.ACK_AFTER_PERSIST, acked_before_the_disk_has_it, [(0, "boot"), (0, "send")]),
    (check.ACK_AFTER_PERSIST, promised_before_the_disk_has_it, [(0, "boot"), (0, "send")]),
    (check.EPOCH_AFTER_HISTORY, began_an_epoch_without_its_history, [(0, "recv"), (0, "persist")]),
    (check.QUORUM_OF_ACKS, committed_by_too_few, [(2, "commit")]),
    (check.QUORUM_OF_ACKS, committed_by_no_majority, [(2, "commit")]),
    (check.QUORUM_OF_ACKS, committed_without_an_ack, [(2, "commit")]),
    (check.APPLIED, applied_what_its_disk_lacks, [(0, "boot"), (0, "apply")]),
    (check.COMMITTED_PREFIX, histories_part, [(0, "apply"), (1, "apply")]),
    (check.COMMITTED_PREFIX, one_goes_on_where_another_left, [(0, "apply"), (1, "apply")]),
    (check.NO_LOST_COMMIT, next_epoch_lacks_a_commit, [(2, "commit"), (1, "send")]),
    (check.NO_LOST_COMMIT, next_epoch_lacks_a_commit_of_which_was_heard_later, [(0, "commit"), (1, "send")]),
    (check.NO_LOST_COMMIT, commit_lost_two_epochs_later, [(2, "commit"), (1, "propose")]),
    (check.NO_LOST_COMMIT, truncated_what_it_knew_to_be_committed, [(0, "commit"), (0, "truncate")]),
    (check.SAME_STATE, states_differ, [(0, "apply"), (1, "apply")]),
    (check.CLIENT_ACKS, told_before_it_was_applied, [(2, "client")]),
    (check.RECV_AFTER_SEND, heard_before_it_was_sent, [(0, "send"), (1, "recv")]),
    (check.NODES_SAY, a_node_says_so, [(0, "invariant")]),
]


@pytest.mark.parametrize(("name", "tell", "events"), BREAKS, ids=[tell.__name__ for _, tell, _ in BREAKS])
def test_a_broken_promise_is_named_with_the_events_that_contradict(
    name: str, tell: Callable[[Story], None], events: list[tuple[int, str]]
) -> None:
    story = Story()
    tell(story)
    found = broken(story)
    assert [violation.check for violation in found][:1] == [name], found
    assert told(found[0]) == events


def test_every_check_has_a_story_that_breaks_it() -> None:
    assert {name for name, _, _ in BREAKS} == set(CHECKS)


# ---- what is not known is not judged -----------------------------------------------------------------------------


def test_after_lost_lines_nothing_is_concluded_from_what_was_before() -> None:
    story = Story()
    story.begin()
    story.proposed(2, (1, 1), (0, 0), [0])
    story.lose(2, 3)  # among them how it wrote the batch, and the acks
    story.committed(2, (1, 1), [0, 2])
    story.lose(0, 2)
    story(0, "send", type="ACK", to=2, mid="x", epoch=1, z=[1, 1])
    assert broken(story) == []


def test_a_message_whose_sender_lost_the_line_is_no_violation() -> None:
    story = Story()
    story.boots()
    story.received(0, 2, (1, 1))
    assert broken(story) == []


def test_a_node_that_lost_its_disk_begins_anew() -> None:
    story = Story()
    story.boot(0, epoch=4)
    story.boot(0, epoch=0)
    assert broken(story) == []


def test_a_tail_that_no_leader_took_over_may_be_truncated() -> None:
    story = Story()
    one_write(story)
    story.proposed(2, (1, 2), (1, 1), [])
    story(2, "persist", z=[1, 2], ms=1)
    story.leads(1, 2, [0, 1], z=(1, 1))
    story(2, "truncate", z=[1, 1], was=[1, 2])
    assert broken(story) == []


def test_nodes_of_which_there_is_no_event_are_named() -> None:
    story = Story()
    story.boot(1)
    assert checked(story.events).missing == [0, 2]


def test_many_violations_are_counted_and_a_hundred_are_kept() -> None:
    story = Story()
    for _ in range(150):
        a_node_says_so(story)
    checker = checked(story.events)
    assert (checker.violation_count, len(checker.violations)) == (150, 100)


# ---- traces of the real core -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8])
def test_what_simulated_nodes_tell_keeps_every_promise(seed: int) -> None:
    checker = checked(trace_of(seed))
    assert checker.violations == []
    assert checker.counts[check.RECV_AFTER_SEND] > 100


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_told_of_a_rush_keeps_every_promise(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "RUSH_BURST", 0.0)
    events = trace_of(seed, watched=False)
    checker = checked(events)
    assert checker.violations == []
    passed = sum(event.get("steps") for event in events if event.get("what") == "rush")
    assert passed > 100
    moves = [event.raw for event in events if event.k in ("state", "truncate", "snap", "vote")]
    assert len(moves) == sum(event.k in ("state", "truncate", "snap", "vote") for event in trace_of(seed))


def test_two_runs_of_one_seed_tell_the_same() -> None:
    def plain(events: list[Event]) -> list[bytes]:
        return [event.raw for event in events]

    assert plain(trace_of(4)) == plain(trace_of(4))
