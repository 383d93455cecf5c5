"""Started with the wrong Python, the programs say what to do; nobody gets a traceback for a forgotten `activate`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zabzmq.cli import start

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("program", ["zookeeper_server.py", "client.py"])
def test_without_its_packages_a_program_says_what_to_type(program: str) -> None:
    command = [sys.executable, "-S", program, "status"]  # -S: no site-packages, as outside the virtual environment
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the package ")
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["zookeeper_server.py", "client.py"])
def test_with_them_it_runs(program: str) -> None:
    command = [sys.executable, program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {program} ")


def test_an_old_python_is_told_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "NEEDED", (9, 0))
    with pytest.raises(SystemExit, match=r"error: this is Python 3\.\d+\.\d+, and 9\.0 or later is needed"):
        start.start("zabzmq.cli.server")
