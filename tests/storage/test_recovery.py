"""What a node starts on, and what it refuses: torn tails, damage, missing and foreign files (L2 to L5, L8, L9)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.storage.directory import NO_LIMITS, NO_SPACE, Directory, FaultyFiles, chain, cut_zeros, history_of
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch, Epochs
from zabzmq.core.inputs import EpochsSaved
from zabzmq.core.zxid import ZERO, PeerId, Zxid
from zabzmq.storage import recovery
from zabzmq.storage.damage import Damaged
from zabzmq.storage.records import HEADER_BYTES
from zabzmq.storage.writer import SpaceLimits

WRITES = [chain(1, 1), chain(1, 3, Zxid(1, 2)), chain(1, 2, Zxid(1, 8))]
ALL = [batch for write in WRITES for batch in write]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose process just died: one segment, three writes of one, three and two batches."""
    node = Directory(tmp_path_factory.mktemp("made") / "node-0")
    for write in WRITES:
        node.append(*write)
    path = node.path.with_name("left")
    shutil.copytree(node.path, path)
    node.store.close()
    cut_zeros(path)  # of those test_filled.py
    return path


@pytest.fixture
def left(made: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "node-0"))


def life_of(path: Path) -> int:
    node = Directory(Path(shutil.copytree(path, path.with_name(path.name + "-life"))))
    node.store.close()
    return node.store.life


def held(path: Path, life: int, closed: Zxid | None = None) -> list[Batch]:
    """What recovery finds in generation 1, read-only."""
    directory = str(path / "gen-1")
    warnings: list[str] = []
    found = recovery.recover(directory, "demo", life, closed, warnings.append)
    held = [batch for batch in ALL if batch.last <= found.history.last]
    assert found.history == history_of(held)
    return held


def segment_of(path: Path) -> Path:
    return path / "gen-1" / "log.1.1"


def ends(path: Path) -> list[int]:
    """Where each record of the only segment ends."""
    scan = recovery.scan_segment(str(segment_of(path)), Zxid(1, 1), "demo", None, True)
    return [record.end for record in scan]


def test_a_log_that_is_cut_anywhere_gives_its_longest_prefix_of_whole_batches(left: Path) -> None:
    life, places = life_of(left), ends(left)
    whole = segment_of(left).read_bytes()
    assert places[-1] == len(whole)
    for size in range(len(whole), -1, -1):
        os.truncate(segment_of(left), size)
        expected = sum(end <= size for end in places)
        assert held(left, life) == ALL[:expected], f"cut to {size} bytes"


def test_a_log_that_ends_in_zeros_or_noise_gives_what_is_before_them(left: Path) -> None:
    life, places = life_of(left), ends(left)
    whole = segment_of(left).read_bytes()
    for size in range(HEADER_BYTES, len(whole), 7):
        for rest in (bytes(300), b"\xff" * 300, b"MORELASTSTOP" * 30, whole[HEADER_BYTES : HEADER_BYTES + 10]):
            segment_of(left).write_bytes(whole[:size] + rest)
            expected = sum(end <= size for end in places)
            assert held(left, life) == ALL[:expected], f"noise from {size} on"


def test_a_flipped_bit_is_refused_or_costs_only_the_last_write(left: Path) -> None:
    """L2, L3, bug 41: only in the last write does damage look like a torn end. Nothing wrong is ever read."""
    life, places = life_of(left), ends(left)
    whole = segment_of(left).read_bytes()
    last_write = places[-3]
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        segment_of(left).write_bytes(damaged)
        if at < last_write:
            with pytest.raises(Damaged) as refusal:
                held(left, life)
            assert refusal.value.path == str(segment_of(left))
            assert refusal.value.offset <= at, f"bit flipped at {at}, found at {refusal.value.offset}"
        else:
            expected = sum(end <= at for end in places)
            assert held(left, life) == ALL[:expected], f"bit flipped at {at}"


