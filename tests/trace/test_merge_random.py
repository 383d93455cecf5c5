"""Whatever nodes do to each other, no effect stands before its cause, and no node's own order is changed."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from zabzmq.trace.merge import merge
from zabzmq.trace.reading import Event


def history(seed: int, losses: float) -> list[Event]:
    """Nodes that send, hear, lose lines and start again with clocks at zero, in the order in which it happened."""
    dice = Random(seed)
    nodes = range(dice.randrange(1, 5))
    events: list[Event] = []
    boots, clocks, seqs = dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0)
    mail: list[tuple[int, int, int, str]] = []
    late = [dice.random() * 5 for _ in nodes]  # their loops look at the clock, and then at what has come
    now = 0

    def tell(n: int, k: str, **fields: object) -> None:
        clocks[n] += 1
        seqs[n] += 1
        if dice.random() >= losses:
            events.append(Event(n, f"{boots[n]:04x}", seqs[n], now - late[n], clocks[n], k, {"k": k, **fields}))

    for at in range(150):
        n = dice.choice(nodes)
        what = dice.random()
        now += 1
        if what < 0.4:
            mid = f"m{at}"
            tell(n, "send", mid=mid)
            mail.append((n, dice.choice(nodes), clocks[n], mid))
        elif what < 0.8 and mail:
            source, to, stamp, mid = mail.pop(dice.randrange(len(mail)))
            clocks[to] = max(clocks[to], stamp)
            tell(to, "recv", mid=mid, **{"from": source})
        elif what < 0.85:
            now += 10  # to start takes longer, and so does it to find the others
            boots[n] += 1
            clocks[n] = seqs[n] = 0
            tell(n, "boot")
            now += 10
        else:
            tell(n, "note")
    return events


def merged(events: list[Event]) -> list[Event]:
    nodes = {event.n for event in events}
    own = {n: [event for event in events if event.n == n] for n in nodes}
    told = list(merge({n: iter(own[n]) for n in nodes}))
    assert len(told) == len(events)
    for n in nodes:
        assert [event for event in told if event.n == n] == own[n]
    return told


@given(st.integers(0, 1 << 32), st.floats(0, 0.5))
def test_however_many_lines_are_lost_all_others_are_told_in_each_nodes_order(seed: int, losses: float) -> None:
    merged(history(seed, losses))


@given(st.integers(0, 1 << 32))
def test_causes_come_first(seed: int) -> None:
    events = history(seed, losses=0.0)
    told = merged(events)
    sent: set[object] = {event.fields["mid"] for event in events if event.k == "send"}
    for event in told:
        if event.k == "send":
            sent.discard(event.fields["mid"])
        elif event.k == "recv":
            assert event.fields["mid"] not in sent, "heard before it was sent"
