"""Sockets to the nodes' client ports: one DEALER each, and what their monitors tell of them.

Knows which nodes can be reached, and turns requests and replies into frames and back. Who leads, what is asked
again and what an answer means is left to client/session.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from zabzmq.net.client_wire import ClientReply, ClientRequest, decode_reply, encode
from zabzmq.net.wire import FRAME_BYTES_MAX, WireError

DRAIN_MAX: Final = 64  # messages taken from one socket before the others have their turn
NOTHING: Final = 0
READABLE: Final[int] = zmq.POLLIN
WRITABLE: Final[int] = zmq.POLLOUT
WATCHED: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED

_monitors = count()


class Connection:
    """One node's client port. `up`: shaken hands with; `refused`: nobody listens there, as far as known."""

    __slots__ = ("endpoint", "monitor", "node", "refused", "socket", "up")

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], node: int, endpoint: str) -> None:
        self.node = node
        self.endpoint = endpoint
        self.up = False
        self.refused = False
        self.socket = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (
                zmq.IMMEDIATE,
                1,
            ),  # nothing is queued for a node that is not there: it would be sent late, to whoever comes
            (zmq.RECONNECT_IVL, 20),
            (zmq.RECONNECT_IVL_MAX, 300),
            (zmq.CONNECT_TIMEOUT, 300),
            (zmq.HANDSHAKE_IVL, 300),
            (zmq.SNDHWM, 10_000),
            (zmq.RCVHWM, 0),
            (zmq.MAXMSGSIZE, FRAME_BYTES_MAX),
        ):
            self.socket.setsockopt(option, value)
        # Made by hand for its RCVHWM: an unread monitor at its limit would block the library's I/O thread.
        address = f"inproc://monitor-{next(_monitors)}"  # never one that the library has not let go of yet
        self.socket.monitor(address, WATCHED)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.setsockopt(zmq.RCVHWM, 0)
        self.monitor.setsockopt(zmq.LINGER, 0)
        self.monitor.connect(address)
        self.socket.connect(endpoint)

    def close(self) -> None:
        self.socket.monitor(None, 0)
        self.monitor.close()
        self.socket.close()


class Connections:
    """All of them. `changes` lists (node, up) since it was last taken; `dropped` counts what could not be read."""

    def __init__(self, endpoints: Mapping[int, str]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._all = zmq.Poller()
        self._pollers: dict[int, zmq.Poller] = {}
        self.by_node: dict[int, Connection] = {}
        self.changes: list[tuple[int, bool]] = []
        self.dropped = 0
        self.woken = False  # since it was last set: a `wait` ended for one of the caller's own files
        self._files: dict[int, int] = {}
        for node, endpoint in sorted(endpoints.items()):
            self.add(node, endpoint)

    def close(self) -> None:
        for connection in self.by_node.values():
            connection.close()
        self.by_node.clear()
        self._context.destroy(linger=0)  # whatever else is open: an end must not wait for it

    def add(self, node: int, endpoint: str) -> None:
        """Learn of a node; one already known is left as it is (the way we were told goes before what nodes say)."""
        if node in self.by_node:
            return
        connection = self.by_node[node] = Connection(self._context, node, endpoint)
        poller = self._pollers[node] = zmq.Poller()
        for socket in (connection.socket, connection.monitor):
            self._all.register(socket, zmq.POLLIN)
            poller.register(socket, zmq.POLLIN)
        for file, events in self._files.items():
            poller.register(file, events)

    def attach(self, file: int, events: int) -> None:
        """Let this file descriptor end a `wait` too, when it is READABLE or WRITABLE; NOTHING forgets it."""
        if self._files.get(file, 0) == events:
            return
        self._files[file] = events
        for poller in (self._all, *self._pollers.values()):
            poller.register(file, events)  # of no events: unregisters
        if not events:
            del self._files[file]

    def subscriber(self) -> zmq.Socket[bytes]:
        """A SUB socket that the `wait` for all nodes also wakes up for; the caller connects and closes it."""
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        self._all.register(socket, zmq.POLLIN)
        return socket

    def is_up(self, node: int) -> bool:
        connection = self.by_node.get(node)
        return connection is not None and connection.up

    def send(self, node: int, request: ClientRequest) -> bool:
        """False: surely not sent (no connection, or its queue is full)."""
        connection = self.by_node.get(node)
        if connection is None:
            return False
        try:
            connection.socket.send_multipart(encode(request), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def wait(self, timeout_ms: float, only: int | None) -> None:
        """Sleep until something can be received: from this one node, or from any."""
        poller = self._all if only is None else self._pollers[only]
        # Rounded up: a deadline that is not yet reached after waking would be waited for again and again.
        ready = poller.poll(int(timeout_ms) + 1 if timeout_ms > 0 else 0)
        if self._files and any(what in self._files for what, _ in ready):
            self.woken = True

    def receive(self, only: int | None) -> Iterator[tuple[int, ClientReply]]:
        """What has arrived, from this one node or from all, without waiting."""
        if only is not None:
            yield from self._drain(self.by_node[only])
            return
        for connection in list(self.by_node.values()):
            self._watch(connection)
            yield from self._drain(connection)
            # The reply to what was sent before a disconnect may still be readable; both orders are legal (T6).

    def watch(self) -> None:
        """Read the monitors. Needed now and then also while only one node is received from."""
        for connection in self.by_node.values():
            self._watch(connection)

    def watch_one(self, node: int) -> None:
        self._watch(self.by_node[node])

    def _drain(self, connection: Connection) -> Iterator[tuple[int, ClientReply]]:
        socket = connection.socket
        for _ in range(DRAIN_MAX):
            try:
                frame = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if socket.getsockopt(zmq.RCVMORE):
                # No node says anything in parts. Reading on is no choice: were the connection to end between two
                # parts, libzmq would abort the process (net/wire.py).
                self.dropped += 1
                self._renew(connection)
                return
            try:
                yield connection.node, decode_reply([frame])
            except WireError:
                self.dropped += 1

    def _renew(self, old: Connection) -> None:
        """Hang up on whoever this is, and call again."""
        node = old.node
        for socket in (old.socket, old.monitor):
            self._all.unregister(socket)
        old.close()
        del self.by_node[node], self._pollers[node]
        self.changes.append((node, False))
        self.add(node, old.endpoint)

    def _watch(self, connection: Connection) -> None:
        while connection.monitor.poll(0, zmq.POLLIN):
            event = recv_monitor_message(connection.monitor, zmq.NOBLOCK)["event"]
            up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            connection.refused = event == zmq.EVENT_CLOSED
            if up != connection.up:
                connection.up = up
                self.changes.append((connection.node, up))
            elif event == zmq.EVENT_CLOSED:
                self.changes.append((connection.node, False))
