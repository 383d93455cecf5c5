"""Frames that no node of ours would send, and a look at what it did to those who got them."""

from __future__ import annotations

import random
import threading
from typing import Any, TypeAlias

import zmq
from crc32c import crc32c

from tests.chaos.harness import wait_for
from tests.e2e.real import NAME, PATIENCE_S, RealCluster
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.core.messages import Heartbeat, Message, Notification, Phase, State
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId
from zabzmq.machine.operations import Put
from zabzmq.net.wire import HEADER_BYTES, PUB, Envelope, Wire

BEAT = Heartbeat(State.LOOKING, Phase.ELECTION, 0, None, 1, ZERO, ZERO, ZERO, None)
NOTE = Notification(State.LOOKING, 1, None, None, 0, True, 0, 1)
NOBODY = ProcessId(PeerId(7), 1, 1)

Socket: TypeAlias = zmq.Socket[bytes]


def framed(
    message: Message,
    source: ProcessId = NOBODY,
    to: int = 0,
    to_incarnation: int = 0,
    link: int | None = None,
    seq: int = 1,
    cluster: str = NAME,
) -> bytes:
    """A message as this process would send it; `link` is a link's number."""
    linked = None if link is None else LinkId(source, link)
    return Wire(cluster).encode(Envelope(source, PeerId(to), to_incarnation, linked, seq), message)


def altered(frame: bytes, offset: int, byte: int) -> bytes:
    """With another byte in its head, and a checksum that fits."""
    head = bytearray(frame[: HEADER_BYTES - 4])
    head[offset] = byte
    body = frame[HEADER_BYTES:]
    return bytes(head) + crc32c(bytes(head), crc32c(body)).to_bytes(4, "big") + body


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


class Writing:
    """A client that writes all the while, one operation after the other."""

    def __init__(self, cluster: RealCluster) -> None:
        self.client = Client(cluster.config.client_endpoints, cluster=NAME, timeout_ms=PATIENCE_S * 1000)
        self.done: list[Call] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Writing:
        self._thread.start()
        self.go_on()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        self.client.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.done.append(self.client.do(Put(b"written", b"%d" % len(self.done))))
            self._stopping.wait(0.005)

    def go_on(self, writes: int = 3) -> None:
        """Commits go on: so many more, and none failed."""
        goal = len(self.done) + writes
        wait_for(lambda: len(self.done) >= goal, PATIENCE_S, "commits")
        assert {call.outcome for call in self.done} == {Outcome.OK}


class Bystander:
    """What may not change while strangers speak: who leads, in which epoch, and the processes."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.before = cluster.until("calm", self._is_calm)

    @staticmethod
    def _is_calm(status: dict[str, Any]) -> bool:
        """A leader is established a moment before the last of its followers knows."""
        return status["leader"] is not None and all(
            node["phase"] == "BROADCAST" for node in status["nodes"] if node["up"]
        )

    @staticmethod
    def _kept(status: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {key: node.get(key) for key in ("node", "pid", "state", "phase", "epoch", "accepted_epoch", "leader")}
            for node in status["nodes"]
        ]
        return {"health": status["health"], "leader": status["leader"], "epoch": status["epoch"], "nodes": nodes}

    def dropped(self, node: int, reason: str) -> int:
        """How many frames this node has refused for this reason since."""
        counts = [
            each["nodes"][node].get("dropped", {}).get(reason, 0) for each in (self.before, self.cluster.status())
        ]
        return int(counts[1] - counts[0])

    def until_dropped(self, node: int, reason: str, count: int = 1) -> None:
        wait_for(lambda: self.dropped(node, reason) >= count, PATIENCE_S, f"{count} {reason} at node {node}")

    def check(self) -> None:
        """Everything is as before: same leader, same epoch, same processes. A link that was taken for a moment may
        still be on its way back."""
        kept = self._kept(self.before)
        wait_for(lambda: self._kept(self.cluster.status()) == kept, PATIENCE_S, f"return to {kept}")


class Foreign:
    """Sockets of no node."""

    def __init__(self) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()
        self.sockets: list[Socket] = []

    def close(self) -> None:
        self.context.destroy(linger=0)

    def socket(self, kind: int) -> Socket:
        made = self.context.socket(kind)
        made.set(zmq.LINGER, 0)
        made.set(zmq.SNDTIMEO, int(PATIENCE_S * 1000))
        made.set(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        self.sockets.append(made)
        return made

    def connect(self, kind: int, port: int) -> Socket:
        made = self.socket(kind)
        made.connect(f"tcp://127.0.0.1:{port}")
        return made

    def process_of(self, cluster: RealCluster, node: int) -> ProcessId:
        """Who this node is: every heartbeat says it."""
        subscriber = self.connect(zmq.SUB, cluster.config.listen(node).publish)
        subscriber.subscribe(b"hb")
        _, frame = subscriber.recv_multipart()
        subscriber.close()
        return Wire(NAME).decode([frame], PUB)[0].source
