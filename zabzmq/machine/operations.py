"""What clients ask the replicated state to do, and what it answers: typed MessagePack, each naming its machine.

A batch's `data` is a MessagePack array of runs. A *run* is what one session sent in one breath: its operations
have consecutive sequence numbers, so session and first number stand once. The operations travel as the very
bytes the client wrote; they are decoded only where they are applied.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

SessionId: TypeAlias = tuple[int, int]
"""The zxid of the REGISTER that made the session; (0, 0) in a run that registers."""

NO_SESSION: SessionId = (0, 0)

Value = Annotated[int, Meta(ge=0, le=100)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Key = Annotated[bytes, Meta(max_length=1024)]
Blob = Annotated[bytes, Meta(max_length=1 << 20)]
Sequence = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


# ---- operations: through the log ---------------------------------------------------------------------------------


class Register(Struct, array_like=True, frozen=True, tag="register", forbid_unknown_fields=True):
    """Make a session for a client of this name; its id is the zxid of this operation."""

    name: Name


class Target(Struct, array_like=True, frozen=True, tag="game.target", forbid_unknown_fields=True):
    """Open a round with this number."""

    value: Value
    new_round: bool = False


class Guess(Struct, array_like=True, frozen=True, tag="game.guess", forbid_unknown_fields=True):
    value: Value


class Put(Struct, array_like=True, frozen=True, tag="kv.put", forbid_unknown_fields=True):
    key: Key
    value: Blob


class Delete(Struct, array_like=True, frozen=True, tag="kv.del", forbid_unknown_fields=True):
    key: Key


class Cas(Struct, array_like=True, frozen=True, tag="kv.cas", forbid_unknown_fields=True):
    """Set `key` to `value` if it now holds `expect` (None: if it is missing)."""

    key: Key
    expect: Blob | None
    value: Blob


SessionOperation: TypeAlias = Target | Guess | Put | Delete | Cas
"""What a session may ask for."""

Operation: TypeAlias = Register | SessionOperation


# ---- results: of operations --------------------------------------------------------------------------------------


class Refused(Struct, array_like=True, frozen=True, tag="refused"):
    """Decided in apply, final: nothing was changed. `code` is stable, `text` is for people."""

    code: str
    text: str


class Registered(Struct, array_like=True, frozen=True, tag="registered"):
    session: SessionId


class TargetSet(Struct, array_like=True, frozen=True, tag="target"):
    target: int
    round: int


class Guessed(Struct, array_like=True, frozen=True, tag="guessed"):
    """`target` is the committed target after this guess; `closer` whether the guess became it."""

    target: int
    distance: int
    closer: bool
    won: bool


class Deleted(Struct, array_like=True, frozen=True, tag="deleted"):
    existed: bool


class Gone(Struct, array_like=True, frozen=True, tag="gone"):
    """Applied once, but its result is no longer kept (C2: OK without a result)."""


Result: TypeAlias = Refused | Registered | TargetSet | Guessed | Deleted | Gone | None
"""None: done, nothing to tell (kv.put, kv.cas)."""


# ---- queries: answered from the state, never logged -------------------------------------------------------------


class GameQuery(Struct, array_like=True, frozen=True, tag="game.get", forbid_unknown_fields=True):
    """`reveal` asks for the secret too: it is none from the cluster, a player just need not be told."""

    reveal: bool = False


class KvQuery(Struct, array_like=True, frozen=True, tag="kv.get", forbid_unknown_fields=True):
    key: Key


Query: TypeAlias = GameQuery | KvQuery


class GameState(Struct, array_like=True, frozen=True, tag="game"):
    """`closest` is None before the first guess of a round; `target`, `owner`, `opener` before the first round;
    `secret` also unless asked for."""

    round: int
    open: bool
    target: int | None
    owner: str | None
    opener: str | None
    closest: int | None
    secret: int | None


class KvValue(Struct, array_like=True, frozen=True, tag="kv"):
    value: bytes | None


Answer: TypeAlias = GameState | KvValue


# ---- runs --------------------------------------------------------------------------------------------------------


class SealedRun(Struct, array_like=True, frozen=True):
    """A run as the leader writes it: the client's operations untouched."""

    session: SessionId
    seq: Sequence  # of the first operation; 0 in a run that registers
    acked: Sequence  # results below this need not be kept (C3)
    ops: Raw


class Run(Struct, array_like=True, frozen=True):
    """The same, opened for apply."""

    session: SessionId
    seq: Sequence
    acked: Sequence
    ops: list[Operation]


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoders below raise. A text that is not UTF-8 is no DecodeError of msgspec's."""

encode = msgspec.msgpack.Encoder().encode
decode_runs = msgspec.msgpack.Decoder(list[Run]).decode
decode_operations = msgspec.msgpack.Decoder(list[Operation]).decode
decode_session_operations = msgspec.msgpack.Decoder(list[SessionOperation]).decode
decode_results = msgspec.msgpack.Decoder(list[Result]).decode
decode_queries = msgspec.msgpack.Decoder(list[Query]).decode
decode_answers = msgspec.msgpack.Decoder(list[Answer]).decode
