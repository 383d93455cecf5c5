"""A link is FIFO or lost; what is not of the current link, or not for this very process, is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zabzmq.core.zxid import LinkId, PeerId, ProcessId
from zabzmq.net.link import ACCEPT, LIVES_KEPT, REASONS, Links, Outgoing, Verdict

LEADER = ProcessId(PeerId(0), life=10, incarnation=100)
LEARNER = ProcessId(PeerId(1), life=20, incarnation=200)
LEARNER_AGAIN = LEARNER._replace(incarnation=201)
LEARNER_WIPED = ProcessId(PeerId(1), life=21, incarnation=150)
FIRST = LinkId(LEARNER, 1)
SECOND = LinkId(LEARNER, 2)


def hear(links: Links, link: LinkId, seq: int, source: ProcessId | None = None, *, ends: bool = False) -> Verdict:
    """A message of this link, addressed to this process, from its learner unless said otherwise."""
    return links.incoming(link, seq, source or link.learner, links.me.peer, links.me.incarnation, ends=ends)


def leader_of(link: LinkId, messages: int = 1) -> Links:
    links = Links(LEADER)
    for seq in range(1, messages + 1):
        assert hear(links, link, seq) == ACCEPT
    return links


def learner_of(link: LinkId, messages: int = 0) -> Links:
    links = Links(link.learner)
    links.opened(link, LEADER.peer)
    for seq in range(1, messages + 1):
        assert hear(links, link, seq, LEADER) == ACCEPT
    return links


# ---- numbers -----------------------------------------------------------------------------------------------------


def test_numbers_count_from_one_in_each_direction() -> None:
    links = leader_of(FIRST, messages=3)
    assert [links.outgoing(FIRST) for _ in range(2)] == [Outgoing(1, PeerId(1), 200), Outgoing(2, PeerId(1), 200)]
    assert hear(links, FIRST, 4) == ACCEPT


def test_a_learner_does_not_know_the_leaders_incarnation_before_it_has_spoken() -> None:
    links = learner_of(FIRST)
    assert links.outgoing(FIRST) == Outgoing(1, PeerId(0), 0)
    assert hear(links, FIRST, 1, LEADER) == ACCEPT
    assert links.outgoing(FIRST) == Outgoing(2, PeerId(0), 100)


@pytest.mark.parametrize("seq", [1, 3, 5, 2**64 - 1], ids=["first again", "repeat", "gap", "far off"])
def test_a_leader_loses_a_link_at_a_gap_or_repeat(seq: int) -> None:
    links = leader_of(FIRST, messages=3)
    verdict = hear(links, FIRST, seq)
    assert (verdict.reason, verdict.lost, verdict.tell_closed) == ("gap", ((FIRST, f"message {seq} after 3"),), True)
    assert not links.is_open(FIRST)
    assert links.outgoing(FIRST) is None


@pytest.mark.parametrize("seq", [1, 3, 0])
def test_a_learner_loses_a_link_at_a_gap_or_repeat(seq: int) -> None:
    links = learner_of(FIRST, messages=1)
    verdict = hear(links, FIRST, seq, LEADER)
    assert (verdict.reason, [link for link, _ in verdict.lost]) == ("gap", [FIRST])
    assert not links.is_open(FIRST)


def test_nothing_is_accepted_after_a_gap_not_even_the_message_that_was_missing() -> None:
    links = leader_of(FIRST, messages=1)
    hear(links, FIRST, 3)
    for seq in (2, 3, 4, 1):
        assert hear(links, FIRST, seq) == Verdict("closed", tell_closed=True)


def test_a_link_does_not_begin_in_the_middle() -> None:
    links = Links(LEADER)
    for seq in (0, 2, 3032):
        assert hear(links, FIRST, seq) == Verdict("gap", tell_closed=True)
    assert hear(links, FIRST, 1) == ACCEPT


# ---- after the close (T6) ----------------------------------------------------------------------------------------


def test_a_closed_link_discards_everything_at_the_leader() -> None:
    links = leader_of(FIRST, messages=2)
    assert links.closed(FIRST)
    assert not links.closed(FIRST)
    assert hear(links, FIRST, 3) == Verdict("closed", tell_closed=True)
    assert hear(links, FIRST, 1) == Verdict("closed", tell_closed=True)


def test_a_closed_link_discards_everything_at_the_learner() -> None:
    links = learner_of(FIRST, messages=2)
    links.closed(FIRST)
    assert hear(links, FIRST, 3, LEADER) == Verdict("closed")


@pytest.mark.parametrize("seq", [0, 2, 9])
def test_the_other_ends_last_word_ends_a_link_whatever_was_lost_before_it(seq: int) -> None:
    for links, source in ((leader_of(FIRST), LEARNER), (learner_of(FIRST, 1), LEADER)):
        verdict = hear(links, FIRST, seq, source, ends=True)
        assert verdict == Verdict("ended", ((FIRST, f"closed by peer {source.peer}"),))
        assert not links.is_open(FIRST)


def test_two_ends_do_not_tell_each_other_for_ever() -> None:
    links = leader_of(FIRST)
    links.closed(FIRST)
    assert not hear(links, FIRST, 0, ends=True).tell_closed
    assert not hear(Links(LEADER), FIRST, 0, ends=True).tell_closed


# ---- the current link (T2) ---------------------------------------------------------------------------------------


def test_a_later_link_of_one_process_replaces_the_earlier() -> None:
    links = leader_of(FIRST)
    assert hear(links, SECOND, 1) == Verdict(None, ((FIRST, f"replaced by {SECOND}"),))
    assert hear(links, FIRST, 2).reason == "closed"
    assert hear(links, SECOND, 2) == ACCEPT


def test_current_is_the_greatest_number_not_the_latest_to_arrive() -> None:
    links = leader_of(SECOND)
    assert hear(links, FIRST, 1) == Verdict("closed", tell_closed=True)
    assert hear(links, SECOND, 2) == ACCEPT


def test_a_restarted_learner_starts_its_links_anew() -> None:
    links = leader_of(LinkId(LEARNER, 7))
    new = LinkId(LEARNER_AGAIN, 1)
    verdict = hear(links, new, 1)
    assert verdict.reason is None
    assert [link for link, _ in verdict.lost] == [LinkId(LEARNER, 7)]
    assert links.outgoing(new) == Outgoing(1, PeerId(1), 201)


def test_messages_of_an_earlier_incarnation_are_stale() -> None:
    links = leader_of(LinkId(LEARNER_AGAIN, 1))
    assert hear(links, FIRST, 1) == Verdict("stale")
    assert links.heard(LEARNER) == Verdict("stale")
    assert links.heard(LEARNER, newer=True) == Verdict("stale")
    assert links.is_open(LinkId(LEARNER_AGAIN, 1))


def test_links_of_two_learners_do_not_touch_each_other() -> None:
    links = leader_of(FIRST)
    other = LinkId(ProcessId(PeerId(2), 30, 300), 1)
    assert hear(links, other, 1) == ACCEPT
    assert hear(links, other, 7).lost[0][0] == other
    assert hear(links, FIRST, 2) == ACCEPT


# ---- for whom, from whom (T1) ------------------------------------------------------------------------------------


def test_what_was_queued_for_the_process_before_is_dropped() -> None:
    """Bug 42: the next process on an address was handed messages 3032 to 20000 of its predecessor."""
    links = Links(LEADER)
    for seq in (1, 3032):
        assert links.incoming(FIRST, seq, LEARNER, PeerId(0), 99) == Verdict("address")
    assert links.open_links == []


def test_what_is_addressed_to_another_peer_is_dropped() -> None:
    assert Links(LEADER).incoming(FIRST, 1, LEARNER, PeerId(2), 100) == Verdict("address")


def test_a_leader_that_is_not_known_yet_may_be_addressed_by_zero() -> None:
    assert Links(LEADER).incoming(FIRST, 1, LEARNER, PeerId(0), 0) == ACCEPT


def test_a_learner_is_known_to_its_leader_and_never_addressed_by_zero() -> None:
    links = learner_of(FIRST)
    assert links.incoming(FIRST, 1, LEADER, PeerId(1), 0) == Verdict("address")


def test_only_its_learner_speaks_on_a_link() -> None:
    links = leader_of(FIRST)
    assert hear(links, FIRST, 2, ProcessId(PeerId(2), 1, 1)) == Verdict("stranger")
    assert hear(links, FIRST, 2, LEARNER_AGAIN) == Verdict("stranger")
    assert hear(links, FIRST, 2) == ACCEPT


def test_a_process_of_our_own_id_is_a_stranger() -> None:
    links = Links(LEADER)
    twin = LEADER._replace(life=11)
    assert links.heard(twin, newer=True) == Verdict("stranger")
    assert hear(links, LinkId(twin, 1), 1) == Verdict("stranger")


def test_a_link_of_our_own_process_before_is_not_ours() -> None:
    links = Links(LEARNER_AGAIN)
    assert links.incoming(FIRST, 1, LEADER, PeerId(1), 201) == Verdict("stranger")
    assert links.incoming(FIRST, 1, LEADER, PeerId(1), 200) == Verdict("address")


def test_a_link_is_lost_when_another_peer_answers_on_it() -> None:
    verdict = hear(learner_of(FIRST), FIRST, 1, ProcessId(PeerId(2), 30, 300))
    assert (verdict.reason, verdict.lost[0][0]) == ("stranger", FIRST)


def test_a_link_is_lost_when_another_process_of_the_leader_goes_on() -> None:
    verdict = hear(learner_of(FIRST, 1), FIRST, 2, LEADER._replace(incarnation=101))
    assert (verdict.reason, verdict.lost[0][0]) == ("stale", FIRST)


def test_a_link_is_lost_when_an_older_process_answers_than_was_heard() -> None:
    links = learner_of(FIRST)
    links.heard(LEADER._replace(incarnation=101))
    verdict = hear(links, FIRST, 1, LEADER)
    assert (verdict.reason, verdict.lost[0][0]) == ("stale", FIRST)


# ---- processes of one peer ---------------------------------------------------------------------------------------


def test_a_new_process_ends_the_links_of_the_one_before() -> None:
    for links, restarted in (
        (leader_of(FIRST), LEARNER_AGAIN),
        (learner_of(FIRST, 1), LEADER._replace(incarnation=101)),
    ):
        assert [link for link, _ in links.heard(restarted).lost] == [FIRST]
        assert not links.is_open(FIRST)
        assert links.process(restarted.peer) == restarted


def test_a_wiped_peer_replaces_its_former_life_though_its_incarnation_is_smaller() -> None:
    links = leader_of(FIRST)
    assert LEARNER_WIPED.incarnation < LEARNER.incarnation
    assert [link for link, _ in links.heard(LEARNER_WIPED).lost] == [FIRST]
    assert links.heard(LEARNER) == Verdict("stale")
    assert hear(links, SECOND, 1) == Verdict("stale")
    assert hear(links, LinkId(LEARNER_WIPED, 1), 1) == ACCEPT


def test_a_life_wrongly_taken_for_superseded_is_mended_by_its_publisher() -> None:
    """Messages of a dead process may be read after those of its successor, when this process had slept."""
    links = Links(LEADER)
    links.heard(LEARNER_WIPED)
    links.heard(LEARNER)  # read late, from another connection
    assert links.heard(LEARNER_WIPED) == Verdict("stale")
    assert links.heard(LEARNER_WIPED, newer=True) == ACCEPT
    assert links.heard(LEARNER_WIPED) == ACCEPT
    assert links.heard(LEARNER) == Verdict("stale")


def test_few_superseded_lives_are_remembered() -> None:
    links = Links(LEADER)
    for life in range(1000):
        links.heard(ProcessId(PeerId(1), life, 1))
    assert len(links._superseded[PeerId(1)]) == LIVES_KEPT


# ---- any schedule ------------------------------------------------------------------------------------------------

PROCESSES = [LEARNER, LEARNER_AGAIN, LEARNER_WIPED, LEADER, ProcessId(PeerId(2), 30, 300)]
ARRIVALS = st.tuples(
    st.sampled_from(PROCESSES),
    st.integers(1, 3),
    st.integers(0, 4),
    st.sampled_from([0, 100, 99]),
    st.booleans(),
)


@given(st.lists(ARRIVALS, max_size=60))
def test_whatever_arrives_a_link_hands_on_a_prefix_of_one_two_three(
    arrivals: list[tuple[ProcessId, int, int, int, bool]],
) -> None:
    links = Links(LEADER)
    accepted: dict[LinkId, list[int]] = {}
    over: set[LinkId] = set()
    for source, number, seq, incarnation, ends in arrivals:
        link = LinkId(source, number)
        verdict = links.incoming(link, seq, source, PeerId(0), incarnation, ends=ends)
        over.update(lost for lost, _ in verdict.lost)
        if verdict.reason is None:
            assert incarnation in (0, 100)
            assert link not in over, "nothing after the close"
            accepted.setdefault(link, []).append(seq)
        else:
            assert verdict.reason in REASONS
        current = [link.learner.peer for link in links.open_links]
        assert len(current) == len(set(current)), "one link of each learner"
    for seqs in accepted.values():
        assert seqs == list(range(1, len(seqs) + 1))
