"""`Client`: one process's way to the cluster. Finds the leader, tries again until a deadline, tells the outcome truly.

    with Client({0: "tcp://127.0.0.1:21810", ...}, name="alice") as client:
        call = client.do(Target(50))                        # blocking
        calls = [client.submit(Put(b"k", b"v")) for _ in range(256)]
        for call in client.pump(100): ...                   # pipelined: sends what waits, returns what ended

Single-threaded: everything happens inside `pump`, in the caller's thread, so an operation costs no hand-over and no
lock. Operations that wait together travel in one message. Those of one name keep their order as long as they fit
into one session (`WINDOW` outstanding); above that further sessions are opened, among which there is no order.

What an answer means for an operation is decided in client/session.py; bytes and sockets are connection.py's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final

from msgspec import Raw

from zabzmq.client.call import Call, Calls, Outcome
from zabzmq.client.connection import Connections
from zabzmq.client.session import PATIENCE_MS, PATIENCE_MS_MAX, WINDOW, Session, left_ms
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.machine.operations import (
    Operation,
    Query,
    Refused,
    Registered,
    SessionId,
    decode_answers,
    decode_results,
    encode,
)
from zabzmq.net.client_wire import (
    Answers,
    ClientReply,
    ClientRequest,
    Done,
    Hello,
    Hint,
    No,
    NodeStatus,
    ReadMany,
    RegisterSession,
    StatusQuery,
)

TIMEOUT_MS: Final = 5_000.0
SESSIONS_MAX: Final = 64  # of one name
SEARCH_MS: Final = 20.0
SEARCH_MS_MAX: Final = 1_000.0
REGISTER_PATIENCE_MS: Final = 1_000.0
TICK_MS: Final = 500.0
READ_BATCH_MAX: Final = 1024

ANY: Final = -1
"""As the node of a read: whichever node answers."""

UNREACHABLE: Final = "unreachable"
NO_LEADER: Final = "no_leader"
WRONG_CLUSTER: Final = "wrong_cluster"


class Player:
    """One name: its sessions, and what waits for room in one of them. `node`: the only node it writes to, if any."""

    __slots__ = ("dirty", "name", "node", "resume_at", "seen", "sessions", "waiting")

    def __init__(self, name: str, node: int | None) -> None:
        self.name = name
        self.node = node
        self.sessions: list[Session] = []
        self.waiting: Calls = []
        self.dirty = False
        self.resume_at = 0.0
        self.seen = ZERO  # of all its results: local reads do not go back behind it (C6)


class _Reads:
    """A ReadMany under way."""

    __slots__ = ("calls", "linear", "node", "patience_at", "player", "target")

    def __init__(
        self, calls: Calls, player: Player, linear: bool, target: int | None, node: int, patience_at: float
    ) -> None:
        self.calls = calls
        self.player = player
        self.linear = linear
        self.target = target  # who was asked for: a node, ANY, or None for the leader
        self.node = node  # who was asked
        self.patience_at = patience_at


class _Registration:
    __slots__ = ("patience_at", "player", "session")

    def __init__(self, player: Player, session: Session, patience_at: float) -> None:
        self.player = player
        self.session = session
        self.patience_at = patience_at


class Client:
    """See the module. Times are in milliseconds, of `clock`."""

    def __init__(
        self,
        endpoints: Mapping[int, str],
        *,
        cluster: str = "demo",
        name: str | None = None,
        timeout_ms: float = TIMEOUT_MS,
        window: int = WINDOW,
        clock: Callable[[], float] = lambda: time.monotonic() * 1000.0,
        dice: random.Random | None = None,
    ) -> None:
        self.cluster = cluster
        self.timeout_ms = timeout_ms
        self.leader: int | None = None
        self.epoch = 0
        self.hints: dict[int, Hint] = {}  # the newest of each node, since the present search began
        self.voters: frozenset[int] = frozenset()
        self.foreign: dict[int, str] = {}  # nodes that belong to another cluster, and its name
        self._clock = clock
        self._dice = dice if dice is not None else random.Random()
        self.name = name if name is not None else f"guest-{self._dice.getrandbits(40):010x}"
        self._window = window
        self._links = Connections(endpoints)
        self._players: dict[tuple[str, int | None], Player] = {}
        self._own = self.player(self.name)
        self._dirty: list[Player] = []
        self._sessions: dict[SessionId, tuple[Player, Session]] = {}
        self._registering: dict[int, _Registration] = {}
        self._waiting_reads: dict[tuple[Player, bool, int | None], Calls] = {}
        self._reads: dict[int, _Reads] = {}
        self._read_patience = PATIENCE_MS
        self._reads_resume_at = 0.0
        self._reads_backoff = SEARCH_MS
        self._asked: dict[int, ClientReply | None] = {}
        self._rid = 0
        self._finished: Calls = []
        self._former: int | None = None
        self._led = (-1, 0)  # the leader and epoch that our streams belong to
        self._search_at = 0.0
        self._search_round = 0
        self._elsewhere = False  # something is awaited from a node that is not the leader
        self._timer_at = 0.0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._links.close()

    # ---- what programs call --------------------------------------------------------------------------------------

    def player(self, name: str, node: int | None = None) -> Player:
        """Who operations are submitted as; with `node`, writes go to that node alone and never follow a hint."""
        key = (name, node)
        if key not in self._players:
            self._players[key] = Player(name, node)
        return self._players[key]

    def submit(
        self, operation: Operation, player: Player | None = None, *, timeout_ms: float | None = None, tag: object = None
    ) -> Call:
        """Queue one operation; the next `pump` sends it."""
        now = self._clock()
        call = Call(operation, now, now + (self.timeout_ms if timeout_ms is None else timeout_ms), tag)
        player = player or self._own
        player.waiting.append(call)
        if call.deadline < self._timer_at:
            self._timer_at = call.deadline
        if not player.dirty:
            player.dirty = True
            self._dirty.append(player)
        return call

    def submit_many(
        self, operations: Iterable[Operation], player: Player | None = None, *, tag: object = None
    ) -> Calls:
        """`submit` for each, with one look at the clock."""
        now = self._clock()
        deadline = now + self.timeout_ms
        player = player or self._own
        calls = [Call(operation, now, deadline, tag) for operation in operations]
        player.waiting += calls
        self._timer_at = min(self._timer_at, deadline)
        self._mark(player)
        return calls

    def repeat(
        self,
        identity: SessionId,
        seq: int,
        operation: Operation,
        player: Player | None = None,
        *,
        timeout_ms: float | None = None,
    ) -> Call:
        """Ask again for an operation whose outcome an earlier run could not learn: it takes effect once at most."""
        now = self._clock()
        call = Call(operation, now, now + (self.timeout_ms if timeout_ms is None else timeout_ms))
        player = player or self._own
        session = Session(player.name, player.node)
        session.adopt(identity, call, seq)
        player.sessions.append(session)
        self._sessions[identity] = (player, session)
        self._timer_at = min(self._timer_at, call.deadline)
        self._mark(player)
        return call

    def read(
        self,
        query: Query,
        player: Player | None = None,
        *,
        linear: bool = True,
        node: int | None = None,
        timeout_ms: float | None = None,
        tag: object = None,
    ) -> Call:
        """Queue one query. Linearizable at the leader, unless `linear` is False or a `node` (or ANY) is named.

        A local read never goes back behind what this player saw before (C6).
        """
        now = self._clock()
        call = Call(query, now, now + (self.timeout_ms if timeout_ms is None else timeout_ms), tag)
        target = node if node is not None else None if linear else ANY
        self._waiting_reads.setdefault((player or self._own, linear, target), []).append(call)
        self._timer_at = min(self._timer_at, call.deadline)
        return call

    def do(self, operation: Operation, player: Player | None = None, *, timeout_ms: float | None = None) -> Call:
        return self.wait(self.submit(operation, player, timeout_ms=timeout_ms))

    def ask(self, query: Query, *, linear: bool = True, node: int | None = None) -> Call:
        return self.wait(self.read(query, linear=linear, node=node))

    def wait(self, call: Call) -> Call:
        """Pump until this call has ended. It is not returned by `pump` as well."""
        while call.outcome is None:
            self._pump(TICK_MS)
        if call in self._finished:
            self._finished.remove(call)
        return call

    def pump(self, timeout_ms: float = 0.0) -> Calls:
        """Send what waits, take in what has arrived; returns the calls that ended since the last time.

        Waits at most `timeout_ms` for the first of them, or for a file given to `attach`.
        """
        end = self._clock() + timeout_ms
        self._links.woken = False
        self._pump(0.0)
        while not self._finished and not self._links.woken and (left := end - self._clock()) > 0:
            self._pump(left)
        finished, self._finished = self._finished, []
        return finished

    def attach(self, file: int, events: int) -> None:
        """Let `pump` also return when this file descriptor is READABLE or WRITABLE; NOTHING forgets it."""
        self._links.attach(file, events)

    def status(self, wait_ms: float = 1_000.0) -> dict[int, NodeStatus | None]:
        """Every known node as it sees itself, voters that nodes name included; None of one that does not answer."""
        rids: dict[int, int] = {}
        replies: dict[int, NodeStatus] = {}
        end = self._clock() + wait_ms
        while True:
            # Asked anew on every connection: a node that has just come up must not be taken for a silent one.
            for node, connection in self._links.by_node.items():
                if connection.up and node not in rids and self._send(node, StatusQuery(self._next_rid())):
                    rids[node] = self._rid
                    self._asked[self._rid] = None
            for node, rid in rids.items():
                reply = self._asked[rid]
                if isinstance(reply, NodeStatus):
                    replies[node] = reply
            open_ones = [n for n, c in self._links.by_node.items() if n not in replies and not c.refused]
            now = self._clock()
            if not open_ones or now >= end:
                break
            self._elsewhere = True
            self._pump(min(end - now, 50.0))
        for rid in rids.values():
            del self._asked[rid]
        return {node: replies.get(node) for node in sorted(self._links.by_node)}

    @property
    def last_leader(self) -> int | None:
        """Who leads, or else led when we last knew."""
        return self.leader if self.leader is not None else self._former

    @property
    def reachable(self) -> list[int]:
        """Nodes whose client port has shaken hands with us."""
        return [node for node, connection in self._links.by_node.items() if connection.up]

    @property
    def known(self) -> dict[int, str]:
        """All client endpoints, configured or learned."""
        return {node: connection.endpoint for node, connection in self._links.by_node.items()}

    # ---- one turn ------------------------------------------------------------------------------------------------

    def _pump(self, wait_ms: float) -> None:
        now = self._clock()
        finished = len(self._finished)
        if self._dirty:
            self._flush(now)
        if self._waiting_reads and now >= self._reads_resume_at:
            self._send_reads(now)
        if now >= self._timer_at:
            self._timers(now)
        only = None if self._elsewhere or self.leader is None else self.leader
        if not self._take_in(only) and wait_ms > 0 and len(self._finished) == finished:
            self._links.wait(min(wait_ms, max(0.0, self._timer_at - self._clock())), only)
            if not self._take_in(only) and only is not None:
                self._links.watch_one(only)
                self._heed_changes(self._clock())

    def _take_in(self, only: int | None) -> bool:
        got = False
        for node, reply in self._links.receive(only):
            got = True
            now = self._clock()
            match reply:
                case Done():
                    self._on_done(node, reply, now)
                case Answers():
                    self._on_answers(node, reply, now)
                case No():
                    self._on_no(node, reply, now)
                case Hint():
                    self._on_hint(node, reply, now)
                case _:
                    if reply.rid in self._asked:
                        self._asked[reply.rid] = reply
        if self._links.changes:
            self._heed_changes(self._clock())
        return got

    def _next_rid(self) -> int:
        self._rid += 1
        return self._rid

    def _send(self, node: int, request: ClientRequest) -> bool:
        if node != self.leader:
            self._elsewhere = True
        return self._links.send(node, request)

    def _mark(self, player: Player) -> None:
        if not player.dirty:
            player.dirty = True
            self._dirty.append(player)

    def _wake(self, when: float) -> None:
        if when < self._timer_at:
            self._timer_at = when

    # ---- writes --------------------------------------------------------------------------------------------------

    def _flush(self, now: float) -> None:
        players, self._dirty = self._dirty, []
        for player in players:
            player.dirty = False
            node = self.leader if player.node is None else player.node
            if node is None or not self._links.is_up(node):
                continue  # marked again when a leader is found, or the node comes up
            if player.waiting:
                self._seat(player, node, now)
            for session in player.sessions:
                for submit in session.submits(now):
                    if not self._send(node, submit):
                        session.unsent(submit.seq)
                        session.pause(now, 0.0)
                        break
                self._wake(session.patience_at)
                if session.resume_at > now:
                    self._wake(session.resume_at)

    def _seat(self, player: Player, node: int, now: float) -> None:
        """Give the waiting calls places in sessions; register a further session when there are not enough."""
        waiting = player.waiting
        for session in player.sessions:
            room = session.room
            if room > 0:
                if room >= len(waiting):
                    session.take(waiting)
                    player.waiting = []
                    return
                session.take(waiting[:room])
                del waiting[:room]
        if now < player.resume_at:
            self._wake(player.resume_at)
            return
        usable = [session for session in player.sessions if not session.retired]
        if len(usable) < SESSIONS_MAX and all(session.identity is not None for session in usable):
            self._register(player, node, now)

    def _register(self, player: Player, node: int, now: float) -> None:
        timeout_ms = left_ms(max(call.deadline for call in player.waiting), now)
        rid = self._next_rid()
        if self._send(node, RegisterSession(rid, player.name, timeout_ms)):
            session = Session(player.name, player.node, self._window)
            player.sessions.append(session)
            self._registering[rid] = _Registration(player, session, now + REGISTER_PATIENCE_MS)
            self._wake(now + REGISTER_PATIENCE_MS)

    def _forget_registration(self, rid: int) -> _Registration | None:
        """Its answer will not be taken any more; should the session exist, it expires (C4)."""
        registration = self._registering.pop(rid, None)
        if registration is not None:
            registration.player.sessions.remove(registration.session)
            self._mark(registration.player)
        return registration

    def _on_done(self, node: int, done: Done, now: float) -> None:
        if done.rid:
            self._on_registered(node, done, now)
            return
        entry = self._sessions.get(done.session)
        if entry is None:
            return
        player, session = entry
        ended = session.on_done(done, node, now)
        self._finished += ended
        self._search_round = 0
        if ended:
            last = ended[-1].zxid
            if last is not None and last > player.seen:
                player.seen = last
        if player.waiting or session.sent < len(session.chain):
            self._mark(player)
        self._retire(player, session)

    def _on_registered(self, node: int, done: Done, now: float) -> None:
        registration = self._registering.pop(done.rid, None)
        if registration is None:
            return
        player, session = registration.player, registration.session
        result = decode_results(done.results)[0]
        self._search_round = 0
        if isinstance(result, Registered):
            session.identity = result.session
            self._sessions[result.session] = (player, session)
        else:
            player.sessions.remove(session)
            code, text = (result.code, result.text) if isinstance(result, Refused) else ("invalid", "not registered")
            self._fail_waiting(player, code, text, now)
        self._mark(player)

    def _fail_waiting(self, player: Player, why: str, text: str, now: float) -> None:
        waiting, player.waiting = player.waiting, []
        for call in waiting:
            call.finish(Outcome.NOT_DONE, why, text, now)
        self._finished += waiting

    def _retire(self, player: Player, session: Session) -> None:
        if session.retired and session.is_settled and session in player.sessions:
            player.sessions.remove(session)
            if session.identity is not None:
                self._sessions.pop(session.identity, None)

    def _on_no(self, node: int, no: No, now: float) -> None:
        if no.rid in self._reads:
            self._on_read_refused(node, no, now)
            return
        if no.rid in self._registering:
            registration = self._forget_registration(no.rid)
            assert registration is not None
            player = registration.player
            if no.why == "invalid" or (player.node is not None and no.why in ("not_leader", "no_leader")):
                self._fail_waiting(player, no.why, no.text, now)
                return
            player.resume_at = now + max(no.retry_ms or 0.0, SEARCH_MS)
            self._wake(player.resume_at)
        else:
            entry = self._sessions.get(no.session)
            if entry is None:
                return
            player, session = entry
            # The only node we may ask does not lead: that is the answer.
            final = player.node is not None and no.why in ("not_leader", "no_leader", "unknown")
            ended, moving = session.on_no(no, node, now, final)
            self._finished += ended
            player.waiting[:0] = moving
            self._wake(session.resume_at)
            self._mark(player)
            self._retire(player, session)
        if player.node is None and node == self.leader and no.why in ("not_leader", "no_leader", "unknown"):
            self._seek(now)

    # ---- reads ---------------------------------------------------------------------------------------------------

    def _send_reads(self, now: float) -> None:
        waiting, self._waiting_reads = self._waiting_reads, {}
        for (player, linear, target), calls in waiting.items():
            node = self._reader(target)
            while calls:
                some, calls = calls[:READ_BATCH_MAX], calls[READ_BATCH_MAX:]
                if node is None or not self._ask_reads(player, linear, target, node, some, now):
                    self._waiting_reads.setdefault((player, linear, target), []).extend(some)
        if self._waiting_reads and self.leader is not None:
            self._reads_resume_at = now + SEARCH_MS
            self._wake(self._reads_resume_at)

    def _reader(self, target: int | None) -> int | None:
        if target is None:
            return self.leader
        if target == ANY:
            return self._dice.choice(up) if (up := self.reachable) else None
        return target if self._links.is_up(target) else None

    def _ask_reads(self, player: Player, linear: bool, target: int | None, node: int, calls: Calls, now: float) -> bool:
        rid = self._next_rid()
        timeout_ms = left_ms(max(call.deadline for call in calls), now)
        queries = Raw(encode([call.operation for call in calls]))
        least = ZERO if linear else player.seen
        if not self._send(node, ReadMany(rid, linear, least, timeout_ms, queries)):
            return False
        for call in calls:
            call.attempts += 1
            call.node = node
        self._reads[rid] = _Reads(calls, player, linear, target, node, now + self._read_patience)
        self._wake(now + self._read_patience)
        return True

    def _read_again(self, rid: int) -> _Reads:
        reads = self._reads.pop(rid)
        live = [call for call in reads.calls if call.outcome is None]
        if live:
            self._waiting_reads.setdefault((reads.player, reads.linear, reads.target), [])[:0] = live
        return reads

    def _on_answers(self, node: int, answers: Answers, now: float) -> None:
        reads = self._reads.pop(answers.rid, None)
        if reads is None:
            return
        self._search_round = 0
        self._read_patience = PATIENCE_MS
        self._reads_backoff = SEARCH_MS
        player = reads.player
        player.seen = max(player.seen, Zxid(*answers.zxid))
        for call, answer in zip(reads.calls, decode_answers(answers.answers), strict=False):
            if call.outcome is None:
                call.result = answer
                call.reply = answers
                call.outcome = Outcome.OK
                call.node = node
                call.finished = now
                self._finished.append(call)

    def _on_read_refused(self, node: int, no: No, now: float) -> None:
        reads = self._read_again(no.rid)
        final = no.why == "invalid"
        for call in reads.calls:
            if call.outcome is None:
                call.why, call.text = no.why, no.text
                if final:
                    call.finish(Outcome.NOT_DONE, no.why, no.text, now)
                    self._finished.append(call)
        if final:
            key = (reads.player, reads.linear, reads.target)
            left = [call for call in self._waiting_reads.pop(key, []) if call.outcome is None]
            if left:
                self._waiting_reads[key] = left
            return
        self._reads_resume_at = now + max(no.retry_ms or 0.0, self._reads_backoff)
        self._reads_backoff = min(2 * self._reads_backoff, SEARCH_MS_MAX)
        self._wake(self._reads_resume_at)
        if reads.target is None and node == self.leader and no.why in ("not_leader", "no_leader", "unknown"):
            self._seek(now)

    # ---- who leads (C8) ------------------------------------------------------------------------------------------

    def _seek(self, now: float) -> None:
        """Look for the leader, the present one included. Round 0, after any success, begins at once."""
        self.leader = None
        if self._search_round == 0:
            self.hints.clear()
            self._search(now)
        else:
            if self._search_at <= now:
                self._search_at = now + self._search_pause()
            self._wake(self._search_at)

    def _search_pause(self) -> float:
        pause = min(SEARCH_MS * 1.4**self._search_round, SEARCH_MS_MAX)
        return pause * self._dice.uniform(0.5, 1.0)

    def _search(self, now: float) -> None:
        for node in self.reachable:
            self._send(node, Hello(self._next_rid(), self.cluster))
        self._elsewhere = True
        self._search_at = now + self._search_pause()
        self._search_round += 1
        self._wake(self._search_at)

    def _on_hint(self, node: int, hint: Hint, now: float) -> None:
        if hint.cluster != self.cluster:
            self.foreign[node] = hint.cluster
            return
        self.foreign.pop(node, None)
        self.hints[node] = hint
        if hint.endpoints:
            self.voters = frozenset(hint.endpoints)
            for peer, endpoint in hint.endpoints.items():
                self._links.add(peer, endpoint if "://" in endpoint else f"tcp://{endpoint}")
        # An established leader of a lower epoch than we have seen established is deposed and has not noticed.
        if hint.established and hint.epoch >= self.epoch and (self.leader is None or hint.epoch > self.epoch):
            self.leader = self._former = node
            self.epoch = hint.epoch
            if self._led != (node, hint.epoch):
                self._led = (node, hint.epoch)
                self._lost(None)
            for player in self._players.values():
                if player.node is None and (player.waiting or player.sessions):
                    self._mark(player)
            self._reads_resume_at = min(self._reads_resume_at, now + SEARCH_MS)

    def _lost(self, node: int | None) -> None:
        """What was sent to this node (None: to the leader) may have come to nothing: send it again, or elsewhere."""
        for player in self._players.values():
            if player.node == node:
                for session in player.sessions:
                    session.rewind()
                self._mark(player)
        for rid, registration in list(self._registering.items()):
            if registration.player.node == node:
                self._forget_registration(rid)
        for rid, reads in list(self._reads.items()):
            if reads.node == node if node is not None else reads.target is None:
                self._read_again(rid)

    def _heed_changes(self, now: float) -> None:
        self._links.watch()
        changes, self._links.changes = self._links.changes, []
        for node, up in changes:
            if up:
                if self.leader is None:
                    self._send(node, Hello(self._next_rid(), self.cluster))
                for player in self._players.values():
                    if player.node == node:
                        self._mark(player)
            else:
                self.hints.pop(node, None)
                self._lost(node)
                if node == self._led[0]:
                    self._led = (-1, 0)
                    self._lost(None)
                if node == self.leader:
                    self._search_round = 0
                    self._seek(now)

    # ---- timers --------------------------------------------------------------------------------------------------

    def _timers(self, now: float) -> None:
        self._timer_at = now + TICK_MS
        self._heed_changes(now)
        impatient = False
        busy_elsewhere = any(node is None for node in self._asked.values())
        for player in self._players.values():
            self._expire_waiting(player, now)
            for session in list(player.sessions):
                if session.next_deadline() <= now:
                    ended, moving = session.expire(now, *self._excuse(player.node))
                    self._finished += ended
                    player.waiting[:0] = moving
                    self._mark(player)
                    self._retire(player, session)
                if session.patience_at <= now:
                    session.lose_patience()
                    impatient = impatient or player.node is None
                    self._mark(player)
                elif session.sent < len(session.chain):
                    self._mark(player)
                busy_elsewhere = busy_elsewhere or (player.node is not None and bool(session.chain))
                for when in (session.next_deadline(), session.patience_at):
                    self._wake(when)
                if session.resume_at > now:
                    self._wake(session.resume_at)
            if player.waiting:
                self._wake(min(call.deadline for call in player.waiting))
                self._mark(player)
        for rid, registration in list(self._registering.items()):
            if registration.patience_at <= now:
                self._forget_registration(rid)
                impatient = impatient or registration.player.node is None
            else:
                self._wake(registration.patience_at)
                busy_elsewhere = busy_elsewhere or registration.player.node is not None
        impatient = self._expire_reads(now) or impatient
        busy_elsewhere = busy_elsewhere or any(reads.target is not None for reads in self._reads.values())
        if impatient and self.leader is not None:
            self._search_round = 0
            self._seek(now)
        if self.leader is None:
            if now >= self._search_at:
                self._search(now)
            self._wake(self._search_at)
        self._elsewhere = busy_elsewhere or self.leader is None
        if self._dirty:
            self._flush(now)

    def _expire_waiting(self, player: Player, now: float) -> None:
        late = [call for call in player.waiting if call.deadline <= now]
        if late:
            player.waiting = [call for call in player.waiting if call.deadline > now]
            why, text = self._excuse(player.node)
            for call in late:
                call.finish(Outcome.NOT_DONE, call.why or why, call.text or text, now)
            self._finished += late

    def _expire_reads(self, now: float) -> bool:
        """End reads that are late, ask again those that wait too long; True if the leader is suspect."""
        impatient = False
        for rid, reads in list(self._reads.items()):
            if reads.patience_at <= now:
                self._read_again(rid)
                self._read_patience = min(2 * self._read_patience, PATIENCE_MS_MAX)
                impatient = impatient or reads.target is None
            else:
                self._wake(reads.patience_at)
        for key, calls in list(self._waiting_reads.items()):
            late = [call for call in calls if call.deadline <= now]
            if late:
                why, text = self._excuse(key[2] if key[2] != ANY else None)
                for call in late:
                    call.finish(Outcome.NOT_DONE, call.why or why, call.text or text, now)
                self._finished += late
                self._waiting_reads[key] = [call for call in calls if call.deadline > now]
            if self._waiting_reads[key]:
                self._wake(min(call.deadline for call in self._waiting_reads[key]))
            else:
                del self._waiting_reads[key]
        for reads in self._reads.values():
            for call in reads.calls:
                if call.outcome is None and call.deadline <= now:
                    why, text = self._excuse(reads.node)
                    call.finish(Outcome.NOT_DONE, call.why or why, call.text or text, now)
                    self._finished.append(call)
                elif call.outcome is None:
                    self._wake(call.deadline)
        return impatient

    def _excuse(self, node: int | None) -> tuple[str, str]:
        """Why nothing could be done, where no node gave a reason."""
        if self.foreign and not self.hints:
            other = next(iter(self.foreign.values()))
            return WRONG_CLUSTER, f'the nodes that answer belong to cluster "{other}", not "{self.cluster}"'
        if node is not None and not self._links.is_up(node):
            where = self._links.by_node[node].endpoint if node in self._links.by_node else "an unknown address"
            return UNREACHABLE, f"node {node} cannot be reached at {where}"
        if node is not None:
            return "timeout", f"node {node} did not answer in time"
        if not self.reachable:
            return UNREACHABLE, "no node can be reached"
        if self.leader is not None:
            return "timeout", f"leader {self.leader} did not answer in time"
        return NO_LEADER, "no leader was found in time"
