"""`batch`: one JSON object a line in, one result object a line out, both at the same time.

Nothing here waits for one side while the other could go on: standard input is read when there is room in the window,
standard output is written as far as its reader takes it, and what it does not take is kept.
"""

from __future__ import annotations

import base64
import binascii
import os
import select
import sys
from collections import deque
from typing import Annotated, Any, Final, Literal

import click
import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from zabzmq.cli.client_options import TIMEOUT_S_MAX, common_options, setup
from zabzmq.cli.client_output import VERSION, outcome_object, reader_gone, to_json
from zabzmq.cli.common import Command, Exit, Whole
from zabzmq.client.call import Call
from zabzmq.client.client import ANY, Client
from zabzmq.client.connection import NOTHING, READABLE, WRITABLE
from zabzmq.core.errors import ZabError
from zabzmq.machine.operations import UNREADABLE, Cas, Delete, GameQuery, Guess, KvQuery, Operation, Put, Query, Target
from zabzmq.machine.sessions import is_printable

WINDOW_MAX: Final = 65_536
LINE_BYTES_MAX: Final = 4 << 20
KEY_BYTES_MAX: Final = 1024
VALUE_BYTES_MAX: Final = 1 << 20
WRITE_BYTES: Final = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512


class Line(Struct, forbid_unknown_fields=True, kw_only=True):
    """One line of input, as far as its form can be judged without its operation."""

    op: Literal["target", "guess", "get", "kv.put", "kv.get", "kv.del", "kv.cas"]
    id: Any = None
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = msgspec.field(name="as", default=None)
    value: int | str | None = None
    key: str | None = None
    expect: str | UnsetType | None = UNSET
    key_b64: str | None = None
    value_b64: str | None = None
    expect_b64: str | None = None
    read: Literal["linear", "local"] | None = None
    node: int | None = None
    timeout: float | None = None
    new_round: bool = False
    reveal: bool = False


_decode_line = msgspec.json.Decoder(Line).decode


class BadLine(ZabError):
    """This line asks for nothing that can be done. `code` is stable, the text names the line."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(raw: bytes) -> tuple[Line, Operation | Query]:
    """What a line asks for. Raises BadLine."""
    if not raw.strip():
        raise BadLine("bad_line", "it is empty")
    try:
        line = _decode_line(raw)
    except UNREADABLE as e:
        raise BadLine("bad_line", str(e).replace("$.", "").replace("`$`", "the line")) from None
    if line.name is not None and not is_printable(line.name):
        raise BadLine("bad_line", "`as` must be 1 to 64 printable characters")
    if line.timeout is not None and not 0 < line.timeout <= TIMEOUT_S_MAX:
        raise BadLine("out_of_range", f"timeout {line.timeout} is not in the range 0 to {TIMEOUT_S_MAX:g} seconds")
    match line.op:
        case "target":
            return line, Target(_number(line), line.new_round)
        case "guess":
            return line, Guess(_number(line))
        case "get":
            return line, GameQuery(line.reveal)
        case "kv.put":
            return line, Put(_key(line), _blob("value", line.value, line.value_b64))
        case "kv.get":
            return line, KvQuery(_key(line))
        case "kv.del":
            return line, Delete(_key(line))
        case "kv.cas":
            expect = None
            if line.expect_b64 is not None or isinstance(line.expect, str):
                expect = _blob("expect", line.expect, line.expect_b64)
            elif line.expect is UNSET:
                raise BadLine("bad_line", "kv.cas needs `expect` (null where the key must be missing)")
            return line, Cas(_key(line), expect, _blob("value", line.value, line.value_b64))


def _number(line: Line) -> int:
    if not isinstance(line.value, int):
        raise BadLine("bad_line", f"{line.op} needs `value`, a whole number from 0 to 100")
    if not 0 <= line.value <= 100:
        raise BadLine("out_of_range", f"value {line.value} is not in the range 0 to 100")
    return line.value


def _key(line: Line) -> bytes:
    key = _blob("key", line.key, line.key_b64)
    if len(key) > KEY_BYTES_MAX:
        raise BadLine("out_of_range", f"a key of {len(key)} bytes; at most {KEY_BYTES_MAX} are allowed")
    return key


def _blob(name: str, text: int | str | UnsetType | None, coded: str | None) -> bytes:
    if coded is not None:
        if isinstance(text, (int, str)):
            raise BadLine("bad_line", f"`{name}` and `{name}_b64` are both given")
        try:
            raw = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            raise BadLine("bad_line", f"`{name}_b64` is not base64") from None
    elif isinstance(text, str):
        raw = text.encode()
    else:
        raise BadLine("bad_line", f"`{name}` is missing, or not a text")
    if len(raw) > VALUE_BYTES_MAX:
        raise BadLine("out_of_range", f"a {name} of {len(raw)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    return raw


def bad_line_object(raw: bytes, number: int, why: BadLine) -> dict[str, Any]:
    """The answer to it; with its id and op, where these can be read."""
    try:
        found = msgspec.json.decode(raw)
    except UNREADABLE:
        found = None
    fields = found if isinstance(found, dict) else {}
    op = fields.get("op")
    return {
        "v": VERSION,
        "id": fields.get("id"),
        "op": op if isinstance(op, str) else None,
        "outcome": "refused",
        "zxid": None,
        "result": None,
        "error": {"code": why.code, "text": f"line {number}: {why}"},
        "session": None,
        "leader": None,
        "attempts": 0,
        "ms": 0.0,
    }


class Input:
    """Standard input, cut into lines. A line longer than allowed comes out as its beginning."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.ended = False
        self.lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._skipping = False

    def read(self) -> None:
        """Take what is there; to be called when there is something."""
        chunk = os.read(self.file, 1 << 16)
        if not chunk:
            self.ended = True
            if self._rest:
                self.lines.append(bytes(self._rest))
            return
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            if not self._skipping:
                self._rest += piece
                self.lines.append(bytes(self._rest))
            self._skipping = False
            self._rest.clear()
        if not self._skipping:
            self._rest += last
            if len(self._rest) > LINE_BYTES_MAX:
                self.lines.append(bytes(self._rest))
                self._rest.clear()
                self._skipping = True


