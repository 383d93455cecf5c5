"""`play` and `completion`: a prompt, and what a shell is told."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.fake import SILENT, FakeCluster
from zabzmq.cli.client import main
from zabzmq.cli.client_play import move
from zabzmq.machine.operations import GameQuery, Guess, Target

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(5) as made:
        yield made


@pytest.mark.parametrize(
    ("line", "wish"),
    [
        ("target 50", Target(50)),
        ("  Target  50 NEW ", Target(50, True)),
        ("guess 0", Guess(0)),
        ("100", Guess(100)),
        ("get", GameQuery()),
    ],
)
def test_a_line_is_a_move(line: str, wish: object) -> None:
    assert move(line) == wish


@pytest.mark.parametrize("line", ["101", "-1", "target", "target x", "guess 4 new", "4.5", "\u0664", "get 3", "9" * 30])
def test_what_is_no_move_is_told_so(line: str) -> None:
    with pytest.raises(ValueError, match=r"not in the range|nothing is known of"):
        move(line)


def play(
    cluster: FakeCluster, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["client.py", "--base-port", str(cluster.base_port), "play", *args])
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), *capsys.readouterr()


def test_a_game_is_played_by_one_client_until_the_input_ends(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = play(cluster, "target 50\n47\nget\nnonsense\n", monkeypatch, capsys, "--as", "bob")
    assert code == 0
    first, read = out.splitlines()
    assert first.startswith("committed 1.2  target = 50   by bob")
    assert read.startswith("target = 50 by bob")
    refused, wrong = err.splitlines()
    assert refused.startswith("refused: ")
    assert wrong.startswith("error: nothing is known of 'nonsense' here; say target 50")


def test_quit_ends_it_and_objects_are_one_a_line(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = play(cluster, "target 50\n\nget\nquit\n47\n", monkeypatch, capsys, "--json")
    assert code == 0
    assert [json.loads(line)["op"] for line in out.splitlines()] == ["target", "get"]


def test_an_unknown_outcome_does_not_end_the_game(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.behave(lambda node, request: SILENT)
    code, out, err = play(cluster, "target 50\nget\n", monkeypatch, capsys, "--timeout", "0.2")
    assert (code, out) == (0, "")
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 2


def complete(program: str, *words: str) -> list[str]:
    """What a shell gets that completes the last of these words."""
    variable = "_CLIENT_PY_COMPLETE" if program == "client.py" else "_ZOOKEEPER_SERVER_PY_COMPLETE"
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")}
    env |= {variable: "bash_complete", "COMP_WORDS": " ".join([program, *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, cwd=ROOT, env=env, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_options_and_nodes_are_completed() -> None:
    assert complete("client.py", "g") == ["get", "guess"]
    assert complete("client.py", "get", "--from", "") == ["0", "1", "2", "3", "4", "leader", "any"]
    assert complete("zookeeper_server.py", "cluster", "kill", "l") == ["leader"]
    assert "--strict" in complete("zookeeper_server.py", "status", "--s")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_line_for_a_shell_names_the_program(shell: str) -> None:
    command = [sys.executable, "client.py", "completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "_CLIENT_PY_COMPLETE" in done.stdout and f"{shell}_source" in done.stdout
    assert str(ROOT / "client.py") in done.stdout and len(done.stdout.splitlines()) == 1
    assert done.stderr.startswith("add it to ")
