"""Many seeds, or one in full: what `zookeeper_server.py sim` calls.

run_seeds(first, last, nodes, jobs)   every schedule of an inclusive range, summed up in a Report
                                      (campaign.py: for hours, resumable)
trace(seed, nodes)                    one schedule as readable lines
trace_hash(seed, nodes)               the same as one number, equal wherever it is run
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

from zabzmq.sim.acts import Act
from zabzmq.sim.plan import Plan
from zabzmq.sim.world import World, play

PHASES = ("QUIESCE", "ELECTION", "DISCOVERY", "SYNCHRONIZATION", "BROADCAST")
METHODS = ("DIFF", "TRUNC", "SNAP")
CHUNK = 20
"""Seeds handed to a job at once."""


class Broken(NamedTuple):
    """One schedule that broke a promise: `name` is of PROTOCOL 11, or Liveness."""

    seed: int
    name: str
    text: str


@dataclass(slots=True)
class Report:
    """What a range of seeds came to."""

    schedules: int = 0
    delivered: int = 0  # messages between nodes
    commits: int = 0  # transactions
    elections: int = 0  # epochs established
    syncs: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(METHODS, 0)))
    crashes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(PHASES, 0)))
    violations: list[Broken] = field(default_factory=list)
    seconds: float = 0.0
    commits_of: Counter[int] = field(default_factory=Counter)  # how many schedules came to so many
    delivered_of: Counter[int] = field(default_factory=Counter)

    @property
    def commits_median(self) -> float:
        return median(self.commits_of.elements()) if self.commits_of else 0.0

    def add(self, other: Report) -> None:
        self.schedules += other.schedules
        self.delivered += other.delivered
        self.commits += other.commits
        self.elections += other.elections
        self.syncs.update(other.syncs)
        self.crashes.update(other.crashes)
        self.violations += other.violations
        self.commits_of.update(other.commits_of)
        self.delivered_of.update(other.delivered_of)

    def as_json(self) -> dict[str, Any]:
        """The object that `sim --json` prints."""
        return {
            "v": 1,
            "schedules": self.schedules,
            "delivered": self.delivered,
            "delivered_min": min(self.delivered_of, default=0),
            "commits": self.commits,
            "commits_median": self.commits_median,
            "elections": self.elections,
            "syncs": {method: self.syncs[method] for method in METHODS},
            "crashes": {phase: self.crashes[phase] for phase in PHASES},
            "violations": [broken._asdict() for broken in self.violations],
            "seconds": round(self.seconds, 3),
        }


def run_seed(seed: int, nodes: int = 5) -> Report:
    """One schedule."""
    world = play(seed, nodes)
    watcher = world.watcher
    report = Report(1, world.network.delivered, watcher.commits, watcher.elections)
    report.syncs.update(watcher.syncs)
    report.crashes.update(world.crashes)
    report.violations = [Broken(seed, violation.name, violation.text) for violation in world.violations]
    report.commits_of[watcher.commits] = 1
    report.delivered_of[world.network.delivered] = 1
    return report


def run_chunk(about: tuple[int, int, int]) -> Report:
    first, last, nodes = about
    total = Report()
    with seldom_collected():
        for seed in range(first, last + 1):
            total.add(run_seed(seed, nodes))
    return total


@contextmanager
def seldom_collected() -> Iterator[None]:
    """A world is a web of cycles that all die together: looking for garbage while it lives is an eighth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        gc.collect()


def run_seeds(
    first: int, last: int, nodes: int = 5, jobs: int = 1, progress: Callable[[Report], None] | None = None
) -> Report:
    """Every schedule from seed `first` to `last`, both included. `progress` is told the sum so far, now and then."""
    began = time.monotonic()
    chunks = [(low, min(low + CHUNK - 1, last), nodes) for low in range(first, last + 1, CHUNK)]
    total = Report()

    def collect(reports: Iterator[Report]) -> None:
        for report in reports:
            total.add(report)
            total.seconds = time.monotonic() - began
            if progress is not None:
                progress(total)

    if jobs <= 1:
        collect(map(run_chunk, chunks))
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            collect(pool.imap(run_chunk, chunks))
    total.seconds = time.monotonic() - began
    return total


def trace(seed: int, nodes: int = 5) -> Iterator[str]:
    """One schedule, line by line: what each node heard, what it did about it, faults, answers, violations."""
    lines: list[str] = []
    world = World(seed, nodes, tell=lines.append)
    world.run()
    yield from _story(world, lines)


def trace_of(seed: int, plan: Plan, acts: tuple[Act, ...]) -> Iterator[str]:
    """The same of a schedule that is written down."""
    lines: list[str] = []
    world = World(seed, plan.nodes, plan, lines.append, acts)
    world.run()
    yield from _story(world, lines)


def _story(world: World, lines: list[str]) -> Iterator[str]:
    yield f"seed {world.seed}, {world.plan.nodes} nodes"
    yield from (f"plan: {name} = {value}" for name, value in asdict(world.plan).items())
    yield from lines
    yield from (f"VIOLATION {violation}" for violation in world.violations)
    yield f"delivered {world.network.delivered}, commits {world.watcher.commits}, elections {world.watcher.elections}"


def trace_hash(seed: int, nodes: int = 5) -> str:
    """SHA-256 of the trace: the same on every machine and under every PYTHONHASHSEED."""
    digest = hashlib.sha256()
    for line in trace(seed, nodes):
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()
