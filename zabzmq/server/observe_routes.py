"""What the observe endpoint says, to whom, and what it lets be changed (docs/events.md, section 4).

Paths are looked up in a table and never reach the file system. Every request must name a host this node goes by, so
that a name somebody else points at it opens nothing. What changes something is a POST of `application/json` with the
token of this run: a page of another origin can send none of these without being asked by the browser first, and does
not know the token. `Origin` proves nothing (any sandboxed frame is `null`), so nothing rests on it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.server.observe_http import Answer, Headers, HttpError, Request, Response, Stream
from zabzmq.server.observe_streams import Place, Streams

TOKEN_HEADER: Final = "x-zab-token"
JSON: Final = "application/json"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src http:; "
    "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_COMMON: Final[Headers] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
]
_PREFLIGHT: Final[Headers] = [
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Content-Type, X-Zab-Token, Last-Event-ID"),
    ("Access-Control-Max-Age", "600"),
]

_ZXID: Final = re.compile(r"(\d{1,19})\.(\d{1,19})")
_SINCE: Final = re.compile(r"([0-9a-f]{4}):(\d{1,19})")

Written: TypeAlias = tuple[int, Mapping[str, Any]]
"""Status and body of the answer to a POST."""
Read: TypeAlias = Callable[[Request], Awaitable[Answer]]
Write: TypeAlias = Callable[[bytes], Awaitable[Written]]


class Questions(NamedTuple):
    """What the routes ask of their node. Each raises TimeoutError when the node does not answer in time."""

    state: Callable[[], Awaitable[Mapping[str, Any]]]
    log: Callable[[Zxid], Awaitable[Mapping[str, Any]]]
    metrics: Callable[[], Awaitable[tuple[str, bytes]]]
    """Content type and text."""
    writes: Mapping[str, Write]
    """By path: what a POST does. Raises HttpError."""


class Access(NamedTuple):
    """Who may come in. `hosts` are names with and without port, lower case."""

    port: int
    hosts: Collection[str]
    token: str | None
    no_token: str
    """Why there is none."""
    reads_need_token: bool


class Gate:
    """Who may ask what of a `who`: a node or a supervisor."""

    def __init__(self, access: Access, reads: Mapping[str, Read], writes: Mapping[str, Write], who: str) -> None:
        self._access = access
        self._reads = reads
        self._writes = writes
        self._who = who

    async def answer(self, request: Request) -> Answer:
        """Raises HttpError."""
        self._check_host(request)
        read = self._reads.get(request.path)
        write = self._writes.get(request.path)
        if read is None and write is None:
            raise HttpError(HTTPStatus.NOT_FOUND, "there is nothing here; see /")
        if request.method == "OPTIONS":
            return Response(HTTPStatus.NO_CONTENT, b"", [*_COMMON, *_PREFLIGHT])
        if read is not None and request.method == "GET":
            if self._access.reads_need_token and request.path != "/":
                self._check_token(request)
            try:
                return await read(request)
            except TimeoutError:
                raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, f"the {self._who} does not answer in time") from None
        if write is not None and request.method == "POST":
            return await self._write(request, write)
        raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "GET" if write is None else "POST")

    def refuse(self, error: HttpError) -> Response:
        headers = [*_COMMON, ("Content-Type", JSON)]
        text = str(error)
        if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", f"{text}, OPTIONS"))
            text = f"only {text} is answered here"
        code = HTTPStatus(error.status).phrase.lower().replace(" ", "_").replace("-", "_")
        return json_answer({"v": 1, "error": {"code": code, "text": text}}, error.status, headers)

    # ---- who may

    def _check_host(self, request: Request) -> None:
        host = request.headers.get("host", "").lower()
        local = f"[{request.host}]" if ":" in request.host else request.host
        # The address it came in on cannot be somebody else's name.
        if host not in self._access.hosts and host != f"{local}:{self._access.port}":
            raise HttpError(HTTPStatus.FORBIDDEN, f"this {self._who} does not go by that name; see --allow-host")

    def _check_token(self, request: Request) -> None:
        access = self._access
        if access.token is None:
            raise HttpError(HTTPStatus.FORBIDDEN, f"this {self._who} has no token: {access.no_token}")
        shown = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), access.token.encode()):
            what = "needs" if not shown else "has another value of"
            raise HttpError(
                HTTPStatus.FORBIDDEN, f"this {what} X-Zab-Token; it is in the file token of the log directory"
            )

    async def _write(self, request: Request, write: Write) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {JSON}")
        self._check_token(request)
        try:
            status, said = await write(await request.body())
        except TimeoutError:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, f"the {self._who} does not answer in time") from None
        return json_answer(said, status)


class Routes(Gate):
    """What a node tells."""

    def __init__(self, access: Access, questions: Questions, streams: Streams, page: Path | None) -> None:
        reads: dict[str, Read] = {
            "/": self._index,
            "/state": self._state,
            "/events": self._events,
            "/log": self._log,
            "/metrics": self._metrics,
        }
        super().__init__(access, reads, questions.writes, "node")
        self._questions = questions
        self._streams = streams
        self._page = page

    async def _index(self, request: Request) -> Response:
        headers = [*_COMMON, ("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", PAGE_POLICY)]
        try:
            body = self._page.read_bytes() if self._page is not None else _LINKS
        except OSError:
            body = _LINKS
        return Response(HTTPStatus.OK, body, headers)

    async def _state(self, request: Request) -> Response:
        return json_answer(await self._questions.state())

    async def _log(self, request: Request) -> Response:
        place = _query(request).get("from", "0.0")
        found = _ZXID.fullmatch(place)
        if found is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, "`from` is a zxid such as 3.7")
        after = Zxid(int(found[1]), int(found[2])) if place != "0.0" else ZERO
        return json_answer(await self._questions.log(after))

    async def _metrics(self, request: Request) -> Response:
        kind, text = await self._questions.metrics()
        return Response(HTTPStatus.OK, text, [*_COMMON, ("Content-Type", kind)])

    async def _events(self, request: Request) -> Stream:
        since = _query(request).get("since") or request.headers.get("last-event-id")
        place: Place | None = None
        if since:
            found = _SINCE.fullmatch(since)
            if found is None:
                raise HttpError(HTTPStatus.BAD_REQUEST, "`since` is <boot>:<seq>, such as c41f:318")
            place = Place(found[1], int(found[2]))
        headers = [*_COMMON, ("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no")]
        return Stream(headers, self._streams.open(place), self._streams.on_slow)


def _query(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=16))
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "too many fields in the query") from None


def json_answer(value: Mapping[str, Any], status: int = HTTPStatus.OK, headers: Headers | None = None) -> Response:
    body = msgspec.json.encode(value, enc_hook=str) + b"\n"
    return Response(status, body, headers or [*_COMMON, ("Content-Type", JSON)])


_LINKS: Final = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>ZAB node</title>
<h1>A node of a ZAB ensemble</h1>
<p>Its page, index.html, is not beside this installation. What programs read:</p>
<ul><li><a href="/state">/state</a> the node now
<li><a href="/events">/events</a> its events as they happen
<li><a href="/log">/log</a> committed operations
<li><a href="/metrics">/metrics</a> for Prometheus</ul>
"""
