"""The table of client sessions: how each operation is executed exactly once (C2, C3), inside the replicated state.

Per session it knows the next sequence number and keeps the results of the last runs, as the bytes that were sent to
the client. All of it is decided by the log alone: what is dropped, and who is expired, is the same on every node.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import Gone, Result, SessionId, decode_results, encode
from zabzmq.machine.pieces import array_pieces

MAX_CLIENTS: Final = 10_000
RESULTS_KEPT: Final = 2_048
"""Results kept per session. Twice what a session may have outstanding (W), since runs are dropped as a whole."""
RESULT_BYTES_KEPT: Final = 256 * 1024
FORBIDDEN_IN_NAMES: Final = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xD800, 0xDFFF),
    (0xFEFF, 0xFEFF),
)
"""Control, line-breaking, invisible and direction characters. A list of our own: `str.isprintable` follows the
interpreter's Unicode tables, and two nodes may run two interpreters."""

_MASK: Final = (1 << 64) - 1
_pack_pair: Final = struct.Struct("<QQ").pack
_pack_head: Final = struct.Struct("<QQQ").pack
_pack_run: Final = struct.Struct("<QQQQ").pack


def is_printable(name: str) -> bool:
    return not any(low <= ord(c) <= high for c in name for low, high in FORBIDDEN_IN_NAMES)


class StoredRun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Results of operations `seq`, `seq + 1`, ... applied at `(epoch, counter)` and on; `item` is their digest."""

    seq: int
    count: int
    epoch: int
    counter: int
    results: bytes
    item: int


class Session(msgspec.Struct, array_like=True):
    """`expected` is the next seq; `used` the zxid of its last run, by which the least recently used is found."""

    id: SessionId
    name: str
    expected: int
    used: tuple[int, int]
    runs: list[StoredRun]
    kept: int  # results in `runs`
    kept_bytes: int
    seed: int  # of all its hashes: id and name
    item: int  # its part of the digest, `runs` aside


class Piece(NamedTuple):
    """Stored results of operations `seq` and on. `zxid` is ZERO where only Gone is left to say (C2)."""

    seq: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody calls
    zxid: Zxid
    results: bytes


_decode = msgspec.msgpack.Decoder(list[Session]).decode


def _seed(session: SessionId, name: str) -> int:
    return xxh3_64_intdigest(name.encode(), xxh3_64_intdigest(_pack_pair(*session)))


def _head_item(seed: int, expected: int, epoch: int, counter: int) -> int:
    return xxh3_64_intdigest(_pack_head(expected, epoch, counter), seed)


def _run_item(seed: int, seq: int, count: int, epoch: int, counter: int, results: bytes) -> int:
    return xxh3_64_intdigest(results, xxh3_64_intdigest(_pack_run(seq, count, epoch, counter), seed))


class Sessions:
    """All sessions, least recently used first. The digest is a sum of items, as in kv: one per session, one per run."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self._max = max_clients
        self._table: OrderedDict[SessionId, Session] = OrderedDict()
        self._sum = 0

    def __len__(self) -> int:
        return len(self._table)

    def expected(self, session: SessionId) -> int | None:
        """The next seq of this session; None of one that is unknown or expired."""
        entry = self._table.get(session)
        return None if entry is None else entry.expected

    def name(self, session: SessionId) -> str | None:
        entry = self._table.get(session)
        return None if entry is None else entry.name

    def register(self, name: str, zxid: Zxid) -> SessionId:
        """Make a session; the least recently used makes room for it if need be (C3)."""
        if len(self._table) >= self._max:
            _, old = self._table.popitem(last=False)
            self._sum -= old.item + sum(run.item for run in old.runs)
        made = (zxid.epoch, zxid.counter)
        seed = _seed(made, name)
        entry = Session(made, name, 1, made, [], 0, 0, seed, _head_item(seed, 1, *made))
        self._table[made] = entry
        self._sum = (self._sum + entry.item) & _MASK
        return made

    def get(self, session: SessionId) -> Session | None:
        return self._table.get(session)

    def record(self, entry: Session, acked: int, zxid: Zxid, count: int, results: bytes) -> None:
        """This session executed its next `count` operations at `zxid`, or none and was just heard of.

        What it has acked is dropped, and what exceeds the bounds, oldest first; the newest run is always kept.
        """
        epoch, counter = zxid
        runs, seed, delta = entry.runs, entry.seed, -entry.item
        if count:
            item = _run_item(seed, entry.expected, count, epoch, counter, results)
            runs.append(StoredRun(entry.expected, count, epoch, counter, results, item))
            entry.expected += count
            entry.kept += count
            entry.kept_bytes += len(results)
            delta += item
        drop = 0
        for run in runs:
            if run.seq + run.count > acked:
                over = entry.kept > RESULTS_KEPT or entry.kept_bytes > RESULT_BYTES_KEPT
                if not over or drop == len(runs) - 1:
                    break
            drop += 1
            entry.kept -= run.count
            entry.kept_bytes -= len(run.results)
            delta -= run.item
        if drop:
            del runs[:drop]
        entry.used = (epoch, counter)
        entry.item = item = _head_item(seed, entry.expected, epoch, counter)
        self._sum = (self._sum + delta + item) & _MASK
        self._table.move_to_end(entry.id)

    def stored(self, session: SessionId, seq: int, count: int) -> list[Piece]:
        """What is kept of operations `seq` to `seq + count - 1`, all applied before, in order and without holes."""
        pieces: list[Piece] = []
        end = seq + count
        for run in self._table[session].runs:
            first, last = max(seq, run.seq), min(end, run.seq + run.count)
            if first >= last:
                continue
            if first > seq:
                pieces.append(_gone(seq, first - seq))
            pieces.append(_slice(run, first, last))
            seq = last
        if seq < end:
            pieces.append(_gone(seq, end - seq))
        return pieces

    @property
    def digest(self) -> int:
        return self._sum

    def full_digest(self) -> int:
        total = 0
        for entry in self._table.values():
            seed = _seed(entry.id, entry.name)
            total += _head_item(seed, entry.expected, *entry.used)
            for run in entry.runs:
                total += _run_item(seed, run.seq, run.count, run.epoch, run.counter, run.results)
        return total & _MASK

    def snapshot(self) -> Iterable[bytes]:
        # The fields of each, as they are now; runs are never changed.
        return array_pieces(
            [
                (s.id, s.name, s.expected, s.used, s.runs.copy(), s.kept, s.kept_bytes, s.seed, s.item)
                for s in self._table.values()
            ]
        )

    def restore(self, data: bytes | memoryview) -> None:
        """Become the table that `snapshot` described. Raises UNREADABLE on damage."""
        self._table = OrderedDict((entry.id, entry) for entry in _decode(data))
        self._sum = self.full_digest()


def _slice(run: StoredRun, first: int, last: int) -> Piece:
    zxid = Zxid(run.epoch, run.counter + first - run.seq)
    if last - first == run.count:
        return Piece(first, run.count, zxid, run.results)
    results = decode_results(run.results)[first - run.seq : last - run.seq]
    return Piece(first, last - first, zxid, encode(results))


def _gone(seq: int, count: int) -> Piece:
    gone: list[Result] = [Gone()] * count
    return Piece(seq, count, ZERO, encode(gone))
