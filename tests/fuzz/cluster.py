"""Mutated frames at every socket of three running nodes, while a client writes.

Four ways in: the peer ROUTER and the client ROUTER (connections like any other), the PUB (which only hears
subscriptions) and HTTP. Two ways from the inside: in the place of a third node that is dead, a publisher that the
others subscribe to, and a ROUTER that their mesh connections speak to. Frames in a voter's name come from a life
that nobody knows (a wiped disk looks the same, 1.1), as forged as anybody can make them.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from tests.e2e.real import PATIENCE_S, RealCluster
from tests.e2e.strangers import Foreign, Socket, Writing
from tests.fuzz.mutate import Mutator, client_frames, http_requests, peer_frames, publication
from zabzmq.core.zxid import PeerId, ProcessId

BURST = 200
STRANGER = ProcessId(PeerId(7), 7, 7)


@dataclass
class Thrown:
    frames: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    memory_mib: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Of each node: before and after."""

    @property
    def total(self) -> int:
        return sum(self.frames.values())


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no process {pid}")


class Throwing:
    """Throws bursts at the sockets of a cluster; `voters`: also in the names of voters."""

    def __init__(self, cluster: RealCluster, seed: int, voters: bool) -> None:
        self.cluster = cluster
        self.mutator = Mutator(seed)
        self.foreign = Foreign()
        self.thrown = Thrown()
        self._voters = voters
        self._dealers: dict[tuple[str, int], Socket] = {}

    def close(self) -> None:
        self.foreign.close()

    def ways(self) -> dict[str, Callable[[int, int], None]]:
        """By name: throws so many frames at this node."""
        return {"peer": self._peer, "client": self._client, "publish": self._publish, "http": self._http}

    def _connected(self, kind: str, node: int) -> Socket:
        """A connection that is used for many frames, and now and then another."""
        key = kind, node
        if key in self._dealers and self.mutator.dice.random() < 0.05:
            self._dealers.pop(key).close()
        if key not in self._dealers:
            port = getattr(self.cluster.config.listen(node), kind)
            self._dealers[key] = self.foreign.connect(zmq.XSUB if kind == "publish" else zmq.DEALER, port)
        return self._dealers[key]

    def _peer(self, node: int, count: int) -> None:
        dice = self.mutator.dice
        for _ in range(count):
            source = ProcessId(PeerId(dice.randrange(3)), dice.choice((1, 2)), 1) if self._voters else STRANGER
            frame = self.mutator.peer(dice.choice(peer_frames(source, node)))
            self._connected("peer", node).send(frame)

    def _client(self, node: int, count: int) -> None:
        frames = client_frames()
        for _ in range(count):
            dealer = self._connected("client", node)
            dealer.send(self.mutator.client(self.mutator.dice.choice(frames)))
            while dealer.poll(0):
                dealer.recv_multipart()

    def _publish(self, node: int, count: int) -> None:
        for _ in range(count):
            kind = self.mutator.dice.choice((b"\0", b"\1", b"\2", b""))
            self._connected("publish", node).send(kind + self.mutator.raw(b"hb" * 20))

    def _http(self, node: int, count: int) -> None:
        """Each a connection of its own; what comes back is HTTP or nothing."""
        port = self.cluster.config.listen(node).observe
        requests = http_requests(port)
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
                connection.settimeout(0.02)
                try:
                    connection.sendall(self.mutator.raw(self.mutator.dice.choice(requests)))
                    answer = connection.recv(64)
                except (TimeoutError, ConnectionError):
                    continue
                assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer
                assert not answer.startswith(b"HTTP/1.1 500"), answer

    def in_place_of(self, dead: int, subscribers: list[int]) -> dict[str, Callable[[int, int], None]]:
        """Bind the ports of a node that is dead; the ways in from there."""
        listen = self.cluster.config.listen(dead)
        publisher = self.foreign.socket(zmq.XPUB)
        publisher.set(zmq.XPUB_VERBOSE, 1)
        publisher.bind(f"tcp://127.0.0.1:{listen.publish}")
        router = self.foreign.socket(zmq.ROUTER)
        router.bind(f"tcp://127.0.0.1:{listen.peer}")
        for _ in range(2 * len(subscribers)):  # two topics each
            publisher.recv()
        frames = peer_frames(STRANGER) + [publication()]
        routes: list[bytes] = []

        def publish(node: int, count: int) -> None:
            for _ in range(count):
                topic = self.mutator.dice.choice((b"hb", b"cm", b"hb\0", b"cmx"))
                publisher.send_multipart([topic, self.mutator.peer(self.mutator.dice.choice(frames))])

        def answer(node: int, count: int) -> None:
            """To whoever has spoken: mesh connections hear nothing they asked for."""
            while router.poll(0):
                routes.append(router.recv_multipart()[0])
            for route in set(routes[-8:]):
                for _ in range(min(count, 20)):
                    router.send_multipart([route, self.mutator.peer(self.mutator.dice.choice(frames))])

        return {"false publisher": publish, "false mesh": answer}


def throw(cluster: RealCluster, seed: int, frames: int, voters: bool, tell: Callable[[Thrown], None]) -> Thrown:
    """Throw about so many frames at all sockets; raises when a node ends, commits stop, or memory has no bound."""
    status = cluster.up()
    throwing = Throwing(cluster, seed, voters)
    thrown = throwing.thrown
    pids = cluster.supervisor.running()
    try:
        with Writing(cluster) as writing:
            before = {node: memory_mib(pid) for node, pid in pids.items()}
            share = {"peer": 0.43, "client": 0.43, "publish": 0.12, "http": 0.02}
            ways = throwing.ways()
            while thrown.total < frames * 0.8:
                _round(throwing, ways, share, cluster.config.ids)
                _alive(cluster, pids, writing)
                tell(thrown)
            if not voters:
                leader = cluster.status()["leader"]
                assert (status["leader"], status["epoch"]) == (leader, cluster.status()["epoch"]), "another leader"
            dead = max(cluster.config.ids)
            cluster.kill(dead)
            pids.pop(dead)
            others = cluster.others(dead)
            writing.go_on()
            inside = throwing.in_place_of(dead, others)
            while thrown.total < frames:
                _round(throwing, inside, {"false publisher": 0.9, "false mesh": 0.1}, others[:1])
                _alive(cluster, pids, writing)
                tell(thrown)
            after = {node: memory_mib(pid) for node, pid in pids.items()}
            thrown.memory_mib = {node: (before[node], after[node]) for node in pids}
            thrown.commits = len(writing.done)
        throwing.close()  # the ports are free again
        cluster.start(dead)
        cluster.until_equal()
    finally:
        throwing.close()
    return thrown


def _round(
    throwing: Throwing, ways: dict[str, Callable[[int, int], None]], share: dict[str, float], nodes: Sequence[int]
) -> None:
    for node in nodes:
        for name, way in ways.items():
            count = max(1, int(BURST * share[name]))
            way(node, count)
            throwing.thrown.frames[name] += count


def _alive(cluster: RealCluster, pids: dict[int, int], writing: Writing) -> None:
    assert not cluster.supervisor.ended(), "a node ended"
    assert cluster.supervisor.running() == pids
    writing.go_on(1)
