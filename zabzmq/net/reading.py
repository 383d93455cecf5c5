"""Reading many ZeroMQ sockets with one wait: which have something, and a bounded part of each in one turn.

Readiness. ZeroMQ's descriptors tell of *changes*: once a socket has been looked at, its descriptor stays silent
until something new happens, and a send may be that look. So a socket counts as ready from its descriptor's word
until a read finds it empty, and a socket that was sent on (`touched`) is asked before the next wait. That costs a turn
one system call, however many sockets there are.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Final, TypeAlias

import zmq

Take: TypeAlias = Callable[[list[bytes]], None]
"""Gets the frames of one message. It may close the socket they came from."""

_DONTWAIT: Final = int(zmq.DONTWAIT)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_RCVMORE: Final = int(zmq.RCVMORE)
"""Plain numbers: what the enumeration's members cost shows in every turn."""

PARTS_KEPT: Final = 4
"""Frames of one message that are kept; no message has more."""


class Source:
    """One socket that is read: `most` messages in one turn, and none while there is no `room` for what they bring."""

    __slots__ = ("fd", "is_dealer", "most", "room", "socket", "take")

    def __init__(
        self, socket: zmq.Socket[bytes], take: Take, most: int, room: Callable[[], bool] | None = None
    ) -> None:
        self.socket = socket
        self.take = take
        self.most = most
        self.room = room
        self.is_dealer = socket.type == zmq.DEALER
        self.fd = int(socket.get(zmq.FD))


class Readers:
    """The sources one thread reads, and which of them are ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: int | None = None
        self._sources: set[Source] = set()
        self._ready: dict[Source, None] = {}
        self._touched: set[Source] = set()

    def add(self, source: Source) -> None:
        self._sources.add(source)
        self._selector.register(source.fd, selectors.EVENT_READ, source)
        self._ready[source] = None  # until a first look found it empty

    def remove(self, source: Source) -> None:
        """Before its socket is closed."""
        self._selector.unregister(source.fd)
        self._sources.discard(source)
        self._ready.pop(source, None)
        self._touched.discard(source)

    def touched(self, source: Source) -> None:
        """It was sent on, or something else took its descriptor's word."""
        self._touched.add(source)

    def close(self) -> None:
        self._selector.close()

    def are_ready_besides(self, source: Source) -> bool:
        """Whether any other than this one has something to read."""
        return not self._ready.keys() <= {source}

    def wait(self, timeout_ms: float, extra_fd: int | None = None) -> bool:
        """Wait until a source or `extra_fd` is readable, or time is up; whether it was `extra_fd`."""
        if extra_fd != self._watched:
            self._watch(extra_fd)
        for source in self._touched:
            if source in self._sources and has_input(source.socket):
                self._ready[source] = None
        self._touched.clear()
        if self._ready:
            timeout_ms = 0.0
        woken = False
        for key, _ in self._selector.select(max(0.0, timeout_ms) / 1000):
            if key.data is None:
                woken = True
            else:
                self._ready[key.data] = None
        return woken

    def look(self) -> None:
        """Notice what became ready since, without waiting."""
        self.wait(0.0, self._watched)

    def read(self) -> None:
        """A bounded part of each source that is ready."""
        for source in list(self._ready):
            if source not in self._sources or self._read(source):
                self._ready.pop(source, None)

    def _read(self, source: Source) -> bool:
        """Whether it is empty now."""
        for _ in range(source.most):
            if source.room is not None and not source.room():
                return False
            frames = _frames(source)
            if frames is None:
                return True
            source.take(frames)
            # Asked before the next is received: to be told of none in an exception costs more.
            if source not in self._sources or not has_input(source.socket):
                return True
        return False

    def _watch(self, fd: int | None) -> None:
        if self._watched is not None:
            self._selector.unregister(self._watched)
        if fd is not None:
            self._selector.register(fd, selectors.EVENT_READ)
        self._watched = fd


def has_input(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits; it also hears what the library's own thread has to say to this socket."""
    return bool(int(socket.get(_EVENTS)) & _POLLIN)


def _frames(source: Source) -> list[bytes] | None:
    """The next message, None if there is none. Of too many parts the first PARTS_KEPT and one more are kept.

    Of a message in parts a DEALER's rest is not read: were the connection to end meanwhile, libzmq would abort the
    process (net/wire.py). No peer of ours sends one, so `take` must give up that socket.
    """
    socket = source.socket
    try:
        frames = [socket.recv(_DONTWAIT)]
    except zmq.Again:
        return None
    while socket.get(_RCVMORE):
        if source.is_dealer:
            return [*frames, b""]
        part = socket.recv(_DONTWAIT)
        if len(frames) <= PARTS_KEPT:
            frames.append(part)
    return frames
