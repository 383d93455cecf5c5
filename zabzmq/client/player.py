"""One name: its sessions, and the operations that wait for room in one of them. Pure."""

from __future__ import annotations

from typing import Final

from zabzmq.client.call import Calls, Outcome
from zabzmq.client.reads import Excuse, Seen
from zabzmq.client.session import Session

SESSIONS_MAX: Final = 64


class Player:
    """`node`: the only node it writes to, if any. `ordered`: it has one session only, and so keeps its order."""

    __slots__ = ("dirty", "name", "node", "ordered", "resume_at", "seen", "sessions", "waiting")

    def __init__(self, name: str, node: int | None, ordered: bool) -> None:
        self.name = name
        self.node = node
        self.ordered = ordered
        self.sessions: list[Session] = []
        self.waiting: Calls = []
        self.dirty = False  # is listed to be looked after
        self.resume_at = 0.0  # no session is made before
        self.seen = Seen()

    def seat(self) -> bool:
        """Give the waiting operations places in sessions; False if there are not enough."""
        waiting = self.waiting
        for session in self.sessions:
            room = session.room
            if room >= len(waiting):
                session.take(waiting)
                self.waiting = []
                return True
            if room > 0:
                session.take(waiting[:room])
                del waiting[:room]
        return False

    @property
    def may_register(self) -> bool:
        """Whether a further session is to be made: one at a time, and not without end."""
        usable = [session for session in self.sessions if not session.retired]
        if any(session.identity is None for session in usable):
            return False
        return len(usable) < (1 if self.ordered else SESSIONS_MAX)

    def fail_waiting(self, why: str, text: str, now: float) -> Calls:
        """None of what waits can be done."""
        failed, self.waiting = self.waiting, []
        for call in failed:
            call.finish(Outcome.NOT_DONE, why, text, now)
        return failed

    def expire_waiting(self, now: float, excuse: Excuse) -> Calls:
        late = [call for call in self.waiting if call.deadline <= now]
        if late:
            self.waiting = [call for call in self.waiting if call.deadline > now]
            why, text = excuse(self.node)
            for call in late:
                call.finish(Outcome.NOT_DONE, call.why or why, call.text or text, now)
        return late


class Registration:
    """A session being made."""

    __slots__ = ("patience_at", "player", "session")

    def __init__(self, player: Player, session: Session, patience_at: float) -> None:
        self.player = player
        self.session = session
        self.patience_at = patience_at