class Output:
    """Standard output, never waited for."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.backlog = bytearray()
        self._poll = select.poll()
        self._poll.register(file, select.POLLOUT)

    def add(self, answer: dict[str, Any]) -> None:
        self.backlog += to_json(answer)
        self.backlog += b"\n"

    def write(self) -> None:
        """As much as its reader takes now: a pipe that is ready takes PIPE_BUF bytes without blocking."""
        while self.backlog and self._poll.poll(0):
            written = os.write(self.file, self.backlog[:WRITE_BYTES])
            del self.backlog[:written]


class Batch:
    """A run of `batch`."""

    def __init__(self, client: Client, window: int, source: Input, sink: Output) -> None:
        self.client = client
        self.window = window
        self.source = source
        self.sink = sink
        self.outstanding = 0
        self.count = 0

    def run(self) -> None:
        """Until every line of the input is answered."""
        source, sink, client = self.source, self.sink, self.client
        while not (source.ended and not source.lines and not self.outstanding and not sink.backlog):
            while source.lines and self.outstanding < self.window:
                self._begin(source.lines.popleft())
            sink.write()
            hungry = not source.ended and not source.lines and self.outstanding < self.window
            client.attach(source.file, READABLE if hungry else NOTHING)
            client.attach(sink.file, WRITABLE if sink.backlog else NOTHING)
            idle = source.ended and not source.lines and not self.outstanding and not sink.backlog
            for call in client.pump(0.0 if idle else 1_000.0):
                self._end(call)
            if hungry and self._readable():
                source.read()

    def _readable(self) -> bool:
        return bool(select.select([self.source.file], [], [], 0)[0])

    def _begin(self, raw: bytes) -> None:
        self.count += 1
        client = self.client
        try:
            line, wish = parse(raw)
            if line.node is not None and line.node not in client.known:
                raise BadLine("out_of_range", f"there is no node {line.node}: the nodes are {sorted(client.known)}")
        except BadLine as why:
            self.sink.add(bad_line_object(raw, self.count, why))
            return
        timeout_ms = None if line.timeout is None else line.timeout * 1000.0
        name = line.name or client.name
        if isinstance(wish, GameQuery | KvQuery):
            linear = line.read == "linear" or (line.read is None and line.node is None)
            node = line.node if line.node is not None else None if linear else ANY
            client.read(
                wish, client.player(name, ordered=True), linear=linear, node=node, timeout_ms=timeout_ms, tag=line.id
            )
        else:
            client.submit(wish, client.player(name, line.node, ordered=True), timeout_ms=timeout_ms, tag=line.id)
        self.outstanding += 1

    def _end(self, call: Call) -> None:
        self.outstanding -= 1
        self.sink.add(outcome_object(call, call.tag, self.client.leader))


@click.command(cls=Command)
@click.option("--jsonl", is_flag=True, required=True, help="The form of input and output: a JSON object a line.")
@click.option(
    "--window", type=Whole(1, WINDOW_MAX), default=1, show_default=True, help="Lines worked on at the same time."
)
@common_options
@click.pass_context
def batch(ctx: click.Context, jsonl: bool, window: int) -> None:
    """Do what the lines of standard input ask for.

    \b
    {"id": 1, "as": "bob", "op": "guess", "value": 47}
    ops: target guess get kv.put kv.get kv.del kv.cas
    fields: key value expect (or key_b64 ...), read ("linear", "local"), node,
            timeout, new_round, reveal

    Each line gets one answer on standard output, as it comes: with a window above 1 not always in the order of the
    lines. Operations of one name take effect in their order.
    """
    asked = setup(ctx)
    with asked.client() as client:
        run = Batch(client, window, Input(sys.stdin.fileno()), Output(sys.stdout.fileno()))
        try:
            run.run()
        except KeyboardInterrupt:
            raise click.exceptions.Exit(Exit.INTERRUPTED if run.outstanding else Exit.OK) from None
        except BrokenPipeError:
            reader_gone()
