"""Encoding much in little steps, so that whoever else needs this process can have it in between (L6).

What is encoded is copied when one of these is called, which costs a tenth of encoding it; the encoding itself is
done as the pieces are taken, later and in another thread if need be. The pieces, joined, are one MessagePack value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from zabzmq.machine.operations import encode

T = TypeVar("T")

PIECE_BYTES: Final = 128 << 10
"""About so much is encoded without a break: a tenth of a millisecond."""
_FIRST: Final = 16
_MOST: Final = 1 << 12


def map_pieces(items: Mapping[bytes, bytes]) -> Iterator[bytes]:
    # Two lists, since a copied dict costs twice as much, and cannot be let go of bit by bit.
    keys, values = list(items), list(items.values())

    def taken(count: int) -> bytes:
        part = dict(zip(_cut(keys, count), _cut(values, count), strict=True))
        return encode(part)[1 if count < 16 else 3 :]

    keys.reverse()
    values.reverse()
    return _pieces(0x80, len(keys), taken)


def array_pieces(items: Sequence[object]) -> Iterator[bytes]:
    left = list(items)
    left.reverse()
    return _pieces(0x90, len(left), lambda count: encode(_cut(left, count))[1 if count < 16 else 3 :])


def _cut(left: list[T], count: int) -> list[T]:
    """The first of what is left; it ends where the list begins."""
    part = left[: -count - 1 : -1]
    del left[-count:]
    return part


def _pieces(kind: int, count: int, taken: Callable[[int], bytes]) -> Iterator[bytes]:
    """`kind`: 0x80 of a map, 0x90 of an array. As many at once as make a piece of the right size."""
    if count < 1 << 4:
        yield bytes((kind | count,))
    else:
        wide = count >= 1 << 16
        yield bytes(((0xDE if kind == 0x80 else 0xDC) + wide,)) + count.to_bytes(4 if wide else 2, "big")
    some = _FIRST
    while count:
        some = min(some, count)
        piece = taken(some)
        yield piece
        count -= some
        if len(piece) > 2 * PIECE_BYTES:
            some = max(1, some // 2)
        elif len(piece) <= PIECE_BYTES // 2:
            some = min(2 * some, _MOST)
