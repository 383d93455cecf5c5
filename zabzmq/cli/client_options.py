"""Options that every command of client.py takes, before it or after it, and the client they ask for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from zabzmq.cli import environment
from zabzmq.cli.common import cluster_options, settled, unmarked
from zabzmq.client.client import Client
from zabzmq.client.connection import Connections
from zabzmq.machine.sessions import is_printable
from zabzmq.server.config import Config, check_name

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # generic only in newer versions of click
    ParamType = click.ParamType

_KEPT: Final = "zabzmq.client"
TIMEOUT_S: Final = 5.0
TIMEOUT_S_MAX: Final = 24 * 3600.0


class Text(ParamType):
    """Any text, "-5" included."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return unmarked(value)


class Seconds(click.FloatRange):
    """A time greater than 0."""

    name = "number of seconds"

    def __init__(self) -> None:
        super().__init__(0, TIMEOUT_S_MAX, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        typed: Any = unmarked(value) if isinstance(value, str) else value
        number: float = super().convert(typed, param, ctx)
        if number != number:
            self.fail("nan is not a time", param, ctx)
        return number


class PlayerName(ParamType):
    """1 to 64 printable characters."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = unmarked(value)
        check_name("client", name, "--as: ")
        if not is_printable(name):
            self.fail(f"{name!r} holds characters that cannot be seen", param, ctx)
        return name


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.find_root().meta.setdefault(_KEPT, {})[name] = value
        if name == "debug" and value:
            os.environ["ZAB_DEBUG"] = "1"

    return callback


def common_options(function: F) -> F:
    """The cluster's options, and --as, --timeout, --json, --debug; given twice, what comes later wins."""
    function = cluster_options(function)
    for option in (
        click.option(
            "--debug", is_flag=True, default=None, callback=_keep("debug"), expose_value=False, help="Show tracebacks."
        ),
        click.option(
            "--json",
            is_flag=True,
            default=None,
            callback=_keep("json"),
            expose_value=False,
            help="One JSON object on standard output.  [env ZAB_FORMAT=json]",
        ),
        click.option(
            "--timeout",
            type=Seconds(),
            metavar="SECONDS",
            callback=_keep("timeout"),
            expose_value=False,
            help="When to give up, in seconds.  [env ZAB_TIMEOUT; default 5]",
        ),
        click.option(
            "--as",
            type=PlayerName(),
            callback=_keep("name"),
            expose_value=False,
            metavar="NAME",
            help="Who you are. Without it every run is a new client.  [env ZAB_CLIENT]",
        ),
    ):
        function = option(function)
    return function


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    default=None,
    callback=_keep("verbose"),
    expose_value=False,
    help="Tell on standard error who was asked, and what it answered.",
)
quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    default=None,
    callback=_keep("quiet"),
    expose_value=False,
    help="Print nothing when it is done.",
)


class Setup(NamedTuple):
    """What a run was asked for."""

    config: Config
    name: str | None
    timeout_ms: float
    json: bool
    verbose: bool
    quiet: bool

    def client(self) -> Client:
        return Client(
            self.config.client_endpoints,
            cluster=self.config.cluster,
            name=self.name,
            timeout_ms=self.timeout_ms,
            connect=_tell_all if self.verbose else Connections,
        )


def _tell_all(endpoints: Mapping[int, str]) -> Connections:
    from zabzmq.client.trail import Trail

    began = time.monotonic()
    return Trail(endpoints, lambda line: click.echo(f"{(time.monotonic() - began) * 1000:8.1f} ms  {line}", err=True))


def setup(ctx: click.Context) -> Setup:
    """Settle everything: flag, else environment, else cluster.toml, else default. Raises ConfigError, UsageError."""
    kept: dict[str, Any] = ctx.find_root().meta.get(_KEPT, {})
    name = kept.get("name") or environment.taken("ZAB_CLIENT", PlayerName())
    timeout = kept.get("timeout") or environment.taken("ZAB_TIMEOUT", Seconds()) or TIMEOUT_S
    as_json = kept.get("json")
    if as_json is None:
        text = os.environ.get("ZAB_FORMAT", "")
        if text not in ("", "json", "text"):
            raise click.UsageError(f'ZAB_FORMAT: "{text}" is neither "json" nor "text"', ctx)
        as_json = text == "json"
    verbose, quiet = bool(kept.get("verbose")), bool(kept.get("quiet"))
    return Setup(settled(ctx), name, float(timeout) * 1000.0, bool(as_json), verbose, quiet)
