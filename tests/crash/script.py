"""Everything a store does, in one run; and what it has promised at each moment of it.

The run is told to a `Recorder`: between the changes of the disk stand the `Promise`s that hold from there on. What a
power cut leaves is recovered with the real `Store.open` (`find`) and held against the promise in force (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.crash.disk import Recorder
from tests.storage.directory import FOREVER, Directory, admit, chain, history_of
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch, Epochs, History
from zabzmq.core.inputs import Durable, EpochsSaved, SnapshotInstalled, SnapshotStaged
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.storage.files import Files

SEGMENT_BYTES = 4000
OLD = chain(1, 9, size=700)
TAIL = chain(1, 3, OLD[-1].last, size=2600)
NEW = chain(2, 6, OLD[5].last, size=900)
THERE = [*OLD[:6], *NEW]
AFTER = chain(3, 3, NEW[-1].last, size=300)
INSTALLED = [*THERE, AFTER[0]]
END = [*AFTER[1:], admit(AFTER[-1])]
LATE = chain(3, 3, END[-1].last, size=1200)


def state_at(zxid: Zxid) -> bytes:
    """The state of a snapshot: three sectors."""
    return f"state at {zxid} ".encode().ljust(1300, b"s") if zxid != ZERO else b""


@dataclass(frozen=True, slots=True)
class Promise:
    """What must be found: at least the batches of `least`, in order and from (0,0) on, at most those of `most`; one
    of these epochs; one of these snapshots; an incarnation beyond this one, if the directory was ever open."""

    least: tuple[Batch, ...] = ()
    most: tuple[Batch, ...] = ()
    epochs: tuple[Epochs, ...] = (Epochs(0, 0, False),)
    snapshots: tuple[Zxid, ...] = (ZERO,)
    incarnation: int = 0

    def kept(self) -> Promise:
        """What was asked for is done."""
        return replace(self, least=self.most, epochs=self.epochs[-1:], snapshots=self.snapshots[-1:])


Run: TypeAlias = Recorder[Promise]


class Script:
    """One step after the other; each is asked for, and then told to be done."""

    def __init__(self, path: Path, files: Run, image: bytes) -> None:
        self.promise = Promise()
        self.files = files
        self.image = image
        self._note()
        self.node = Directory(path, promised=False, files=files, segment_bytes=SEGMENT_BYTES)
        self._opened()

    def _note(self) -> None:
        self.files.note(self.promise)

    def _ask(self, promise: Promise) -> None:
        self.promise = promise
        self._note()

    def _told(self) -> None:
        self.promise = self.promise.kept()
        self._note()

    def _opened(self) -> None:
        self.promise = replace(self.promise, incarnation=self.node.store.process.incarnation)
        self._note()

    def run(self) -> None:
        self.epochs(Epochs(1, 0, True))
        self.append(*OLD[:1])
        self.append(*OLD[1:4])
        self.append(*OLD[4:5])
        self.append(*OLD[5:])
        self.append(*TAIL[:1])
        self.append(*TAIL[1:2])
        self.append(*TAIL[2:])
        self.epochs(Epochs(2, 1, True))
        self.snapshot(OLD[2].last)
        self.truncate(OLD[5].last)
        self.append(*NEW[:2])
        self.epochs(Epochs(2, 2, True))
        self.append(*NEW[2:5])
        self.snapshot(OLD[4].last)
        self.truncate(NEW[4].last)  # nothing to do, and it must stay so
        self.truncate(NEW[1].last)
        self.append(*NEW[2:])
        self.restart()
        self.snapshot(NEW[2].last)
        self.epochs(Epochs(3, 2, True))
        self.install()
        self.append(*END[:1])
        self.append(*END[1:])
        self.snapshot(END[0].last)
        self.epochs(Epochs(3, 3, True))
        self.restart()
        self.append(*LATE[:1])
        self.append(*LATE[1:])
        self.snapshot(LATE[0].last)
        assert self.node.store.close()

    def append(self, *batches: Batch) -> None:
        """One write."""
        self._ask(replace(self.promise, most=(*self.promise.most, *batches)))
        self.node.append(*batches)
        self._told()

    def truncate(self, to: Zxid) -> None:
        before = self.promise.most
        after = tuple(batch for batch in before if batch.last <= to)
        self._ask(replace(self.promise, least=after))
        self.node.store.truncate(0, to)
        self.node.wait(Durable, lambda event: event.zxid == to)
        self._ask(replace(self.promise, most=after))

    def epochs(self, epochs: Epochs) -> None:
        self._ask(replace(self.promise, epochs=(*self.promise.epochs, epochs)))
        self.node.store.save_epochs(0, epochs)
        self.node.wait(EpochsSaved)
        self._told()

    def snapshot(self, zxid: Zxid) -> None:
        self._ask(replace(self.promise, snapshots=(*self.promise.snapshots, zxid)))
        mark = history_of(self.promise.most).mark(zxid)
        assert self.node.take(mark, state_at(zxid)).zxid == zxid
        self._told()

    def install(self) -> None:
        """Another peer's snapshot, at a place that our log has not reached."""
        last = INSTALLED[-1].last
        self._ask(replace(self.promise, most=tuple(INSTALLED), snapshots=(*self.promise.snapshots, last)))
        store, half = self.node.store, len(self.image) // 2
        store.stage_snapshot(0, 0, self.image[:half])
        store.stage_snapshot(0, half, self.image[half:])
        store.install_snapshot(0, history_of(INSTALLED).mark(last), len(self.image))
        self.node.wait(SnapshotStaged, lambda event: event.offset == len(self.image))
        self.node.wait(SnapshotInstalled)
        self._told()
        self.node.take(history_of(OLD[:1]).mark(OLD[0].last), b"")  # answered when the old generation is gone

    def restart(self) -> None:
        self.node.restart()
        self._opened()


