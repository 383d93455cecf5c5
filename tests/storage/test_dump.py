"""Looking into a data directory, also beside the node that runs on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.directory import Directory, admit, chain, end_of, history_of
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch
from zabzmq.core.zxid import Zxid
from zabzmq.storage.dump import Damage, read_log, summarize

BATCHES = [*chain(1, 10, size=400), admit(chain(1, 10)[-1])]


@pytest.fixture
def running(node: Directory) -> Directory:
    for one in BATCHES:
        node.append(one)
    return node


def everything(path: Path) -> dict[Path, bytes]:
    return {one: one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_the_log_of_a_running_node_is_read_without_a_trace(running: Directory) -> None:
    before = everything(running.path)
    assert list(read_log(running.path)) == BATCHES
    summarize(str(running.path))
    assert everything(running.path) == before
    running.append(*chain(2, 1, BATCHES[-1].last))
    assert list(read_log(running.path)) == [*BATCHES, *chain(2, 1, BATCHES[-1].last)]


def test_a_directory_is_summarized(running: Directory) -> None:
    mark = history_of(BATCHES).mark(Zxid(1, 4))
    running.take(mark, b"state")
    found = summarize(running.path)
    assert (found.meta.cluster, found.meta.node, found.meta.life) == ("demo", 0, running.store.life)
    assert found.generation == 1
    assert [(one.zxid, one.mark, one.text) for one in found.snapshots] == [(Zxid(1, 4), mark, "")]
    assert [Path(path).name for path, _ in found.segments] == ["log.1.1", "log.1.7", "log.1.13", "log.1.19"]
    assert found.meta.closed is None
    assert running.store.close()
    assert summarize(running.path).meta.closed == BATCHES[-1].last


def test_what_is_being_written_is_told_from_damage(running: Directory) -> None:
    path = running.path / "gen-1" / "log.1.19"
    whole = path.read_bytes()[: end_of(path)]
    path.write_bytes(whole + b"half a record" + bytes(300))
    *batches, note = read_log(running.path)
    assert batches == BATCHES
    assert note == Damage(str(path), len(whole), "13 bytes of a write that is not finished", False)
    path.write_bytes(whole[:100])
    *batches, note = read_log(running.path)
    assert batches == BATCHES[:9]
    assert note == Damage(str(path), 0, "a segment that was only begun", False)
    path.write_bytes(whole)


def test_damage_is_told_where_it_is_and_the_rest_is_still_shown(running: Directory) -> None:
    path = running.path / "gen-1" / "log.1.7"
    whole = path.read_bytes()
    path.write_bytes(whole[:700] + b"?" + whole[701:])
    found = list(read_log(running.path))
    assert [one for one in found if isinstance(one, Batch)] == [*BATCHES[:3], *BATCHES[6:]]
    damage, gap = [one for one in found if isinstance(one, Damage)]
    assert damage.fatal and damage.path == str(path) and damage.offset == 512
    assert gap.fatal and "it follows 1.12, but the log ends at 1.6 before it" in gap.text
    path.write_bytes(whole)


def test_a_damaged_snapshot_is_shown_as_such(running: Directory) -> None:
    running.take(history_of(BATCHES).mark(Zxid(1, 4)), b"state")
    path = running.path / "gen-1" / "snap.1.4"
    path.write_bytes(path.read_bytes()[:-1])
    (found,) = summarize(running.path).snapshots
    assert found.mark is None and "snap.1.4: damaged at offset" in found.text


def test_a_log_that_was_purged_starts_where_it_starts(running: Directory) -> None:
    history = history_of(BATCHES)
    for counter in (14, 16):
        running.take(history.mark(Zxid(1, counter)), b"state")
    found = list(read_log(running.path))
    assert found == BATCHES[6:]


@pytest.mark.parametrize("name", ["", "missing", "file"])
def test_what_is_no_data_directory_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    for look in (summarize, lambda path: list(read_log(path))):
        with pytest.raises(StorageError, match=r"is no data directory of a node|cannot read"):
            look(tmp_path / name)
