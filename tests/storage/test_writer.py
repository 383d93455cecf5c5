"""The one queue to the disk: group commit, quiesce, a full disk, a broken one (L1, L14, L15, D1, D4)."""

from __future__ import annotations

import os
import select
from pathlib import Path
from time import monotonic

import pytest

from tests.storage.directory import (
    BROKEN,
    DEADLINE_S,
    NO_SPACE,
    Directory,
    FaultyFiles,
    batch,
    chain,
    end_of,
    history_of,
)
from zabzmq.core.errors import LocalProtocolError
from zabzmq.core.history import Epochs
from zabzmq.core.inputs import DiskSpace, Durable, EpochsSaved, Quiesced, SnapshotTaken, Space
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.storage.writer import SpaceLimits

EPOCHS = Epochs(9, 9, True)


# ---- group commit ----------------------------------------------------------------------------------------------------


def test_all_appends_that_wait_share_one_sync_and_one_completion(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 50)
    shaky.append(batches[0])
    syncs = disk.count("sync_data")
    disk.hold("sync_data")
    shaky.store.append(0, (batches[1],))
    assert disk.held.wait(DEADLINE_S)
    for some in (batches[2:3], batches[3:6], batches[6:50]):
        shaky.store.append(0, tuple(some))
    disk.release()
    assert shaky.wait(Durable) == Durable(0, batches[1].last)
    assert shaky.wait(Durable) == Durable(0, batches[49].last)
    assert disk.count("sync_data") == syncs + 2
    assert disk.count("write", "log.") == 1 + 3, "the header, then one write for each sync"


def test_a_group_ends_where_the_role_changes(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 4)
    disk.hold("sync_data")
    shaky.store.append(3, (batches[0],))
    assert disk.held.wait(DEADLINE_S)
    for role, one in zip((3, 4, 4), batches[1:], strict=True):
        shaky.store.append(role, (one,))
    disk.release()
    assert [shaky.wait(Durable) for _ in range(3)] == [
        Durable(3, batches[0].last),
        Durable(3, batches[1].last),
        Durable(4, batches[3].last),
    ]


def test_orders_are_carried_out_in_the_order_they_were_given(shaky: Directory, disk: FaultyFiles) -> None:
    """D1, S3: history, then currentEpoch, then more history."""
    batches = chain(1, 4)
    disk.hold("sync_data")
    shaky.store.append(0, (batches[0],))
    assert disk.held.wait(DEADLINE_S)
    shaky.store.append(0, (batches[1],))
    shaky.store.save_epochs(0, EPOCHS)
    shaky.store.append(0, (batches[2],))
    shaky.store.append(0, (batches[3],))
    shaky.store.truncate(0, batches[2].last)
    disk.calls.clear()
    disk.release()
    shaky.wait(Durable, lambda event: event.zxid == batches[0].last)
    assert shaky.wait(Durable) == Durable(0, batches[1].last)
    assert shaky.wait(EpochsSaved) == EpochsSaved(0, EPOCHS)
    assert shaky.wait(Durable) == Durable(0, batches[3].last)
    assert shaky.wait(Durable) == Durable(0, batches[2].last)
    wrote = [name for name, _ in disk.calls if name in ("sync_data", "rename", "cut")]
    assert wrote == ["sync_data", "rename", "sync_data", "cut", "cut"], "the zeros, and what is truncated"


def test_a_write_never_spans_segments(tmp_path: Path, disk: FaultyFiles) -> None:
    """L1, bug 50; and the new segment's header and entry are durable before anything is written into it, but after the
    zeros of the old one are gone (L4)."""
    node = Directory(tmp_path / "node-0", segment_bytes=3000, files=disk)
    batches = chain(1, 30, size=200)
    node.append(*batches[:8])
    disk.hold("sync_data")
    node.store.append(0, (batches[8],))
    assert disk.held.wait(DEADLINE_S)
    for one in batches[9:]:
        node.store.append(0, (one,))
    disk.calls.clear()
    disk.release()
    node.wait(Durable, lambda event: event.zxid == batches[-1].last)
    assert sorted(os.listdir(node.path / "gen-1")) == ["log.1.1", "log.1.19"]
    calls = [name for name, path in disk.calls if "gen-1" in path and name != "remove"]
    assert calls == ["cut", "sync", "create", "write", "sync", "sync_dir", "write", "sync_data"]
    assert node.everything() == batches
    node.restart()
    assert node.everything() == batches
    node.store.close()


