"""A data directory with an open store, and its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.directory import Directory, FaultyFiles


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Directory]:
    """A new directory; small segments, so that little data crosses from one to the next."""
    directory = Directory(tmp_path / "node-0", segment_bytes=2000)
    yield directory
    directory.store.close()


@pytest.fixture
def disk() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def shaky(tmp_path: Path, disk: FaultyFiles) -> Iterator[Directory]:
    """A new directory on the disk `disk`."""
    directory = Directory(tmp_path / "node-0", files=disk)
    yield directory
    disk.release()
    directory.store.close()
