"""The supervisor's port: HTTP in a thread of its own, with the rules of an observe port (docs/control.md, section 1).

It only takes orders in and gives answers out. They are carried out by whoever takes them from `jobs`, the thread that
started the nodes: on Linux the kernel counts the thread, not the process, as the parent whose death ends them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import msgspec

from zabzmq.cluster.orders import ON_ALL, ON_NODES, Refused
from zabzmq.server.observe import LOOPBACK, Bind, listening, names_of
from zabzmq.server.observe_http import Answer, HttpError, HttpServer, Limits, Request
from zabzmq.server.observe_routes import Access, Gate, Written, json_answer

ANSWER_S: Final = 30.0
"""How long an order may take: a clean stop of all nodes, and what waits before it."""
JOIN_S: Final = 2.0


class Job(NamedTuple):
    """An order, and who waits for its answer."""

    verb: str
    target: str
    answer: Future[dict[str, Any]]

    def carry_out(self, perform: Callable[[str, str], dict[str, Any]]) -> dict[str, Any] | None:
        """Do it and answer; what was answered, if it was done."""
        if not self.answer.set_running_or_notify_cancel():
            return None  # nobody waits any more: done late, it would surprise
        try:
            done = perform(self.verb, self.target)
        except Exception as error:  # A bug in an order is told to who gave it; the nodes run on.
            self.answer.set_exception(error)
            return None
        self.answer.set_result(done)
        return done


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    target: str | int = ""


class Control:
    """Listens from `start` to `stop`, unless the port is taken: then `warn` is told, once."""

    def __init__(
        self,
        port: int,
        token: str | None,
        no_token: str,
        state: Callable[[], Mapping[str, Any]],
        warn: Callable[[str], None],
    ) -> None:
        """`state` is called in the thread of this port. `no_token`: why there is none."""
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        """Orders in the order they came."""
        self._bind = Bind(-1, LOOPBACK, port)
        self._access = Access(port, names_of(self._bind), token, no_token, reads_need_token=False)
        self._state = state
        self._warn = warn
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        port = self._bind.port
        try:
            sockets = [listening(LOOPBACK, port)]
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror or error}"
            self._warn(f"control port {port} {why}; this supervisor takes no commands of others.")
            return
        try:
            sockets.append(listening("::1", port))
        except OSError:
            pass  # no IPv6 here, or taken
        self._sockets: list[socket.socket] = sockets
        self._thread.start()

    def stop(self) -> None:
        """Answers that are on their way get a moment."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            try:
                loop.call_soon_threadsafe(stopping.set)
            except RuntimeError:
                pass  # it has ended by itself
            self._thread.join(JOIN_S)

    # ---- in the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self._on_bug(error)

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        reads = {"/": self._tell, "/state": self._tell}
        gate = Gate(self._access, reads, {f"/{verb}": self._order(verb) for verb in (*ON_NODES, *ON_ALL)}, "supervisor")
        server = HttpServer(gate.answer, gate.refuse, self._on_bug, Limits())
        await server.listen(self._sockets)
        await self._stopping.wait()
        await server.close()

    def _on_bug(self, error: Exception) -> None:
        self._warn(f"control port: {type(error).__name__}: {error}")

    async def _tell(self, request: Request) -> Answer:
        return json_answer(self._state())

    def _order(self, verb: str) -> Callable[[bytes], Awaitable[Written]]:
        async def order(body: bytes) -> Written:
            try:
                target = str(msgspec.json.decode(body or b"{}", type=_Body).target)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise HttpError(400, f'the body is {{"target": ...}}: {error}') from None
            job = Job(verb, target, Future())
            self.jobs.put(job)
            try:
                async with asyncio.timeout(ANSWER_S):
                    return 200, await asyncio.wrap_future(job.answer)
            except Refused as error:
                raise HttpError(error.status, str(error)) from None

        return order
