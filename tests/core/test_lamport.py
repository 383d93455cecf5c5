"""A Lamport clock never shows a receipt before what was sent."""

from __future__ import annotations

import pytest

from zabzmq.core.lamport import LAMPORT_MAX, Lamport
from zabzmq.core.messages import Ack
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid
from zabzmq.net.wire import LINK, Envelope, Wire

ME = ProcessId(PeerId(1), 7, 1)
ON_LINK = Envelope(ME, PeerId(0), 1, LinkId(ME, 1), 1)


def test_what_is_heard_is_later_than_what_was_sent() -> None:
    slow, fast = Lamport(), Lamport()
    for _ in range(100):
        fast.tick()
    frames = Wire("demo", fast).encode(ON_LINK, Ack(1, Zxid(1, 1)))
    Wire("demo", slow).decode([frames], LINK)
    assert slow.tick() > fast.value


def test_a_stamp_of_the_past_turns_no_clock_back() -> None:
    clock = Lamport()
    clock.value = 50
    clock.heard(20)
    assert clock.tick() == 51


@pytest.mark.parametrize("stamp", [LAMPORT_MAX, (1 << 64) - 1])
def test_a_stamp_out_of_bounds_is_passed_over(stamp: int) -> None:
    clock = Lamport()
    clock.heard(stamp)
    assert clock.value == 0
