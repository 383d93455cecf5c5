"""The page of a run: named with what it needs, and opened only where something can open it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from zabzmq.cli import server_cluster_page
from zabzmq.cli.server_cluster_page import page_url, show_page
from zabzmq.server.config import BASE_PORT, Config, load

TOKEN = "abc-_"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run whose index.html has a name that needs quoting."""
    page = tmp_path / "the page" / "index.html"
    page.parent.mkdir()
    page.touch()
    monkeypatch.setattr(server_cluster_page, "page_path", lambda: page)
    return load(base_port=22800, log_dir=tmp_path, environ={})


@pytest.mark.parametrize(
    ("base_port", "token", "ending"),
    [
        (BASE_PORT, None, "index.html"),
        (BASE_PORT, TOKEN, "index.html#t=abc-_"),
        (22800, None, "index.html#base=22800"),
        (22800, TOKEN, "index.html#base=22800&t=abc-_"),
    ],
)
def test_the_page_is_named_with_what_it_needs(config: Config, base_port: int, token: str | None, ending: str) -> None:
    assert page_url(base_port, token).endswith(f"/the%20page/{ending}")


def test_without_a_desktop_the_page_is_only_named(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    show_page(config, TOKEN, open_it=True)
    said = capsys.readouterr()
    assert said.out.startswith("page: file://")
    assert "open it in a browser" in said.err
    assert not (config.log_dir / "open.html").exists()


def test_a_page_that_is_not_there_is_not_named(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_cluster_page, "page_path", lambda: None)
    show_page(config, TOKEN, open_it=True)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "warning: this installation has no index.html to open\n")


def test_the_redirect_is_made_anew_for_its_owner_alone(config: Config) -> None:
    old = config.log_dir / "open.html"
    old.write_text("of another run")
    old.chmod(0o644)
    path = server_cluster_page._write_redirect(config.log_dir, page_url(22800, TOKEN))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "#base=22800&amp;t=abc-_" in path.read_text()
