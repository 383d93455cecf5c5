"""python -m tests.model: all that may happen to three peers of the core, budget after budget, counted in states."""

from __future__ import annotations

import sys
import time

import click

from tests.model.search import Found, Search, Violation
from tests.model.world import Budget

LADDER = tuple(
    Budget(*rung)
    for rung in (
        (0, 2, 0, 3),
        (1, 1, 0, 0),
        (0, 1, 1, 0),
        (2, 0, 0, 0),
        (1, 1, 0, 1),
        (1, 2, 0, 0),
        (0, 2, 1, 0),
        (2, 1, 0, 0),
        (1, 1, 1, 0),
        (2, 2, 0, 0),
        (2, 2, 1, 0),
    )
)
"""From small to what nobody has searched to its end yet."""


@click.command()
@click.option("--crashes", type=int)
@click.option("--requests", type=int, help="Transactions.")
@click.option("--cuts", type=int, help="One peer is cut off, until that is healed.")
@click.option("--deviations", type=int, help="Moves out of order, beside the others.")
@click.option("--seconds", default=120.0, show_default=True, help="For each budget.")
@click.option(
    "--states", default=3_000_000, show_default=True, help="For each budget; each that waits takes some 10 KiB."
)
def main(
    crashes: int | None,
    requests: int | None,
    cuts: int | None,
    deviations: int | None,
    seconds: float,
    states: int,
) -> None:
    """Search the budget given, or one after the other; exit code 1 and the moves that lead there, if a promise is
    broken."""
    given = (crashes, requests, cuts, deviations)
    ladder = LADDER if given == (None,) * 4 else (Budget(*(each or 0 for each in given)),)
    told_at = 0.0

    def tell(found: Found) -> None:
        nonlocal told_at
        if sys.stdout.isatty() and time.monotonic() > told_at + 1:
            told_at = time.monotonic()
            print(f"\r{found.states:,} states, {found.deepest} moves deep, {found.seconds:.0f} s", end="", flush=True)

    total = 0
    for budget in ladder:
        try:
            found = Search(budget, states, seconds, tell=tell).run()
        except Violation as violation:
            print(f"\n{violation}")
            sys.exit(1)
        total += found.states
        crashes, requests, cuts, deviations = budget
        print(
            f"\r{crashes} crashes, {requests} transactions, {cuts} cuts, {deviations} deviations: {found}", flush=True
        )
    print(f"{total:,} states in all")


if __name__ == "__main__":
    main()
