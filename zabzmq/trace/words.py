"""Messages and operands in words: as members of a JSON event, and as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zabzmq.core.history import Batch
from zabzmq.core.messages import (
    WIRE_NAMES,
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    FollowerInfo,
    LeaderInfo,
    Message,
    Nack,
    NewLeader,
    Notification,
    Phase,
    Propose,
    ReadIndexReply,
    Snap,
    SnapChunk,
    State,
    SyncProgress,
    SyncTxns,
    Trunc,
    UpToDate,
    Vote,
)
from zabzmq.core.zxid import LinkId, ProcessId, Zxid

encode_json = msgspec.json.Encoder(enc_hook=str).encode


def plain(value: Any) -> Any:
    """An operand of an event as JSON can hold it: zxids as pairs, processes as node ids."""
    if isinstance(value, ProcessId):
        return value.peer
    if isinstance(value, LinkId):
        return str(value)
    if isinstance(value, State | Phase):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, set | frozenset):
        return [plain(v) for v in sorted(value)]
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def batch_operands(batches: tuple[Batch, ...]) -> dict[str, Any]:
    """`z` the last, `z0` the first, `count` the operations."""
    if not batches:
        return {}
    return {"z": batches[-1].last, "z0": batches[0].first, "count": sum(batch.count for batch in batches)}


_ABOUT: Final = {
    Trunc: "to",
    Snap: "zxid",
    SyncProgress: "zxid",
    NewLeader: "cut",
    AckNewLeader: "cut",
    UpToDate: "committed",
    Ack: "zxid",
    Commit: "zxid",
    ReadIndexReply: "zxid",
}


def operands(message: Message) -> dict[str, Any]:
    """The operands of a message, without the bytes it carries; the one zxid it is about is `z`."""
    fields = message._asdict()
    about = _ABOUT.get(type(message))
    if about is not None:
        fields["z"] = fields.pop(about)
    if "batches" in fields:
        fields.update(batch_operands(fields.pop("batches")))
    return fields


def vote_operands(vote: Vote | None) -> dict[str, Any]:
    """The triple that votes are compared by, in that order, and whom it names."""
    if vote is None:
        return {}
    return {"candidate": vote.leader.peer, "epoch": vote.epoch, "z": vote.zxid, "id": vote.leader.peer}


def vote_fields(note: Notification) -> dict[str, Any]:
    vote = None if note.vote is None else vote_operands(note.vote)
    return {"state": note.state, "round": note.round, "vote": vote, "leader": note.leader}


def message_fields(message: Message) -> dict[str, Any]:
    """What the event of a message says of it, beside its name."""
    return vote_fields(message) if isinstance(message, Notification) else operands(message)


# ---- words for people --------------------------------------------------------------------------------------------


def word(value: Any) -> str:
    if isinstance(value, Zxid):
        return str(value)
    value = plain(value)
    return value if isinstance(value, str) else str(encode_json(value), "utf-8")


def vote_text(vote: Vote) -> str:
    return f"({vote.epoch}, {vote.zxid}, {vote.leader.peer})"


def span(first: Zxid, last: Zxid) -> str:
    return str(last) if first == last else f"{first} to {last}"


def operations(count: int) -> str:
    return "" if count == 1 else f" ({count} operations)"


def told(message: Message) -> str:
    """A message in words, or "" when it is not worth a line."""
    name = WIRE_NAMES[type(message)]
    match message:
        case Propose(_, batches, _) | SyncTxns(_, batches):
            if not batches:
                return ""
            return f"{name} {span(batches[0].first, batches[-1].last)}{operations(sum(b.count for b in batches))}"
        case Ack(_, zxid) | Commit(_, zxid) | AckNewLeader(_, zxid) | NewLeader(_, zxid) | UpToDate(_, zxid):
            return f"{name} {zxid}"
        case Trunc(_, to):
            return f"{name} to {to}"
        case Snap(_, zxid, _, _, size):
            return f"{name} {zxid} ({size} bytes)"
        case FollowerInfo(accepted):
            return f"{name}: promised epoch {accepted} so far"
        case LeaderInfo(epoch, _):
            return f"{name}: epoch {epoch}"
        case AckEpoch(epoch, current, last):
            return f"{name}: epoch {epoch} promised, history of epoch {current} up to {last}"
        case Nack(reason, _):
            return f"{name} {reason.name}"
        case SyncProgress() | SnapChunk():
            return ""
        case _:
            return name
