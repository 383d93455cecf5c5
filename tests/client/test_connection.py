"""Connections that are hung up on are made anew, as often as it takes, and never hold up the end of a program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from zabzmq.client.connection import Connections
from zabzmq.net.client_wire import Hello


@pytest.fixture
def babbler() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """A program on a client port that is no node."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.set(zmq.RCVTIMEO, 10_000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield socket, f"tcp://127.0.0.1:{port}"
    context.destroy(linger=0)


def test_a_babbler_is_called_again_and_again(babbler: tuple[zmq.Socket[bytes], str]) -> None:
    socket, endpoint = babbler
    connections = Connections({0: endpoint})
    for round_ in range(1, 200):
        while not connections.send(0, Hello(1, "x")):
            connections.wait(1000.0, None)
            assert list(connections.receive(None)) == []
        route, *_ = socket.recv_multipart()
        socket.send_multipart([route, b"in", b"parts"])
        while connections.dropped < round_:
            connections.wait(1000.0, None)
            assert list(connections.receive(None)) == []
    connections.close()


def test_a_socket_that_somebody_forgot_does_not_hold_up_the_end(babbler: tuple[zmq.Socket[bytes], str]) -> None:
    connections = Connections({0: babbler[1]})
    connections.subscriber()
    connections.close()
