"""Event logs read back: one Event a line, and every line that is none named by file, number and reason.

Streams and files come in as they lie on disk, in whatever state; order among nodes is the business of merge.py.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import os
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

import msgspec

VERSION: Final = 1
LINE_BYTES_MAX: Final = 1 << 20
END_BYTES: Final = 65_536
WRITING_MS: Final = 50
"""How long the end of a last line is waited for."""
SHOWN_MAX: Final = 3
"""Bad lines of a file that are named one by one; of the rest only the number is told."""

_LOG_NAME: Final = re.compile(r"node-(\d+)\.jsonl(?:\.(\d+))?")
_RUN: Final = re.compile(rb'<script type="text/plain" data-run="([^"]*)"[^>]*>([^<]*)</script>')


class Problem(NamedTuple):
    """What could not be taken; `line` is 0 when it is about the whole file."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f' line {self.line}' if self.line else ''}: {self.reason}"


class Event(NamedTuple):
    """One event as docs/events.md has it: what every event says, and the whole object in `fields`."""

    n: int
    boot: str
    seq: int
    t: float
    lc: int
    k: str
    fields: dict[str, Any]
    raw: bytes = b""
    """The line it came from, without its end."""

    @property
    def name(self) -> str:
        """How events are pointed to."""
        return f"n{self.n} {self.boot}:{self.seq}"

    def get(self, field: str, default: Any = None) -> Any:
        return self.fields.get(field, default)

    def zxid(self, field: str = "z") -> tuple[int, int] | None:
        """An operand that is a zxid; None when it is not there, or is none."""
        match self.fields.get(field):
            case [int(epoch), int(counter)]:
                return epoch, counter
            case _:
                return None


_Text: TypeAlias = str | None
_Number: TypeAlias = int | None
_Zxid: TypeAlias = tuple[int, int] | None


class _Shape(msgspec.Struct):
    """What every event must say, and of what kind the operands are that others read, where they are there."""

    v: int
    n: int
    boot: str
    seq: int
    t: float
    lc: int
    k: str
    type: _Text = None
    what: _Text = None
    why: _Text = None
    text: _Text = None
    mid: _Text = None
    method: _Text = None
    by: _Text = None
    digest: _Text = None
    epoch: _Number = None
    leader: _Number = None
    to: _Number = None
    source: _Number = msgspec.field(name="from", default=None)
    peer: _Number = None
    round: _Number = None
    candidate: _Number = None
    id: _Number = None
    count: _Number = None
    need: _Number = None
    accepted: _Number = None
    current: _Number = None
    z: _Zxid = None
    z0: _Zxid = None
    prev: _Zxid = None
    was: _Zxid = None
    have: list[int] | None = None
    up: list[int] | bool | None = None
    voters: list[int] | None = None
    unsafe: list[str] | None = None
    ms: float | None = None


_decode_shape: Final = msgspec.json.Decoder(_Shape).decode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Complain: TypeAlias = Callable[[Problem], None]
Lines: TypeAlias = io.BufferedIOBase | BinaryIO


def parse(line: bytes) -> Event:
    """Raises ValueError with the reason when it is no event."""
    try:
        head = _decode_shape(line)
        fields = _decode(line)
    except _UNREADABLE as error:
        found = _version_of(line)
        if found is not None and found != VERSION:
            raise ValueError(f"version {found}; this program reads version {VERSION}") from None
        raise ValueError(f"not an event: {error}") from None
    if head.v != VERSION:
        raise ValueError(f"version {head.v}; this program reads version {VERSION}")
    if head.n < 0 or head.seq < 1 or head.lc < 0:
        raise ValueError("not an event: node, seq and lc are counted from 0 or 1")
    return Event(head.n, head.boot, head.seq, head.t, head.lc, head.k, fields, line)


def _version_of(line: bytes) -> object:
    """Of a line that may be an event of another version."""
    try:
        return _decode(line).get("v")
    except _UNREADABLE:
        return None


def _rest(file: Lines) -> bytes:
    """Of a line that a node is just writing: a block of lines does not come at once, and a reader may be quicker."""
    for _ in range(WRITING_MS):
        if rest := file.readline(LINE_BYTES_MAX):
            return rest
        time.sleep(0.001)
    return b""


def read_lines(file: Lines, path: str, complain: Complain) -> Iterator[Event]:
    """The events of one file, lazily; what is none is complained about and passed over."""
    bad = 0
    number = 0
    try:
        while line := file.readline(LINE_BYTES_MAX):
            number += 1
            if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                line += _rest(file)
            ended = line.endswith(b"\n")
            if not ended and len(line) == LINE_BYTES_MAX:
                while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                    pass
            if not line.strip():
                continue
            try:
                event = parse(line.rstrip(b"\r\n"))
            except ValueError as error:
                if b'"k":"page"' in line:
                    continue  # what the page saw itself, in a trace that it exported (docs/page.md)
                bad += 1
                if number == 1 and b"\0" in line:
                    complain(Problem(path, 0, "not an event log: it holds bytes that no text has"))
                    return
                if bad <= SHOWN_MAX:
                    cut = "" if ended or len(line) == LINE_BYTES_MAX else " (the file ends within this line)"
                    complain(Problem(path, number, f"{error}{cut}"))
                continue
            yield event
    except (OSError, EOFError, zlib.error) as error:
        complain(Problem(path, number + 1, f"cannot be read further: {error}"))
    if bad > SHOWN_MAX:
        complain(Problem(path, 0, f"{bad - SHOWN_MAX} more lines are no events"))