def test_a_hole_is_never_queued(node: Directory) -> None:
    batches = chain(1, 3)
    node.append(batches[0])
    with pytest.raises(LocalProtocolError, match=r"1\.5 follows 1\.4, but 1\.2 is queued last"):
        node.store.append(0, (batches[2],))
    with pytest.raises(LocalProtocolError):
        node.store.append(0, (batches[1], batches[1]))
    node.append(batches[1])


# ---- waking the loop -------------------------------------------------------------------------------------------------


def test_the_descriptor_is_readable_exactly_while_completions_wait(node: Directory) -> None:
    def readable(timeout: float) -> bool:
        return bool(select.select([node.store], [], [], timeout)[0])

    assert not readable(0)
    for one in chain(1, 5):
        node.store.append(0, (one,))
    deadline = monotonic() + DEADLINE_S
    last = ZERO
    while last != (1, 10):
        assert readable(deadline - monotonic())
        last = max(event.zxid for event in node.store.drain() if isinstance(event, Durable))
    assert not readable(0) and node.store.drain() == []


# ---- quiesce ---------------------------------------------------------------------------------------------------------


def test_a_quiesce_waits_for_the_write_in_flight_and_discards_the_rest(shaky: Directory, disk: FaultyFiles) -> None:
    """D4, bug 18: nothing of the old role is written once the new one has been told what the disk holds."""
    batches = chain(1, 6)
    shaky.append(batches[0])
    disk.hold("sync_data")
    shaky.store.append(1, (batches[1],))
    assert disk.held.wait(DEADLINE_S)
    shaky.store.append(1, (batches[2], batches[3]))
    shaky.store.save_epochs(1, EPOCHS)
    shaky.store.truncate(1, batches[0].last)
    shaky.store.append(1, (batch((2, 1), batches[0].last),))
    assert shaky.store.batches(batches[0].last, Zxid(2, 1), 1 << 20) == [batch((2, 1), batches[0].last)]
    shaky.store.quiesce(2)
    assert not any(isinstance(event, Quiesced) for event in shaky.store.drain())
    disk.release()
    assert shaky.wait(Durable) == Durable(1, batches[1].last)
    assert shaky.wait(Quiesced) == Quiesced(2, history_of(batches[:2]), Epochs(9, 0, True))
    # The loop sees what the disk holds, too.
    assert shaky.store.batches(ZERO, Zxid(9, 9), 1 << 20) == batches[:2]
    other = batch((2, 1), batches[1].last)
    shaky.append(other, role=2)
    assert shaky.restart().history == history_of([*batches[:2], other])


def test_a_group_that_was_collected_and_not_begun_is_discarded(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 3)
    disk.hold("rename", "META")
    shaky.store.save_epochs(1, EPOCHS)
    assert disk.held.wait(DEADLINE_S)
    for one in batches:
        shaky.store.append(1, (one,))
    shaky.store.quiesce(2)
    disk.release()
    # META was in flight: it is finished, and told.
    assert shaky.wait(Quiesced) == Quiesced(2, history_of([]), EPOCHS)
    assert disk.count("create", "log.") == 0


def test_between_a_quiesce_and_its_completion_nothing_can_be_appended(shaky: Directory, disk: FaultyFiles) -> None:
    disk.hold("rename", "META")
    shaky.store.save_epochs(1, EPOCHS)
    shaky.store.quiesce(2)
    with pytest.raises(LocalProtocolError):
        shaky.store.append(2, tuple(chain(1, 1)))
    disk.release()
    shaky.wait(Quiesced)
    shaky.append(*chain(1, 1), role=2)


def test_two_quiesces_in_a_row_each_tell_what_the_disk_holds(node: Directory) -> None:
    node.append(*chain(1, 2))
    node.store.quiesce(1)
    node.store.quiesce(2)
    assert node.wait(Quiesced).role == 1
    assert node.wait(Quiesced) == Quiesced(2, history_of(chain(1, 2)), Epochs(9, 0, True))
    node.append(*chain(1, 1, Zxid(1, 4)), role=2)