def test_after_a_clean_stop_a_flipped_bit_in_the_last_write_is_refused_too(tmp_path: Path) -> None:
    node = Directory(tmp_path / "node-0")
    for write in WRITES:
        node.append(*write)
    assert node.store.close()
    life, places = node.store.life, ends(node.path)
    whole = segment_of(node.path).read_bytes()
    assert len(places) == len(ALL) + 1, "the closing record"
    for at in range(places[-4], places[-2]):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        segment_of(node.path).write_bytes(damaged)
        with pytest.raises(Damaged):
            held(node.path, life)
    # And when the end is lost as a whole, META knows where it was.
    for size in (0, HEADER_BYTES, places[2], places[-3]):
        segment_of(node.path).write_bytes(whole[:size])
        with pytest.raises(StorageError, match=r"the log ended at 1\.12 when the node was stopped"):
            node.reopen()
    segment_of(node.path).unlink()
    with pytest.raises(StorageError, match=r"log\.1\.12: damaged at offset 0: the log ended at 1\.12"):
        node.reopen()


def test_a_torn_end_is_cut_and_said_and_the_log_goes_on_in_a_new_segment(left: Path) -> None:
    with open(segment_of(left), "ab") as file:
        file.write(b"torn")
    size = segment_of(left).stat().st_size
    node = Directory(left)
    assert node.store.history == history_of(ALL)
    assert node.warnings == [f"{segment_of(left)}: cut 4 bytes of an unfinished write at offset {size - 4}"]
    more = chain(1, 1, ALL[-1].last)
    node.append(*more)
    assert sorted(os.listdir(left / "gen-1")) == ["log.1.1", "log.1.13"]
    assert segment_of(left).stat().st_size == size - 4
    node.restart()
    assert node.everything() == ALL + more
    node.store.close()


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES])
def test_a_last_segment_that_was_only_begun_is_deleted(left: Path, size: int) -> None:
    """L4, bug 27."""
    begun = left / "gen-1" / "log.1.13"
    begun.write_bytes(segment_of(left).read_bytes()[:size] if size < HEADER_BYTES else bytes(size))
    node = Directory(left)
    assert node.store.history == history_of(ALL)
    assert not begun.exists()
    node.append(*chain(1, 1, ALL[-1].last))
    node.restart()
    node.store.close()


def test_a_last_segment_longer_than_its_damaged_header_is_refused(left: Path) -> None:
    """Its header was durable before anything else was written to it, so this is no torn creation."""
    (left / "gen-1" / "log.1.13").write_bytes(bytes(HEADER_BYTES + 1))
    with pytest.raises(Damaged, match=r"log\.1\.13: damaged at offset 0: the header"):
        Directory(left)


# ---- several segments ------------------------------------------------------------------------------------------------


@pytest.fixture
def long(node: Directory) -> Directory:
    """Four segments, their process dead."""
    for one in chain(1, 20, size=400):
        node.append(one)
    path = Path(shutil.copytree(node.path, node.path.with_name("left")))
    node.store.close()
    node.path = path
    assert len(segments(node)) == 7
    return node


def segments(node: Directory) -> list[Path]:
    return sorted((node.path / "gen-1").glob("log.*"), key=lambda path: int(path.suffix[1:]))


def test_an_older_segment_that_is_cut_anywhere_is_refused(long: Directory) -> None:
    """L3, bug 41: only the last segment can have a torn end."""
    path = segments(long)[2]
    whole = path.read_bytes()
    for size in [*range(0, len(whole) - 1, 5), len(whole) - 1]:
        os.truncate(path, size)
        with pytest.raises(Damaged) as refusal:
            long.reopen()
        assert refusal.value.path in (str(path), str(segments(long)[3]))
        path.write_bytes(whole)
    long.reopen()
    assert long.everything() == chain(1, 20, size=400)


