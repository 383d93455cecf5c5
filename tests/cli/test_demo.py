"""make bench, and what the demo does not take. The demo itself runs in tests/e2e."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from zabzmq.cli import demo
from zabzmq.cli.common import UserError


def test_bench_measures_five_real_nodes_that_it_stops_again() -> None:
    command = [sys.executable, "-m", "zabzmq.cli.demo", "--bench", "--seconds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    measured = json.loads(done.stdout)
    assert measured["nodes_up"] == 5
    assert measured["ops"] > 0
    assert (measured["refused"], measured["unknown"], measured["not_done"]) == (0, 0, 0)


def test_a_word_that_nobody_asked_for_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "zabzmq.cli.demo", "now"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'now'" in done.stderr


def test_a_base_with_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        taken = holder.getsockname()[1]
        monkeypatch.setattr(demo, "_is_free", lambda port: False)
        with pytest.raises(UserError, match="no free ports"):
            demo.free_base_port()
        monkeypatch.undo()
        assert not demo._is_free(taken)
