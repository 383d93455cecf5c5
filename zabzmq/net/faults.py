"""What is done on purpose to the messages of one node: cut, lose, delay, repeat, reorder. Pure: time comes in, dice are
seeded, and what a fault takes is told. What waits until people let it go is net/holding.py's.

Everything but an outgoing cut acts where a message arrives, frame by frame, below the numbers of links: to net/link.py
a frame that is taken, repeated or overtaken is what a loss inside ZeroMQ would be, a hole, and it closes the link (T1).
Nothing here makes a link look alive that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heappop, heappush
from itertools import count
from math import inf
from operator import itemgetter
from random import Random
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from zabzmq.core.errors import ZabError
from zabzmq.core.zxid import PeerId
from zabzmq.net.holding import HELD_BYTES_MAX, Frames, Holding, Take
from zabzmq.net.wire import name_of

WAIT_MS_MAX: Final = 60_000
RULES_MAX: Final = 16
OVERTAKEN_MS: Final = 20.0
"""How long a message that is to be overtaken waits for others to pass it."""

Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, le=WAIT_MS_MAX)]


class FaultError(ZabError):
    """A fault that cannot be, in words for whoever wants it."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What is done to one peer's messages (docs/control.md, section 2)."""

    peer: int
    cut: Literal["in", "out", "both"] | None = None
    drop: Probability = 0.0
    delay_ms: Milliseconds = 0.0
    jitter_ms: Milliseconds = 0.0
    duplicate: Probability = 0.0
    reorder: Probability = 0.0


class FaultTable(Struct, frozen=True, forbid_unknown_fields=True):
    """All that is done to one node. Empty: nothing."""

    rules: Annotated[tuple[Rule, ...], Meta(max_length=RULES_MAX)] = ()
    disk_ms: Milliseconds = 0.0
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] = 0

    @property
    def is_empty(self) -> bool:
        return not self.rules and not self.disk_ms

    def to_json(self) -> dict[str, Any]:
        """For JSON: of each rule only what it does."""
        rules = [
            {name: value for name, value in asdict(rule).items() if value or name == "peer"} for rule in self.rules
        ]
        return {"rules": rules, "disk_ms": self.disk_ms, "seed": self.seed}


def parse_table(body: bytes, me: int, peers: Collection[int]) -> FaultTable:
    """The table in this JSON, judged for node `me`. Raises FaultError."""
    try:
        table = msgspec.json.decode(body or b"{}", type=FaultTable)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FaultError(f"not a fault table: {error}") from None
    seen = set()
    for rule in table.rules:
        if rule.peer == me or rule.peer not in peers:
            others = " ".join(str(peer) for peer in sorted(peers) if peer != me)
            raise FaultError(f"a rule of node {me} is for one of the nodes {others}, not for {rule.peer}")
        if rule.peer in seen:
            raise FaultError(f"two rules for node {rule.peer}")
        seen.add(rule.peer)
    return table


Taken: TypeAlias = Callable[[str, int, str, str], None]
"""Told of each message that a fault took: its type, the other node, `in` or `out`, and which fault."""


class Faults:
    """The faults in force at one node's sockets. `set` them; the sockets ask here, message by message."""

    def __init__(self, taken: Taken, now: Callable[[], float], holding: Holding | None = None) -> None:
        """`now` is in milliseconds, and never goes back."""
        self._taken = taken
        self._holding = holding
        self._now = now
        self._rules: dict[int, Rule] = {}
        self._dice: dict[int, Random] = {}
        self._held: list[tuple[float, int, PeerId, Take, Frames]] = []
        self._held_bytes = 0
        self._order = count()
        self._last_due: dict[int, float] = {}  # of each peer: what comes next is not heard before it

    def set(self, table: FaultTable) -> None:
        """From now on this; what the table before holds back is heard now, in its order."""
        self._rules = {rule.peer: rule for rule in table.rules}
        self._dice = {rule.peer: Random(f"{table.seed}/{rule.peer}") for rule in table.rules}
        self._last_due.clear()
        held, self._held, self._held_bytes = sorted(self._held, key=itemgetter(0, 1)), [], 0
        for _, _, peer, take, frames in held:
            self._hear(peer, take, frames)

    # ---- what goes out

    def keeps(self, peer: int, frame: bytes) -> bool:
        """Whether this never leaves; for the sender it has left."""
        rule = self._rules.get(peer)
        if rule is None or rule.cut not in ("out", "both"):
            return False
        self._taken(name_of(frame), peer, "out", "cut")
        return True

    # ---- what comes in

    def from_peer(self, peer: PeerId, take: Take) -> Take:
        """`take` for a socket that hears this peer alone."""
        return lambda frames: self._arrive(peer, take, frames)

    def from_route(self, take: Take) -> Take:
        """`take` for a ROUTER that hears peers under the names they gave their sockets: `3/...`."""

        def arrive(frames: Frames) -> None:
            if not self._rules and not (self._holding and self._holding.on):
                take(frames)
                return
            name = frames[0].partition(b"/")[0]
            self._arrive(PeerId(int(name) if name.isdigit() else -1), take, frames)

        return arrive

    def _hear(self, peer: PeerId, take: Take, frames: Frames) -> None:
        """It has arrived, and is heard unless it is to wait for people."""
        if self._holding is None or not self._holding.on:
            take(frames)
        elif not self._holding.hold(peer, take, frames):
            self._taken(name_of(frames[-1]), peer, "in", "hold")

    def _arrive(self, peer: PeerId, take: Take, frames: Frames) -> None:
        rule = self._rules.get(peer)
        if rule is None:
            self._hear(peer, take, frames)
            return
        dice = self._dice[peer]
        if rule.cut in ("in", "both"):
            self._taken(name_of(frames[-1]), peer, "in", "cut")
            return
        if rule.drop and dice.random() < rule.drop:
            self._taken(name_of(frames[-1]), peer, "in", "drop")
            return
        copies = 2 if rule.duplicate and dice.random() < rule.duplicate else 1
        now = self._now()
        due = now + rule.delay_ms + (rule.jitter_ms * dice.random() if rule.jitter_ms else 0.0)
        due = max(due, self._last_due.get(peer, due))
        if rule.reorder and dice.random() < rule.reorder:
            due += OVERTAKEN_MS
        else:
            self._last_due[peer] = due
        for _ in range(copies):
            if due <= now:
                self._hear(peer, take, frames.copy())
            elif self._held_bytes + len(frames[-1]) > HELD_BYTES_MAX:
                self._taken(name_of(frames[-1]), peer, "in", "delay")
            else:
                self._held_bytes += len(frames[-1])
                heappush(self._held, (due, next(self._order), peer, take, frames.copy()))

    @property
    def due_in(self) -> float:
        """Milliseconds until the next message that is held back is to be heard."""
        return self._held[0][0] - self._now() if self._held else inf

    def release(self) -> None:
        """Hand on what has waited long enough."""
        if not self._held:
            return
        now = self._now()
        while self._held and self._held[0][0] <= now:
            _, _, peer, take, frames = heappop(self._held)
            self._held_bytes -= len(frames[-1])
            self._hear(peer, take, frames)
