"""`completion SHELL`: the line that lets a shell complete commands, options and nodes. click does the work."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from zabzmq.cli.common import Command, UserError
from zabzmq.core.errors import ZabError
from zabzmq.server.config import load

LINES: Final = {
    "bash": ('eval "$({variable}=bash_source {program})"', "~/.bashrc"),
    "zsh": ('eval "$({variable}=zsh_source {program})"', "~/.zshrc"),
    "fish": ("{variable}=fish_source {program} | source", "~/.config/fish/config.fish"),
    "powershell": (
        '$env:{variable} = "powershell_source"; {program} | Out-String | Invoke-Expression; $env:{variable} = ""',
        "your $PROFILE",
    ),
}


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(LINES)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the line to add to your shell's start file.

    It completes the program called by its own name, as in ./client.py; no shell can do it for `python client.py`.
    """
    name = ctx.command_path.split()[0]
    if get_completion_class(shell) is None:
        raise UserError(f"the installed click cannot do it for {shell}", "a newer one can: pip install --upgrade click")
    line, file = LINES[shell]
    program = str(Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute())
    variable = f"_{re.sub('[-.]', '_', name)}_COMPLETE".upper()
    click.echo(line.format(variable=variable, program=shlex.quote(program)))
    click.echo(f"add it to {file}; it completes {name} called as a command, with its path or without", err=True)


def complete_node(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The nodes there are."""
    return _fitting(_nodes(), incomplete)


def complete_target(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The nodes there are, and the words that stand for one."""
    return _fitting([*_nodes(), "leader", "follower", "any"], incomplete)


def complete_reader(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _fitting([*_nodes(), "leader", "any"], incomplete)


def _nodes() -> list[str]:
    try:
        return [str(node) for node in load().ids]
    except ZabError:
        return []


def _fitting(words: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
