"""The network of a real node: ZeroMQ sockets behind the Transport port (PROTOCOL 7).

All sockets belong to the thread that made this, the protocol loop. The loop calls `poll`, `receive`, and in
between the Transport methods; none of them waits except `poll`, and none raises for what another process does:
what fails comes back as LinkLost or MeshDown from the next `receive`, what cannot be read is counted in `dropped`.
How many sockets are waited for at once is in net/reading.py, what each is set to in net/options.py.
"""

from __future__ import annotations

import errno
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final

import zmq

from zabzmq.core.inputs import Input, LinkLost, LinkUp, MeshDown, MeshUp, Received
from zabzmq.core.lamport import Lamport
from zabzmq.core.messages import Commit, LinkMessage, Message, Notification, PubMessage
from zabzmq.core.zxid import LinkId, PeerId, ProcessId
from zabzmq.net import client_wire
from zabzmq.net.client_wire import ClientReply, ClientRequest, Committed
from zabzmq.net.endpoints import NetConfig, bind_error
from zabzmq.net.faults import Faults
from zabzmq.net.link import Links, Verdict
from zabzmq.net.options import (
    CLIENT_ROUTER,
    LINK_DEALER,
    MESH_DEALER,
    PEER_ROUTER,
    PUBLISHER,
    SUBSCRIBER,
    Options,
)
from zabzmq.net.reading import Readers, Source, Take
from zabzmq.net.wire import LINK, MESH, PUB, Closed, Envelope, Wire, WireError

TOPIC_HEARTBEAT: Final = b"hb"
TOPIC_COMMIT: Final = b"cm"

PEER_MESSAGES_MAX: Final = 256
CLIENT_MESSAGES_MAX: Final = 256
"""Read from one socket in one turn, so that none starves the others."""
CLIENT_BYTES_MAX: Final = 4 << 20
"""The same for clients, in bytes: decoding a flood must not cost the peers their heartbeats."""
DRAIN_ROUNDS_MAX: Final = 64
FAREWELL_MS: Final = 100.0
"""How long the socket of a link given up stays, unread, so that the last word (NACK, CLOSED) gets out: with
LINGER=0 a close would take it back."""

