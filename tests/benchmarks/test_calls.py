"""How much Python one operation may cost. No clock: lines and calls are counted, so a busy machine changes nothing.

A bound is today's figure and a little more. Who goes over it for a good reason raises it, and says the reason there.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from msgspec import Raw

from tests.benchmarks.counting import Counting, per_operation
from tests.sim.stage import Stage
from zabzmq.client.call import Call
from zabzmq.client.session import Session
from zabzmq.core.timing import Timing
from zabzmq.machine.operations import Put, SessionId, encode
from zabzmq.net.client_wire import Done, Submit
from zabzmq.sim.plan import Plan
from zabzmq.sim.world import FromClient, World

BURST: Final = 256
NODES: Final = 5
VALUE: Final = b"x" * 128


class Quiet(Stage):
    """Five nodes, no faults, no snapshot while we count."""

    def __init__(self) -> None:
        plan = Plan(nodes=NODES, clients=1, operations=0, snapshot_txns=1 << 30, timing=Timing(bootstrap_wait=50))
        self.world = World(1, NODES, plan)
        self.peers = list(self.world.voters.ids)
        self.start()
        self._leader = self[self.leader()]
        registered = self.commit(self._leader.process.peer)
        self._session: SessionId = (registered.epoch, registered.counter)
        self._seq = 1

    def commit_burst(self, count: int) -> None:
        """Operations that a client sent in one message, committed and applied by all five nodes."""
        history = self._leader.node.peer.history
        target = history.last.counter + count
        ops = Raw(encode([Put(b"key-%d" % i, VALUE) for i in range(count)]))
        self._leader.hear(FromClient(b"c0", Submit(self._session, self._seq, self._seq - 1, 60_000, ops)))
        self._seq += count
        self.until(lambda: all(self[peer].state.applied.counter == target for peer in self.peers))


class Cost(NamedTuple):
    lines: dict[str, float]
    calls: dict[str, float]
    round_calls: int
    """Of a whole round of one operation."""


def cost(one: Counting, many: Counting) -> Cost:
    """Of each operation beyond the first."""
    more = BURST - 1
    return Cost(
        per_operation(one.lines, many.lines, more), per_operation(one.calls, many.calls, more), one.calls.total()
    )


@cache
def cost_of_nodes() -> Cost:
    counted = []
    for count in (1, BURST):
        quiet = Quiet()
        quiet.commit_burst(1)  # What happens only once has happened.
        with Counting() as counting:
            quiet.commit_burst(count)
        counted.append(counting)
    return cost(*counted)


@cache
def cost_of_client() -> Cost:
    """From calls in a session's hands to their outcomes."""
    counted = []
    for count in (1, BURST):
        session = Session("ann", None)
        session.identity = (1, 1)
        submitted = [Call(Put(b"key-%d" % i, VALUE), 0.0, 5_000.0) for i in range(count)]
        with Counting() as counting:
            session.take(submitted)
            session.submits(0.0)
            session.on_done(Done(0, (1, 1), 1, (1, 2), [0, 1, 2], Raw(encode([None] * count))), 0, 1.0)
        counted.append(counting)
    return cost(*counted)


def test_an_operation_of_a_burst_costs_five_nodes_only_its_application() -> None:
    """Opaque bytes everywhere else: a loop over the operations in any other place shows up here."""
    nodes = cost_of_nodes()
    assert {name for name, lines in nodes.lines.items() if lines > 0.5} == {"machine/kv.py apply"}, nodes.lines
    assert sum(nodes.lines.values()) < NODES * 9 + 1, nodes.lines
    assert sum(nodes.calls.values()) < NODES * 5 + 1, nodes.calls


def test_a_round_costs_five_nodes_a_bounded_number_of_calls() -> None:
    assert cost_of_nodes().round_calls < 1_850


def test_an_operation_costs_its_client_a_bounded_number_of_lines_and_calls() -> None:
    client = cost_of_client()
    assert sum(client.lines.values()) < 21 + 1, client.lines
    assert sum(client.calls.values()) < 1 + 1, client.calls


def test_the_same_work_costs_the_same_every_time() -> None:
    first = cost_of_nodes()
    cost_of_nodes.cache_clear()
    assert cost_of_nodes() == first