def test_an_older_segment_whose_end_is_damaged_is_refused_though_nothing_is_missing(long: Directory) -> None:
    """L3: it was whole when the next one was begun."""
    with open(segments(long)[1], "ab") as file:
        file.write(b"noise")
    with pytest.raises(Damaged, match=f"{segments(long)[1]}"):
        long.reopen()


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_missing_segment_is_refused(long: Directory, missing: int) -> None:
    gone, following = segments(long)[missing : missing + 2]
    gone.unlink()
    why = "no whole snapshot says what was before" if missing == 0 else "a segment is missing"
    with pytest.raises(StorageError, match=f"{following}.*{why}"):
        long.reopen()


def test_a_segment_of_another_directory_is_refused(long: Directory, tmp_path: Path) -> None:
    other = Directory(tmp_path / "other", segment_bytes=2000)
    for one in chain(1, 20, size=400):
        other.append(one)
    shutil.copy(segments(other)[2], segments(long)[2])
    other.store.close()
    with pytest.raises(Damaged, match="another directory"):
        long.reopen()


def test_a_segment_under_another_name_is_refused(long: Directory) -> None:
    path = segments(long)[0]
    path.rename(path.with_name("log.1.2"))
    with pytest.raises(Damaged, match="not as its name says"):
        long.reopen()


def test_a_refused_directory_is_left_as_it_was(long: Directory) -> None:
    data = bytearray(segments(long)[1].read_bytes())
    data[600] ^= 1
    segments(long)[1].write_bytes(data)
    (long.path / "gen-1" / "log.1.1.tmp").write_bytes(b"half")
    before = {path: path.read_bytes() for path in long.path.rglob("*") if path.is_file() and path.name != "LOCK"}
    with pytest.raises(Damaged, match=r"Restore the directory from a copy, or move it away \(mv "):
        long.reopen()
    assert {path: path.read_bytes() for path in before} == before


def test_what_a_crash_left_half_made_is_deleted(long: Directory) -> None:
    for name in ("META.tmp", "CURRENT.tmp", "gen-1/snap.1.4.tmp", "gen-1/log.1.1.tmp", "gen-2/snap.tmp", "gen-0/x"):
        path = long.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    long.reopen()
    assert sorted(os.listdir(long.path)) == ["CURRENT", "LOCK", "META", "gen-1"]
    assert not list((long.path / "gen-1").glob("*.tmp"))


def test_an_operating_system_that_invents_space_at_the_end_of_a_clean_log_is_noticed(node: Directory) -> None:
    node.append(*ALL)
    assert node.store.close()
    with open(segment_of(node.path), "ab") as file:
        file.write(segment_of(node.path).read_bytes()[HEADER_BYTES:])
    with pytest.raises(Damaged, match="after the one that closed the segment"):
        node.reopen()


# ---- snapshots -------------------------------------------------------------------------------------------------------


@pytest.fixture
def snapped(node: Directory) -> Directory:
    """Snapshots at 1.20 and 1.30, the log from a little before the first on; stopped cleanly."""
    batches = chain(1, 20, size=400)
    node.append(*batches[:5])
    for one in batches[5:]:
        node.append(one)
    for counter in (20, 30):
        node.take(history_of(batches).mark(Zxid(1, counter)), b"state at %d" % counter)
    assert node.store.close()
    return node


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)


def test_a_damaged_newest_snapshot_falls_back_to_the_one_before(snapped: Directory) -> None:
    """L8: the log still reaches back to it."""
    path = snapped.path / "gen-1" / "snap.1.30"
    for at in range(path.stat().st_size):
        flip(path, at)
        store = snapped.reopen()
        assert store.history.snapshot == (1, 20) and store.history.last == (1, 40)
        assert store.load_snapshot() == (Zxid(1, 20), b"state at 20")
        assert store.close()
        assert len(snapped.warnings) == 1 and "Going on from the snapshot at 1.20" in snapped.warnings.pop()
        flip(path, at)
    # The next snapshot takes the place of the damaged one; what may be relied on stays.
    flip(path, 40)
    store = snapped.reopen()
    snapped.take(history_of(chain(1, 20, size=400)).mark(Zxid(1, 36)), b"later")
    assert sorted(p.name for p in (snapped.path / "gen-1").glob("snap.*")) == ["snap.1.20", "snap.1.36"]


