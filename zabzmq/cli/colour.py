"""Colour, where it helps to find what matters; it never says anything by itself, words and signs do.

Everything is told within one click context (common.py), and its `color` decides: True and False are --color always and
never, None leaves it to each stream, which is coloured when it is a terminal. click.echo heeds it by itself, and takes
styles out where they are not wanted. Bold and the first 16 colours can be read on dark and on light.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def good(text: str) -> str:
    return click.style(text, fg="green", bold=True)


def heed(text: str) -> str:
    """To be looked at, and no harm."""
    return click.style(text, fg="magenta", bold=True)


def bad(text: str) -> str:
    return click.style(text, fg="red", bold=True)


def chosen(how: str = "auto") -> bool | None:
    """What `color` of a context is to be: the flag, else NO_COLOR, else None."""
    if how != "auto":
        return how == "always"
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def choose(ctx: click.Context, parameter: click.Parameter, how: str | None) -> None:
    """The callback of --color: for this command, and for what is told after it has ended."""
    at: click.Context | None = ctx if how is not None else None
    while at is not None:
        at.color = chosen(how or "auto")
        at = at.parent


def is_coloured(stream: TextIO) -> bool:
    ctx = click.get_current_context(silent=True)
    color = chosen() if ctx is None else ctx.color
    return stream.isatty() if color is None else color


def console(*, stderr: bool = False) -> Console:
    """rich's, which decides like click."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    system: Any = None if not is_coloured(stream) else "auto" if stream.isatty() else "standard"
    return Console(stderr=stderr, highlight=False, color_system=system, no_color=False)


def text(lines: list[str]) -> Text:
    """Lines with styles, for rich to show in place."""
    from rich.text import Text

    return Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop")


# ---- lines of a node ----------------------------------------------------------------------------------------------

_PLACE: Final = re.compile(r"\S+  (n\d+ e\d+ (\w+) +\w+)")
_ROLES: Final = {"LEADING": good, "LOOKING": heed, "FAILED": bad}


class NodeLines:
    """Paints the lines of one node's terminal: its role in each, and all of a line in which its place is another."""

    def __init__(self) -> None:
        self._place = ""

    def __call__(self, line: str) -> str:
        found = _PLACE.match(line)
        if found is None:
            return line
        before, self._place = self._place, found[1]
        role, rest = found[2], line[found.end(2) :].removesuffix("\n")
        if role in _ROLES:
            role = _ROLES[role](role)
        if found[1] != before:
            rest = click.style(rest, bold=True)
        return f"{line[: found.start(2)]}{role}{rest}\n"
