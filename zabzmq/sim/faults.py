"""What is done to a simulated ensemble while faults are on, and undone when they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zabzmq.core.effects import Moved
from zabzmq.core.messages import Phase
from zabzmq.core.zxid import PeerId
from zabzmq.sim.plan import Fault

if TYPE_CHECKING:
    from zabzmq.sim.world import World


class Faults:
    """Draws a fault, does it, plans its end, waits, and again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = world.dice
        self.on = False
        self.trap: Phase | None = None  # the next to enter it dies in it
        self.undo: dict[int, Callable[[], None]] = {}
        self.count = 0
        self._do: dict[Fault, Callable[[], None]] = {
            Fault.KILL: lambda: self._crash(self._any(), power=False),
            Fault.POWER: lambda: self._crash(self._any(), power=True),
            Fault.LEADER: lambda: self._crash(self._leader(), power=self.dice.random() < 0.3),
            Fault.PHASE: self._set_trap,
            Fault.BLACKOUT: self._blackout,
            Fault.PAUSE: self._pause,
            Fault.STALL: self._stall,
            Fault.PARTITION: self._partition,
            Fault.ISOLATE: self._isolate,
            Fault.ONE_WAY: self._one_way,
            Fault.BRIDGE: self._bridge,
            Fault.BREAK: self._break,
            Fault.DEAF: self._deafen,
            Fault.WIPE: self._wipe,
        }

    def begin(self) -> None:
        self.on = bool(self.world.plan.faults)
        self._next()

    def _next(self) -> None:
        if not self.on:
            return
        fault = self.dice.choice(self.world.plan.faults)
        self.world.say(f"fault: {fault.value}")
        self._do[fault]()
        self.world.later(self.world.plan.pause_between * (0.3 + 1.4 * self.dice.random()), self._next)

    def end(self) -> None:
        """Undo everything that is still in force."""
        self.on = False
        self.trap = None
        for number in sorted(self.undo):
            self.undo.pop(number)()
        network = self.world.network
        for pair in sorted(network.cut):
            network.set_cut(*pair, on=False)
        network.pub_off.clear()

    def _for_a_while(self, undo: Callable[[], None]) -> None:
        self.count += 1
        number = self.count
        self.undo[number] = undo

        def over() -> None:
            if self.undo.pop(number, None) is not None:
                undo()

        self.world.later(self.world.plan.heal_ms * (0.2 + 1.6 * self.dice.random()), over)

    def _any(self) -> PeerId:
        return self.dice.choice(self.world.voters.ids)

    def _leader(self) -> PeerId:
        for peer, process in self.world.processes.items():
            if process is not None and process.node.peer.is_established:
                return peer
        return self._any()

    # ---- processes

    def _crash(self, peer: PeerId, power: bool) -> None:
        self.world.crash(peer, power)
        self.restart_later(peer)

    def restart_later(self, peer: PeerId) -> None:
        delay = self.world.plan.down_ms * (0.1 + 1.8 * self.dice.random())
        self.world.later(delay, lambda: self.world.start(peer))

    def _set_trap(self) -> None:
        self.trap = self.dice.choice((Phase.ELECTION, Phase.DISCOVERY, Phase.SYNCHRONIZATION, Phase.BROADCAST))

    def on_moved(self, peer: PeerId, move: Moved) -> None:
        if self.trap is None or move.phase is not self.trap:
            return
        self.trap = None
        power = self.dice.random() < 0.5
        phase = move.phase

        def spring() -> None:
            process = self.world.processes[peer]
            if process is not None and process.node.peer.phase.phase is phase:
                self._crash(peer, power)

        self.world.later((2 * self.world.plan.weather.delay + 2 * self.world.plan.sync_ms) * self.dice.random(), spring)

    def _blackout(self) -> None:
        peers = list(self.world.voters.ids)
        for peer in self.dice.sample(peers, self.dice.randint(1, len(peers))):
            self._crash(peer, power=True)

    def _pause(self) -> None:
        peer = self._leader() if self.dice.random() < 0.5 else self._any()
        process = self.world.processes[peer]
        if process is not None:
            process.pause()
            self._for_a_while(process.resume)

    def _wipe(self) -> None:
        """Only while the voters that remember nothing stay a minority (10.6, L19)."""
        world, peer = self.world, self._any()
        blank = {p for p, platter in world.platters.items() if not platter.epochs.current or not platter.epochs.joined}
        if len(blank | {peer}) > len(world.voters.ids) - world.voters.needed:
            return
        world.crash(peer, power=True)
        world.wipe(peer)
        self.restart_later(peer)

    # ---- disks

    def _stall(self) -> None:
        process = self.world.processes[self._leader() if self.dice.random() < 0.4 else self._any()]
        if process is not None:
            process.disk.stalled = True
            self._for_a_while(process.disk.release)

    # ---- network

    def _cut(self, pairs: list[tuple[PeerId, PeerId]]) -> None:
        network = self.world.network
        for pair in pairs:
            network.set_cut(*pair, on=True)

        def mend() -> None:
            for pair in pairs:
                network.set_cut(*pair, on=False)

        self._for_a_while(mend)

    def _split(self, group: set[PeerId]) -> None:
        ids = self.world.voters.ids
        self._cut([(a, b) for a in ids for b in ids if a != b and (a in group) != (b in group)])

    def _partition(self) -> None:
        ids = list(self.world.voters.ids)
        self._split(set(self.dice.sample(ids, self.dice.randint(1, max(1, len(ids) // 2)))))

    def _isolate(self) -> None:
        self._split({self._leader()})
        if self.dice.random() < 0.5:
            # And its connections are reset, so that the others do not wait for time-outs.
            self._break_links_of(self._leader())

    def _break_links_of(self, peer: PeerId) -> None:
        network = self.world.network
        for connection in list(network.connections.values()):
            if any(host.process.peer == peer for host in connection.hosts):
                network.break_link(connection, "reset")

    def _one_way(self) -> None:
        ids = list(self.world.voters.ids)
        pairs = [(a, b) for a in ids for b in ids if a != b]
        self._cut(self.dice.sample(pairs, self.dice.randint(1, max(1, len(pairs) // 3))) if pairs else [])

    def _bridge(self) -> None:
        """Two halves that only one node reaches both of, and it is torn from whomever it follows, again and again."""
        world = self.world
        ids = list(world.voters.ids)
        self.dice.shuffle(ids)
        bridge, rest = ids[0], ids[1:]
        half, other = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        before = len(self.undo)
        self._cut([pair for a in half for b in other for pair in ((a, b), (b, a))])
        number = self.count
        assert len(self.undo) == before + 1

        def tear() -> None:
            if number not in self.undo:
                return
            process = world.processes[bridge]
            leader = None if process is None else process.node.peer.phase.leader
            if leader is not None and leader.peer != bridge:
                world.network.reset(bridge, leader.peer)
            wait = 4 * (world.plan.weather.delay + world.plan.sync_ms)
            world.later(wait * (0.3 + 2 * self.dice.random()), tear)

        tear()

    def _break(self) -> None:
        network = self.world.network
        connections = list(network.connections.values())
        if connections:
            network.break_link(self.dice.choice(connections), "reset")

    def _deafen(self) -> None:
        ids = self.world.voters.ids
        listener = self._any()
        off = {(listener, peer) for peer in ids if peer != listener and self.dice.random() < 0.7}
        network = self.world.network
        network.pub_off |= off
        self._for_a_while(lambda: network.pub_off.difference_update(off))
