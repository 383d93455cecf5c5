"""Damage at rest: every file cut at every byte, every bit flipped, sectors lost or swapped.

Whatever is done to one file, the real recovery finds exactly what was there, or refuses and names the file; never less
without a word, never anything else. There is one exception, and it is counted (`lost`): after a kill, damage inside
the very last write looks like the torn end of that write (L2). After a clean stop there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.crash.disk import SECTOR
from tests.storage.directory import Directory, chain, cut_zeros, history_of
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Batch, Epochs
from zabzmq.core.zxid import ZERO
from zabzmq.storage import recovery
from zabzmq.storage.log import segment_name

KIB_64 = 64 << 10


class Tried(NamedTuple):
    """How often a file was damaged, and what was found then: all there was, a refusal, or a shorter log."""

    tried: int = 0
    whole: int = 0
    refused: int = 0
    lost: int = 0

    def and_(self, *others: Tried) -> Tried:
        return Tried(*map(sum, zip(self, *others, strict=True)))


class Left(NamedTuple):
    """A data directory whose process is gone, and what it holds."""

    path: Path
    batches: list[Batch]
    last_write: int
    """How many of the batches the last write holds."""
    clean: bool
    life: int

    @property
    def segments(self) -> list[Path]:
        return [Path(name) for _, name in recovery.segment_files(str(self.path / "gen-1"))]

    def file(self, name: str) -> Path:
        [found] = [path for path in self.path.rglob("*") if path.name == name]
        return found

    def recover(self) -> int | str:
        """How many of the batches are found, in order from the first, or why none. AssertionError: something else."""
        closed = self.batches[-1].last if self.clean else None
        warnings: list[str] = []
        try:
            found = recovery.recover(str(self.path / "gen-1"), "demo", self.life, closed, warnings.append)
        except StorageError as error:
            return str(error)
        held = [batch for batch in self.batches if batch.last <= found.history.last]
        expected = history_of(held)
        assert (found.history.last, found.history.ends) == (expected.last, expected.ends)
        return len(held)

    def start(self, work: Path) -> int | str:
        """As `recover`, by a whole start of a node on a copy."""
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.path, work)
        try:
            node = Directory(work, promised=False)
        except StorageError as error:
            return str(error)
        try:
            assert (node.store.life, node.store.epochs) == (self.life, Epochs(9, 1, True)), "META says something else"
            return sum(batch.last <= node.store.history.last for batch in self.batches)
        finally:
            node.store.close()

    def judge(self, found: int | str, damaged: Path) -> Tried:
        if isinstance(found, str):
            assert damaged.name in found, f"{damaged.name} is damaged, and the refusal says: {found}"
            return Tried(1, refused=1)
        missing = len(self.batches) - found
        if missing:
            assert not self.clean, f"{missing} batches are lost without a word after a clean stop"
            assert damaged == self.last_segment, f"{missing} batches are lost by damage to {damaged.name}"
            assert missing <= self.last_write, f"{missing} batches are lost, and the last write held {self.last_write}"
            return Tried(1, lost=1)
        return Tried(1, whole=1)

    @property
    def last_segment(self) -> Path:
        return self.segments[-1]


def _left(node: Directory, path: Path, batches: list[Batch], last_write: int, clean: bool) -> Left:
    if clean:
        assert node.store.close()
    shutil.copytree(node.path, path)
    node.store.close()
    shutil.rmtree(node.path)
    return Left(path, batches, last_write, clean, node.store.life)


def make_log(path: Path, size: int, segments: int = 1, clean: bool = False, filled: bool = False) -> Left:
    """A log of about `size` bytes: writes of one to three batches of many lengths, the last one of three.

    `filled`: with the zeros that a node which is killed leaves after it.
    """
    node = Directory(path.with_name("made"), segment_bytes=size // segments)
    batches: list[Batch] = []
    write: list[Batch] = []
    written = writes = 0
    while written < size * 0.96 or len(write) < 3:
        writes += 1
        last = batches[-1].last if batches else ZERO
        write = chain(1, writes % 3 + 1, last, size=150 + 67 * (writes % 23))
        node.append(*write)
        batches += write
        written += sum(batch.size for batch in write)
    left = _left(node, path, batches, len(write), clean)
    if not filled:
        cut_zeros(path)
    return left


def make_snapshots(path: Path) -> Left:
    """Two snapshots, and the log from a little before the first on; stopped cleanly."""
    node = Directory(path.with_name("made"), segment_bytes=1500)
    batches = chain(1, 24, size=150)
    for at in range(0, 24, 4):
        node.append(*batches[at : at + 4])
    for at in (11, 19):
        node.take(history_of(batches).mark(batches[at].last), b"state" * 100)
    return _left(node, path, batches, 0, clean=True)


# ---- what is done to a file --------------------------------------------------------------------------------------


def cut(left: Left, file: Path, sizes: Iterable[int]) -> Tried:
    """An end that is gone: after a kill exactly the longest prefix of whole batches is left, or it is refused."""
    content = file.read_bytes()
    before, ends = _ends(left, file)
    tried = Tried()
    for size in sorted(sizes, reverse=True):
        os.truncate(file, size)
        found = left.recover()
        if isinstance(found, str):
            assert file.name in found or left.segments[-1].name in found, found
            tried = tried.and_(Tried(1, refused=1))
        elif left.clean:
            tried = tried.and_(left.judge(found, file))
        else:
            expected = before + sum(end <= size for end in ends)
            assert found == expected, f"cut to {size} bytes: {found} batches are found, and {expected} are whole"
            whole = found == len(left.batches)
            tried = tried.and_(Tried(1, whole=whole, lost=not whole))
    file.write_bytes(content)
    return tried


def _ends(left: Left, file: Path) -> tuple[int, list[int]]:
    """How many batches stand before this segment, and where each of its own ends."""
    if file != left.last_segment:
        return 0, []
    first = next(batch.first for batch in left.batches if segment_name(batch.first) == file.name)
    ends = [record.end for record in recovery.scan_segment(str(file), first, "demo", None, True) if record.batch]
    return len(left.batches) - len(ends), ends


def flip(left: Left, file: Path, bits: Iterable[int]) -> Tried:
    """One bit each time."""
    content = file.read_bytes()
    tried = Tried()
    with open(file, "r+b", buffering=0) as raw:
        for bit in bits:
            at, mask = bit >> 3, 1 << (bit & 7)
            os.pwrite(raw.fileno(), bytes([content[at] ^ mask]), at)
            try:
                tried = tried.and_(left.judge(left.recover(), file))
            except AssertionError as error:
                raise AssertionError(f"bit {bit & 7} of byte {at} of {file}: {error}") from error
            os.pwrite(raw.fileno(), content[at : at + 1], at)
    return tried


def sectors(left: Left, file: Path) -> Tried:
    """Each sector lost (zeros, ones), and each in the place of each of its neighbours."""
    content = file.read_bytes()
    tried = Tried()
    for start in range(0, len(content), SECTOR):
        end = min(start + SECTOR, len(content))
        fillings = [bytes(end - start), b"\xff" * (end - start)]
        for neighbour in (start - SECTOR, start + SECTOR):
            if neighbour >= 0 and neighbour + SECTOR <= len(content):
                fillings.append(content[neighbour : neighbour + end - start])
        for filling in fillings:
            if filling != content[start:end]:
                file.write_bytes(content[:start] + filling + content[end:])
                tried = tried.and_(left.judge(left.recover(), file))
    file.write_bytes(content)
    return tried


def flip_and_start(left: Left, file: Path, bits: Iterable[int], work: Path) -> Tried:
    """As `flip`, for the files that only a whole start reads: META and CURRENT."""
    content = file.read_bytes()
    tried = Tried()
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        file.write_bytes(damaged)
        tried = tried.and_(left.judge(left.start(work), file))
    file.write_bytes(content)
    return tried


def cut_and_start(left: Left, file: Path, work: Path) -> Tried:
    content = file.read_bytes()
    tried = Tried()
    for size in range(len(content)):
        file.write_bytes(content[:size])
        tried = tried.and_(left.judge(left.start(work), file))
    file.write_bytes(content)
    return tried
