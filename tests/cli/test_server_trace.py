"""trace and explain on the command line: what they print, where, and how they exit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.trace.made import Story
from zabzmq.cli import server_trace
from zabzmq.cli.server import main
from zabzmq.trace.follow import Follower


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("BASE_PORT", "NODES", "CONFIG", "CLUSTER", "DATA_DIR", "LOG_DIR", "DEBUG"):
        monkeypatch.delenv(f"ZAB_{name}", raising=False)

    def call(*args: str | int | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["zookeeper_server.py", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(int(ended.value.code or 0), out, err)

    return call


def write(directory: Path, story: Story) -> list[Path]:
    """As the nodes would have."""
    directory.mkdir(exist_ok=True)
    paths = []
    for n in sorted({event.n for event in story.events}):
        path = directory / f"node-{n}.jsonl"
        path.write_bytes(b"".join(event.raw + b"\n" for event in story.events if event.n == n))
        paths.append(path)
    return paths


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three nodes; 1.1 is committed, 1.2 waits, one of the disks has it."""
    story = Story()
    story.begin()
    story.proposed(2, (1, 1), (0, 0), [0, 1])
    story.received(0, 2, (1, 1))
    story.copied(2, 2, (1, 1), [2])
    story.copied(0, 2, (1, 1), [0, 2])
    story.committed(2, (1, 1), [0, 2])
    story.applied(2, (1, 1), "9c1e")
    story(2, "send", type="HEARTBEAT", to=None, count=17)
    story.proposed(2, (1, 2), (1, 1), [0, 1])
    story.copied(2, 2, (1, 2), [2])
    write(tmp_path / "logs", story)
    return tmp_path / "logs"


BAD = b'{"v":2,"n":0,"boot":"c41f","seq":1,"t":1,"lc":1,"k":"note"}\n{"v":1,"n":0,"bo'


# ---- merge and tail ----------------------------------------------------------------------------------------------


def test_merge_shows_a_line_for_each_event_but_heartbeats(run: Run, logs: Path) -> None:
    ran = run("trace", "merge", "--log-dir", logs)
    assert ran.code == 0 and ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0].split()[:4] == ["0.000", "n0", "0000:1", "started,"]
    assert any("n2 0002" in line and "propose 1.1" in line for line in lines)
    assert not any("HEARTBEAT" in line for line in lines)
    assert "HEARTBEAT" in run("trace", "merge", "--all", "--log-dir", logs).out


def test_merge_in_columns_has_one_for_each_node(run: Run, logs: Path) -> None:
    head, *lines = run("trace", "merge", "--columns", "--log-dir", logs).out.splitlines()
    assert head.split() == ["node", "0", "node", "1", "node", "2"]
    at = {n: head.index(f"node {n}") for n in range(3)}
    (proposed,) = [line for line in lines if "propose 1.1" in line]
    (heard,) = [line for line in lines if "recv PROPOSE 1.1" in line]
    assert (proposed.index("propose"), heard.index("recv")) == (at[2], at[0])
    assert lines.index(proposed) < lines.index(heard)


def test_merge_gives_the_events_themselves_to_programs(run: Run, logs: Path) -> None:
    events = [json.loads(line) for line in run("trace", "merge", "--jsonl", "--log-dir", logs).out.splitlines()]
    assert [event["lc"] for event in events] == list(range(1, len(events) + 1))


def test_named_files_are_read_instead_of_the_log_directory(run: Run, logs: Path) -> None:
    ran = run("trace", "merge", "--jsonl", logs / "node-1.jsonl")
    assert {json.loads(line)["n"] for line in ran.out.splitlines()} == {1}


def test_tail_shows_the_newest(run: Run, logs: Path) -> None:
    lines = run("trace", "tail", "-n", 2, "--log-dir", logs).out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == ["fsync 1.2 in 1.0 ms", "counts 1.2 on 2, needs 2"]
    assert run("trace", "tail", "-n", 0, "--log-dir", logs).out == ""
    assert run("trace", "tail", "-n", 1, "--jsonl", "--log-dir", logs).out.count('"k":"ack"') == 1


