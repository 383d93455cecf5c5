"""The simulator: a seed in, a trace out. Real nodes, simulated network, disks, clients and faults (see world.py)."""

from zabzmq.sim.run import Broken, Report, run_seed, run_seeds, trace, trace_hash

__all__ = ["Broken", "Report", "run_seed", "run_seeds", "trace", "trace_hash"]
