"""A model of the network between the processes of a simulated ensemble: messages travel as values.

It is made to be as bad as ZeroMQ may be: votes and PUB messages are lost, doubled and overtaken; a link is FIFO
until it breaks, and then both ends hear of it at times of their own, or a frame is lost in it and its numbers
show the gap. Cuts are one-way. What a closed link still carried may arrive at whoever has the address now; the
numbering (net/link.py) must keep it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, Protocol

from zabzmq.core.inputs import Input, LinkLost, LinkUp, MeshDown, MeshUp, Received
from zabzmq.core.messages import LinkMessage, Notification, PubMessage
from zabzmq.core.zxid import LinkId, PeerId, ProcessId
from zabzmq.net.client_wire import ClientReply, Committed
from zabzmq.net.link import Links


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network behaves during one schedule. Durations in ms, the rest are probabilities per message."""

    delay: float = 0.5
    slow: float = 0.02  # a message takes up to `slow_by` times as long
    slow_by: float = 40.0
    vote_loss: float = 0.0
    vote_twice: float = 0.0
    pub_loss: float = 0.0
    pub_twice: float = 0.0
    link_loss: float = 0.0  # a frame vanishes inside a link: its numbers show a gap
    link_twice: float = 0.0
    link_break: float = 0.0
    stale: float = 0.0  # a frame of a dead link reaches the next process on that address
    silent_death: float = 0.0  # a crash or break is noticed only by time-outs


CLEAR = Weather()
STORM = Weather(vote_loss=0.4, vote_twice=0.5, pub_loss=0.4, pub_twice=0.5, slow=0.4, slow_by=60.0)
NOTICE = 3.0  # ms, until a broken connection is noticed
TIMEOUT = 1000.0  # ms, until the library's own heartbeats give up a silent connection
CONNECT_TIMEOUT = 300.0


class Host(Protocol):
    """One living process, as the network sees it."""

    process: ProcessId
    links: Links

    def hear(self, event: Input) -> None: ...


class Fabric(Protocol):
    """What the network needs of the world."""

    dice: Random
    now: float

    @property
    def processes(self) -> Mapping[PeerId, Host | None]:
        """Who lives."""

    def later(self, delay: float, act: Callable[..., None], *about: Any) -> None: ...


class Frame(NamedTuple):
    """A numbered message of a link, or (message None) the word that its sender has closed it."""

    link: LinkId
    seq: int
    source: ProcessId
    to_peer: PeerId
    to_incarnation: int
    message: LinkMessage | None


class Connection:
    """The TCP connection under one link. Side 0 is the learner's, side 1 the leader's."""

    __slots__ = ("broken", "hosts", "link", "ready_at", "stalled")

    def __init__(self, link: LinkId, learner: Host, leader: Host) -> None:
        self.link = link
        self.hosts = (learner, leader)
        self.broken = False  # nothing more is put on it
        self.ready_at = [0.0, 0.0]  # when the last frame from that side arrives: FIFO
        self.stalled: tuple[list[Frame], list[Frame]] = ([], [])  # by a cut, from that side


