"""What a leader keeps of each learner and of its own leadership, and what a learner keeps of its promise."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from zabzmq.core.history import SnapshotMark
from zabzmq.core.messages import AckEpoch, FollowerInfo
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid


@dataclass(slots=True)
class Learner:
    """One learner on its present link; dropped with the link, and with it everything it said (B10, B11)."""

    process: ProcessId
    link: LinkId
    info: FollowerInfo
    heard_at: float  # when anything came on the link
    joined: bool  # counts in quorums of this leadership (V5)
    ack_epoch: AckEpoch | None = None

    # synchronization
    syncing: bool = False
    sent: Zxid = ZERO  # the send cursor: everything after it is still to be sent, in order
    cut: Zxid = ZERO  # S1
    new_leader_sent: bool = False
    new_leader_acked: bool = False
    reading: bool = False  # a read of the log or the snapshot is under way for this link
    snapshot: SnapshotMark | None = None  # being sent
    snapshot_sent: int = 0
    snapshot_staged: int = 0

    # flow control: what was sent and is not yet known durable there, oldest first: last zxid, bytes, when sent
    in_flight: deque[tuple[Zxid, int, float]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    durable: Zxid = ZERO
    acked: Zxid = ZERO
    progress_at: float = 0.0

    # signs of life: when the heartbeat was sent that it last echoed (F2), and its number
    echoed_at: float = 0.0
    echoed_seq: int = 0
    pub_echoed_at: float = 0.0  # the same, of heartbeats that PUB brought
    beat_on_link: bool = False  # T9

    def flew(self, last: Zxid, size: int, now: float) -> None:
        """These bytes are on their way."""
        if not self.in_flight:
            self.progress_at = now
        self.in_flight.append((last, size, now))
        self.in_flight_bytes += size
        self.sent = last

    def landed(self, durable: Zxid, now: float) -> float:
        """They are on its disk up to `durable`; returns when the newest of them was sent, 0 if none landed."""
        sent_at = 0.0
        while self.in_flight and self.in_flight[0][0] <= durable:
            _, size, sent_at = self.in_flight.popleft()
            self.in_flight_bytes -= size
        if durable > self.durable:
            self.durable = durable
            self.progress_at = now
        return sent_at


@dataclass(slots=True)
class Following:
    """A learner's side of one link, from its promise to its end: what both of its later phases go by."""

    leader: ProcessId
    link: LinkId
    epoch: int
    told_n_seq: int  # of LEADERINFO; a LOOKING notification beyond it says that the leader has left (F3)
    decided_round: int
    cut: Zxid | None = None  # of NEWLEADER, once it came
    accepted: bool = False  # ACK_NEWLEADER was sent
    seen: Zxid = ZERO  # highest commit watermark of this epoch; acted upon after UPTODATE only (S7)
    heard_at: float = 0.0
    silence: float = 0.0  # how long the leader may be silent: peer_timeout, jittered
    pub_at: float = 0.0  # when PUB last brought a heartbeat of our leader (T9)
    progress_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Promise:
    """The last promise this process made, to answer the same leader process the same way again (V1)."""

    leader: ProcessId
    epoch: int


@dataclass(slots=True)
class Promised:
    """A counted answer to LEADERINFO. Stays for the whole leadership, even when its link is lost (V1)."""

    joined_before: bool
    current_epoch: int


@dataclass(slots=True)
class Tenure:
    """One leadership, from its election to its end."""

    epoch: int = 0  # 0 until a quorum has sent FOLLOWERINFO
    learners: dict[PeerId, Learner] = field(default_factory=dict)
    promised: dict[PeerId, Promised] = field(default_factory=dict)
    uncounted: set[PeerId] = field(default_factory=set)
    acked: dict[PeerId, Zxid] = field(default_factory=dict)  # on disk since NEWLEADER of this epoch (B4, B5, B11)
    bootstrap: bool = False  # every member of the quorum of promises was fresh (L13a)
    left: set[PeerId] = field(default_factory=set)  # seen LOOKING again since their FOLLOWERINFO (V6)

    def on(self, link: LinkId) -> Learner | None:
        """The learner on this very link."""
        learner = self.learners.get(link.learner.peer)
        return learner if learner is not None and learner.link == link else None

    def __iter__(self) -> Iterator[Learner]:
        return iter(self.learners.values())
