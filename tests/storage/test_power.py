"""Power cuts: at every single change of the disk, nothing that was acknowledged is lost, and no directory is refused.

One script runs through everything a store does. It is cut at its first change, its second, and so on to its last;
what may be left of the disk then is recovered, and compared with what the script had been told was durable.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.storage.directory import Directory, PowerCut, PowerFiles, QuickFiles, admit, chain, history_of
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch, Epochs, History
from zabzmq.core.inputs import Durable as DurableInput
from zabzmq.core.inputs import EpochsSaved, SnapshotInstalled, SnapshotStaged
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.storage.files import Files
from zabzmq.storage.store import Store

OLD = chain(1, 12, size=150)
TAIL = chain(1, 4, OLD[-1].last, size=150)
NEW = chain(2, 6, OLD[7].last, size=150)
AFTER = chain(3, 3, NEW[-1].last, size=150)
END = [*AFTER, admit(AFTER[-1])]
FULL = [*OLD[:8], *NEW, *END]


@dataclass
class Expected:
    """What may be found: between `least` and `most`, both histories from (0,0) on."""

    least: list[Batch] = field(default_factory=list)
    most: list[Batch] = field(default_factory=list)
    epochs: list[Epochs] = field(default_factory=lambda: [Epochs(0, 0, False)])
    snapshots: list[Zxid] = field(default_factory=lambda: [ZERO])

    def settle(self) -> None:
        """The step was acknowledged: only its outcome may be found from now on."""
        self.least = self.most
        self.epochs, self.snapshots = self.epochs[-1:], self.snapshots[-1:]


class Script:
    """Everything a store does, one step at a time; `expected` says what a cut now may leave."""

    def __init__(self, path: Path, files: Files, image: bytes, kind: type[Directory] = Directory) -> None:
        self.kind = kind
        self.expected = Expected()
        self.files = files
        self.image = image
        self.directory = Directory.__new__(Directory)
        self.path = path

    def run(self) -> None:
        self.directory = self.kind(self.path, promised=False, files=self.files, segment_bytes=600)
        self.epochs(Epochs(1, 0, True))
        for some in (OLD[:1], OLD[1:4], OLD[4:5], OLD[5:12], TAIL[:1], TAIL[1:3], TAIL[3:]):
            self.append(some)
        self.epochs(Epochs(2, 1, True))
        self.snapshot(OLD[2].last)
        self.truncate(OLD[7].last)
        self.append(NEW[:2])
        self.epochs(Epochs(2, 2, True))
        self.append(NEW[2:5])
        self.snapshot(OLD[6].last)
        self.truncate(NEW[4].last)  # nothing to do, and it must stay so
        self.truncate(NEW[1].last)
        self.append(NEW[2:6])
        self.snapshot(NEW[2].last)
        self.epochs(Epochs(3, 2, True))
        self.install()
        self.append(END[1:2])
        self.append(END[2:])
        self.snapshot(END[1].last)
        self.epochs(Epochs(3, 3, True))
        self.directory.restart()
        self.append(chain(3, 2, END[-1].last, size=150))
        assert self.directory.store.close()

    def append(self, batches: list[Batch]) -> None:
        self.expected.most = [*self.expected.least, *batches]
        # Each alone, so that they share a sync or do not, as the writer likes.
        for batch in batches:
            self.directory.store.append(0, (batch,))
        self.directory.wait(DurableInput, lambda event: event.zxid == batches[-1].last)
        self.expected.settle()

    def truncate(self, to: Zxid) -> None:
        self.expected.most = self.expected.least
        self.expected.least = [batch for batch in self.expected.most if batch.last <= to]
        self.directory.store.truncate(0, to)
        self.directory.wait(DurableInput, lambda event: event.zxid == to)
        self.expected.most = self.expected.least

    def epochs(self, epochs: Epochs) -> None:
        self.expected.epochs.append(epochs)
        self.directory.store.save_epochs(0, epochs)
        self.directory.wait(EpochsSaved)
        self.expected.settle()

    def snapshot(self, zxid: Zxid) -> None:
        self.expected.snapshots.append(zxid)
        mark = history_of(self.expected.least).mark(zxid)
        assert self.directory.take(mark, f"state at {zxid}".encode()).zxid == zxid
        self.expected.settle()

    def install(self) -> None:
        """Another peer's snapshot, at a place that our log has not reached."""
        history = [*OLD[:8], *NEW, *END[:1]]
        self.expected.snapshots.append(history[-1].last)
        self.expected.most = history
        mark = history_of(history).mark(history[-1].last)
        store = self.directory.store
        half = len(self.image) // 2
        store.stage_snapshot(0, 0, self.image[:half])
        store.stage_snapshot(0, half, self.image[half:])
        store.install_snapshot(0, mark, len(self.image))
        self.directory.wait(SnapshotStaged, lambda event: event.offset == len(self.image))
        self.directory.wait(SnapshotInstalled)
        self.expected.settle()
        self.directory.take(history_of(OLD[:1]).mark(OLD[0].last), b"")  # Returns when the old generation is gone.

    def check(self, store: Store) -> None:
        """The store holds what it must, and nothing else."""
        expected, history = self.expected, store.history
        held = next((n for n, batch in enumerate(expected.most, 1) if batch.last == history.last), 0)
        found = expected.most[:held]
        assert len(expected.least) <= held, f"{history.last} is left of {[str(b.last) for b in expected.least]}"
        assert found[: len(expected.least)] == expected.least
        reference = history_of(found)
        assert (history.last, history.ends, history.admits) == (reference.last, reference.ends, reference.admits)
        batches: list[Batch] = []
        after = history.base
        while some := store.batches(after, history.last, 1 << 20):
            batches += some
            after = some[-1].last
        assert batches == [batch for batch in found if batch.last > history.base]
        repaired = [epochs._replace(current=max(epochs.current, history.last.epoch)) for epochs in expected.epochs]
        assert store.epochs in repaired
        zxid, state = store.load_snapshot()
        assert zxid in expected.snapshots and history.snapshot == zxid
        assert state == (f"state at {zxid}".encode() if zxid != ZERO else b"")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The snapshot that is installed in the middle of the script."""
    history = [*OLD[:8], *NEW, *END[:1]]
    other = Directory(tmp_path_factory.mktemp("other") / "node-1")
    other.append(*history)
    last = history[-1].last
    other.take(history_of(history).mark(last), f"state at {last}".encode())
    found = other.stream(history_of(history).mark(last), 1 << 20)[1]
    other.store.close()
    return found


def cut_script(path: Path, image: bytes, cut_at: int | None) -> tuple[Script, PowerFiles]:
    path.mkdir(parents=True)
    files = PowerFiles(path, cut_at)
    script = Script(path / "node-0", files, image)
    try:
        script.run()
    except (PowerCut, AssertionError):
        assert files.is_off
        if hasattr(script.directory, "store"):
            script.directory.store.close()
    return script, files


def recover(path: Path, files: Files, check: Callable[[Store], None]) -> None:
    again = Directory(path / "node-0", promised=False, files=files, segment_bytes=600)
    try:
        check(again.store)
    finally:
        again.store.close()


def test_a_power_cut_at_any_change_of_the_disk_loses_nothing_that_was_acknowledged(
    tmp_path: Path, image: bytes
) -> None:
    _, whole = cut_script(tmp_path / "whole", image, None)
    assert whole.changes > 150
    for cut_at in range(whole.changes):
        script, files = cut_script(tmp_path / f"{cut_at}", image, cut_at)
        for left, dice in enumerate([None, *(Random(1000 * cut_at + seed) for seed in range(2))]):
            target = tmp_path / f"{cut_at}-{left}"
            files.leave(target, dice)
            try:
                recover(target, QuickFiles(), script.check)
            except (AssertionError, StorageError) as error:
                raise AssertionError(f"cut before change {cut_at}, remains {left}: {error}") from error
            shutil.rmtree(target)
        shutil.rmtree(tmp_path / f"{cut_at}")


def test_a_power_cut_during_recovery_loses_nothing_either(tmp_path: Path, image: bytes) -> None:
    _, whole = cut_script(tmp_path / "whole", image, None)
    for cut_at in range(10, whole.changes, 13):
        script, files = cut_script(tmp_path / f"{cut_at}", image, cut_at)
        second = 0
        finished = False
        while not finished:
            target = tmp_path / f"{cut_at}-{second}"
            files.leave(target, Random(cut_at))
            again = PowerFiles(target, second)
            try:
                recover(target, again, script.check)
            except (PowerCut, AssertionError):
                assert again.is_off
            finished = not again.is_off
            remains = tmp_path / f"{cut_at}-{second}-again"
            again.leave(remains, Random(second))
            recover(remains, QuickFiles(), script.check)
            second += 1
        assert second > 5


def test_a_write_that_does_not_fit_into_a_segment_is_not_spread_over_two(tmp_path: Path) -> None:
    """L1, bug 50: the older of two would end in half a write, which is refused: only the newest may be torn."""
    first, second = OLD[:2], OLD[2:7]
    for cut_at in range(200):
        path = tmp_path / f"{cut_at}"
        path.mkdir()
        files = PowerFiles(path, cut_at)
        acknowledged: list[Batch] = []
        with suppress(PowerCut, AssertionError):
            on = Directory(path / "node-0", promised=False, files=files, segment_bytes=600)
            try:
                on.store.save_epochs(0, Epochs(1, 0, True))
                on.wait(EpochsSaved)
                for some in (first, second):
                    on.store.append(0, tuple(some))
                    on.wait(DurableInput, lambda event, some=some: event.zxid == some[-1].last)  # type: ignore[misc]
                    acknowledged += some
            finally:
                on.store.close()
        for left, dice in enumerate([None, Random(cut_at)]):
            target = tmp_path / f"{cut_at}-{left}"
            files.leave(target, dice)

            def check(store: Store, least: list[Batch] = acknowledged) -> None:
                ends = [ZERO, *(batch.last for batch in (*first, *second))]
                assert store.history.last in ends[len(least) :]

            recover(target, QuickFiles(), check)
        if not files.is_off:
            return
    raise AssertionError("the script has more changes than were tried")


def test_what_a_killed_process_had_not_synced_is_synced_before_it_is_spoken_of(tmp_path: Path, image: bytes) -> None:
    """D5, L14, bug 46: killed between write and sync, started again, and only then the power goes."""
    _, whole = cut_script(tmp_path / "whole", image, None)
    for cut_at in range(5, whole.changes, 2):
        script, files = cut_script(tmp_path / f"{cut_at}", image, cut_at)
        files.outlive_the_process()
        again = Directory(script.path, promised=False, files=files, segment_bytes=600)
        spoken_of, epochs = again.store.history, again.store.epochs
        files.is_off = True
        again.store.close()
        target = tmp_path / f"{cut_at}-left"
        files.leave(target, None)

        def check(store: Store, spoken_of: History = spoken_of, epochs: Epochs = epochs) -> None:
            assert (store.history, store.epochs) == (spoken_of, epochs)

        recover(target, QuickFiles(), check)
        shutil.rmtree(target)
        shutil.rmtree(tmp_path / f"{cut_at}")


class RenamesNoted(PowerFiles):
    """Knows after how many changes CURRENT was replaced."""

    def __init__(self, root: Path, cut_at: int | None = None) -> None:
        super().__init__(root, cut_at)
        self.replaced: list[int] = []

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        if new.endswith("CURRENT"):
            self.replaced.append(self.changes)


def test_what_a_killed_process_replaced_is_kept_until_what_replaced_it_is_durable(tmp_path: Path, image: bytes) -> None:
    """D5, L12: killed between the rename of CURRENT and its sync, and the power goes while it recovers."""
    (tmp_path / "whole").mkdir()
    whole = RenamesNoted(tmp_path / "whole")
    Script(tmp_path / "whole" / "node-0", whole, image).run()
    assert len(whole.replaced) == 2, "at the first start, and with the installed snapshot"
    for cut_at in whole.replaced:
        finished = False
        for second in range(100):
            place = tmp_path / f"{cut_at}-{second}"
            script, files = cut_script(place, image, cut_at)
            files.outlive_the_process()
            files.cut_at = files.changes + second
            try:
                Directory(script.path, promised=False, files=files, segment_bytes=600).store.close()
            except (PowerCut, AssertionError):
                assert files.is_off
            for dice in (None, Random(second)):
                target = tmp_path / f"{cut_at}-{second}-{dice is None}"
                files.leave(target, dice)
                recover(target, QuickFiles(), script.check)
                shutil.rmtree(target)
            shutil.rmtree(place)
            if finished := not files.is_off:
                break
        assert finished
