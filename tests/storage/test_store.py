"""Reading the log, and snapshots: taken, streamed, installed, purged (S2, L6 to L12)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.storage.directory import (
    BROKEN,
    DEADLINE_S,
    FOREVER,
    LINK,
    NO_SPACE,
    Directory,
    FaultyFiles,
    admit,
    batch,
    chain,
    history_of,
)
from zabzmq.core.errors import LocalProtocolError, StorageError
from zabzmq.core.history import Batch, EpochEnd, Epochs, History, SnapshotMark
from zabzmq.core.inputs import (
    BatchesRead,
    DiskSpace,
    Durable,
    Quiesced,
    SnapshotInstalled,
    SnapshotRead,
    SnapshotStaged,
    SnapshotTaken,
    Space,
)
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid
from zabzmq.storage.damage import Damaged

# ---- batches ---------------------------------------------------------------------------------------------------------

CACHE = 4000  # Room for a few batches: the older ones are read from files.
BRANCHED = [*chain(1, 30, count=3, size=90), *chain(4, 30, Zxid(1, 90), count=1, size=130)]


@pytest.fixture
def small(tmp_path: Path) -> Directory:
    """A log of two epochs, over many segments, with a cache that holds the end of it."""
    node = Directory(tmp_path / "node-0", segment_bytes=1500, cache_bytes=CACHE)
    for start in range(0, len(BRANCHED), 4):
        node.append(*BRANCHED[start : start + 4])
    node.store.drain()
    return node


def test_any_place_is_near_the_end_of_a_batch(small: Directory) -> None:
    """From which batches can be read, and among the first of them is the one that holds the place."""
    store = small.store
    places = [Zxid(b.first.epoch, b.first.counter + i) for b in BRANCHED for i in range(b.count)]
    for place in [ZERO, *places]:
        near = store.near(place)
        assert near == ZERO or any(batch.last == near for batch in BRANCHED)
        assert near <= place
        if place < BRANCHED[-1].last:
            assert any(batch.last > place for batch in store.batches(near, BRANCHED[-1].last, 2000))
    small.restart()
    assert small.store.near(Zxid(1, 44)) > Zxid(1, 30), "also when nothing has been written since the start"


def test_a_range_is_read_the_same_from_memory_and_from_files(small: Directory) -> None:
    store = small.store
    assert store._tail.start > BRANCHED[40].last, "most of it must come from files, or this shows nothing"
    dice = Random(5)
    for _ in range(400):
        low = dice.randrange(len(BRANCHED))
        high = dice.randrange(low, len(BRANCHED))
        after, upto = BRANCHED[low].prev, BRANCHED[high].last
        found: list[Batch] = []
        while after < upto:
            some = store.batches(after, upto, dice.choice([1, 500, 2000, 1 << 20]))
            assert some, f"nothing of ({after}, {upto}]"
            found += some
            after = some[-1].last
        assert found == BRANCHED[low : high + 1]
        assert small.read(BRANCHED[low].prev, upto, 1) == BRANCHED[low : low + 1]
    small.store.close()


def test_about_as_many_bytes_are_read_as_were_asked_for(small: Directory) -> None:
    for after in (ZERO, BRANCHED[-10].prev):
        low = 0 if after == ZERO else len(BRANCHED) - 10
        for n in (1, 2, 5):
            size = sum(one.size for one in BRANCHED[low : low + n])
            assert list(small.store.batches(after, FOREVER, size)) == BRANCHED[low : low + n]
            assert list(small.store.batches(after, FOREVER, size - 1)) == BRANCHED[low : low + max(1, n - 1)]
    small.store.close()


@pytest.mark.parametrize(
    ("after", "upto"),
    [
        pytest.param((1, 1), (4, 30), id="inside a batch, in a file"),
        pytest.param((2, 0), (4, 30), id="no end of a batch, in a file"),
        pytest.param((1, 91), (4, 30), id="beyond the end of an epoch"),
        pytest.param((4, 31), (5, 1), id="beyond the end"),
        pytest.param((3, 1), (4, 30), id="another branch"),
        pytest.param((4, 30), (4, 30), id="nothing after the end"),
        pytest.param((1, 9), (1, 3), id="backwards, in a file"),
        pytest.param((4, 29), (4, 20), id="backwards, in memory"),
        pytest.param((1, 3), (1, 5), id="the first batch ends after the range, in a file"),
        pytest.param((0, 0), (0, 0), id="nothing"),
    ],
)
def test_what_is_not_in_the_log_is_not_read(small: Directory, after: tuple[int, int], upto: tuple[int, int]) -> None:
    assert list(small.store.batches(Zxid(*after), Zxid(*upto), 1 << 20)) == []
    assert small.read(Zxid(*after), Zxid(*upto)) == []
    small.store.close()


def test_what_is_queued_and_not_yet_written_can_be_read(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 5)
    shaky.append(batches[0])
    disk.hold("sync_data")
    for one in batches[1:]:
        shaky.store.append(0, (one,))
    assert shaky.store.batches(ZERO, FOREVER, 1 << 20) == batches
    assert shaky.read(batches[2].last, batches[3].last) == [batches[3]]
    disk.release()
    shaky.wait(Durable, lambda event: event.zxid == batches[-1].last)


def test_what_is_not_yet_durable_stays_in_memory_however_large(tmp_path: Path, disk: FaultyFiles) -> None:
    node = Directory(tmp_path / "node-0", files=disk, cache_bytes=1000)
    batches = chain(1, 200, size=100)
    disk.hold("sync_data")
    for one in batches:
        node.store.append(0, (one,))
        node.store.drain()
    assert node.store.batches(ZERO, FOREVER, 1 << 20) == batches
    disk.release()
    node.wait(Durable, lambda event: event.zxid == batches[-1].last)
    assert node.store._tail._bytes <= 1000
    assert node.everything() == batches
    node.store.close()


def test_after_a_truncation_only_the_new_branch_is_read(small: Directory) -> None:
    """The old one is still in the files while the order waits; and zxids of the new branch may be lower (1.1)."""
    store, kept = small.store, BRANCHED[:20]
    new = chain(3, 25, kept[-1].last, size=300)
    store.truncate(0, kept[-1].last)
    assert store.batches(kept[-1].last, FOREVER, 1 << 20) == []
    store.append(0, tuple(new[:2]))
    expected = [*kept, *new[:2]]
    assert small.everything() == expected
    assert store.batches(kept[-1].prev, FOREVER, 1 << 20) == expected[-3:], "from files, then from memory"
    for one in new[2:]:
        store.append(0, (one,))
        store.drain()
        expected.append(one)
        assert small.everything() == expected
    assert small.restart().history == history_of(expected)
    assert small.everything() == expected
    store.close()


@pytest.mark.parametrize("index", [-1, 0, 1, 3, 4, 20, 29, 30, 58, 59])
def test_a_truncation_anywhere_is_found_after_a_restart(small: Directory, index: int) -> None:
    """L11: to the base, inside a segment, to the end of one, to the very end."""
    kept = BRANCHED[: index + 1]
    to = kept[-1].last if kept else ZERO
    small.store.truncate(7, to)
    assert small.wait(Durable, lambda event: event.role == 7) == Durable(7, to)
    small.store.quiesce(8)
    assert small.wait(Quiesced).history == history_of(kept)
    more = chain(5, 3, to)
    small.append(*more, role=8)
    assert small.restart().history == history_of([*kept, *more])
    assert small.everything() == [*kept, *more]
    small.store.close()


def test_a_truncation_below_a_snapshot_is_refused(small: Directory) -> None:
    """L7: what is in a snapshot is committed."""
    small.take(history_of(BRANCHED).mark(Zxid(1, 60)), b"state")
    with pytest.raises(LocalProtocolError, match=r"the snapshot at 1\.60 is committed"):
        small.store.truncate(0, Zxid(1, 57))
    small.store.truncate(0, Zxid(1, 60))
    small.wait(Durable, lambda event: event.zxid == (1, 60))
    small.store.close()


def test_a_truncation_to_the_middle_of_a_batch_stops_the_node(small: Directory) -> None:
    """Only a bug of ours asks for it: nothing is changed."""
    small.store.truncate(0, Zxid(1, 59))
    assert small.died.wait(DEADLINE_S)
    assert "cannot truncate to 1.59: no batch ends there" in small.fatal[0]
    small.store.close()
    assert small.reopen().history == history_of(BRANCHED)
    small.store.close()


def test_damage_found_while_reading_is_told_with_file_and_offset(small: Directory) -> None:
    path = small.path / "gen-1" / "log.1.1"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"log\.1\.1: damaged at offset \d+"):
        small.store.batches(ZERO, FOREVER, 1 << 20)
    small.store.read_batches(0, LINK, ZERO, FOREVER, 1 << 20)
    assert small.died.wait(DEADLINE_S)
    assert "log.1.1: damaged at offset" in small.fatal[0]
    small.store.close()


# ---- snapshots of our own --------------------------------------------------------------------------------------------


def test_two_snapshots_are_kept_and_the_log_from_the_older_one_on(small: Directory) -> None:
    """L10."""
    history = history_of(BRANCHED)
    assert small.store.load_snapshot() == (ZERO, b"")
    before = sorted(os.listdir(small.path / "gen-1"))
    assert small.take(history.mark(Zxid(1, 30)), b"one") == SnapshotTaken(Zxid(1, 30), ZERO)
    assert sorted(os.listdir(small.path / "gen-1")) == [*before, "snap.1.30"], "one snapshot purges nothing"
    base = small.take(history.mark(Zxid(1, 60)), b"two").base
    assert ZERO < base <= (1, 30)
    base = small.take(history.mark(Zxid(4, 10)), b"three").base
    assert (1, 30) < base <= (1, 60)
    left = os.listdir(small.path / "gen-1")
    assert sorted(name for name in left if name.startswith("snap")) == ["snap.1.60", "snap.4.10"]
    assert small.store.load_snapshot() == (Zxid(4, 10), b"three")
    assert small.store.batches(ZERO, FOREVER, 1 << 20) == ()
    assert small.read(Zxid(1, 3), FOREVER) == []
    index = next(i for i, one in enumerate(BRANCHED) if one.prev == base)
    small.store.quiesce(1)
    quiesced = small.wait(Quiesced).history
    assert (quiesced.base, quiesced.snapshot, quiesced.last) == (base, (4, 10), (4, 30))
    history.base, history.snapshot = base, Zxid(4, 10)
    assert small.restart().history == history, "ends reach back to (0,0)"
    assert small.everything() == BRANCHED[index:]
    assert small.store.load_snapshot() == (Zxid(4, 10), b"three")
    small.store.close()


def test_the_last_segment_is_never_purged(node: Directory) -> None:
    batches = chain(1, 6, size=500)
    for one in batches:
        node.append(one)
    node.take(history_of(batches).mark(batches[3].last), b"one")
    node.take(history_of(batches).mark(batches[5].last), b"two")
    node.store.truncate(0, batches[5].last)
    node.restart()
    node.take(history_of(batches).mark(batches[5].last), b"two")
    assert node.store.history.last == batches[5].last
    more = chain(1, 1, batches[5].last)
    node.append(*more)
    node.take(history_of([*batches, *more]).mark(more[0].last), b"three")
    assert node.restart().history.last == more[0].last


def test_admits_survive_in_the_snapshot(node: Directory) -> None:
    """L13, L18: nothing says it when the log is purged."""
    batches = chain(1, 4, size=900)
    batches.insert(4, admit(batches[-1]))
    batches += chain(2, 4, batches[-1].last, size=900)
    for one in batches:
        node.append(one)
    history = history_of(batches)
    for one in batches[5:]:
        node.take(history.mark(one.last), b"state")
    found = node.restart().history
    assert found.base > batches[4].last
    assert (found.ends, found.admits) == (history.ends, history.admits)
    assert found.last_admit(PeerId(2)) == 99


def test_a_snapshot_no_newer_than_the_newest_changes_nothing(small: Directory) -> None:
    history = history_of(BRANCHED)
    small.take(history.mark(Zxid(1, 60)), b"new")
    for zxid in (Zxid(1, 60), Zxid(1, 30)):
        assert small.take(history.mark(zxid), b"old").zxid == (1, 60)
    assert small.store.load_snapshot() == (Zxid(1, 60), b"new")
    small.store.close()


def test_without_room_a_snapshot_is_not_taken_and_the_node_lives_on(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 4)
    shaky.append(*batches)
    for call in ("create", "write", "sync", "rename"):
        disk.fail(call, NO_SPACE, "snap.")
        assert shaky.take(history_of(batches).mark(Zxid(1, 4)), b"state") == SnapshotTaken(ZERO, ZERO)
        assert "no room for a snapshot at 1.4" in shaky.warnings.pop()
        assert not list((shaky.path / "gen-1").glob("snap*"))
    assert shaky.take(history_of(batches).mark(Zxid(1, 4)), b"state").zxid == (1, 4)
    shaky.append(*chain(1, 1, Zxid(1, 8)))


def test_a_snapshot_that_cannot_be_written_for_another_reason_is_fatal(shaky: Directory, disk: FaultyFiles) -> None:
    """L14."""
    batches = chain(1, 4)
    shaky.append(*batches)
    disk.fail("sync", BROKEN, "snap.")
    shaky.store.take_snapshot(history_of(batches).mark(Zxid(1, 4)), [b"state"])
    assert shaky.died.wait(DEADLINE_S)


class LossyFiles(FaultyFiles):
    """Writes to snapshots are lost from some byte on, without a word."""

    def sync(self, fd: int) -> None:
        if "snap." in self._paths[fd]:
            os.pwrite(fd, b"\0", 30)
        super().sync(fd)


def test_a_snapshot_that_reads_back_differently_is_not_kept(tmp_path: Path) -> None:
    """L8: and nothing is purged for it."""
    node = Directory(tmp_path / "node-0", files=LossyFiles())
    batches = chain(1, 4)
    node.append(*batches)
    assert node.take(history_of(batches).mark(Zxid(1, 4)), b"state" * 20).zxid == ZERO
    assert "the snapshot at 1.4 was not kept" in node.warnings[0]
    assert sorted(os.listdir(node.path / "gen-1")) == ["log.1.1"]
    node.store.close()


def test_a_failure_to_purge_is_a_warning_and_leaves_no_hole(tmp_path: Path, disk: FaultyFiles) -> None:
    node = Directory(tmp_path / "node-0", segment_bytes=2000, files=disk)
    batches = chain(1, 20, size=400)
    for one in batches:
        node.append(one)
    history = history_of(batches)
    node.take(history.mark(Zxid(1, 30)), b"one")
    disk.fail("remove", BROKEN, "log.")
    assert node.take(history.mark(Zxid(1, 36)), b"two").base == ZERO
    assert "cannot purge" in node.warnings[0]
    assert node.everything() == batches
    assert node.take(history.mark(Zxid(1, 40)), b"three").base > (1, 24)
    assert node.restart().history.last == (1, 40)
    node.store.close()


def test_a_range_that_is_purged_while_it_is_read_is_empty_and_no_damage(small: Directory) -> None:
    """The files may go at any moment between looking them up and opening them."""
    log, history = small.store._live.log, history_of(BRANCHED)
    small.take(history.mark(Zxid(1, 60)), b"one")
    lookup = log._read_segment

    def purged(*arguments: object) -> tuple[bool, int]:
        log._read_segment = lookup  # type: ignore[method-assign]
        small.take(history.mark(Zxid(4, 10)), b"two")
        raise FileNotFoundError

    log._read_segment = purged  # type: ignore[method-assign,assignment]
    assert list(small.store.batches(ZERO, FOREVER, 1 << 20)) == []
    assert not small.fatal
    small.store.close()


# ---- streamed and installed ------------------------------------------------------------------------------------------

SOURCE = [*chain(1, 10), *chain(3, 10, Zxid(1, 20))]


@pytest.fixture
def leader(tmp_path: Path) -> Directory:
    """A node with a snapshot at 3.8."""
    node = Directory(tmp_path / "node-1")
    node.append(*SOURCE)
    node.take(history_of(SOURCE).mark(Zxid(3, 8)), b"the state at 3.8" * 40)
    return node


MARK = history_of(SOURCE).mark(Zxid(3, 8))


def stage(node: Directory, image: bytes, piece: int = 100, role: int = 0) -> None:
    for offset in range(0, len(image), piece):
        node.store.stage_snapshot(role, offset, image[offset : offset + piece])
        assert node.wait(SnapshotStaged) == SnapshotStaged(role, min(len(image), offset + piece))


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_a_snapshot_is_streamed_in_pieces_and_installed_whole(node: Directory, leader: Directory, piece: int) -> None:
    size, image = leader.stream(MARK, piece)
    assert size == len(image) == os.path.getsize(leader.path / "gen-1" / "snap.3.8")
    node.append(*chain(1, 3))
    stage(node, image)
    node.store.install_snapshot(0, MARK, size)
    assert node.store.batches(ZERO, FOREVER, 1 << 20) == ()
    rest = [one for one in SOURCE if one.last > MARK.zxid]
    node.store.append(0, tuple(rest))
    assert node.wait(SnapshotInstalled) == SnapshotInstalled(0, MARK.zxid)
    assert node.wait(Durable) == Durable(0, rest[-1].last)
    assert node.store.load_snapshot() == leader.store.load_snapshot()
    assert node.store.batches(MARK.zxid, FOREVER, 1 << 20) == rest
    reference = History.at(MARK)
    for one in rest:
        reference.append(one)
    assert node.restart().history == reference
    assert sorted(os.listdir(node.path)) == ["CURRENT", "LOCK", "META", "gen-2"]
    assert node.store.load_snapshot() == leader.store.load_snapshot()
    # And it can be handed on.
    assert node.stream(MARK, 1 << 20) == (size, image)
    leader.store.close()


def test_a_received_snapshot_that_is_damaged_is_not_installed(node: Directory, leader: Directory) -> None:
    size, image = leader.stream(MARK, 1 << 20)
    node.append(*chain(1, 3))
    flipped = bytearray(image)
    flipped[size // 2] ^= 4
    other = history_of(SOURCE).mark(Zxid(3, 6))
    for data, mark, length, text in (
        (bytes(flipped), MARK, size, "damaged"),
        (image, MARK, size + 1, f"has {size} bytes instead of {size + 1}"),
        (image[:-1], MARK, size - 1, "damaged"),
        (image, other, size, "is of 3.8, and 3.6 was announced"),
    ):
        stage(node, data)
        node.store.install_snapshot(0, mark, length)
        node.store.append(0, (batch((3, 9), mark.zxid),))
        assert text in node.warning()
        node.store.quiesce(1)
        assert node.wait(Quiesced).history == history_of(chain(1, 3))
    assert node.everything() == chain(1, 3)
    assert sorted(os.listdir(node.path)) == ["CURRENT", "LOCK", "META", "gen-1"]
    leader.store.close()


def test_pieces_out_of_order_are_not_staged(node: Directory) -> None:
    node.store.stage_snapshot(0, 0, b"abc")
    node.store.stage_snapshot(0, 5, b"fgh")
    assert "at 5 does not follow" in node.warning()


def test_a_received_snapshot_is_synced_as_it_comes(shaky: Directory, disk: FaultyFiles) -> None:
    """Else installing a large one takes longer than a synchronization may go without progress (B12)."""
    mib = 1 << 20
    for _ in range(2):  # a new one begins at nothing again
        disk.calls.clear()
        stage(shaky, bytes(18 * mib), mib)
        written = [name for name, path in disk.calls if path.endswith("snap.tmp") and name in ("write", "sync_data")]
        unsynced = [len(run.split()) for run in " ".join(written).split("sync_data")]
        assert unsynced == [4, 4, 4, 4, 2]


def test_a_snapshot_half_received_is_forgotten_with_its_role(node: Directory, leader: Directory) -> None:
    """S9, bug 7: nothing is half installed, and the next one starts from its beginning."""
    size, image = leader.stream(MARK, 1 << 20)
    stage(node, image[:200])
    node.store.quiesce(1)
    node.wait(Quiesced)
    assert sorted(os.listdir(node.path)) == ["CURRENT", "LOCK", "META", "gen-1"]
    stage(node, image[:300], role=1)
    stage(node, image, role=1)
    node.store.install_snapshot(1, MARK, size)
    assert node.wait(SnapshotInstalled).role == 1
    leader.store.close()


def test_an_install_that_was_discarded_leaves_everything_readable(
    shaky: Directory, disk: FaultyFiles, leader: Directory
) -> None:
    size, image = leader.stream(MARK, 1 << 20)
    shaky.append(*chain(1, 3))
    stage(shaky, image)
    disk.hold("rename", "META")
    shaky.store.save_epochs(0, Epochs(9, 1, True))
    assert disk.held.wait(DEADLINE_S)
    shaky.store.install_snapshot(0, MARK, size)
    shaky.store.quiesce(1)
    disk.release()
    assert shaky.wait(Quiesced).history == history_of(chain(1, 3))
    assert shaky.everything() == chain(1, 3)
    assert shaky.store.load_snapshot() == (ZERO, b"")
    leader.store.close()


@pytest.mark.parametrize("call", ["create", "write", "make_dir"])
def test_without_room_for_a_received_snapshot_the_role_ends(
    shaky: Directory, disk: FaultyFiles, leader: Directory, call: str
) -> None:
    _, image = leader.stream(MARK, 1 << 20)
    shaky.append(*chain(1, 3))
    disk.fail(call, NO_SPACE, "gen-2")
    shaky.store.stage_snapshot(0, 0, image)
    assert shaky.wait(DiskSpace) == DiskSpace(Space.FULL)
    shaky.store.quiesce(1)
    assert shaky.wait(Quiesced).history == history_of(chain(1, 3))
    leader.store.close()


def test_a_snapshot_of_an_old_generation_is_not_counted(shaky: Directory, disk: FaultyFiles, leader: Directory) -> None:
    """L12: our own snapshot was being written when the whole history was replaced."""
    size, image = leader.stream(MARK, 1 << 20)
    batches = chain(1, 3)
    shaky.append(*batches)
    disk.hold("sync", "snap.1.4")
    shaky.store.take_snapshot(history_of(batches).mark(Zxid(1, 4)), [b"state"])
    assert disk.held.wait(DEADLINE_S)
    stage(shaky, image)
    shaky.store.install_snapshot(0, MARK, size)
    shaky.wait(SnapshotInstalled)
    disk.release()
    assert shaky.wait(SnapshotTaken) == SnapshotTaken(MARK.zxid, MARK.zxid)
    assert shaky.store.load_snapshot()[0] == MARK.zxid
    assert shaky.restart().history == History.at(MARK)
    assert sorted(os.listdir(shaky.path)) == ["CURRENT", "LOCK", "META", "gen-2"]
    leader.store.close()


def test_a_snapshot_asked_for_in_an_old_generation_is_not_written_into_the_new_one(
    shaky: Directory, disk: FaultyFiles, leader: Directory
) -> None:
    """L12: it waited behind another, and the history it is of has been replaced."""
    size, image = leader.stream(MARK, 1 << 20)
    batches = chain(1, 12)
    shaky.append(*batches)
    disk.hold("sync", "snap.1.4")
    shaky.store.take_snapshot(history_of(batches).mark(Zxid(1, 4)), [b"state"])
    shaky.store.take_snapshot(SnapshotMark(Zxid(4, 1), (EpochEnd(4, 1),), ()), [b"of the old one"])
    assert disk.held.wait(DEADLINE_S)
    stage(shaky, image)
    shaky.store.install_snapshot(0, MARK, size)
    shaky.wait(SnapshotInstalled)
    disk.release()
    for _ in range(2):
        assert shaky.wait(SnapshotTaken) == SnapshotTaken(MARK.zxid, MARK.zxid)
    assert shaky.restart().history == History.at(MARK)
    leader.store.close()


def test_a_snapshot_that_is_purged_while_it_is_streamed_can_be_read_to_its_end(leader: Directory) -> None:
    expected = (leader.path / "gen-1" / "snap.3.8").read_bytes()
    leader.store.read_snapshot(0, LINK, MARK, 0, 100)
    first = leader.wait(SnapshotRead)
    for counter in (12, 14, 16):
        leader.take(history_of(SOURCE).mark(Zxid(3, counter)), b"later")
    assert not (leader.path / "gen-1" / "snap.3.8").exists()
    leader.store.read_snapshot(0, LINK, MARK, 100, 1 << 20)
    second = leader.wait(SnapshotRead)
    assert first.data is not None and second.data is not None
    assert first.data + second.data == expected
    # One that was never begun is gone.
    another = LinkId(ProcessId(PeerId(2), 1, 1), 1)
    leader.store.read_snapshot(4, another, MARK, 0, 100)
    assert leader.wait(SnapshotRead) == SnapshotRead(4, another, MARK, 0, 0, None)
    assert not leader.warnings
    leader.store.close()


def test_a_damaged_snapshot_is_not_streamed(leader: Directory) -> None:
    path = leader.path / "gen-1" / "snap.3.8"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    leader.store.read_snapshot(0, LINK, MARK, 0, 100)
    assert leader.wait(SnapshotRead).data is None
    assert "cannot send the snapshot at 3.8" in leader.warnings[0]
    with pytest.raises(StorageError, match=r"snap\.3\.8: damaged at offset"):
        leader.store.load_snapshot()
    leader.store.close()


def test_descriptors_of_streams_that_broke_off_are_given_back(leader: Directory) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        link = LinkId(ProcessId(PeerId(2), 1, 1), number)
        leader.store.read_snapshot(0, link, MARK, 0, 10)
        leader.wait(SnapshotRead)
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    leader.store.quiesce(1)
    leader.wait(Quiesced)
    leader.read(ZERO, FOREVER)
    leader.store.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_answers_carry_the_role_and_the_link_they_were_asked_with(small: Directory) -> None:
    for after in (ZERO, BRANCHED[-2].last):
        small.store.read_batches(11, LINK, after, FOREVER, 1)
        event = small.wait(BatchesRead)
        assert (event.role, event.link, event.after, len(event.batches)) == (11, LINK, after, 1)
    small.store.close()


def test_a_copy_of_a_directory_made_while_it_is_used_is_recovered_or_refused(small: Directory) -> None:
    """As a backup would: whatever was copied when, nothing wrong is ever believed."""
    target = small.path.with_name("copy")
    shutil.copytree(small.path, target)
    copy = Directory(target, segment_bytes=3000)
    assert copy.store.history == history_of(BRANCHED)
    assert copy.everything() == BRANCHED
    copy.store.close()
    small.store.close()
