"""What a node calls to say what it does: events for programs and, where it matters, one line for people.

A node knows it as its `Observer`. `EventObserver` turns inputs and effects into the event objects described in
docs/events.md (one JSON object a line, per batch, never per operation) and into readable lines. It keeps no file:
finished lines go to the two sinks it was given, which must not wait (trace/logfile.py). What a step says is in
steps.py; how it is written down teller.py, what it depends on of earlier ones books.py, what a leader knows of others
support.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from zabzmq.core.effects import Effect
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Input, Quiesced
from zabzmq.core.lamport import Lamport
from zabzmq.core.messages import State
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import ZERO, ProcessId, Zxid
from zabzmq.trace.asked import NameOf
from zabzmq.trace.books import Applied, Rush, Step, is_ordinary
from zabzmq.trace.steps import Steps
from zabzmq.trace.support import pair

BEATS_EVERY_MS: Final = 1000.0
"""Heartbeats and their echoes are told as one count a second."""

PENDING_MAX: Final = 64
"""Steps noted before they become events, at most: in one go, while the code for it is warm, costs less than half."""


class Watched(Protocol):
    """What an observer looks up in the peer it watches."""

    committed: Zxid
    durable: Zxid
    voters: Voters


class EventObserver(Steps):
    """Turns the steps of one node into events and lines.

    What the node calls only notes a step; `settle`, called now and then, makes events and lines of what was noted.
    `events` takes JSON objects, of which `encode_events` makes lines; `lines` takes whole lines for people.
    `time_of_day` gives the stamp of a line for a moment of the node's clock, which is monotonic and shared by all
    processes of a host; `t` of an event is that moment in seconds.
    """

    def __init__(
        self,
        process: ProcessId,
        events: Callable[[str], None],
        lines: Callable[[str], None],
        time_of_day: Callable[[float], str],
        epoch: int = 0,
        lamport: Lamport | None = None,
    ) -> None:
        super().__init__(process, events, lines, time_of_day, epoch)
        self.lamport = Lamport() if lamport is None else lamport
        self.is_watched: Callable[[], bool] = lambda: True
        """Whether anybody reads along. While nobody does, a rush is told in part (books.py)."""
        self._rush = Rush()
        self._is_rush = False
        self._stood: tuple[Zxid, Zxid, tuple[Batch, int] | None] | None = None  # when it was last told in a rush
        self._pending: list[Step] = []
        self._peer: Watched | None = None
        self._game: Callable[[], dict[str, Any]] | None = None
        self.host_now: Callable[[], float] | None = None
        """Where the node's own time may stand still (step mode): the time that its events are told by."""

    # ---- what the node calls ---------------------------------------------------------------------------------

    def watch(self, peer: Watched, game: Callable[[], dict[str, Any]], name_of: NameOf = lambda session: None) -> None:
        """Look up here what steps do not say: the watermark, who holds what, the game, who a session belongs to."""
        self._name_of = name_of
        self._peer = peer
        self._game = game
        self._committed = peer.committed
        self._support.need = peer.voters.needed
        self._durable = peer.durable

    def on_step(self, now: float, event: Input, effects: list[Effect]) -> None:
        if self.host_now is not None:
            now = self.host_now()
        committed = ZERO if self._peer is None else self._peer.committed
        stamp = self.lamport.tick()
        if self._is_rush and is_ordinary(event, effects):
            self._enter(now, event, effects, committed)
            return
        self._pending.append((now, stamp, event, effects, committed))
        if self._is_rush or type(event) is Quiesced:
            self.settle()  # of a history, which goes on to grow, what it is now
        elif len(self._pending) >= PENDING_MAX:
            before = self.seq
            self.settle()
            self._is_rush = not (self._rush.admits(now, self.seq - before) or self.is_watched())

    def on_applied(self, now: float, batch: Batch, digest: int) -> None:
        if self.host_now is not None:
            now = self.host_now()
        stamp = self.lamport.tick()
        if self._is_rush:
            self._enter_applied(batch, digest)
            return
        game = None if self._game is None else self._game()
        self._pending.append((now, stamp, Applied(batch, digest, game), (), ZERO))

    def settle(self) -> None:
        """Turn what was noted into events and lines."""
        pending, self._pending = self._pending, []
        for step in pending:
            self._tell_step(step)

    def _alone(self, now: float) -> None:
        """What is told next stands in no step."""
        self.settle()
        self._at(now, self.lamport.tick())

    def _tell_standing(self, now: float) -> None:
        """What came of the steps that were passed over."""
        stands = self._durable, self._committed, self._applied_last
        if stands == self._stood:
            return
        self._stood = *stands[:2], None
        if self._state is State.LEADING and self.tail:
            self._on_new_batch(now, self.tail[-1])
        self._tell(f'"persist","z":{pair(self._durable)}')
        self._on_watermark(now, self._committed)
        if self._applied_last is not None:
            batch, digest = self._applied_last
            self._applied_last = None
            self._on_applied(now, Applied(batch, digest, None if self._game is None else self._game()))

    def on_violation(self, now: float, name: str, text: str) -> None:
        """A promise of the protocol is broken, as far as this node can see."""
        self._alone(now if self.host_now is None else self.host_now())
        self._event("invariant", {"name": name, "ok": False, "text": text})
        self._line(f"ERROR {name}: {text}")

    def fault(self, now: float, what: str, text: str = "", **fields: Any) -> None:
        """Something is done to this node on purpose; `text` says it in the line."""
        self._alone(now)
        self._event("fault", {"what": what, **fields})
        self._line(f"fault: {text or what}")

    def hold(self, now: float, what: str, text: str, **fields: Any) -> None:
        """Step mode: a message waits or is let go, time stands or passes; `text` says it in the line."""
        self._alone(now)
        self._event("hold", {"what": what, **fields})
        self._maybe_line(now, f"step: {text}")

    def taken(self, now: float, kind: str, peer: int, way: str, fault: str, count: int = 1) -> None:
        """A fault took so many messages of this kind, `in` from that peer or `out` to it."""
        self._alone(now)
        why = f"taken by a fault: {fault}"
        self._event("drop", {"type": kind, "peer": peer, "way": way, "fault": fault, "count": count, "why": why})

    def frames_dropped(self, now: float, reasons: Mapping[str, int]) -> None:
        """Frames that could not be read, by reason."""
        self._alone(now)
        self._event("drop", {"what": "frames", "reasons": dict(reasons), "why": "cannot be read"})
        # The last words of a link that has just ended are weather, and no matter for people.
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()) if reason != "closed")
        if told:
            self._line(f"WARNING frames refused: {told}")

    def boot_event(self, now: float, text: str, **fields: Any) -> None:
        """The first event of a process; `text` is its line."""
        self._alone(now)
        self._event("boot", fields)
        self._line(text)

    def note(self, now: float, text: str, **fields: Any) -> None:
        """Something the node's surroundings want told."""
        self._alone(now)
        self._event("note", {"text": text, **fields})
        self._line(text)

    def idle(self, now: float) -> None:
        """Called now and then: tell what was only counted so far."""
        self.settle()
        if self._is_rush:
            self._at(now, self.lamport.tick())
            self._tell_standing(now)
            self._is_rush = not (self._rush.is_over(now) or self.is_watched())
        if now - self._beats_told >= BEATS_EVERY_MS:
            self._alone(now)
            self._tell_beats(now)
        held = self._budget.over(now)
        if held:
            self._line(f"... {held} more")
