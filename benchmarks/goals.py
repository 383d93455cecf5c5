"""What is to be reached, judged by what a run measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.run import Results

OURS, RAW, COALESCED = "zabzmq", "raw", "raw, coalesced"
ROUND: Final = "the fixed cost of a round over six processes; see below"
PER_OPERATION: Final = "processor time for each operation over all six processes; see below"
UNSYNCED: Final = "NATS does not sync"
IMPORTS: Final = "five Pythons import at once"


class Goal(NamedTuple):
    what: str
    goal: str
    """{} stands for the limit, where that depends on the run."""
    unit: str
    measured: Callable[[Results], float | None]
    limit: Callable[[Results], float | None]
    at_most: bool
    why: str = ""
    """Said where it is missed."""

    def verdict(self, results: Results) -> str:
        """Met, or how far off; "not measured" where the run did not."""
        measured, limit = self.measured(results), self.limit(results)
        if measured is None or limit is None:
            return "not measured in this run"
        if measured <= limit if self.at_most else measured >= limit:
            return "met"
        off = measured / limit
        return f"missed: {off:.2f} of the limit" + (f" ({self.why})" if self.why else "")


def _of(system: str, what: str, times: float = 1.0) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        median = results.median(system, what)
        return None if median is None else median * times

    return value


def _ours(what: str) -> Callable[[Results], float | None]:
    return _of(OURS, what)


def _fixed(limit: float) -> Callable[[Results], float | None]:
    return lambda results: limit


def _worst(what: str, share: float) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours = results.of(OURS)
        ordered = sorted(ours.values.get(what, [])) if ours is not None else []
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None

    return value


def _ratio(system: str, what: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours, theirs = results.median(OURS, what), results.median(system, what)
        return ours / theirs if ours is not None and theirs else None

    return value


def _writes() -> list[Goal]:
    goals = []
    for load, limit in (("64", 30_000), ("256", 80_000), ("1,024", 120_000), ("4 x 64", 60_000)):
        what = f"write {load} per_s"
        why = ROUND if load in ("64", "4 x 64") else PER_OPERATION
        goals.append(Goal(f"writes, {load}", f"{limit:,}/s", "/s", _ours(what), _fixed(limit), False, why))
        nats, etcd = _of("NATS JetStream", what), _of("etcd", what, 3.0)
        goals.append(Goal(f"writes, {load}", "ahead of NATS ({})", "/s", _ours(what), nats, False, UNSYNCED))
        goals.append(Goal(f"writes, {load}", "3 times etcd ({})", "/s", _ours(what), etcd, False, why))
    return goals


GOALS: Final[list[Goal]] = [
    Goal(
        "one at a time, p50",
        "1.2 times raw ({})",
        "ms",
        _ours("write 1 p50"),
        _of(RAW, "write 1 p50", 1.2),
        True,
        ROUND,
    ),
    Goal(
        "one at a time, p50",
        "ahead of ZooKeeper ({})",
        "ms",
        _ours("write 1 p50"),
        _of("ZooKeeper", "write 1 p50"),
        True,
        ROUND,
    ),
    Goal(
        "one at a time, p50", "ahead of etcd ({})", "ms", _ours("write 1 p50"), _of("etcd", "write 1 p50"), True, ROUND
    ),
    Goal("one at a time, p50", "0.75 ms", "ms", _ours("write 1 p50"), _fixed(0.75), True, ROUND),
    *_writes(),
    Goal("p99 at 1,024 outstanding", "20 ms", "ms", _ours("write 1,024 p99"), _fixed(20), True),
    Goal("the game, 256", "60,000/s", "/s", _ours("game 256 per_s"), _fixed(60_000), False, PER_OPERATION),
    Goal(
        "against the coalesced loop, 256",
        "0.4 of it",
        "",
        _ratio(COALESCED, "write 256 per_s"),
        _fixed(0.4),
        False,
        PER_OPERATION,
    ),
    Goal("linearizable reads, 256", "100,000/s", "/s", _ours("read 256 per_s"), _fixed(100_000), False),
    Goal("linearizable read, one at a time, p50", "0.6 ms", "ms", _ours("read 1 p50"), _fixed(0.6), True),
    Goal(
        "local reads, five nodes",
        "150,000/s",
        "/s",
        _ours("local read 256 per_s"),
        _fixed(150_000),
        False,
        "one client process asks all five, and is what is busy",
    ),
    Goal("leader killed, p50", "50 ms", "ms", _ours("fail-over ms"), _fixed(50), True),
    Goal("leader killed, p99", "150 ms", "ms", _worst("fail-over ms", 0.99), _fixed(150), True),
    Goal("leader frozen, worst", "700 ms", "ms", _worst("frozen ms", 1.0), _fixed(700), True),
    Goal("start to first commit", "0.8 s", "s", _ours("start s"), _fixed(0.8), True, IMPORTS),
    Goal("memory of a node, empty", "45 MB", "MB", _ours("rss MB"), _fixed(45), True),
    Goal("five idle nodes", "5 % of a core", "%", _ours("idle %"), _fixed(5), True),
    Goal("100,000 behind, by DIFF", "3 s", "s", _ours("catch-up 100,000 s"), _fixed(3), True),
]
