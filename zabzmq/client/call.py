"""One operation or read on its way, and what became of it."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import Answer, Operation, Query, Result, SessionId
from zabzmq.net.client_wire import Answers, Done


class Outcome(StrEnum):
    """OK and REFUSED were decided in apply and are final. NOT_DONE: surely never happened. UNKNOWN: may have, or may
    yet (C4)."""

    OK = "ok"
    REFUSED = "refused"
    NOT_DONE = "not_done"
    UNKNOWN = "unknown"


class Call:
    """What `Client.submit` and `Client.read` give back. Pending while `outcome` is None.

    `attempts` counts sendings, `refusals` how many of these were definitely refused: while the two differ, an
    attempt may still take effect. Of a read nothing ever takes effect. `why` and `text` explain NOT_DONE and UNKNOWN.
    Times are milliseconds of the client's clock.
    """

    __slots__ = (
        "attempts",
        "deadline",
        "finished",
        "node",
        "operation",
        "outcome",
        "place",
        "refusals",
        "reply",
        "result",
        "seq",
        "session",
        "started",
        "tag",
        "text",
        "why",
    )

    def __init__(self, operation: Operation | Query, started: float, deadline: float, tag: object = None) -> None:
        self.operation = operation
        self.started = started
        self.deadline = deadline
        self.tag = tag  # the caller's own
        self.attempts = 0
        self.refusals = 0
        self.outcome: Outcome | None = None
        self.result: Result | Answer = None
        self.reply: Done | Answers | None = None
        self.place = 0
        self.session: SessionId | None = None
        self.seq = 0
        self.node: int | None = None  # who answered, or was asked last
        self.why = ""
        self.text = ""
        self.finished = 0.0

    @property
    def in_doubt(self) -> bool:
        return self.attempts > self.refusals

    @property
    def zxid(self) -> Zxid | None:
        """Where it was applied; of a read, the state it was answered from. None when that is not known."""
        if self.reply is None:
            return None
        epoch, counter = self.reply.zxid
        if (epoch, counter) == ZERO and isinstance(self.reply, Done):
            return None
        return Zxid(epoch, counter + self.place)

    @property
    def ms(self) -> float:
        """How long it took, as the caller saw it."""
        return self.finished - self.started

    def finish(self, outcome: Outcome, why: str, text: str, now: float) -> None:
        """End without an answer of the state machine."""
        assert self.outcome is None, f"{self.operation} already ended as {self.outcome}"
        self.outcome = outcome
        self.why = why
        self.text = text
        self.finished = now

    def __repr__(self) -> str:
        state = self.outcome.value if self.outcome is not None else "pending"
        return f"<Call {self.operation!r} {state}>"


Calls: TypeAlias = list[Call]
