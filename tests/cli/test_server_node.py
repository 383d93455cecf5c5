"""What a node does between its disk and its first turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.directory import NO_SPACE, Directory, FaultyFiles
from zabzmq.cli.common import UserError
from zabzmq.cli.server_node import count_again
from zabzmq.core.history import Epochs
from zabzmq.core.inputs import DiskSpace, Space
from zabzmq.storage.writer import SpaceLimits


@pytest.fixture
def disk() -> FaultyFiles:
    return FaultyFiles()


def test_an_empty_node_that_counts_again_still_hears_how_full_its_disk_is(tmp_path: Path, disk: FaultyFiles) -> None:
    """L20. The disk tells it once, and the loop that listens has not begun."""
    disk.free = 200 << 20
    node = Directory(tmp_path / "node-0", promised=False, files=disk, limits=SpaceLimits())
    assert count_again(node.store) == Epochs(0, 0, True)
    assert node.wait(DiskSpace) == DiskSpace(Space.LOW)
    assert node.restart().epochs.joined
    node.store.close()


def test_an_empty_node_that_cannot_write_that_it_counts_again_says_so(tmp_path: Path, disk: FaultyFiles) -> None:
    node = Directory(tmp_path / "node-0", promised=False, files=disk)
    disk.fail("write", NO_SPACE, "META.tmp")
    with pytest.raises(UserError, match="no room to write that node 0 counts again"):
        count_again(node.store)
    assert not node.restart().epochs.joined
    node.store.close()
