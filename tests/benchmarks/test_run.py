"""The bare loop with real processes, and what a run refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.measure import NODES, VALUE_BYTES, Load, Trouble
from benchmarks.ours import Ours
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.nats import Nats
from benchmarks.peers.packages import Packages
from benchmarks.peers.pysyncobj import PySyncObj, PySyncObjTuned
from benchmarks.peers.zookeeper import ZooKeeper
from benchmarks.raw import Coalesced, Raw
from benchmarks.run import Plan, Run


@pytest.mark.parametrize("kind", [Raw, Coalesced])
def test_the_bare_loop_puts_every_answered_write_on_three_disks(kind: type[Raw], tmp_path: Path) -> None:
    system = kind(tmp_path)
    system.start()
    try:
        before = max(_held(tmp_path))
        measured = system.writes(Load(4, 16), 0.0)
        # With no time at all, the first 64 are all there is.
        written = sorted(_held(tmp_path), reverse=True)
        assert written[0] == before + 64
        assert written[2] == written[0], "three of five"
        assert measured.per_s > 0
        assert len(system.pids()) == NODES
    finally:
        system.stop()
    assert system.pids() == []


def _held(directory: Path) -> list[int]:
    return [(directory / f"log-{i}").stat().st_size // VALUE_BYTES for i in range(NODES)]


def test_each_of_many_connections_has_its_writes_committed(tmp_path: Path) -> None:
    system = Ours(tmp_path)
    system.start()
    try:
        with system._client() as client:
            before = max(node.applied for node in system._all_up(client).values())
            measured = system.writes_over(20, 0.3)
            after = max(node.applied for node in system._all_up(client).values())
    finally:
        system.stop()
    answered = int(measured.per_s * 0.3)  # at least: the loop ends a moment after that
    assert answered >= 20
    assert after[1] - before[1] >= answered + 20, "each registered first"


def test_a_run_is_refused_where_syncing_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "file_system", lambda path: "tmpfs")
    makes: dict[str, run.Make] = {"raw": Raw}
    with pytest.raises(Trouble, match="tmpfs, where syncing costs nothing"):
        Run(Plan(), makes, tmp_path, lambda line: None).measure()
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "Paxos"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing is known of 'Paxos'" in done.stderr
    assert "zabzmq, raw, raw, coalesced" in done.stderr


def test_without_the_tools_of_debian_nothing_is_fetched_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "python" / "pysyncobj").mkdir(parents=True)
    told = "\n".join(Packages(tmp_path).install())
    assert "etcd is not fetched: apt-get and dpkg-deb are needed for that" in told
    assert "not installed" in told


@pytest.mark.parametrize("kind", [Ours, Raw, Coalesced, ZooKeeper, Etcd, Nats, PySyncObj, PySyncObjTuned])
def test_every_system_says_who_syncs_and_who_drives_it(kind: type[Ours]) -> None:
    assert kind.name and kind.syncs and kind.driver and kind.settings