def test_a_discarded_truncation_leaves_the_old_end_readable(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 5)
    shaky.append(*batches)
    disk.hold("rename", "META")
    shaky.store.save_epochs(1, EPOCHS)
    assert disk.held.wait(DEADLINE_S)
    shaky.store.truncate(1, batches[1].last)
    assert shaky.store.batches(batches[1].last, batches[4].last, 1 << 20) == []
    shaky.store.quiesce(2)
    disk.release()
    assert shaky.wait(Quiesced).history == history_of(batches)
    assert shaky.store.batches(ZERO, batches[4].last, 1 << 20) == batches


# ---- a full disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [("write", "log.1.9"), ("sync_data", "log.1.9"), ("create", "log.1.9"), ("sync_dir", "gen-1"), ("sync", "log.1.9")],
)
@pytest.mark.parametrize("partial", [0, 30, 200])
def test_a_full_disk_cuts_back_the_partial_write_and_drops_what_follows(
    tmp_path: Path, disk: FaultyFiles, call: str, match: str, partial: int
) -> None:
    """L15, bug 27: on the first write of a new segment, at each of its calls."""
    node = Directory(tmp_path / "node-0", files=disk, segment_bytes=1200)
    batches = chain(1, 8, size=150)
    node.append(*batches[:4])
    disk.partial = partial
    disk.fail(call, NO_SPACE, match)
    node.store.append(0, tuple(batches[4:6]))
    node.store.append(0, tuple(batches[6:]))
    assert node.wait(DiskSpace) == DiskSpace(Space.FULL)
    node.store.quiesce(1)
    assert node.wait(Quiesced).history == history_of(batches[:4])
    assert node.store.batches(ZERO, batches[-1].last, 1 << 20) == batches[:4]
    node.append(*batches[4:], role=1)
    assert node.restart().history == history_of(batches)
    assert node.everything() == batches
    node.store.close()


@pytest.mark.parametrize("call", ["write", "sync_data"])
def test_a_disk_that_fills_in_the_middle_of_a_segment_leaves_it_whole(
    shaky: Directory, disk: FaultyFiles, call: str
) -> None:
    batches = chain(1, 6)
    shaky.append(*batches[:2])
    size = end_of(shaky.path / "gen-1" / "log.1.1")
    disk.partial = 25
    disk.fail(call, NO_SPACE, "log.1.1")
    shaky.store.append(0, (batches[2],))
    assert shaky.wait(DiskSpace) == DiskSpace(Space.FULL)
    assert os.path.getsize(shaky.path / "gen-1" / "log.1.1") == size
    # Of the broken role nothing more is done, not even META; the next one starts afresh.
    shaky.store.save_epochs(0, EPOCHS)
    shaky.store.append(0, (batches[3],))
    shaky.store.quiesce(1)
    assert shaky.wait(Quiesced) == Quiesced(1, history_of(batches[:2]), Epochs(9, 0, True))
    shaky.append(*batches[2:], role=1)
    assert sorted(os.listdir(shaky.path / "gen-1")) == ["log.1.1", "log.1.5"]
    assert shaky.restart().history == history_of(batches)


def test_of_a_role_that_ended_in_a_full_disk_nothing_more_is_written(shaky: Directory, disk: FaultyFiles) -> None:
    """Whatever follows builds on what was dropped."""
    batches = chain(1, 4)
    shaky.append(batches[0])
    disk.fail("write", NO_SPACE, "log.")
    shaky.store.append(0, (batches[1],))
    shaky.wait(DiskSpace)
    shaky.store.append(0, tuple(batches[2:]))
    shaky.store.save_epochs(0, EPOCHS)
    store = shaky.restart()
    assert (store.history, store.epochs) == (history_of(batches[:1]), Epochs(9, 1, True))


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename"])
def test_a_full_disk_leaves_meta_as_it_was(shaky: Directory, disk: FaultyFiles, call: str) -> None:
    disk.fail(call, NO_SPACE, "META")
    shaky.store.save_epochs(0, EPOCHS)
    assert shaky.wait(DiskSpace) == DiskSpace(Space.FULL)
    shaky.store.quiesce(1)
    assert shaky.wait(Quiesced).epochs == Epochs(9, 0, True)
    assert not (shaky.path / "META.tmp").exists()
    shaky.store.save_epochs(1, EPOCHS)
    assert shaky.wait(EpochsSaved) == EpochsSaved(1, EPOCHS)


