"""What peers say to each other, phase by phase. Values only: net/wire.py turns them into bytes.

Messages are NamedTuples rather than frozen dataclasses: three times cheaper to make, and the wire's decoder
types and bounds them as they are. Who speaks, on which link and under which number travels in the envelope.
Names on the wire and in events are those of PROTOCOL.md (`WIRE_NAMES`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from zabzmq.core.history import Admit, Batch, EpochEnd
from zabzmq.core.zxid import PeerId, ProcessId, Zxid


class State(IntEnum):
    """Who a peer is now (PROTOCOL 2)."""

    LOOKING = 0
    FOLLOWING = 1
    LEADING = 2
    FAILED = 3


class Phase(IntEnum):
    """How far it is. QUIESCE is D4: leaving a role, with a write still in flight, before ELECTION."""

    QUIESCE = 0
    ELECTION = 1
    DISCOVERY = 2
    SYNCHRONIZATION = 3
    BROADCAST = 4


# ---- mesh: phase 0 -----------------------------------------------------------------------------------------------


class Vote(NamedTuple):
    """A proposal for leader: `epoch` is its currentEpoch, `zxid` its lastZxid (3.1)."""

    leader: ProcessId
    epoch: int
    zxid: Zxid

    @property
    def rank(self) -> tuple[int, Zxid, PeerId]:
        """The order on votes: most recent epoch, then longest history, then highest id (3.2)."""
        return (self.epoch, self.zxid, self.leader.peer)


class Notification(NamedTuple):
    """State of one peer in the election; the newest `(incarnation, n_seq)` replaces all before it (3.1, E6).

    LOOKING: `vote` is the proposal, or None of a peer that may not count. Others: the vote they decided with.
    `leader` is the process a FOLLOWING or LEADING peer follows, None while LOOKING.
    """

    state: State
    round: int
    vote: Vote | None
    leader: ProcessId | None
    current_epoch: int
    joined: bool
    config_id: int
    n_seq: int


# ---- link: phase 1 -----------------------------------------------------------------------------------------------


class FollowerInfo(NamedTuple):
    """Learner to leader, FOLLOWERINFO (paper: CEPOCH): what I promised so far, and the highest epoch I heard of."""

    accepted_epoch: int
    max_epoch_seen: int
    joined: bool
    config_id: int
    n_seq: int


class LeaderInfo(NamedTuple):
    """Leader to learner, LEADERINFO (paper: NEWEPOCH): promise me this epoch."""

    epoch: int
    n_seq: int


class AckEpoch(NamedTuple):
    """Learner to leader, ACKEPOCH (paper: ACK-E): promised; this is my history (section 4)."""

    epoch: int
    current_epoch: int
    last: Zxid
    snapshot: Zxid
    ends: tuple[EpochEnd, ...]
    counted: bool


class Refusal(IntEnum):
    NOT_LEADING = 0
    EPOCH_TOO_OLD = 1
    HISTORIES_DISAGREE = 2
    OTHER_CONFIG = 3


class Nack(NamedTuple):
    """Either way, NACK: this link leads nowhere, and why (E7, V4)."""

    reason: Refusal
    accepted_epoch: int


# ---- link: phase 2 -----------------------------------------------------------------------------------------------


class Trunc(NamedTuple):
    """Leader to learner, TRUNC: forget everything after `to`."""

    epoch: int
    to: Zxid


class Snap(NamedTuple):
    """Leader to learner, SNAP: `size` bytes of the snapshot at `zxid` follow in SNAP_CHUNKs."""

    epoch: int
    zxid: Zxid
    ends: tuple[EpochEnd, ...]
    admits: tuple[tuple[Zxid, Admit], ...]
    size: int


class SnapChunk(NamedTuple):
    """Leader to learner, SNAP_CHUNK: the snapshot's bytes from `offset` on, at most 1 MiB."""

    epoch: int
    offset: int
    data: bytes


class SyncTxns(NamedTuple):
    """Leader to learner, SYNC_TXNS (DIFF): batches of the leader's history, in order, at most about 1 MiB."""

    epoch: int
    batches: tuple[Batch, ...]


