"""The long form of test_mutants.py: how soon is each broken rule caught?  python tests/sim/hunt.py [SEEDS [NODES]]"""

from __future__ import annotations

import sys
import time

from zabzmq.sim.mutants import MUTANTS, hunt


def main() -> int:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    nodes = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    missed = 0
    for mutant in MUTANTS.values():
        began = time.monotonic()
        caught = hunt(mutant, range(seeds), nodes)
        missed += caught is None
        what = "NOT CAUGHT" if caught is None else f"seed {caught.seed}: {', '.join(caught.names)}: {caught.text[:100]}"
        print(f"{mutant.name:38} {mutant.rules:10} {time.monotonic() - began:6.1f} s  {what}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
