"""`node -v`: whoever looks at the terminal sees every event, once and in order."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from tests.chaos.harness import free_base_port
from tests.e2e.real import Program, client_py, server_py
from zabzmq.trace.reading import parse
from zabzmq.trace.telling import tell

LINE = re.compile(r"[\d:.]{12}  n0 e(\d+) ([A-Z]+) +([a-z]+) +(.+)")


def test_every_event_is_a_line_of_the_terminal(tmp_path: Path) -> None:
    common = ("--base-port", free_base_port(1), "--nodes", 1)
    logs = tmp_path / "logs"
    directories = ("--data-dir", tmp_path / "data", "--log-dir", logs)
    with Program([sys.executable, "zookeeper_server.py", *common, "node", 0, "-v", *directories]) as node:
        node.until_line("LEADING broadcast e1: ")
        assert client_py(*common, "target", 50).code == 0
        node.until_line("client ok 1.2")
        node.until_line("send HEARTBEAT x")
        said = node.end(signal.SIGTERM).out.splitlines()
    found = [LINE.fullmatch(line) for line in said]
    assert all(found), said
    events = [parse(line) for line in (logs / "node-0.jsonl").read_bytes().splitlines()]
    assert [match[4] for match in found if match] == [tell(event) for event in events]
    places = {match.group(1, 2, 3) for match in found if match}
    assert {("0", "LOOKING", "election"), ("1", "LEADING", "broadcast")} <= places
    matter = (logs / "node-0.log").read_text(encoding="utf-8")
    assert "HEARTBEAT" not in matter, "the log for people is as it was"


def test_everything_cannot_be_shown_and_hidden() -> None:
    for other in (["-q"], ["--log-format", "json"]):
        server_py("node", 0, "-v", *other).refused(2, "-v shows every event, in words")
