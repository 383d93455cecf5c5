"""Real nodes as real processes: start, watch, stop. Each is held by its handle; nobody is looked for by name.

Whatever happens to the supervisor, its nodes go too: cleanly by `stop`, else by their parent-death watch.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zabzmq.cluster.parent import PARENT
from zabzmq.server.config import Config
from zabzmq.storage.synced import Lost, lose_power

STOP_S: Final = 10.0
"""How long a node may take to stop cleanly before it is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A node's process is over. `code` as from subprocess: negative for a signal; `words` is what it said last."""

    node: int
    code: int
    words: str


class Supervisor:
    """The processes of one cluster. Leave the context and they are stopped."""

    def __init__(self, config: Config, options: Sequence[str] = ()) -> None:
        """`options` are given to every node."""
        self._config = config
        self._options = tuple(options)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._paused: set[int] = set()
        self._codes: dict[int, int] = {}

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def start(self, node: int, *options: str) -> None:
        """Start this node, unless it runs."""
        self._config.listen(node)
        old = self._processes.get(node)
        if old is not None and old.poll() is None:
            return
        self._paused.discard(node)
        self._codes.pop(node, None)
        words = self._words_path(node)
        words.parent.mkdir(parents=True, exist_ok=True)
        with words.open("wb") as errors:
            self._processes[node] = subprocess.Popen(
                self.command(node, (*self._options, *options)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=node_environment(os.environ),
                # Ctrl-C in the terminal is the supervisor's: it stops them in order.
                start_new_session=True,
            )

    def command(self, node: int, options: Sequence[str]) -> list[str]:
        """How this node is started."""
        return node_command(self._config, node, options)

    def start_all(self) -> None:
        for node in self._config.ids:
            self.start(node)

    def running(self) -> dict[int, int]:
        """Process ids of the nodes that run."""
        return {node: process.pid for node, process in list(self._processes.items()) if process.poll() is None}

    @property
    def paused(self) -> set[int]:
        """The nodes that run, and stand still."""
        return self._paused & self.running().keys()

    @property
    def codes(self) -> dict[int, int]:
        """How the last process of each node ended, of those that are down."""
        polled = [(node, process.poll()) for node, process in list(self._processes.items())]
        return {**self._codes, **{node: code for node, code in polled if code is not None}}

    def signal(self, node: int, number: int) -> None:
        """Send a signal to this node's process, if it runs."""
        process = self._processes.get(node)
        if process is not None:
            process.send_signal(number)

    def pause(self, node: int) -> None:
        self.signal(node, signal.SIGSTOP)
        self._paused.add(node)

    def resume(self, node: int) -> None:
        self.signal(node, signal.SIGCONT)
        self._paused.discard(node)

    def kill(self, node: int) -> None:
        """kill -9, and wait until it is gone."""
        process = self._processes.get(node)
        if process is not None:
            process.kill()
            process.wait()

    def cut_power(self, node: int) -> Lost:
        """kill -9, and what was not synced is gone. Raises StorageError when nobody knows what that is, OSError."""
        self.kill(node)
        return lose_power(os.fspath(self._config.node_data_dir(node)))

    def delete_data(self, node: int) -> None:
        """All that a node that is down must not lose. Raises OSError."""
        assert node not in self.running(), "only the dead are buried"
        try:
            shutil.rmtree(self._config.node_data_dir(node))
        except FileNotFoundError:
            pass

    def ended(self) -> list[Ended]:
        """The nodes whose processes ended since the last call, by themselves or by others."""
        found = []
        for node, process in list(self._processes.items()):
            code = process.poll()
            if code is not None:
                del self._processes[node]
                self._codes[node] = code
                found.append(Ended(node, code, self.words(node)))
        return found

    def words(self, node: int) -> str:
        """What this node said on standard error."""
        try:
            return self._words_path(node).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def stop_node(self, node: int, timeout_s: float = STOP_S) -> int | None:
        """Ask it to stop cleanly, kill it if it does not; its exit code."""
        process = self._processes.get(node)
        if process is None:
            return None
        process.terminate()
        self.resume(node)
        return _wait(process, time.monotonic() + timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> dict[int, int]:
        """Stop all cleanly, at once; their exit codes."""
        for node, process in self._processes.items():
            if process.poll() is None:
                process.terminate()
                self.resume(node)
        deadline = time.monotonic() + timeout_s
        codes = {node: _wait(process, deadline) for node, process in self._processes.items()}
        self._codes.update(codes)
        self._processes.clear()
        return codes

    def _words_path(self, node: int) -> Path:
        return self._config.log_dir / f"node-{node}.err"


def _wait(process: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def node_command(config: Config, node: int, options: Sequence[str] = ()) -> list[str]:
    """The command line of one node of this cluster, with every setting spelled out."""
    command = [sys.executable, "-m", "zabzmq.cli.server", "node", str(node), *options]
    if config.path is not None:
        command += ["--config", str(config.path)]
    else:
        command += ["--nodes", str(len(config.listens))]
    command += ["--base-port", str(config.base_port), "--cluster", config.cluster]
    command += ["--data-dir", str(config.data_dir), "--log-dir", str(config.log_dir)]
    return command


def node_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: ours without settings, which stand on its command line, and who its parent is."""
    kept = {name: value for name, value in environ.items() if not name.startswith("ZAB_") or name == "ZAB_DEBUG"}
    return {**kept, PARENT: str(os.getpid())}