def test_the_one_before_is_not_gone_on_from_across_a_gap(snapped: Directory) -> None:
    """L8: only if the log is contiguous from it."""
    flip(snapped.path / "gen-1" / "snap.1.30", 50)
    for path in segments(snapped):
        if int(path.suffix[1:]) < 25:
            path.unlink()
    with pytest.raises(Damaged, match=r"but the newest whole snapshot is at 1\.20: a gap"):
        snapped.reopen()


def test_with_all_snapshots_damaged_and_a_purged_log_the_start_is_refused(snapped: Directory) -> None:
    """L9, bug 26."""
    for name in ("snap.1.20", "snap.1.30"):
        flip(snapped.path / "gen-1" / name, 50)
    with pytest.raises(StorageError, match="and no whole snapshot says what was before"):
        snapped.reopen()


def test_with_no_snapshot_and_a_purged_log_the_start_is_refused(snapped: Directory) -> None:
    for name in ("snap.1.20", "snap.1.30"):
        (snapped.path / "gen-1" / name).unlink()
    with pytest.raises(StorageError, match=r"log\.1\.\d+: the log begins after 1\.\d+, and no whole snapshot"):
        snapped.reopen()


def test_a_damaged_first_snapshot_is_made_up_for_by_a_log_from_the_beginning(node: Directory) -> None:
    batches = chain(1, 6)
    node.append(*batches)
    node.take(history_of(batches).mark(Zxid(1, 4)), b"state")
    assert node.store.close()
    flip(node.path / "gen-1" / "snap.1.4", 30)
    store = node.reopen()
    assert store.history == history_of(batches)
    assert store.load_snapshot() == (ZERO, b"")
    assert "Going on from the beginning of the log" in node.warnings[0]


def test_a_log_that_ends_before_its_snapshot_is_refused(snapped: Directory) -> None:
    life = snapped.store.life
    for path in reversed(segments(snapped)):
        if int(path.suffix[1:]) > 26:
            path.unlink()
    with pytest.raises(StorageError):
        recovery.recover(str(snapped.path / "gen-1"), "demo", life, None, snapped.warnings.append)


def test_a_log_that_ends_before_a_damaged_snapshot_is_refused(snapped: Directory) -> None:
    """L3, L8: the one before fits, but up to 1.30 all was committed."""
    life = snapped.store.life
    flip(snapped.path / "gen-1" / "snap.1.30", 50)
    for path in reversed(segments(snapped)):
        if int(path.suffix[1:]) > 26:
            path.unlink()
    with pytest.raises(StorageError, match=r"snap\.1\.30"):
        recovery.recover(str(snapped.path / "gen-1"), "demo", life, None, snapped.warnings.append)


def test_a_missing_log_beside_two_snapshots_is_refused(snapped: Directory) -> None:
    for path in segments(snapped):
        path.unlink()
    with pytest.raises(StorageError, match="the log that should lead to it is missing"):
        snapped.reopen()


def test_a_snapshot_of_another_history_is_refused(snapped: Directory, tmp_path: Path) -> None:
    other = Directory(tmp_path / "other")
    batches = [*chain(1, 4), *chain(2, 14, Zxid(1, 8))]
    other.append(*batches)
    other.take(history_of(batches).mark(Zxid(2, 28)), b"state")
    shutil.copy(other.path / "gen-1" / "snap.2.28", snapped.path / "gen-1" / "snap.1.30")
    other.store.close()
    # Not the zxid that its name says: as damaged.
    assert snapped.reopen().history.snapshot == (1, 20)
    assert snapped.store.close()
    os.rename(snapped.path / "gen-1" / "snap.1.30", snapped.path / "gen-1" / "snap.2.28")
    with pytest.raises(StorageError, match=r"log\.1\.17: .* not in the history of the snapshot at 2\.28"):
        snapped.reopen()


