"""A model of the disk, with storage's contract (server/ports.py) on top of it.

A `Platter` is what is left when a process is gone: what was synced, and what was only in the page cache. A
`SimDisk` is the log writer of one process over it: one queue, one write in flight, group commit. Nothing here
is a file or a byte on disk; torn records and corruption are the business of tests/storage.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TypeAlias

from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch, Epochs, History, SnapshotMark
from zabzmq.core.inputs import (
    BatchesRead,
    DiskSpace,
    Durable,
    EpochsSaved,
    Input,
    Quiesced,
    SnapshotInstalled,
    SnapshotRead,
    SnapshotStaged,
    SnapshotTaken,
    Space,
)
from zabzmq.core.zxid import ZERO, LinkId, Zxid

Post: TypeAlias = Callable[[Input], None]
Later: TypeAlias = Callable[..., None]

NEEDS_ROOM = frozenset({"append", "meta", "stage", "install"})
"""A truncation that fails half done ends the process instead; the storage tests have it."""


class BatchList:
    """The batches of `(base, last]`, found by the zxid one of them ends at."""

    __slots__ = ("base", "batches", "lasts")

    def __init__(self, base: Zxid = ZERO) -> None:
        self.base = base
        self.batches: list[Batch] = []
        self.lasts: list[Zxid] = []

    def copy(self) -> BatchList:
        twin = BatchList(self.base)
        twin.batches = self.batches.copy()
        twin.lasts = self.lasts.copy()
        return twin

    @property
    def last(self) -> Zxid:
        return self.lasts[-1] if self.lasts else self.base

    def append(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.lasts.append(batch.last)

    def after(self, zxid: Zxid) -> int | None:
        """The index of the batch that follows `zxid`; None when no batch kept here ends at it."""
        if zxid == self.base:
            return 0
        at = bisect_left(self.lasts, zxid)
        return at + 1 if at < len(self.lasts) and self.lasts[at] == zxid else None

    def between(self, after: Zxid, upto: Zxid) -> list[Batch] | None:
        """The batches of `(after, upto]`; None when either end is no place of this list."""
        low, high = self.after(after), self.after(upto)
        return None if low is None or high is None else self.batches[low:high]

    def truncate(self, to: Zxid) -> None:
        at = self.after(to)
        if at is None:
            raise StorageError(f"cannot truncate to {to}: the log holds ({self.base}, {self.last}]")
        del self.batches[at:], self.lasts[at:]

    def purge(self, base: Zxid) -> None:
        at = self.after(base)
        assert at is not None, "a snapshot stands at the end of a batch"
        del self.batches[:at], self.lasts[:at]
        self.base = base


class Platter:
    """What a power cut leaves. `log`, `history`, `epochs` and `snapshots` are synced; `unsynced` batches at the end of
    `log` are the exception: recovered from the page cache of a killed process, gone if the power goes first (D5)."""

    def __init__(self, life: int) -> None:
        self.life = life
        self.incarnation = 0
        self.epochs = Epochs(0, 0, False)
        self.snapshots: list[tuple[SnapshotMark, bytes]] = []  # oldest first
        self.log = BatchList()
        self.history = History()  # of `log`, on top of the newest snapshot's index
        self.unsynced = 0

    @property
    def synced_last(self) -> Zxid:
        """The end of what would survive a power cut now."""
        if not self.unsynced:
            return self.log.last
        kept = len(self.log.lasts) - self.unsynced
        return self.log.lasts[kept - 1] if kept else self.log.base

    def synced_history(self) -> History:
        """The index of what a power cut now would leave."""
        if not self.unsynced:
            return self.history
        kept = self.history.copy()
        kept.truncate(self.synced_last)
        return kept

    def holds(self, zxid: Zxid) -> bool:
        """Whether a power cut now would leave `zxid` in this history."""
        return zxid <= self.synced_last and self.history.holds(zxid)

    def append(self, batch: Batch) -> None:
        self.history.append(batch)
        self.log.append(batch)

    def truncate(self, to: Zxid) -> None:
        self.history.truncate(to)
        self.log.truncate(to)

    def install(self, mark: SnapshotMark, state: bytes) -> None:
        self.snapshots = [(mark, state)]
        self.log = BatchList(mark.zxid)
        self.history = History.at(mark)

    def take(self, mark: SnapshotMark, state: bytes) -> None:
        """A snapshot of our own state, verified: keep two, and the log from the older one on (L10)."""
        self.snapshots = [*self.snapshots[-1:], (mark, state)]
        base = self.snapshots[0][0].zxid if len(self.snapshots) > 1 else ZERO
        if base > self.log.base:
            self.log.purge(base)
        self.history.base = self.log.base
        self.history.snapshot = mark.zxid

    def recover(self) -> None:
        """The first thing a process does: sync what may be in the page cache only (D5), and count itself (1.2).

        A synchronization that broke off has left txns of an epoch above currentEpoch: S5.
        """
        self.unsynced = 0
        self.incarnation += 1
        self.epochs = self.epochs._replace(current=max(self.epochs.current, self.log.last.epoch))

    def lose_power(self) -> None:
        """What was recovered from the page cache and never synced is gone."""
        if self.unsynced:
            self.truncate(self.synced_last)
            self.unsynced = 0


class SimDisk:
    """One process's storage over its platter. Completions go to `post`, in order; `later` runs things after a while."""

    def __init__(self, platter: Platter, dice: Random, later: Later, post: Post, latency: float, slow: float) -> None:
        self.platter = platter
        self.dice = dice
        self.later = later
        self.post = post
        self.latency = latency  # ms, of a usual sync
        self.slow = slow  # how often one takes ten times as long
        self.log = platter.log.copy()  # with what is queued
        self.queue: deque[tuple[object, ...]] = deque()
        self.in_flight: tuple[object, ...] | None = None
        self.stalled = False  # nothing completes while it is
        self.stalled_job: int | None = None
        self.full = False
        self.broken = False  # an order of this role was dropped, so all that follow it are (L15)
        self.fail_next = False  # the next write ends in EIO
        self.dead = False
        self.staging = bytearray()
        self.generation = 0
        self.job = 0
        self.on_synced: Callable[[], None] = _nothing  # the watcher's, after every change of the platter
        self.on_error: Callable[[], None] = _nothing  # ends the process (L14)

    # ---- the port: writes --------------------------------------------------------------------------------------

    def append(self, role: int, batches: tuple[Batch, ...]) -> None:
        for batch in batches:
            self.log.append(batch)
        self._ask("append", role, batches)

    def save_epochs(self, role: int, epochs: Epochs) -> None:
        self._ask("meta", role, epochs)

    def truncate(self, role: int, to: Zxid) -> None:
        self.log.truncate(to)
        self._ask("truncate", role, to)

    def stage_snapshot(self, role: int, offset: int, data: bytes) -> None:
        self._ask("stage", role, offset, data)

    def install_snapshot(self, role: int, mark: SnapshotMark, size: int) -> None:
        self.log = BatchList(mark.zxid)
        self._ask("install", role, mark, size)

    def quiesce(self, role: int) -> None:
        self.queue.clear()
        self._ask("quiesce", role)

    def take_snapshot(self, mark: SnapshotMark, pieces: Iterable[bytes]) -> None:
        generation, state = self.generation, b"".join(pieces)

        def taken() -> None:
            # One of a generation that was replaced meanwhile is dropped (L12).
            if self.dead or self.generation != generation or mark.zxid <= self.platter.history.snapshot:
                return
            if not self.full:
                self.platter.take(mark, state)
                if self.log.base < self.platter.log.base:
                    self.log.purge(self.platter.log.base)
                self.on_synced()
            self.post(SnapshotTaken(self.platter.history.snapshot, self.platter.log.base))

        self.later(self._sync_time() * 2, taken)

    # ---- the port: reads ---------------------------------------------------------------------------------------

    def read_batches(self, role: int, link: LinkId, after: Zxid, upto: Zxid, bytes_max: int) -> None:
        batches = tuple(self.batches(after, upto, bytes_max))
        self._answer(BatchesRead(role, link, after, batches))

    def read_snapshot(self, role: int, link: LinkId, mark: SnapshotMark, offset: int, bytes_max: int) -> None:
        found = next((state for m, state in self.platter.snapshots if m.zxid == mark.zxid), None)
        if found is None:
            self._answer(SnapshotRead(role, link, mark, offset, 0, None))
        else:
            self._answer(SnapshotRead(role, link, mark, offset, len(found), found[offset : offset + bytes_max]))

    def batches(self, after: Zxid, upto: Zxid, bytes_max: int) -> Sequence[Batch]:
        at = self.log.after(after)
        if at is None or upto <= after:
            return ()
        found: list[Batch] = []
        size = 0
        for batch, last in zip(self.log.batches[at:], self.log.lasts[at:], strict=True):
            if last > upto or (found and size + batch.size > bytes_max):
                break
            found.append(batch)
            size += batch.size
        return found

    def near(self, zxid: Zxid) -> Zxid:
        at = bisect_right(self.log.lasts, zxid)
        return self.log.lasts[at - 1] if at else self.log.base

    def load_snapshot(self) -> tuple[Zxid, bytes]:
        if not self.platter.snapshots:
            return ZERO, b""
        mark, state = self.platter.snapshots[-1]
        return mark.zxid, state

    # ---- the writer --------------------------------------------------------------------------------------------

    def _sync_time(self) -> float:
        roll = self.dice.random()
        return self.latency * (0.5 + roll) * (10 if self.dice.random() < self.slow else 1)

    def _answer(self, event: Input) -> None:
        """A read is answered out of the writer's order, and soon."""

        self.later(0.05 + 0.1 * self.dice.random(), self._post, event)

    def _post(self, event: Input) -> None:
        if not self.dead:
            self.post(event)

    def _ask(self, *job: object) -> None:
        self.queue.append(job)
        if self.in_flight is None:
            self._start()

    def _start(self) -> None:
        kind = self.queue[0][0]
        if kind == "append":
            # Group commit: everything queued up to the next META or TRUNC shares one sync.
            group: list[tuple[object, ...]] = []
            while self.queue and self.queue[0][0] == "append":
                group.append(self.queue.popleft())
            self.in_flight = ("append", group)
        else:
            self.in_flight = self.queue.popleft()
        self.job += 1
        if kind in ("quiesce", "stage"):
            self._finish(self.job) if kind == "quiesce" else self._finish_later(0.1)
        else:
            self._finish_later(self._sync_time())

    def _finish_later(self, delay: float) -> None:
        self.later(delay, self._finish, self.job)

    def _finish(self, job: int) -> None:
        if self.dead or job != self.job:
            return
        if self.stalled and self.in_flight and self.in_flight[0] != "quiesce":
            self.stalled_job = job
            return
        done = self.in_flight
        assert done is not None
        if done[0] == "quiesce":
            self.broken = False
        elif self.fail_next:
            self.on_error()
            return
        self.in_flight = None
        if self.full and done[0] in NEEDS_ROOM:
            self.broken = True
            self.post(DiskSpace(Space.FULL))
        elif not self.broken:
            self._complete(done)
        if self.queue and self.in_flight is None:
            self._start()

    def release(self) -> None:
        """The end of a stall."""
        self.stalled = False
        if self.stalled_job is not None:
            job, self.stalled_job = self.stalled_job, None
            self._finish(job)

    def fill(self, on: bool) -> None:
        """No room for anything new, or room again; the second is noticed by looking, now and then."""
        if self.full and not on and not self.dead:
            self.later(20 * self.dice.random(), self._post, DiskSpace(Space.OK))
        self.full = on

    def _complete(self, done: tuple[object, ...]) -> None:
        platter = self.platter
        match done:
            case ("append", list() as group):
                for _, _, batches in group:
                    for batch in batches:
                        platter.append(batch)
                self.on_synced()
                for _, role, batches in group:
                    self.post(Durable(role, batches[-1].last))
            case ("meta", int() as role, Epochs() as epochs):
                platter.epochs = epochs
                self.on_synced()
                self.post(EpochsSaved(role, epochs))
            case ("truncate", int() as role, Zxid() as to):
                platter.truncate(to)
                self.on_synced()
                self.post(Durable(role, to))
            case ("stage", int() as role, int() as offset, bytes() as data):
                del self.staging[offset:]
                self.staging += data
                self.post(SnapshotStaged(role, len(self.staging)))
            case ("install", int() as role, SnapshotMark() as mark, int() as size):
                if len(self.staging) != size:
                    raise StorageError(f"staged {len(self.staging)} bytes of a snapshot of {size}")
                self.generation += 1
                platter.install(mark, bytes(self.staging))
                self.staging.clear()
                self.on_synced()
                self.post(SnapshotInstalled(role, mark.zxid))
            case ("quiesce", int() as role):
                self.log = platter.log.copy()
                self.post(Quiesced(role, platter.history.copy(), platter.epochs))
            case _:
                raise AssertionError(f"no such job: {done[0]}")

    # ---- the end of a process ----------------------------------------------------------------------------------

    def crash(self, power: bool) -> None:
        """The process is gone. `power`: and so is the page cache.

        What was in flight may have reached the platter or not: a batch of records is torn at any of them, META and
        CURRENT are replaced or not (D1, L12), a truncation may have deleted some segments, newest first (L11).
        """
        self.dead = True
        done, self.in_flight = self.in_flight, None
        platter = self.platter
        if done is not None and not self.broken and self.dice.random() < 0.7:
            match done:
                case ("append", list() as group):
                    batches = [batch for _, _, several in group for batch in several]
                    survivors = batches[: self.dice.randint(0, len(batches))]
                    for batch in survivors:
                        platter.append(batch)
                    if not power:
                        platter.unsynced += len(survivors)
                case ("meta", _, Epochs() as epochs):
                    platter.epochs = epochs
                case ("truncate", _, Zxid() as to):
                    low = platter.log.after(to)
                    assert low is not None
                    places = [to, *platter.log.lasts[low:]]
                    platter.truncate(places[self.dice.randrange(len(places))])
                case ("install", _, SnapshotMark() as mark, int() as size) if len(self.staging) == size:
                    platter.install(mark, bytes(self.staging))
                case _:
                    pass
        if power:
            platter.lose_power()
        self.on_synced()


def _nothing() -> None:
    pass