def snapshot_image(path: Path) -> bytes:
    """The snapshot that is installed in the middle of the run, as its peer would stream it."""
    peer = Directory(path)
    peer.append(*INSTALLED)
    mark = history_of(INSTALLED).mark(INSTALLED[-1].last)
    peer.take(mark, state_at(mark.zxid))
    found = peer.stream(mark, 1 << 20)[1]
    peer.store.close()
    return found


def record(root: Path) -> Run:
    """The whole run, made in the directory node-0 of `root`."""
    image = snapshot_image(root / "peer" / "node-1")
    disk = root / "disk"
    disk.mkdir()
    files: Run = Recorder(disk)
    Script(disk / "node-0", files, image).run()
    return files


# ---- after the power cut ---------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What the real recovery made of an image."""

    history: History
    batches: tuple[Batch, ...]
    epochs: Epochs
    snapshot: Zxid
    state: bytes
    incarnation: int
    went_on: bool | None
    """Whether one more batch was taken and found again after another start; None: not tried."""


def find(path: Path, files: Files, go_on: bool) -> Found | str:
    """Start a node on `path`; what it holds, or in which words it refuses to start."""
    try:
        node = Directory(path, promised=False, files=files, segment_bytes=SEGMENT_BYTES)
    except StorageError as error:
        return str(error)
    try:
        store = node.store
        history = store.history.copy()
        zxid, state = store.load_snapshot()
        batches = tuple(store.batches(history.base, FOREVER, 1 << 30))
        found = Found(history, batches, store.epochs, zxid, state, store.process.incarnation, None)
        if go_on:
            found = found._replace(went_on=_goes_on(node))
        return found
    finally:
        node.store.close()


def _goes_on(node: Directory) -> bool:
    store = node.store
    epoch = max(store.epochs.accepted, 1)
    store.save_epochs(0, Epochs(epoch, epoch, True))
    [more] = chain(epoch, 1, store.history.last)
    node.append(more)
    node.store.close()
    last = node.reopen().history.last
    return last == more.last


def check(found: Found | str, promise: Promise) -> Found:
    """A power cut is never a reason to refuse, and what was promised is there."""
    assert not isinstance(found, str), f"refused: {found}"
    history = found.history
    held = next((n for n, batch in enumerate(promise.most, 1) if batch.last == history.last), 0)
    batches = promise.most[:held]
    _check_least(batches, promise, history.last)
    reference = history_of(batches)
    assert (history.last, history.ends, history.admits) == (reference.last, reference.ends, reference.admits)
    assert found.batches == tuple(batch for batch in batches if batch.last > history.base)
    assert found.epochs in [e._replace(current=max(e.current, history.last.epoch)) for e in promise.epochs], (
        found.epochs
    )
    assert found.snapshot in promise.snapshots and history.snapshot == found.snapshot
    assert found.state == state_at(found.snapshot)
    assert found.incarnation > promise.incarnation, "two processes would have one name (1.1)"
    return found


def _check_least(batches: Sequence[Batch], promise: Promise, last: Zxid) -> None:
    assert batches[: len(promise.least)] == promise.least, f"{last} is left of {promise.least[-1].last}"
