"""Copies and names of what a peer is made of: values are shared, everything that can change is made anew.

The kinds are counted up here, and any other is refused: a copy that shares what can change would search another core
than the shipped one, and a name that leaves something out would call two states one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import fields
from typing import Any, Final

from tests.core.disk import Disk
from zabzmq.core.history import History
from zabzmq.core.learner import Following, Learner, Promise, Promised, Tenure
from zabzmq.core.peer import Contact, Peer
from zabzmq.core.phase import PeerPhase
from zabzmq.core.quorum import Voters
from zabzmq.core.timing import Timing

RECORDS: Final = {
    kind: tuple(field.name for field in fields(kind))
    for kind in (Contact, Following, History, Learner, Promise, Promised, Tenure)
}
CONSTANTS: Final = (Timing, Voters)
VALUES: Final = (int, float, str, bytes, tuple, frozenset, type(None))


class Steady:
    """Dice without chance: jitter only spreads retries."""

    def random(self) -> float:
        return 0.5


def copy_of(value: Any, peer: Peer | None = None) -> Any:
    """`value` as it is now; a phase of it belongs to `peer`."""
    kind = type(value)
    if isinstance(value, VALUES) or kind in CONSTANTS or kind is Steady:
        return value
    if kind is dict:
        return {key: copy_of(each, peer) for key, each in value.items()}
    if kind in (list, set, deque):
        return kind(copy_of(each, peer) for each in value)
    if kind in RECORDS:
        return kind(**{name: copy_of(getattr(value, name), peer) for name in RECORDS[kind]})
    if kind is Peer:
        new = object.__new__(Peer)
        new.__dict__.update({name: copy_of(each, new) for name, each in value.__dict__.items()})
        return new
    if isinstance(value, PeerPhase | Disk):
        new = object.__new__(kind)
        for name, each in value.__dict__.items():
            new.__dict__[name] = peer if name == "peer" else copy_of(each, peer)
        return new
    raise TypeError(f"how to copy a {kind.__name__} is not known")


def name_of(value: Any) -> Hashable:
    """Equal for equal values, whatever the order in which dicts and sets were filled. No peer holds itself, and dice,
    voters and timing are the same in every state."""
    if isinstance(value, VALUES):
        return value
    kind = type(value)
    if kind is dict:
        return tuple(sorted((key, name_of(each)) for key, each in value.items()))
    if kind is set:
        return tuple(sorted(value))
    if kind in (list, deque):
        # Effects are tuples: without their kinds a SaveEpochs might equal another.
        return tuple((type(each).__name__, name_of(each)) for each in value)
    if kind in RECORDS:
        return tuple(name_of(getattr(value, name)) for name in RECORDS[kind])
    if kind in CONSTANTS or kind is Steady:
        return None
    if isinstance(value, Peer | PeerPhase | Disk):
        return (kind.__name__, *(name_of(each) for name, each in value.__dict__.items() if name != "peer"))
    raise TypeError(f"how to name a {kind.__name__} is not known")
