"""A cluster per test, or one per file where no test harms it; whatever runs at the end is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.real import RealCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path, nodes=3)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three nodes that serve all tests of a file; each test leaves them healthy."""
    made = RealCluster(tmp_path_factory.mktemp("shared"), nodes=3)
    try:
        made.up()
        yield made
    finally:
        made.close()