class Network:
    """Every channel between the processes. `delivered` counts messages that reached a peer."""

    def __init__(self, fabric: Fabric, peers: tuple[PeerId, ...], weather: Weather) -> None:
        self.fabric = fabric
        self.processes = fabric.processes
        self.later = fabric.later
        self.dice = fabric.dice
        self.roll = fabric.dice.random
        self.peers = peers
        self.weather = weather
        self.delivered = 0
        self.cut: set[tuple[PeerId, PeerId]] = set()
        self.connections: dict[LinkId, Connection] = {}
        self.mesh: set[tuple[PeerId, PeerId]] = set()  # (from, to): from's outgoing connection is up
        self.mesh_tries: dict[tuple[PeerId, PeerId], int] = {}
        self.pub_off: set[tuple[PeerId, PeerId]] = set()  # SUB has lost that publisher for now

    # ---- weather ---------------------------------------------------------------------------------------------

    def _delay(self) -> float:
        weather = self.weather
        roll = self.roll()
        if roll < weather.slow:
            return weather.delay * (1 + weather.slow_by * self.roll())
        return weather.delay * (0.5 + roll)

    def set_cut(self, source: PeerId, target: PeerId, on: bool) -> None:
        """Let nothing pass from `source` to `target`, or let it pass again."""
        pair = (source, target)
        if on:
            self.cut.add(pair)
            self.later(TIMEOUT * (0.5 + self.dice.random()), self._cut_noticed, source, target)
        else:
            self.cut.discard(pair)
            for connection in list(self.connections.values()):
                for side in (0, 1):
                    if self._pair(connection, side) == pair and connection.stalled[side]:
                        frames = connection.stalled[side].copy()
                        connection.stalled[side].clear()
                        for frame in frames:
                            self._carry(connection, side, frame)
            for ends in (pair, (target, source)):
                self._connect_mesh(*ends)

    def _cut_noticed(self, source: PeerId, target: PeerId) -> None:
        """The library's own heartbeats have not come back for too long."""
        if (source, target) not in self.cut:
            return
        for ends in ((source, target), (target, source)):
            self._lose_mesh(*ends)
        for connection in list(self.connections.values()):
            if {h.process.peer for h in connection.hosts} == {source, target}:
                self.break_link(connection, "silent")

    @staticmethod
    def _pair(connection: Connection, side: int) -> tuple[PeerId, PeerId]:
        return (connection.hosts[side].process.peer, connection.hosts[1 - side].process.peer)

    # ---- mesh and PUB ------------------------------------------------------------------------------------------

    def started(self, host: Host) -> None:
        """A process is up: its sockets connect, and others' to it."""
        peer = host.process.peer
        for other in self.peers:
            if other != peer:
                self._connect_mesh(peer, other)
                self._connect_mesh(other, peer)

    def _connect_mesh(self, source: PeerId, target: PeerId) -> None:
        pair = (source, target)
        attempt = self.mesh_tries.get(pair, 0) + 1
        self.mesh_tries[pair] = attempt

        def connected() -> None:
            if self.mesh_tries[pair] != attempt or pair in self.mesh:
                return
            host = self.processes.get(source)
            blocked = pair in self.cut or (target, source) in self.cut
            if host is None or self.processes.get(target) is None or blocked:
                return
            self.mesh.add(pair)
            host.hear(MeshUp(target))

        self.later(2 * self._delay() + 20 * self.dice.random(), connected)

    def _lose_mesh(self, source: PeerId, target: PeerId) -> None:
        pair = (source, target)
        self.mesh_tries[pair] = self.mesh_tries.get(pair, 0) + 1
        if pair in self.mesh:
            self.mesh.discard(pair)
            host = self.processes.get(source)
            if host is not None:
                host.hear(MeshDown(target))

    def vote(self, source: Host, target: PeerId, message: Notification) -> None:
        if (source.process.peer, target) in self.mesh:
            weather = self.weather
            event = Received(source.process, None, message)
            self._datagram(
                source.process.peer, target, event, weather.vote_loss, weather.vote_twice, self._vote_arrives
            )

    def publish(self, source: Host, message: PubMessage) -> None:
        weather, mesh = self.weather, self.mesh
        sender = source.process.peer
        event = Received(source.process, None, message)
        for target in self.peers:
            # SUB connects as the mesh does.
            if target != sender and (target, sender) in mesh and (target, sender) not in self.pub_off:
                self._datagram(sender, target, event, weather.pub_loss, weather.pub_twice, self._publication_arrives)

    def _datagram(
        self,
        source: PeerId,
        target: PeerId,
        event: Received,
        loss: float,
        twice: float,
        arrives: Callable[[Host, Received], None],
    ) -> None:
        if (self.cut and (source, target) in self.cut) or (loss and self.roll() < loss):
            return
        host = self.processes[target]
        if host is not None:
            self.later(self._delay(), arrives, host, event)
            if twice and self.roll() < twice:
                self.later(self._delay(), arrives, host, event)

    def _publication_arrives(self, host: Host, event: Received) -> None:
        """A SUB is one FIFO to one address: nothing of a process before after what its successor said."""
        sender = self.processes[event.source.peer]
        if sender is not None and sender.process == event.source:
            self._arrive(host, event, True)

    def _vote_arrives(self, host: Host, event: Received) -> None:
        self._arrive(host, event, False)

    def _arrive(self, host: Host, event: Received, over_pub: bool) -> None:
        """Only at the process it was meant for, and only while that lives."""
        if self.processes[host.process.peer] is not host:
            return
        verdict = host.links.heard(event.source, newer=over_pub)
        for link, why in verdict.lost:
            host.hear(LinkLost(link, why))
        if verdict.reason is None:
            self.delivered += 1
            host.hear(event)

    def resubscribe(self, host: Host, target: PeerId) -> None:
        pair = (host.process.peer, target)
        self.later(5 + 20 * self.dice.random(), self.pub_off.discard, pair)

    # ---- links -------------------------------------------------------------------------------------------------

    def open_link(self, learner: Host, link: LinkId, target: PeerId) -> None:
        ends = (learner.process.peer, target)
        learner.links.opened(link, target)

        def refused() -> None:
            self._lose(learner, link, "refused")

        def shaken() -> None:
            leader = self.processes.get(target)
            if leader is None or self.processes.get(ends[0]) is not learner:
                refused()
            elif learner.links.is_open(link):
                self.connections[link] = Connection(link, learner, leader)
                learner.hear(LinkUp(link))

        if ends in self.cut or ends[::-1] in self.cut:
            self.later(CONNECT_TIMEOUT, refused)
        elif self.processes.get(target) is None:
            self.later(0.2, refused)
        else:
            self.later(2 * self._delay(), shaken)

    def _lose(self, host: Host, link: LinkId, why: str) -> None:
        """Tell a process that a link is over, unless it knows."""
        if self.processes.get(host.process.peer) is host and host.links.closed(link):
            host.hear(LinkLost(link, why))

    def send(self, source: Host, link: LinkId, message: LinkMessage | None) -> None:
        out = source.links.outgoing(link)
        connection = self.connections.get(link)
        if out is None or connection is None:
            return
        side = 0 if connection.hosts[0] is source else 1
        if connection.broken:
            if side == 1:
                # EHOSTUNREACH (T7): not in the middle of a step, as every failure.
                self.later(0.0, self._lose, source, link, "unreachable")
            return
        weather = self.weather
        frame = Frame(link, out.seq, source.process, out.peer, out.incarnation, message)
        if weather.link_break and self.roll() < weather.link_break:
            self.break_link(connection, "reset")
            return
        if weather.link_loss and self.roll() < weather.link_loss:
            return
        self._carry(connection, side, frame)
        if weather.link_twice and self.roll() < weather.link_twice:
            self._carry(connection, side, frame)

    def _carry(self, connection: Connection, side: int, frame: Frame) -> None:
        hosts = connection.hosts
        if self.cut and (hosts[side].process.peer, hosts[1 - side].process.peer) in self.cut:
            connection.stalled[side].append(frame)
            return
        now = self.fabric.now
        arrives = max(now + self._delay(), connection.ready_at[side])
        connection.ready_at[side] = arrives
        self.later(arrives - now, self._frame_arrives, hosts[1 - side], frame)

    def _frame_arrives(self, host: Host, frame: Frame) -> None:
        living = self.processes[host.process.peer]
        if living is not host:
            # The process is gone. Rarely its successor gets what was meant for it; T1 keeps it out.
            if living is None or self.dice.random() >= self.weather.stale:
                return
            host = living
        seq, message = frame.seq, frame.message
        verdict = host.links.incoming(
            frame.link, seq, frame.source, frame.to_peer, frame.to_incarnation, ends=message is None
        )
        for link, why in verdict.lost:
            host.hear(LinkLost(link, why))
        if verdict.tell_closed:
            self._tell_closed(host, frame)
        if verdict.reason is None and message is not None:
            self.delivered += 1
            host.hear(Received(frame.source, frame.link, message))

    def _tell_closed(self, host: Host, frame: Frame) -> None:
        connection = self.connections.get(frame.link)
        if connection is not None and not connection.broken and host in connection.hosts:
            side = connection.hosts.index(host)
            source = frame.source
            self._carry(connection, side, Frame(frame.link, 0, host.process, source.peer, source.incarnation, None))

    def close_link(self, source: Host, link: LinkId) -> None:
        connection = self.connections.get(link)
        if connection is not None and source.links.is_open(link):
            self.send(source, link, None)
            if connection.hosts[0] is source:
                # The learner's socket is closed: what is under way to it is gone. Its last words may arrive or not.
                connection.broken = True
                self._notice(connection, 1, "closed by the learner")
        source.links.closed(link)

    def break_link(self, connection: Connection, why: str) -> None:
        """Both ends lose it, at times of their own, after or before what is still under way."""
        if not connection.broken:
            connection.broken = True
            self._notice(connection, 0, why)
            self._notice(connection, 1, why)

    def break_links(self, a: PeerId, b: PeerId) -> None:
        for connection in list(self.connections.values()):
            if {host.process.peer for host in connection.hosts} == {a, b}:
                self.break_link(connection, "reset")

    def reset(self, a: PeerId, b: PeerId) -> None:
        """Every connection between these two is reset; the lasting ones are made anew."""
        self.break_links(a, b)
        for pair in ((a, b), (b, a)):
            self._mesh_down_later(*pair, NOTICE * self.dice.random())

    def _notice(self, connection: Connection, side: int, why: str) -> None:
        delay = NOTICE * self.dice.random()
        if self.weather.silent_death and self.dice.random() < self.weather.silent_death:
            delay = TIMEOUT * self.dice.random()
        elif self.dice.random() < 0.5:
            delay = max(delay, connection.ready_at[1 - side] - self.fabric.now)
        host = connection.hosts[side]
        self.later(delay, self._gone, connection, host, why)

    def _gone(self, connection: Connection, host: Host, why: str) -> None:
        self._lose(host, connection.link, why)
        if not any(h.links.is_open(connection.link) for h in connection.hosts):
            self.connections.pop(connection.link, None)

    # ---- the end of a process ------------------------------------------------------------------------------------

    def died(self, host: Host) -> None:
        """Its kernel closes its sockets; or nobody does, and others find out by time-outs."""
        peer = host.process.peer
        silent = bool(self.weather.silent_death) and self.dice.random() < self.weather.silent_death
        for connection in list(self.connections.values()):
            if host in connection.hosts:
                connection.broken = True
                self._notice(connection, 1 - connection.hosts.index(host), "reset")
        for other in self.peers:
            if other != peer:
                self.mesh.discard((peer, other))
                self.mesh_tries[(peer, other)] = self.mesh_tries.get((peer, other), 0) + 1
                if (other, peer) in self.mesh:
                    delay = TIMEOUT * (0.5 + self.dice.random()) if silent else 10 * self.dice.random()
                    self._mesh_down_later(other, peer, delay)

    def _mesh_down_later(self, source: PeerId, target: PeerId, delay: float) -> None:
        def down() -> None:
            self._lose_mesh(source, target)
            if self.processes.get(target) is not None and self.processes.get(source) is not None:
                self._connect_mesh(source, target)

        self.later(delay, down)


class SimTransport:
    """One process's end of the network (the Transport port)."""

    def __init__(
        self,
        network: Network,
        host: Host,
        reply: Callable[[bytes, ClientReply], None],
        committed: Callable[[Committed], None],
    ) -> None:
        self.network = network
        self.host = host
        self.reply = reply
        self.publish_committed = committed

    def send(self, link: LinkId, message: LinkMessage) -> None:
        self.network.send(self.host, link, message)

    def send_vote(self, peer: PeerId, message: Notification) -> None:
        self.network.vote(self.host, peer, message)

    def publish(self, message: PubMessage) -> None:
        self.network.publish(self.host, message)

    def open_link(self, link: LinkId, peer: PeerId) -> None:
        self.network.open_link(self.host, link, peer)

    def close_link(self, link: LinkId) -> None:
        self.network.close_link(self.host, link)

    def resubscribe(self, peer: PeerId) -> None:
        self.network.resubscribe(self.host, peer)
