"""What a seed draws before a schedule begins: which faults are on and how hard, how many clients, which bounds.

Swarm testing: a schedule in which few kinds of fault happen often finds what one with a little of everything does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from random import Random

from zabzmq.core.timing import Timing
from zabzmq.sim.network import Weather

MESSAGES_MIN = 500
"""Delivered messages below which a schedule goes on after all is well again."""


class Fault(Enum):
    """What is done to the ensemble from time to time."""

    KILL = "kill"  # one process dies, its page cache lives on
    POWER = "power"  # one machine loses power
    LEADER = "leader"  # the leader is killed
    PHASE = "phase"  # somebody dies in a phase drawn beforehand
    BLACKOUT = "blackout"  # several machines lose power at once
    PAUSE = "pause"  # SIGSTOP, SIGCONT
    STALL = "stall"  # a disk finishes nothing for a while
    EIO = "eio"  # a write fails, and the process with it (L14)
    FULL = "full"  # a disk has no room for a while (L15)
    PARTITION = "partition"
    ISOLATE = "isolate"  # the leader hears nobody, and clients still reach it
    ONE_WAY = "one way"
    GRAPH = "graph"  # any graph of links
    RING = "ring"  # everybody sees another majority
    SWIZZLE = "swizzle"  # cut off one by one, mended in another order
    BRIDGE = "bridge"  # one node between two halves changes sides all the time
    STORM = "storm"  # 40 % loss, 50 % duplication
    BREAK = "break"  # one link breaks
    DEAF = "deaf"  # a SUB loses one publisher
    WIPE = "wipe"  # a machine comes back with an empty disk
    SWAP = "swap"  # a machine that was wiped gets its old disk back


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule, but for the dice that are thrown while it runs. Durations in ms."""

    nodes: int = 5
    weather: Weather = field(default_factory=Weather)
    faults: tuple[Fault, ...] = ()
    pause_between: float = 200.0  # mean time between two faults
    fault_ms: float = 1500.0  # how long faults go on
    first_fault: float = 350.0
    down_ms: float = 150.0  # mean time a dead process stays dead
    heal_ms: float = 300.0  # mean length of a partition, pause or stall
    turn_ms: float = 0.05  # least time between two turns of a node
    sync_ms: float = 0.5
    slow_sync: float = 0.02
    clients: int = 3
    operations: int = 30  # of each client
    window: int = 8
    keys: int = 4
    think: float = 60.0
    snapshot_txns: int = 40
    batch_ops: int = 16_384
    timing: Timing = field(default_factory=Timing)


def draw(dice: Random, nodes: int) -> Plan:
    """The plan of one seed. Everything comes from `dice`."""

    def chance(p: float, low: float, high: float) -> float:
        return low + (high - low) * dice.random() if dice.random() < p else 0.0

    weather = Weather(
        delay=dice.choice((0.2, 0.5, 1.0, 3.0)),
        slow=chance(0.5, 0.005, 0.1),
        slow_by=dice.choice((10.0, 40.0, 100.0)),
        vote_loss=chance(0.4, 0.02, 0.3),
        vote_twice=chance(0.3, 0.02, 0.2),
        pub_loss=chance(0.4, 0.02, 0.3),
        pub_twice=chance(0.3, 0.02, 0.2),
        link_loss=chance(0.3, 0.001, 0.02),
        link_twice=chance(0.15, 0.001, 0.01),
        link_break=chance(0.35, 0.001, 0.02),
        stale=chance(0.3, 0.1, 0.5),
        silent_death=chance(0.3, 0.1, 0.6),
    )
    kinds = list(Fault)
    faults = tuple(dice.sample(kinds, dice.randint(2, 7)))
    if Fault.SWAP in faults and Fault.WIPE not in faults:
        faults += (Fault.WIPE,)
    if nodes <= 2:
        faults = tuple(kind for kind in faults if kind not in (Fault.WIPE, Fault.SWAP)) or (Fault.KILL,)
    hb = dice.choice((50.0, 60.0, 90.0))
    peer_timeout = hb * dice.choice((8.4, 10.0))
    if dice.random() < 0.15:
        # Two candidates at a time, for long, over slow disks: what V1, V2 and S7 are about.
        faults = (Fault.BRIDGE, Fault.BRIDGE, dice.choice((Fault.LEADER, Fault.KILL, Fault.POWER, Fault.STALL)))
        pause_between, heal_ms, first_fault = 120.0, 700.0, dice.choice((0.0, 300.0))
        sync_ms, slow_sync = 4.0, 0.3
    else:
        pause_between, heal_ms = dice.choice((60.0, 120.0, 250.0)), dice.choice((80.0, 250.0, 700.0))
        first_fault = dice.choice((0.0, 150.0, 300.0, 400.0))
        sync_ms, slow_sync = dice.choice((0.2, 1.0, 4.0)), chance(0.5, 0.01, 0.15)
    few_counters = dice.random() < 0.12  # B9; a batch must fit into an epoch
    window = 3 if few_counters else dice.choice((3, 8, 16))
    discovery_timeout = dice.choice((500.0, 2000.0))
    timing = Timing(
        hb_interval=hb,
        peer_timeout=peer_timeout,
        quorum_timeout=peer_timeout * 0.8,
        idle_hb_interval=dice.choice((300.0, 500.0)),
        finalize_wait=dice.choice((5.0, 20.0)),
        discovery_timeout=discovery_timeout,
        backoff_min=min(50.0, discovery_timeout / 20),
        backoff_max=discovery_timeout / 5,
        sync_progress_timeout=dice.choice((600.0, 2000.0)),
        disk_stall=dice.choice((300.0, 1000.0)),
        bootstrap_wait=dice.choice((100.0, 300.0)),
        deposed_by_epoch_min=dice.choice((500.0, 3000.0)),
        max_counter=dice.choice((20, 50)) if few_counters else (1 << 64) - 2,
        max_outstanding=dice.choice((20, 100)) if dice.random() < 0.2 else 65_536,
        window_bytes=dice.choice((300, 2000)) if dice.random() < 0.3 else 16 << 20,
        chunk_bytes=dice.choice((200, 1000)) if dice.random() < 0.5 else 1 << 20,
        snapshot_window_bytes=dice.choice((400, 2000)) if dice.random() < 0.5 else 4 << 20,
    )
    return Plan(
        nodes=nodes,
        weather=weather,
        faults=faults,
        pause_between=pause_between,
        fault_ms=150.0 + 350.0 * dice.random(),
        first_fault=first_fault,
        down_ms=dice.choice((20.0, 100.0, 300.0)),
        heal_ms=heal_ms,
        turn_ms=dice.choice((0.1, 0.6, 2.0)),
        sync_ms=sync_ms,
        slow_sync=slow_sync,
        clients=dice.randint(2, 3),
        operations=dice.choice((20, 30, 42)),
        window=window,
        keys=dice.choice((1, 3, 6)),
        think=dice.choice((10.0, 40.0, 90.0)),
        snapshot_txns=dice.choice((8, 15, 30, 1000)),
        batch_ops=6 if few_counters else dice.choice((3, 20, 16_384)),
        timing=timing,
    )
