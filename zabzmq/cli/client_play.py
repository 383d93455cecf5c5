"""`play`: the game from one prompt, as one client."""

from __future__ import annotations

import re
import sys
from typing import Final

import click

from zabzmq.cli.client_options import common_options, setup
from zabzmq.cli.client_output import wait_and_tell
from zabzmq.cli.common import Command, Exit, complain
from zabzmq.machine.operations import GameQuery, Guess, Operation, Query, Target

PROMPT: Final = "> "
MOVES: Final = "target 50, target 50 new, guess 47 (or 47 alone), get, quit"
_MOVE: Final = re.compile(r"(?:(target|guess)\s+)?(-?[0-9]{1,9})(\s+new)?")


def move(line: str) -> Operation | Query:
    """What a line asks for. Raises ValueError, in words."""
    words = line.strip().lower()
    if words == "get":
        return GameQuery()
    found = _MOVE.fullmatch(words)
    if found is None or (found[3] and found[1] != "target"):
        raise ValueError(f"nothing is known of {line.strip()[:60]!r} here; say {MOVES}")
    value = int(found[2])
    if not 0 <= value <= 100:
        raise ValueError(f"{value} is not in the range 0 to 100")
    return Target(value, bool(found[3])) if found[1] == "target" else Guess(value)


@click.command(cls=Command)
@common_options
@click.pass_context
def play(ctx: click.Context) -> None:
    """Play from one prompt, as one client, until Ctrl-D.

    \b
    target 50      opens a round; target 50 new even while one is open
    47, guess 47   guesses
    get            shows the game
    """
    asked = setup(ctx)
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    with asked.client() as client:
        if typed:
            click.echo(f'{client.name} plays in cluster "{asked.config.cluster}": {MOVES}')
        while True:
            line = _next_line(typed)
            if line is None or line.strip().lower() in ("quit", "exit"):
                return
            if not line.strip():
                continue
            try:
                wish = move(line)
            except ValueError as error:
                complain(str(error))
                continue
            is_read = isinstance(wish, GameQuery)
            call = client.read(wish) if is_read else client.submit(wish)  # type: ignore[arg-type]
            code = wait_and_tell(ctx, client, call, asked)
            if code == Exit.INTERRUPTED:
                raise click.exceptions.Exit(code)


def _next_line(typed: bool) -> str | None:
    """None at the end of input, and on Ctrl-C: nothing is awaited then."""
    try:
        return input(PROMPT) if typed else (sys.stdin.readline() or None)
    except (EOFError, KeyboardInterrupt):
        if typed:
            click.echo()
        return None
