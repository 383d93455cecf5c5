"""A leader that is heard by all and hears nobody, over links and clocks as they are."""

from __future__ import annotations

import pytest

from tests.mutants.inplace import breakage
from tests.sim.stage import Stage
from zabzmq.core.timing import Timing


def silence(nodes: int, seed: int) -> float:
    """How long there is no leader that can commit."""
    on = Stage(nodes, seed, Timing())
    on.start()
    deaf = on.leader()
    on.play(1000)
    others = [peer for peer in on.peers if peer != deaf]
    for other in others:
        on.world.network.set_cut(other, deaf, True)
    began = on.world.now
    on.until(lambda: on.established(*others) is not None)
    took = on.world.now - began
    for other in others:
        on.world.network.set_cut(other, deaf, False)
    on.commit(on.leader())
    assert not on.world.violations
    return took


@pytest.mark.parametrize("nodes", [3, 5])
def test_it_is_not_elected_again(nodes: int) -> None:
    """E8"""
    bound = Timing().peer_timeout
    for seed in range(1, 4):
        assert silence(nodes, seed) < bound
    with breakage("core: a leader that nobody answered stands again")():
        assert all(silence(nodes, seed) > bound for seed in range(1, 4))
