"""Who watches the events now: each from a place of its own, a bounded number, the oldest ended for the newest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, NamedTuple

import msgspec

from zabzmq.server.observe_feed import Behind, Feed

STREAMS_MAX: Final = 5
BEAT_S: Final = 1.0
PIECE_BYTES: Final = 64 << 10


class Place(NamedTuple):
    """Up to where somebody has heard this node: `seq` of the process `boot`."""

    boot: str
    seq: int


class _Watcher:
    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.news = asyncio.Event()
        self.beat = False  # is due
        self.bye = ""


class Streams:
    """The watchers of one node, all in one event loop."""

    def __init__(self, feed: Feed, now: Callable[[], float], on_change: Callable[[int], None]) -> None:
        """`now` is the clock of the events in milliseconds; `on_change` hears how many watch."""
        self.dropped = 0
        """Watchers that read too slowly."""
        self._feed = feed
        self._now = now
        self._on_change = on_change
        self._watchers: list[_Watcher] = []
        self._loop = asyncio.get_running_loop()
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        return len(self._watchers)

    def on_slow(self) -> None:
        self.dropped += 1

    def close(self, why: str) -> None:
        """End every stream with a word."""
        for watcher in self._watchers:
            self._end(watcher, why)

    async def open(self, place: Place | None) -> AsyncGenerator[bytes, None]:
        """From after this place, or from now: server-sent events, and a sign of life every second."""
        feed = self._feed
        watcher = _Watcher(feed.seq)
        first = b"retry: 1000\n" + self._beat()
        if place is not None:
            if place.boot == feed.boot and feed.oldest - 1 <= place.seq <= feed.seq:
                watcher.seq = place.seq
            else:
                # Of another process, or too old: what the ring still holds, and a word that something is missing.
                watcher.seq, gap = self._gap(place)
                first += gap
        self._add(watcher)
        try:
            yield first
            while not watcher.bye:
                watcher.news.clear()
                if watcher.seq < feed.hole:  # It came while steps were passed over that nobody watched.
                    watcher.seq, piece = self._gap(Place(feed.boot, watcher.seq))
                else:
                    watcher.seq, piece = feed.after(watcher.seq, PIECE_BYTES)
                if watcher.beat:
                    watcher.beat = False
                    piece += self._beat()
                if piece:
                    yield piece
                else:
                    await watcher.news.wait()
            yield _named("bye", {"why": watcher.bye, "text": _BYE[watcher.bye]})
        except Behind:
            self.on_slow()
            yield _named("bye", {"why": "slow", "text": _BYE["slow"]})
        finally:
            self._remove(watcher)

    def _gap(self, place: Place) -> tuple[int, bytes]:
        """Where to go on who has heard this node up to `place`, and the word that something is missing there."""
        feed = self._feed
        what = {"boot": feed.boot, "since": f"{place.boot}:{place.seq}", "oldest": feed.oldest}
        return feed.oldest - 1, _named("gap", what)

    def _tick(self) -> None:
        """Once a second, for all of them: one timer, however much is told in between."""
        for watcher in self._watchers:
            watcher.beat = True
            watcher.news.set()
        self._ticker = self._loop.call_later(BEAT_S, self._tick) if self._watchers else None

    def _beat(self) -> bytes:
        """A comment, for readers of the stream, and an event of its own, for an EventSource hides comments."""
        return b": beat\n" + _named("beat", {"seq": self._feed.seq, "t": round(self._now() / 1000, 3)})

    def _add(self, watcher: _Watcher) -> None:
        self._watchers.append(watcher)
        for oldest in self._watchers[:-STREAMS_MAX]:
            self._end(oldest, "many")
        if self._ticker is None:
            self._ticker = self._loop.call_later(BEAT_S, self._tick)
        self._feed.on_news = self._on_news
        self._on_change(len(self._watchers))

    def _remove(self, watcher: _Watcher) -> None:
        self._watchers.remove(watcher)
        if not self._watchers:
            self._feed.on_news = None
        self._on_change(len(self._watchers))

    def _end(self, watcher: _Watcher, why: str) -> None:
        if not watcher.bye:
            watcher.bye = why
            watcher.news.set()

    def _on_news(self) -> None:
        """From the loop of the node."""
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # This event loop is closed: the process ends.

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.news.set()


_BYE: Final = {
    "many": f"more than {STREAMS_MAX} streams are open, and this was the oldest",
    "slow": "this reader was too slow for the events",
    "stop": "this node stops",
}


def _named(name: str, value: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))
