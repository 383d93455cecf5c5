"""Zookeeper Atomic Broadcast over ZeroMQ. The map of the house:

core/      the protocol: one pure `Peer.step(now, input) -> [effect]`; read it beside the paper
machine/   what is replicated: the number game and a key-value store, and the sessions that make them exactly once
net/       messages to bytes and back, links that are FIFO or lost, and the ZeroMQ sockets
storage/   log, META and snapshots: what a node must not lose
server/    node: the shell that feeds a peer and obeys it; service: its clients; config; the real loop
client/    finds the leader, exactly once; the monitor
trace/     what nodes say: events for programs, lines for people; the checkers
cluster/   real processes and what is done to them
sim/       virtual network, disk and clock around the same node: a seed in, a trace out
cli/       the commands; the one place that builds a node from real parts

Imports point inwards, to core; tests/test_imports.py holds them to it.
"""

from typing import Final

__version__: Final = "0.1.0"