# ---- whose directory it is -------------------------------------------------------------------------------------------


def test_a_new_directory_is_not_joined_and_has_promised_nothing(tmp_path: Path) -> None:
    """L13, and the incarnation of 1.1: the wall clock on an empty directory, then one more with every start."""
    node = Directory(tmp_path / "node-0", promised=False)
    assert node.store.epochs == Epochs(0, 0, False)
    assert node.store.history == history_of([])
    assert node.store.process == (0, node.store.life, 1_000_000)
    first = node.store
    second = node.restart(wall_us=5)
    assert second.process == (0, first.life, 1_000_001)
    second.close()


def test_a_new_directory_is_another_life(node: Directory, tmp_path: Path) -> None:
    other = Directory(tmp_path / "other")
    assert other.store.life != node.store.life
    other.store.close()


def test_the_incarnation_grows_when_the_process_is_killed_at_once(left: Path) -> None:
    first = Directory(left)
    second = Directory(Path(shutil.copytree(left, left.with_name("killed"))))
    assert second.store.process.incarnation == first.store.process.incarnation + 1
    first.store.close()
    second.store.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"node": PeerId(2)}, 'belongs to node 0 of cluster "demo". Refusing to start (this would forge acks).'),
        ({"cluster": "prod"}, 'belongs to node 0 of cluster "demo". Refusing to start (this would forge acks).'),
        ({"voters": (PeerId(0), PeerId(1))}, "was made for the voters 0, 1, 2, not 0, 1."),
    ],
)
def test_a_directory_of_somebody_else_is_refused_and_left_alone(left: Path, options: dict[str, Any], text: str) -> None:
    before = (left / "META").read_bytes()
    with pytest.raises(StorageError) as refusal:
        Directory(left, **options)
    assert str(refusal.value).startswith(f"{left} {text}")
    assert (left / "META").read_bytes() == before


def test_a_directory_in_use_is_refused_and_the_message_names_the_process(node: Directory) -> None:
    with pytest.raises(StorageError, match=rf"node-0 is in use by process {os.getpid()}\. Stop it first"):
        Directory(node.path)
    node.store.close()
    again = Directory(node.path)
    again.store.close()


def test_any_damage_to_meta_is_refused(left: Path) -> None:
    whole = (left / "META").read_bytes()
    for at in range(len(whole)):
        flip(left / "META", at)
        with pytest.raises(Damaged, match=r"META: damaged at offset \d+"):
            Directory(left)
        (left / "META").write_bytes(whole[:at])
        with pytest.raises(Damaged, match=r"META: damaged at offset \d+"):
            Directory(left)
        (left / "META").write_bytes(whole)


@pytest.mark.parametrize("name", ["META", "CURRENT", "gen-1"])
def test_a_missing_part_is_refused(left: Path, name: str) -> None:
    path = left / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StorageError, match=f"{path}: missing"):
        Directory(left)


@pytest.mark.parametrize("content", [b"", b"gen-1", b"gen-x\n", b"gen-0\n", b"../gen-1\n", bytes(100)])
def test_a_damaged_current_is_refused(left: Path, content: bytes) -> None:
    (left / "CURRENT").write_bytes(content)
    with pytest.raises(Damaged, match="CURRENT: damaged at offset 0"):
        Directory(left)


def test_a_first_start_that_was_cut_short_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "node-0" / "gen-1").mkdir(parents=True)
    node = Directory(tmp_path / "node-0")
    node.store.close()
    (tmp_path / "node-0" / "META").unlink()
    node.reopen()
    node.store.close()


# ---- what does not fit the epochs ------------------------------------------------------------------------------------


def save(node: Directory, epochs: Epochs) -> None:
    node.store.save_epochs(0, epochs)
    node.wait(EpochsSaved)


