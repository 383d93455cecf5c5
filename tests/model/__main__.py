"""python -m tests.model: all that may happen to three peers of the core, within a budget; prints how many states."""

from __future__ import annotations

import sys

import click

from tests.model.search import Found, Search, Violation
from tests.model.world import Budget


@click.command()
@click.option("--crashes", default=2, show_default=True)
@click.option("--requests", default=2, show_default=True, help="Transactions.")
@click.option("--deviations", default=1, show_default=True, help="Moves out of order, beside crashes and requests.")
@click.option(
    "--states", default=1_000_000, show_default=True, help="Give up after so many; each takes some 200 bytes."
)
def main(crashes: int, requests: int, deviations: int, states: int) -> None:
    """Search; exit code 1 and the moves that lead there, if a promise is broken."""

    def tell(found: Found) -> None:
        if sys.stdout.isatty() and found.states % 100 == 0:
            print(f"\r{found.states:,} states, {found.deepest} moves deep, {found.seconds:.0f} s", end="", flush=True)

    try:
        found = Search(Budget(crashes, requests, deviations), states, tell=tell).run()
    except Violation as violation:
        print(f"\n{violation}")
        sys.exit(1)
    print(
        f"\r{crashes} crashes, {requests} transactions, {deviations} deviations: {found.states:,} states, "
        f"{found.steps:,} steps, {found.ends:,} ends, {found.deepest} moves deep, "
        f"{'all there are' if found.complete else 'not all there are'}, 0 violations, {found.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
