"""The zeros that small appends write over: where they are put and cut off, and that nobody trips over them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from tests.storage.directory import (
    NO_SPACE,
    Directory,
    FaultyFiles,
    QuickFiles,
    chain,
    cut_zeros,
    end_of,
    history_of,
)
from zabzmq.core.history import Batch
from zabzmq.core.inputs import DiskSpace, Durable, Quiesced, Space
from zabzmq.core.zxid import ZERO, Zxid
from zabzmq.storage import records, recovery
from zabzmq.storage.damage import Damaged
from zabzmq.storage.dump import Damage, read_log
from zabzmq.storage.records import HEADER_BYTES

KIB_64 = 64 << 10


class Counting(QuickFiles):
    """Knows what was written to the log, and has room for so many bytes in one file of it."""

    def __init__(self, room: int = 1 << 40) -> None:
        super().__init__()
        self.room = room
        self.written = 0

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        data = b"".join(buffers)
        if "log." in self._paths[fd]:
            self.written += len(data)
            if offset + len(data) > self.room:
                super().write(fd, [data[: max(0, self.room - offset)]], offset)
                raise OSError(NO_SPACE, os.strerror(NO_SPACE))
        return super().write(fd, [data], offset)


def killed(node: Directory) -> Path:
    """A copy of the directory as a kill would leave it."""
    return Path(shutil.copytree(node.path, node.path.with_name("left")))


def newest(path: Path) -> Path:
    return Path(recovery.segment_files(str(path / "gen-1"))[-1][1])


# ---- where they are put ----------------------------------------------------------------------------------------------


def test_small_appends_write_over_zeros_that_came_with_the_first_of_them(shaky: Directory, disk: FaultyFiles) -> None:
    batches = chain(1, 100, size=200)
    shaky.append(batches[0])
    segment = newest(shaky.path)
    assert segment.stat().st_size == KIB_64
    writes, syncs = disk.count("write", "log."), disk.count("sync_data")
    for one in batches[1:]:
        shaky.append(one)
    assert segment.stat().st_size == KIB_64 and not any(segment.read_bytes()[end_of(segment) :])
    assert disk.count("write", "log.") == writes + 99 and disk.count("sync_data") == syncs + 99
    more = chain(1, 300, batches[-1].last, size=200)
    for one in more:
        shaky.append(one)
    assert segment.stat().st_size == 2 * KIB_64
    assert shaky.everything() == [*batches, *more]


def test_a_large_append_brings_no_zeros_and_uses_up_those_that_are_there(tmp_path: Path) -> None:
    on = Directory(tmp_path / "other")
    [first] = chain(1, 1, size=20_000)
    on.append(first)
    segment = newest(on.path)
    assert segment.stat().st_size == end_of(segment)
    small = chain(1, 1, first.last)
    on.append(*small)
    assert segment.stat().st_size == KIB_64
    for one in chain(1, 3, small[-1].last, size=20_000):
        on.append(one)
    assert segment.stat().st_size == end_of(segment) > KIB_64
    on.store.close()


def test_at_most_twice_the_bytes_are_written_and_no_segment_grows_beyond_its_limit(tmp_path: Path) -> None:
    files = Counting()
    node = Directory(tmp_path / "node-0", files=files, segment_bytes=150_000)
    batches: list[Batch] = []
    for i in range(300):
        batches += chain(1, 1, batches[-1].last if batches else ZERO, size=(100, 15_000, 17_000, 3000)[i * i % 4])
        node.append(batches[-1])
        assert newest(node.path).stat().st_size <= 150_000
    logged = sum(Path(name).stat().st_size for _, name in recovery.segment_files(str(node.path / "gen-1")))
    assert files.written < 2 * logged
    assert node.restart().history == history_of(batches)
    node.store.close()


@pytest.mark.parametrize("filled", [False, True])
def test_what_fits_without_zeros_is_written_without_them(tmp_path: Path, filled: bool) -> None:
    """L15: a full disk refuses what has no room, and nothing else."""
    files = Counting()
    node = Directory(tmp_path / "node-0", files=files)
    batches = chain(1, 40, size=2000)
    files.room = (KIB_64 if filled else HEADER_BYTES) + 9000
    done: list[Batch] = []
    node.append(batches[0])
    while (end := end_of(newest(node.path))) + 2100 < files.room:
        done = batches[: len(done) + 1]
        if len(done) > 1:
            node.append(done[-1])
        assert newest(node.path).stat().st_size <= files.room
    assert files.room - end < 2100 and len(done) >= 4
    node.store.append(0, (batches[len(done)],))
    assert node.wait(DiskSpace) == DiskSpace(Space.FULL)
    assert newest(node.path).stat().st_size == end, "cut back, and the zeros with it"
    node.store.quiesce(1)
    assert node.wait(Quiesced).history == history_of(done)
    files.room = 1 << 40
    node.append(*batches[len(done) :], role=1)
    assert node.restart().history == history_of(batches)
    assert not node.warnings
    node.store.close()


def test_a_refused_filling_leaves_nothing_of_its_zeros_behind(tmp_path: Path) -> None:
    files = Counting(HEADER_BYTES + 9000)
    node = Directory(tmp_path / "node-0", files=files)
    node.append(*chain(1, 1, size=2000))
    assert newest(node.path).stat().st_size == end_of(newest(node.path))
    node.store.close()


def test_another_error_than_a_full_disk_is_not_tried_again(shaky: Directory, disk: FaultyFiles) -> None:
    """L14."""
    disk.fail("sync_data", 5, "log.")
    shaky.store.append(0, tuple(chain(1, 1)))
    assert shaky.died.wait(20)
    assert disk.count("write", "log.") == 2, "the header, and the append once"


# ---- when they are cut off -------------------------------------------------------------------------------------------


def test_a_segment_that_is_closed_ends_with_its_last_record(tmp_path: Path) -> None:
    node = Directory(tmp_path / "node-0", segment_bytes=10_000)
    batches = chain(1, 30, size=1500)
    for one in batches:
        node.append(one)
    files = [Path(name) for _, name in recovery.segment_files(str(node.path / "gen-1"))]
    assert len(files) > 4
    assert [path.stat().st_size for path in files[:-1]] == [end_of(path) for path in files[:-1]]
    assert files[-1].stat().st_size == 10_000 > end_of(files[-1])
    assert node.store.close()
    assert files[-1].stat().st_size == end_of(files[-1])
    assert next(iter(node.reopen().batches(ZERO, batches[-1].last, 1 << 20))) == batches[0]
    node.store.close()


@pytest.mark.parametrize("call", ["cut", "sync"])
def test_a_disk_on_which_the_zeros_cannot_be_cut_off_at_once_is_full_and_no_more(
    tmp_path: Path, disk: FaultyFiles, call: str
) -> None:
    """L15: the segment is closed all the same, and exact, before the next one is begun."""
    node = Directory(tmp_path / "node-0", files=disk, segment_bytes=3000)
    first, second = chain(1, 1, size=500), chain(1, 1, Zxid(1, 2), size=2600)
    node.append(*first)
    disk.fail(call, NO_SPACE, "log.1.1")
    node.store.append(0, tuple(second))
    assert node.wait(DiskSpace) == DiskSpace(Space.FULL)
    assert newest(node.path).stat().st_size == end_of(newest(node.path))
    node.store.quiesce(1)
    assert node.wait(Quiesced).history == history_of(first)
    node.append(*second, role=1)
    assert node.restart().history == history_of([*first, *second])
    node.store.close()


def test_a_truncation_leaves_no_zeros(node: Directory) -> None:
    batches = chain(1, 3, size=100)
    node.append(*batches)
    node.store.truncate(0, batches[1].last)
    node.wait(Durable, lambda event: event.zxid == batches[1].last)
    segment = newest(node.path)
    assert segment.stat().st_size == end_of(segment)
    node.append(*chain(2, 1, batches[1].last))
    assert node.restart().history == history_of([*batches[:2], *chain(2, 1, batches[1].last)])


def test_zeros_after_a_segment_that_others_follow_are_damage(node: Directory) -> None:
    """L3: it was exact before the next one was begun."""
    for one in chain(1, 10, size=400):
        node.append(one)
    path = killed(node)
    older = Path(recovery.segment_files(str(path / "gen-1"))[0][1])
    with open(older, "ab") as file:
        file.write(bytes(100))
    with pytest.raises(Damaged, match=str(older)):
        Directory(path)


def test_a_start_after_a_kill_cuts_them_off_without_a_word(shaky: Directory) -> None:
    """L4: they are the end of the log, not a write that was torn."""
    batches = chain(1, 5)
    shaky.append(*batches)
    path = killed(shaky)
    segment, end = newest(path), end_of(newest(path))
    node = Directory(path)
    assert node.store.history == history_of(batches) and node.warnings == []
    assert segment.stat().st_size == end
    more = chain(1, 1, batches[-1].last)
    node.append(*more)
    assert node.restart().history == history_of([*batches, *more])
    node.store.close()


def test_zeros_after_the_closing_record_are_cut_off_before_another_segment_follows(node: Directory) -> None:
    node.append(*chain(1, 2))
    assert node.store.close()
    segment = newest(node.path)
    size = segment.stat().st_size
    with open(segment, "ab") as file:
        file.write(bytes(3000))
    node.reopen()
    assert segment.stat().st_size == size
    node.append(*chain(1, 1, Zxid(1, 4)))
    assert node.restart().history == history_of(chain(1, 3))


# ---- what recovery makes of them -------------------------------------------------------------------------------------

WRITES = [chain(1, 1, size=900), chain(1, 1, Zxid(1, 2), size=2300), chain(1, 3, Zxid(1, 4), size=600)]
ALL = [batch for write in WRITES for batch in write]


@pytest.fixture
def log(tmp_path: Path) -> Directory:
    """Three writes and the zeros after them; its process was killed."""
    node = Directory(tmp_path / "node-0")
    for write in WRITES:
        node.append(*write)
    path = killed(node)
    node.store.close()
    node.path = path
    return node


def found(node: Directory) -> list[Batch]:
    warnings: list[str] = []
    last = recovery.recover(str(node.path / "gen-1"), "demo", node.store.life, None, warnings.append).history.last
    return [batch for batch in ALL if batch.last <= last]


def ends(node: Directory) -> list[int]:
    scan = recovery.scan_segment(str(newest(node.path)), Zxid(1, 1), "demo", None, True)
    return [record.end for record in scan]


@pytest.mark.parametrize("write", [0, 1, 2])
def test_of_a_torn_append_any_sectors_may_be_there_and_what_was_before_it_is_whole(log: Directory, write: int) -> None:
    """L2: every set of its sectors, the others still zero."""
    places = [HEADER_BYTES, *ends(log)]
    low = places[sum(map(len, WRITES[:write]))]
    high = places[sum(map(len, WRITES[: write + 1]))]
    whole = newest(log.path).read_bytes()
    sectors = range(low // 512, -(-high // 512))
    assert 2 <= len(sectors) <= 6
    before = [batch for one in WRITES[:write] for batch in one]
    for n in range(len(sectors) + 1):
        for kept in combinations(sectors, n):
            torn = bytearray(whole[:low] + bytes(len(whole) - low))
            for at in kept:
                start, end = max(low, at * 512), min(high, at * 512 + 512)
                torn[start:end] = whole[start:end]
            newest(log.path).write_bytes(torn)
            held = found(log)
            assert held[: len(before)] == before
            assert (held == before) if n == 0 else (len(held) <= len(before) + len(WRITES[write]))
            assert n < len(sectors) or held == [*before, *WRITES[write]]


def test_zeros_before_a_later_write_are_damage(log: Directory) -> None:
    """L3: that one was begun when all before it was durable (L1)."""
    places = ends(log)
    whole = newest(log.path).read_bytes()
    for start, end in ((places[0], places[1]), (HEADER_BYTES, places[0]), (places[0] + 512, places[1])):
        newest(log.path).write_bytes(whole[:start] + bytes(end - start) + whole[end:])
        with pytest.raises(Damaged, match="a later write stands at offset"):
            found(log)
        with pytest.raises(Damaged, match="a later write stands at offset"):
            Directory(log.path)
        assert [part.fatal for part in read_log(log.path) if isinstance(part, Damage)] == [True]


def test_a_flipped_bit_is_refused_or_costs_the_last_write_and_among_the_zeros_nothing(log: Directory) -> None:
    """L2, L3, L4: what nobody was told of is no reason not to start."""
    places = ends(log)
    whole = newest(log.path).read_bytes()
    with open(newest(log.path), "r+b", buffering=0) as file:
        for at in [*range(0, places[-1], 3), *range(places[-1], len(whole), 997), len(whole) - 1]:
            os.pwrite(file.fileno(), bytes([whole[at] ^ 1 << at % 8]), at)
            if at < places[1]:
                with pytest.raises(Damaged):
                    found(log)
            else:
                assert found(log) == ALL[: sum(end <= at for end in places)], at
            os.pwrite(file.fileno(), whole[at : at + 1], at)


def test_a_node_starts_on_zeros_of_which_one_bit_is_flipped_and_says_so(log: Directory) -> None:
    segment, end = newest(log.path), ends(log)[-1]
    with open(segment, "r+b") as file:
        file.seek(end + 999)
        file.write(b"\x10")
    node = Directory(log.path)
    assert node.store.history == history_of(ALL)
    assert node.warnings == [f"{segment}: cut 1000 bytes of an unfinished write at offset {end}"]
    assert node.restart().history == history_of(ALL)
    node.store.close()


def test_a_first_append_of_which_only_the_zeros_arrived_was_no_more_than_begun(log: Directory) -> None:
    """L4: its segment is deleted, and its name can be used again."""
    cut_zeros(log.path)
    begun = log.path / "gen-1" / "log.1.11"
    begun.write_bytes(newest(log.path).read_bytes()[:HEADER_BYTES] + bytes(KIB_64 - HEADER_BYTES))
    node = Directory(log.path)
    assert node.store.history == history_of(ALL) and not begun.exists()
    node.append(*chain(1, 1, ALL[-1].last))
    node.restart()
    node.store.close()


# ---- who reads meanwhile ---------------------------------------------------------------------------------------------


def test_what_is_read_from_the_file_ends_where_the_log_ends(tmp_path: Path) -> None:
    node = Directory(tmp_path / "node-0", cache_bytes=0)
    batches = chain(1, 20, size=300)
    for n, one in enumerate(batches, 1):
        node.append(one)
        assert node.everything() == batches[:n]
        assert node.read(ZERO, one.last) == batches[:n]
        assert node.store.near(one.last) == one.last
    assert newest(node.path).stat().st_size > end_of(newest(node.path))
    node.store.close()


def test_a_running_log_is_shown_without_its_zeros(shaky: Directory) -> None:
    shaky.append(*ALL)
    assert list(read_log(shaky.path)) == ALL


def test_what_is_written_while_it_is_looked_at_is_not_taken_for_damage(
    log: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that was not there yet, and a later write that was there when one looked further on."""
    places = ends(log)
    segment = newest(log.path)
    whole = segment.read_bytes()
    segment.write_bytes(whole[: places[0]] + bytes(len(whole) - places[0]))
    real, chunk = records.find_later_write, records._CHUNK

    def find(window: records.Window, offset: int, salt: int, than: int) -> int | None:
        segment.write_bytes(whole)
        return real(records.Window(window.fd, window.size), offset, salt, than)

    monkeypatch.setattr(records, "find_later_write", find)
    assert chunk > len(whole), "the zeros were seen before"
    assert list(read_log(log.path)) == ALL


def test_a_segment_that_is_cut_while_it_is_looked_at_ends_there(
    log: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = ends(log)[-1]
    real = records.find_later_write

    def find(window: records.Window, offset: int, salt: int, than: int) -> int | None:
        os.truncate(newest(log.path), end)
        return real(records.Window(window.fd, window.size), offset, salt, than)

    monkeypatch.setattr(records, "find_later_write", find)
    assert list(read_log(log.path)) == ALL
