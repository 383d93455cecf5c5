"""A simulated ensemble whose disks go through the real storage while all are down, and are harmed there.

What is demanded: with one good copy left in every majority everything committed comes back; else nobody serves. A node
either recovers a prefix of what it had or refuses to start, and then its operator wipes it (10.6). Never silent loss.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from tests.sim.stage import Stage
from tests.storage.directory import FOREVER, NO_LIMITS, QuickFiles
from zabzmq.core.errors import StorageError
from zabzmq.core.inputs import Durable, EpochsSaved
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.sim.disk import Platter
from zabzmq.storage.store import Store

SECTOR = 512
KINDS = ("bit rot in the log", "bit rot in META", "misdirected write", "lost write", "torn tail", "reordered tail")


def opened(path: Path, peer: PeerId) -> Store:
    return Store.open(
        path,
        cluster="sim",
        node=peer,
        voters=(PeerId(0), PeerId(1), PeerId(2)),
        wall_us=1,
        on_fatal=pytest.fail,
        on_warning=lambda text: None,
        limits=NO_LIMITS,
        files=QuickFiles(),
        segment_bytes=1000,
    )


def written(platter: Platter, path: Path, peer: PeerId) -> Path:
    """This disk as files, the way a process leaves them that was killed: nothing is closed."""
    store = opened(path / "alive", peer)
    store.save_epochs(0, platter.epochs)
    batches = platter.log.batches
    for batch in batches:  # one write each
        store.append(0, (batch,))
        while not any(isinstance(event, Durable) and event.zxid == batch.last for event in store.drain()):
            store.wake()
    store.save_epochs(0, platter.epochs)
    while not any(isinstance(event, EpochsSaved) for event in store.drain()):
        store.wake()
    shutil.copytree(path / "alive", path / "dead")
    assert store.close()
    return path / "dead"


def recovered(path: Path, peer: PeerId, life: int) -> Platter | str:
    """What the next process finds, or why it refuses to start."""
    try:
        store = opened(path, peer)
    except StorageError as error:
        return str(error)
    platter = Platter(life)
    platter.incarnation = 5
    platter.epochs = store.epochs
    for batch in store.batches(Zxid(0, 0), FOREVER, 1 << 30):
        platter.append(batch)
    assert store.close()
    return platter


def harm(path: Path, kind: str, dice: Random) -> None:
    segments = sorted(path.glob("gen-1/log.*"), key=lambda each: tuple(map(int, each.name.split(".")[1:])))
    assert len(segments) > 1
    place = path / "META" if kind == "bit rot in META" else dice.choice(segments[:-1])
    data = bytearray(place.read_bytes())
    if kind.startswith("bit rot"):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == "misdirected write":  # a sector of another file stands where one of ours did
        other = dice.choice([each for each in segments if each != place]).read_bytes()
        start = dice.randrange(0, len(data), SECTOR)
        wrong = other[:SECTOR]
        data[start : start + len(wrong)] = wrong[: len(data) - start]
    elif kind == "lost write":  # it was said to be done; the file is as it was before
        start = dice.randrange(SECTOR, len(data))
        data[start : start + SECTOR] = bytes(len(data[start : start + SECTOR]))
    else:
        place = segments[-1]
        data = bytearray(place.read_bytes())
        tail = bytes(dice.randrange(256) for _ in range(3 * SECTOR))
        if kind == "reordered tail":  # the last sector of an unsynced write has come, the first has not
            tail = bytes(SECTOR) + tail[SECTOR:]
        data += tail[: dice.randrange(1, len(tail))]
    place.write_bytes(data)


def committed_everywhere(seed: int) -> tuple[Stage, int]:
    on = Stage(seed=seed, snapshot_txns=10_000)
    on.start()
    leader = on.leader()
    on.until(lambda: all(platter.epochs.joined for platter in on.world.platters.values()))
    on.commit(leader, 25)
    count = len(on.world.watcher.committed)
    on.power_off(*on.peers)
    return on, count


def through_files(on: Stage, peer: PeerId, path: Path, kind: str, dice: Random) -> str:
    """Put this disk through the real files; returns the refusal, and then the disk is wiped."""
    platter = on.world.platters[peer]
    directory = written(platter, path / str(peer), peer)
    if kind:
        harm(directory, kind, dice)
    found = recovered(directory, peer, platter.life)
    if isinstance(found, str):
        on.world.wipe(peer)
        return found
    kept = found.log.batches
    assert kept == platter.log.batches[: len(kept)], "a prefix of what it had, whatever was done to it"
    if "tail" in kind or not kind:
        assert len(kept) == len(platter.log.batches), "an unsynced tail takes nothing with it"
    on.world.platters[peer] = found
    on.world.watcher.on_synced(peer)
    return ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_with_good_copies_left_everything_comes_back(tmp_path: Path, kind: str, seed: int) -> None:
    on, count = committed_everywhere(seed)
    dice = Random(seed)
    victim = PeerId(dice.randrange(3))
    for peer in on.peers:
        refusal = through_files(on, peer, tmp_path, kind if peer == victim else "", dice)
        assert not refusal or peer == victim
        if refusal:
            assert str(tmp_path) in refusal, "it says which file"
    on.start()
    on.commit(on.leader())
    assert len(on.world.watcher.committed) > count
    assert not on.world.violations
    on.until(lambda: all(platter.log.last == on.synced(on.peers[0]) for platter in on.world.platters.values()))


@pytest.mark.parametrize("seed", range(3))
def test_when_a_majority_is_damaged_nobody_serves(tmp_path: Path, seed: int) -> None:
    """A refusal of two of three: what they held may have been committed, so the third does not go on alone."""
    on, _ = committed_everywhere(seed)
    dice = Random(seed)
    refused = []
    for peer in on.peers[:2]:
        platter = on.world.platters[peer]
        directory = written(platter, tmp_path / str(peer), peer)
        harm(directory, "lost write", dice)
        found = recovered(directory, peer, platter.life)
        if isinstance(found, str):
            refused.append(peer)
    assert refused == on.peers[:2], "damage before the last segment is never taken for a torn tail"
    on.start(on.peers[2])
    on.play(5000)
    assert on.established() is None
    assert not on.world.violations
