"""How what a node says is written down: numbered, stamped events for programs, and a bounded flow of lines for people.

Which events there are is event.py's; what becomes of what is written, that of the two sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zabzmq.core.messages import Phase, State
from zabzmq.core.zxid import PeerId, ProcessId
from zabzmq.trace.counts import LineBudget, boot_of
from zabzmq.trace.words import encode_json, plain

LINES_PER_SECOND: Final = 20

PLACE_NAMES: Final = {
    Phase.QUIESCE: "quiesce",
    Phase.ELECTION: "election",
    Phase.DISCOVERY: "discovery",
    Phase.SYNCHRONIZATION: "sync",
    Phase.BROADCAST: "broadcast",
}


def encode_events(events: list[str]) -> bytes:
    """Events as lines."""
    return "".join([f"{event}\n" for event in events]).encode()


def line_of(when: str, peer: int, epoch: int, state: str, phase: Phase, text: str) -> str:
    """A line for people: state, phase and epoch stand in each."""
    return f"{when}  n{peer} e{epoch} {state:<9}  {PLACE_NAMES[phase]:<9}  {text}\n"


class Teller:
    """One node's voice."""

    def __init__(
        self,
        process: ProcessId,
        events: Callable[[str], None],
        lines: Callable[[str], None],
        time_of_day: Callable[[float], str],
        epoch: int,
    ) -> None:
        self.process = process
        self.boot = boot_of(process)
        self.seq = 0
        self.unbroken = 1
        """Events are numbered without a hole from this one on."""
        self._passed = 0  # steps
        self._now = 0.0  # of the last event
        # What begins an event, up to its number; and what all events of a step share.
        self._head = f'{{"v":1,"n":{process.peer},"boot":"{self.boot}","seq":'
        self._when = ""
        self._events = events
        self._lines = lines
        self._time_of_day = time_of_day
        self._budget = LineBudget(LINES_PER_SECOND)
        self._state = State.LOOKING
        self._phase = Phase.ELECTION
        self._epoch = epoch
        self._beats: dict[tuple[str, str, PeerId | None], int] = {}
        self._beats_told = 0.0

    def _at(self, now: float, stamp: int) -> None:
        """What is told next happened then."""
        self._now = now
        self._when = f',"t":{now / 1000:.6f},"lc":{stamp},"k":'

    def _tell(self, rest: str) -> None:
        """An event, from the value of `k` on. What happens with every batch is put together by hand: objects and an
        encoder would cost several times as much."""
        if self._passed:
            self._tell_passed()
        self.seq += 1
        self._events(f"{self._head}{self.seq}{self._when}{rest}}}")

    def pass_over(self) -> None:
        """A step is not told. What is told next follows a hole in the numbers, and a note of how many these were."""
        self.seq += 1
        self._passed += 1

    def _tell_passed(self) -> None:
        steps, self._passed = self._passed, 0
        self._budget.held_back += steps
        self.unbroken = self.seq + 1
        self._tell(f'"note","what":"rush","steps":{steps}')

    def _event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """An event with operands of its own."""
        rest = str(encode_json(plain(fields)), "utf-8")[1:-1]
        self._tell(f'"{kind}",{rest}' if rest else f'"{kind}"')

    def _line(self, text: str) -> None:
        when, peer = self._time_of_day(self._now), self.process.peer
        self._lines(line_of(when, peer, self._epoch, self._state.name, self._phase, text))

    def _maybe_line(self, now: float, text: str) -> None:
        if self._budget.admits(now):
            self._line(text)

    def _count_beat(self, kind: str, name: str, peer: PeerId | None) -> None:
        """Heartbeats and their echoes are told as one count a second."""
        beat = (kind, name, peer)
        self._beats[beat] = self._beats.get(beat, 0) + 1

    def _tell_beats(self, now: float) -> None:
        self._beats_told = now
        for (kind, name, peer), count in self._beats.items():
            self._event(kind, {"type": name, "to" if kind == "send" else "from": peer, "count": count})
        self._beats.clear()
