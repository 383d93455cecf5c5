"""`node -v`: every event of a node in words, one a line, in the form of the lines that it shows otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zabzmq.cli.server_trace import fitting
from zabzmq.core.messages import Phase, State
from zabzmq.trace.reading import Event, parse
from zabzmq.trace.teller import line_of
from zabzmq.trace.telling import tell

PLACE: Final = ("role", "phase", "epoch")


class InWords:
    """Called with blocks of events as they were written down, in the thread that shows them."""

    def __init__(self, time_of_day: Callable[[float], str], paint: Callable[[str], str]) -> None:
        self._time_of_day = time_of_day
        self._paint = paint
        self._place: dict[str, Any] = {"role": State.LOOKING.name, "phase": Phase.ELECTION.name, "epoch": 0}

    def __call__(self, block: bytes) -> bytes:
        lines = [self._paint(self._line(parse(raw))) for raw in block.splitlines()]
        return "".join(lines).encode("utf-8", "backslashreplace")

    def _line(self, event: Event) -> str:
        place = self._place
        if event.k == "boot":
            place["epoch"] = event.get("current")
        elif event.k == "state":
            place.update({name: event.get(name) for name in PLACE})
        when = self._time_of_day(event.t * 1000)
        return line_of(when, event.n, place["epoch"], place["role"], Phase[place["phase"]], fitting(tell(event)))
