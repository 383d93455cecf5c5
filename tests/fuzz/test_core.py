"""Voters that say anything, well encoded: the core drops links, steps down or fails as the rules say.

Lying voters are beyond what the protocol promises to survive; what they say must still never meet an assertion, for
assertions are about our own mistakes.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.core.ensemble import Ensemble
from tests.fuzz.mutate import messages, place_of
from zabzmq.core.inputs import Received
from zabzmq.core.messages import Message
from zabzmq.core.zxid import LinkId, PeerId
from zabzmq.net.wire import LINK, Envelope, Wire, WireError

NUMBERS = (0, 1, 2, 3, 4, 7, 1 << 63, (1 << 64) - 1)
FAILURES = ("asked to truncate to", "histories", "asked to install")
"""What a peer may fail of (5.1, 5.2): its committed history is denied."""


def changed(value: Any, dice: Random) -> Any:
    """The same message with other numbers in some places."""
    if isinstance(value, bool):
        return dice.random() < 0.5
    if type(value) is int:
        return dice.choice((*NUMBERS, value, value + 1))
    if isinstance(value, tuple):
        items = [changed(item, dice) if dice.random() < 0.4 else item for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def whole(message: Any) -> Any:
    """With batches of one transaction: a watermark within a batch has nothing to be delivered up to."""
    if not hasattr(message, "batches"):
        return message
    return message._replace(batches=tuple(batch._replace(count=1) for batch in message.batches))


def ensemble(dice: Random) -> Ensemble:
    """Three peers in the middle of something."""
    peers = Ensemble(3)
    peers.start()
    leader = peers.serve()
    for _ in range(dice.randrange(4)):
        peers.request(leader)
    match dice.randrange(4):
        case 0:
            peers.snapshot(dice.randrange(3))
        case 1:
            back = dice.randrange(3)
            peers.crash(back)
            peers.hold(dice.choice(sorted(peers.peers)))
            peers.start(back)
            peers.run(dice.choice((0, 30, 600)))
        case 2:
            peers.reset(dice.randrange(3))
    return peers


def link_between(peers: Ensemble, a: PeerId, b: PeerId, dice: Random) -> LinkId | None:
    links = [link for link, leader in sorted(peers.links.items()) if {leader, link.learner.peer} == {a, b}]
    return dice.choice(links) if links else None


def say(peers: Ensemble, source: PeerId, to: PeerId, message: Message, dice: Random) -> None:
    """Over the wire: what no decoder lets through is not said."""
    process = peers.peers[source].process
    link = link_between(peers, source, to, dice) if place_of(message) == LINK else None
    wire = Wire("demo")
    try:
        frame = wire.encode(Envelope(process, to, 0, link, 1), message)
        _, heard = wire.decode([frame], place_of(message))
    except (WireError, OverflowError):
        return
    assert not isinstance(heard, tuple) or heard == message
    peers.step(to, Received(process, link, message))
    peers.settle()


@pytest.mark.parametrize("seed", [*range(30), 111, 273])
def test_whatever_a_voter_says_meets_no_assertion(seed: int) -> None:
    dice = Random(seed)
    peers = ensemble(dice)
    for _ in range(40):
        up = sorted(peer for peer in peers.peers if peer not in peers.failed)
        if len(up) < 2:
            break
        source, to = dice.sample(up, 2)
        message = changed(whole(dice.choice(messages())), dice)
        if hasattr(message, "epoch") and dice.random() < 0.8:
            message = message._replace(epoch=peers.disks[to].epochs.accepted)
        say(peers, source, to, whole(message), dice)
    for why in peers.failed.values():
        assert why.startswith(FAILURES), why
