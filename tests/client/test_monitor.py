"""The commit stream: every transaction once and in order, whatever the publishers lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.client.fake import SERVE, SILENT, FakeCluster
from zabzmq.client.monitor import Event, Fetched, Gap, LeaderChange, LeaderLost, Monitor, Transaction
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import Delete, Deleted, Guess, Put, Refused, Register
from zabzmq.net.client_wire import Range


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as made:
        yield made


def monitor_of(cluster: FakeCluster, since: Zxid | None = None) -> Monitor:
    return Monitor(cluster.endpoints, cluster.publish_endpoints, cluster.cluster, since)


def until(monitor: Monitor, done: Callable[[list[Event]], bool]) -> list[Event]:
    """All events up to the first moment at which `done` holds; at most about ten seconds."""
    events: list[Event] = []
    for _ in range(100):
        events += monitor.pump(100.0)
        if done(events):
            return events
    raise AssertionError(f"never came: only {events}")


def seen(events: list[Event]) -> list[Zxid]:
    return [event.zxid for event in events if isinstance(event, Transaction)]


def count(wanted: int) -> Callable[[list[Event]], bool]:
    return lambda events: len(seen(events)) >= wanted


def settled(monitor: Monitor) -> None:
    """Pump until the stream knows where it begins."""
    until(monitor, lambda _: monitor.position is not None)


def assert_unbroken(events: list[Event], after: Zxid) -> None:
    for event in events:
        if isinstance(event, Transaction):
            assert event.prev == after
            after = event.zxid


def test_another_cluster_is_not_listened_to() -> None:
    with FakeCluster(cluster="other") as cluster:
        cluster.write(Put(b"k", b"v"))
        with Monitor(cluster.endpoints, cluster.publish_endpoints, "demo", ZERO) as monitor:
            until(monitor, lambda events: len(monitor.foreign) == len(cluster.endpoints))
            assert monitor.pump(1_300.0) == [], "long enough to have asked for what was missed"
            assert monitor.foreign[2] == "other" and not monitor.in_touch
            assert cluster.of(Range) == []


def test_from_the_beginning_everything_is_shown_once_and_in_order(cluster: FakeCluster) -> None:
    for i in range(20):
        cluster.write(Put(b"%d" % i, b"v"), Guess(i))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(41))
    assert_unbroken(events, ZERO)
    assert seen(events)[-1] == (1, 41)
    assert not [event for event in events if isinstance(event, Fetched)], "catching up is no hole"


def test_a_transaction_carries_name_operation_result_and_digest(cluster: FakeCluster) -> None:
    cluster.write(Delete(b"k"), Guess(3))
    with monitor_of(cluster, ZERO) as monitor:
        registered, deleted, guessed = (e for e in until(monitor, count(3)) if isinstance(e, Transaction))
    assert (registered.name, type(registered.operation)) == ("ann", Register)
    assert (deleted.name, deleted.operation, deleted.result) == ("ann", Delete(b"k"), Deleted(False))
    assert isinstance(guessed.result, Refused)
    assert (deleted.digest, guessed.digest) == (None, cluster.state.digest)


def test_it_begins_now_unless_told_otherwise(cluster: FakeCluster) -> None:
    cluster.write(Put(b"old", b"v"))
    with monitor_of(cluster) as monitor:
        settled(monitor)
        assert monitor.position == (1, 2)
        cluster.write(Put(b"new", b"v"))
        cluster.beat(0)
        events = until(monitor, count(1))
    assert seen(events) == [(1, 3)]


def test_it_may_begin_inside_a_batch(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"), Put(b"b", b"2"), Put(b"c", b"3"))
    with monitor_of(cluster, Zxid(1, 2)) as monitor:
        events = until(monitor, count(2))
    assert seen(events) == [(1, 3), (1, 4)]


def test_what_two_nodes_publish_is_shown_once(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        for i in range(10):
            cluster.write(Put(b"%d" % i, b"v"), published_by=(0, 1, 2))
        cluster.beat(0)
        events += until(monitor, count(10))
    assert_unbroken(events, ZERO)
    assert seen(events)[-1] == (1, 12)


def test_a_hole_is_filled_and_marked(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        cluster.beat(0)
        until_live(cluster, monitor, events)
        before = len(seen(events))
        cluster.write(Put(b"lost", b"1"), published_by=())
        cluster.write(Put(b"heard", b"1"))
        events += until(monitor, count(2))
    assert_unbroken(events, ZERO)
    assert len(seen(events)) == before + 2
    fetched = [event for event in events if isinstance(event, Fetched)]
    assert [(f.first, f.last >= f.first) for f in fetched][-1:] == [(seen(events)[before], True)]


def until_live(cluster: FakeCluster, monitor: Monitor, events: list[Event]) -> None:
    """Until what is published arrives: a subscription takes a moment to reach its publisher."""
    for i in range(100):
        asked = len(cluster.of(Range))
        cluster.write(Put(b"probe", b"%d" % i))
        events += until(monitor, count(1))
        cluster.beat(0)
        events += monitor.pump(60.0)
        if len(cluster.of(Range)) == asked:
            return
    raise AssertionError("nothing that is published arrives")


def test_a_leader_that_dies_before_publishing_is_noticed_by_heartbeats(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        until_live(cluster, monitor, events)
        before = len(seen(events))
        cluster.write(Put(b"last words", b"1"), published_by=())
        cluster.kill(0)
        cluster.lead(None)
        cluster.beat(1)
        events += until(monitor, count(1))
    assert_unbroken(events, ZERO)
    assert len(seen(events)) == before + 1


def test_with_all_publishers_silent_the_stream_goes_on(cluster: FakeCluster) -> None:
    cluster.do(lambda: setattr(cluster, "publishing", False))
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        cluster.write(Put(b"b", b"1"))
        events += until(monitor, count(1))
    assert_unbroken(events, ZERO)


def test_a_node_that_does_not_answer_is_left_for_another(cluster: FakeCluster) -> None:
    cluster.behave(lambda node, request: SILENT if isinstance(request, Range) and node == 1 else SERVE)
    for i in range(9):
        cluster.write(Put(b"%d" % i, b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(10))
    assert_unbroken(events, ZERO)


def test_the_stream_crosses_changes_of_leader(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        until_live(cluster, monitor, events)
        cluster.kill(0)
        cluster.lead(1)
        cluster.write(Put(b"b", b"1"), Put(b"c", b"1"))
        cluster.beat(1)
        events += until(monitor, lambda e: any(isinstance(x, LeaderChange) for x in e) and count(2)(e))
    assert_unbroken(events, ZERO)
    assert seen(events)[-2:] == [(2, 1), (2, 2)]
    changes = [event for event in events if isinstance(event, LeaderChange)]
    assert [(c.leader, c.epoch, c.former) for c in changes] == [(0, 1, None), (1, 2, 0)]


def test_a_leader_that_falls_silent_is_called_lost(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        until_live(cluster, monitor, events)
        events = until(monitor, lambda e: any(isinstance(x, LeaderLost) for x in e))
        assert LeaderLost(0) in events
        cluster.lead(2)
        cluster.beat(2)
        change = until(monitor, lambda e: any(isinstance(x, LeaderChange) for x in e))[-1]
        assert isinstance(change, LeaderChange) and (change.leader, change.former) == (2, 0)
        assert change.ms is not None and change.ms >= 1000


def test_a_purged_range_is_a_marked_gap_and_the_stream_goes_on(cluster: FakeCluster) -> None:
    for i in range(6):
        cluster.write(Put(b"%d" % i, b"v"))
    cluster.do(lambda: setattr(cluster, "purged", Zxid(1, 4)))
    with monitor_of(cluster, Zxid(1, 1)) as monitor:
        events = until(monitor, count(3))
    assert events[0] == Gap(Zxid(1, 1), Zxid(1, 4))
    assert_unbroken(events, Zxid(1, 4))


def test_garbage_on_the_wire_is_counted_and_not_shown(cluster: FakeCluster) -> None:
    cluster.write(Put(b"a", b"1"))
    with monitor_of(cluster, ZERO) as monitor:
        events = until(monitor, count(2))
        until_live(cluster, monitor, events)
        junk = [
            [b"tx"],
            [b"tx", b""],
            [b"tx", b"ZC1\xff"],
            [b"hb", b"x"],
            [b"hb"],
            [b"tx", b"no\x90"],
            [b"tx", b"a", b"b"],
        ]
        for frames in junk:
            cluster.do(lambda frames=frames: cluster.publish_frames(0, frames))  # type: ignore[misc]
        cluster.write(Put(b"b", b"1"))
        events += until(monitor, count(1))
        assert monitor.dropped == len(junk)
    assert_unbroken(events, ZERO)