def test_tail_follows_what_comes_until_ctrl_c(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    story.begin()
    naps = 0

    def nap(seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 2:
            write(tmp_path / "logs", story)
        if naps == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("zabzmq.cli.server_trace.time.sleep", nap)
    ran = run("trace", "tail", "-f", "--log-dir", tmp_path / "logs")
    assert (ran.code, len(ran.out.splitlines())) == (0, len(story.events))
    assert "waiting for logs" in ran.err


# ---- check -------------------------------------------------------------------------------------------------------


def test_check_prints_each_promise_with_its_count(run: Run, logs: Path) -> None:
    ran = run("trace", "check", "--log-dir", logs)
    assert ran.code == 0
    assert "ok      one leader per epoch" in ran.out
    assert "BROKEN" not in ran.out
    verdict = json.loads(run("trace", "check", "--json", "--log-dir", logs).out)
    assert (verdict["v"], verdict["ok"], verdict["nodes"], verdict["missing"]) == (1, True, [0, 1, 2], [])
    assert {each["name"]: each["count"] for each in verdict["checks"]}["commit after a quorum of acks"] == 1


def test_check_exits_with_7_and_shows_the_two_events_that_contradict(run: Run, tmp_path: Path) -> None:
    story = Story()
    story.boots()
    story.applied(0, (1, 1), "aaaa")
    story.applied(1, (1, 1), "bbbb")
    write(tmp_path, story)
    ran = run("trace", "check", "--log-dir", tmp_path)
    assert ran.code == 7
    assert "BROKEN  same state at same zxid: nodes 0 and 1 hold different states at 1.1" in ran.out
    assert "n0 0000:2  apply 1.1 = aaaa" in ran.out and "n1 0001:2  apply 1.1 = bbbb" in ran.out
    ran = run("trace", "check", "--json", "--log-dir", tmp_path)
    (violation, *_) = [v for v in json.loads(ran.out)["violations"] if v["check"] == "same state at same zxid"]
    assert (ran.code, [event["n"] for event in violation["events"]]) == (7, [0, 1])


def test_check_says_that_a_trace_is_tainted(run: Run, tmp_path: Path) -> None:
    story = Story()
    story.boots()
    story(2, "note", text="the first of what is left of it", unsafe=["rejoin-empty"])
    write(tmp_path, story)
    ran = run("trace", "check", "--log-dir", tmp_path)
    assert (ran.code, "TAINTED: --unsafe-rejoin-empty on node 2; a rule was left out there" in ran.out) == (0, True)
    assert json.loads(run("trace", "check", "--json", "--log-dir", tmp_path).out)["unsafe"] == {"rejoin-empty": [2]}


def test_what_a_page_saw_itself_is_no_bad_line(run: Run, logs: Path) -> None:
    with (logs / "node-1.jsonl").open("a") as file:
        file.write('{"v":1,"k":"page","n":1,"what":"lost","t":1.5}\n')
    ran = run("trace", "check", "--log-dir", logs)
    assert (ran.code, ran.err) == (0, "")


def test_check_names_the_nodes_it_knows_nothing_of(run: Run, logs: Path) -> None:
    (logs / "node-1.jsonl").unlink()
    ran = run("trace", "check", "--log-dir", logs)
    assert (ran.code, "no events of node 1: " in ran.out) == (0, True)


# ---- export ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "first"), [("jsonl", '{"v":1,"n":0'), ("csv", "t,lc,n,"), ("shiviz", "(?<event>"), ("mermaid", "sequence")]
)
def test_export_writes_to_a_file_or_to_standard_output(run: Run, logs: Path, kind: str, first: str) -> None:
    out = logs / "out"
    assert run("trace", "export", "--to", kind, "-o", out, "--log-dir", logs).code == 0
    assert out.read_text(encoding="utf-8").startswith(first)


def test_an_exported_page_is_a_trace_again(
    run: Run, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "index.html"
    page.write_text("<html><script>run()</script></html>")
    monkeypatch.setattr(server_trace, "page_path", lambda: page)
    out = tmp_path / "handed-in.html"
    assert run("trace", "export", "--to", "html", "-o", out, "--log-dir", logs).code == 0
    assert run("trace", "merge", "--jsonl", out).out == run("trace", "merge", "--jsonl", "--log-dir", logs).out
    assert run("trace", "check", out).code == 0


def test_an_export_that_cannot_be_written_or_has_no_page_says_so(
    run: Run, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("trace", "export", "--to", "csv", "-o", logs / "no" / "where", "--log-dir", logs)
    assert (ran.code, "cannot write" in ran.err) == (1, True)
    monkeypatch.setattr(server_trace, "page_path", lambda: None)
    ran = run("trace", "export", "--to", "html", "--log-dir", logs)
    assert (ran.code, "no index.html" in ran.err) == (1, True)
    assert run("trace", "export", "--to", "pdf", "--log-dir", logs).code == 2


# ---- explain -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answer", "named"),
    [
        (["1.1"], "1.1: committed, because", "nodes 0 and 2 had it on disk, 2 of 3 are needed   [n2 0002:"),
        (["1.2"], "1.2: not committed, because", "1 (node 2) of the 2 nodes needed"),
        (["1.3"], "1.3: unknown, because", "epoch 1 got as far as 1.2"),
        (["node", "2"], "node 2: leading, because", "the vote was (0, 0.0, 2)"),
        (["node", "7"], "node 7: unknown, because", "no event here is of node 7"),
        (["last-election"], "last-election: elected, because", "(0, 0.0, 1) is less than (0, 0.0, 2)"),
    ],
)
def test_explain_answers_and_points_to_events(
    run: Run, logs: Path, question: list[str], answer: str, named: str
) -> None:
    ran = run("explain", *question, "--log-dir", logs)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == answer
    assert named in ran.out


def test_explain_gives_programs_one_object(run: Run, logs: Path) -> None:
    said: dict[str, Any] = json.loads(run("explain", "1.1", "--json", "--log-dir", logs).out)
    assert (said["v"], said["question"], said["answer"]) == (1, "1.1", "committed")
    assert said["clauses"][0]["code"] == "entry.committed"
    assert said["clauses"][0]["proof"].keys() == {"n", "boot", "seq"}


@pytest.mark.parametrize(
    "question", [["3"], ["node"], ["node", "x"], ["node", "1", "2"], ["last"], ["1.1", "1.2"], ["-1.5"]]
)
def test_explain_says_what_can_be_asked(run: Run, logs: Path, question: list[str]) -> None:
    ran = run("explain", *question, "--log-dir", logs)
    assert ran.code == 2
    assert "node 3" in ran.err or "No such option" in ran.err


def test_explain_reads_a_recorded_trace(run: Run, logs: Path) -> None:
    assert run("explain", "1.1", "--trace", logs / "node-2.jsonl").out.startswith("1.1: committed")


# ---- bad input ---------------------------------------------------------------------------------------------------


COMMANDS = (
    ["trace", "merge"],
    ["trace", "check"],
    ["trace", "tail"],
    ["trace", "export", "--to", "csv"],
    ["explain", "1.1"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_logs_every_command_says_what_to_do(run: Run, tmp_path: Path, command: list[str]) -> None:
    ran = run(*command, "--log-dir", tmp_path / "none")
    assert ran.code == 1
    assert "no event logs in" in ran.err and "cluster up" in ran.err


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != ["trace", "tail"]], ids=" ".join)
@pytest.mark.parametrize(
    "data", [b"", b"\0\1\2" * 5000, BAD, b"bad\n" * 1000], ids=["empty", "binary", "versions", "text"]
)
def test_logs_without_one_event_are_an_error(run: Run, tmp_path: Path, command: list[str], data: bytes) -> None:
    (tmp_path / "node-0.jsonl").write_bytes(data)
    ran = run(*command, "--log-dir", tmp_path)
    assert ran.code == 1
    assert "no event could be read from" in ran.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_bad_lines_are_named_and_the_command_goes_on(run: Run, logs: Path, command: list[str]) -> None:
    with (logs / "node-0.jsonl").open("ab") as file:
        file.write(BAD)
    ran = run(*command, "--log-dir", logs)
    assert ran.code == 0
    assert ran.out
    assert "version 2; this program reads version 1" in ran.err
    if command != ["trace", "tail"]:  # which does not know whether the last line will be whole in a moment
        assert "node-0.jsonl line 12: " in ran.err and "the file ends within this line" in ran.err


def test_check_says_that_its_verdict_is_on_what_was_read(run: Run, logs: Path) -> None:
    (logs / "node-0.jsonl").write_bytes(BAD)
    ran = run("trace", "check", "--log-dir", logs)
    assert (ran.code, "the verdict on the" in ran.err) == (0, True)
    assert [each["line"] for each in json.loads(run("trace", "check", "--json", "--log-dir", logs).out)["unread"]] == [
        1,
        2,
    ]


def test_no_event_can_disturb_the_terminal(run: Run, tmp_path: Path) -> None:
    story = Story()
    story(0, "note", text="\x1b[2Jgone\r\nanother line \u202egnol")
    story(0, "apply", z=[1, 1], z0=[1, 1], digest="aa", game={"target": "\x07", "owner": "<img onerror=x>\x1b]0;t\x07"})
    write(tmp_path, story)
    out = run("trace", "merge", "--log-dir", tmp_path).out
    assert len(out.splitlines()) == 2
    assert out.replace("\n", "").isprintable()


def test_the_follower_is_closed(run: Run, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = Follower.close

    def count(follower: Follower) -> None:
        closed.append(True)
        close(follower)

    monkeypatch.setattr(Follower, "close", count)
    run("trace", "tail", "--log-dir", logs)
    assert closed == [True]
