"""What ZAB_TOKEN, ZAB_SEED and their kin say, where no option says otherwise. What they may not say is wrong usage."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from zabzmq.server.config import ConfigError
from zabzmq.server.observe_token import is_token

TOKEN: Final = "ZAB_TOKEN"
SEED: Final = "ZAB_SEED"
UNSAFE: Final = "ZAB_UNSAFE"

REJOIN_EMPTY: Final = "rejoin-empty"
SWITCHES: Final = (REJOIN_EMPTY,)
"""Rules that ZAB_UNSAFE may switch off, as `node --unsafe-...` does."""


def taken(variable: str, kind: click.ParamType[Any]) -> Any:
    """The value, as an option of this kind takes it; None when it is not set. Raises ConfigError."""
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        return kind.convert(text, None, None)
    except click.BadParameter as error:
        raise _wrong(variable, error.message) from None


def token() -> str:
    """Empty when it is not set. Raises ConfigError, which does not show it."""
    said = os.environ.get(TOKEN, "").strip()
    if said and not is_token(said):
        raise _wrong(TOKEN, "that is no token: what logs/token holds is meant")
    return said


def unsafe() -> list[str]:
    """The switches that are named. Raises ConfigError."""
    named = [name.strip() for name in os.environ.get(UNSAFE, "").split(",") if name.strip()]
    for name in named:
        if name not in SWITCHES:
            raise _wrong(UNSAFE, f"there is no switch {name!r}; known: {', '.join(SWITCHES)}")
    return named


def _wrong(variable: str, why: str) -> ConfigError:
    return ConfigError(f"{variable}: {why}", exit_code=2)
