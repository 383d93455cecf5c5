"""No room from the k-th write on, for every k: the life of a store that test_power.py cuts, with ENOSPC instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.storage.directory import NO_SPACE, Directory, QuickFiles, chain
from tests.storage.test_power import Script, image, recover
from zabzmq.core.errors import StorageError
from zabzmq.core.inputs import DiskSpace, Durable, Quiesced, Space

__all__ = ["image"]
T = TypeVar("T")


class Full(Exception):
    """The store has said that there is no room."""


class FullFrom(QuickFiles):
    """A disk that has no room from its k-th new file or write on; the write gets half of its bytes down."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.left = k

    def _take(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def create(self, path: str) -> int:
        if not self._take():
            raise OSError(NO_SPACE, os.strerror(NO_SPACE), path)
        return super().create(path)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if self._take():
            return super().write(fd, buffers, offset)
        data = b"".join(buffers)
        super().write(fd, [data[: len(data) // 2]], offset)
        raise OSError(NO_SPACE, os.strerror(NO_SPACE))

    def free_bytes(self, path: str) -> int:
        return super().free_bytes(path) if self.left >= 0 else 0


class Hurried(Directory):
    """Does not wait for what a full disk will never complete."""

    def wait(self, kind: type[T], until: Callable[[T], bool] = lambda event: True) -> T:
        def or_full(event: object) -> bool:
            if isinstance(event, DiskSpace) and event.level is Space.FULL:
                raise Full
            return isinstance(event, kind) and until(event)

        found = super().wait(object, or_full)  # type: ignore[type-var]
        assert isinstance(found, kind)
        return found


def go_on(script: Script, files: FullFrom) -> None:
    """There is room again: the role that met the end of it is left, and the next one writes."""
    files.left = 1 << 30
    on = script.directory
    on.store.quiesce(1)
    found = Directory.wait(on, Quiesced)
    last, expected = found.history.last, script.expected
    if not found.epochs.accepted:
        return  # full at the very start
    more = chain(max(last.epoch, 1), 3, last, size=150)
    for batch in more:
        on.store.append(1, (batch,))
    Directory.wait(on, Durable, lambda event: event.zxid == more[-1].last)
    held = next((n for n, batch in enumerate(expected.most, 1) if batch.last == last), 0)
    expected.least = expected.most = [*expected.most[:held], *more]


def test_a_disk_that_is_full_from_any_write_on_loses_nothing_that_was_acknowledged(
    tmp_path: Path, image: bytes
) -> None:
    k, full = 0, True
    while full:
        path = tmp_path / f"{k}"
        path.mkdir()
        files = FullFrom(k)
        script = Script(path / "node-0", files, image, Hurried)
        runs = False
        try:
            script.run()
        except Full:
            runs = True
        except (AssertionError, StorageError, OSError):
            assert files.left < 0, k  # no snapshot to be had, no closing record, no start
        full = files.left < 0
        if hasattr(script.directory, "store"):
            try:
                if runs:
                    go_on(script, files)
                script.directory.store.close()
                recover(path, QuickFiles(), script.check)
            except (AssertionError, StorageError) as error:
                raise AssertionError(f"full from change {k} on: {error}") from error
        k += 1
    assert k > 60
