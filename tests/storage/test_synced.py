"""The power cut that is played: exactly what was synced is left, at whatever moment the process was killed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.storage.directory import Directory, PowerCut, QuickFiles, chain, end_of
from tests.storage.test_power import Script, image, recover  # noqa: F401  (image is a fixture)
from zabzmq.core.errors import StorageError
from zabzmq.core.inputs import Durable
from zabzmq.storage.files import RECORD, Files
from zabzmq.storage.synced import LINES_MAX, Line, SyncedFiles, lose_power


class Killed(SyncedFiles, QuickFiles):
    """A process that is killed before or after its `at`-th step: a system call or a line of the journal."""

    def __init__(self, at: int | None = None) -> None:
        super().__init__()
        self.at = at
        self.steps = 0
        self.is_off = False

    def step(self) -> None:
        if self.is_off or self.steps == self.at:
            self.is_off = True
            raise PowerCut
        self.steps += 1

    @staticmethod
    def _sync(path: str) -> int:
        return os.path.getsize(path)

    def _write(self, line: Line) -> None:
        self.step()
        super()._write(line)
        self.step()

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        self.step()
        return super().write(fd, buffers, offset)

    def cut(self, fd: int, size: int) -> None:
        super().cut(fd, size)
        self.step()


def killed_script(path: Path, image: bytes, at: int | None) -> tuple[Script, Killed]:  # noqa: F811
    path.mkdir(parents=True)
    files = Killed(at)
    script = Script(path / "node-0", files, image)
    try:
        script.run()
    except (PowerCut, AssertionError):
        assert files.is_off
        if hasattr(script.directory, "store"):
            script.directory.store.close()
    files.end()
    return script, files


def test_at_whatever_step_it_comes_nothing_acknowledged_is_lost_and_the_directory_is_whole(
    tmp_path: Path,
    image: bytes,  # noqa: F811
) -> None:
    _, whole = killed_script(tmp_path / "whole", image, None)
    assert whole.steps > 300
    for at in range(1, whole.steps, 3):  # odd and even in turn: before a change, and between its line and itself
        script, _ = killed_script(tmp_path / f"{at}", image, at)
        try:
            lose_power(str(script.path))
            assert not (script.path / RECORD).exists()
            recover(tmp_path / f"{at}", QuickFiles(), script.check)
        except (AssertionError, StorageError, OSError) as error:
            raise AssertionError(f"killed at step {at}: {error}") from error


def test_a_process_that_goes_on_after_a_kill_keeps_the_record_of_the_one_before(
    tmp_path: Path,
    image: bytes,  # noqa: F811
) -> None:
    _, whole = killed_script(tmp_path / "whole", image, None)
    for at in range(5, whole.steps, 25):
        script, _ = killed_script(tmp_path / f"{at}", image, at)
        for second in range(0, 40, 3):
            again = Killed(second)
            try:
                recover(tmp_path / f"{at}", again, script.check)
            except (PowerCut, AssertionError):
                assert again.is_off
            again.end()
        lose_power(str(script.path))
        recover(tmp_path / f"{at}", QuickFiles(), script.check)


@pytest.fixture
def held(tmp_path: Path) -> tuple[Directory, SyncedFiles]:
    """A store whose next sync will not end."""
    files = SyncedFiles()
    directory = Directory(tmp_path / "node-0", files=files)
    directory.append(*chain(1, 3))
    files.slow_down(60_000)
    return directory, files


def logged(directory: Directory) -> list[bytes]:
    return [path.read_bytes() for path in directory.path.glob("gen-1/log.*")]


def until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(10_000):
        if holds():
            return
        pause.wait(0.001)
    raise AssertionError("it never came to hold")


def test_what_is_written_and_not_synced_is_lost_with_the_power_and_only_then(
    held: tuple[Directory, SyncedFiles],
) -> None:
    directory, files = held
    before = logged(directory)
    tail = chain(1, 5, chain(1, 3)[-1].last)
    directory.store.append(0, (tail[0],))
    until(lambda: logged(directory) != before)
    [segment] = directory.path.glob("gen-1/log.*")
    written = end_of(segment) - len(before[0].rstrip(b"\0"))
    lost = lose_power(str(directory.path))
    assert lost == (written, 0), "over zeros"
    assert logged(directory) == before
    files.slow_down(0)


def test_a_slow_disk_that_is_quick_again_ends_the_sync_under_way(held: tuple[Directory, SyncedFiles]) -> None:
    directory, files = held
    tail = chain(1, 5, chain(1, 3)[-1].last)
    directory.store.append(0, (tail[0],))
    files.slow_down(0)
    directory.wait(Durable, lambda event: event.zxid == tail[0].last)
    assert directory.store.close()


def test_a_replaced_file_comes_back_when_its_directory_was_not_synced(tmp_path: Path) -> None:
    files = SyncedFiles()
    (tmp_path / "META").write_text("old")
    files.begin(str(tmp_path))
    fd = files.create(str(tmp_path / "META.tmp"))
    files.write(fd, [b"new"], 0)
    files.sync(fd)
    files.close(fd)
    files.rename(str(tmp_path / "META.tmp"), str(tmp_path / "META"))
    assert (tmp_path / "META").read_text() == "new"
    assert lose_power(str(tmp_path)) == (0, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["META"]
    assert (tmp_path / "META").read_text() == "old"


def test_a_removed_file_comes_back_when_its_directory_was_not_synced_and_stays_gone_when_it_was(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files = SyncedFiles()
    files.begin(str(tmp_path))
    files.remove(str(tmp_path / "a"))
    files.sync_dir(str(tmp_path))
    files.remove(str(tmp_path / "b"))
    assert lose_power(str(tmp_path)) == (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "b"


def test_a_directory_whose_making_was_not_synced_is_gone_with_all_that_is_in_it(tmp_path: Path) -> None:
    files = SyncedFiles()
    files.begin(str(tmp_path))
    made = str(tmp_path / "gen-2")
    files.make_dir(made)
    fd = files.create(os.path.join(made, "snap"))
    files.write(fd, [b"state"], 0)
    files.sync(fd)
    files.close(fd)
    files.sync_dir(made)
    assert lose_power(str(tmp_path)) == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_nobody_keeps_up_is_thrown_away(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "node-0", files=SyncedFiles())
    assert directory.store.close()
    assert (directory.path / RECORD).exists()
    directory.reopen(files=Files())
    directory.append(*chain(1, 1))
    assert directory.store.close()
    with pytest.raises(StorageError, match="--allow-faults"):
        lose_power(str(directory.path))


def test_a_directory_that_had_no_record_is_synced_and_gets_one(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "node-0")
    directory.append(*chain(1, 4))
    assert directory.store.close()
    directory.reopen(files=SyncedFiles())
    assert lose_power(str(directory.path)).bytes == 0


def test_a_record_that_cannot_be_read_is_told_and_made_anew(tmp_path: Path) -> None:
    (tmp_path / RECORD).mkdir()
    (tmp_path / RECORD / "journal").write_bytes(b'["synced"]\n')
    with pytest.raises(StorageError, match="cannot be read"):
        lose_power(str(tmp_path))
    SyncedFiles().begin(str(tmp_path))
    assert lose_power(str(tmp_path)) == (0, 0)


def test_the_journal_stays_short(tmp_path: Path) -> None:
    files = Killed()
    files.begin(str(tmp_path))
    fd = files.create(str(tmp_path / "log"))
    for at in range(2 * LINES_MAX):
        files.write(fd, [b"x"], at)
        files.sync_data(fd)
    journal = tmp_path / RECORD / "journal"
    assert journal.read_bytes().count(b"\n") <= LINES_MAX + 2
    files.write(fd, [b"unsynced"], 2 * LINES_MAX)
    files.sync_dir(str(tmp_path))
    assert lose_power(str(tmp_path)) == (8, 0)
    assert (tmp_path / "log").stat().st_size == 2 * LINES_MAX


def test_what_another_thread_changes_while_a_directory_is_synced_is_not_synced_by_that(tmp_path: Path) -> None:
    files = SyncedFiles()
    files.begin(str(tmp_path))
    os.close(files.create(str(tmp_path / "before")))
    files.slow_down(60_000)
    syncing = threading.Thread(target=files.sync_dir, args=[str(tmp_path)])
    syncing.start()
    until(lambda: bool(files._slower._waiters))  # type: ignore[attr-defined]
    os.close(files.create(str(tmp_path / "during")))
    files.slow_down(0)
    syncing.join()
    assert lose_power(str(tmp_path)) == (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_what_is_written_after_a_cut_is_not_taken_for_what_was_synced_before_it(tmp_path: Path) -> None:
    files = SyncedFiles()
    (tmp_path / "log").write_bytes(b"a" * 100)
    files.begin(str(tmp_path))
    fd = files.open(str(tmp_path / "log"))
    files.cut(fd, 50)
    files.write(fd, [b"b" * 30], 50)
    assert lose_power(str(tmp_path)) == (30, 0)
    assert (tmp_path / "log").read_bytes() == b"a" * 50
    files.close(fd)


# ---- zeros that are written over -------------------------------------------------------------------------------------

ZEROS = bytes(1000)


def over_zeros(root: Path) -> tuple[SyncedFiles, int]:
    """A file of ten bytes and a thousand zeros, synced; then five bytes of it are written over."""
    files = SyncedFiles()
    files.begin(str(root))
    fd = files.create(str(root / "log"))
    files.write(fd, [b"synced....", ZEROS], 0)
    files.sync(fd)
    files.sync_dir(str(root))
    files.write(fd, [b"first"], 10)
    return files, fd


def test_what_was_written_over_zeros_is_zeros_again_unless_it_was_synced(tmp_path: Path) -> None:
    files, fd = over_zeros(tmp_path)
    files.sync_data(fd)
    files.write(fd, [b"second"], 15)
    assert lose_power(str(tmp_path)) == (6, 0)
    assert (tmp_path / "log").read_bytes() == b"synced....first" + ZEROS[5:]


def test_a_write_over_the_end_of_the_zeros_loses_both_parts(tmp_path: Path) -> None:
    files, fd = over_zeros(tmp_path)
    files.sync_data(fd)
    files.write(fd, [b"x" * 2000], 15)
    assert lose_power(str(tmp_path)) == (2000, 0)
    assert (tmp_path / "log").read_bytes() == b"synced....first" + ZEROS[5:]


def test_nothing_but_zeros_is_written_over(tmp_path: Path) -> None:
    files, fd = over_zeros(tmp_path)
    files.write(fd, [b"firs"], 10)  # the same write once more, not synced yet
    for offset in (9, 14):
        with pytest.raises(AssertionError, match="only zeros are written over"):
            files.write(fd, [b"more"], offset)


def test_a_file_that_was_written_over_and_replaced_comes_back_with_its_zeros(tmp_path: Path) -> None:
    files, _ = over_zeros(tmp_path)
    fd = files.create(str(tmp_path / "log.tmp"))
    files.write(fd, [b"new"], 0)
    files.sync(fd)
    files.rename(str(tmp_path / "log.tmp"), str(tmp_path / "log"))
    assert lose_power(str(tmp_path)) == (5, 2)
    assert (tmp_path / "log").read_bytes() == b"synced...." + ZEROS


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_that_was_written_over_and_renamed_has_its_zeros_under_either_name(tmp_path: Path, synced: bool) -> None:
    files, _ = over_zeros(tmp_path)
    files.rename(str(tmp_path / "log"), str(tmp_path / "new"))
    if synced:
        files.sync_dir(str(tmp_path))
    SyncedFiles().begin(str(tmp_path))  # another process, with a shorter journal
    assert lose_power(str(tmp_path)) == (5, 0 if synced else 1)
    assert (tmp_path / ("new" if synced else "log")).read_bytes() == b"synced...." + ZEROS


def test_the_next_process_knows_what_was_written_over(tmp_path: Path) -> None:
    over_zeros(tmp_path)
    again = SyncedFiles()
    again.begin(str(tmp_path))
    assert lose_power(str(tmp_path)) == (5, 0)
    assert (tmp_path / "log").read_bytes() == b"synced...." + ZEROS


def test_a_cut_takes_what_was_written_over_behind_it_and_nothing_before(tmp_path: Path) -> None:
    files, fd = over_zeros(tmp_path)
    files.cut(fd, 12)
    assert lose_power(str(tmp_path)) == (2, 0)
    assert (tmp_path / "log").read_bytes() == b"synced....\0\0"


def test_the_next_process_still_knows_what_the_one_before_had_synced_of_a_new_file(tmp_path: Path) -> None:
    files = SyncedFiles()
    files.begin(str(tmp_path))
    fd = files.create(str(tmp_path / "new"))
    files.write(fd, [b"synced"], 0)
    files.sync(fd)
    files.write(fd, [b"not"], 6)
    os.close(fd)
    again = SyncedFiles()
    again.begin(str(tmp_path))
    again.sync_dir(str(tmp_path))
    assert lose_power(str(tmp_path)) == (3, 0)
    assert (tmp_path / "new").read_bytes() == b"synced"
