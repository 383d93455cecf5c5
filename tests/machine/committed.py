"""A committed history of a few lines, for tests of what applies it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw, msgpack

from zabzmq.core.history import Admit, Batch
from zabzmq.core.zxid import ZERO, PeerId, Zxid
from zabzmq.machine.operations import (
    NO_SESSION,
    Operation,
    Register,
    Registered,
    Result,
    SealedRun,
    SessionId,
    decode_results,
    encode,
)
from zabzmq.machine.sessions import MAX_CLIENTS
from zabzmq.machine.state import AppliedRun, ReplicatedState


def run(session: SessionId, seq: int, *ops: Operation, acked: int = 0) -> SealedRun:
    return SealedRun(session, seq, acked, Raw(encode(list(ops))))


class History:
    """Batches in order, applied to `state` as they come. `batches` can be replayed elsewhere."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self.state = ReplicatedState(max_clients)
        self.batches: list[Batch] = []
        self.last = ZERO
        self.epoch = 1
        self._next: dict[SessionId, int] = {}

    def batch(self, *runs: SealedRun, count: int | None = None, data: bytes | None = None) -> Batch:
        """The next batch, not applied. `count` and `data` lie on request."""
        counter = self.last.counter + 1 if self.last.epoch == self.epoch else 1
        ops = sum(len(_operations(each)) for each in runs) if count is None else count
        return Batch(Zxid(self.epoch, counter), self.last, ops, 0, None, encode(list(runs)) if data is None else data)

    def commit(self, *runs: SealedRun) -> list[AppliedRun]:
        return self._commit(self.batch(*runs))

    def admit(self) -> list[AppliedRun]:
        empty = self.batch(count=1, data=b"")
        return self._commit(empty._replace(admit=Admit(PeerId(1), 7)))

    def _commit(self, batch: Batch) -> list[AppliedRun]:
        applied = self.state.apply(batch)
        self.batches.append(batch)
        self.last = batch.last
        return applied

    def register(self, name: str) -> SessionId:
        result = self.results(run(NO_SESSION, 0, Register(name)))[0]
        assert isinstance(result, Registered)
        self._next[result.session] = 1
        return result.session

    def results(self, sealed: SealedRun) -> list[Result]:
        """Commit one run in a batch of its own."""
        (applied,) = self.commit(sealed)
        return decode_results(applied.results)

    def do(self, session: SessionId, *ops: Operation, acked: int = 0) -> list[Result]:
        """The session's next operations."""
        seq = self._next[session]
        self._next[session] = seq + len(ops)
        return self.results(run(session, seq, *ops, acked=acked))


def _operations(sealed: SealedRun) -> Sequence[object]:

    operations = msgpack.decode(sealed.ops)
    assert isinstance(operations, list)
    return operations


def replayed(history: History, max_clients: int = MAX_CLIENTS) -> ReplicatedState:
    """Another node that applied the same."""
    state = ReplicatedState(max_clients)
    for batch in history.batches:
        state.apply(batch)
    return state


def snapped(state: ReplicatedState) -> bytes:
    return b"".join(state.snapshot())


def restored(state: ReplicatedState, max_clients: int = MAX_CLIENTS) -> ReplicatedState:
    """Another node that took the snapshot."""
    copy = ReplicatedState(max_clients)
    copy.restore(b"".join(state.snapshot()))
    return copy
