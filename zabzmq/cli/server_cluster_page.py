"""Where the page of this run is, and opening it: a fragment is never sent over a wire, so it may carry the token."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from zabzmq.cli.common import warn
from zabzmq.cli.server_observe import page_path
from zabzmq.server.config import BASE_PORT, Config

OPEN = "open.html"
_REDIRECT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ZAB</title>
<meta http-equiv="refresh" content="0; url={url}">
<p><a href="{url}">The page of this run</a>
"""


def page_url(base_port: int, token: str | None) -> str:
    """The page with what it needs to find this cluster, and to command it; "" where there is no page."""
    page = page_path()
    if page is None:
        return ""
    fragment = ([] if base_port == BASE_PORT else [f"base={base_port}"]) + ([f"t={token}"] if token else [])
    return page.resolve().as_uri() + ("#" + "&".join(fragment) if fragment else "")


def show_page(config: Config, token: str | None, open_it: bool) -> None:
    """Name the page of this run, and open it where there is something to open it with."""
    url = page_url(config.base_port, token)
    if not url:
        if open_it:
            warn("this installation has no index.html to open")
        return
    click.echo(f"page: {url}")
    problem = open_page(config, url) if open_it else ""
    if problem:
        click.echo(problem, err=True)


def open_page(config: Config, url: str) -> str:
    """Open it where there is something to open it with; what is in the way, or nothing."""
    opener = _opener()
    if opener is None:
        return "open it in a browser: nothing here can do it for you"
    # A file of its own: some openers take a file URL for a path, and lose the fragment.
    try:
        redirect = _write_redirect(config.log_dir, url)
    except OSError as error:
        return f"warning: {error.filename}: {error.strerror}; open the page yourself"
    subprocess.Popen(
        [opener, str(redirect)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return ""


def _write_redirect(directory: Path, url: str) -> Path:
    """It holds the token, so nobody else may read it."""
    path = directory / OPEN
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(_REDIRECT.format(url=html.escape(url)))
    return path.resolve()


def _opener() -> str | None:
    """What opens files on this desktop, if there is one."""
    if sys.platform == "darwin":
        return shutil.which("open")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return shutil.which("xdg-open")
