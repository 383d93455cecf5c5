"""The page lies beside the package in a checkout; an installation brings it along."""

from __future__ import annotations

import sysconfig
from configparser import ConfigParser
from pathlib import Path

import pytest

import zabzmq
from zabzmq.cli.server_observe import page_path

HOUSE = Path(__file__).parents[2]


def test_a_checkout_shows_its_own_page() -> None:
    assert page_path() == HOUSE / "index.html"


def test_an_installation_shows_the_page_that_setup_puts_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = ConfigParser()
    setup.read(HOUSE / "setup.cfg")
    ((where, what),) = setup["options.data_files"].items()
    monkeypatch.setattr(zabzmq, "__file__", str(tmp_path / "site-packages" / "zabzmq" / "__init__.py"))
    monkeypatch.setattr(sysconfig, "get_path", {"data": str(tmp_path)}.get)
    assert page_path() is None
    page = tmp_path / where / what
    page.parent.mkdir(parents=True)
    page.write_bytes((HOUSE / what).read_bytes())
    assert page_path() == page
