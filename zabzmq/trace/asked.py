"""What clients asked for, in the words of the text log: looked up only for a line that is printed anyway.

The core holds the bytes of operations and never opens them. Here one operation is opened for people; a batch of many
is told by their number, for a line is no place for them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from zabzmq.core.history import Batch
from zabzmq.core.zxid import Zxid
from zabzmq.machine.operations import UNREADABLE, Cas, Delete, Guess, Operation, Put, Register, Target, decode_runs

NameOf: TypeAlias = Callable[[Zxid], str | None]
"""The name a session was registered with, if it is known here."""

KEY_SHOWN = 40


def asked(batches: Sequence[Batch], name_of: NameOf) -> str:
    """The one operation of these batches and who wants it, or "" for many and for what cannot be read."""
    if len(batches) != 1 or batches[0].count != 1:
        return ""
    batch = batches[0]
    if batch.admit is not None:
        return f"admit node {batch.admit.peer}"
    try:
        (run,) = decode_runs(batch.data)
        (operation,) = run.ops
    except (*UNREADABLE, ValueError):
        return ""
    name = name_of(Zxid(*run.session)) if run.seq else None
    return f"{_words(operation)} by {_printable(name)}" if name else _words(operation)


def outcome(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What became of the game."""
    if after is None or after.get("target") is None:
        return ""
    if before is not None and before.get("open") and not after.get("open"):
        return f"a hit: {after['target']}, round {after.get('round')} is over"
    if before == after:
        return f"target stays {after['target']}"
    return f"target {after['target']} by {_printable(str(after.get('owner')))}"


def is_play(text: str) -> bool:
    """Whether such words are about the game."""
    return text.startswith(("guess ", "target "))


def _words(operation: Operation) -> str:
    match operation:
        case Guess(value):
            return f"guess {value}"
        case Target(value):
            return f"target {value}"
        case Put(key):
            return f"put {_key(key)}"
        case Delete(key):
            return f"del {_key(key)}"
        case Cas(key):
            return f"cas {_key(key)}"
        case Register(name):
            return f"a new session of {_printable(name)}"


def _key(key: bytes) -> str:
    text = _printable(key.decode("utf-8", "backslashreplace"))
    return text if len(text) <= KEY_SHOWN else f"{text[:KEY_SHOWN]}..."


def _printable(text: str) -> str:
    """Names and keys come from users: no sign of theirs may disturb a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
