"""The power may go at any moment: the short form of `python -m tests.crash`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest

from tests.crash.disk import Create, Disk, Op, Remove, Rename, Sync, SyncDir, Write
from tests.crash.script import Promise, Run, record
from tests.crash.sweep import Sweep

Names: TypeAlias = dict[int, str]
"""Under what name a file was made."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return record(tmp_path_factory.mktemp("run"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_whatever_a_power_cut_leaves_holds_what_was_promised(run: Run, work: Path) -> None:
    swept = Sweep(work, most=6).run(run.trace, Disk())
    assert swept.points > 200 and swept.images > 250


def test_a_second_power_cut_during_the_recovery_takes_nothing_either(run: Run, work: Path) -> None:
    swept = Sweep(work, most=2).recoveries(run.trace, Disk(), every=23, most=2)
    assert swept.again > 200


def test_every_image_of_a_moment_is_tried_when_they_are_few() -> None:
    disk = Disk()
    for op in (Create("f", 0), Create("g", 1), Write(1, b"g" * 700, 0), Rename("g", "h")):
        disk.apply(op)
    half, rest = b"g" * 512, b"g" * 188
    torn = {b"", half, half + rest, half + bytes(188), bytes(512) + rest, bytes(700)}
    found = {frozenset(image.files) for image in disk.images(200, Random(0))}
    for f in ([], [("f", b"")]):
        assert frozenset(f) in found
        for content in torn:
            assert {frozenset([*f, ("g", content)]), frozenset([*f, ("h", content)])} <= found
    disk.apply(SyncDir("."))
    disk.apply(Sync(1))
    assert [image.files for image in disk.images(200, Random(0))] == [{("f", b""), ("h", b"g" * 700)}]


def test_of_what_was_written_over_and_not_synced_any_sectors_may_be_as_before() -> None:
    disk = Disk()
    for op in (Create("f", 0), Write(0, bytes(1100), 0), Sync(0), SyncDir("."), Write(0, b"x" * 1024, 500)):
        disk.apply(op)
    first, second, third = bytes(500) + b"x" * 12, b"x" * 512, b"x" * 500
    expected = {
        a + b + c
        for a in (first, bytes(512))
        for b in (second, bytes(512))
        for c in (third, bytes(76), bytes(500), bytes(76) + b"\xee" * 424)
    }
    found = {content for image in disk.images(200, Random(0)) for _, content in image.files}
    assert found <= expected and len(found) == 15
    assert all(len(content) >= 1100 for content in found), "what was synced does not get shorter"
    for a in (first, bytes(512)):
        for b in (second, bytes(512)):
            assert {a + b + third, a + b + bytes(500)} <= found


SYNCS: dict[str, Callable[[Op, Names], bool]] = {
    "of the data directory": lambda op, names: isinstance(op, SyncDir) and op.path == "node-0",
    "of a generation": lambda op, names: isinstance(op, SyncDir) and "gen-" in op.path,
    "of META": lambda op, names: isinstance(op, Sync) and "META" in names[op.file],
    "of CURRENT": lambda op, names: isinstance(op, Sync) and "CURRENT" in names[op.file],
    "of segments": lambda op, names: isinstance(op, Sync) and "log." in names[op.file],
    "of snapshots": lambda op, names: isinstance(op, Sync) and "snap." in names[op.file],
}


@pytest.mark.parametrize("what", SYNCS)
def test_it_is_noticed_when_one_kind_of_sync_is_left_out(run: Run, work: Path, what: str) -> None:
    """Else this test bed would prove nothing."""
    names: Names = {op.file: op.path for op in run.trace if isinstance(op, Create)}
    trace = [op for op in run.trace if isinstance(op, Promise) or not SYNCS[what](op, names)]
    assert len(trace) < len(run.trace)
    with pytest.raises(AssertionError, match="power cut after change"):
        Sweep(work, most=6).run(trace, Disk())


def test_it_is_noticed_when_segments_are_cut_off_oldest_first(run: Run, work: Path) -> None:
    """L11. Two removals in a row, each with its sync: the other way round."""
    trace = list(run.trace)
    removals = [at for at, op in enumerate(trace) if isinstance(op, Remove) and "log." in op.path]
    first, second = next((a, b) for a, b in pairwise(removals) if b == a + 2 and _newer(trace[a], trace[b]))
    trace[first], trace[second] = trace[second], trace[first]
    with pytest.raises(AssertionError, match="power cut after change"):
        Sweep(work, most=6).run(trace, Disk())


def _newer(a: Op | Promise, b: Op | Promise) -> bool:
    assert isinstance(a, Remove) and isinstance(b, Remove)
    first, second = ([int(part) for part in op.path.split(".")[-2:]] for op in (a, b))
    return first > second
