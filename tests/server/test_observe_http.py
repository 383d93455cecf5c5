"""Connections to the observe port: what is not HTTP, too long, too slow or too much ends by itself and hurts nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.chaos.harness import wait_for
from tests.server.observed import PATIENCE_S, SHORT, Endpoint, free_port, parsed, read_all
from zabzmq.server.observe import LOOPBACK


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(tmp_path, limits=SHORT) as endpoint:
        yield endpoint
        assert endpoint.warnings == []
        assert endpoint.ask("GET", "/state").status == 200, "whatever happened, it still answers"


def host(node: Endpoint) -> bytes:
    return f"Host: {LOOPBACK}:{node.port}\r\n".encode()


def test_requests_follow_each_other_on_one_connection(node: Endpoint) -> None:
    with node.connect() as sock:
        sock.sendall(2 * (b"GET /state HTTP/1.1\r\n" + host(node) + b"\r\n"))
        assert read_all(sock).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(b"hello\r\n\r\n", 400, id="no request"),
        pytest.param(b"GET /state HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /state HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET http://127.0.0.1/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, id="a whole address"),
        pytest.param(b"GET /state HTTP/1.0\r\n\r\n", 403, id="an old client that names no host"),
        pytest.param(b"GET /state HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, id="a length that is none"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, 431, id="endless header"),
        pytest.param(b"GET /" + b"x" * 40_000, 431, id="endless path"),
    ],
)
def test_what_is_no_good_request_is_refused_in_words(node: Endpoint, data: bytes, status: int) -> None:
    answer = node.say(data)
    assert answer.status == status
    assert answer.json["error"]["text"]


def test_a_body_that_is_too_long_is_not_read(node: Endpoint) -> None:
    head = b"POST /op HTTP/1.1\r\nContent-Type: application/json\r\nX-Zab-Token: " + node.token.encode() + b"\r\n"
    answer = node.say(head + host(node) + b"Content-Length: 100000\r\n\r\n" + b" " * 100_000)
    assert answer.status == 413
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + 20 * (b"2000\r\n" + b" " * 0x2000 + b"\r\n")
    assert node.say(head + host(node) + chunked).status == 413
    assert node.ops == []


def test_a_request_that_trickles_in_is_given_up(node: Endpoint) -> None:
    with node.connect() as sock:
        sock.sendall(b"GET /state HTTP/1.1\r\nX-Slow: ")
        sock.settimeout(0.05)
        answer = b""
        for _ in range(100):  # a letter at a time, for ever
            try:
                sock.sendall(b"x")
                answer = sock.recv(65536)
                break
            except TimeoutError:
                pass
            except OSError:
                break
        assert parsed(answer).status == 408


def test_a_body_that_does_not_come_is_given_up(node: Endpoint) -> None:
    head = b"POST /op HTTP/1.1\r\nContent-Type: application/json\r\nX-Zab-Token: " + node.token.encode() + b"\r\n"
    assert node.say(head + host(node) + b'Content-Length: 10\r\n\r\n{"op"').status == 408
    assert node.ops == []


def test_a_connection_that_says_nothing_is_closed(node: Endpoint) -> None:
    with node.connect() as sock:
        assert read_all(sock) == b""


def test_more_connections_than_the_limit_are_closed_at_once_and_the_rest_live(tmp_path: Path) -> None:
    patient = SHORT._replace(header_s=60.0, idle_s=60.0)  # none of them ends by itself meanwhile
    with Endpoint(tmp_path, limits=patient) as node, ExitStack() as held:
        for _ in range(SHORT.connections):
            sock = held.enter_context(node.connect())
            sock.sendall(b"GET /state HTTP/1.1\r\n" + host(node) + b"\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
        with node.connect() as beyond:
            assert read_all(beyond) == b""
        held.close()
        wait_for(lambda: answers(node), PATIENCE_S, "an answer")


def answers(node: Endpoint) -> bool:
    try:
        return node.ask("GET", "/state").status == 200
    except (ConnectionError, HTTPException):
        return False  # closed at once: it has not noticed yet that the others went


def test_a_taken_port_is_a_warning_and_no_more(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Endpoint(tmp_path, port=port) as endpoint:
            assert not endpoint.observe.listening
            assert endpoint.warnings == [f"observe port {port} is taken; node 2 runs without its page feed."]
            endpoint.publish(1)


def test_it_answers_on_both_addresses_of_loopback(tmp_path: Path) -> None:
    with Endpoint(tmp_path, port=free_port()) as endpoint, socket.create_connection(("::1", endpoint.port)) as sock:
        sock.sendall(f"GET /state HTTP/1.1\r\nHost: [::1]:{endpoint.port}\r\nConnection: close\r\n\r\n".encode())
        assert parsed(read_all(sock)).status == 200
