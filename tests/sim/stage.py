"""A world without dice: no faults and no clients of its own, for schedules directed step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msgspec import Raw

from zabzmq.core.messages import Phase
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.machine.operations import GameQuery, encode
from zabzmq.net.client_wire import ClientReply, ReadMany, RegisterSession
from zabzmq.sim.plan import Plan
from zabzmq.sim.world import FromClient, Process, World

STEP = 0.02
PATIENCE = 20_000.0


class Stage:
    """Three nodes, or more, that do what they are told."""

    def __init__(self, nodes: int = 3, seed: int = 1, timing: Timing | None = None, **about: Any) -> None:
        timing = timing or Timing(bootstrap_wait=50)
        plan = replace(Plan(nodes=nodes, clients=1, operations=0, timing=timing), **about)
        self.world = World(seed, nodes, plan)
        self.peers = list(self.world.voters.ids)
        self.answers: list[ClientReply] = []
        self.world.reply = lambda host, address, message: self.answers.append(message)  # type: ignore[method-assign]

    def __getitem__(self, peer: PeerId) -> Process:
        process = self.world.processes[peer]
        assert process is not None, f"{peer} is down"
        return process

    def start(self, *peers: PeerId) -> None:
        for peer in peers or self.peers:
            self.world.start(peer)

    def until(self, what: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Let time pass until this is so."""
        world = self.world
        deadline = world.now + patience
        while not what():
            assert not world.violations, world.violations
            assert world.now < deadline, f"never came to be: {world._what_is_wrong()}"
            world.run_until(world.now + STEP)

    def play(self, ms: float) -> bool:
        """Let time pass. Whether no promise was broken."""
        return self.world.run_until(self.world.now + ms)

    def established(self, *among: PeerId) -> PeerId | None:
        for peer in among or self.peers:
            process = self.world.processes[peer]
            if process is not None and process.node.peer.is_established:
                return peer
        return None

    def leader(self) -> PeerId:
        """Wait until one is established and all that live follow it."""

        def settled() -> bool:
            living = [process for process in self.world.processes.values() if process is not None]
            phases = {process.node.peer.phase.phase for process in living}
            return self.established() is not None and phases == {Phase.BROADCAST}

        self.until(settled)
        leader = self.established()
        assert leader is not None
        return leader

    def write(self, peer: PeerId) -> None:
        """One transaction, proposed by this leader; nobody waits for it."""
        self[peer].hear(FromClient(b"c0", RegisterSession(10_000, "director", 60_000)))

    def read(self, peer: PeerId) -> None:
        """A linearizable read, asked here; its answer comes to `answers`."""
        request = ReadMany(20_000, True, Zxid(0, 0), 60_000, Raw(encode([GameQuery()])))
        self[peer].hear(FromClient(b"c0", request))

    def commit(self, leader: PeerId, count: int = 1) -> Zxid:
        """Transactions that all living nodes hold and have applied."""
        for _ in range(count):
            before = self[leader].node.peer.history.last
            self.write(leader)
            self.until(lambda before=before: self[leader].node.peer.history.last > before)  # type: ignore[misc]
        last = self[leader].node.peer.history.last
        living = [process for process in self.world.processes.values() if process is not None]
        self.until(lambda: all(process.state.applied == last for process in living))
        return last

    def cut(self, peer: PeerId, on: bool = True) -> None:
        """Nothing passes between this peer and the others, either way."""
        for other in self.peers:
            if other != peer:
                self.world.network.set_cut(peer, other, on)
                self.world.network.set_cut(other, peer, on)

    def power_off(self, *peers: PeerId) -> None:
        for peer in peers:
            self.world.crash(peer, power=True)

    def synced(self, peer: PeerId) -> Zxid:
        return self.world.platters[peer].synced_last
