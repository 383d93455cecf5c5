"""How much Python a piece of work executes: lines and calls, which are the same on every machine and every day."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

import zabzmq

ROOT: Final = f"{Path(next(iter(zabzmq.__path__)))}/"
NOT_THE_PRODUCT: Final = ("sim/", "trace/", "core/invariants.py")
"""What watches a simulated run is not there in a real one."""


class Counting:
    """Count while the block runs, in the files of the product only. `lines` and `calls` are by file and function;
    calls include those of C functions."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._before: tuple[Any, Any] = (None, None)

    def __enter__(self) -> Counting:
        self._before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._on_call)
        sys.settrace(self._on_frame)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        trace, profile = self._before
        sys.settrace(trace)
        sys.setprofile(profile)

    def _name(self, frame: FrameType) -> str:
        """ "core/peer.py step", or "" outside the product."""
        code = frame.f_code
        if code.co_filename not in self._names:
            inside = code.co_filename.removeprefix(ROOT)
            is_product = inside != code.co_filename and not inside.startswith(NOT_THE_PRODUCT)
            self._names[code.co_filename] = inside if is_product else ""
        file = self._names[code.co_filename]
        return f"{file} {code.co_name}" if file else ""

    def _on_call(self, frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_call") and (name := self._name(frame)):
            self.calls[name] += 1

    def _on_frame(self, frame: FrameType, event: str, arg: object) -> Any:
        name = self._name(frame)
        if not name:
            return None
        lines = self.lines

        def on_line(frame: FrameType, event: str, arg: object) -> Any:
            if event == "line":
                lines[name] += 1
            return on_line

        return on_line


def per_operation(one: Counter[str], many: Counter[str], more: int) -> dict[str, float]:
    """What each of `more` further operations costs, by function, the dearest first."""
    extra = {name: (many[name] - one[name]) / more for name in many | one}
    return dict(sorted(((n, cost) for n, cost in extra.items() if cost), key=lambda pair: -pair[1]))
