"""The replicated state: the client table and the machines it guards, moved by committed batches alone.

Pure and deterministic: equal batches make equal states, on every node and after every restart (DigestAgreement).
Clients, sockets and disks are others' business; what the table decides (C2, C3) is decided nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from zabzmq.core.errors import StorageError, ZabError
from zabzmq.core.history import Batch
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.base import StateMachine
from zabzmq.machine.game import GameMachine
from zabzmq.machine.kv import KvMachine
from zabzmq.machine.operations import (
    NO_SESSION,
    UNREADABLE,
    Answer,
    Operation,
    Query,
    Refused,
    Register,
    Registered,
    Result,
    Run,
    SessionId,
    decode_results,
    decode_runs,
    encode,
)
from zabzmq.machine.sessions import MAX_CLIENTS, Sessions, is_printable

SNAPSHOT_MAGIC: Final = b"ZABSTAT1"
_HEADER: Final = struct.Struct("<8sQQQQQQ")  # magic, applied epoch and counter, digest, lengths of the three parts
_pack_digests: Final = struct.Struct("<QQQ").pack


class CorruptBatch(ZabError):
    """A committed batch that cannot be opened: a bug of ours, or damage that no checksum saw. The node fails."""


class AppliedRun(NamedTuple):
    """One run of a batch, applied at `first` and on; `results` is its MessagePack array of Result.

    The first `repeated` operations had been applied before: nothing was done, their results are the stored ones.
    `why` is "" or the reason nothing at all was done, and `name` is "" if the session is unknown.
    """

    session: SessionId
    name: str
    seq: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody calls
    first: Zxid
    results: bytes
    repeated: int = 0
    why: str = ""


class ReplicatedState:
    """What every node holds a copy of. `applied` is the zxid of the last transaction it has taken in."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self.applied = ZERO
        self._digest: int | None = None  # as far as it was asked for since the state last moved
        self.game = GameMachine()
        self.kv = KvMachine()
        self.sessions = Sessions(max_clients)
        machines: tuple[GameMachine | KvMachine, ...] = (self.game, self.kv)
        self._machine_of: dict[type, StateMachine] = {kind: m for m in machines for kind in (*m.OPERATIONS, *m.QUERIES)}

    def apply(self, batch: Batch) -> list[AppliedRun]:
        """Take in the next committed batch. Raises CorruptBatch, with nothing changed, if it cannot be opened."""
        assert batch.prev == self.applied, f"{batch.first} follows {batch.prev}, but applied is {self.applied}"
        self._digest = None
        if batch.admit is not None:  # Concerns voters, not clients.
            self.applied = batch.last
            return []
        try:
            runs = decode_runs(batch.data)
        except UNREADABLE as damage:
            raise CorruptBatch(f"batch {batch.first} of {batch.count} cannot be decoded: {damage}") from damage
        if sum(len(run.ops) for run in runs) != batch.count:
            raise CorruptBatch(f"batch {batch.first} does not hold the {batch.count} operations it was proposed with")
        epoch, counter = batch.first
        applied: list[AppliedRun] = []
        for run in runs:
            applied.append(self._apply_run(run, Zxid(epoch, counter)))
            counter += len(run.ops)
        self.applied = batch.last
        return applied

    def _apply_run(self, run: Run, first: Zxid) -> AppliedRun:
        session, seq, count = run.session, run.seq, len(run.ops)
        if session == NO_SESSION:
            return self._register(run, first)
        entry = self.sessions.get(session)
        if entry is None:
            return _refuse_all(run, "", first, "expired_client", "this session is unknown or has expired")
        name, expected = entry.name, entry.expected
        if seq > expected:
            # Cannot happen: a leader proposes a session's runs in order, and a history has no holes, so what is
            # delivered is a prefix of what some leader saw. Were it to happen by a bug of ours, executing the run
            # would lose the operations before it for good; refusing it without a record leaves them to a retry.
            return _refuse_all(run, name, first, "seq_gap", f"operation {seq} came before operation {expected}")
        if seq == expected:
            results = encode(self._execute(run.ops, name, first))
            self.sessions.record(entry, run.acked, first, count, results)
            return AppliedRun(session, name, seq, count, first, results)
        repeated = min(expected - seq, count)
        stored = [r for piece in self.sessions.stored(session, seq, repeated) for r in decode_results(piece.results)]
        fresh_at = Zxid(first.epoch, first.counter + repeated)
        fresh = self._execute(run.ops[repeated:], name, fresh_at)
        self.sessions.record(entry, run.acked, fresh_at, len(fresh), encode(fresh))
        return AppliedRun(session, name, seq, count, first, encode(stored + fresh), repeated)

    def _execute(self, ops: list[Operation], name: str, first: Zxid) -> list[Result]:
        """Neighbours of one kind go to their machine together: its loop then costs no call per operation."""
        results: list[Result] = []
        for kind, stretch in groupby(ops, type):
            if kind is Register:
                results.extend(Refused("not_in_session", "a session cannot register another") for _ in stretch)
                continue
            place = Zxid(first.epoch, first.counter + len(results)) if results else first
            results += self._machine_of[kind].apply(stretch, name, place)
        return results

    def _register(self, run: Run, first: Zxid) -> AppliedRun:
        """Registrations stand in no session and are not idempotent; an orphan expires (C4)."""
        results: list[Result] = []
        name = ""
        for place, op in enumerate(run.ops, first.counter):
            if not isinstance(op, Register):
                results.append(Refused("no_session", "only a registration may stand outside a session"))
            elif not is_printable(op.name):
                results.append(Refused("bad_name", "a name is 1 to 64 printable characters"))
            else:
                name = op.name
                results.append(Registered(self.sessions.register(name, Zxid(first.epoch, place))))
        return AppliedRun(NO_SESSION, name, run.seq, len(run.ops), first, encode(results))

    def query(self, queries: Sequence[Query]) -> list[Answer]:
        return [self._machine_of[type(query)].query(query) for query in queries]

    def game_status(self, reveal: bool = False) -> dict[str, int | bool | str | None]:
        return self.game.status(reveal)

    @property
    def digest(self) -> int:
        """64 bits of the state itself, the client table included; `applied` is no part of it."""
        if self._digest is None:
            parts = (self.game.digest, self.kv.digest, self.sessions.digest)
            self._digest = xxh3_64_intdigest(_pack_digests(*parts))
        return self._digest

    def full_digest(self) -> int:
        """The same, from nothing but the state."""
        parts = (self.game.full_digest(), self.kv.full_digest(), self.sessions.full_digest())
        return xxh3_64_intdigest(_pack_digests(*parts))

    def snapshot(self) -> Iterator[bytes]:
        """The exact state at `applied` (L6), in pieces whose concatenation `restore` takes.

        It is copied here and encoded as the pieces are taken, which may be done in another thread. The first of them
        are empty, one after each short stretch of work: a moment to let go of what others need.
        """
        parts = [self.game.snapshot(), self.kv.snapshot(), self.sessions.snapshot()]
        return _pieces(self.applied, self.digest, parts)

    def restore(self, data: bytes) -> None:
        """Become the state of a snapshot. Raises StorageError, and is then of no use, if the snapshot is damaged."""
        if len(data) < _HEADER.size:
            raise StorageError(f"snapshot state of {len(data)} bytes is cut: its header alone has {_HEADER.size}")
        magic, epoch, counter, digest, *lengths = _HEADER.unpack_from(data)
        if magic != SNAPSHOT_MAGIC:
            raise StorageError(f"snapshot state starts with {magic!r}, not {SNAPSHOT_MAGIC!r}")
        if len(data) != _HEADER.size + sum(lengths):
            raise StorageError(f"snapshot state has {len(data)} bytes, its header says {_HEADER.size + sum(lengths)}")
        self._digest = None
        offset, view = _HEADER.size, memoryview(data)
        parts: tuple[GameMachine | KvMachine | Sessions, ...] = (self.game, self.kv, self.sessions)
        for part, length in zip(parts, lengths, strict=True):
            try:
                part.restore(view[offset : offset + length])
            except (*UNREADABLE, struct.error) as damage:  # the second: numbers that no digest can be made of
                what = type(part).__name__
                raise StorageError(f"snapshot state is damaged in {what} at byte {offset}: {damage}") from damage
            offset += length
        if self.digest != digest:
            raise StorageError(f"snapshot state at {epoch}.{counter} has digest {self.digest:016x}, not {digest:016x}")
        self.applied = Zxid(epoch, counter)


def _pieces(applied: Zxid, digest: int, parts: Sequence[Iterable[bytes]]) -> Iterator[bytes]:
    """The header tells how long the parts are, so they are encoded first."""
    encoded: list[bytes] = []
    lengths = []
    for part in parts:
        length = 0
        for piece in part:
            encoded.append(piece)
            length += len(piece)
            yield b""
        lengths.append(length)
    yield _HEADER.pack(SNAPSHOT_MAGIC, *applied, digest, *lengths)
    yield from encoded


def _refuse_all(run: Run, name: str, first: Zxid, why: str, text: str) -> AppliedRun:
    results: list[Result] = [Refused(why, text)] * len(run.ops)
    return AppliedRun(run.session, name, run.seq, len(run.ops), first, encode(results), 0, why)
