"""Connections that are hung up on are made anew, as often as it takes, and never hold up the end of a program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from zabzmq.client.connection import Connections
from zabzmq.net.client_wire import Hello

NODES = range(5)
TIMES = 100


@pytest.fixture
def babbler() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """A program on a client port that is no node."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield socket, f"tcp://127.0.0.1:{port}"
    context.destroy(linger=0)


def test_a_babbler_is_called_again_and_again(babbler: tuple[zmq.Socket[bytes], str]) -> None:
    socket, endpoint = babbler
    connections = Connections(dict.fromkeys(NODES, endpoint))
    asked: set[int] = set()
    while connections.dropped < TIMES:
        asked |= {node for node in NODES if node not in asked and connections.send(node, Hello(1, "x"))}
        while socket.poll(0):
            socket.send_multipart([socket.recv_multipart()[0], b"in", b"parts"])
        connections.wait(10.0, None)
        assert list(connections.receive(None)) == []
        asked -= {node for node, _ in connections.changes}
        connections.changes.clear()
    connections.close()


def test_a_socket_that_somebody_forgot_does_not_hold_up_the_end(babbler: tuple[zmq.Socket[bytes], str]) -> None:
    connections = Connections({0: babbler[1]})
    connections.subscriber()
    connections.close()
