"""The long runs, in short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_leaders_are_taken_away_and_the_wait_is_told(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.faults",
        "--kills",
        "1",
        "--freezes",
        "1",
        "--directory",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, frozen = done.stdout.splitlines()
    assert killed.startswith("leader killed, to the next commit: p50 ") and killed.endswith("1 times")
    assert frozen.startswith("leader frozen, to the next commit: p50 ")
    assert list(tmp_path.iterdir()) == []


def test_a_follower_catches_up_while_others_write(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--behind", "2000", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2,000 writes of 128 bytes behind, caught up by DIFF in ")
    assert done.stdout.endswith("; 0 not done\n")
    assert list(tmp_path.iterdir()) == []


def test_nodes_are_started_again_after_many_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--history", "3000", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written, follower, all_of_them = done.stdout.splitlines()
    assert written.startswith("3,000 writes in ")
    assert follower.startswith("a follower that is started serves after ")
    assert all_of_them.startswith("all nodes started: first commit after ")


def test_a_hard_pressed_cluster_is_watched(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--steady", "0.03", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "syncs 50 ms longer" in done.stdout
    assert ("0 elections" in done.stdout) == (done.returncode == 0)
