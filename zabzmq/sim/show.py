"""Inputs, effects and messages as short lines for people: zxids as `3.7`, links as `2#1`, batches by their ends."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from zabzmq.core.history import Batch, EpochEnd, History
from zabzmq.core.messages import WIRE_NAMES
from zabzmq.core.zxid import LinkId, ProcessId, Zxid


def show(value: Any) -> str:
    """The same text in every run: nothing of memory addresses or set order is in it."""
    match value:
        case Zxid() | EpochEnd():
            return f"{value[0]}.{value[1]}"
        case ProcessId(peer, life, incarnation):
            return f"{peer}/{life & 0xFFFF:04x}/{incarnation}"
        case LinkId(learner, number):
            return f"{learner.peer}/{learner.incarnation}#{number}"
        case Batch():
            what = f"admit {show(value.admit)}" if value.admit is not None else f"{value.count} ops"
            return f"[{show(value.first)} after {show(value.prev)}, {what}]"
        case History():
            return f"history(base {show(value.base)}, snapshot {show(value.snapshot)}, last {show(value.last)})"
        case Enum():
            return value.name
        case msgspec.Raw():
            return show(msgspec.msgpack.decode(value))
        case msgspec.Struct():
            return _named(type(value).__name__, msgspec.structs.asdict(value))
        case tuple() if hasattr(value, "_asdict"):
            return _named(WIRE_NAMES.get(type(value), type(value).__name__), value._asdict())
        case tuple() | list():
            return "(" + ", ".join(show(item) for item in value) + ")"
        case dict():
            return "{" + ", ".join(f"{show(key)}: {show(item)}" for key, item in value.items()) + "}"
        case bytes() if len(value) > 24:
            return f"{len(value)} bytes"
        case float():
            return f"{value:g}"
        case _:
            return str(value) if isinstance(value, str) else repr(value)


def _named(name: str, fields: dict[str, Any]) -> str:
    return name + "(" + ", ".join(f"{key}={show(item)}" for key, item in fields.items()) + ")"
