"""A seed in, a schedule out: real nodes in a simulated world of network, disks, clients and faults.

Everything that happens is an act in one heap, in order of virtual time; all chance comes from one Random. So a seed
fixes the whole run, whatever machine and PYTHONHASHSEED.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Any, NamedTuple

from zabzmq.core.effects import Effect
from zabzmq.core.errors import ZabError
from zabzmq.core.history import Batch
from zabzmq.core.inputs import Input, Resumed, SnapshotTaken
from zabzmq.core.invariants import InvariantViolation, monotonic_reads
from zabzmq.core.messages import Phase
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid
from zabzmq.machine.operations import Result, SessionId
from zabzmq.machine.state import AppliedRun, ReplicatedState
from zabzmq.net.client_wire import ClientReply, ClientRequest, Committed
from zabzmq.net.link import Links
from zabzmq.server.node import Node
from zabzmq.server.service import Limits, Service
from zabzmq.sim.acts import Act
from zabzmq.sim.clients import SimClient
from zabzmq.sim.disk import Platter, SimDisk
from zabzmq.sim.faults import Faults, Script
from zabzmq.sim.network import CLEAR, Network, SimTransport
from zabzmq.sim.plan import MESSAGES_MIN, Plan, draw
from zabzmq.sim.show import show
from zabzmq.sim.watcher import Watcher
from zabzmq.trace.checker import Call, check_history

SETTLE_MS = 30_000.0
"""Virtual time within which all must be well again after the last fault."""
CLIENT_DELAY = 0.3


class WatchedPeer(Peer):
    """A peer whose every step is shown to the watcher before its effects are performed."""

    watch: Callable[[Peer, Input | None, list[Effect]], None]

    def start(self, now: float) -> list[Effect]:
        effects = Peer.start(self, now)
        self.watch(self, None, effects)
        return effects

    def step(self, now: float, event: Input) -> list[Effect]:
        effects = Peer.step(self, now, event)
        self.watch(self, event, effects)
        return effects


class WatchedState(ReplicatedState):
    """A state whose every change is shown to the watcher."""

    watcher: Watcher
    peer: PeerId

    def apply(self, batch: Batch) -> list[AppliedRun]:
        runs = super().apply(batch)
        self.watcher.on_applied(self.peer, batch, runs, self.digest)
        return runs

    def restore(self, data: bytes) -> None:
        super().restore(data)
        self.watcher.on_digest(self.peer, self.applied, self.digest)


class WorldClock:
    """The Clock port. Every node has the same time; no rule may depend on that."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> float:
        return self.world.now

    def wall_ms(self) -> int:
        return int(self.world.now)


class FromClient(NamedTuple):
    """A client's request, in a node's inbox."""

    client: bytes
    request: ClientRequest


