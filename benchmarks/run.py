"""One run: every system in turn, round after round, so that a slow minute of the machine is everybody's."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measure import (
    READ_LOADS,
    WRITE_LOADS,
    Load,
    Rate,
    System,
    Trouble,
    cpu_s,
    file_system,
    idle_cpu,
    rss_mb,
    wake_ups,
)

GAME_LOAD: Final = Load(1, 256)
LOCAL_LOAD: Final = Load(1, 256)
WARM_UP: Final = Load(1, 256)
NOT_DISKS: Final = ("tmpfs", "ramfs")

Tell = Callable[[str], None]
Make = Callable[[Path], System]


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    repeats: int = 3
    seconds: float = 1.5  # of each load
    warm_up_s: float = 2.0
    kills: int = 5  # of a leader, in each repeat
    kills_s: float = 12.0  # no further kill after this
    freezes: int = 2  # of a leader, in each repeat
    idle_s: float = 3.0
    behind: Sequence[int] = (20_000,)  # how far a follower is left behind, in the first repeat
    minutes: float = 13.0  # nothing new is begun after this


@dataclass
class Measured:
    """What was measured of one system: every value of every repeat, by name."""

    name: str
    version: str = ""
    syncs: str = ""
    driver: str = ""
    settings: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, what: str, value: float) -> None:
        self.values.setdefault(what, []).append(value)

    def add_rate(self, what: str, rate: Rate) -> None:
        for name, value in rate._asdict().items():
            self.add(f"{what} {name}", value)

    def median(self, what: str) -> float | None:
        return statistics.median(self.values[what]) if self.values.get(what) else None


@dataclass
class Results:
    date: str
    machine: str
    file_system: str
    plan: Plan
    systems: list[Measured] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    busy: float = 0.0  # load average of the minute before
    minutes: float = 0.0

    def of(self, name: str) -> Measured | None:
        return next((system for system in self.systems if system.name == name), None)

    def median(self, name: str, what: str) -> float | None:
        system = self.of(name)
        return system.median(what) if system is not None else None


class Run:
    def __init__(self, plan: Plan, makes: Mapping[str, Make], directory: Path | None, tell: Tell) -> None:
        self._plan = plan
        self._makes = list(makes.items())
        self._directory = directory
        self._tell = tell
        self._began = time.monotonic()

    def measure(self) -> Results:
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="benchmark-", dir=self._directory))
        try:
            kind = file_system(scratch)
            if kind in NOT_DISKS:
                raise Trouble(f"{scratch} is on {kind}, where syncing costs nothing; name a directory with --directory")
            self._tell(f"data on {kind} at {scratch}")
            results = Results(_today(), machine(), kind, self._plan, busy=os.getloadavg()[0])
            for repeat in range(self._plan.repeats):
                first = repeat % len(self._makes)
                for name, make in self._makes[first:] + self._makes[:first]:
                    self._turn(name, make, scratch, repeat, results)
            results.minutes = (time.monotonic() - self._began) / 60
            return results
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._began > self._plan.minutes * 60

    def _turn(self, name: str, make: Make, scratch: Path, repeat: int, results: Results) -> None:
        """One system, started anew on an empty disk."""
        if name in results.missing:
            return
        directory = scratch / f"{repeat}-{name.replace(' ', '-').replace(',', '')}"
        try:
            system = make(directory)
        except Trouble as trouble:
            results.missing[name] = str(trouble)
            self._tell(f"{name} is missing: {trouble}")
            return
        measured = results.of(name)
        if measured is None:
            measured = Measured(name, system.version(), system.syncs, system.driver, system.settings)
            results.systems.append(measured)
        if self._is_late:
            measured.troubles.append(f"repeat {repeat + 1} was left out: {self._plan.minutes:g} minutes had passed")
            return
        self._tell(f"{(time.monotonic() - self._began) / 60:4.1f} min  repeat {repeat + 1}: {name}")
        try:
            began = time.monotonic()
            system.start()
            measured.add("start s", time.monotonic() - began)
            Turn(system, measured, self._plan, repeat, lambda: self._is_late, self._tell).all()
        except Exception as error:
            measured.troubles.append(f"repeat {repeat + 1}: {words(error)}")
            self._tell(f"         {name}: {words(error)}")
        finally:
            system.stop()
            shutil.rmtree(directory, ignore_errors=True)


class Turn:
    """Everything that is measured of one system in one repeat. What fails is told, and the rest goes on."""

    def __init__(
        self, system: System, measured: Measured, plan: Plan, repeat: int, is_late: Callable[[], bool], tell: Tell
    ) -> None:
        self._system = system
        self._measured = measured
        self._plan = plan
        self._repeat = repeat
        self._is_late = is_late
        self._tell = tell

    def all(self) -> None:
        system, plan = self._system, self._plan
        if self._repeat == 0:
            self._try("cost of doing nothing", self._idle)
        self._try("warm-up", lambda: system.writes(WARM_UP, plan.warm_up_s))
        for load in WRITE_LOADS:
            self._try(f"write {load}", lambda load=load: self._writes(load))  # type: ignore[misc]
        for load in READ_LOADS:
            self._rate(f"read {load}", lambda load=load: system.reads(load, plan.seconds))  # type: ignore[misc]
        self._rate(f"game {GAME_LOAD}", lambda: system.game(GAME_LOAD, plan.seconds))
        self._rate(f"local read {LOCAL_LOAD}", lambda: system.local_reads(LOCAL_LOAD, plan.seconds))
        self._try("fail-over", self._kills)
        for _ in range(plan.freezes):
            self._value("frozen ms", system.freeze)
        for behind in plan.behind:
            if self._repeat == 0 and behind <= system.behind_max:
                self._value(f"catch-up {behind:,} s", lambda behind=behind: system.catch_up(behind))  # type: ignore[misc]

    def _writes(self, load: Load) -> None:
        """The load, and what it costs the five nodes: processor time is less moved by a busy machine than the clock."""
        pids = self._system.pids()
        before, slept, began = cpu_s(pids), wake_ups(pids), time.monotonic()
        measured = self._system.writes(load, self._plan.seconds)
        writes = measured.per_s * (time.monotonic() - began)
        self._measured.add_rate(f"write {load}", measured)
        self._measured.add(f"write {load} cpu us", (cpu_s(pids) - before) / writes * 1e6)
        self._measured.add(f"write {load} wake-ups", (wake_ups(pids) - slept) / writes)

    def _idle(self) -> None:
        time.sleep(min(1.0, self._plan.idle_s))
        pids = self._system.pids()
        self._measured.add("rss MB", statistics.median(rss_mb(pids)))
        self._measured.add("idle %", idle_cpu(pids, self._plan.idle_s))

    def _kills(self) -> None:
        end = time.monotonic() + self._plan.kills_s
        for _ in range(self._plan.kills):
            if time.monotonic() > end:
                break
            took = self._system.fail_over()
            if took is None:
                break
            self._measured.add("fail-over ms", took)

    def _rate(self, what: str, measure: Callable[[], Rate | None]) -> None:
        def add() -> None:
            measured = measure()
            if measured is not None:
                self._measured.add_rate(what, measured)

        self._try(what, add)

    def _value(self, what: str, measure: Callable[[], float | None]) -> None:
        def add() -> None:
            measured = measure()
            if measured is not None:
                self._measured.add(what, measured)

        self._try(what, add)

    def _try(self, what: str, act: Callable[[], object]) -> None:
        if self._is_late():
            return
        try:
            act()
        except Exception as error:
            self._measured.troubles.append(f"repeat {self._repeat + 1}, {what}: {words(error)}")
            self._tell(f"         {self._measured.name}, {what}: {words(error)}")


def words(error: Exception) -> str:
    """One system that surprises us must not spoil the figures of the others: whatever it was, it is told."""
    return str(error) if isinstance(error, Trouble | OSError) else f"{type(error).__name__}: {error}"


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def machine() -> str:
    """Processor, cores, memory, kernel."""
    about = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in about.splitlines() if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"
