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

from zabzmq.client.call import Call, Calls
from zabzmq.client.connection import Connections
from zabzmq.client.player import Player, Registration
from zabzmq.client.reads import Kind, Reads
from zabzmq.client.search import Search
from zabzmq.client.session import PATIENCE_MS, WINDOW, Session, left_ms
from zabzmq.machine.operations import Operation, Query, Refused, Registered, SessionId, decode_results
from zabzmq.net.client_wire import (
    Answers,
    ClientReply,
    ClientRequest,
    Done,
    Hello,
    Hint,
    No,
    NodeStatus,
    RegisterSession,
    StatusQuery,
)

TIMEOUT_MS: Final = 5_000.0
RETRY_MS: Final = 20.0
REGISTER_PATIENCE_MS: Final = 1_000.0
TICK_MS: Final = 500.0

ANY: Final = -1
"""As the node of a read: whichever node answers."""

UNREACHABLE: Final = "unreachable"
NO_LEADER: Final = "no_leader"
WRONG_CLUSTER: Final = "wrong_cluster"
LOST_LEADER: Final = frozenset({"not_leader", "no_leader", "unknown"})


def monotonic_ms() -> float:
    return time.monotonic() * 1000.0


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
        clock: Callable[[], float] = monotonic_ms,
        dice: random.Random | None = None,
        connect: Callable[[Mapping[int, str]], Connections] = Connections,
    ) -> None:
        self.cluster = cluster
        self.timeout_ms = timeout_ms
        self._clock = clock
        self._dice = dice if dice is not None else random.Random()
        self.name = name if name is not None else f"guest-{self._dice.getrandbits(40):010x}"
        self.search = Search(cluster, self._dice)
        self._window = window
        self._links = connect(endpoints)
        self._players: dict[tuple[str, int | None], Player] = {}
        self._own = self.player(self.name)
        self._dirty: list[Player] = []
        self._sessions: dict[SessionId, tuple[Player, Session]] = {}
        self._registering: dict[int, Registration] = {}
        self._reads = Reads()
        self._asked: dict[int, ClientReply | None] = {}
        self._rid = 0
        self._finished: Calls = []
        self._ours: set[int] = set()  # connected nodes that have said they are of our cluster
        self._led = (-1, 0)  # the leader and epoch that our streams belong to
        self._elsewhere = False  # something is awaited from a node that is not the leader
        self._timer_at = 0.0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._links.close()

    # ---- what programs call --------------------------------------------------------------------------------------

    @property
    def leader(self) -> int | None:
        return self.search.leader

    def player(self, name: str, node: int | None = None, *, ordered: bool = False) -> Player:
        """Who operations are submitted as; with `node`, writes go to that node alone and never follow a hint.

        `ordered`: one session is all it gets, so that its operations keep their order however many wait.
        """
        key = (name, node)
        if key not in self._players:
            self._players[key] = Player(name, node, ordered)
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
        self._reads.add(call, Kind((player or self._own).seen, linear, target))
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
        if self._reads.waiting and now >= self._reads.resume_at:
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
                    self._finished += self._reads.on_answers(node, reply, now)
                    self.search.succeeded()
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
            if node is None or not self._may_be_asked(node):
                continue  # marked again when a leader is found, or the node says whose it is
            if player.waiting and not player.seat() and player.may_register:
                if now >= player.resume_at:
                    self._register(player, node, now)
                else:
                    self._wake(player.resume_at)
            for session in player.sessions:
                for submit in session.submits(now):
                    if not self._send(node, submit):
                        session.unsent(submit.seq)
                        session.pause(now, 0.0)
                        break
                self._wake(session.patience_at)
                if session.resume_at > now:
                    self._wake(session.resume_at)

    def _register(self, player: Player, node: int, now: float) -> None:
        timeout_ms = left_ms(max(call.deadline for call in player.waiting), now)
        rid = self._next_rid()
        if self._send(node, RegisterSession(rid, player.name, timeout_ms)):
            session = Session(player.name, player.node, self._window)
            player.sessions.append(session)
            self._registering[rid] = Registration(player, session, now + REGISTER_PATIENCE_MS)
            self._wake(now + REGISTER_PATIENCE_MS)

    def _forget_registration(self, rid: int) -> Registration | None:
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
        self.search.succeeded()
        if ended and (last := ended[-1].zxid) is not None:
            player.seen.reach(last)
        if player.waiting or session.sent < len(session.chain):
            self._mark(player)
        self._retire(player, session)

    def _on_registered(self, node: int, done: Done, now: float) -> None:
        registration = self._registering.pop(done.rid, None)
        if registration is None:
            return
        player, session = registration.player, registration.session
        result = decode_results(done.results)[0]
        self.search.succeeded()
        if isinstance(result, Registered):
            session.identity = result.session
            self._sessions[result.session] = (player, session)
        else:
            player.sessions.remove(session)
            code, text = (result.code, result.text) if isinstance(result, Refused) else ("invalid", "not registered")
            self._finished += player.fail_waiting(code, text, now)
        self._mark(player)

    def _retire(self, player: Player, session: Session) -> None:
        if session.retired and session.is_settled and session in player.sessions:
            player.sessions.remove(session)
            if session.identity is not None:
                self._sessions.pop(session.identity, None)

    def _on_no(self, node: int, no: No, now: float) -> None:
        if self._reads.is_asked(no.rid):
            ended, suspect = self._reads.on_no(no, now)
            self._finished += ended
            self._wake(self._reads.resume_at)
            if suspect and node == self.leader:
                self._seek(now)
            return
        if no.rid in self._registering:
            registration = self._forget_registration(no.rid)
            assert registration is not None
            player = registration.player
            if no.why == "invalid" or (player.node is not None and no.why in ("not_leader", "no_leader")):
                self._finished += player.fail_waiting(no.why, no.text, now)
                return
            if no.why not in LOST_LEADER:
                for call in (*player.waiting, *registration.session.chain):
                    call.why, call.text = no.why, no.text  # what to tell if it never gets better
            player.resume_at = now + max(no.retry_ms or 0.0, RETRY_MS)
            self._wake(player.resume_at)
        else:
            entry = self._sessions.get(no.session)
            if entry is None:
                return
            player, session = entry
            # The only node we may ask does not lead: that is the answer.
            final = player.node is not None and no.why in LOST_LEADER
            ended, moving = session.on_no(no, node, now, final)
            self._finished += ended
            player.waiting[:0] = moving
            self._wake(session.resume_at)
            self._mark(player)
            self._retire(player, session)
        if player.node is None and node == self.leader and no.why in LOST_LEADER:
            self._seek(now)

    # ---- reads ---------------------------------------------------------------------------------------------------

    def _send_reads(self, now: float) -> None:
        for node, message in self._reads.messages(self._next_rid, self._reader, now):
            if not self._send(node, message):
                self._reads.unsent(message.rid)
                self._reads.resume_at = now + RETRY_MS
                self._wake(self._reads.resume_at)
        self._wake(now + PATIENCE_MS)

    def _reader(self, target: int | None) -> int | None:
        if target is None:
            return self.leader
        if target == ANY:
            able = [node for node in self.reachable if node in self._ours]
            return self._dice.choice(able) if able else None
        return target if self._may_be_asked(target) else None

    def _may_be_asked(self, node: int) -> bool:
        """A request does not name its cluster, so nobody is asked who has not said that it is ours (C8)."""
        return node in self._ours and self._links.is_up(node)

    # ---- who leads -----------------------------------------------------------------------------------------------

    def _seek(self, now: float) -> None:
        """Look for the leader, the present one included."""
        self.search.begin(now)
        if now >= self.search.at:
            self._say_hello(now)
        self._wake(self.search.at)

    def _say_hello(self, now: float) -> None:
        for node in self.reachable:
            self._send(node, Hello(self._next_rid(), self.cluster))
        self._elsewhere = True
        self.search.asked(now)

    def _on_hint(self, node: int, hint: Hint, now: float) -> None:
        led = self.search.on_hint(node, hint)
        if node in self.search.foreign and self._is_out_of_place():
            for player in self._players.values():
                self._finished += player.fail_waiting(*self._excuse(player.node), self._clock())
            self._finished += self._reads.fail_waiting(self._excuse, self._clock())
        if hint.cluster == self.cluster and node not in self._ours:
            self._ours.add(node)
            for player in self._players.values():
                if player.node == node:
                    self._mark(player)
        for peer, endpoint in hint.endpoints.items() if hint.cluster == self.cluster else ():
            self._links.add(peer, endpoint if "://" in endpoint else f"tcp://{endpoint}")
        if led:
            if self._led != (node, hint.epoch):
                self._led = (node, hint.epoch)
                self._lost(None)
            for player in self._players.values():
                if player.node is None and (player.waiting or player.sessions):
                    self._mark(player)

    def _is_out_of_place(self) -> bool:
        """Another cluster answers at every address: waiting for ours would only hide that."""
        return all(c.up and node in self.search.foreign for node, c in self._links.by_node.items())

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
        self._reads.lost(node)

    def _heed_changes(self, now: float) -> None:
        self._links.watch()
        changes, self._links.changes = self._links.changes, []
        for node, up in changes:
            if up:
                self._send(node, Hello(self._next_rid(), self.cluster))
            else:
                self._ours.discard(node)
                self.search.hints.pop(node, None)
                self._lost(node)
                if node == self._led[0]:
                    self._led = (-1, 0)
                    self._lost(None)
                if node == self.leader:
                    self.search.succeeded()
                    self._seek(now)

    # ---- timers --------------------------------------------------------------------------------------------------

    def _timers(self, now: float) -> None:
        self._timer_at = now + TICK_MS
        self._heed_changes(now)
        impatient = elsewhere = False
        for player in self._players.values():
            impatient = self._time_player(player, now) or impatient
            elsewhere = elsewhere or (player.node is not None and bool(player.sessions or player.waiting))
        for rid, registration in list(self._registering.items()):
            if registration.patience_at <= now:
                self._forget_registration(rid)
                impatient = impatient or registration.player.node is None
            else:
                self._wake(registration.patience_at)
        ended, slow_reads = self._reads.expire(now, self._excuse)
        self._finished += ended
        self._wake(self._reads.next_look(now))
        if (impatient or slow_reads) and self.leader is not None:
            self.search.succeeded()
            self._seek(now)
        if self.leader is None:
            if now >= self.search.at:
                self._say_hello(now)
            self._wake(self.search.at)
        asked = any(reply is None for reply in self._asked.values())
        self._elsewhere = elsewhere or asked or self._reads.elsewhere or self.leader is None
        if self._dirty:
            self._flush(now)

    def _time_player(self, player: Player, now: float) -> bool:
        """Deadlines and patience of one player; True if the leader is suspect of silence."""
        impatient = False
        self._finished += player.expire_waiting(now, self._excuse)
        for session in list(player.sessions):
            if session.next_deadline() <= now:
                ended, moving = session.expire(now, *self._excuse(player.node))
                self._finished += ended
                player.waiting[:0] = moving
                self._mark(player)
                self._retire(player, session)
            if session.patience_at <= now:
                session.lose_patience()
                impatient = player.node is None
                self._mark(player)
            elif session.sent < len(session.chain):
                self._mark(player)
            self._wake(min(session.next_deadline(), session.patience_at))
            if session.resume_at > now:
                self._wake(session.resume_at)
        if player.waiting:
            self._wake(min(call.deadline for call in player.waiting))
            self._mark(player)
        return impatient

    def _excuse(self, node: int | None) -> tuple[str, str]:
        """Why nothing could be done at this node (None: at the leader), where no node gave a reason."""
        search = self.search
        if node in search.foreign or (search.foreign and not self._ours):
            other = search.foreign.get(-1 if node is None else node) or next(iter(search.foreign.values()))
            return WRONG_CLUSTER, f'the nodes that answer belong to cluster "{other}", not "{self.cluster}"'
        if node is not None and node != ANY:
            if self._links.is_up(node):
                return "timeout", f"node {node} did not answer in time"
            where = self._links.by_node[node].endpoint if node in self._links.by_node else "an unknown address"
            return UNREACHABLE, f"node {node} cannot be reached at {where}"
        if not self.reachable:
            return UNREACHABLE, "no node can be reached"
        if node == ANY:
            return "timeout", "no node answered in time"
        if self.leader is not None:
            return "timeout", f"leader {self.leader} did not answer in time"
        return NO_LEADER, "no leader was found in time"
