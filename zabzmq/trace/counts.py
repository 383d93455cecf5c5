"""What an observer counts: messages of a link, lines of a second; and the names that follow from it."""

from __future__ import annotations

from zlib import crc32

from zabzmq.core.messages import Commit, Message, Notification
from zabzmq.core.zxid import LinkId, PeerId, ProcessId


def boot_of(process: ProcessId) -> str:
    """Four hex digits that tell the runs of one node apart."""
    return f"{crc32(f'{process.life}/{process.incarnation}'.encode()) & 0xFFFF:04x}"


def mid_of(message: Message, source: ProcessId, link: LinkId | None, place: int) -> str | None:
    """What events call this message of `source`, the `place`-th in its direction of the link (docs/events.md)."""
    if link is not None:
        mark = "u" if link.learner == source else "d"
        return f"{link.learner.peer}-{boot_of(link.learner)}-{link.number}-{mark}{place}"
    if isinstance(message, Notification):
        return f"{source.peer}-{boot_of(source)}-n{message.n_seq}"
    return f"{source.peer}-{boot_of(source)}-c{message.zxid}" if isinstance(message, Commit) else None


class LineBudget:
    """At most so many lines a second; what was held back is counted and told when the second is over."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second_ends = 0.0
        self._used = 0
        self.held_back = 0

    def admits(self, now: float) -> bool:
        if now >= self._second_ends:
            self._second_ends = now + 1000.0
            self._used = 0
        self._used += 1
        if self._used <= self._per_second:
            return True
        self.held_back += 1
        return False

    def over(self, now: float) -> int:
        """How many were held back in a second that is now over; 0 when there is nothing to tell."""
        if self.held_back == 0 or now < self._second_ends:
            return 0
        held, self.held_back = self.held_back, 0
        return held


class LinkCount:
    """Names the messages of one link, in each direction by their place."""

    __slots__ = ("name", "our_mark", "peer", "received", "sent", "their_mark")

    def __init__(self, link: LinkId, me: PeerId, peer: PeerId | None) -> None:
        self.name = f"{link.learner.peer}-{boot_of(link.learner)}-{link.number}"
        up = link.learner.peer == me
        self.our_mark, self.their_mark = ("u", "d") if up else ("d", "u")
        self.peer = peer if up else link.learner.peer
        self.sent = 0
        self.received = 0
