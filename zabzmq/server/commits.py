"""Committed batches for monitors: the recent ones with their results from memory, older ones from the log. Pure.

What is committed and applied is final, so any node may tell of it, in any state (7.3, C4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from zabzmq.core.history import Batch
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import SealedRun
from zabzmq.machine.state import AppliedRun, ReplicatedState
from zabzmq.net.client_wire import Committed

ReadBatches: TypeAlias = Callable[[Zxid, Zxid, int], Sequence[Batch]]
"""`Storage.batches`."""

RANGE_BYTES_MAX: Final = 1 << 20
RESULT_BYTES_MAX: Final = 2 << 20
"""Results beyond this are left out: a client's socket refuses frames of 4 MiB (7.5)."""

_decode_sealed = msgspec.msgpack.Decoder(list[SealedRun]).decode


class Commits:
    """The ring of recent batches, about `bytes_max` of them, contiguous unless a snapshot was installed."""

    def __init__(self, state: ReplicatedState, bytes_max: int, read: ReadBatches, near: Callable[[Zxid], Zxid]) -> None:
        self._state = state
        self._read_log = read
        self._near = near
        self._bytes_max = bytes_max
        self._bytes = 0
        self._order: deque[tuple[Committed, int]] = deque()
        self._after: dict[Zxid, Committed] = {}  # by `prev`

    def add(self, batch: Batch, runs: Sequence[AppliedRun]) -> Committed:
        """The state has just applied this batch."""
        results: list[bytes] | None = [run.results for run in runs]
        size = sum(len(run.results) for run in runs)
        if size > RESULT_BYTES_MAX:
            results, size = None, 0
        names = [run.name for run in runs]
        committed = _committed(batch, results, names, self._state.digest)
        size += batch.size + 32 * len(names)
        self._order.append((committed, size))
        self._after[batch.prev] = committed
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._order) > 1:
            old, size = self._order.popleft()
            self._bytes -= size
            self._after.pop(Zxid(*old.prev), None)
        return committed

    def range(self, after: Zxid, upto: Zxid, base: Zxid) -> tuple[Zxid | None, list[Committed]]:
        """Batches of `(after, upto]`, about 1 MiB and at least one; up to what is applied (C4).

        Batches are told whole: the first may begin before `after`, the last may end beyond `upto`. The first value
        is None, or the base if what follows `after` is purged; then the batches are those after the base.
        """
        applied = self._state.applied
        upto = applied if upto == ZERO else min(upto, applied)
        purged = base if after < base else None
        after = max(after, base)
        found: list[Committed] = []
        room = RANGE_BYTES_MAX
        for committed, size in self._walk(after, upto):
            if found and size > room:
                break
            found.append(committed)
            room -= size
        return purged, found

    def _walk(self, after: Zxid, upto: Zxid) -> Iterator[tuple[Committed, int]]:
        if after >= upto:
            return
        held = self._after.get(after) or self._around(after)
        if held is None:
            for batch in self._read(after):
                names = [self._state.sessions.name(run.session) or "" for run in self._runs(batch)]
                yield _committed(batch, None, names, 0), batch.size
                held = self._after.get(batch.last)
                if held is not None or batch.last >= upto:
                    break
        while held is not None and held.first <= upto:
            yield held, len(held.data) + sum(map(len, held.results or ()))
            held = self._after.get(_last(held))

    def _read(self, after: Zxid) -> Sequence[Batch]:
        """From the log. It is read from ends of batches on; another place is looked for from the nearest one before."""
        applied = self._state.applied
        found = self._read_log(after, applied, RANGE_BYTES_MAX)
        at = ZERO if found else self._near(after)
        while not found:
            batches = self._read_log(at, applied, RANGE_BYTES_MAX)
            if not batches:
                break
            found = [batch for batch in batches if batch.last > after]
            at = batches[-1].last
        return found

    def _around(self, zxid: Zxid) -> Committed | None:
        """The batch that begins before `zxid` and ends after it, if it is a recent one."""
        if not self._order or not self._order[0][0].first <= zxid < _last(self._order[-1][0]):
            return None
        return next((held for held, _ in self._order if held.first <= zxid < _last(held)), None)

    @staticmethod
    def _runs(batch: Batch) -> list[SealedRun]:
        return [] if batch.admit is not None else _decode_sealed(batch.data)


def _last(committed: Committed) -> Zxid:
    return Zxid(committed.first[0], committed.first[1] + committed.count - 1)


def _committed(batch: Batch, results: list[bytes] | None, names: list[str], digest: int) -> Committed:
    first, prev, count, time_ms, admit, data = batch
    return Committed(first, prev, count, time_ms, admit, data, results, names, digest)
