"""Damage at rest is refused, made up for, or the one exception of L2: the short form of `python -m tests.crash`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import damage
from tests.crash.damage import KIB_64, Left
from tests.storage.directory import end_of


@pytest.fixture
def killed(tmp_path: Path) -> Left:
    """A log of 64 KiB in one segment; its process was killed."""
    return damage.make_log(tmp_path / "node-0", KIB_64)


@pytest.fixture
def stopped(tmp_path: Path) -> Left:
    """The same, stopped cleanly."""
    return damage.make_log(tmp_path / "node-0", KIB_64, clean=True)


def test_a_log_cut_anywhere_gives_exactly_its_longest_prefix_of_whole_batches(killed: Left) -> None:
    [segment] = killed.segments
    size = segment.stat().st_size
    assert size > 60_000
    tried = damage.cut(killed, segment, {*range(0, size, 113), *range(size - 200, size + 1)})
    assert tried.refused == 0 and tried.whole == 1 and tried.tried > 700


def test_a_cleanly_stopped_log_that_is_cut_is_refused_wherever_a_batch_is_lost(stopped: Left) -> None:
    [segment] = stopped.segments
    size = segment.stat().st_size
    tried = damage.cut(stopped, segment, {*range(0, size, 157), *range(size - 60, size + 1)})
    assert tried.lost == 0 and tried.refused > 400
    assert tried.whole == 21, "of the closing record alone nothing is missed: META knows where the log ended"


def test_every_flipped_bit_is_refused_but_in_the_last_write_before_a_kill(killed: Left) -> None:
    [segment] = killed.segments
    size = segment.stat().st_size
    tried = damage.flip(killed, segment, range(0, size * 8, 997))
    in_last_write = sum(batch.size for batch in killed.batches[-killed.last_write :]) * 8 / 997
    assert tried.whole == 0
    assert 0 < tried.lost < 1.1 * in_last_write + 5, "that of L2, and no other"
    assert tried.refused == tried.tried - tried.lost


def test_damage_to_the_zeros_after_a_log_costs_nothing(tmp_path: Path) -> None:
    """L4: nobody was told of anything there, so that a node starts on it, and with all it had."""
    left = damage.make_log(tmp_path / "node-0", 20 << 10, segments=2, filled=True)
    segment = left.last_segment
    end, size = end_of(segment), segment.stat().st_size
    assert size > end + 300
    tried = damage.flip(left, segment, range(end * 8, size * 8, 37))
    assert tried.whole == tried.tried > 300
    assert damage.cut(left, segment, range(end, size, 11)).lost == 0
    tried = damage.flip(left, segment, range(0, end * 8, 397))
    assert tried.whole == 0 and tried.refused > 0, "all before them is found, as without zeros"


def test_after_a_clean_stop_every_flipped_bit_is_refused(stopped: Left) -> None:
    [segment] = stopped.segments
    tried = damage.flip(stopped, segment, range(0, segment.stat().st_size * 8, 997))
    assert tried.lost == 0 and tried.tried > 500
    assert tried.whole <= 1, "the closing record itself can be missed: META knows where the log ended"


def test_a_lost_or_misplaced_sector_is_refused(stopped: Left) -> None:
    [segment] = stopped.segments
    tried = damage.sectors(stopped, segment)
    assert tried.tried > 300 and tried.lost == 0
    assert tried.whole <= 3, "in the last sector there may be the closing record only"


def test_of_many_segments_only_the_last_may_have_a_torn_end(tmp_path: Path) -> None:
    left = damage.make_log(tmp_path / "node-0", 16 << 10, segments=4)
    assert len(left.segments) >= 4
    for segment in left.segments[:-1]:
        size = segment.stat().st_size
        assert damage.cut(left, segment, range(0, size, 41)).whole == 0
        tried = damage.flip(left, segment, range(0, size * 8, 397))
        assert tried.refused == tried.tried > 30
    last = left.segments[-1]
    assert damage.cut(left, last, range(0, last.stat().st_size, 41)).refused == 0


def test_a_damaged_snapshot_is_refused_or_made_up_for_by_the_one_before(tmp_path: Path) -> None:
    left = damage.make_snapshots(tmp_path / "node-0")
    older, newer = sorted((left.path / "gen-1").glob("snap.*"))
    for snapshot, bits in ((older, 97), (newer, 29)):
        size = snapshot.stat().st_size
        tried = damage.flip(left, snapshot, range(0, size * 8, bits))
        assert tried.whole == tried.tried > 40, "the newest whole one and the log from it on are enough"
        tried = damage.cut(left, snapshot, range(0, size, 17))
        assert tried.whole == tried.tried > 30


def test_both_snapshots_damaged_are_refused_when_the_log_does_not_reach_back_to_the_beginning(tmp_path: Path) -> None:
    left = damage.make_snapshots(tmp_path / "node-0")
    for snapshot in (left.path / "gen-1").glob("snap.*"):
        content = bytearray(snapshot.read_bytes())
        content[-1] ^= 1
        snapshot.write_bytes(content)
    assert "no whole snapshot says what was before" in str(left.recover())


@pytest.mark.parametrize("name", ["META", "CURRENT"])
def test_damage_to_a_small_file_is_refused(tmp_path: Path, name: str) -> None:
    left = damage.make_snapshots(tmp_path / "node-0")
    file = left.file(name)
    tried = damage.flip_and_start(left, file, range(0, file.stat().st_size * 8, 3), tmp_path / "work")
    assert tried.refused == tried.tried > 10
    tried = damage.cut_and_start(left, file, tmp_path / "work")
    assert tried.refused == tried.tried > 5
