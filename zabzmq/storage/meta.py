"""META: one small file with both epochs, the incarnation and whose directory this is (PROTOCOL 1.2, D1).

Replaced as a whole (10.4), so no crash can leave `current > accepted`. What the epochs mean is the core's
business; whether this directory is ours to open is decided in `check_owner`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from zabzmq.checksum import crc32c
from zabzmq.core.errors import StorageError
from zabzmq.core.history import Epochs
from zabzmq.core.zxid import PeerId, Zxid
from zabzmq.storage.damage import Damaged
from zabzmq.storage.files import Files, replace

VERSION: Final = 1
MAGIC: Final = b"ZABMETA\n"


class Meta(msgspec.Struct, array_like=True, frozen=True):
    """`closed`: where the log ended at a clean stop; None while a process runs or after it died.

    So a log whose end was lost or deleted since a clean stop is noticed (L2), and after an unclean one the last
    segment is written anew (L14).
    """

    version: int
    cluster: str
    node: PeerId
    voters: tuple[PeerId, ...]
    life: int
    incarnation: int
    epochs: Epochs
    closed: Zxid | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Meta).decode


def save(files: Files, path: str, meta: Meta) -> None:
    """Make this the META, durably."""
    assert meta.epochs.current <= meta.epochs.accepted, "an epoch is promised before it is entered (D2)"
    payload = _encode(meta)
    replace(files, path, [MAGIC, crc32c(payload).to_bytes(4, "little"), payload])


def load(path: str) -> Meta | None:
    """The META at `path`, None if there is none. Raises StorageError when it is damaged or of another version."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + 4
    payload = content[start:]
    if content[: len(MAGIC)] != MAGIC:
        raise Damaged(path, 0, "this is not a META file")
    if crc32c(payload).to_bytes(4, "little") != content[len(MAGIC) : start]:
        raise Damaged(path, len(MAGIC), "the checksum does not fit")
    try:
        meta = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: its checksum fits, but this version cannot read it: {error}") from None
    if meta.version != VERSION:
        raise StorageError(f"{path}: format {meta.version}, but this version reads format {VERSION}")
    assert meta.epochs.current <= meta.epochs.accepted, "an epoch is promised before it is entered (D2)"
    return meta


def check_owner(directory: str, meta: Meta, cluster: str, node: PeerId, voters: tuple[PeerId, ...]) -> None:
    """Refuse a directory of another node, cluster or voter set (L16)."""
    if (meta.cluster, meta.node) != (cluster, node):
        raise StorageError(
            f'{directory} belongs to node {meta.node} of cluster "{meta.cluster}". '
            "Refusing to start (this would forge acks)."
        )
    if meta.voters != voters:
        raise StorageError(
            f"{directory} was made for the voters {_listed(meta.voters)}, not {_listed(voters)}. Refusing to start: "
            "two majorities of different sets need not meet. Start with the same nodes, or with another --data-dir."
        )


def _listed(voters: tuple[PeerId, ...]) -> str:
    return ", ".join(map(str, voters))
