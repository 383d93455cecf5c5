"""A run that is made up, for what no cluster would tell in time or at all."""

from __future__ import annotations

import json
from typing import Any


class Story:
    """Events of a run, made up: three nodes, of which 0 leads epoch 1."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.told = [0, 0, 0]  # how many events, by each node
        self._t = 100.0
        for n in range(3):
            log = {"z": [0, 0], "snapshot": [0, 0], "accepted": 0, "current": 0, "joined": True}
            self.tell(n, "boot", voters=[0, 1, 2], cluster="told", pid=n, wall_ms=1.7e12, **log)
        for n in (1, 2, 0):
            role = "FOLLOWING" if n else "LEADING"
            self.tell(n, "state", role=role, phase="BROADCAST", epoch=1, leader=0, why="established", text="told so")

    def tell(self, n: int, k: str, **fields: Any) -> None:
        self.told[n] += 1
        self._t += 0.0001
        who = {"v": 1, "n": n, "boot": f"aaa{n}", "seq": self.told[n]}
        self.lines.append(json.dumps({**who, "t": round(self._t, 6), "lc": len(self.lines), "k": k, **fields}))

    def wait(self, seconds: float) -> None:
        self._t += seconds

    def commit(self, counter: int) -> None:
        """One entry from its proposal to the state of all."""
        z, prev = [1, counter], [1 if counter > 1 else 0, counter - 1]
        self.tell(0, "propose", z0=z, z=z, count=1, prev=prev)
        for n in (1, 2):
            mid = f"{n}-aaa{n}-1-d{counter}"
            self.tell(0, "send", type="PROPOSE", to=n, mid=mid, z0=z, z=z, count=1)
            self.tell(n, "recv", type="PROPOSE", **{"from": 0}, mid=mid, z0=z, z=z, count=1)
        for n in range(3):
            self.tell(n, "persist", z=z, ms=0.4)
            self.tell(0, "ack", **{"from": n}, z=z, have=list(range(n + 1)), need=2)
        self.tell(0, "commit", z=z, epoch=1, have=[0, 1, 2], need=2)
        for n in range(3):
            self.tell(n, "apply", z0=z, z=z, count=1, digest=f"{counter:016x}")

    def look_again(self) -> None:
        """Nobody leads any more, and each votes for itself."""
        for n in range(3):
            for phase in ("QUIESCE", "ELECTION"):
                self.tell(n, "state", role="LOOKING", phase=phase, epoch=1, leader=None, why="other", text="told so")
            self.tell(n, "vote", round=2, candidate=n, epoch=1, z=[1, 1], id=n, why="own")

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)
