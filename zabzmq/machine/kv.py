"""Keys and values, both byte strings: put, get, delete, compare-and-set.

What benchmarks and the linearizability tests use. Its apply loop runs once per operation on every node, so it is
written for speed: one dict, and what a pair contributes to the digest is computed again when the pair goes, which
costs less than the cache misses of a second dict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from zabzmq.core.errors import LocalProtocolError
from zabzmq.core.zxid import Zxid
from zabzmq.machine.operations import (
    Answer,
    Cas,
    Delete,
    Deleted,
    KvQuery,
    KvValue,
    Operation,
    Put,
    Query,
    Refused,
    Result,
)
from zabzmq.machine.pieces import map_pieces

MASK: Final = (1 << 64) - 1
_EXISTED: Final = Deleted(True)
_MISSED: Final = Deleted(False)
_decode = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode


def item_hash(key: bytes, value: bytes) -> int:
    """What one pair contributes to the digest. Seeding with the key's own hash keeps ("ab", "c") from ("a", "bc")."""
    return xxh3_64_intdigest(value, xxh3_64_intdigest(key))


class KvMachine:
    """A StateMachine. The digest is the sum modulo 2^64 of its items' hashes, so their order does not matter."""

    OPERATIONS: Final = (Put, Delete, Cas)
    QUERIES: Final = (KvQuery,)

    def __init__(self) -> None:
        self._items: dict[bytes, bytes] = {}
        self._sum = 0

    def __len__(self) -> int:
        return len(self._items)

    def apply(self, operations: Iterable[Operation], by: str, first: Zxid) -> list[Result]:
        items, total = self._items, self._sum
        results: list[Result] = []
        for op in operations:
            if isinstance(op, Put):
                held = items.get(op.key)
                results.append(None)
            elif isinstance(op, Cas):
                held = items.get(op.key)
                if held != op.expect:
                    results.append(_mismatch(held))
                    continue
                results.append(None)
            elif isinstance(op, Delete):
                held = items.pop(op.key, None)
                if held is not None:
                    total -= item_hash(op.key, held)
                results.append(_MISSED if held is None else _EXISTED)
                continue
            else:
                raise LocalProtocolError(f"not an operation of kv: {op}")
            key, value = op.key, op.value
            seed = xxh3_64_intdigest(key)  # item_hash, without the calls
            total += xxh3_64_intdigest(value, seed)
            if held is not None:
                total -= xxh3_64_intdigest(held, seed)
            items[key] = value
        self._sum = total & MASK
        return results

    def query(self, query: Query) -> Answer:
        if not isinstance(query, KvQuery):
            raise LocalProtocolError(f"not a query of kv: {query}")
        return KvValue(self._items.get(query.key))

    @property
    def digest(self) -> int:
        return self._sum

    def full_digest(self) -> int:
        return sum(item_hash(key, value) for key, value in self._items.items()) & MASK

    def snapshot(self) -> Iterable[bytes]:
        return map_pieces(self._items)

    def restore(self, data: bytes | memoryview) -> None:
        self._items = _decode(data)
        self._sum = self.full_digest()


def _mismatch(held: bytes | None) -> Refused:
    return Refused("cas_mismatch", "the key is missing" if held is None else "the key holds another value")
