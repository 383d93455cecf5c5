"""client.py check: histories of bench, and what is wrong with others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.client.fake import FakeCluster
from zabzmq.cli.client import main

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    def run(*args: str | int | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["client.py", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(ended.value.code or 0), out, err

    return run


def line(process: int, kind: str, op: str, key: str | None, value: Any, t: float, zxid: Any = None) -> str:
    return json.dumps({"process": process, "type": kind, "op": op, "key": key, "value": value, "t": t, "zxid": zxid})


def put(process: int, value: str, began: float, ended: float | None, kind: str = "ok") -> list[tuple[float, str]]:
    """A write of key k; without an end its run was ended before."""
    lines = [(began, line(process, "invoke", "kv.put", "k", value, began))]
    return lines if ended is None else [*lines, (ended, line(process, kind, "kv.put", "k", value, ended))]


def get(process: int, value: str | None, began: float, ended: float) -> list[tuple[float, str]]:
    return [
        (began, line(process, "invoke", "kv.get", "k", None, began)),
        (ended, line(process, "ok", "kv.get", "k", value, ended)),
    ]


def written(path: Path, *calls: list[tuple[float, str]]) -> Path:
    path.write_text("".join(f"{text}\n" for _, text in sorted(chain.from_iterable(calls))))
    return path


@pytest.mark.parametrize(
    ("calls", "code"),
    [
        pytest.param([put(0, "a", 1, 2), get(1, "a", 3, 4)], 0, id="read what was written"),
        pytest.param([put(0, "a", 1, 2), get(1, None, 3, 4)], 7, id="a stale read"),
        pytest.param([put(0, "a", 1, 4), get(1, None, 2, 3)], 0, id="a read while it was written"),
        pytest.param([put(0, "a", 1, 2), put(1, "b", 1, 2), get(2, "a", 3, 4), get(2, "b", 5, 6)], 7, id="turned back"),
        pytest.param([put(0, "a", 1, 2, "fail"), get(1, "a", 3, 4)], 7, id="what surely failed was read"),
        pytest.param([put(0, "a", 1, 2, "fail"), get(1, None, 3, 4)], 0, id="what surely failed was not read"),
        pytest.param([put(0, "a", 1, 2, "unknown"), get(1, None, 3, 4), get(1, "a", 5, 6)], 0, id="unknown, and late"),
        pytest.param([put(0, "a", 1, None), get(1, None, 3, 4), get(1, "a", 5, 6)], 0, id="never ended, and late"),
        pytest.param([put(0, "a", 1, 2, "unknown"), get(1, "a", 3, 4), get(1, None, 5, 6)], 7, id="seen and gone"),
    ],
)
def test_a_history_is_judged(client: Check, tmp_path: Path, calls: list[list[tuple[float, str]]], code: int) -> None:
    path = written(tmp_path / "h.jsonl", *calls)
    ended, out, _ = client("check", path)
    assert ended == code
    assert out.startswith("linearizable: " if code == 0 else "not linearizable: ")
    ended, out, _ = client("check", path, "--json")
    found = json.loads(out)
    assert (ended, found["v"], found["ok"], found["decided"]) == (code, 1, code == 0, True)
    assert (found["part"], bool(found["stuck"])) == (None if code == 0 else "key b'k'", code != 0)


def test_a_search_that_is_given_up_is_not_decided(client: Check, tmp_path: Path) -> None:
    path = written(tmp_path / "h.jsonl", *(put(i, f"v{i}", 1, 20 + i) for i in range(9)), get(9, "v3", 2, 3))
    assert client("check", path)[0] == 0
    code, out, _ = client("check", path, "--steps", 3)
    assert code == 8 and out.startswith("not decided: ") and "--steps" in out


def test_games_are_not_judged(client: Check, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    game = [line(0, "invoke", "guess", None, 7, 1), line(0, "ok", "guess", None, 7, 2, [1, 2])]
    path.write_text("\n".join(game))
    code, _, err = client("check", path)
    assert code == 1 and "nothing to judge" in err
    path.write_text("\n".join([*game, *(text for _, text in put(1, "a", 3, 4))]))
    code, out, _ = client("check", path)
    assert code == 0 and "1 operations of the game were not judged" in out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no JSON\n", "line 1: "),
        ('{"process":1}\n', "line 1: "),
        (line(0, "ok", "kv.put", "k", "v", 1), "line 1: process 0 did not invoke this"),
        ("\n".join([line(0, "invoke", "kv.put", "k", "v", 1)] * 2), "line 2: process 0 has an operation under way"),
        (line(0, "invoke", "kv.put", "k", "v", 1).replace("k", "\udcff"), "line 1: "),
    ],
)
def test_what_is_no_history_is_said_with_its_line(client: Check, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(content, errors="surrogateescape")
    code, _, err = client("check", path)
    assert code == 1 and words in err and "bench" in err


def test_a_file_that_is_not_there_is_said(client: Check, tmp_path: Path) -> None:
    code, _, err = client("check", tmp_path / "nothing")
    assert code == 1 and "cannot be read: No such file" in err


def test_what_bench_writes_is_read(client: Check, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    with FakeCluster(3) as cluster:
        options = ["--base-port", cluster.base_port, "--nodes", 3]
        code, _, err = client(
            *options, "bench", "--op", "kv.mix", "--seconds", "0.2", "--outstanding", 4, "--keys", 3, "--history", path
        )
        assert code == 0, err
    code, out, _ = client("check", path, "--json")
    found = json.loads(out)
    assert code == 0 and found["ok"] and found["calls"] > 10
