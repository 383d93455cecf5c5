"""Colour: on terminals, on request, never in JSON; and without it every byte is as if there were none."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator

import click
import pytest

from tests.cli.terminal import on_terminal
from tests.client.fake import FakeCluster
from zabzmq.cli import client, server
from zabzmq.cli.client_monitor import event_line
from zabzmq.cli.colour import NodeLines
from zabzmq.client.monitor import LeaderChange, LeaderLost

STYLE = re.compile(r"\x1b\[[0-9;]*m")
GREEN, MAGENTA, RED = "\x1b[32m\x1b[1m", "\x1b[35m\x1b[1m", "\x1b[31m\x1b[1m"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(3) as made:
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in [name for name in os.environ if name.startswith("ZAB_") or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm")

    def call(program: str, *args: str | int) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [program, *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            (client if program == "client.py" else server).main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


@pytest.mark.parametrize("program", ["client.py", "zookeeper_server.py"])
def test_status_is_coloured_when_asked_and_else_the_same_to_the_byte(
    run: Run, cluster: FakeCluster, program: str
) -> None:
    cluster.kill(2)
    here = ("--base-port", cluster.base_port, "--nodes", 3)
    code, plain, _ = run(program, *here, "status")
    assert code == 0 and "\x1b" not in plain
    coloured = run(program, *here, "status", "--color", "always")[1]
    before = run(program, "--color", "always", *here, "status")[1]
    for said in (coloured, before):
        assert said.startswith(f"{MAGENTA}degraded\x1b[0m  2/3 up")
        assert f"{GREEN}0 ★  LEADING " in said and f"{RED}2 ✕  DOWN " in said
        assert "\n1 ●  FOLLOWING " in said
        assert STYLE.sub("", said) == plain
    assert "\x1b" not in run(program, *here, "status", "--color", "always", "--json")[1]


def test_what_is_told_after_the_command_has_ended_is_coloured_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("zookeeper_server.py", "status", "--config", "gone.toml", "--color", "always")[2].startswith(
        f"{RED}error:\x1b[0m gone.toml: cannot be read"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    assert run("client.py", "--color", "always", "status", "--config", "gone.toml")[2].startswith(RED)
    assert run("client.py", "status", "--config", "gone.toml")[2].startswith("error: gone.toml")


def test_the_prefix_of_a_refusal_is_coloured_and_the_words_are_not(run: Run, cluster: FakeCluster) -> None:
    code, out, err = run("client.py", "--base-port", cluster.base_port, "guess", 4, "--color", "always", "--json")
    assert (code, "\x1b" in out) == (6, False)
    assert err.startswith(f"{MAGENTA}refused:\x1b[0m no target yet")


def test_a_terminal_is_coloured_unless_somebody_minds(cluster: FakeCluster) -> None:
    command = ("client.py", "--base-port", cluster.base_port, "status")
    assert b"\x1b[32m\x1b[1mhealthy" in on_terminal(*command)
    for quiet in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert b"\x1b" not in on_terminal(*command, environ=quiet)
    assert b"\x1b" not in on_terminal(*command, "--color", "never")
    assert b"\x1b[32m\x1b[1mhealthy" in on_terminal(*command, "--color", "always", environ={"NO_COLOR": "1"})
    assert b"\x1b[32m\x1b[1mhealthy" in on_terminal(*command, environ={"NO_COLOR": ""})


def test_rich_agrees_with_click(cluster: FakeCluster) -> None:
    command = ("zookeeper_server.py", "--base-port", cluster.base_port, "status", "--watch")
    assert b"\x1b[1;32mhealthy" in on_terminal(*command, until=b"PID")
    for said in (
        on_terminal(*command, until=b"PID", environ={"NO_COLOR": "1"}),
        on_terminal(*command, "--color", "never", until=b"PID"),
    ):
        assert b"healthy  3/3 up" in said and not STYLE.search(said.decode())


def test_lines_of_a_change_of_leaders_are_coloured_and_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for event, style in ((LeaderLost(0), MAGENTA), (LeaderChange(2, 4, 0, 2300.0), GREEN)):
        click.echo(event_line(event), color=True)
        said = capsys.readouterr().out
        assert said.startswith(style)
        click.echo(event_line(event))
        assert capsys.readouterr().out == STYLE.sub("", said)


def test_a_node_shows_its_role_and_when_it_changes() -> None:
    lines = [
        "12:00:01.000  n2 e0 LOOKING    election   round 1: vote (0, 0.0, 2)\n",
        "12:00:01.001  n2 e0 LOOKING    election   round 1: vote (0, 0.0, 4)\n",
        "12:00:01.002  n2 e1 FOLLOWING  broadcast  the leader serves (leader 4)\n",
        "12:00:01.003  n2 e1 FOLLOWING  broadcast  fsync 1.1 in 0.3 ms\n",
        "12:00:01.004  n2 e2 LEADING    discovery  elected\n",
        "... 412 more\n",
    ]
    paint = NodeLines()
    painted = [paint(line) for line in lines]
    assert [STYLE.sub("", line) for line in painted] == lines
    first, second, third, fourth, fifth, last = painted
    assert f"{MAGENTA}LOOKING\x1b[0m" in first and "\x1b[1m    election   round 1" in first
    assert f"{MAGENTA}LOOKING\x1b[0m    election" in second
    assert "FOLLOWING\x1b[1m  broadcast  the leader serves (leader 4)\x1b[0m\n" in third
    assert (fourth, last) == (lines[3], lines[5])
    assert f"{GREEN}LEADING\x1b[0m\x1b[1m    discovery  elected" in fifth