class Process:
    """One run of one node: what the operating system would call a process, with its turns."""

    def __init__(self, world: World, process: ProcessId) -> None:
        plan, platter = world.plan, world.platters[process.peer]
        self.world = world
        self.process = process
        self.turn_ms = plan.turn_ms
        self.links = Links(process)
        self.inbox: deque[Input | FromClient] = deque()
        self.paused_at: float | None = None
        self.in_turn = False
        self.busy_until = 0.0
        self.turn_queued = False
        self.tick_at = inf
        self.dead = False
        self.disk = SimDisk(platter, world.dice, world.later, self.hear, plan.sync_ms, plan.slow_sync)
        self.disk.on_synced = lambda: world.watcher.on_synced(process.peer)
        self.disk.on_error = lambda: world._on_disk_error(process.peer)
        self.transport = SimTransport(world.network, self, self._reply, world.on_committed)
        peer = WatchedPeer(process, world.voters, platter.history.copy(), platter.epochs, world.dice, plan.timing)
        peer.watch = world.watcher.on_step if world.tell is None else world.on_step
        self.state = WatchedState()
        self.state.watcher, self.state.peer = world.watcher, process.peer
        service = Service(
            node=process.peer,
            cluster="sim",
            endpoints={},
            state=self.state,
            status=lambda rid: self.node.status(rid),  # noqa: PLW0108 (there is no node yet)
            batches=self.disk.batches,
            near=self.disk.near,
            base=lambda: self.node.peer.history.base,
            limits=Limits(batch_ops=plan.batch_ops),
        )
        self.node: Node = Node(
            peer, self.state, service, self.transport, self.disk, world.clock, None, snapshot_txns=plan.snapshot_txns
        )

    def _reply(self, client: bytes, message: ClientReply) -> None:
        self.world.reply(self, client, message)

    def hear(self, event: Input | FromClient) -> None:
        """Something has come: it is dealt with in the next turn, which may be now."""
        self.inbox.append(event)
        if self.in_turn or self.turn_queued or self.paused_at is not None or self.dead:
            return
        now = self.world.now
        if now >= self.busy_until:
            self.turn()
        else:
            self.turn_queued = True
            self.world.later(self.busy_until - now, self._queued_turn)

    def _queued_turn(self) -> None:
        self.turn_queued = False
        self.turn()

    def turn(self) -> None:
        """Take all that has come, then flush: what the loop of a server does (F5: timers after the inbox)."""
        if self.dead or self.paused_at is not None or self.in_turn:
            return
        self.in_turn = True
        world, node, inbox = self.world, self.node, self.inbox
        try:
            while True:
                while inbox:
                    event = inbox.popleft()
                    if type(event) is FromClient:
                        node.on_client(event.client, event.request)
                        continue
                    if type(event) is SnapshotTaken:
                        world.watcher.on_snapshot_taken(self.process.peer, event.zxid)
                    node.handle(event)  # type: ignore[arg-type]
                node.flush()
                if not inbox:  # what a flush asks of the disk may be answered at once
                    break
        except Exception as error:
            world.watcher.on_error(error, f"node {self.process.peer}")
        self.in_turn = False
        if node.failed is not None:
            world.on_failed(self, node.failed)
            return
        now = world.now
        self.busy_until = now + self.turn_ms * (0.5 + world.dice.random())
        deadline = node.next_deadline
        if deadline < self.tick_at:
            self._set_alarm(deadline, now)

    def _set_alarm(self, deadline: float, now: float) -> None:
        self.tick_at = max(deadline, now + 0.01)
        self.world.later(self.tick_at - now, self._alarm, self.tick_at)

    def _alarm(self, at: float) -> None:
        if at != self.tick_at or self.dead:
            return
        self.tick_at = inf
        if self.paused_at is not None:
            return
        deadline, now = self.node.next_deadline, self.world.now
        if deadline > now:
            self._set_alarm(deadline, now)
        else:
            self.turn()

    # ---- faults

    def pause(self) -> None:
        """SIGSTOP."""
        if self.paused_at is None:
            self.paused_at = self.world.now

    def resume(self) -> None:
        """SIGCONT. What has piled up is read first; only then is it known that time went by (F5)."""
        if self.paused_at is None or self.dead:
            return
        slept = self.world.now - self.paused_at
        self.paused_at = None
        if slept > self.world.plan.timing.peer_timeout / 2:
            self.inbox.append(Resumed())
        self.tick_at = inf
        self.turn()


