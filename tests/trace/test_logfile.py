"""Logs are bounded, may be deleted while they are written, and never hold up a node."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import pytest

from zabzmq.trace.logfile import Drain, LogFile, encode_text


def test_files_are_rotated_and_the_oldest_dropped(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "node-0.log", bytes_max=10, files=3)
    for n in range(6):
        log.write(b"line-%d\n" % n)
    log.close()
    kept = {p.name: p.read_bytes() for p in (tmp_path / "logs").iterdir()}
    assert kept == {"node-0.log": b"line-5\n", "node-0.log.1": b"line-4\n", "node-0.log.2": b"line-3\n"}


def test_a_log_goes_on_where_the_process_before_it_stopped(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        log = LogFile(tmp_path / "x.log")
        log.write(text)
        log.close()
    assert (tmp_path / "x.log").read_bytes() == b"one\ntwo\n"


def test_a_deleted_file_and_a_deleted_directory_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    log = LogFile(path)
    log.write(b"one\n")
    path.unlink()
    log.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    shutil.rmtree(path.parent)
    log.write(b"three\n")
    assert path.read_bytes() == b"three\n"
    log.close()


def test_what_cannot_be_written_is_counted_and_the_next_write_starts_anew(tmp_path: Path) -> None:
    blocker = tmp_path / "logs"
    blocker.write_text("a file where the directory should be", encoding="utf-8")
    log = LogFile(blocker / "x.log")
    drain = Drain(encode_text, log.write, "test-log")
    drain.put("one\n")
    drain.put("two\n")
    drain.flush()
    assert drain.settle()
    assert drain.dropped == 2
    blocker.unlink()
    drain.put("three\n")
    drain.flush()
    assert drain.settle()
    assert (blocker / "x.log").read_bytes() == b"three\n"
    drain.close()
    log.close()


def test_a_stalled_disk_holds_up_nobody_and_costs_the_lines_beyond_the_bound() -> None:
    stalled, go_on = threading.Event(), threading.Event()
    written: list[bytes] = []

    def write(data: bytes) -> None:
        stalled.set()
        assert go_on.wait(10)
        written.append(data)

    drain = Drain(encode_text, write, "test-log", pending_bytes_max=100)
    drain.put("first\n")
    drain.flush()
    assert stalled.wait(10)
    for n in range(50):
        drain.put(f"{n:09}\n")
        drain.flush()
    go_on.set()
    assert drain.settle()
    drain.close()
    lines = b"".join(written).splitlines()
    assert lines[0] == b"first"
    assert len(lines) - 1 + drain.dropped == 50
    assert drain.dropped == 41


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    drain = Drain(encode_text, log.write, "test-log")
    drain.put("last words\n")
    drain.close(timeout=10)
    assert (tmp_path / "x.log").read_bytes() == b"last words\n"
    drain.put("too late\n")
    drain.flush()
    assert drain.dropped == 1
    log.close()


def test_an_error_of_the_disk_reaches_the_caller_of_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = LogFile(tmp_path / "x.log")
    monkeypatch.setattr("zabzmq.trace.logfile.os.write", full)
    with pytest.raises(OSError, match="No space left"):
        log.write(b"one\n")
