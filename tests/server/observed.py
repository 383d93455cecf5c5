"""An observe endpoint over a node that is made up, and a way to speak HTTP with it as rudely as needed."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from zabzmq.core.zxid import Zxid
from zabzmq.server.observe import LOOPBACK, Bind, Observe, Parts
from zabzmq.server.observe_feed import Feed
from zabzmq.server.observe_http import Limits

PATIENCE_S = 10.0
BOOT = "c41f"
SHORT = Limits(connections=8, header_s=0.3, idle_s=0.3, body_s=0.3, write_s=0.3, send_buffer=4096)

STATE: dict[str, Any] = {
    "v": 1, "n": 2, "boot": BOOT, "cluster": '<img onerror="x">', "version": "0", "state": "LEADING",
    "phase": "BROADCAST", "leader": 2, "established": True, "uptime_ms": 1500, "epoch": 3, "accepted_epoch": 3,
    "round": 1, "sessions": 0, "proposed": [3, 9], "last": [3, 8], "committed": [3, 7], "applied": [3, 7],
    "snapshot": [0, 0], "base": [0, 0], "seq": 318, "log_dropped": 0, "dropped": {"crc": 2},
}  # fmt: skip


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def free_port(host: str = LOOPBACK) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class Endpoint:
    """`Observe` of a made-up node 2. Everything it is asked is answered at once."""

    def __init__(
        self,
        log_dir: Path,
        *,
        host: str = LOOPBACK,
        allow_hosts: tuple[str, ...] = (),
        faults: bool = True,
        limits: Limits | None = None,
        page: Path | None = None,
        ring_bytes: int = 1 << 20,
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self.log_dir = log_dir
        self.warnings: list[str] = []
        self.ops: list[bytes] = []
        self.crashes = 0
        self.deaf = False
        self.feed = Feed(BOOT, ring_bytes)
        parts = Parts(self._state, self._log, self._crash if faults else None, self._ask, self._submit,
                      self.warnings.append, lambda: 12_481.0)  # fmt: skip
        self.observe = Observe(Bind(2, host, self.port, allow_hosts), parts, self.feed, log_dir, page, limits)

    def __enter__(self) -> Endpoint:
        self.observe.start()
        assert self.observe.ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *unused: object) -> None:
        self.observe.stop()

    @property
    def token(self) -> str:
        return (self.log_dir / "token").read_text().strip()

    # ---- the node

    def _ask(self, work: Callable[[], None]) -> None:
        if not self.deaf:
            work()

    def _state(self) -> dict[str, Any]:
        return dict(STATE)

    def _log(self, after: Zxid) -> Callable[[], dict[str, Any]]:
        return lambda: {"v": 1, "from": after, "entries": []}

    def _crash(self) -> None:
        self.crashes += 1

    def _submit(self, body: bytes) -> Future[tuple[int, Mapping[str, Any]]]:
        self.ops.append(body)
        done: Future[tuple[int, Mapping[str, Any]]] = Future()
        done.set_result((200, {"v": 1, "outcome": "ok"}))
        return done

    def publish(self, count: int, size: int = 0) -> None:
        first = self.feed.seq + 1
        lines = [b'{"seq":%d,"x":"%b"}\n' % (seq, b"." * size) for seq in range(first, first + count)]
        self.feed.publish(self.feed.seq + 1, count, b"".join(lines))

    # ---- who asks

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Answer:
        """One request; a header named `x_zab_token` is X-Zab-Token, and None leaves one out."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"host": f"{LOOPBACK}:{self.port}", **named}.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: bytes = b"{}", **headers: str | None) -> Answer:
        """A POST that is in order, unless a header says otherwise."""
        return self.ask(
            "POST", path, body, **{"content_type": "application/json", "x_zab_token": self.token, **headers}
        )

    def connect(self) -> socket.socket:
        sock = socket.create_connection((LOOPBACK, self.port))
        sock.settimeout(PATIENCE_S)
        return sock

    def say(self, data: bytes) -> Answer:
        """Bytes as they are; whatever comes back until the node closes."""
        with self.connect() as sock:
            sock.sendall(data)
            return parsed(read_all(sock))

    def stream(self, query: str = "") -> Stream:
        sock = self.connect()
        sock.sendall(f"GET /events{query} HTTP/1.1\r\nHost: {LOOPBACK}:{self.port}\r\n\r\n".encode())
        return Stream(sock)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = int(lines[0].split()[1]) if lines[0] else 0
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return Answer(status, headers, body)


class Message(NamedTuple):
    name: str
    id: str
    data: Any


class Stream:
    """Server-sent events, read line by line."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")
        self.head = b""
        while (line := self._file.readline()).strip():
            self.head += line
        self._lines: list[str] = []
        self._text = ""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *unused: object) -> None:
        self._file.close()
        self.sock.close()

    def _line(self) -> str | None:
        """The next line inside the chunks of the body; None at the end."""
        while "\n" not in self._text:
            size = self._file.readline().strip()
            if not size or size == b"0":
                return None
            self._text += self._file.read(int(size, 16)).decode()
            self._file.readline()
        line, _, self._text = self._text.partition("\n")
        return line

    def next(self) -> Message | None:
        """The next message; None at the end of the stream."""
        fields: dict[str, str] = {}
        while (line := self._line()) is not None:
            if not line and "data" in fields:
                return Message(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        return None

    def until(self, name: str) -> Message:
        """The next message of this name ("" for an event)."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = self.next()
            assert message is not None, f"the stream ended before {name!r}"
            if message.name == name:
                return message
        raise AssertionError(f"no {name!r}")
