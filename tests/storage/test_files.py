"""A write that is synced: in one system call where there is one, in two where not, and the same bytes either way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from zabzmq.storage import files as files_module
from zabzmq.storage.files import Files

MANY = [bytes([i % 256]) * (i % 7) for i in range(3000)]  # more buffers than one call takes


@pytest.mark.parametrize("one_call", [True, False])
@pytest.mark.parametrize("buffers", [[b"head", b"body"], MANY])
def test_what_is_written_synced_is_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_call: bool, buffers: list[bytes]
) -> None:
    if not one_call:
        monkeypatch.setattr(files_module, "_DSYNC", 0)
    files = Files()
    fd = files.create(str(tmp_path / "log"))
    end = files.write_synced(fd, [b"before"], 0)
    assert files.write_synced(fd, buffers, end) == 6 + sum(map(len, buffers))
    files.close(fd)
    assert (tmp_path / "log").read_bytes() == b"before" + b"".join(buffers)


def test_a_short_write_is_completed_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files()
    fd = files.create(str(tmp_path / "log"))
    real = os.pwritev
    synced: list[int] = []

    def short(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        return real(fd, [b"".join(buffers)[:5]], offset) if flags else real(fd, buffers, offset)

    monkeypatch.setattr(files_module, "_DSYNC", 2)
    monkeypatch.setattr(os, "pwritev", short)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    assert files.write_synced(fd, [b"head", b"body"], 0) == 8
    assert (tmp_path / "log").read_bytes() == b"headbody"
    assert synced == [fd]
    files.close(fd)


def test_a_failed_one_names_the_file(tmp_path: Path) -> None:
    files = Files()
    fd = files.create(str(tmp_path / "log"))
    os.close(fd)
    with pytest.raises(OSError) as failed:
        files.write_synced(fd, [b"x"], 0)
    assert failed.value.filename == str(tmp_path / "log")
    assert failed.value.errno == errno.EBADF
