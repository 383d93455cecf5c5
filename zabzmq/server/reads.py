"""Reads on their way to an answer: linearizable ones by a ticket of the core (C5), local ones at once (C6). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from msgspec import Raw

from zabzmq.core.inputs import Read
from zabzmq.core.zxid import Zxid
from zabzmq.machine.operations import UNREADABLE, KvValue, Query, decode_queries, encode
from zabzmq.machine.state import ReplicatedState
from zabzmq.net.client_wire import Answers, ReadMany
from zabzmq.server.replies import Replies

NEVER: Final = float("inf")
ANSWER_BYTES_MAX: Final = 3 << 20
"""A client's socket refuses frames of 4 MiB (7.5)."""


class _Pending(NamedTuple):
    client: bytes
    rid: int
    linear: bool
    queries: list[Query]
    deadline: float


class Reads:
    """`next_deadline` is never later than the first time-out, and exact after `on_tick`."""

    def __init__(self, state: ReplicatedState, replies: Replies, queries_max: int, waiting_max: int) -> None:
        self.stale_reason = ""
        self.next_deadline = NEVER
        self._state = state
        self._replies = replies
        self._queries_max = queries_max
        self._waiting_max = waiting_max
        self._waiting = 0  # queries, in all three of these:
        self._unasked: list[_Pending] = []
        self._asked: dict[int, list[_Pending]] = {}  # by ticket
        self._behind: list[tuple[Zxid, int, list[_Pending]]] = []  # heap by the zxid they must see
        self._ticket = 0
        self._order = 0  # keeps heap entries comparable

    def on_request(self, now: float, client: bytes, request: ReadMany) -> None:
        try:
            queries = decode_queries(request.queries)
        except UNREADABLE as error:
            self._replies.no(client, "invalid", f"queries cannot be decoded: {error}", rid=request.rid)
            return
        if not 1 <= len(queries) <= self._queries_max:
            text = f"{len(queries)} queries in one read, 1 to {self._queries_max} are allowed"
            self._replies.no(client, "invalid", text, rid=request.rid)
            return
        read = _Pending(client, request.rid, request.linear, queries, now + request.timeout_ms)
        least = Zxid(*request.min_zxid)
        if not request.linear and self._state.applied >= least:
            self._answer(read)
        elif self._waiting + len(queries) > self._waiting_max:
            self._replies.no(client, "busy", f"{self._waiting} queries are waiting", rid=request.rid)
        else:
            self._waiting += len(queries)
            self.next_deadline = min(self.next_deadline, read.deadline)
            if request.linear:
                self._unasked.append(read)
            else:
                self._wait_for(least, [read])

    def take_reads(self) -> Read | None:
        """All linear reads since the last ticket share the next one."""
        if not self._unasked:
            return None
        self._ticket += 1
        self._asked[self._ticket] = self._unasked
        self._unasked = []
        return Read(self._ticket)

    def on_ready(self, ticket: int, zxid: Zxid) -> None:
        reads = self._asked.pop(ticket, None)  # None: failed or timed out meanwhile
        if reads:
            self._wait_for(zxid, reads)
            self.on_applied()

    def on_failed(self, ticket: int) -> None:
        self._refuse_all(self._asked.pop(ticket, ()))

    def on_applied(self) -> None:
        """The state moved: answer those that waited for it."""
        while self._behind and self._behind[0][0] <= self._state.applied:
            for read in heappop(self._behind)[2]:
                self._waiting -= len(read.queries)
                self._answer(read)

    def on_lost(self) -> None:
        """The leader this node led with or followed is no more: no ticket will come back."""
        tickets, self._asked = self._asked, {}
        for reads in tickets.values():
            self._refuse_all(reads)
        self._refuse_all(self._unasked)
        self._unasked = []
        for _, _, reads in self._behind:
            self._refuse_all([read for read in reads if read.linear])
        self._sift(lambda read: not read.linear)

    def on_tick(self, now: float) -> None:
        if now < self.next_deadline:
            return
        late: list[_Pending] = []

        def is_in_time(read: _Pending) -> bool:
            if read.deadline > now:
                return True
            late.append(read)
            return False

        self._unasked = [read for read in self._unasked if is_in_time(read)]
        asked = {ticket: [read for read in reads if is_in_time(read)] for ticket, reads in self._asked.items()}
        self._asked = {ticket: reads for ticket, reads in asked.items() if reads}
        self._sift(is_in_time)
        for read in late:
            self._waiting -= len(read.queries)
            if read.linear:
                text = "no quorum confirmed in time that this read would see everything committed"
            else:
                text = f"this node has applied {self._state.applied} only"
            self._replies.no(read.client, "not_executed", text, rid=read.rid)
        waiting = [*self._asked.values(), *(reads for _, _, reads in self._behind), self._unasked]
        self.next_deadline = min((read.deadline for reads in waiting for read in reads), default=NEVER)

    def _sift(self, is_kept: Callable[[_Pending], bool]) -> None:
        """Keep only these of the reads that wait for the state."""
        sifted = [(zxid, order, [read for read in reads if is_kept(read)]) for zxid, order, reads in self._behind]
        self._behind = [entry for entry in sifted if entry[2]]
        heapify(self._behind)

    def _wait_for(self, zxid: Zxid, reads: list[_Pending]) -> None:
        self._order += 1
        heappush(self._behind, (zxid, self._order, reads))

    def _refuse_all(self, reads: Iterable[_Pending]) -> None:
        for read in reads:
            self._waiting -= len(read.queries)
            self._replies.not_here(read.client, rid=read.rid)

    def _answer(self, read: _Pending) -> None:
        answers = self._state.query(read.queries)
        size = sum(len(a.value) for a in answers if isinstance(a, KvValue) and a.value is not None)
        if size > ANSWER_BYTES_MAX:
            text = f"the answers have {size} bytes, at most {ANSWER_BYTES_MAX} fit: ask for fewer at once"
            self._replies.no(read.client, "invalid", text, rid=read.rid)
            return
        stale = "" if read.linear else self.stale_reason
        applied = self._state.applied
        data = Raw(encode(answers))
        self._replies.send(read.client, Answers(read.rid, self._replies.node, applied, read.linear, stale, data))