def open_file(path: Path, complain: Complain) -> Lines | None:
    """A log, a gzipped log, or a page with a trace inside."""
    try:
        file = path.open("rb")
        start = file.peek(2)[:2]
    except OSError as error:
        complain(Problem(str(path), 0, f"cannot be read: {error.strerror or error}"))
        return None
    if start == b"\x1f\x8b":
        return _Unzipped(file)
    if path.suffix.lower() in (".html", ".htm"):
        with file:
            return _from_page(file.read(), path, complain)
    return file


class _Unzipped(gzip.GzipFile):
    """Closes the file below, too."""

    def __init__(self, below: BinaryIO) -> None:
        super().__init__(fileobj=below)
        self._below = below

    def close(self) -> None:
        super().close()
        self._below.close()


def _from_page(page: bytes, path: Path, complain: Complain) -> Lines | None:
    runs = dict(runs_of(page))
    if "export" not in runs:
        complain(Problem(str(path), 0, "this page has no exported trace inside"))
        return None
    try:
        return io.BytesIO(gzip.decompress(base64.b64decode(runs["export"], validate=True)))
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        complain(Problem(str(path), 0, f"the trace inside this page is damaged: {error}"))
        return None


def runs_of(page: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and base64 text of the runs that a page carries."""
    for found in _RUN.finditer(page):
        yield found[1].decode("utf-8", "replace"), found[2].strip()


def last_clock(path: Path) -> int:
    """The Lamport clock at the end of a log; 0 if nothing tells."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END_BYTES))
            lines = file.read(END_BYTES).split(b"\n")
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return parse(line).lc
        except ValueError:
            continue
    return 0


# ---- streams, one per node -----------------------------------------------------------------------------------------


def logs_in(directory: Path) -> list[Path]:
    """The event logs of a log directory, rotated ones included."""
    try:
        return sorted(path for path in directory.iterdir() if _LOG_NAME.fullmatch(path.name))
    except OSError:
        return []


def streams(paths: Iterable[Path], complain: Complain) -> dict[int, Iterator[Event]]:
    """By node, its events as that node told them: process after process, none twice.

    The logs of one directory are read as they are asked for, however long they are. Files of other names, or several
    logs of one node, are read whole, for only then is their order known.
    """
    families: dict[tuple[Path, int], list[tuple[int, Path]]] = defaultdict(list)
    others: list[Path] = []
    for path in dict.fromkeys(paths):
        name = _LOG_NAME.fullmatch(path.name)
        if name is None:
            others.append(path)
        else:
            families[path.parent, int(name[1])].append((int(name[2] or 0), path))
    nodes = [node for _, node in families]
    if not others and len(nodes) == len(set(nodes)):
        return {node: _family(node, files, complain) for (_, node), files in families.items()}
    found: dict[int, dict[str, dict[int, Event]]] = defaultdict(lambda: defaultdict(dict))
    logs = (path for _, files in sorted(families.items()) for _, path in sorted(files, reverse=True))
    for path in (*logs, *others):
        file = open_file(path, complain)
        if file is None:
            continue
        with file:
            for event in read_lines(file, str(path), complain):
                found[event.n][event.boot].setdefault(event.seq, event)
    return {node: iter(_in_order(boots)) for node, boots in found.items()}


def _in_order(boots: Mapping[str, dict[int, Event]]) -> list[Event]:
    """The processes of a node one after the other, as they stood in their files."""
    lives = [[life[seq] for seq in sorted(life)] for life in boots.values()]
    lives.sort(key=lambda life: life[0].t)
    return [event for life in lives for event in life]


def _family(node: int, files: list[tuple[int, Path]], complain: Complain) -> Iterator[Event]:
    # Opened from the newest on: a rotation in between shows a file twice, and hides none.
    opened: list[tuple[Lines, Path]] = []
    seen: set[tuple[int, int]] = set()
    for _, path in sorted(files):
        file = open_file(path, complain)
        if file is None:
            continue
        stat = os.stat(file.fileno()) if not isinstance(file, io.BytesIO) else None
        if stat is not None and (stat.st_dev, stat.st_ino) in seen:
            file.close()
            continue
        if stat is not None:
            seen.add((stat.st_dev, stat.st_ino))
        opened.append((file, path))
    return _told_by(node, list(reversed(opened)), complain)


def _told_by(node: int, opened: list[tuple[Lines, Path]], complain: Complain) -> Iterator[Event]:
    told: dict[str, int] = {}  # of each process, the last event's number
    for file, path in opened:
        strangers = 0
        with file:
            for event in read_lines(file, str(path), complain):
                if event.n != node:
                    strangers += 1
                elif event.seq > told.get(event.boot, 0):
                    told[event.boot] = event.seq
                    yield event
        if strangers:
            complain(Problem(str(path), 0, f"{strangers} events of other nodes stand in the log of node {node}"))