_UP: Final = zmq.Event.HANDSHAKE_SUCCEEDED
_DOWN: Final = zmq.Event.DISCONNECTED
_FAILED: Final = (
    zmq.Event.CLOSED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
_EVENT: Final = struct.Struct("=Hi")

_MORE: Final = zmq.DONTWAIT | zmq.SNDMORE


class _Connection:
    """A connecting socket and its monitor."""

    __slots__ = ("monitor", "peer", "source", "up")

    def __init__(self, peer: PeerId, source: Source, monitor: Source) -> None:
        self.peer = peer
        self.source = source
        self.monitor = monitor
        self.up = False


def _nothing(frames: list[bytes]) -> None:
    """What a PUB hears."""


class SocketTransport:
    """Transport over ZeroMQ. Binds at once; raises NetError if an address cannot be had."""

    def __init__(self, config: NetConfig, faults: Faults | None = None) -> None:
        """`faults`: what is done on purpose to what is said between nodes; clients are left alone."""
        self.config = config
        self.me = config.me
        self.links = Links(config.me)
        self.dropped: Counter[str] = Counter()
        """Frames refused, by reason: a bounded set of them."""
        self.unsent: Counter[str] = Counter()
        """What could not be sent: "vote", "reply", "link", "publish"."""
        self.pub_missed = 0
        """Gaps in pub_seq: what PUB/SUB dropped (7.3). Only counted; nothing rests on it."""
        self.subscribed: set[PeerId] = set()
        """Peers whose PUB our SUB is connected to."""
        self.lamport = Lamport()
        """The clock that goes along with every message, for the event log."""
        self._wire = Wire(config.cluster, self.lamport)
        self._faults = faults
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._readers = Readers()
        self._inputs: list[Input] = []
        self._requests: list[tuple[bytes, ClientRequest]] = []
        self._request_bytes = 0
        self._dealers: dict[LinkId, _Connection] = {}  # links we opened, as a learner
        self._deadlines: dict[LinkId, float] = {}  # of those not up yet
        self._routes: dict[LinkId, bytes] = {}  # links opened to us, as a leader: where to answer
        self._link_of: dict[bytes, LinkId] = {}
        self._leaving: deque[tuple[float, Source]] = deque()
        self._called_back: dict[PeerId, ProcessId] = {}
        self._pub_seq = count(1)
        self._pub_seen: dict[PeerId, tuple[int, int]] = {}
        try:
            router = self._bind(zmq.ROUTER, config.mine.peer, PEER_ROUTER)
            on_peer = self._on_peer if faults is None else faults.from_route(self._on_peer)
            self._peers = self._read_from(router, on_peer, PEER_MESSAGES_MAX)
            router = self._bind(zmq.ROUTER, config.mine.client, CLIENT_ROUTER)
            self._clients = self._read_from(router, self._on_client, CLIENT_MESSAGES_MAX, self._has_room_for_requests)
            self._publisher = Source(self._bind(zmq.PUB, config.mine.publish, PUBLISHER), _nothing, 0)
            self._mesh = {peer: self._connect_mesh(peer) for peer in config.others}
            self._subscribers = {peer: self._connect_subscriber(peer) for peer in config.others}
        except BaseException:
            self.close()
            raise

    # ---- Transport -----------------------------------------------------------------------------------------------

    def send(self, link: LinkId, message: LinkMessage) -> None:
        outgoing = self.links.outgoing(link)
        if outgoing is None:
            return  # closed, or lost a moment ago: LinkLost is on its way
        try:
            frame = self._wire.encode(
                Envelope(self.me, outgoing.peer, outgoing.incarnation, link, outgoing.seq), message
            )
        except WireError as error:
            self._lose(link, f"cannot send to peer {outgoing.peer}: {error}")
            return
        route = self._routes.get(link)
        if route is None:
            sent = self._say(outgoing.peer, self._dealers[link].source, (frame,))
        else:
            sent = self._say(outgoing.peer, self._peers, (route, frame))
        if not sent:
            # T7: gone or full. A link with a hole in it is no link.
            self.unsent["link"] += 1
            self._lose(link, f"peer {outgoing.peer} does not take message {outgoing.seq}")

    def send_vote(self, peer: PeerId, message: Notification) -> None:
        connection = self._mesh.get(peer)
        if connection is None:
            return
        # To whatever process is there: a vote is judged by who sent it, and a restarted peer needs it most.
        frame = self._wire.encode(Envelope(self.me, peer, 0, None, 0), message)
        if not self._say(peer, connection.source, (frame,)):
            self.unsent["vote"] += 1  # not connected; votes are sent again on a timer

    def publish(self, message: PubMessage) -> None:
        topic = TOPIC_COMMIT if isinstance(message, Commit) else TOPIC_HEARTBEAT
        frame = self._wire.encode(Envelope(self.me, PeerId(0), 0, None, next(self._pub_seq)), message)
        if not self._try(self._publisher, (topic, frame)):
            self.unsent["publish"] += 1

    def publish_committed(self, committed: Committed) -> None:
        frames = client_wire.encode_committed(self.config.cluster, self.me.peer, committed)
        if not self._try(self._publisher, frames):
            self.unsent["publish"] += 1

    def open_link(self, link: LinkId, peer: PeerId) -> None:
        self.links.opened(link, peer)
        if peer not in self._mesh:
            self._lose(link, f"no peer {peer}")
            return
        learner = link.learner
        identity = f"{learner.peer}/{learner.incarnation}/{link.number}".encode()
        self._dealers[link] = self._connect(
            zmq.DEALER,
            peer,
            self.config.nodes[peer].peer,
            LINK_DEALER,
            partial(self._on_link, link),
            partial(self._on_link_event, link),
            events=_UP | _DOWN | _FAILED,
            identity=identity,
        )
        self._deadlines[link] = time.monotonic() + self.config.link_timeout_ms / 1000

    def close_link(self, link: LinkId) -> None:
        self._forget(link, say=self.links.is_open(link))

    def resubscribe(self, peer: PeerId) -> None:
        old = self._subscribers.pop(peer, None)
        if old is None:
            return
        self._disconnect(old)
        self.subscribed.discard(peer)
        self._subscribers[peer] = self._connect_subscriber(peer)

    def reply(self, client: bytes, message: ClientReply) -> None:
        if not self._try(self._clients, (client, *client_wire.encode(message))):
            self.unsent["reply"] += 1  # gone, or not reading

    # ---- the loop's side -----------------------------------------------------------------------------------------

    def poll(self, timeout_ms: float, extra_fd: int | None = None) -> bool:
        """Wait until something can be received, `extra_fd` is readable, or time is up; whether it was `extra_fd`."""
        if self._inputs:
            timeout_ms = 0
        elif self._deadlines or self._leaving:
            due = min([*self._deadlines.values(), *(when for when, _ in self._leaving)])
            timeout_ms = min(timeout_ms, (due - time.monotonic()) * 1000)
        if self._faults is not None:
            timeout_ms = min(timeout_ms, self._faults.due_in)
        return self._readers.wait(timeout_ms, extra_fd)

    def receive(self, *, drain: bool = False) -> tuple[list[Input], list[tuple[bytes, ClientRequest]]]:
        """What has arrived: inputs for the peer, in order, and requests of clients with where to answer.

        A turn takes a bounded number of messages of each socket; what is left is taken in the next. `drain` takes
        all there is of the peers, as after a pause of this process (F5).
        """
        self._turn()
        if drain:
            for _ in range(DRAIN_ROUNDS_MAX):
                self._readers.look()
                if not self._readers.are_ready_besides(self._clients):
                    break
                self._turn()
        inputs, self._inputs = self._inputs, []
        requests, self._requests = self._requests, []
        self._request_bytes = 0
        return inputs, requests

    def close(self) -> None:
        """Close everything at once; what is not out yet is not sent."""
        self._readers.close()
        self._context.destroy(linger=0)

    # ---- reading -------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Read what is ready, a bounded part of each socket."""
        if self._deadlines or self._leaving:
            self._expire(time.monotonic())
        if self._faults is not None:
            self._faults.release()
        self._readers.read()

    def _has_room_for_requests(self) -> bool:
        return len(self._requests) < CLIENT_MESSAGES_MAX and self._request_bytes < CLIENT_BYTES_MAX

    def _expire(self, now: float) -> None:
        for link in [link for link, when in self._deadlines.items() if when <= now]:
            self._lose(link, f"no connection within {self.config.link_timeout_ms:g} ms")
        while self._leaving and self._leaving[0][0] <= now:
            self._leaving.popleft()[1].socket.close()

    def _on_peer(self, frames: list[bytes]) -> None:
        """Peer ROUTER: votes, and links of which we are the leader."""
        route = frames.pop(0)
        known = self._link_of.get(route)
        try:
            envelope, message = self._wire.decode(frames, MESH | LINK)
        except WireError as error:
            self.dropped[error.reason] += 1
            if known is not None:
                self._lose(known, f"a message that cannot be read: {error}")  # T4
            return
        source, to_peer, to_incarnation, link, seq = envelope
        if source.peer not in self._mesh:
            self.dropped["stranger"] += 1
        elif link is None:
            if to_peer != self.me.peer or to_incarnation not in (0, self.me.incarnation):
                self.dropped["address"] += 1
            elif self._accepts(self.links.heard(source)):
                self._call_back(source)
                self._hand_on(source, None, message)
        elif self._routes.get(link, route) != route:
            self.dropped["stranger"] += 1  # another connection in the name of this link
        else:
            ends = isinstance(message, Closed)
            verdict = self.links.incoming(link, seq, source, to_peer, to_incarnation, ends=ends)
            if verdict.tell_closed and link not in self._routes:
                self._say_closed(link, source.peer, source.incarnation, self._peers, route)
            if self._accepts(verdict):
                self._routes[link] = route
                self._link_of[route] = link
                self._hand_on(source, link, message)

    def _on_link(self, link: LinkId, frames: list[bytes]) -> None:
        """The DEALER of a link of which we are the learner."""
        try:
            (source, to_peer, to_incarnation, named, seq), message = self._wire.decode(frames, LINK)
        except WireError as error:
            self.dropped[error.reason] += 1
            self._lose(link, f"a message that cannot be read: {error}")  # T4
            return
        if named != link:
            self.dropped["stranger"] += 1
            self._lose(link, f"a message of link {named}")
            return
        ends = isinstance(message, Closed)
        if self._accepts(self.links.incoming(link, seq, source, to_peer, to_incarnation, ends=ends)):
            self._hand_on(source, link, message)

    def _on_publication(self, peer: PeerId, frames: list[bytes]) -> None:
        """SUB to this peer's PUB."""
        topic = frames.pop(0)
        try:
            (source, _, _, _, seq), message = self._wire.decode(frames, PUB)
        except WireError as error:
            self.dropped[error.reason] += 1
            return
        if topic != (TOPIC_COMMIT if isinstance(message, Commit) else TOPIC_HEARTBEAT):
            self.dropped["place"] += 1
        elif source.peer != peer:
            self.dropped["stranger"] += 1
        elif self._accepts(self.links.heard(source, newer=True)):
            incarnation, seen = self._pub_seen.get(peer, (0, 0))
            if incarnation == source.incarnation and seq > seen + 1:
                self.pub_missed += seq - seen - 1
            self._pub_seen[peer] = (source.incarnation, seq)
            self._hand_on(source, None, message)

    def _on_client(self, frames: list[bytes]) -> None:
        client = frames.pop(0)
        self._request_bytes += sum(map(len, frames))
        try:
            self._requests.append((client, client_wire.decode_request(frames)))
        except WireError as error:
            self.dropped[error.reason] += 1

    def _on_unasked(self, peer: PeerId, frames: list[bytes]) -> None:
        """A mesh DEALER only speaks; whatever answers there is no peer of ours."""
        self.dropped["place"] += 1
        if len(frames) > 1:
            connection = self._mesh[peer]
            if connection.up:
                self._inputs.append(MeshDown(peer))
            self._disconnect(connection)
            self._mesh[peer] = self._connect_mesh(peer)

    def _call_back(self, source: ProcessId) -> None:
        """A process that has just come up is connected to at once: the reconnection that waits for it may have
        backed off to half a second. Once per process, so that a one-way cut does not make this a habit."""
        peer = source.peer
        if self._mesh[peer].up or self._called_back.get(peer) == source:
            return
        self._called_back[peer] = source
        self._disconnect(self._mesh[peer])
        self._mesh[peer] = self._connect_mesh(peer)
        if peer not in self.subscribed:
            self.resubscribe(peer)

    def _hand_on(self, source: ProcessId, link: LinkId | None, message: Message | Closed) -> None:
        if not isinstance(message, Closed):
            self._inputs.append(Received(source, link, message))

    def _accepts(self, verdict: Verdict) -> bool:
        for link, why in verdict.lost:
            self._inputs.append(LinkLost(link, why))
            self._forget(link, say=verdict.tell_closed)
        if verdict.reason is None:
            return True
        if verdict.reason != "ended":
            self.dropped[verdict.reason] += 1
        return False

    # ---- connections as their monitors tell of them --------------------------------------------------------------

    def _on_link_event(self, link: LinkId, frames: list[bytes]) -> None:
        connection = self._dealers.get(link)
        if connection is None:
            return
        was_up = connection.up
        if self._is_up(connection, frames):
            self._deadlines.pop(link, None)
            self._inputs.append(LinkUp(link))
        else:
            # After messages that were read before; those not read yet are gone with the connection (T6).
            self._lose(link, "disconnected" if was_up else "refused")

    def _on_mesh_event(self, peer: PeerId, frames: list[bytes]) -> None:
        connection = self._mesh[peer]
        was_up = connection.up
        if self._is_up(connection, frames):
            self._inputs.append(MeshUp(peer))
        elif was_up:  # else an attempt that did not get as far as a handshake
            self._inputs.append(MeshDown(peer))

    def _on_subscriber_event(self, peer: PeerId, frames: list[bytes]) -> None:
        if self._is_up(self._subscribers[peer], frames):
            self.subscribed.add(peer)
        else:
            self.subscribed.discard(peer)

    def _is_up(self, connection: _Connection, frames: list[bytes]) -> bool:
        """Note what a monitor says of this connection."""
        up: bool = _EVENT.unpack(frames[0])[0] == _UP
        if up:
            # The socket hears of its new connection on another way than we do. Sends look that way only about once
            # a millisecond, so the first one would find nobody to send to; this is a look.
            connection.source.socket.get(zmq.EVENTS)
            self._readers.touched(connection.source)
        connection.up = up
        return up

    # ---- the end of a link ---------------------------------------------------------------------------------------

    def _lose(self, link: LinkId, why: str) -> None:
        """The link is over, not by our peer's wish: tell it."""
        if self.links.is_open(link):
            self._inputs.append(LinkLost(link, why))
            self._forget(link, say=True)

    def _forget(self, link: LinkId, *, say: bool = False) -> None:
        """Let go of all that belongs to this link. `say`: tell the other end."""
        self.links.closed(link)
        self._deadlines.pop(link, None)
        connection = self._dealers.pop(link, None)
        if connection is not None:
            if say and connection.up:
                self._say_closed(link, connection.peer, 0, connection.source)
            self._disconnect(connection, later=connection.up)
        route = self._routes.pop(link, None)
        if route is not None:
            self._link_of.pop(route, None)
            if say:
                self._say_closed(link, link.learner.peer, link.learner.incarnation, self._peers, route)

    def _say_closed(self, link: LinkId, peer: PeerId, incarnation: int, source: Source, *route: bytes) -> None:
        # Number 0: whatever got lost before it, this one is understood.
        self._say(peer, source, (*route, self._wire.encode(Envelope(self.me, peer, incarnation, link, 0), Closed())))

    # ---- sockets -------------------------------------------------------------------------------------------------

    def _say(self, peer: PeerId, source: Source, frames: Sequence[bytes]) -> bool:
        """`_try`, unless a fault keeps what goes to this peer: then it is lost on the way, as far as anyone can see."""
        return (self._faults is not None and self._faults.keeps(peer, frames[-1])) or self._try(source, frames)

    def _try(self, source: Source, frames: Sequence[bytes]) -> bool:
        """Send without waiting. False: not sent, and the parts after the failed one are not tried (T7)."""
        socket = source.socket
        self._readers.touched(source)
        try:
            for frame in frames[:-1]:
                socket.send(frame, _MORE)
            socket.send(frames[-1], zmq.DONTWAIT)
        except zmq.ZMQError:
            return False
        return True

    def _bind(self, kind: int, endpoint: str, options: Options) -> zmq.Socket[bytes]:
        socket = self._socket(kind, endpoint, options)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            # ENODEV is how libzmq says that it made nothing of the host.
            reason = "no address of this machine" if error.errno == errno.ENODEV else error.strerror
            raise bind_error(endpoint, self.me.peer, error.errno == zmq.EADDRINUSE, reason) from None
        return socket

    def _connect_mesh(self, peer: PeerId) -> _Connection:
        return self._connect(
            zmq.DEALER,
            peer,
            self.config.nodes[peer].peer,
            MESH_DEALER,
            partial(self._on_unasked, peer),
            partial(self._on_mesh_event, peer),
            events=_UP | _DOWN,
            identity=f"{self.me.peer}/{self.me.incarnation}".encode(),
        )

    def _connect_subscriber(self, peer: PeerId) -> _Connection:
        return self._connect(
            zmq.SUB,
            peer,
            self.config.nodes[peer].publish,
            SUBSCRIBER,
            partial(self._on_publication, peer),
            partial(self._on_subscriber_event, peer),
            events=_UP | _DOWN,
        )

    def _connect(
        self,
        kind: int,
        peer: PeerId,
        endpoint: str,
        options: Options,
        take: Take,
        on_event: Callable[[list[bytes]], None],
        *,
        events: int,
        identity: bytes | None = None,
    ) -> _Connection:
        socket = self._socket(kind, endpoint, options)
        if identity is not None:
            socket.set(zmq.ROUTING_ID, identity)
        if kind == zmq.SUB:
            socket.subscribe(TOPIC_HEARTBEAT)
            socket.subscribe(TOPIC_COMMIT)
        # The monitor first: it must see the first connect fail (7.4).
        monitor: zmq.Socket[bytes] = socket.get_monitor_socket(events)
        if self._faults is not None:
            take = self._faults.from_peer(peer, take)
        connection = _Connection(
            peer,
            self._read_from(socket, take, PEER_MESSAGES_MAX),
            self._read_from(monitor, on_event, PEER_MESSAGES_MAX),
        )
        socket.connect(endpoint)
        return connection

    def _socket(self, kind: int, endpoint: str, options: Options) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        for option, value in options.items():
            socket.set(option, value)
        if "[" in endpoint:
            socket.set(zmq.IPV6, 1)
        return socket

    def _read_from(
        self, socket: zmq.Socket[bytes], take: Take, most: int, room: Callable[[], bool] | None = None
    ) -> Source:
        source = Source(socket, take, most, room)
        self._readers.add(source)
        return source

    def _disconnect(self, connection: _Connection, *, later: bool = False) -> None:
        connection.source.socket.disable_monitor()
        self._readers.remove(connection.monitor)
        connection.monitor.socket.close()
        self._readers.remove(connection.source)
        if later:
            self._leaving.append((time.monotonic() + FAREWELL_MS / 1000, connection.source))
        else:
            connection.source.socket.close()
