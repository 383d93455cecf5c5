"""What a node has told so far, as far as what it tells next depends on it; and how a rush is passed over.

Under load a node takes more steps than its log should keep, and telling them all would cost a tenth of its throughput.
So while nobody watches, ordinary steps beyond a budget are entered in these books and told to nobody: numbers of
events skip them, and a note says how many they were. Turning points are not ordinary: they are told whatever the load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from zabzmq.core.effects import Append, Deliver, Effect, Proposed, Publish, ReadReady, Send
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Durable, Input, Read, Received, Request, Tick
from zabzmq.core.messages import (
    WIRE_NAMES,
    Ack,
    Commit,
    HbEcho,
    Heartbeat,
    Message,
    Propose,
    ReadIndex,
    ReadIndexReply,
    State,
)
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.trace.counts import LinkCount
from zabzmq.trace.support import Support
from zabzmq.trace.teller import Teller

TAIL: Final = 64
RUSH_BURST: Final = 4_000.0
"""Events beyond those of RUSH_PER_S that are told of a rush that begins after a quiet time. Heartbeats are none."""
RUSH_PER_S: Final = 400.0
"""Events of a rush that are told although nobody watches; besides these, where things stand, a few times a second."""
RUSH_PAUSE: Final = 800.0
"""When there is room for so many again, they are told in a row."""

_INPUTS: Final = frozenset((Tick, Request, Read, Received, Durable))
_EFFECTS: Final = frozenset((Send, Publish, Append, Deliver, Proposed, ReadReady))
_MESSAGES: Final = frozenset((Propose, Ack, Commit, Heartbeat, HbEcho, ReadIndex, ReadIndexReply))


class Applied(NamedTuple):
    """The state machines took this batch in."""

    batch: Batch
    digest: int
    game: dict[str, Any] | None


Step: TypeAlias = tuple[float, int, Input | Applied, Sequence[Effect], Zxid]
"""What a node did: when, its Lamport clock, the input, what follows from it, and the watermark afterwards."""


class Rush:
    """How many events may still be told when there are many of them: a bucket that time fills."""

    def __init__(self) -> None:
        self._left = RUSH_BURST
        self._at = 0.0

    def admits(self, now: float, events: int) -> bool:
        """Whether there was room for them; then it is taken."""
        fits = self._room(now) >= events
        if fits:
            self._left -= events
        return fits

    def is_over(self, now: float) -> bool:
        """Whether what comes next may be told."""
        return self._room(now) >= RUSH_PAUSE

    def _room(self, now: float) -> float:
        self._left = min(RUSH_BURST, self._left + (now - self._at) * RUSH_PER_S / 1_000.0)
        self._at = now
        return self._left


class Books(Teller):
    """The account of one node."""

    def __init__(
        self,
        process: ProcessId,
        events: Callable[[str], None],
        lines: Callable[[str], None],
        time_of_day: Callable[[float], str],
        epoch: int,
    ) -> None:
        super().__init__(process, events, lines, time_of_day, epoch)
        self.tail: deque[Batch] = deque(maxlen=TAIL)
        """The newest batches of the log, be they committed or not."""
        self._support = Support(process.peer)
        self._durable = ZERO
        self._committed = ZERO
        self._links: dict[LinkId, LinkCount] = {}
        self._writing: deque[tuple[Zxid, float]] = deque()  # appends not yet durable, and when they were asked for
        self._open: deque[Batch] = deque()  # proposed for clients here, and not applied yet
        self._applied_last: tuple[Batch, int] | None = None  # the last one applied in a rush, and the digest then

    def _enter(self, now: float, event: Input, effects: Sequence[Effect], committed: Zxid) -> None:
        """Take an ordinary step in without a word."""
        if type(event) is Received:
            self._enter_received(now, event)
        elif type(event) is Durable:
            self._enter_durable(event.zxid, now)
        for effect in effects:
            if type(effect) is Send:
                count = self._links.get(effect.link) or self._link(effect.link, None)
                count.sent += 1
                self._is_beat("send", type(effect.message), count.peer)
            elif type(effect) is Publish:
                self._is_beat("send", type(effect.message), None)
            elif type(effect) is Append:
                self._enter_append(now, effect)
            elif type(effect) is Proposed:
                self._open.append(effect.batch)
        if committed > self._committed:
            self._committed = committed
        self.pass_over()

    def _enter_applied(self, batch: Batch, digest: int) -> None:
        self._is_answered(batch)
        self._applied_last = batch, digest
        self.pass_over()

    def _enter_received(self, now: float, event: Received) -> None:
        source, link, message = event
        if link is not None:
            count = self._links.get(link) or self._link(link, source.peer)
            count.received += 1
        if type(message) is Ack:
            self._support.echoed[source.peer] = now
            if self._state is State.LEADING:
                self._support.held[source.peer] = message.zxid
        elif self._is_beat("recv", type(message), source.peer) and type(message) is HbEcho:
            self._support.echoed[source.peer] = now

    def _enter_durable(self, zxid: Zxid, now: float) -> float:
        """How long the disk took, in milliseconds, as far as is known."""
        self._durable = zxid
        since = now
        while self._writing and self._writing[0][0] <= zxid:
            since = self._writing.popleft()[1]
        if self._state is State.LEADING:
            self._support.held[self.process.peer] = zxid
        return now - since

    def _enter_append(self, now: float, effect: Append) -> None:
        self._writing.append((effect.batches[-1].last, now))
        self.tail.extend(effect.batches)

    def _is_answered(self, batch: Batch) -> bool:
        """Whether it was proposed for clients here, who have their answers now that it is applied."""
        answered = bool(self._open) and self._open[0].first <= batch.first
        if answered:
            self._open.popleft()
        return answered

    def _is_beat(self, kind: str, message: type[Message], peer: PeerId | None) -> bool:
        """Heartbeats and their echoes are counted, and told once a second."""
        if message is not Heartbeat and message is not HbEcho:
            return False
        self._count_beat(kind, WIRE_NAMES[message], peer)
        return True

    def _link(self, link: LinkId, peer: PeerId | None) -> LinkCount:
        count = self._links.get(link)
        if count is None:
            count = self._links[link] = LinkCount(link, self.process.peer, peer)
        elif count.peer is None:
            count.peer = peer
        return count


def is_ordinary(event: Input, effects: Sequence[Effect]) -> bool:
    """Whether it is one of the steps that broadcast, heartbeats and reads are made of."""
    if type(event) not in _INPUTS or (type(event) is Received and type(event.message) not in _MESSAGES):
        return False
    for effect in effects:
        if type(effect) not in _EFFECTS or (type(effect) is Send and type(effect.message) not in _MESSAGES):
            return False
    return True
