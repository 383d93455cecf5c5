"""What is typed wrong is refused in words before anything is started or sent: exit 2, or 1 for a file's content."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.real import client_py, server_py


@pytest.mark.parametrize(
    ("id", "why"),
    [
        ("-1", "-1 is not in the range 0<=x<=8"),
        ("9", "9 is not in the range 0<=x<=8"),
        ("7", 'there is no node 7 in cluster "demo": its nodes are 0 1 2 3 4'),
        ("two", "'two' is not a valid integer"),
    ],
)
def test_an_unknown_or_negative_node_id_is_refused(tmp_path: Path, id: str, why: str) -> None:
    ran = server_py("node", id, "--data-dir", tmp_path / "data", "--log-dir", tmp_path / "logs")
    ran.refused(2, why)
    assert ran.out == ""
    assert list(tmp_path.iterdir()) == [], "nothing was made"


@pytest.mark.parametrize("command", ["target", "guess"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("101", "101 is not in the range 0<=x<=100"),
        ("-5", "-5 is not in the range 0<=x<=100"),
        ("4.5", "'4.5' is not a valid integer"),
    ],
)
def test_a_value_outside_0_to_100_is_refused_before_it_is_sent(command: str, value: str, why: str) -> None:
    # Port 1024 and up: nobody is there, so exit 2 and not 4 shows that nobody was asked.
    client_py("--base-port", 1024, command, value).refused(2, "Usage: client.py", why)


WRONG_FILES = {
    "unknown key": ("bace_port = 27000", "Object contains unknown field `bace_port`"),
    "unknown key of a node": (
        "[[node]]\nid = 0\nhots = 'x'",
        "[[node]] number 1: Object contains unknown field `hots`",
    ),
    "duplicate ids": ("[[node]]\nid = 1\n[[node]]\nid = 1", "[[node]] number 2: id = 1 was given before"),
    "duplicate ports": (
        "[[node]]\nid = 0\npeer = 27000\n[[node]]\nid = 1\nclient = 27000",
        "port 27000 of 127.0.0.1 is given to node 0 (peer) and node 1 (client)",
    ),
    "a host that is none": ("[[node]]\nid = 0\nhost = 'a b'", "host 'a b' of node 0 is neither a name nor an address"),
    "negative id": ("[[node]]\nid = -1", "Expected `int` >= 0 at `id`"),
    "no TOML": ("[[node", "is not TOML"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_config_is_refused_with_the_file_and_the_place(tmp_path: Path, name: str) -> None:
    text, why = WRONG_FILES[name]
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    server_py("--config", path, "node", 0).refused(1, f"error: {path}: ", why)
    client_py("--config", path, "get").refused(1, f"error: {path}: ", why)


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    server_py("node", 0, "--config", tmp_path / "gone.toml").refused(1, "gone.toml: cannot be read: No such file")


def test_nobody_there_is_exit_4_with_the_addresses_and_the_command_to_start() -> None:
    for ran in (client_py("--base-port", 1024, "--timeout", 1, "get"), server_py("--base-port", 1024, "status")):
        ran.refused(4, "nobody listens on 127.0.0.1:1034-1038", "cluster up", "ZAB_BASE_PORT")
