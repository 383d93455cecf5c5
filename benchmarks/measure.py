"""What is measured, and the least that every measured system shares: loads, rates, processes, what a process costs.

A system is five processes on this machine and a client in this process. How each is started and driven stands in a
file of its own; what is asked of all of them stands in `System`.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, TypeVar

NODES: Final = 5
VALUE_BYTES: Final = 128
KEYS: Final = 10_000
START_S: Final = 60.0
STOP_S: Final = 10.0
PR_SET_PDEATHSIG: Final = 1

T = TypeVar("T")


class Trouble(Exception):
    """This cannot be measured; the words say why. The others can."""


class Load(NamedTuple):
    clients: int
    outstanding: int

    def __str__(self) -> str:
        return f"{self.clients} x {self.outstanding}" if self.clients > 1 else f"{self.outstanding:,}"


WRITE_LOADS: Final = (Load(1, 1), Load(1, 64), Load(1, 256), Load(1, 1024), Load(4, 64))
READ_LOADS: Final = (Load(1, 1), Load(1, 256))


class Rate(NamedTuple):
    """What a closed loop came to. Latencies in milliseconds."""

    per_s: float
    p50: float
    p99: float


def rate(latencies: list[float], took_s: float) -> Rate:
    if not latencies:
        raise Trouble(f"nothing was answered in {took_s:.1f} s")
    ordered = sorted(latencies)
    return Rate(len(ordered) / took_s, ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)])


class System(ABC):
    """Five nodes of one kind, and its client. Nothing runs before `start` and after `stop`."""

    name: ClassVar[str]
    syncs: ClassVar[str]
    """When a write is on a disk for sure: what an answer means."""
    driver: ClassVar[str]
    settings: ClassVar[str] = "default"
    behind_max: ClassVar[int] = 20_000
    """How far a follower is left behind at most; to write more takes the slow ones too long."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def start(self) -> None:
        """Start five nodes; returns when the first write is committed."""

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def pids(self) -> list[int]: ...

    @abstractmethod
    def writes(self, load: Load, seconds: float) -> Rate: ...

    def reads(self, load: Load, seconds: float) -> Rate | None:
        """Linearizable ones; None: it has none to measure."""
        return None

    def game(self, load: Load, seconds: float) -> Rate | None:
        return None

    def local_reads(self, load: Load, seconds: float) -> Rate | None:
        """`load.outstanding` at each of the five nodes."""
        return None

    def fail_over(self) -> float | None:
        """kill -9 the leader; milliseconds until the next write is committed. The dead one is started again."""
        return None

    def freeze(self) -> float | None:
        """SIGSTOP the leader; milliseconds until the next write is committed. It is woken again."""
        return None

    def catch_up(self, behind: int) -> float | None:
        """Kill a follower, write `behind`, start it: seconds until it holds them all."""
        return None


def seconds_until(act: Callable[[], object], what: str, holds: Callable[[], object]) -> float:
    """How long it takes from the act until this holds."""
    began = time.monotonic()
    act()
    wait_until(what, holds, pause_s=0.002)
    return time.monotonic() - began


class Processes:
    """Child processes by number. They die with this process, whatever happens to it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._words(number).open("ab") as words:
            self._running[number] = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (no thread runs while processes are started)
            )

    def kill(self, number: int) -> None:
        self._running[number].kill()
        self._running.pop(number).wait()

    def pids(self) -> list[int]:
        return [process.pid for process in self._running.values()]

    def check(self) -> None:
        for number, process in self._running.items():
            if process.poll() is not None:
                words = self._words(number).read_text(errors="replace").strip().splitlines()[-3:]
                raise Trouble(f"process {number} ended with {process.returncode}: {' | '.join(words)}")

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _words(self, number: int) -> Path:
        return self._directory / f"process-{number}.out"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(what: str, holds: Callable[[], T | None], patience_s: float = START_S, pause_s: float = 0.01) -> T:
    """Poll until it holds; what it gave."""
    deadline = time.monotonic() + patience_s
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise Trouble(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(pause_s)
    return found


def free_ports(count: int) -> list[int]:
    """Ports in a row that nobody holds now, below the ranges from which systems give out ports."""
    dice = random.Random()
    for _ in range(100):
        base = dice.randrange(22_000, 32_000)
        ports = [base + i for i in range(count)]
        if all(_is_free(port) for port in ports):
            return ports
    raise Trouble("no free ports between 22000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(mount, kind) for mount, kind in mounts if path.resolve().is_relative_to(mount.replace("\\040", " "))]
    return max(holding, key=lambda pair: len(pair[0]))[1]


def rss_mb(pids: Iterable[int]) -> list[float]:
    def of(pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    return [of(pid) for pid in pids]


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time these have used, in seconds."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wake_ups(pids: Iterable[int]) -> int:
    """How often a thread of these has gone to sleep, and so was or will be woken."""
    tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0]) for task in tasks)


def idle_cpu(pids: Sequence[int], seconds: float) -> float:
    """Percent of one core that these use together while nobody asks them for anything."""
    before = cpu_s(pids)
    time.sleep(seconds)
    return (cpu_s(pids) - before) / seconds * 100