def test_space_is_watched_and_its_return_is_told_without_any_write(tmp_path: Path, disk: FaultyFiles) -> None:
    disk.free = 200 << 20
    node = Directory(tmp_path / "node-0", promised=False, files=disk, limits=SpaceLimits(every_s=0.01))
    assert node.wait(DiskSpace) == DiskSpace(Space.LOW)
    disk.free = 10 << 20
    assert node.wait(DiskSpace) == DiskSpace(Space.FULL)
    disk.free = 100 << 20
    assert node.wait(DiskSpace) == DiskSpace(Space.LOW)
    disk.free = 300 << 20
    assert node.wait(DiskSpace) == DiskSpace(Space.OK)
    node.store.close()


# ---- a broken disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match", "syncs"),
    [("write", "log.1.3", 0), ("sync_data", "log.1.3", 1), ("sync", "log.1.3", 0), ("sync_dir", "gen-1", 0)],
)
def test_a_failed_write_is_fatal_and_never_tried_again(
    tmp_path: Path, disk: FaultyFiles, call: str, match: str, syncs: int
) -> None:
    """L14, bugs 15, 40: no completion, no second sync, and nothing that was queued is written."""
    node = Directory(tmp_path / "node-0", files=disk, segment_bytes=700)
    batches = chain(1, 4, size=150)
    node.append(batches[0])
    disk.calls.clear()
    disk.fail(call, BROKEN, match)
    node.store.append(0, (batches[1],))
    node.store.append(0, tuple(batches[2:]))
    assert node.died.wait(DEADLINE_S)
    assert "gen-1" in node.fatal[0] and "Input/output error" in node.fatal[0]
    assert node.store.failed == node.fatal[0]
    assert select.select([node.store], [], [], DEADLINE_S)[0], "the loop is woken to hear of it"
    assert node.store.drain() == []
    assert disk.count("sync_data") == syncs
    assert not node.store.close()
    # What was acknowledged is there; the rest was not acknowledged and may be.
    last = node.reopen(files=FaultyFiles()).history.last
    assert last in [ZERO, *(one.last for one in batches)] and last >= batches[0].last
    node.store.close()


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "sync_dir"])
def test_a_failed_write_of_meta_is_fatal(shaky: Directory, disk: FaultyFiles, call: str) -> None:
    disk.fail(call, BROKEN, "node-0" if call == "sync_dir" else "META")
    shaky.store.save_epochs(0, EPOCHS)
    assert shaky.died.wait(DEADLINE_S)
    assert "Input/output error" in shaky.fatal[0]
    assert shaky.store.drain() == []


def test_a_full_disk_that_cannot_even_cut_back_is_fatal(shaky: Directory, disk: FaultyFiles) -> None:
    shaky.append(*chain(1, 1))
    disk.fail("write", NO_SPACE, "log.")
    disk.fail("cut", BROKEN, "log.")
    shaky.store.append(0, tuple(chain(1, 1, Zxid(1, 2))))
    assert shaky.died.wait(DEADLINE_S)


def test_a_bug_of_ours_stops_the_process_and_leaves_the_disk_alone(shaky: Directory, disk: FaultyFiles) -> None:
    shaky.store.save_epochs(0, Epochs(3, 3, True))
    assert shaky.died.wait(DEADLINE_S)
    assert shaky.fatal == [
        "internal error in storage: AssertionError: epochs never go back. The disk is left as it is."
    ]


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_a_clean_stop_writes_what_is_queued_and_says_that_it_was_clean(node: Directory) -> None:
    batches = chain(1, 40, size=100)
    for one in batches:
        node.store.append(0, (one,))
    assert node.restart().history == history_of(batches)
    assert node.everything() == batches
    assert not node.warnings


def test_a_stalled_disk_does_not_hold_up_the_end_for_ever(shaky: Directory, disk: FaultyFiles) -> None:
    disk.hold("sync_data")
    shaky.store.append(0, tuple(chain(1, 1)))
    assert disk.held.wait(DEADLINE_S)
    assert not shaky.store.close(timeout_s=0.05)


def test_a_snapshot_does_not_hold_up_the_log(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 4)
    shaky.append(*batches[:3])
    disk.hold("sync", "snap.")
    shaky.store.take_snapshot(history_of(batches).mark(batches[1].last), [b"state"])
    assert disk.held.wait(DEADLINE_S)
    shaky.append(batches[3])
    disk.release()
    assert shaky.wait(SnapshotTaken) == SnapshotTaken(batches[1].last, ZERO)
