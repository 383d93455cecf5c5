"""All link graphs of five nodes, each of the ten pairs connected or not: python -m tests.sim.graphs [FROM TO]

Five nodes are up and agree; then only the links of one graph are left, and those of the leader are made anew. Nothing
may break a promise, and if some majority is connected pair by pair, somebody should lead and commit within the given
time. `sweep` runs graphs by number, bit i being pair i.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

from tests.sim.stage import Stage
from zabzmq.core.zxid import PeerId, Zxid

NODES = 5
PAIRS = list(combinations(range(NODES), 2))
PATIENCE = 10_000.0
"""More than two seconds: a vote may have to be given up first."""


class Outcome(NamedTuple):
    graph: int
    clique: bool  # a majority is connected pair by pair
    star: bool  # somebody reaches a majority
    committed_after: float | None
    violations: tuple[str, ...]


def sweep(graphs: Iterable[int], patience: float = PATIENCE) -> Iterator[Outcome]:
    for graph in graphs:
        yield outcome(graph, patience)


def outcome(graph: int, patience: float) -> Outcome:
    on = Stage(NODES, seed=graph + 1)
    on.start()
    leader = on.leader()
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))
    on.commit(leader)
    links = {pair for i, pair in enumerate(PAIRS) if graph >> i & 1}
    for a, b in PAIRS:
        if (a, b) not in links:
            on.world.network.break_links(PeerId(a), PeerId(b))
            on.world.network.set_cut(PeerId(a), PeerId(b), on=True)
            on.world.network.set_cut(PeerId(b), PeerId(a), on=True)
    for other in on.peers:
        if other != leader:  # Whoever led must be elected again.
            on.world.network.reset(leader, other)
    began = on.world.now
    on.play(on.world.plan.timing.peer_timeout)  # F2: who lost its quorum has noticed
    committed = None
    before = on.world.watcher.committed[-1].last
    while on.world.now - began < patience and not on.world.violations:
        now_leading = on.established()
        if now_leading is not None and on[now_leading].node.peer.history.last == _committed(on):
            on.write(now_leading)
        on.play(20)
        if _committed(on) > before:
            committed = on.world.now - began
            break
    majority = NODES // 2 + 1
    clique = any(all(pair in links for pair in combinations(some, 2)) for some in combinations(range(NODES), majority))
    star = any(sum(node in pair for pair in links) + 1 >= majority for node in range(NODES))
    return Outcome(graph, clique, star, committed, tuple(str(v) for v in on.world.violations))


def _committed(on: Stage) -> Zxid:
    return on.world.watcher.committed[-1].last


def main() -> int:
    low, high = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0, 1 << len(PAIRS))
    found = []
    for one in sweep(range(low, high)):
        found.append(one)
        if one.violations or (one.clique and one.committed_after is None):
            print(f"graph {one.graph:4} {one}", flush=True)
    for name, some in (
        ("a majority connected pair by pair", [o for o in found if o.clique]),
        ("only a node that reaches a majority", [o for o in found if o.star and not o.clique]),
        ("neither", [o for o in found if not o.star]),
    ):
        times = sorted(o.committed_after for o in some if o.committed_after is not None)
        slowest = f", the slowest after {times[-1]:.0f} ms" if times else ""
        print(f"{name}: {len(some)} graphs, {len(times)} committed{slowest}")
    broken = sum(bool(o.violations) for o in found)
    print(f"{len(found)} graphs, {broken} with a broken promise")
    return int(broken > 0 or any(o.clique and o.committed_after is None for o in found))


if __name__ == "__main__":
    sys.exit(main())
