"""Some transports on loopback, polled in turn by one thread until what is waited for has happened."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from typing import Any

import zmq

from zabzmq.core.inputs import Input, LinkLost, LinkUp, MeshUp, Received
from zabzmq.core.messages import FollowerInfo
from zabzmq.core.zxid import LinkId, PeerId, ProcessId
from zabzmq.net.client_wire import ClientRequest
from zabzmq.net.endpoints import Endpoints, NetConfig
from zabzmq.net.sockets import SocketTransport
from zabzmq.net.wire import Envelope, Wire

DEADLINE = 10.0
HELLO = FollowerInfo(0, 0, True, 1, 1)
_ports = itertools.cycle(range(23000, 24000))


def free_port(claims: list[socket.socket]) -> int:
    """A TCP port nobody listens on. Its UDP twin, kept in `claims`, keeps it from other runs of these tests."""
    for port in itertools.islice(_ports, 1000):
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is free, as ZeroMQ sees it
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        claims.append(claim)
        return port
    raise AssertionError("no free port from 23000 to 23999")


class Rig:
    """`nodes[i]` is the transport of peer i where it runs; `heard[i]` and `asked[i]` what it has received."""

    def __init__(self, peers: int) -> None:
        self.claims: list[socket.socket] = []
        self.endpoints = {PeerId(peer): self.free_endpoints() for peer in range(peers)}
        self.nodes: dict[int, SocketTransport] = {}
        self.heard: dict[int, list[Input]] = {}
        self.asked: dict[int, list[tuple[bytes, ClientRequest]]] = {}
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.link_timeout_ms = 1000 * DEADLINE  # a busy machine is not what these tests are about
        self.foreigners: list[zmq.Socket[bytes]] = []

    def free_endpoints(self) -> Endpoints:
        return Endpoints(*(f"tcp://127.0.0.1:{free_port(self.claims)}" for _ in range(3)))

    def config(self, peer: int, *, life: int | None = None, incarnation: int = 100) -> NetConfig:
        me = ProcessId(PeerId(peer), 1000 + peer if life is None else life, incarnation)
        return NetConfig("demo", me, dict(self.endpoints), self.link_timeout_ms)

    def start(self, peer: int, *, life: int | None = None, incarnation: int = 100) -> SocketTransport:
        node = SocketTransport(self.config(peer, life=life, incarnation=incarnation))
        self.add(peer, node)
        return node

    def add(self, peer: int, node: SocketTransport) -> None:
        self.nodes[peer] = node
        self.heard[peer] = []
        self.asked[peer] = []

    def stop(self, peer: int) -> None:
        self.nodes.pop(peer).close()

    def close(self) -> None:
        for peer in list(self.nodes):
            self.stop(peer)
        self.context.destroy(linger=0)
        for claim in self.claims:
            claim.close()

    def turn(self) -> None:
        for peer, node in list(self.nodes.items()):
            node.poll(1)
            inputs, requests = node.receive()
            self.heard[peer] += inputs
            self.asked[peer] += requests

    def until(self, happened: Callable[[], Any], seconds: float = DEADLINE) -> float:
        """Let everyone run until this is true; how many milliseconds it took."""
        start = time.monotonic()
        while not happened():
            assert time.monotonic() < start + seconds, "never happened; heard last: " + str(
                {peer: events[-6:] for peer, events in self.heard.items()}
            )
            self.turn()
        return (time.monotonic() - start) * 1000

    def until_heard(self, peer: int, event: Input) -> float:
        return self.until(lambda: self.has_heard(peer, event))

    def has_heard(self, peer: int, event: Input) -> bool:
        """Inputs are tuples, and MeshUp(0) == MeshDown(0): their types are part of the question."""
        return any(type(each) is type(event) and each == event for each in self.heard[peer])

    # ---- the usual beginnings ------------------------------------------------------------------------------------

    def meshed(self, *peers: int) -> None:
        """Start these, and wait until all are connected to each other."""
        for peer in peers:
            self.start(peer)
        self.until(
            lambda: all(
                self.has_heard(peer, MeshUp(PeerId(other))) and PeerId(other) in self.nodes[peer].subscribed
                for peer in peers
                for other in peers
                if peer != other
            )
        )

    def linked(self, learner: int, leader: int, number: int = 1) -> LinkId:
        """Open a link and say the first word on it, as learners do."""
        link = LinkId(self.nodes[learner].me, number)
        self.nodes[learner].open_link(link, PeerId(leader))
        self.until_heard(learner, LinkUp(link))
        self.nodes[learner].send(link, HELLO)
        self.until(lambda: self.messages(leader, link) == [HELLO])
        return link

    # ---- what was heard ------------------------------------------------------------------------------------------

    def messages(self, peer: int, link: LinkId | None) -> list[Any]:
        return [e.message for e in self.heard[peer] if isinstance(e, Received) and e.link == link]

    def lost(self, peer: int, link: LinkId) -> list[str]:
        return [e.why for e in self.heard[peer] if isinstance(e, LinkLost) and e.link == link]

    # ---- foreign sockets -----------------------------------------------------------------------------------------

    def foreign(self, kind: int, *, connect: str = "", bind: str = "", identity: bytes = b"") -> zmq.Socket[bytes]:
        sock = self.context.socket(kind)
        self.foreigners.append(sock)
        sock.set(zmq.LINGER, 0)
        if identity:
            sock.set(zmq.ROUTING_ID, identity)
        if kind == zmq.SUB:
            sock.subscribe(b"")
        if bind:
            sock.bind(bind)
        if connect:
            sock.connect(connect)
        return sock


def frames(source: ProcessId, to: ProcessId, link: LinkId | None, seq: int, message: Any) -> list[bytes]:
    """What a process would put on the wire."""
    return [Wire("demo").encode(Envelope(source, to.peer, to.incarnation, link, seq), message)]


GARBAGE: list[list[bytes]] = [
    [b""],
    [b"\x00" * 99],
    [b"ZB\x01\x11" + bytes(89) + b"\x92\x01\x92\x01\x01"],
    [b"ZB\x07\x11" + bytes(89) + b"\x92\x01\x92\x01\x01"],
    [b"ZC1\xc1"],
    [bytes(range(256)) * 40],
    [b"ZC1" + b"\x91" * 100_000],
    [b"\xff" * (4 << 20)],
    [b"", b""],
    [b"x"] * 50,
    [b"\xff" * (3 << 20), b"\xff" * (1 << 20)],
]
