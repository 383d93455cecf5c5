"""Which faults happen when, drawn while a schedule runs: each becomes acts (acts.py), done and later undone."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from zabzmq.core.effects import Moved
from zabzmq.core.messages import Phase
from zabzmq.core.zxid import PeerId
from zabzmq.sim.acts import Act, Hands
from zabzmq.sim.plan import Fault

if TYPE_CHECKING:
    from zabzmq.sim.world import World

Pairs = list[list[int]]


class Script:
    """A list of acts, each at its time: a schedule that was recorded, or written by hand."""

    def __init__(self, world: World, acts: tuple[Act, ...]) -> None:
        self.world = world
        self.hands = Hands(world)
        self.on = True
        for act in acts:
            world.later(act.at, self._play, act)

    def begin(self) -> None:
        pass

    def end(self) -> None:
        self.on = False
        self.hands.undo_all()

    def on_moved(self, peer: PeerId, move: Moved) -> None:
        pass

    def _play(self, act: Act) -> None:
        if self.on:
            self.hands.do(act.do, *act.about)


class Faults:
    """Draws a fault, does it, plans its end, waits, and again. Its dice are its own, so a Script can replace it."""

    def __init__(self, world: World, dice: Random) -> None:
        self.world = world
        self.dice = dice
        self.hands = Hands(world)
        self.on = False
        self.trap: Phase | None = None  # the next to enter it dies in it
        self._do: dict[Fault, Callable[[], None]] = {
            Fault.KILL: lambda: self._crash(self._any(), power=False),
            Fault.POWER: lambda: self._crash(self._any(), power=True),
            Fault.LEADER: lambda: self._crash(self._leader(), power=self.dice.random() < 0.3),
            Fault.PHASE: self._set_trap,
            Fault.BLACKOUT: self._blackout,
            Fault.PAUSE: lambda: self._while("pause", "resume", self._leader() if self._tossed(0.5) else self._any()),
            Fault.STALL: lambda: self._while("stall", "release", self._leader() if self._tossed(0.4) else self._any()),
            Fault.EIO: lambda: self.hands.do("fail write", self._any()),
            Fault.FULL: lambda: self._while("fill", "empty", self._leader() if self._tossed(0.4) else self._any()),
            Fault.PARTITION: self._partition,
            Fault.ISOLATE: self._isolate,
            Fault.ONE_WAY: self._one_way,
            Fault.GRAPH: self._graph,
            Fault.RING: self._ring,
            Fault.SWIZZLE: self._swizzle,
            Fault.BRIDGE: self._bridge,
            Fault.STORM: self._storm,
            Fault.BREAK: self._break,
            Fault.DEAF: self._deafen,
            Fault.WIPE: lambda: self._replace_disk("wipe"),
            Fault.SWAP: lambda: self._replace_disk("swap"),
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
        self.hands.undo_all()

    def _later(self, delay: float, name: str, *about: Any) -> None:
        self.world.later(delay, self._due, name, about)

    def _due(self, name: str, about: tuple[Any, ...]) -> None:
        if self.on:
            self.hands.do(name, *about)

    def _a_while(self) -> float:
        return self.world.plan.heal_ms * (0.2 + 1.6 * self.dice.random())

    def _while(self, do: str, undo: str, *about: Any) -> None:
        self.hands.do(do, *about)
        self._later(self._a_while(), undo, *about)

    def _tossed(self, chance: float) -> bool:
        return self.dice.random() < chance

    def _any(self) -> PeerId:
        return self.dice.choice(self.world.voters.ids)

    def _leader(self) -> PeerId:
        for peer, process in self.world.processes.items():
            if process is not None and process.node.peer.is_established:
                return peer
        return self._any()

    # ---- processes and machines

    def _crash(self, peer: PeerId, power: bool) -> None:
        self.hands.do("crash", peer, power)
        self._restart_later(peer)

    def _restart_later(self, peer: PeerId) -> None:
        self._later(self.world.plan.down_ms * (0.1 + 1.8 * self.dice.random()), "start", peer)

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
            if self.on and process is not None and process.node.peer.phase.phase is phase:
                self._crash(peer, power)

        self.world.later((2 * self.world.plan.weather.delay + 2 * self.world.plan.sync_ms) * self.dice.random(), spring)

    def _blackout(self) -> None:
        peers = list(self.world.voters.ids)
        for peer in self.dice.sample(peers, self.dice.randint(1, len(peers))):
            self._crash(peer, power=True)

    def _replace_disk(self, how: str) -> None:
        peer = self._any()
        self.hands.do(how, peer)
        self._restart_later(peer)

    # ---- network

    def _apart(self, a: int, b: int) -> Pairs:
        return [[a, b], [b, a]]

    def _cut(self, pairs: Pairs) -> None:
        if pairs:
            self._while("cut", "mend", pairs)

    def _split(self, group: set[PeerId]) -> None:
        ids = self.world.voters.ids
        self._cut([[a, b] for a in ids for b in ids if a != b and (a in group) != (b in group)])

    def _partition(self) -> None:
        ids = list(self.world.voters.ids)
        self._split(set(self.dice.sample(ids, self.dice.randint(1, max(1, len(ids) // 2)))))

    def _isolate(self) -> None:
        leader = self._leader()
        self._split({leader})
        if self._tossed(0.5):
            # And its connections are reset, so that the others do not wait for time-outs.
            for other in self.world.voters.ids:
                if other != leader:
                    self.hands.do("break", leader, other)

    def _one_way(self) -> None:
        ids = self.world.voters.ids
        pairs = [[int(a), int(b)] for a in ids for b in ids if a != b]
        self._cut(self.dice.sample(pairs, self.dice.randint(1, max(1, len(pairs) // 3))) if pairs else [])

    def _graph(self) -> None:
        """Any graph of links, each there or not in both directions."""
        ids = self.world.voters.ids
        pairs = [(a, b) for a in ids for b in ids if a < b and self._tossed(0.5)]
        self._cut([pair for a, b in pairs for pair in self._apart(a, b)])

    def _ring(self) -> None:
        """Everybody sees a majority, and no two the same one."""
        ids = list(self.world.voters.ids)
        self.dice.shuffle(ids)
        reach = len(ids) // 4 + 1 if len(ids) > 3 else 1  # to either side
        n = len(ids)
        far = [(i, j) for i in range(n) for j in range(i) if min(i - j, n - i + j) > reach]
        self._cut([pair for i, j in far for pair in self._apart(ids[i], ids[j])])

    def _swizzle(self) -> None:
        """Some nodes are cut off one by one, and come back one by one in another order."""
        ids = list(self.world.voters.ids)
        chosen = self.dice.sample(ids, self.dice.randint(1, len(ids)))
        step = self.world.plan.heal_ms / len(chosen)
        off = {peer: [p for o in ids if o != peer for p in self._apart(peer, o)] for peer in chosen}
        for place, peer in enumerate(chosen):
            self._later(place * step * (0.5 + self.dice.random()), "cut", off[peer])
        self.dice.shuffle(chosen)
        for place, peer in enumerate(chosen):
            self._later((len(chosen) + place) * step * (0.5 + self.dice.random()), "mend", off[peer])

    def _bridge(self) -> None:
        """Two halves that only one node reaches both of, and it is torn from whomever it follows, again and again."""
        world = self.world
        ids = list(world.voters.ids)
        self.dice.shuffle(ids)
        bridge, rest = ids[0], ids[1:]
        half, other = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        pairs = [pair for a in half for b in other for pair in self._apart(a, b)]
        until = world.now + self._a_while()
        self.hands.do("cut", pairs)
        self._later(until - world.now, "mend", pairs)

        def tear() -> None:
            if not self.on or world.now >= until:
                return
            process = world.processes[bridge]
            leader = None if process is None else process.node.peer.phase.leader
            if leader is not None and leader.peer != bridge:
                self.hands.do("reset", bridge, leader.peer)
            wait = 4 * (world.plan.weather.delay + world.plan.sync_ms)
            world.later(wait * (0.3 + 2 * self.dice.random()), tear)

        tear()

    def _storm(self) -> None:
        self.hands.do("storm", self._tossed(0.3))
        self._later(self._a_while(), "fair")

    def _break(self) -> None:
        connections = list(self.world.network.connections.values())
        if connections:
            ends = self.dice.choice(connections).hosts
            self.hands.do("break", ends[0].process.peer, ends[1].process.peer)

    def _deafen(self) -> None:
        listener = self._any()
        off = [int(peer) for peer in self.world.voters.ids if peer != listener and self._tossed(0.7)]
        self._while("deafen", "hear", listener, off)
