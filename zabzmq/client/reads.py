"""Reads on their way (C5, C6): what waits together travels together, and is asked again until its deadline. Pure.

A read changes nothing, so it is never in doubt: it ends with an answer, or as not done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from msgspec import Raw

from zabzmq.client.call import Call, Calls, Outcome
from zabzmq.client.session import BACKOFF_MS, BACKOFF_MS_MAX, NEVER, PATIENCE_MS, PATIENCE_MS_MAX, left_ms
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import decode_answers, encode
from zabzmq.net.client_wire import Answers, No, ReadMany

READ_BATCH_MAX: Final = 1024

Excuse: TypeAlias = Callable[[int | None], tuple[str, str]]


class Seen:
    """How far one reader has seen: its local reads never go back behind it (C6)."""

    __slots__ = ("zxid",)

    def __init__(self) -> None:
        self.zxid = ZERO

    def reach(self, zxid: Zxid) -> None:
        if zxid > self.zxid:
            self.zxid = zxid


class Kind(NamedTuple):
    """Reads of one kind can share a message. `target`: a node, a wildcard of the caller's, or None for the leader."""

    seen: Seen
    linear: bool
    target: int | None


class _Asked:
    """A ReadMany under way."""

    __slots__ = ("calls", "kind", "node", "patience_at")

    def __init__(self, calls: Calls, kind: Kind, node: int, patience_at: float) -> None:
        self.calls = calls
        self.kind = kind
        self.node = node
        self.patience_at = patience_at


class Reads:
    """All reads of a client. `resume_at`: nothing is sent before."""

    def __init__(self) -> None:
        self.waiting: dict[Kind, Calls] = {}
        self.resume_at = 0.0
        self._asked: dict[int, _Asked] = {}
        self._patience = PATIENCE_MS
        self._backoff = BACKOFF_MS

    def add(self, call: Call, kind: Kind) -> None:
        self.waiting.setdefault(kind, []).append(call)

    def messages(
        self, next_rid: Callable[[], int], reader: Callable[[int | None], int | None], now: float
    ) -> Iterator[tuple[int, ReadMany]]:
        """What is to be sent now, and to whom. `reader` says who may be asked for a target, None: nobody now.

        The caller tells `unsent` of a message that could not be sent.
        """
        waiting, self.waiting = self.waiting, {}
        for kind, calls in waiting.items():
            node = reader(kind.target)
            if node is None:
                self.waiting.setdefault(kind, []).extend(calls)
                continue
            for at in range(0, len(calls), READ_BATCH_MAX):
                some = calls[at : at + READ_BATCH_MAX]
                rid = next_rid()
                for call in some:
                    call.attempts += 1
                    call.node = node
                self._asked[rid] = _Asked(some, kind, node, now + self._patience)
                timeout_ms = left_ms(max(call.deadline for call in some), now)
                least = ZERO if kind.linear else kind.seen.zxid
                queries = Raw(encode([call.operation for call in some]))
                yield node, ReadMany(rid, kind.linear, least, timeout_ms, queries)

    def unsent(self, rid: int) -> None:
        for call in self._again(rid).calls:
            call.attempts -= 1

    def is_asked(self, rid: int) -> bool:
        return rid in self._asked

    @property
    def elsewhere(self) -> bool:
        """Whether an answer is awaited that may come from another node than the leader."""
        kinds = (*self.waiting, *(asked.kind for asked in self._asked.values()))
        return any(kind.target is not None for kind in kinds)

    def _again(self, rid: int) -> _Asked:
        asked = self._asked.pop(rid)
        live = [call for call in asked.calls if call.outcome is None]
        if live:
            self.waiting.setdefault(asked.kind, [])[:0] = live
        return asked

    # ---- answers -------------------------------------------------------------------------------------------------

    def on_answers(self, node: int, answers: Answers, now: float) -> Calls:
        """The calls that ended by it."""
        asked = self._asked.pop(answers.rid, None)
        if asked is None:
            return []
        self._patience = PATIENCE_MS
        self._backoff = BACKOFF_MS
        asked.kind.seen.reach(Zxid(*answers.zxid))
        ended: Calls = []
        for call, answer in zip(asked.calls, decode_answers(answers.answers), strict=False):
            if call.outcome is None:
                call.result = answer
                call.reply = answers
                call.outcome = Outcome.OK
                call.node = node
                call.finished = now
                ended.append(call)
        return ended

    def on_no(self, no: No, now: float) -> tuple[Calls, bool]:
        """The calls that ended by it, and whether it speaks against the leader."""
        ended: Calls = []
        asked = self._asked[no.rid]
        for call in asked.calls:
            if call.outcome is None:
                call.why, call.text = no.why, no.text
                if no.why == "invalid":
                    call.finish(Outcome.NOT_DONE, no.why, no.text, now)
                    ended.append(call)
        self._again(no.rid)
        if no.why == "invalid":
            return ended, False
        self.resume_at = now + max(no.retry_ms or 0.0, self._backoff)
        self._backoff = min(2 * self._backoff, BACKOFF_MS_MAX)
        return ended, asked.kind.target is None and no.why in ("not_leader", "no_leader", "unknown")

    def lost(self, node: int | None) -> None:
        """What was asked of this node (None: of the leader) will not be answered."""
        for rid, asked in list(self._asked.items()):
            if asked.node == node if node is not None else asked.kind.target is None:
                self._again(rid)

    def fail_waiting(self, excuse: Excuse, now: float) -> Calls:
        """None of what waits can be asked of anybody."""
        waiting, self.waiting = self.waiting, {}
        for kind, calls in waiting.items():
            why, text = excuse(kind.target)
            for call in calls:
                call.finish(Outcome.NOT_DONE, why, text, now)
        return [call for calls in waiting.values() for call in calls]

    # ---- time ----------------------------------------------------------------------------------------------------

    def expire(self, now: float, excuse: Excuse) -> tuple[Calls, bool]:
        """End reads that are late, ask again those that wait too long; True if the leader is suspect of it.

        `excuse` says why, for a node or the leader, where no node gave a reason.
        """
        impatient = False
        for rid, asked in list(self._asked.items()):
            if asked.patience_at <= now:
                self._again(rid)
                self._patience = min(2 * self._patience, PATIENCE_MS_MAX)
                impatient = impatient or asked.kind.target is None
        ended: Calls = []
        for kind, calls in list(self.waiting.items()):
            ended += _end_late(calls, kind.target, now, excuse)
            self.waiting[kind] = [call for call in calls if call.outcome is None]
            if not self.waiting[kind]:
                del self.waiting[kind]
        for asked in self._asked.values():
            ended += _end_late(asked.calls, asked.node, now, excuse)
        return ended, impatient

    def next_look(self, now: float) -> float:
        """When `expire` or `messages` will have something to do."""
        looks = [self.resume_at] if self.waiting and self.resume_at > now else []
        looks += [asked.patience_at for asked in self._asked.values()]
        looks += [call.deadline for calls in self.waiting.values() for call in calls]
        looks += [call.deadline for a in self._asked.values() for call in a.calls if call.outcome is None]
        return min(looks, default=NEVER)


def _end_late(calls: Calls, node: int | None, now: float, excuse: Excuse) -> Calls:
    late = [call for call in calls if call.outcome is None and call.deadline <= now]
    for call in late:
        why, text = excuse(node)
        call.finish(Outcome.NOT_DONE, call.why or why, call.text or text, now)
    return late
