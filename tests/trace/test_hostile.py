"""Events that no node would tell: whatever stands in a line, nothing that reads it breaks."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from zabzmq.trace import export
from zabzmq.trace.check import checked
from zabzmq.trace.explain_election import explain_election
from zabzmq.trace.explain_entry import explain_entry
from zabzmq.trace.explain_node import explain_node
from zabzmq.trace.merge import merge
from zabzmq.trace.reading import Event, parse
from zabzmq.trace.reduced import reduce
from zabzmq.trace.steps import KINDS
from zabzmq.trace.telling import tell

WORDS = (
    "LEADING",
    "FOLLOWING",
    "LOOKING",
    "FAILED",
    "DISCOVERY",
    "BROADCAST",
    "elected",
    "established",
    "own",
    "\x1b\n",
)
TYPES = (
    "PROPOSE",
    "SYNC_TXNS",
    "ACK",
    "ACK_NEWLEADER",
    "ACKEPOCH",
    "NEWLEADER",
    "NOTIFICATION",
    "NACK",
    "SNAP",
    "COMMIT",
)
WHATS = (
    "epochs",
    "quiesced",
    "link",
    "frames",
    "mesh",
    "sync",
    "alone",
    "installed",
    "resumed",
    "unknown",
    "ok",
    "fail",
)
USUAL: dict[str, Any] = {
    **dict.fromkeys(("role", "phase", "why"), WORDS),
    **dict.fromkeys(("z", "z0", "prev", "was"), ([0, 0], [1, 1], [1, 2], [2, 1], [2, 3])),
    **dict.fromkeys(("from", "to", "peer", "leader", "candidate", "id", "epoch", "accepted", "current"), (0, 1, 2, 9)),
    "type": TYPES,
    "what": WHATS,
    "mid": ("a", "b", "c"),
    "have": ([], [0], [0, 1, 2]),
    "need": (1, 2),
}
NAMES = (*USUAL, "text", "vote", "round", "method", "joined", "voters", "counted", "digest", "game", "count", "fault")
NAMES = (*NAMES, "rules", "disk_ms", "up", "by", "ok", "leading", "ms", "last", "size", "state", "reason", "link")


def anything(dice: Random, depth: int = 0) -> Any:
    """Any value that JSON can hold."""
    draw = dice.randrange(9 if depth < 2 else 6)
    if draw == 6:
        return [anything(dice, depth + 1) for _ in range(dice.randrange(4))]
    if draw >= 7:
        return {dice.choice(NAMES): anything(dice, depth + 1) for _ in range(dice.randrange(4))}
    return (None, True, dice.randrange(-3, 5), dice.choice((-1, 1)) * 10 ** dice.randrange(400), 1e308, "\u202e\x07=x")[
        draw
    ]


def trace(dice: Random) -> tuple[list[Event], int]:
    """Events, and how many lines were none."""
    events, bad = [], 0
    for seq in range(1, 60):
        told: dict[str, Any] = {name: dice.choice(USUAL[name]) for name in USUAL if dice.random() < 0.5}
        told |= {name: anything(dice) for name in NAMES if dice.random() < 0.04}
        told |= {"v": 1, "n": dice.randrange(3), "boot": dice.choice("ab"), "seq": seq}
        told |= {"t": dice.random() * 9, "lc": dice.randrange(20)}
        told["k"] = dice.choice([*sorted(KINDS), "strange"])
        try:
            events.append(parse(json.dumps(told).encode()))
        except ValueError:
            bad += 1
    return events, bad


@pytest.mark.parametrize("seed", range(40))
def test_whatever_events_say_every_reader_comes_to_an_end(seed: int) -> None:
    events, bad = trace(Random(seed))
    assert bad < 50, "most of it is still read"
    streams = {n: iter([event for event in events if event.n == n]) for n in range(3)}
    merged = list(merge(streams))
    assert len(merged) == len(events)
    assert all(tell(event).isprintable() for event in merged)
    for lines in (export.to_csv, export.to_shiviz, export.to_mermaid, export.to_jsonl):
        assert "\0" not in "".join(lines(merged))
    checked(merged)
    facts = reduce(merged)
    for answer in (explain_election(facts), *(explain_node(facts, n) for n in range(4))):
        json.dumps(answer.as_json())
    for z in ((0, 1), (1, 1), (2, 3)):
        json.dumps(explain_entry(reduce(merged, z)).as_json())
