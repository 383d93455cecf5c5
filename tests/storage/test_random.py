"""Random orders, with the real threads: what is read is always what was asked for, and what is found is what was told.

Unlike the simulator's, these runs are not replayed exactly by their seed: which appends share a sync, and what a
quiesce still catches, is up to the threads. The checks hold for every outcome.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.storage.directory import FOREVER, Directory, chain, history_of
from zabzmq.core.history import Batch, Epochs
from zabzmq.core.inputs import Durable, EpochsSaved, Quiesced, SnapshotInstalled, SnapshotStaged
from zabzmq.core.zxid import ZERO, Zxid


class Run:
    """One store, and what the loop believes of it."""

    def __init__(self, path: Path, seed: int) -> None:
        self.dice = Random(seed)
        self.node = Directory(path / "node-0", segment_bytes=1500, cache_bytes=self.dice.choice([0, 3000, 1 << 20]))
        self.node.store.save_epochs(0, Epochs(999, 0, True))
        self.node.restart()
        self.path = path
        self.role = 0
        self.epoch = 1
        self.view: list[Batch] = []  # with what is queued
        self.snapshot = ZERO
        self.base = ZERO

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.dice.choices(
                [self.append, self.truncate, self.quiesce, self.take, self.install, self.restart, self.hear],
                [40, 6, 8, 8, 3, 3, 10],
            )[0]
            step()
            self.check_reads()
        self.restart()

    @property
    def last(self) -> Zxid:
        return self.view[-1].last if self.view else ZERO

    def append(self) -> None:
        n, count, size = self.dice.randint(1, 6), self.dice.randint(1, 3), self.dice.randint(20, 400)
        some = chain(self.epoch, n, self.last, count, size)
        self.node.store.append(self.role, tuple(some))
        self.view += some

    def truncate(self) -> None:
        low = sum(one.last <= max(self.snapshot, self.base) for one in self.view)
        kept = self.dice.randint(low, len(self.view))
        to = self.view[kept - 1].last if kept else ZERO
        self.node.store.truncate(self.role, to)
        del self.view[kept:]
        self.epoch += 1

    def quiesce(self) -> None:
        self.role += 1
        before = {batch.last: at for at, batch in enumerate(self.view)}
        self.node.store.quiesce(self.role)
        told = self.node.wait(Quiesced, lambda event: event.role == self.role).history
        if told.last in before or told.last == ZERO:
            del self.view[before.get(told.last, -1) + 1 :]
        else:  # A truncation or an install was discarded: start again from what is there.
            self.view = [*self.known(told.base), *self.node.store.batches(told.base, FOREVER, 1 << 30)]
        assert self.last == told.last
        assert (told.ends, told.admits) == (history_of(self.view).ends, [])
        self.snapshot, self.base = told.snapshot, told.base
        self.epoch += 1

    def known(self, upto: Zxid) -> list[Batch]:
        return [one for one in self.view if one.last <= upto]

    def take(self) -> None:
        self.told()
        done = [one.last for one in self.view if self.snapshot < one.last]
        if done:
            zxid = self.dice.choice(done)
            taken = self.node.take(history_of(self.view).mark(zxid), f"state at {zxid}".encode())
            assert taken.zxid == zxid
            self.snapshot, self.base = taken

    def told(self) -> Zxid:
        """Wait until all that is queued is done: META is written in the same queue (D1)."""
        self.node.store.save_epochs(self.role, self.node.store.epochs)
        self.node.wait(EpochsSaved)
        return self.last

    def install(self) -> None:
        """A snapshot beyond our log, from a node that continued it."""
        self.told()
        self.epoch += 1
        new = [*self.view, *chain(self.epoch, 3, self.last)]
        other = Directory(self.path / f"other-{self.epoch}", promised=False)
        other.append(*new)
        mark = history_of(new).mark(new[-1].last)
        other.take(mark, f"state at {new[-1].last}".encode())
        size, image = other.stream(mark, 1 << 20)
        other.store.close()
        self.node.store.stage_snapshot(self.role, 0, image)
        self.node.store.install_snapshot(self.role, mark, size)
        self.node.wait(SnapshotStaged)
        assert self.node.wait(SnapshotInstalled).zxid == new[-1].last
        self.view = new
        self.snapshot = self.base = new[-1].last

    def restart(self) -> None:
        store = self.node.restart()
        assert store.history.last == self.last
        assert store.history.snapshot == self.snapshot and store.history.base >= self.base
        assert store.history.ends == history_of(self.view).ends
        assert store.load_snapshot()[0] == self.snapshot
        self.base = store.history.base
        self.role = 0

    def hear(self) -> None:
        for event in self.node.store.drain():
            assert isinstance(event, Durable), "all others were waited for"

    def check_reads(self) -> None:
        held = [one for one in self.view if one.prev >= self.base]
        if held:
            low = self.dice.randrange(len(held))
            high = self.dice.randrange(low, len(held))
            found: list[Batch] = []
            while not found or found[-1].last < held[high].last:
                after = found[-1].last if found else held[low].prev
                some = self.node.store.batches(after, held[high].last, self.dice.choice([1, 1000, 1 << 20]))
                assert some, f"nothing of ({after}, {held[high].last}]"
                found += some
            assert found == held[low : high + 1]
        assert not self.node.fatal and not self.node.warnings


@pytest.mark.parametrize("seed", range(40))
def test_random_orders_are_carried_out_as_they_were_given(tmp_path: Path, seed: int) -> None:
    run = Run(tmp_path, seed)
    run.run(60)
    run.node.store.close()
