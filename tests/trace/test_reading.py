"""Logs in whatever state they are: what is an event is read, all else is named by file, line and reason."""

from __future__ import annotations

import base64
import gzip
import io
from pathlib import Path

import pytest

from tests.trace.made import Story
from zabzmq.trace.merge import merge
from zabzmq.trace.reading import LINE_BYTES_MAX, Event, Problem, parse, read_lines, streams


def line(n: int = 0, seq: int = 1, boot: str = "c41f", lc: int | None = None) -> bytes:
    lc = seq if lc is None else lc
    return b'{"v":1,"n":%d,"boot":"%s","seq":%d,"t":%d,"lc":%d,"k":"note","text":"x"}\n' % (
        n,
        boot.encode(),
        seq,
        seq,
        lc,
    )


def read(*paths: Path) -> tuple[list[Event], list[Problem]]:
    problems: list[Problem] = []
    events = list(merge(streams(paths, problems.append)))
    return events, problems


def seqs(events: list[Event]) -> list[tuple[int, int]]:
    return [(event.n, event.seq) for event in events]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"v":2,"n":0,"boot":"c41f","seq":1,"t":1,"lc":1,"k":"note"}', "version 2; this program reads version 1"),
        (b'{"v":"next","shape":"new"}', "version next; this program reads version 1"),
        (b'{"v":1,"n":0,"boot":"c41f","seq":1,"t":1,"lc"', "not an event: Input data was truncated"),
        (b'{"v":1,"n":"zero","boot":"c41f","seq":1,"t":1,"lc":1,"k":"note"}', "not an event: Expected `int`"),
        (b'{"v":1,"boot":"c41f","seq":1,"t":1,"lc":1,"k":"note"}', "missing required field `n`"),
        (b'{"v":1,"n":-1,"boot":"c41f","seq":1,"t":1,"lc":1,"k":"note"}', "not an event"),
        (b'{"v":1,"n":0,"boot":"c41f","seq":0,"t":1,"lc":1,"k":"note"}', "not an event"),
        (
            b'{"v":1,"n":0,"boot":"c41f","seq":1,"t":1,"lc":1,"k":"note","z":"3.7"}',
            "Expected `array | null`, got `str`",
        ),
        (b"[1, 2, 3]", "not an event"),
        (b"[" * 100_000, "not an event"),
        (b'{"v":1,"n":0,"boot":"c41f","seq":1,"t":1,"lc":1,"k":"note","x":' + b"[" * 100_000, "not an event"),
        (b"12:00:00.000  n0 e0 LOOKING    election   started", "not an event"),
        (b'{"v":1,"n":0,"boot":"\xff","seq":1,"t":1,"lc":1,"k":"note"}', "not an event"),
    ],
)
def test_a_line_that_is_no_event_is_named_and_the_others_are_read(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "node-0.jsonl"
    path.write_bytes(line(seq=1) + text + b"\n" + line(seq=2))
    events, (problem,) = read(path)
    assert seqs(events) == [(0, 1), (0, 2)]
    assert (problem.path, problem.line) == (str(path), 2)
    assert reason in problem.reason


def test_a_last_line_that_is_cut_short_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    path.write_bytes(line() + line(seq=2)[:40])
    events, (problem,) = read(path)
    assert seqs(events) == [(0, 1)]
    assert problem.line == 2 and problem.reason.endswith("(the file ends within this line)")


def test_a_line_that_is_just_written_is_read_to_its_end() -> None:
    """The second half comes after a reader has met the end of the file."""
    later = iter([b"", line(seq=2)[40:]])

    class Growing(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            return super().readline(size) or next(later, b"")

    problems: list[Problem] = []
    events = list(read_lines(Growing(line() + line(seq=2)[:40]), "node-0.jsonl", problems.append))
    assert (seqs(events), problems) == ([(0, 1), (0, 2)], [])


def test_of_many_bad_lines_a_few_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    path.write_bytes(b"bad\n" * 10 + line())
    events, problems = read(path)
    assert len(events) == 1
    assert [problem.line for problem in problems] == [1, 2, 3, 0]
    assert problems[-1].reason == "7 more lines are no events"


def test_a_binary_file_is_one_problem(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(bytes(range(256)) * 4000)
    (tmp_path / "node-0.jsonl").write_bytes(line())
    events, (problem,) = read(tmp_path / "core", tmp_path / "node-0.jsonl")
    assert len(events) == 1
    assert str(problem) == f"{tmp_path}/core: not an event log: it holds bytes that no text has"


def test_a_line_without_an_end_in_sight_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    path.write_bytes(b"x" * (3 * LINE_BYTES_MAX) + b"\n" + line())
    events, (problem,) = read(path)
    assert (len(events), problem.line) == (1, 1)


def test_empty_files_and_empty_lines_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "node-0.jsonl").write_bytes(b"")
    (tmp_path / "node-1.jsonl").write_bytes(b"\n\n" + line(n=1) + b"\r\n")
    assert seqs(read(*tmp_path.iterdir())[0]) == [(1, 1)]


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "node-1.jsonl").mkdir()
    _, problems = read(tmp_path / "gone.jsonl", tmp_path / "node-1.jsonl")
    reasons = ["cannot be read: Is a directory", "cannot be read: No such file or directory"]
    assert sorted(problem.reason for problem in problems) == reasons


def test_rotated_logs_are_read_from_the_oldest_on(tmp_path: Path) -> None:
    for number, seq in ((3, 1), (2, 3), (1, 5)):
        (tmp_path / f"node-0.jsonl.{number}").write_bytes(line(seq=seq) + line(seq=seq + 1))
    (tmp_path / "node-0.jsonl").write_bytes(line(seq=7))
    assert [event.seq for event in read(*sorted(tmp_path.iterdir()))[0]] == [1, 2, 3, 4, 5, 6, 7]


def test_the_same_events_in_several_files_are_read_once(tmp_path: Path) -> None:
    log, copy = tmp_path / "node-0.jsonl", tmp_path / "copy.jsonl"
    log.write_bytes(b"".join(line(seq=seq) for seq in (1, 2, 2, 3)))
    copy.write_bytes(b"".join(line(seq=seq) for seq in (3, 1, 2)) + line(n=1))
    assert seqs(read(log)[0]) == [(0, 1), (0, 2), (0, 3)]
    assert seqs(read(log, copy, log)[0]) == [(0, 1), (1, 1), (0, 2), (0, 3)]


def test_a_file_that_is_a_rotated_one_by_another_name_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "node-0.jsonl").write_bytes(line())
    (tmp_path / "node-0.jsonl.1").hardlink_to(tmp_path / "node-0.jsonl")
    assert read(*tmp_path.iterdir())[0] == [parse(line().strip())]