class SyncProgress(NamedTuple):
    """Learner to leader, SYNC_PROGRESS: durable so far; opens the sender's window and acknowledges nothing."""

    epoch: int
    zxid: Zxid
    snapshot_bytes: int


class NewLeader(NamedTuple):
    """Leader to learner, NEWLEADER: you now hold all of the history up to `cut` (S1, S10)."""

    epoch: int
    cut: Zxid


class AckNewLeader(NamedTuple):
    """Learner to leader, ACK_NEWLEADER (paper: ACK-LD): history up to `cut`, then currentEpoch, are on my disk."""

    epoch: int
    cut: Zxid


class UpToDate(NamedTuple):
    """Leader to learner, UPTODATE (paper: COMMIT-LD): committed so far; serve (S8)."""

    epoch: int
    committed: Zxid


class Joined(NamedTuple):
    """Learner to leader, JOINED: I applied the ADMIT of my life, count me from now on (L13b)."""

    epoch: int


# ---- link: phase 3 -----------------------------------------------------------------------------------------------


class Propose(NamedTuple):
    """Leader to learner, PROPOSE: batches to append, and the commit watermark of that moment (B2)."""

    epoch: int
    batches: tuple[Batch, ...]
    committed: Zxid


class Ack(NamedTuple):
    """Learner to leader, ACK: `zxid` and all before it are on my disk (B1)."""

    epoch: int
    zxid: Zxid


class HbEcho(NamedTuple):
    """Learner to leader, HB_ECHO: I heard heartbeat `hb_seq` and have promised no higher epoch (V2, T9)."""

    epoch: int
    hb_seq: int
    on_link: bool


class ReadIndex(NamedTuple):
    """Learner to leader, READ_INDEX: which zxid must a linearizable read that starts now see? (C5)"""

    epoch: int
    ticket: int


class ReadIndexReply(NamedTuple):
    """Leader to learner, READ_INDEX_REPLY: this one."""

    epoch: int
    ticket: int
    zxid: Zxid


# ---- PUB ---------------------------------------------------------------------------------------------------------


class Heartbeat(NamedTuple):
    """Everyone to all, HEARTBEAT, in every state (8.2). Of a leader also sent on a link while PUB is cut (T9).

    `applied` and `digest` are of the state machine; the node fills them in.
    """

    state: State
    phase: Phase
    epoch: int
    leader: ProcessId | None
    hb_seq: int
    committed: Zxid
    last: Zxid
    applied: Zxid
    digest: int | None


class Commit(NamedTuple):
    """Leader to all, COMMIT: everything up to `zxid` is committed (B2)."""

    epoch: int
    zxid: Zxid


MeshMessage: TypeAlias = Notification
LinkMessage: TypeAlias = (
    FollowerInfo
    | LeaderInfo
    | AckEpoch
    | Nack
    | Trunc
    | Snap
    | SnapChunk
    | SyncTxns
    | SyncProgress
    | NewLeader
    | AckNewLeader
    | UpToDate
    | Joined
    | Propose
    | Ack
    | HbEcho
    | ReadIndex
    | ReadIndexReply
    | Heartbeat
)
PubMessage: TypeAlias = Heartbeat | Commit
Message: TypeAlias = MeshMessage | LinkMessage | Commit

WIRE_NAMES: Final[dict[type, str]] = {
    Notification: "NOTIFICATION",
    FollowerInfo: "FOLLOWERINFO",
    LeaderInfo: "LEADERINFO",
    AckEpoch: "ACKEPOCH",
    Nack: "NACK",
    Trunc: "TRUNC",
    Snap: "SNAP",
    SnapChunk: "SNAP_CHUNK",
    SyncTxns: "SYNC_TXNS",
    SyncProgress: "SYNC_PROGRESS",
    NewLeader: "NEWLEADER",
    AckNewLeader: "ACK_NEWLEADER",
    UpToDate: "UPTODATE",
    Joined: "JOINED",
    Propose: "PROPOSE",
    Ack: "ACK",
    HbEcho: "HB_ECHO",
    ReadIndex: "READ_INDEX",
    ReadIndexReply: "READ_INDEX_REPLY",
    Heartbeat: "HEARTBEAT",
    Commit: "COMMIT",
}
