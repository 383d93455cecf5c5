"""Traces that the simulator's nodes tell: the real core under drawn schedules, with the observer of a real node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from zabzmq.core.lamport import Lamport
from zabzmq.sim.world import Process, World
from zabzmq.trace.event import EventObserver
from zabzmq.trace.reading import Event, parse

LAMPORT = "one clock for all nodes is a Lamport clock, for they take turns"


@contextmanager
def observed(*, watched: bool = True) -> Iterator[list[EventObserver]]:
    """Every process that is started in here tells events; ask `events_of` for them."""
    observers: list[EventObserver] = []
    clock = Lamport()
    made = Process.__init__

    def observe(host: Process, world: World, process: object) -> None:
        made(host, world, process)  # type: ignore[arg-type]
        told: list[str] = []
        observer = EventObserver(host.process, told.append, lambda line: None, lambda now: "", lamport=clock)
        observer.is_watched = lambda: watched
        observer.told = told  # type: ignore[attr-defined]
        peer = host.node.peer
        observer.watch(peer, host.state.game_status)
        history, epochs = peer.history, peer.epochs
        observer.boot_event(
            world.now,
            "",
            voters=list(world.voters.ids),
            z=history.last,
            snapshot=history.snapshot,
            accepted=epochs.accepted,
            current=epochs.current,
            joined=epochs.joined,
        )
        host.node.observer = observer
        observers.append(observer)

    with patch.object(Process, "__init__", observe):
        yield observers


def events_of(observers: list[EventObserver]) -> list[Event]:
    """In the order in which it happened."""
    found = []
    for observer in observers:
        observer.settle()
        found += [parse(line.encode()) for line in observer.told]  # type: ignore[attr-defined]
    return sorted(found, key=lambda event: (event.lc, event.n, event.seq))


def trace_of(seed: int, nodes: int = 3, *, watched: bool = True) -> list[Event]:
    with observed(watched=watched) as observers:
        World(seed, nodes).run()
    return events_of(observers)
