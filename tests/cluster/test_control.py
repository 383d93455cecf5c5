"""The supervisor's port: the rules of an observe port, and one order after another."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest

from tests.server.observed import free_port
from zabzmq.cluster.control import Control, Job
from zabzmq.cluster.orders import ON_ALL, ON_NODES, Refused

TOKEN = "t" * 43
PATIENCE_S = 10.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    json: Any


class Port:
    """A control port, and a supervisor that does what it is told until `close`."""

    def __init__(self, token: str | None = TOKEN, port: int | None = None) -> None:
        self.port = port or free_port()
        self.warnings: list[str] = []
        self.performed: list[tuple[str, str]] = []
        self.refusal: Exception | None = None
        self.control = Control(self.port, token, "no reason", lambda: {"v": 1, "nodes": []}, self.warnings.append)
        self.control.start()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work)
        self._worker.start()

    def _work(self) -> None:
        while True:
            job = self.control.jobs.get()
            if job.verb == "stop":
                return
            job.carry_out(self._perform)

    def _perform(self, verb: str, target: str) -> dict[str, Any]:
        self.performed.append((verb, target))
        if self.refusal is not None:
            raise self.refusal
        return {"v": 1, "node": 2, "done": verb}

    def close(self) -> None:
        self.control.jobs.put(Job("stop", "", Future()))
        self._worker.join()
        self.control.stop()

    def ask(self, method: str, path: str, body: str | bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, dict(response.getheaders()), json.loads(text) if text else None)
        finally:
            connection.close()

    def order(self, verb: str, target: Any = "2") -> Answer:
        body = json.dumps({"target": target})
        return self.ask("POST", f"/{verb}", body, content_type="application/json", x_zab_token=TOKEN)


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("verb", [*ON_NODES, *ON_ALL])
def test_an_order_is_carried_out_and_answered(port: Port, verb: str) -> None:
    answer = port.order(verb, "leader")
    assert (answer.status, answer.json) == (200, {"v": 1, "node": 2, "done": verb})
    assert port.performed == [(verb, "leader")]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_target_may_be_a_number(port: Port) -> None:
    port.order("kill", 3)
    assert port.performed == [("kill", "3")]


def test_a_refusal_comes_back_in_words(port: Port) -> None:
    port.refusal = Refused(409, "node 2 is down already")
    answer = port.order("kill")
    assert answer.status == 409
    assert answer.json == {"v": 1, "error": {"code": "conflict", "text": "node 2 is down already"}}


def test_a_bug_in_an_order_is_told_and_the_next_order_is_carried_out(port: Port) -> None:
    port.refusal = ValueError("a bug")
    assert port.order("kill").status == 500
    port.refusal = None
    assert port.order("kill").status == 200
    assert port.warnings == ["control port: ValueError: a bug"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, 403),
        ({"content_type": "application/json", "x_zab_token": "wrong"}, 403),
        ({"content_type": "text/plain", "x_zab_token": TOKEN}, 415),
        ({"content_type": "application/json", "x_zab_token": TOKEN, "host": "evil.example:21840"}, 403),
        ({"content_type": "application/json", "x_zab_token": TOKEN, "host": "localhost"}, 403),
    ],
)
def test_who_may_not_changes_nothing(port: Port, headers: dict[str, str], status: int) -> None:
    answer = port.ask("POST", "/kill", '{"target":"2"}', **headers)
    assert answer.status == status
    assert answer.json["error"]["text"]
    assert port.performed == []


@pytest.mark.parametrize(
    "body",
    [b'{"target":"\xff"}', "[" * 9999, "{", "[]", '{"target":[]}', '{"target":"2","really":true}', '{"target":null}'],
)
def test_a_body_that_is_no_order_is_refused(port: Port, body: str | bytes) -> None:
    answer = port.ask("POST", "/kill", body, content_type="application/json", x_zab_token=TOKEN)
    assert answer.status == 400
    assert port.performed == []


def test_reading_changes_nothing_and_needs_no_token(port: Port) -> None:
    assert port.ask("GET", "/state").json == {"v": 1, "nodes": []}
    assert port.ask("GET", "/kill").status == 405
    assert port.ask("PUT", "/kill").status == 405
    assert port.ask("GET", "/../token").status == 404
    assert port.performed == []


def test_a_browser_that_asks_first_is_told_what_it_may(port: Port) -> None:
    answer = port.ask("OPTIONS", "/kill", origin="null")
    assert answer.status == 204
    assert "X-Zab-Token" in answer.headers["Access-Control-Allow-Headers"]


def test_without_a_token_no_order_is_taken() -> None:
    port = Port(token=None)
    try:
        answer = port.order("kill")
        assert (answer.status, port.performed) == (403, [])
        assert "no reason" in answer.json["error"]["text"]
    finally:
        port.close()


def test_a_taken_port_is_a_warning() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        port = Port(port=taken)
        port.close()
    assert port.warnings == [f"control port {taken} is taken; this supervisor takes no commands of others."]
