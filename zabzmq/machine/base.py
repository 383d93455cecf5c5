"""What a replicated machine is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from zabzmq.core.zxid import Zxid
from zabzmq.machine.operations import Answer, Operation, Query, Result


class StateMachine(Protocol):
    """A deterministic machine inside the replicated state. Pure: no clock, dice, files or set iteration order.

    `digest` is of the state itself, kept incrementally; `full_digest` computes the same from nothing (tests
    compare them). `snapshot` is the exact state, from which `restore` makes an equal machine.
    """

    def apply(self, operations: Iterable[Operation], by: str, first: Zxid) -> list[Result]:
        """Execute operations of this machine in order, for the client named `by`; one result for each.

        `first` is the zxid of the first one, the others follow counter by counter. Never raises for what a client
        asked: a refusal is a result like any other.
        """

    def query(self, query: Query) -> Answer: ...
    @property
    def digest(self) -> int: ...
    def full_digest(self) -> int: ...
    def snapshot(self) -> Iterable[bytes]:
        """Of this moment, whenever and in whichever thread the pieces are taken."""

    def restore(self, data: bytes | memoryview) -> None:
        """Become the machine that `snapshot` described. Raises UNREADABLE on damage."""
