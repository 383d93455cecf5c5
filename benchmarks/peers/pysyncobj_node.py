"""One PySyncObj node with the load inside it: PySyncObj is a library, so its clients are where its objects are.

    python -m benchmarks.peers.pysyncobj_node DIRECTORY CONTROL_PORT SELF tuned|default OTHER...

Listens on CONTROL_PORT for one JSON line a connection, and answers with one: {"do": "status"}, {"do": "once"},
{"do": "load", "outstanding": 64, "seconds": 2.0}.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from pysyncobj import SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found]

from benchmarks.measure import KEYS, VALUE_BYTES

TUNED: Final = {
    "appendEntriesUseBatch": False,  # a write wakes the thread at once
    "appendEntriesPeriod": 0.03,
    "raftMinTimeout": 0.15,
    "raftMaxTimeout": 0.4,
    "connectionRetryTime": 0.1,
}
PATIENCE_S: Final = 30.0


class Store(SyncObj):  # type: ignore[misc]
    """A dictionary, replicated."""

    def __init__(self, own: str, others: list[str], conf: Any) -> None:
        super().__init__(own, others, conf)
        self.data: dict[str, str] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: str) -> bool:
        self.data[key] = value
        return True


class Work:
    def __init__(self, store: Store) -> None:
        self.store = store

    def status(self) -> dict[str, Any]:
        told = self.store.getStatus()
        return {"leader": told["leader"] == told["self"], "applied": told["last_applied"]}

    def once(self) -> dict[str, Any]:
        """One write, tried until it is committed."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            ended = threading.Event()
            errors: list[int] = []

            def end(result: object, error: int, ended: threading.Event = ended, errors: list[int] = errors) -> None:
                errors.append(error)
                ended.set()

            self.store.put("first", "", callback=end)
            if ended.wait(2.0) and errors == [0]:
                return {"ok": True}
        return {"ok": False}

    def load(self, outstanding: int, seconds: float) -> dict[str, Any]:
        """A closed loop; callbacks come in PySyncObj's own thread and ask for the next write there."""
        put, value, latencies = self.store.put, "x" * VALUE_BYTES, []
        state = {"under_way": outstanding, "failed": 0, "serial": 0}
        over = threading.Event()
        began = time.perf_counter()

        def ask() -> None:
            state["serial"] += 1
            put(f"key-{state['serial'] % KEYS}", value, callback=partial(answered, time.perf_counter()))

        def answered(started: float, result: object, error: int) -> None:
            now = time.perf_counter()
            if error:
                state["failed"] += 1
            else:
                latencies.append((now - started) * 1000)
            if now - began < seconds:
                ask()
            else:
                state["under_way"] -= 1
                if not state["under_way"]:
                    over.set()

        for _ in range(outstanding):
            ask()
        over.wait(seconds + PATIENCE_S)
        return {"latencies": latencies, "took": time.perf_counter() - began, "failed": state["failed"]}


def main(directory: str, port: str, own: str, how: str, *others: str) -> None:
    files = {"journalFile": str(Path(directory) / "journal"), "fullDumpFile": str(Path(directory) / "dump")}
    store = Store(own, list(others), SyncObjConf(**files, **(TUNED if how == "tuned" else {})))
    work = Work(store)

    class Control(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = json.loads(self.rfile.readline())
            answer = getattr(work, asked.pop("do"))(**asked)
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", int(port)), Control) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