def test_a_log_of_a_later_epoch_raises_the_current_epoch(tmp_path: Path) -> None:
    """S5: broken off between the history and currentEpoch."""
    node = Directory(tmp_path / "node-0", promised=False)
    save(node, Epochs(3, 1, True))
    node.append(*chain(1, 2), *chain(2, 1, Zxid(1, 4)))
    assert node.restart().epochs == Epochs(3, 2, True)
    assert node.restart().epochs == Epochs(3, 2, True)
    node.store.close()


def test_a_log_of_an_epoch_that_was_never_promised_is_refused(tmp_path: Path) -> None:
    node = Directory(tmp_path / "node-0", promised=False)
    save(node, Epochs(1, 1, True))
    node.append(*chain(1, 2), *chain(2, 1, Zxid(1, 4)))
    assert node.store.close()
    with pytest.raises(StorageError, match="META: accepted epoch 1, but the log ends in epoch 2"):
        node.reopen()


# ---- places where no node can live -----------------------------------------------------------------------------------


def test_a_full_disk_is_refused_below_the_limit(tmp_path: Path, disk: FaultyFiles) -> None:
    disk.free = 63 << 20
    with pytest.raises(StorageError, match="only 63 MiB are free, and a node needs 64 to start"):
        Directory(tmp_path / "node-0", files=disk, limits=SpaceLimits())
    disk.free = 64 << 20
    node = Directory(tmp_path / "node-0", files=disk, limits=SpaceLimits())
    assert node.store.close()
    disk.free = 63 << 20
    with pytest.raises(StorageError, match="only 63 MiB are free, and a node needs 64 to start"):
        node.reopen()


def test_what_a_crash_left_half_made_is_no_reason_to_refuse_a_full_disk(tmp_path: Path, disk: FaultyFiles) -> None:
    """A snapshot that was being received may be larger than all the room that is asked for."""
    node = Directory(tmp_path / "node-0", files=disk, limits=SpaceLimits())
    assert node.store.close()
    half = node.path / "gen-2" / "snap.tmp"
    half.parent.mkdir()
    half.write_bytes(b"half")
    disk.free_bytes = lambda path: (10 if half.exists() else 100) << 20  # type: ignore[method-assign]
    node.reopen()
    assert node.store.close() and not half.parent.exists()


@pytest.mark.parametrize("call", ["create", "write", "sync"])
def test_a_disk_that_is_full_while_the_log_is_written_anew_is_told_and_nothing_is_in_the_way(
    left: Path, disk: FaultyFiles, call: str
) -> None:
    """D5, L14: after an unclean stop. The old one stays until the new one is whole."""
    disk.partial = 20
    disk.fail(call, NO_SPACE, "log.1.1.tmp")
    with pytest.raises(
        StorageError, match=r"cannot use .*/log\.1\.1\.tmp: No space left on device\. Make room on that"
    ):
        Directory(left, files=disk)
    assert os.listdir(left / "gen-1") == ["log.1.1"]
    node = Directory(left, files=disk)
    assert node.everything() == ALL
    node.store.close()


def test_a_disk_that_is_full_when_meta_is_written_at_the_start_is_told(left: Path, disk: FaultyFiles) -> None:
    disk.fail("write", NO_SPACE, "META.tmp")
    with pytest.raises(
        StorageError, match=r"cannot use .*/META\.tmp: No space left on device\. Make room on that disk"
    ):
        Directory(left, files=disk)
    Directory(left, files=disk).store.close()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path, disk: FaultyFiles) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot use .*file.*Make the directory writable"):
        Directory(tmp_path / "file" / "node-0")
    disk.fail("create", 13)
    with pytest.raises(StorageError, match=r"cannot use .*: Permission denied"):
        Directory(tmp_path / "node-0", files=disk, limits=NO_LIMITS)
    # The lock was let go of.
    Directory(tmp_path / "node-0").store.close()
