"""A cluster per test; whatever a test leaves running is stopped."""

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