class World:
    """One schedule. `run()` plays it to its end; `violations` are what it broke."""

    def __init__(
        self,
        seed: int,
        nodes: int = 5,
        plan: Plan | None = None,
        tell: Callable[[str], None] | None = None,
        acts: tuple[Act, ...] | None = None,
    ) -> None:
        self.seed = seed
        # Three dice, so that one schedule can be played again with its faults written down (acts) or its plan changed.
        self.dice = Random(4 * seed + 1)
        self.plan = plan or draw(Random(4 * seed), nodes)
        self.tell = tell  # one line per thing that happens, for people; None is fast
        self.now = 0.0
        self.clock = WorldClock(self)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._acts = 0
        ids = tuple(PeerId(i) for i in range(self.plan.nodes))
        self.voters = Voters(ids)
        self.platters = {peer: Platter(self._new_life()) for peer in ids}
        self.processes: dict[PeerId, Process | None] = dict.fromkeys(ids)
        self.watcher = Watcher(self.voters, self.platters)
        self.watcher.leader_of = self._leader_of
        self.watcher.excused = self._excused
        self.watcher.moved = lambda peer, move: self.faults.on_moved(peer, move)  # noqa: PLW0108 (made below)
        self.network = Network(self, ids, self.plan.weather)
        self.faults: Faults | Script = Faults(self, Random(4 * seed + 2)) if acts is None else Script(self, acts)
        self.clients = [
            SimClient(self, i, ids, self.plan.operations, self.plan.window, self.plan.keys, self.plan.think)
            for i in range(self.plan.clients)
        ]
        self.crashes: Counter[str] = Counter()
        self.calm = False  # faults are over

    @property
    def violations(self) -> list[InvariantViolation]:
        return self.watcher.violations

    # ---- time ----------------------------------------------------------------------------------------------------

    def later(self, delay: float, act: Callable[..., None], *about: Any) -> None:
        """`act(*about)` after `delay` ms."""
        self._acts = number = self._acts + 1
        heappush(self._heap, (self.now + delay, number, act, about))

    def run_until(self, at: float) -> bool:
        """Let time pass. Whether nothing was broken on the way."""
        heap, violations = self._heap, self.watcher.violations
        try:
            while heap and heap[0][0] <= at:
                self.now, _, act, about = heappop(heap)
                act(*about)
                if violations:
                    return False
        except ZabError as error:
            self.watcher.on_error(error, "outside of a turn")
            return False
        self.now = max(self.now, at)
        return True

    def run(self) -> None:
        """Start all, let faults happen, stop them, and wait until all is well again."""
        plan = self.plan
        for peer in self.voters.ids:
            self.later(plan.timing.bootstrap_wait * self.dice.random(), self.start, peer)
        for client in self.clients:
            self.later(200 + 100 * self.dice.random(), client.start)
        self.later(plan.first_fault, self.faults.begin)
        if not self.run_until(plan.first_fault + plan.fault_ms):
            return
        self.heal()
        deadline = self.now + SETTLE_MS
        while not self._is_well():
            if self.now >= deadline:
                self.violations.append(InvariantViolation("Liveness", self._what_is_wrong()))
                return
            if not self.run_until(self.now + 20):
                return
        while self.network.delivered < MESSAGES_MIN and plan.nodes > 1:
            if not self.run_until(self.now + 20):
                return
        verdict = check_history(self.record(), steps_max=100_000)
        if not verdict.ok:
            self.violations.append(InvariantViolation("Linearizability", str(verdict)))

    def record(self) -> list[Call]:
        for client in self.clients:
            client.close()
        return [call for client in self.clients for call in client.record]

    def heal(self) -> None:
        """No more faults: everything is connected, awake and running."""
        self.calm = True
        self.say("faults end")
        self.network.weather = CLEAR
        self.faults.end()
        for peer in self.voters.ids:
            if self.processes[peer] is None:
                self.later(20 * self.dice.random(), self.start, peer)

    def _is_well(self) -> bool:
        """Clients answered, one leader, all others following it up to date, equal states."""
        if not all(client.done for client in self.clients):
            return False
        states = set()
        leaders = 0
        for process in self.processes.values():
            if process is None or process.node.peer.phase.phase is not Phase.BROADCAST:
                return False
            leaders += process.node.peer.is_established
            if not process.node.peer.epochs.joined or process.state.applied != process.node.peer.history.last:
                return False
            states.add((process.state.applied, process.state.digest))
        return leaders == 1 and len(states) == 1

    def _what_is_wrong(self) -> str:
        wrong = [f"client {c.index} waits for {sorted(c.pending)} {len(c.reads)}" for c in self.clients if not c.done]
        for peer, process in self.processes.items():
            if process is None:
                wrong.append(f"{peer} is down")
            else:
                p = process.node.peer
                wrong.append(
                    f"{peer} {p.phase.state.name} {p.phase.phase.name} epoch {p.phase.epoch} applied "
                    f"{process.state.applied} of {p.history.last} digest {process.state.digest:x} {p.epochs}"
                )
        return f"not well {SETTLE_MS:.0f} ms after the last fault: " + "; ".join(wrong)

    # ---- processes -----------------------------------------------------------------------------------------------

    def _new_life(self) -> int:
        return self.dice.getrandbits(48)

    def start(self, peer: PeerId) -> None:
        if self.processes[peer] is not None:
            return
        platter = self.platters[peer]
        platter.recover()
        process = ProcessId(peer, platter.life, platter.incarnation)
        self.say(f"node {peer} starts as {show(process)}, {show(platter.epochs)}, history to {platter.log.last}")
        self.watcher.on_start(process)
        self.watcher.on_synced(peer)
        host = self.processes[peer] = Process(self, process)
        host.in_turn = True
        try:
            host.node.start()
        except Exception as error:
            self.watcher.on_error(error, f"node {peer} starting")
            return
        host.in_turn = False
        self.network.started(host)
        host.turn()

    def crash(self, peer: PeerId, power: bool, why: str = "") -> None:
        """The process is gone; `power`: and its page cache with it. A power cut also takes what a kill left behind."""
        host = self.processes[peer]
        platter = self.platters[peer]
        if host is None:
            if power:
                platter.lose_power()
                self.watcher.on_synced(peer)
            return
        phase = host.node.peer.phase
        self.crashes[phase.phase.name] += 1
        self.say(f"node {peer} {'loses power' if power else 'is killed'} in {phase.state.name} {phase.phase.name}")
        host.dead = True
        self.processes[peer] = None
        self.network.died(host)
        host.disk.crash(power)
        self.watcher.on_crash(peer)

    def wipe(self, peer: PeerId, replacement: Platter | None = None) -> Platter:
        """A new, empty disk, or the one given; returns the old one. The process must be down."""
        assert self.processes[peer] is None
        old = self.platters[peer]
        old.lose_power()
        self.platters[peer] = replacement or Platter(self._new_life())
        self.say(f"node {peer} is wiped" if replacement is None else f"node {peer} gets an old disk back")
        self.watcher.on_wipe(peer, old)
        return old

    def on_failed(self, host: Process, why: str) -> None:
        """A node has stopped itself: as it should when its disk stands still, and else never."""
        peer = host.process.peer
        self.say(f"node {peer} stops: {why}")
        if not self._excused(peer, why):
            self.violations.append(InvariantViolation("CheckDuringAction", f"node {peer} stops: {why}"))
        self.crash(peer, power=False)
        self._restart_later(peer)

    def _restart_later(self, peer: PeerId) -> None:
        """What its supervisor does."""
        self.later(self.plan.down_ms * (0.1 + 1.8 * self.dice.random()), self.start, peer)

    def _excused(self, peer: PeerId, why: str) -> bool:
        return "has not finished a write" in why

    def _on_disk_error(self, peer: PeerId) -> None:
        """L14: the process ends. What the kernel made of the pages of that write nobody knows."""
        self.say(f"node {peer}: a write has failed")
        self.crash(peer, power=True)
        self._restart_later(peer)

    def _leader_of(self, link: LinkId) -> ProcessId | None:
        connection = self.network.connections.get(link)
        return None if connection is None else connection.hosts[1].process

    # ---- what is seen --------------------------------------------------------------------------------------------

    def on_step(self, peer: Peer, event: Input | None, effects: list[Effect]) -> None:
        self.watcher.on_step(peer, event, effects)
        if self.tell is not None:
            self.tell(f"{self.now:10.3f} {peer.id} {show(event)}")
            for done in effects:
                self.tell(f"{'':10} {peer.id}   -> {show(done)}")

    def say(self, what: str) -> None:
        if self.tell is not None:
            self.tell(f"{self.now:10.3f} * {what}")

    def on_committed(self, committed: Committed) -> None:
        """What monitors are sent: it must have been delivered."""
        if Zxid(*committed.first) not in self.watcher.places:
            text = f"{committed.first} is published to monitors and was not delivered"
            self.violations.append(InvariantViolation("Integrity", text))

    # ---- clients -------------------------------------------------------------------------------------------------

    def ask(self, client: SimClient, node: PeerId, request: ClientRequest) -> None:
        """A request on its way to a node; partitions are between nodes, clients reach them all."""
        dice = self.dice
        if not self.calm and dice.random() < 0.01:
            return

        self.later(
            CLIENT_DELAY * (0.5 + dice.random()), self._request_arrives, node, FromClient(client.address, request)
        )

    def _request_arrives(self, node: PeerId, asked: FromClient) -> None:
        host = self.processes[node]
        if host is not None:
            host.hear(asked)

    def reply(self, host: Process, address: bytes, message: ClientReply) -> None:
        if not self.calm and self.dice.random() < 0.01:
            return
        client = self.clients[int(address[1:])]
        node = host.process.peer
        if self.tell is not None:
            self.say(f"node {node} answers client {client.index}: {show(message)}")
        self.later(CLIENT_DELAY * (0.5 + self.dice.random()), client.hear, node, message)

    def place(self, session: SessionId, seq: int) -> Zxid | None:
        """Where this operation took effect, if it did: an order for the linearizability check to try first."""
        return self.watcher.applied_at.get((Zxid(*session), seq))

    def told(self, node: PeerId, session: Zxid, seq: int, results: list[Result]) -> None:
        self.watcher.on_done(node, session, seq, results)

    def read_told(self, node: PeerId, min_zxid: Zxid, zxid: Zxid) -> None:
        self.watcher.check(monotonic_reads, min_zxid, zxid, node)


def play(seed: int, nodes: int = 5) -> World:
    """Run the schedule of one seed to its end."""
    world = World(seed, nodes)
    world.run()
    return world
