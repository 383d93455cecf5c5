"""The operations of one session on their way to the leader: numbering, sending again, outcomes (C2 to C4). Pure.

A session numbers its operations 1, 2, 3, ... and the cluster applies them in this order, each once. The *chain*
holds all that are not final, in order; `sent` of them are believed to be with the leader now. Whatever casts doubt
on that moves `sent` back, and the same operations travel again under the same numbers.

An operation reported UNKNOWN to its caller stays in the chain: it may have taken its number, so those behind it
cannot be applied before it. One that surely did not happen leaves the chain, and its number with it.
Sockets, the leader search and the clock are left to client/client.py.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Raw

from zabzmq.client.call import Call, Calls, Outcome
from zabzmq.machine.operations import Delete, Refused, SessionId, decode_results, encode
from zabzmq.net.client_wire import Done, No, Submit

WINDOW: Final = 1024  # operations outstanding in a session (PROTOCOL 15.3)
OUTSTANDING_BYTES_MAX: Final = 8 << 20
SUBMIT_BYTES_MAX: Final = 1 << 20
PATIENCE_MS: Final = 300.0
PATIENCE_MS_MAX: Final = 2400.0
BACKOFF_MS: Final = 20.0
BACKOFF_MS_MAX: Final = 1000.0
GAP_PAUSE_MS: Final = 5.0
LAST_CHANCE_MS: Final = 50.0
NEVER: Final = float("inf")


def left_ms(deadline: float, now: float) -> int:
    """What a request says of the time it has: at least 1 ms, at most what the wire takes."""
    return max(1, min(int(deadline - now), 24 * 3600 * 1000))


class Session:
    """See the module. `target`: the only node it may be sent to; None: the leader."""

    def __init__(self, name: str, target: int | None, window: int = WINDOW) -> None:
        self.name = name
        self.target = target
        self.window = window
        self.identity: SessionId | None = None
        self.adopted = False
        self.retired = False  # takes no new operations
        self.chain: Calls = []
        self.base = 1  # the number of chain[0]
        self.sent = 0
        self.flights: deque[tuple[int, int]] = deque()  # (number after its last operation, bytes) of each Submit
        self.flying_bytes = 0
        self.resume_at = 0.0
        self.patience_at = NEVER
        self._patience = PATIENCE_MS
        self._backoff = BACKOFF_MS
        self._hole: int | None = None
        # A message was refused whole for what is in it: up to this number operations travel alone, so few at a time.
        self._suspect_until = 0
        self._few = WINDOW

    @property
    def room(self) -> int:
        """How many more operations it takes."""
        if self.identity is None or self.retired or self.flying_bytes >= OUTSTANDING_BYTES_MAX:
            return 0
        return self.window - len(self.chain)

    @property
    def is_settled(self) -> bool:
        """Nobody waits for anything in it any more."""
        return all(call.outcome is not None for call in self.chain)

    def take(self, calls: Calls) -> None:
        """Number these and put them at the end. There must be room, and all of them must be surely not applied."""
        identity, seq = self.identity, self.base + len(self.chain)
        for call in calls:
            call.session = identity
            call.seq = seq
            seq += 1
        self.chain += calls

    def adopt(self, identity: SessionId, call: Call, seq: int) -> None:
        """Ask again for operation `seq` of a session made by an earlier run, whose own attempt is in doubt."""
        self.identity = identity
        self.adopted = True
        self.base = seq
        self.take([call])
        self.retired = True
        call.attempts = 1

    # ---- sending -------------------------------------------------------------------------------------------------

    def submits(self, now: float) -> list[Submit]:
        """What is to be sent now. The caller tells `unsent` if it could not be."""
        end = len(self.chain) if self._hole is None else self._hole - self.base
        if self.sent >= end or now < self.resume_at or self.identity is None:
            return []
        if self.sent == 0 and self.is_settled:
            return []  # only what was already reported unknown: nothing is gained by sending it again
        first = self.chain[self.sent]
        if first.refusals and not first.in_doubt and first.deadline - now < LAST_CHANCE_MS:
            # So far it is sure that it did not happen. An attempt whose answer might come too late would only
            # trade that for doubt.
            return []
        out = []
        at = self.sent
        while at < end:
            step = min(end - at, WINDOW)
            if self.base + at < self._suspect_until:
                if at > 0:
                    break  # so that a refusal is of these alone, and leaves nothing behind it in doubt
                step = min(step, self._few)
            calls = self.chain[at : at + step]
            ops = encode([call.operation for call in calls])
            while len(ops) > SUBMIT_BYTES_MAX and len(calls) > 1:
                del calls[(len(calls) + 1) // 2 :]
                ops = encode([call.operation for call in calls])
            for call in calls:
                call.attempts += 1
            seq = self.base + at
            at += len(calls)
            timeout_ms = left_ms(calls[-1].deadline, now)
            acked = 0 if self.adopted else self.base
            out.append(Submit(self.identity, seq, acked, timeout_ms, Raw(ops)))
            self.flights.append((seq + len(calls), len(ops)))
            self.flying_bytes += len(ops)
            if self.flying_bytes >= OUTSTANDING_BYTES_MAX or seq < self._suspect_until:
                break
        self.sent = at
        if self.patience_at == NEVER:
            self.patience_at = now + self._patience
        return out

    def unsent(self, seq: int) -> None:
        """The submits from this number on surely did not leave this process."""
        for call in self.chain[seq - self.base : self.sent]:
            call.attempts -= 1
        self._rewind_to(seq)

    def rewind(self) -> None:
        """Whoever has our operations, it may not be the leader: send all of them again."""
        self._rewind_to(self.base)
        self.resume_at = 0.0

    def lose_patience(self) -> None:
        """No progress for too long: send again, and wait longer for it, as the leader may only be slow."""
        self._patience = min(2 * self._patience, PATIENCE_MS_MAX)
        self.rewind()

    def _rewind_to(self, seq: int) -> None:
        self.sent = max(0, min(self.sent, seq - self.base))
        if self.sent == 0:
            self.flights.clear()
            self.flying_bytes = 0
            self.patience_at = NEVER
        else:
            while self.flights and self.flights[-1][0] > self.base + self.sent:
                self.flying_bytes -= self.flights.pop()[1]

    def pause(self, now: float, least_ms: float) -> None:
        """Send nothing for a while, longer each time until there is progress."""
        self.resume_at = now + max(least_ms, self._backoff)
        self._backoff = min(2 * self._backoff, BACKOFF_MS_MAX)

    # ---- answers -------------------------------------------------------------------------------------------------

    def on_done(self, done: Done, node: int, now: float) -> Calls:
        """Take results in; returns the calls that ended by it. Repeats and what is long final are ignored."""
        results = decode_results(done.results)
        start = done.seq - self.base
        place = 0
        if start < 0:
            place, start = -start, 0
            results = results[place:]
        ended: Calls = []
        ok, refused = Outcome.OK, Outcome.REFUSED
        for call, result in zip(self.chain[start : start + len(results)], results, strict=False):
            if call.reply is None and call is not TOMBSTONE:
                call.reply = done
                call.place = place
                if call.outcome is None:  # else it was reported unknown: its caller has gone
                    call.result = result
                    call.outcome = refused if type(result) is Refused else ok
                    call.node = node
                    call.finished = now
                    ended.append(call)
            place += 1
        self._drop_final()
        if self.base >= self._suspect_until:
            self._few = WINDOW
        self._patience = PATIENCE_MS
        self._backoff = BACKOFF_MS
        self.patience_at = now + PATIENCE_MS if self.sent else NEVER
        return ended

    def _drop_final(self) -> None:
        """What is final leaves the chain at its front."""
        chain, gone = self.chain, 0
        for call in chain:
            if call.reply is None and call is not TOMBSTONE:
                break
            gone += 1
        if gone:
            del chain[:gone]
            self.base += gone
            self.sent = max(0, self.sent - gone)
            while self.flights and self.flights[0][0] <= self.base:
                self.flying_bytes -= self.flights.popleft()[1]

    def on_no(self, no: No, node: int, now: float, final: bool) -> tuple[Calls, Calls]:
        """Take in that this attempt came to nothing, or to doubt. `final`: there will not be another one.

        Returns the calls that ended by it, and those that must be taken by another session. Whether to look for
        the leader is the caller's business.
        """
        first = max(no.seq, self.base)
        spoken_of = [
            call
            for call in self.chain[first - self.base : max(0, no.seq + no.count - self.base)]
            if call is not TOMBSTONE
        ]
        for call in spoken_of:
            call.node = node
            if call.outcome is None:
                call.why, call.text = no.why, no.text
        if no.why == "seq_gap" and not final:
            if self._hole is not None and spoken_of and no.expected is not None and no.expected <= self._hole:
                self._refused(spoken_of)
                moving = self._give_back(spoken_of)  # behind a hole nothing is sent again
                self._drop_final()
                return [], moving
            if no.expected is None or not self.base <= no.expected < self.base + len(self.chain):
                return [], []  # a stale leader's: it missed what is already final (C4)
            self._refused(spoken_of)
            self._rewind_to(no.expected)
            self.resume_at = max(self.resume_at, now + GAP_PAUSE_MS)  # its fellows behind it are refused as well
            return [], []
        if no.why == "unknown" and not final:
            self._rewind_to(first)
            return [], []
        if no.why != "unknown":
            self._refused(spoken_of)
        self._rewind_to(first)
        if no.why == "expired_client":
            self.retired = True
            return self._evict(spoken_of, now)
        if no.why == "invalid" and len(spoken_of) > 1 and not final:
            # One of these is to blame, and the others are as good as ever: halve them until it stands alone.
            self._suspect_until = max(self._suspect_until, first + len(spoken_of))
            self._few = max(1, min(self._few, len(spoken_of)) // 2)
            return [], []
        if final or no.why == "invalid":
            return self._reject(spoken_of, now), self._mend(now)
        if no.why in ("busy", "not_executed"):
            self.pause(now, no.retry_ms or 0.0)
        return [], []

    def _refused(self, calls: Calls) -> None:
        for call in calls:
            call.refusals = min(call.attempts, call.refusals + 1)

    def _evict(self, calls: Calls, now: float) -> tuple[Calls, Calls]:
        """The session is no more: what an earlier attempt left in doubt stays so for ever, the rest moves on."""
        ended = []
        for call in calls:
            if call.outcome is None and call.in_doubt:
                call.finish(Outcome.UNKNOWN, call.why, call.text, now)
                ended.append(call)
            if call.outcome is not None:
                self.chain[call.seq - self.base] = TOMBSTONE
        # Those on their way are refused likewise, and hear of it one by one; those never sent would hear nothing.
        moving = self._give_back([call for call in self.chain if call is not TOMBSTONE])
        self._drop_final()
        self._hole = self.base
        return ended, moving

    def _give_back(self, calls: Calls) -> Calls:
        """Those of these that are awaited and surely not done, for another session; their numbers are left empty."""
        moving = [call for call in calls if call.outcome is None and not call.in_doubt]
        for call in moving:
            self.chain[call.seq - self.base] = TOMBSTONE
        return moving

    def _reject(self, calls: Calls, now: float) -> Calls:
        ended = []
        for call in calls:
            if call.outcome is None:
                call.finish(Outcome.UNKNOWN if call.in_doubt else Outcome.NOT_DONE, call.why, call.text, now)
                ended.append(call)
        return ended

    # ---- deadlines -----------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Of the calls somebody still waits for."""
        return min((call.deadline for call in self.chain if call.outcome is None), default=NEVER)

    def expire(self, now: float, why: str, text: str) -> tuple[Calls, Calls]:
        """End what is late: UNKNOWN if any attempt may yet take effect, else NOT_DONE (C4).

        `why` and `text` are told where no node gave a reason. Returns the calls that ended, and those that must be
        taken by another session.
        """
        ended = []
        for call in self.chain:
            if call.outcome is None and call.deadline <= now:
                outcome = Outcome.UNKNOWN if call.in_doubt else Outcome.NOT_DONE
                call.finish(outcome, call.why or why, call.text or text, now)
                ended.append(call)
        return ended, self._mend(now)

    def _mend(self, now: float) -> Calls:
        """Close the gap that a NOT_DONE call leaves in the numbers; returns live calls for another session.

        If nothing from it on is in doubt, no copy of those numbers is about and they can be used again. Else the
        session ends there: what is behind the gap and in doubt cannot be applied, and can only be waited for.
        """
        at = next((i for i, call in enumerate(self.chain) if call.outcome is Outcome.NOT_DONE), None)
        if at is None:
            return []
        suffix = self.chain[at:]
        moving = [call for call in suffix if call.outcome is None and not call.in_doubt]
        if any(call.in_doubt for call in suffix):
            self.retired = True
            self._hole = self.base + at
            for i in range(at, len(self.chain)):
                if not self.chain[i].in_doubt:
                    self.chain[i] = TOMBSTONE
        else:
            del self.chain[at:]
        self._rewind_to(self.base + at)
        self._drop_final()
        return moving


def _tombstone() -> Call:
    call = Call(Delete(b""), 0.0, NEVER)
    call.outcome = Outcome.NOT_DONE
    return call


TOMBSTONE: Final = _tombstone()
"""Holds the place of a call that has left the middle of a chain. Never sent: sending stops before it."""
