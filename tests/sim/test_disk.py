"""The model of the disk: what survives which end of a process, and in which order things complete."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

import pytest

from zabzmq.core.history import Batch, EpochEnd, Epochs, SnapshotMark
from zabzmq.core.inputs import Durable, EpochsSaved, Input, Quiesced, SnapshotInstalled, SnapshotStaged, SnapshotTaken
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.sim.disk import Platter, SimDisk


class Bench:
    """A disk, its clock, and what it has told."""

    def __init__(self, seed: int = 0, platter: Platter | None = None) -> None:
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.heard: list[Input] = []
        self.platter = platter or Platter(1)
        self.disk = SimDisk(self.platter, Random(seed), self.later, self.heard.append, 1.0, 0.0)

    def later(self, delay: float, act: Callable[..., None], *about: object) -> None:
        heappush(self.heap, (self.now + delay, len(self.heap) + int(self.now * 1000), act, about))

    def pass_time(self, ms: float = 1000.0) -> None:
        until = self.now + ms
        while self.heap and self.heap[0][0] <= until:
            self.now, _, act, about = heappop(self.heap)
            act(*about)
        self.now = until


def batches(*firsts: int, epoch: int = 1) -> tuple[Batch, ...]:
    return tuple(Batch(Zxid(epoch, c), Zxid(epoch, c - 1) if c > 1 else ZERO, 1, 0, None, b"x") for c in firsts)


def test_writes_complete_in_order_and_a_burst_shares_one_sync() -> None:
    bench = Bench()
    bench.disk.append(0, batches(1))
    bench.disk.append(0, batches(2))
    bench.disk.append(0, batches(3))
    bench.disk.save_epochs(0, Epochs(1, 1, True))
    assert bench.platter.synced_last == ZERO
    bench.pass_time()
    assert bench.heard == [
        Durable(0, Zxid(1, 1)),
        Durable(0, Zxid(1, 2)),
        Durable(0, Zxid(1, 3)),
        EpochsSaved(0, Epochs(1, 1, True)),
    ]
    assert bench.disk.job == 3, "the first alone, the next two together, META"


def test_what_is_queued_can_be_read_and_is_not_synced() -> None:
    bench = Bench()
    bench.disk.append(0, batches(1, 2, 3))
    assert [b.last for b in bench.disk.batches(Zxid(1, 1), Zxid(1, 3), 1)] == [Zxid(1, 2)]
    assert not bench.platter.holds(Zxid(1, 1))
    assert list(bench.disk.batches(Zxid(9, 9), Zxid(9, 10), 1)) == []


@pytest.mark.parametrize("power", [True, False])
def test_a_crash_leaves_a_prefix_of_the_batch_in_flight(power: bool) -> None:
    ends = set()
    for seed in range(40):
        bench = Bench(seed)
        bench.disk.append(0, batches(1))
        bench.pass_time()
        bench.disk.append(0, batches(2, 3))
        bench.disk.crash(power)
        assert bench.platter.holds(Zxid(1, 1)), "what was synced stays"
        assert bench.platter.synced_last <= bench.platter.log.last
        ends.add((bench.platter.log.last, bench.platter.synced_last))
    lasts = {Zxid(1, 1), Zxid(1, 2), Zxid(1, 3)}
    assert {last for last, _ in ends} == lasts
    assert {synced for _, synced in ends} == (lasts if power else {Zxid(1, 1)})


def test_what_only_the_page_cache_holds_is_lost_with_the_power_unless_recovery_syncs_it() -> None:
    for seed in range(40):
        bench = Bench(seed)
        bench.disk.append(0, batches(1, 2))
        bench.disk.crash(power=False)
        if bench.platter.unsynced:
            break
    platter = bench.platter
    recovered = platter.log.last
    assert platter.synced_history().last == ZERO
    platter.recover()
    assert platter.synced_last == recovered
    platter.lose_power()
    assert platter.log.last == recovered


def test_meta_is_replaced_or_not() -> None:
    found = set()
    for seed in range(20):
        bench = Bench(seed)
        bench.disk.save_epochs(0, Epochs(5, 0, True))
        bench.disk.crash(power=True)
        found.add(bench.platter.epochs)
    assert found == {Epochs(0, 0, False), Epochs(5, 0, True)}


def test_a_truncation_that_breaks_off_leaves_a_longer_history_without_a_hole() -> None:
    found = set()
    for seed in range(60):
        bench = Bench(seed)
        bench.disk.append(0, batches(1, 2, 3, 4))
        bench.pass_time()
        bench.disk.truncate(0, Zxid(1, 1))
        bench.disk.crash(power=True)
        assert bench.platter.log.last == bench.platter.history.last
        found.add(bench.platter.log.last.counter)
    assert found == {1, 2, 3, 4}


def test_quiesce_waits_for_the_write_in_flight_and_discards_the_rest() -> None:
    bench = Bench()
    bench.disk.append(0, batches(1))
    bench.disk.append(0, batches(2))
    bench.disk.save_epochs(0, Epochs(7, 7, True))
    bench.disk.quiesce(1)
    assert bench.heard == []
    bench.pass_time()
    durable, quiesced = bench.heard
    assert durable == Durable(0, Zxid(1, 1))
    assert isinstance(quiesced, Quiesced)
    assert (quiesced.history.last, quiesced.epochs) == (Zxid(1, 1), Epochs(0, 0, False))
    assert list(bench.disk.batches(Zxid(1, 1), Zxid(1, 2), 99)) == [], "discarded for readers too"


def test_a_stalled_disk_completes_nothing_until_it_is_released() -> None:
    bench = Bench()
    bench.disk.stalled = True
    bench.disk.append(0, batches(1))
    bench.disk.quiesce(1)
    bench.pass_time()
    assert bench.heard == []
    bench.disk.release()
    assert [type(event) for event in bench.heard] == [Durable, Quiesced]


def test_a_received_snapshot_replaces_everything() -> None:
    bench = Bench()
    bench.disk.append(0, batches(1, 2))
    mark = SnapshotMark(Zxid(3, 4), (EpochEnd(1, 1), EpochEnd(3, 4)), ())
    bench.disk.stage_snapshot(0, 0, b"sta")
    bench.disk.stage_snapshot(0, 3, b"te")
    bench.disk.install_snapshot(0, mark, 5)
    bench.pass_time()
    assert bench.heard[-3:] == [SnapshotStaged(0, 3), SnapshotStaged(0, 5), SnapshotInstalled(0, Zxid(3, 4))]
    assert bench.disk.load_snapshot() == (Zxid(3, 4), b"state")
    assert bench.platter.history.base == bench.platter.history.last == Zxid(3, 4)
    assert not bench.platter.history.holds(Zxid(1, 2))


def test_own_snapshots_purge_the_log_before_the_older_of_two() -> None:
    bench = Bench()
    bench.disk.append(0, batches(*range(1, 10)))
    bench.pass_time()
    for counter in (3, 6, 8):
        bench.disk.take_snapshot(bench.platter.history.mark(Zxid(1, counter)), [b"a", b"b"])
        bench.pass_time()
    taken = [event for event in bench.heard if isinstance(event, SnapshotTaken)]
    assert taken == [
        SnapshotTaken(Zxid(1, 3), ZERO),
        SnapshotTaken(Zxid(1, 6), Zxid(1, 3)),
        SnapshotTaken(Zxid(1, 8), Zxid(1, 6)),
    ]
    assert list(bench.disk.batches(Zxid(1, 3), Zxid(1, 9), 99)) == [], "purged"
    assert [b.last.counter for b in bench.disk.batches(Zxid(1, 6), Zxid(1, 9), 9999)] == [7, 8, 9]


def test_a_snapshot_of_a_replaced_generation_is_dropped() -> None:
    bench = Bench()
    bench.disk.append(0, batches(1, 2, 3))
    bench.pass_time()
    bench.disk.take_snapshot(bench.platter.history.mark(Zxid(1, 2)), [b"old"])
    bench.disk.stage_snapshot(0, 0, b"new")
    bench.disk.install_snapshot(0, SnapshotMark(Zxid(1, 9), (EpochEnd(1, 9),), ()), 3)
    bench.pass_time()
    assert bench.disk.load_snapshot() == (Zxid(1, 9), b"new")


def test_recovery_repairs_an_epoch_left_behind_by_a_broken_synchronization() -> None:
    platter = Platter(1)
    platter.epochs = Epochs(4, 1, True)
    platter.append(Batch(Zxid(3, 1), ZERO, 1, 0, None, b""))
    platter.recover()
    assert (platter.epochs, platter.incarnation) == (Epochs(4, 3, True), 1)
