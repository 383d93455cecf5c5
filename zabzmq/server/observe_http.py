"""HTTP/1.1 for the observe endpoint: connections, their limits and time-outs. What is said is observe_routes.py's.

The protocol itself is h11's, a plain parser that brings no input or output of its own: it adds 0.2 MB to a process,
the smallest whole servers 1.6 MB (a thread for every stream) to 12 MB, and none of these bounds the time of a header,
of a body and of a reader that does not read, which is most of what is done here. asyncio waits, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

import h11

Headers: TypeAlias = list[tuple[str, str]]


class Limits(NamedTuple):
    """Bounds of one endpoint; seconds and bytes."""

    connections: int = 64
    header_bytes: int = 16 << 10
    body_bytes: int = 64 << 10
    header_s: float = 5.0  # from the first byte that is waited for to the end of the headers
    idle_s: float = 15.0  # between two requests of a connection
    body_s: float = 5.0
    write_s: float = 5.0  # for a reader to take what the buffers hold
    send_buffer: int = 64 << 10  # of the kernel, for each connection: what a slow reader can tie up


class Request(NamedTuple):
    """One request. `path` is as it was sent, nothing decoded. Header names are lower case; repeated ones are joined."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Callable[[], Awaitable[bytes]]
    """Reads it, at most once. Raises HttpError."""
    host: str
    """The address this connection came in on."""


class Response(NamedTuple):
    status: int
    body: bytes
    headers: Headers


class Stream(NamedTuple):
    """An answer without end: pieces are sent as they come, each within `Limits.write_s`, else the reader is cut off."""

    headers: Headers
    pieces: AsyncGenerator[bytes, None]
    on_slow: Callable[[], None]


Answer: TypeAlias = Response | Stream
Answers: TypeAlias = Callable[[Request], Awaitable[Answer]]


class HttpError(Exception):
    """Ends a request with this status, in words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Gone(Exception):
    """The other end is gone, or too slow."""


class HttpServer:
    """Serves on listening sockets until `close`. `refuse` makes the answer to a request that is not one."""

    def __init__(
        self,
        answer: Answers,
        refuse: Callable[[HttpError], Response],
        on_bug: Callable[[Exception], None],
        limits: Limits,
    ) -> None:
        self.limits = limits
        self._on_bug = on_bug
        self.refused = 0
        """Connections beyond the limit."""
        self._answer = answer
        self._refuse = refuse
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        for each in sockets:
            self._servers.append(await asyncio.start_server(self._connected, sock=each))

    async def close(self, patience_s: float = 0.5) -> None:
        """Hear nobody new, give those being answered a moment, end the rest."""
        for server in self._servers:
            server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= self.limits.connections:
            self.refused += 1
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer)
            writer.transport.set_write_buffer_limits(high=self.limits.send_buffer)
            await _Connection(reader, writer, self._answer, self._refuse, self._on_bug, self.limits).serve()
        except (_Gone, OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            # No goodbye is waited for: what was written is on its way, and a reader that does not read loses it.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            else:
                writer.close()


class _Connection:
    """One connection, request after request."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answers,
        refuse: Callable[[HttpError], Response],
        on_bug: Callable[[Exception], None],
        limits: Limits,
    ) -> None:
        self._on_bug = on_bug
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._refuse = refuse
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._is_head = False
        self._host = str(writer.get_extra_info("sockname")[0])

    async def serve(self) -> None:
        patience = self._limits.header_s
        while True:
            try:
                head = await self._event(patience)
                if not isinstance(head, h11.Request):
                    return
                self._is_head = head.method == b"HEAD"  # answered without the body, however it is answered
                answer = await self._answer(self._request(head))
                if isinstance(answer, Stream):
                    await self._stream(answer)
                    return
            except (_Gone, OSError):
                raise
            except h11.RemoteProtocolError as error:
                answer = self._refuse(HttpError(error.error_status_hint, str(error)))
            except HttpError as error:
                answer = self._refuse(error)
            except Exception as error:
                self._on_bug(error)
                answer = self._refuse(HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of this node's own"))
            await self._send(answer)
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return
            self._h11.start_next_cycle()
            patience = self._limits.idle_s

    # ---- reading

    async def _event(self, within_s: float) -> h11.Event | type[h11.PAUSED]:
        """The next event. A request that is begun must be whole within `header_s`, however it trickles in."""
        deadline = asyncio.get_running_loop().time() + within_s
        begun = False
        while True:
            event = self._h11.next_event()
            if not isinstance(event, type) or event is h11.PAUSED:
                return event
            try:
                async with asyncio.timeout_at(deadline):
                    data = await self._reader.read(self._limits.header_bytes)
            except TimeoutError:
                if begun:
                    raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time") from None
                raise _Gone from None
            if not begun:
                begun = True
                deadline = min(deadline, asyncio.get_running_loop().time() + self._limits.header_s)
            self._h11.receive_data(data)

    def _request(self, head: h11.Request) -> Request:
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        target = head.target.decode("latin-1")
        if not target.startswith("/"):
            raise HttpError(HTTPStatus.BAD_REQUEST, "the target of a request is a path")
        path, _, query = target.partition("?")
        return Request(head.method.decode("ascii"), path, query, headers, self._body, self._host)

    async def _body(self) -> bytes:
        bound = self._limits.body_bytes
        too_large = HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {bound} bytes")
        parts: list[bytes] = []
        size = 0
        if self._h11.they_are_waiting_for_100_continue:
            await self._write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
        try:
            async with asyncio.timeout(self._limits.body_s):
                while isinstance(event := await self._event(self._limits.body_s), h11.Data):
                    size += len(event.data)
                    if size > bound:
                        raise too_large
                    parts.append(bytes(event.data))
        except TimeoutError:
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time") from None
        return b"".join(parts)

    # ---- writing

    async def _send(self, response: Response) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        if self._h11.their_state is h11.SEND_BODY:
            self._skip_to_end()
        headers: Headers = [*response.headers, ("content-length", str(len(response.body)))]
        if self._h11.their_state is not h11.DONE:
            headers.append(("connection", "close"))  # What is left of the request is not read.
        reason = HTTPStatus(response.status).phrase
        head = h11.Response(status_code=response.status, headers=headers, reason=reason)
        body = b"" if self._is_head else response.body
        await self._write(self._h11.send(head), self._h11.send(h11.Data(data=body)), self._h11.send(h11.EndOfMessage()))

    def _skip_to_end(self) -> None:
        """A request without a body ends at once; of one whose body nobody asked for, no more is read than is here."""
        try:
            self._h11.next_event()
        except h11.RemoteProtocolError:
            pass

    async def _stream(self, stream: Stream) -> None:
        head = h11.Response(status_code=200, headers=[*stream.headers, ("connection", "close")], reason="OK")
        await self._write(self._h11.send(head))
        gone = asyncio.ensure_future(self._reader.read(1))  # A reader of a stream says nothing more: this is its end.
        gone.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with aclosing(stream.pieces) as pieces:
                async for piece in pieces:
                    if gone.done():
                        return
                    try:
                        await self._write(self._h11.send(h11.Data(data=piece)))
                    except TimeoutError:
                        stream.on_slow()
                        raise _Gone from None
            await self._write(self._h11.send(h11.EndOfMessage()))
        finally:
            gone.cancel()

    async def _write(self, *pieces: bytes | None) -> None:
        self._writer.write(b"".join([piece for piece in pieces if piece]))
        if not self._writer.transport.get_write_buffer_size():
            return  # the kernel has it all: the usual case
        async with asyncio.timeout(self._limits.write_s):
            await self._writer.drain()
