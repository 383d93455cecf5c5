"""The history: batches of transactions, and the index of them that a peer keeps in memory.

A *batch* is the unit of everything: proposed, written, acknowledged, truncated and applied as a whole, and
never split or joined again, not even by later leaders. So every zxid at which a history can end is the last
zxid of a batch, and two histories that share an epoch are cut at the same places.

The core holds the index (`History`), not the transactions; those belong to storage (PROTOCOL 15.10).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from zabzmq.core.errors import HistoryError
from zabzmq.core.zxid import ZERO, PeerId, Zxid

BATCH_OVERHEAD = 64
"""Bytes a batch is charged beyond its data when windows and chunks are measured."""


class Admit(NamedTuple):
    """The internal transaction that lets a wiped voter count again (L13b)."""

    peer: PeerId
    life: int


class Batch(NamedTuple):
    """`count` transactions proposed together: zxids `first`, then counter by counter to `last`.

    `prev` is the zxid just before `first` in the proposing leader's history. `time_ms` is that leader's wall
    clock, for people only (PROTOCOL 15.8). `data` is opaque here: the bytes of the clients' operations, never
    decoded between the leader's client socket and the state machines. An ADMIT is a batch of its own, count 1
    and no data.
    """

    first: Zxid
    prev: Zxid
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody needs
    time_ms: int
    admit: Admit | None
    data: bytes

    @property
    def last(self) -> Zxid:
        return Zxid(self.first.epoch, self.first.counter + self.count - 1)

    @property
    def size(self) -> int:
        """Bytes charged against windows and chunk limits."""
        return len(self.data) + BATCH_OVERHEAD


class EpochEnd(NamedTuple):
    """The last counter of one epoch in a history."""

    epoch: int
    counter: int


class Epochs(NamedTuple):
    """What META holds of the protocol: the promise, the last accepted leadership, the right to count (D1, L13)."""

    accepted: int
    current: int
    joined: bool


class SnapshotMark(NamedTuple):
    """What a snapshot says of the history it replaces; all of it reaches back to (0,0) (L6)."""

    zxid: Zxid
    ends: tuple[EpochEnd, ...]
    admits: tuple[tuple[Zxid, Admit], ...]


EMPTY_MARK = SnapshotMark(ZERO, (), ())


@dataclass(slots=True)
class History:
    """Index of one history. `snapshot`: newest snapshot. `base`: just before the oldest batch kept. `last`: its end.

    `ends` and `admits` reach back to (0,0) whatever was purged, so a divergence point is always exact.
    """

    snapshot: Zxid = ZERO
    base: Zxid = ZERO
    last: Zxid = ZERO
    ends: list[EpochEnd] = field(default_factory=list)
    admits: list[tuple[Zxid, Admit]] = field(default_factory=list)

    @classmethod
    def at(cls, mark: SnapshotMark) -> History:
        """A history that is just this snapshot."""
        return cls(mark.zxid, mark.zxid, mark.zxid, list(mark.ends), list(mark.admits))

    def copy(self) -> History:
        return History(self.snapshot, self.base, self.last, list(self.ends), list(self.admits))

    def append(self, batch: Batch) -> None:
        """Add a batch at the end. Raises HistoryError on a hole or a counter out of step (HistoryContinuity)."""
        first, last = batch.first, batch.last
        if batch.prev != self.last:
            raise HistoryError(f"batch {first} follows {batch.prev}, but this history ends at {self.last}")
        if batch.count < 1 or first.epoch < self.last.epoch:
            raise HistoryError(f"batch {first} of {batch.count} cannot follow {self.last}")
        expected = self.last.counter + 1 if first.epoch == self.last.epoch else 1
        if first.counter != expected:
            raise HistoryError(f"batch {first} should start at counter {expected} of its epoch")
        if self.ends and self.ends[-1].epoch == first.epoch:
            self.ends[-1] = EpochEnd(first.epoch, last.counter)
        else:
            self.ends.append(EpochEnd(first.epoch, last.counter))
        if batch.admit is not None:
            self.admits.append((first, batch.admit))
        self.last = last

    def truncate(self, to: Zxid) -> None:
        """Forget everything after `to`. Raises HistoryError if `to` is not held here or lies below the base."""
        if to < self.base or not self.holds(to):
            raise HistoryError(f"cannot truncate to {to}: history holds ({self.base}, {self.last}]")
        while self.ends and self.ends[-1].epoch > to.epoch:
            self.ends.pop()
        if self.ends:
            self.ends[-1] = EpochEnd(to.epoch, to.counter)
        while self.admits and self.admits[-1][0] > to:
            self.admits.pop()
        self.last = to

    def holds(self, zxid: Zxid) -> bool:
        """Whether `zxid` lies on this history's branch, be it purged or not."""
        epoch, counter = zxid
        for end in reversed(self.ends):  # mostly asked of the newest epoch
            if end.epoch == epoch:
                return 1 <= counter <= end.counter
        return zxid == ZERO

    def mark(self, zxid: Zxid) -> SnapshotMark:
        """What a snapshot taken at `zxid` must carry. Raises HistoryError if `zxid` is not on this branch."""
        if not self.holds(zxid):
            raise HistoryError(f"{zxid} is not in the history that ends at {self.last}")
        ends = [EpochEnd(e, zxid.counter if e == zxid.epoch else c) for e, c in self.ends if e <= zxid.epoch]
        return SnapshotMark(zxid, tuple(ends), tuple(a for a in self.admits if a[0] <= zxid))

    def divergence(self, theirs: tuple[EpochEnd, ...]) -> Zxid:
        """The greatest zxid present in both histories (PROTOCOL 5.1).

        Exact because `ends` are never trimmed: where both know an epoch, one leader proposed it, so the shorter
        of the two is a prefix of the longer (LogMatching). Whether our log still reaches it is the caller's
        question.
        """
        mine = dict(self.ends)
        for epoch, counter in reversed(theirs):
            if epoch in mine:
                return Zxid(epoch, min(counter, mine[epoch]))
        return ZERO

    def count(self, after: Zxid, upto: Zxid) -> int:
        """How many transactions lie in `(after, upto]`, both of which lie on this branch."""
        total = 0
        for epoch, counter in self.ends:
            if after.epoch <= epoch <= upto.epoch:
                end = upto.counter if epoch == upto.epoch else counter
                total += end - (after.counter if epoch == after.epoch else 0)
        return total

    def last_admit(self, peer: PeerId) -> int | None:
        """The life named by the last ADMIT of `peer` in this history, committed or not (L18)."""
        return next((a.life for _, a in reversed(self.admits) if a.peer == peer), None)
