"""What every command shares: common options, words for errors, exit codes, streams that never crash a run."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

import click

from zabzmq.cli import colour
from zabzmq.core.errors import ZabError
from zabzmq.server.config import BASE_PORT_MAX, BASE_PORT_MIN, NODES_MAX, Config, ConfigError, load

F = TypeVar("F", bound=Callable[..., Any])

_SETTINGS: Final = "zabzmq.settings"
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_NEGATIVE: Final = re.compile(r"-\d+(\.\d+)?")
_MARKED: Final = "\N{ZERO WIDTH SPACE}-"


class Exit(IntEnum):
    """Exit codes of both programs."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_DONE = 3  # no leader, no quorum: surely nothing happened
    UNREACHABLE = 4
    UNKNOWN = 5
    REFUSED = 6
    VIOLATION = 7
    UNDECIDED = 8
    DEGRADED = 9  # only with status --strict
    INTERRUPTED = 130


class UserError(ZabError):
    """What went wrong, why, and what to do next; never a traceback."""

    def __init__(self, text: str, *hints: str, exit_code: int = Exit.ERROR) -> None:
        super().__init__(text)
        self.hints = hints
        self.exit_code = exit_code


class Command(click.Command):
    """A command for which -5 is a number, so that a range can refuse it, and not an option nobody knows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        marked = [_MARKED + arg[1:] if _NEGATIVE.fullmatch(arg) else arg for arg in args]
        return super().parse_args(ctx, marked)


def unmarked(text: str) -> str:
    """An argument of a `Command` as it was typed."""
    return "-" + text[len(_MARKED) :] if text.startswith(_MARKED) else text


class Whole(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        typed: Any = unmarked(value) if isinstance(value, str) else value
        return super().convert(typed, param, ctx)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.find_root().meta.setdefault(_SETTINGS, {})[name] = value

    return callback


def _plain(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="ascii", errors="replace")


def _from_format(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    return value or os.environ.get("ZAB_FORMAT") == "json"


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_from_format,
    help="One JSON object on standard output.  [env ZAB_FORMAT=json]",
)


def cluster_options(function: F) -> F:
    """--base-port, --nodes, --cluster, --config, --ascii and --color, of groups and of commands: the later wins."""
    for option in (
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            callback=colour.choose,
            expose_value=False,
            help="Whether to colour; auto does on terminals, unless NO_COLOR is set.",
        ),
        click.option(
            "--ascii",
            is_flag=True,
            callback=_plain,
            expose_value=False,
            help="Nothing but ASCII, as on terminals that can show no more.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            callback=_keep("config"),
            expose_value=False,
            help="A cluster.toml that lists the nodes.  [env ZAB_CONFIG]",
        ),
        click.option(
            "--cluster",
            metavar="NAME",
            callback=_keep("cluster"),
            expose_value=False,
            help="The cluster's name.  [env ZAB_CLUSTER; default demo]",
        ),
        click.option(
            "--nodes",
            type=Whole(1, NODES_MAX),
            callback=_keep("nodes"),
            expose_value=False,
            help="How many nodes the cluster has.  [env ZAB_NODES; default 5]",
        ),
        click.option(
            "--base-port",
            type=Whole(BASE_PORT_MIN, BASE_PORT_MAX),
            callback=_keep("base_port"),
            expose_value=False,
            help="Where the cluster's ports begin.  [env ZAB_BASE_PORT; default 21800]",
        ),
    ):
        function = option(function)
    return function


def directory_options(function: F) -> F:
    """--data-dir and --log-dir."""
    for option in (
        click.option(
            "--log-dir",
            type=click.Path(path_type=Path),
            callback=_keep("log_dir"),
            expose_value=False,
            help="Where nodes write node-<id>.log and .jsonl.  [env ZAB_LOG_DIR; default logs]",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            callback=_keep("data_dir"),
            expose_value=False,
            help="Where nodes keep node-<id>/, which they must not lose.  [env ZAB_DATA_DIR; default data]",
        ),
    ):
        function = option(function)
    return function


def settled(ctx: click.Context) -> Config:
    """The checked Config of this run. Raises ConfigError."""
    return load(**given(ctx))


def given(ctx: click.Context) -> dict[str, Any]:
    """The common options that stood on the command line, by the names that `load` takes."""
    kept: dict[str, Any] = ctx.find_root().meta.get(_SETTINGS, {})
    return kept


def command_line(ctx: click.Context) -> list[str]:
    """The same as arguments for another command, so that what we tell people to type fits their cluster."""
    return [part for name, value in given(ctx).items() for part in (f"--{name.replace('_', '-')}", str(value))]


def can_encode(text: str) -> bool:
    """Whether standard output can show this."""
    try:
        # While rich draws, it stands in for standard output, and tells no encoding.
        text.encode(sys.stdout.encoding or getattr(sys.__stdout__, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A signal handler."""
    raise KeyboardInterrupt


def interrupt_on_sigterm() -> None:
    """From now on SIGTERM ends what goes on without end as Ctrl-C does: cleanly, with 0."""
    signal.signal(signal.SIGTERM, interrupt)


def complain(text: str, hints: tuple[str, ...] = (), label: str = "error") -> None:
    """Prose on standard error."""
    styled = colour.bad if label == "error" else colour.heed
    click.echo("\n  ".join((f"{styled(f'{label}:')} {text}", *hints)), err=True)


def warn(text: str) -> None:
    complain(text, label="warning")


def run(command: click.Command, name: str) -> NoReturn:
    """Run the program: every way out ends in an exit code and, where something is wrong, in words."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Into a pipe always UTF-8; a terminal that cannot show a sign gets a question mark, never a crash.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")
    called = Path(sys.argv[0]).name
    sys.exit(_run(command, called if called in ("zab-client", "zab-server") else name))


def _replace_closed_streams() -> None:
    """A standard stream that was closed before we began: nobody reads it, and no file of ours may get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  until the end


def _run(command: click.Command, name: str) -> int:
    # Around the command's own, so that what is told after it has ended is coloured as it was.
    with click.Context(command) as around:
        around.color = colour.chosen()
        return _end_of(command, name, around)


def _end_of(command: click.Command, name: str, around: click.Context) -> int:
    try:
        code = command.main(prog_name=name, standalone_mode=False, parent=around)
        sys.stdout.flush()
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except UserError as e:
        complain(str(e), e.hints)
        return e.exit_code
    except ConfigError as e:
        complain(str(e))
        return e.exit_code
    except ZabError as e:
        complain(str(e))
        return Exit.ERROR
    except BrokenPipeError:
        _give_up_output()
        return 141  # as a shell says of a program that nobody reads any more
    except OSError as e:
        if e.errno not in _NO_SPACE or e.filename is not None:
            return internal_error(e)
        _give_up_output()
        complain(f"standard output takes no more: {e.strerror}.", ("what is there is not all of it",))
        return Exit.ERROR
    except Exception as e:
        return internal_error(e)
    return code if isinstance(code, int) else Exit.OK


def _give_up_output() -> None:
    """What is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def internal_error(error: BaseException) -> int:
    """A bug of ours: short words, and the traceback only on request."""
    complain(f"internal error: {type(error).__name__}: {error}", ("run again with ZAB_DEBUG=1 to see where",))
    if os.environ.get("ZAB_DEBUG"):
        traceback.print_exception(error)
    return Exit.ERROR
