"""Keys and values."""

from __future__ import annotations

import pytest

from zabzmq.core.zxid import Zxid
from zabzmq.machine.kv import KvMachine, item_hash
from zabzmq.machine.operations import Cas, Delete, Deleted, KvQuery, KvValue, Operation, Put, Refused, Result

MISSING = Refused("cas_mismatch", "the key is missing")
OTHER = Refused("cas_mismatch", "the key holds another value")


def apply(machine: KvMachine, *ops: Operation) -> list[Result]:
    return machine.apply(ops, "alice", Zxid(1, 1))


@pytest.mark.parametrize(
    ("ops", "results", "value"),
    [
        pytest.param([Put(b"k", b"v")], [None], b"v", id="put"),
        pytest.param([Put(b"k", b"v"), Put(b"k", b"w")], [None, None], b"w", id="put again"),
        pytest.param([Put(b"k", b"")], [None], b"", id="an empty value is a value"),
        pytest.param([Delete(b"k")], [Deleted(False)], None, id="delete what is not there"),
        pytest.param([Put(b"k", b"v"), Delete(b"k")], [None, Deleted(True)], None, id="delete"),
        pytest.param([Put(b"k", b""), Delete(b"k")], [None, Deleted(True)], None, id="delete an empty value"),
        pytest.param([Cas(b"k", None, b"w")], [None], b"w", id="cas on a missing key"),
        pytest.param([Cas(b"k", b"v", b"w")], [MISSING], None, id="cas expects a value, the key is missing"),
        pytest.param([Cas(b"k", b"", b"w")], [MISSING], None, id="an empty value is not a missing one"),
        pytest.param(
            [Put(b"k", b"v"), Cas(b"k", None, b"w")], [None, OTHER], b"v", id="cas expects none, there is one"
        ),
        pytest.param([Put(b"k", b"v"), Cas(b"k", b"x", b"w")], [None, OTHER], b"v", id="cas expects another value"),
        pytest.param([Put(b"k", b"v"), Cas(b"k", b"v", b"w")], [None, None], b"w", id="cas"),
    ],
)
def test_operations(ops: list[Operation], results: list[Result], value: bytes | None) -> None:
    machine = KvMachine()
    assert apply(machine, *ops) == results
    assert machine.query(KvQuery(b"k")) == KvValue(value)
    assert machine.query(KvQuery(b"other")) == KvValue(None)
    assert machine.digest == machine.full_digest()
    assert len(machine) == (value is not None)


def digest(*pairs: tuple[bytes, bytes]) -> int:
    machine = KvMachine()
    apply(machine, *(Put(key, value) for key, value in pairs))
    return machine.digest


def test_the_digest_is_of_the_content_and_not_of_the_way_there() -> None:
    assert digest((b"a", b"1"), (b"b", b"2")) == digest((b"b", b"9"), (b"a", b"1"), (b"b", b"2"))


def test_the_digest_changes_with_one_value_one_key_and_the_border_between_them() -> None:
    states = [
        digest(),
        digest((b"", b"")),
        digest((b"ab", b"c")),
        digest((b"a", b"bc")),
        digest((b"abc", b"")),
        digest((b"", b"abc")),
        digest((b"a", b"1"), (b"b", b"2")),
        digest((b"a", b"2"), (b"b", b"1")),
        digest((b"a", b"1"), (b"b", b"3")),
        digest((b"a", b"1")),
    ]
    assert len(set(states)) == len(states)


def test_an_item_is_hashed_in_the_loop_as_it_is_alone() -> None:
    assert digest((b"key", b"value")) == item_hash(b"key", b"value")
