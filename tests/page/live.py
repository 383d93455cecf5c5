"""Five real processes under `cluster up`, as the page meets them, and the means to put right what a test broke."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.chaos.harness import free_base_port, wait_for
from tests.e2e.real import PATIENCE_S, Program, RealCluster
from tests.page.browser import PAGE
from zabzmq.server.config import PORT_OFFSETS, SUPERVISOR_OFFSET

OBSERVE_OFFSET: Final = PORT_OFFSETS["observe"]


def fetch(port: int, path: str, body: dict[str, Any] | None = None, token: str = "") -> Any:
    """GET, or POST of `body`, on loopback."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
        request.add_header("X-Zab-Token", token)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def address(base_port: int, token: str = "", more: str = "", page: Path = PAGE, query: str = "") -> str:
    """The page from disk, for a cluster on these ports."""
    parts = [f"base={base_port}", *([f"t={token}"] if token else []), *([more] if more else [])]
    return f"{page.as_uri()}{query}#{'&'.join(parts)}"


def unused_address(more: str = "", page: Path = PAGE) -> str:
    """The page from disk, where nobody listens on its ports."""
    return address(free_base_port(5), more=more, page=page)


class LiveCluster:
    """`cluster up` as a child process. Leave the context and all are stopped."""

    def __init__(self, directory: Path, nodes: int = 5) -> None:
        self.real = RealCluster(directory, nodes)
        self.base_port = self.real.config.base_port
        self._up: Program | None = None
        self._words = ""

    def __enter__(self) -> LiveCluster:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()
        self.real.close()

    def start(self) -> None:
        self._up = self.real.program("zookeeper_server.py", "cluster", "up", *self.real.directories)
        self._up.until_line("healthy")

    def stop(self) -> None:
        if self._up is not None:
            self._up.end(signal.SIGINT)
            self._up = None

    @property
    def token(self) -> str:
        return (self.real.config.log_dir / "token").read_text().strip()

    def url(self, *, token: bool = True, more: str = "", query: str = "") -> str:
        return address(self.base_port, self.token if token else "", more, query=query)

    def order(self, verb: str, target: int | str) -> Any:
        return fetch(self.base_port + SUPERVISOR_OFFSET, f"/{verb}", {"target": str(target)}, self.token)

    def fault(self, node: int, table: dict[str, Any]) -> None:
        fetch(self.base_port + OBSERVE_OFFSET + node, "/fault", table, self.token)

    def hold(self, node: int, *, on: bool) -> None:
        fetch(self.base_port + OBSERVE_OFFSET + node, "/hold", {"on": on}, self.token)

    def states(self) -> dict[int, str]:
        """Of each node's process: running, paused or down."""
        said = fetch(self.base_port + SUPERVISOR_OFFSET, "/state")
        return {node["id"]: node["state"] for node in said["nodes"]}

    def own(self, node: int) -> dict[str, Any]:
        """What this node says of itself."""
        said: dict[str, Any] = fetch(self.base_port + OBSERVE_OFFSET + node, "/state")
        return said

    def mend(self) -> None:
        """All five run, hear each other, and hold one state."""
        for node, state in self.states().items():
            if state != "running":
                self.order("resume" if state == "paused" else "restart", node)
        for node in self.real.config.ids:
            wait_for(lambda node=node: self._serves(node), PATIENCE_S, f"answer of node {node}")  # type: ignore[misc]
            self.fault(node, {})
        self.real.until_equal()

    def _serves(self, node: int) -> bool:
        try:
            return bool(self.own(node))
        except OSError:
            return False

    def export(self, kind: str, output: Path, *files: Path) -> Path:
        """`trace export` of these files, or of all that the nodes told."""
        ran = self.real.server_py(
            "trace", "export", "--to", kind, "-o", output, "--log-dir", self.real.config.log_dir, *files
        )
        assert ran.code == 0, ran
        return output
