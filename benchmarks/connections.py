"""Many clients with a connection each, in one process: what `client.py bench` cannot do, whose sessions share one.

Bare DEALER sockets at the leader's client port, each with a session of its own and one write under way. They are
waited for by epoll: a poll over a thousand sockets would measure itself.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import zmq
from msgspec import Raw

from benchmarks.measure import KEYS, START_S, VALUE_BYTES, Rate, Trouble, rate
from zabzmq.machine.operations import Put, Registered, decode_results
from zabzmq.machine.operations import encode as encode_operations
from zabzmq.net.client_wire import Done, RegisterSession, Submit, decode_reply, encode

TIMEOUT_MS: Final = 10_000
VALUE: Final = b"x" * VALUE_BYTES


class _Connection:
    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, number: int) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        self._key = b"key-%d" % (number % KEYS)
        self._session = (0, 0)
        self._seq = 0
        self._asked = 0.0
        self.latencies: list[float] = []
        self.socket.send_multipart(encode(RegisterSession(1, f"connection-{number}", TIMEOUT_MS)))

    @property
    def is_registered(self) -> bool:
        return self._seq > 0

    def hear(self) -> None:
        """Take every answer there is, and write again after each."""
        while True:
            try:
                reply = decode_reply([self.socket.recv(zmq.NOBLOCK)])
            except zmq.Again:
                return
            if not isinstance(reply, Done):
                raise Trouble(f"a write was answered with {reply}")
            if self.is_registered:
                self.latencies.append((time.monotonic() - self._asked) * 1000)
                self.write()
                continue
            (result,) = decode_results(reply.results)
            assert isinstance(result, Registered)
            self._session, self._seq = result.session, 1

    def write(self) -> None:
        ops = Raw(encode_operations([Put(self._key, VALUE)]))
        self._asked = time.monotonic()
        self.socket.send_multipart(encode(Submit(self._session, self._seq, self._seq - 1, TIMEOUT_MS, ops)))
        self._seq += 1


def writes_over(endpoint: str, connections: int, seconds: float) -> Rate:
    """One write under way on each of so many connections with this client port. Raises Trouble."""
    with _connected(endpoint, connections) as (all_of_them, epoll):
        deadline = time.monotonic() + START_S
        while not all(each.is_registered for each in all_of_them.values()):
            if time.monotonic() > deadline:
                raise Trouble(f"{connections} connections were not answered in {START_S:.0f} s")
            _turn(all_of_them, epoll)
        began = time.monotonic()
        for each in all_of_them.values():
            each.write()
            each.hear()  # what a send found come in is not told by the descriptor again
        while (now := time.monotonic()) - began < seconds:
            _turn(all_of_them, epoll)
        return rate([ms for each in all_of_them.values() for ms in each.latencies], now - began)


def _turn(connections: dict[int, _Connection], epoll: select.epoll) -> None:
    for fd, _ in epoll.poll(0.1):
        connections[fd].hear()


@contextmanager
def _connected(endpoint: str, count: int) -> Iterator[tuple[dict[int, _Connection], select.epoll]]:
    with ExitStack() as stack:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, linger=0)
        context.setsockopt(zmq.MAX_SOCKETS, count + 16)
        epoll = stack.enter_context(select.epoll())
        connections = {}
        for number in range(count):
            each = _Connection(context, endpoint, number)
            fd = each.socket.getsockopt(zmq.FD)
            assert isinstance(fd, int)
            connections[fd] = each
            epoll.register(fd, select.EPOLLIN | select.EPOLLET)
            each.hear()
        yield connections, epoll
