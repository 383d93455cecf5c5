"""Standard streams that are closed or full, and signals at bad moments: words and exit codes, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.cli.terminal import on_terminal
from tests.client.fake import FakeCluster
from zabzmq.machine.operations import Put

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(5) as made:
        yield made


def run(
    cluster: FakeCluster, program: str, *args: str, out: IO[bytes] | int = subprocess.PIPE, closed: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """`closed`: redirections of a shell."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, program, *args]
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")}
    env["ZAB_BASE_PORT"] = str(cluster.base_port)
    ran = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=env,
        timeout=PATIENCE_S,
        check=False,
    )
    assert b"Traceback" not in ran.stderr
    assert b"internal error" not in ran.stderr
    return ran


COMMANDS = [
    ("client.py", "get"),
    ("client.py", "status"),
    ("client.py", "batch", "--jsonl"),
    ("zookeeper_server.py", "status"),
]


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_stream_is_one_that_nobody_reads(cluster: FakeCluster, command: tuple[str, ...], closed: str) -> None:
    ran = run(cluster, *command, closed=closed)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("command", [("client.py", "get"), ("zookeeper_server.py", "status")], ids=" ".join)
def test_a_full_disk_behind_standard_output_is_told_in_words(cluster: FakeCluster, command: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        ran = run(cluster, *command, out=full)
    assert ran.returncode == 1
    assert ran.stderr.startswith(b"error: standard output takes no more: No space left on device.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command",
    [("zookeeper_server.py", "status", "--watch"), ("client.py", "monitor", "--since", "0.0")],
    ids=" ".join,
)
def test_a_stream_that_is_told_to_end_ends_with_0(
    cluster: FakeCluster, command: tuple[str, ...], number: signal.Signals
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")}
    env["ZAB_BASE_PORT"] = str(cluster.base_port)
    cluster.write(Put(b"key", b"value"))
    with subprocess.Popen(
        [sys.executable, "-u", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=env
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == b""


def test_ctrl_c_while_modules_are_loaded_shows_no_traceback(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"  # stands for any module that takes its time
    slow.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(60)\n")
    program = "from zabzmq.cli.start import start\nstart('slow')\n"
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, timeout=PATIENCE_S, check=False)
    assert (ran.returncode, ran.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("program", ["client.py", "zookeeper_server.py"])
def test_a_progress_bar_can_be_left_out(cluster: FakeCluster, program: str) -> None:
    args = {"client.py": ("bench", "--seconds", "0.3"), "zookeeper_server.py": ("sim", "--seeds", "0..1")}
    command = (program, "--base-port", cluster.base_port, *args[program])
    assert b"\x1b" in on_terminal(*command)
    assert b"\x1b" not in on_terminal(*command, "-q")
