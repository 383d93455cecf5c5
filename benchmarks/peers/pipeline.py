"""A bare asyncio client for protocols over one TCP stream whose answers come in order: a closed loop, as fast as
asyncio goes. What requests and answers look like is a subclass's; there is no retry and no other comfort.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from benchmarks.measure import Load, Rate, Trouble, rate

PATIENCE_S: Final = 20.0


class Pipeline(asyncio.Protocol):
    """One connection with `outstanding` requests under way until the run is over."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self._started: deque[float] = deque()
        self._end = 0.0

    @abstractmethod
    def greet(self) -> bytes:
        """What opens the session."""

    @abstractmethod
    def requests(self, count: int) -> bytes:
        """The next `count` requests."""

    @abstractmethod
    def answers(self, data: bytes) -> int:
        """How many requests were answered by this piece of the stream. The first call sees the session opened and
        calls `opened`. Raises Trouble if one was refused."""

    def opened(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def begin(self, outstanding: int, end: float) -> None:
        self._end = end
        self._send(outstanding, time.perf_counter())

    def _send(self, count: int, now: float) -> None:
        assert self.transport is not None
        self._started.extend([now] * count)
        self.transport.write(self.requests(count))

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        transport.write(self.greet())

    def data_received(self, data: bytes) -> None:
        try:
            count = self.answers(data)
        except Trouble as trouble:
            self._fail(trouble)
            return
        if not count:
            return
        now = time.perf_counter()
        started = self._started
        self.latencies += [(now - started.popleft()) * 1000 for _ in range(count)]
        if now < self._end:
            self._send(count, now)
        elif not started and not self.over.done():
            self.over.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Trouble(f"the connection was closed: {exc or 'by the server'}"))

    def _fail(self, trouble: Trouble) -> None:
        for future in (self.ready, self.over):
            if not future.done():
                future.set_exception(trouble)
                future.exception()  # it is told to whoever waits; nobody may wait any more


async def open_one(make: Callable[[], Pipeline], port: int, patience_s: float) -> Pipeline:
    """A connection whose session is open."""
    async with asyncio.timeout(patience_s):
        _, pipeline = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
        try:
            await pipeline.ready
        except BaseException:
            close(pipeline)
            raise
        return pipeline


def close(pipeline: Pipeline) -> None:
    if pipeline.transport is not None:
        pipeline.transport.abort()


def drive(make: Callable[[], Pipeline], port: int, load: Load, seconds: float) -> Rate:
    """`load` at this port."""

    async def run() -> Rate:
        pipelines = [await open_one(make, port, PATIENCE_S) for _ in range(load.clients)]
        began = time.perf_counter()
        for pipeline in pipelines:
            pipeline.begin(load.outstanding, began + seconds)
        async with asyncio.timeout(seconds + PATIENCE_S):
            await asyncio.gather(*(pipeline.over for pipeline in pipelines))
        took = time.perf_counter() - began
        for pipeline in pipelines:
            close(pipeline)
        return rate([ms for pipeline in pipelines for ms in pipeline.latencies], took)

    return _in_words(run())


def attempt(make: Callable[[], Pipeline], port: int, patience_s: float) -> bool:
    """Connect, make one request, and see it answered well."""

    async def run() -> Rate:
        pipeline = await open_one(make, port, patience_s)
        try:
            pipeline.begin(1, 0.0)
            async with asyncio.timeout(patience_s):
                await pipeline.over
        finally:
            close(pipeline)
        return rate(pipeline.latencies, 1.0)

    try:
        _in_words(run())
    except (Trouble, OSError):
        return False
    return True


def _in_words(run: Coroutine[Any, Any, Rate]) -> Rate:
    try:
        return asyncio.run(run)
    except TimeoutError:
        raise Trouble("no answer in time") from None
