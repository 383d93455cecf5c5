"""The observe endpoint of one node: HTTP in a thread of its own, beside the protocol and never in its way.

The loop gives it events (`feed`) and is asked for everything else between two turns, so no state of the node is read
by two threads. What it needs to speak HTTP is imported in its thread, after the node has begun: a node without it
(`--no-observe`) pays nothing, a node with it starts no later. A port that is taken costs the page, not the node.

observe_http.py: connections and limits. observe_routes.py: what is answered to whom. observe_streams.py and
observe_feed.py: events. observe_metrics.py, observe_token.py: as their names say.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from zabzmq.core.zxid import Zxid
from zabzmq.net.faults import FaultError
from zabzmq.server.observe_feed import Feed
from zabzmq.server.observe_token import TokenError, shared_token

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from zabzmq.server.observe_http import Limits
    from zabzmq.server.observe_routes import Write

LOOPBACK: Final = "127.0.0.1"
ANSWER_S: Final = 2.0
"""How long the node's loop may take to answer one question."""
OP_S: Final = 600.0
"""How long one operation may take: who steps a cluster by hand takes his time. A client gives up earlier by itself."""
JOIN_S: Final = 2.0

T = TypeVar("T")


class Bind(NamedTuple):
    """Where to listen, and under which names beside the address itself."""

    node: int
    host: str
    port: int
    allow_hosts: tuple[str, ...] = ()


class Parts(NamedTuple):
    """What the endpoint is told by its node. The first three run in the node's loop, the rest in the endpoint's thread.

    `log` reads a range in the loop and gives back what makes JSON of it here. `submit` does one operation, whose JSON
    it judges itself, and answers with a future. `crash` is None unless faults are allowed.
    """

    state: Callable[[], dict[str, Any]]
    log: Callable[[Zxid], Callable[[], dict[str, Any]]]
    crash: Callable[[], None] | None

    ask: Callable[[Callable[[], None]], None]
    """Have the loop do this between two turns."""
    submit: Callable[[bytes], Future[tuple[int, Mapping[str, Any]]]]
    warn: Callable[[str], None]
    now: Callable[[], float]

    fault: Callable[[bytes], dict[str, Any]] | None = None
    """In the loop: put this fault table in force, or raise FaultError. None unless faults are allowed."""
    hold: Callable[[bytes], dict[str, Any]] | None = None
    """Likewise: step mode on or off."""
    deliver: Callable[[bytes], dict[str, Any]] | None = None
    """Likewise: let one message go, or time pass."""
    note: Callable[[bytes], dict[str, Any]] | None = None
    """In the loop: write what people predict into the event log, or raise FaultError. It harms nobody."""


