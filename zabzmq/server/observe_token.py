"""The secret of one run: who shows it may change things through an observe port.

It lies in `logs/token`, readable by its owner alone. The first node (or the supervisor) makes it, the others read it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from zabzmq.core.errors import ZabError

NAME: Final = "token"
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{32,128}")


class TokenError(ZabError):
    """There is no token that could be trusted, and why."""


def shared_token(directory: Path) -> str:
    """The token of this run, made if there is none yet. Raises TokenError."""
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            return _read(path)
        except FileNotFoundError:
            _make(path)
            return _read(path)  # ours, or that of a node that was quicker
    except OSError as error:
        raise TokenError(f"{path}: {error.strerror}") from None


def fresh_token(directory: Path) -> str:
    """A new token for a new run, whatever was there. Raises TokenError."""
    try:
        (directory / NAME).unlink(missing_ok=True)
    except OSError as error:
        raise TokenError(f"{directory / NAME}: {error.strerror}") from None
    return shared_token(directory)


def is_token(text: str) -> bool:
    """Whether it has the form of one."""
    return _SHAPE.fullmatch(text) is not None


def _make(path: Path) -> None:
    """Under its name it is whole from the first moment: written beside, then linked, which fails if it exists."""
    draft = path.with_name(f"{NAME}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_urlsafe(32).encode() + b"\n")
    finally:
        os.close(fd)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise TokenError(f"{path} is not a file of this user")
        if about.st_mode & 0o077:
            raise TokenError(f"{path} can be read by others: delete it and start again")
        text = os.read(fd, 256).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    if not is_token(text):
        raise TokenError(f"{path} does not hold a token: delete it and start again")
    return text