def test_events_of_other_nodes_in_the_log_of_one_are_named(tmp_path: Path) -> None:
    (tmp_path / "node-0.jsonl").write_bytes(line(n=0) + line(n=4))
    events, (problem,) = read(tmp_path / "node-0.jsonl")
    assert seqs(events) == [(0, 1)]
    assert problem.reason == "1 events of other nodes stand in the log of node 0"


def test_gzipped_logs_and_exported_pages_are_read_and_damaged_ones_named(tmp_path: Path) -> None:
    data = gzip.compress(line() + line(n=1))
    page = b'<html><script type="text/plain" data-run="export">%s</script><script>x</script>'
    (tmp_path / "run.jsonl.gz").write_bytes(data)
    (tmp_path / "page.html").write_bytes(page % base64.b64encode(data))
    (tmp_path / "cut.jsonl.gz").write_bytes(data[:-12])
    (tmp_path / "cut.html").write_bytes(page % base64.b64encode(data[:-12]))
    (tmp_path / "bare.html").write_bytes(b"<html>")
    for name in ("run.jsonl.gz", "page.html"):
        assert seqs(read(tmp_path / name)[0]) == [(0, 1), (1, 1)]
    for name, reason in (
        ("cut.jsonl.gz", "cannot be read further"),
        ("cut.html", "damaged"),
        ("bare.html", "no exported"),
    ):
        _, (problem,) = read(tmp_path / name)
        assert reason in problem.reason


def test_a_hundred_thousand_events_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    for n in range(5):
        lines = b"".join(line(n=n, seq=seq) for seq in range(1, 20_001))
        (tmp_path / f"node-{n}.jsonl").write_bytes(lines + b"bad\n")
    problems: list[Problem] = []
    events = merge(streams(tmp_path.iterdir(), problems.append))
    assert (next(events).seq, problems) == (1, []), "the first comes before the last is read"
    assert sum(1 for _ in events) == 99_999
    assert [problem.line for problem in problems] == [20_001] * 5


# ---- one order ---------------------------------------------------------------------------------------------------


def test_events_of_one_clock_stand_by_node_and_number(tmp_path: Path) -> None:
    for n in (1, 0):
        (tmp_path / f"node-{n}.jsonl").write_bytes(line(n=n, seq=1, lc=5) + line(n=n, seq=2, lc=5))
    assert seqs(read(*tmp_path.iterdir())[0]) == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_a_process_whose_clock_began_anew_stands_behind_the_one_before_it() -> None:
    story = Story()
    story.boots()
    for _ in range(20):
        story(0, "note", text="x")
        story(1, "note", text="x")
    again = story.boot(0)
    sent = story(0, "send", type="ACK", to=1, mid="m", z=[1, 1])
    heard = story(1, "recv", type="ACK", source=0, mid="m", z=[1, 1])
    late = {again.seq: 1, sent.seq: 2}
    events = [e._replace(lc=late[e.seq]) if e.boot == again.boot else e for e in story.events]
    told = list(merge({n: iter([e for e in events if e.n == n]) for n in (0, 1, 2)}))
    assert [event.name for event in told if event.n == 0] == [event.name for event in events if event.n == 0]
    names = [event.name for event in told]
    assert names.index(sent.name) < names.index(heard.name)


def test_a_node_that_starts_late_stands_where_it_started() -> None:
    story = Story()
    story.boot(0)
    story.boot(1)
    for _ in range(10):
        story(0, "note", text="x")
        story(1, "note", text="x")
    late = story.boot(2)
    events = [e._replace(lc=1) if e is late else e for e in story.events]
    told = list(merge({n: iter([e for e in events if e.n == n]) for n in (0, 1, 2)}))
    assert told[-1].name == late.name
