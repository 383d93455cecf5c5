"""A process that is started again goes on with the Lamport clock of its own log."""

from __future__ import annotations

from pathlib import Path

from zabzmq.trace.reading import last_clock

LINE = b'{"v":1,"n":2,"boot":"c41f","seq":%d,"t":1.0,"lc":%d,"k":"note","text":"x"}\n'


def test_the_clock_of_the_last_whole_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "node-2.jsonl"
    path.write_bytes(b"".join(LINE % (seq, seq * 10) for seq in range(1, 2000)) + b'{"v":1,"n":2,"bo')
    assert last_clock(path) == 19990


def test_a_log_that_is_not_there_or_tells_nothing_is_no_clock(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\0\xff" * 100_000)
    assert [last_clock(tmp_path / name) for name in ("none", "binary", ".")] == [0, 0, 0]
