"""python -m tests.chaos.disguise FILE node ...: a node on a worse computer than it believes.

Its wall clock is another at every look, years before or after; and the next sync fails as soon as FILE is there.
"""

from __future__ import annotations

import errno
import os
import runpy
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Final

TEN_YEARS_NS: Final = 10 * 365 * 86_400 * 1_000_000_000


def main() -> None:
    fails = sys.argv.pop(1)
    real_ns, dice = time.time_ns, Random(os.getpid())

    def time_ns() -> int:
        return real_ns() + dice.randrange(-TEN_YEARS_NS, TEN_YEARS_NS)

    def failing(sync: Callable[[int], None]) -> Callable[[int], None]:
        def sync_or_not(fd: int) -> None:
            if os.path.exists(fails):
                os.unlink(fails)
                raise OSError(errno.EIO, "of the test")
            sync(fd)

        return sync_or_not

    time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
    os.fsync, os.fdatasync = failing(os.fsync), failing(os.fdatasync)  # type: ignore[assignment]
    runpy.run_module("zabzmq.cli.server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
