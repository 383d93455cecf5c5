"""Events made by hand: what every event says is filled in."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from zabzmq.trace.reading import Event, parse

VOTERS = [0, 1, 2]


class Story:
    """Events of some nodes, one after another; each is a millisecond and a tick of the clock later."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ticks = count(1)
        self._boots: dict[int, int] = {}
        self._seqs: dict[int, int] = {}
        self.skipped_ms = 0.0

    def __call__(self, n: int, k: str, **fields: Any) -> Event:
        tick = next(self._ticks)
        self._seqs[n] = self._seqs.get(n, 0) + 1
        event = {
            "v": 1,
            "n": n,
            "boot": f"{self._boots.get(n, 0):02x}{n:02x}",
            "seq": self._seqs[n],
            "t": (tick + self.skipped_ms) / 1000,
            "lc": tick,
            "k": k,
        }
        # "source" stands for "from", which is no name in Python.
        told = {("from" if name == "source" else name): value for name, value in fields.items()}
        self.events.append(parse(json.dumps({**event, **told}, separators=(",", ":")).encode()))
        return self.events[-1]

    def wait(self, ms: float) -> None:
        self.skipped_ms += ms

    def lose(self, n: int, events: int = 1) -> None:
        """So many events of this node never reached its log."""
        self._seqs[n] = self._seqs.get(n, 0) + events

    def boot(self, n: int, z: tuple[int, int] = (0, 0), epoch: int = 0) -> Event:
        """A new process."""
        self._boots[n] = self._boots.get(n, -1) + 1
        self._seqs[n] = 0
        return self(n, "boot", voters=VOTERS, z=z, accepted=epoch, current=epoch, joined=True, snapshot=[0, 0])

    def boots(self) -> None:
        for n in VOTERS:
            self.boot(n)

    def votes(self, n: int, z: tuple[int, int] = (0, 0), epoch: int = 0, round: int = 1) -> Event:
        """It looks for a leader, and votes for itself."""
        self(n, "state", role="LOOKING", phase="ELECTION", epoch=epoch, leader=None, why="started", text="started")
        return self(n, "vote", round=round, candidate=n, epoch=epoch, z=z, id=n, why="own")

    def joins(self, n: int, leader: int, epoch: int, vote: Event, round: int = 1) -> None:
        """It finds a vote better than its own, and follows into broadcast."""
        better = {key: vote.get(key) for key in ("candidate", "epoch", "z", "id")}
        self(n, "vote", round=round, **better, why="better", source=leader)
        for phase, why in (("DISCOVERY", "follows"), ("SYNCHRONIZATION", "promised"), ("BROADCAST", "up_to_date")):
            self(n, "state", role="FOLLOWING", phase=phase, epoch=epoch, leader=leader, why=why, text=why)

    def leads(self, n: int, epoch: int, have: list[int], z: tuple[int, int] = (0, 0)) -> Event:
        """Elected, promised to, established, with a history that ends there."""

        def moved(phase: str, why: str) -> Event:
            said = {"role": "LEADING", "phase": phase, "epoch": epoch, "leader": n, "why": why, "text": why}
            return self(n, "state", **said, have=have, need=2)

        moved("DISCOVERY", "elected")
        self(n, "persist", what="epochs", accepted=epoch, current=epoch - 1, joined=True, ms=1.0)
        moved("SYNCHRONIZATION", "quorum_promised")
        for other in have:
            if other != n:
                self(n, "send", type="NEWLEADER", to=other, mid=f"{other}-l{epoch}-d1", epoch=epoch, z=z)
        return moved("BROADCAST", "established")

    def begin(self) -> None:
        """Three nodes; 2 leads epoch 1."""
        self.boots()
        self.votes(0)
        self.votes(1)
        vote = self.votes(2)
        self.leads(2, 1, [0, 1, 2])
        self.joins(0, 2, 1, vote)
        self.joins(1, 2, 1, vote)

    def proposed(self, leader: int, z: tuple[int, int], prev: tuple[int, int], to: list[int]) -> None:
        self(leader, "propose", z0=z, z=z, count=1, prev=prev)
        for other in to:
            self(leader, "send", type="PROPOSE", to=other, mid=f"{other}-p{z}", epoch=z[0], z0=z, z=z, count=1)

    def received(self, n: int, leader: int, z: tuple[int, int]) -> Event:
        return self(n, "recv", type="PROPOSE", mid=f"{n}-p{z}", epoch=z[0], z0=z, z=z, count=1, source=leader)

    def copied(self, n: int, leader: int, z: tuple[int, int], have: list[int], heard: bool = True) -> Event:
        """On its disk, acknowledged, and counted by the leader."""
        persisted = self(n, "persist", z=z, ms=1.0)
        if n != leader:
            persisted = self(n, "send", type="ACK", to=leader, mid=f"{n}-a{z}", epoch=z[0], z=z)
            if heard:
                self(leader, "recv", type="ACK", mid=f"{n}-a{z}", epoch=z[0], z=z, source=n)
        if heard:
            self(leader, "ack", z=z, have=have, need=2, source=n)
        return persisted

    def committed(self, leader: int, z: tuple[int, int], have: list[int]) -> Event:
        committed = self(leader, "commit", z=z, epoch=z[0], have=have, need=2)
        self(leader, "send", type="COMMIT", mid=f"{leader}-c{z}", z=z, epoch=z[0])
        return committed

    def applied(self, n: int, z: tuple[int, int], digest: str = "00") -> Event:
        return self(n, "apply", z0=z, z=z, count=1, digest=digest)

    def looks(self, n: int, epoch: int, why: str, text: str) -> Event:
        said = {"role": "LOOKING", "phase": "QUIESCE", "epoch": epoch, "leader": None, "why": why, "text": text}
        return self(n, "state", **said)