class Observe:
    """The endpoint of one node. `start` and `stop` are the loop's; nothing here waits for a request."""

    def __init__(
        self,
        bind: Bind,
        parts: Parts,
        feed: Feed,
        log_dir: Path,
        page: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.feed = feed
        self.watchers = 0
        """How many event streams are open."""
        self.dropped = 0
        """How many were too slow."""
        self.ready = threading.Event()
        """Set when it listens, or has given up."""
        self.listening = False
        self._bind = bind
        self._parts = parts
        self._log_dir = log_dir
        self._page = page
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="observe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the streams with a word, and the thread; for at most a moment."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._stop)
            except RuntimeError:
                pass  # it has ended by itself
            self._thread.join(JOIN_S)

    # ---- in the thread

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._parts.warn(f"the observe endpoint ended: {type(error).__name__}: {error}")
        finally:
            self.feed.on_news = None
            self.watchers = 0
            self.listening = False
            self.ready.set()

    def _serve(self) -> None:
        import asyncio

        sockets = self._listen()
        if sockets:
            asyncio.run(self._main(sockets))

    def _listen(self) -> list[socket.socket]:
        """The socket to listen on; on loopback both of its addresses, so that nobody else answers to its name."""
        bind = self._bind
        try:
            sockets = [listening(bind.host, bind.port)]
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror or error}"
            self._parts.warn(f"observe port {bind.port} {why}; node {bind.node} runs without its page feed.")
            return []
        if bind.host == LOOPBACK:
            try:
                sockets.append(listening("::1", bind.port))
            except OSError:
                pass  # no IPv6 here, or taken; the page uses 127.0.0.1
        return sockets

    async def _main(self, sockets: list[socket.socket]) -> None:
        import asyncio

        from zabzmq.server.observe_http import HttpServer, Limits
        from zabzmq.server.observe_routes import Access, Questions, Routes
        from zabzmq.server.observe_streams import Streams

        bind, parts = self._bind, self._parts
        token, no_token = None, ""
        try:
            token = shared_token(self._log_dir)
        except TokenError as error:
            no_token = str(error)
            parts.warn(f"no commands by HTTP: {error}")
        beyond = not is_loopback(bind.host)
        if beyond and token is None:
            parts.warn(f"observe port {bind.port}: beyond loopback nothing is told without a token")
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda loop, context: self._on_bug(context.get("exception")))
        streams = Streams(self.feed, parts.now, self._count)
        harms = {"/fault": parts.fault, "/hold": parts.hold, "/deliver": parts.deliver, "/note": parts.note}
        writes = {"/op": self._op, "/crash": self._crash, **{path: self._harm(harm) for path, harm in harms.items()}}
        routes = Routes(
            Access(bind.port, names_of(bind), token, no_token, beyond),
            Questions(self._state, self._read_log, self._metrics, writes),
            streams,
            self._page,
        )
        server = HttpServer(routes.answer, routes.refuse, self._on_bug, self._limits or Limits())
        self._streams = streams
        await server.listen(sockets)
        stopping = asyncio.Event()
        self._stop = stopping.set
        self.listening = True
        self.ready.set()
        await stopping.wait()
        streams.close("stop")
        await server.close()

    def _count(self, watchers: int) -> None:
        self.watchers = watchers

    def _on_bug(self, error: BaseException | None) -> None:
        self._parts.warn(f"observe endpoint: {type(error).__name__}: {error}")

    # ---- questions

    async def _ask(self, question: Callable[[], T]) -> T:
        """Have the loop of the node answer. Raises TimeoutError."""
        import asyncio

        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: Exception | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]  # it is a T when there is no error

        def ask() -> None:
            value, failure = None, None
            try:
                value = question()
            except Exception as error:
                failure = error
            try:
                loop.call_soon_threadsafe(settle, value, failure)
            except RuntimeError:
                pass  # nobody waits any more

        self._parts.ask(ask)
        async with asyncio.timeout(ANSWER_S):
            return await answer

    async def _state(self) -> dict[str, Any]:
        state = await self._ask(self._parts.state)
        return {**state, "observers": self._streams.count, "observers_dropped": self._streams.dropped}

    async def _read_log(self, after: Zxid) -> dict[str, Any]:
        tell = await self._ask(lambda: self._parts.log(after))
        return tell()

    async def _metrics(self) -> tuple[str, bytes]:
        from zabzmq.server.observe_metrics import exposition

        return exposition(await self._state())

    async def _op(self, body: bytes) -> tuple[int, Mapping[str, Any]]:
        import asyncio

        async with asyncio.timeout(OP_S):
            return await asyncio.wrap_future(self._parts.submit(body))

    async def _crash(self, body: bytes) -> tuple[int, Mapping[str, Any]]:
        await self._ask(_allowed(self._parts.crash))
        return 200, {"v": 1, "crashing": True}

    def _harm(self, harm: Callable[[bytes], dict[str, Any]] | None) -> Write:
        """A POST that has this done in the loop of the node."""
        from zabzmq.server.observe_http import HttpError

        async def write(body: bytes) -> tuple[int, Mapping[str, Any]]:
            done = _allowed(harm)
            try:
                return 200, await self._ask(lambda: done(body))
            except FaultError as error:
                raise HttpError(400, str(error)) from None

        return write


def _allowed(harm: T | None) -> T:
    from zabzmq.server.observe_http import HttpError

    if harm is None:
        raise HttpError(403, "faults are off: start the node with --allow-faults")
    return harm


def is_loopback(host: str) -> bool:
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(64)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def names_of(bind: Bind) -> frozenset[str]:
    """Values of Host that mean this endpoint: with the port; of names allowed by hand also without it (a proxy)."""
    names = {f"{name}:{bind.port}" for name in (LOOPBACK, "localhost", "[::1]")}
    for name in bind.allow_hosts:
        names |= {name.lower(), f"{name.lower()}:{bind.port}"}
    if not is_loopback(bind.host):
        names.add(f"{bind.host.lower()}:{bind.port}")
    return frozenset(names)
