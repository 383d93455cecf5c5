"""One token for one run, made once however many nodes start, and never taken from a file that others can touch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zabzmq.server.observe_token import TokenError, fresh_token, shared_token


def test_all_nodes_of_a_run_share_a_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as nodes:
        tokens = set(nodes.map(lambda _: shared_token(tmp_path / "logs"), range(32)))
    assert len(tokens) == 1
    assert len(tokens.pop()) >= 32
    assert os.listdir(tmp_path / "logs") == ["token"], "drafts are gone"


def test_a_new_run_has_a_new_token(tmp_path: Path) -> None:
    old = shared_token(tmp_path)
    new = fresh_token(tmp_path)
    assert new != old
    assert shared_token(tmp_path) == new


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 300, b"a b" * 20, b"\xff" * 43, b"../" * 15])
def test_what_is_no_token_is_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(TokenError, match="does not hold a token"):
        shared_token(tmp_path)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o666])
def test_a_token_that_others_can_touch_is_no_secret(tmp_path: Path, mode: int) -> None:
    shared_token(tmp_path)
    (tmp_path / "token").chmod(mode)
    with pytest.raises(TokenError, match="read by others"):
        shared_token(tmp_path)


def test_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    shared_token(tmp_path / "other")
    (tmp_path / "token").symlink_to(tmp_path / "other" / "token")
    with pytest.raises(TokenError):
        shared_token(tmp_path)
    (tmp_path / "token").unlink()
    os.mkfifo(tmp_path / "token", 0o600)
    with pytest.raises(TokenError, match="not a file"):
        shared_token(tmp_path)


def test_a_directory_that_cannot_be_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenError):
        shared_token(tmp_path / "file" / "logs")
