"""Every duration and bound the protocol uses, in one frozen value (PROTOCOL 8.1 and 16). Durations in milliseconds.

Time is for liveness only: any of these may be wrong by any factor without a safety rule breaking.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Timing:
    """Defaults are for one host or one LAN."""

    hb_interval: float = 60  # a leader's heartbeat
    idle_hb_interval: float = 500  # everyone else's
    peer_timeout: float = 500  # follower: a silent leader is gone; jittered by 10 %
    quorum_timeout: float = 400  # leader: no quorum of echoes; below the least peer_timeout
    reach_timeout: float = 1250  # E8: heard from within this; above two idle heartbeats
    finalize_wait: float = 20
    notif_resend: float = 50
    notif_resend_max: float = 1000
    discovery_timeout: float = 2000
    sync_progress_timeout: float = 5000
    disk_stall: float = 1000
    commit_delay: float = 3  # a COMMIT waits so long for a PROPOSE that can carry it (B2)
    bootstrap_wait: float = 300
    link_retry: float = 10
    backoff_min: float = 50  # F8
    backoff_max: float = 500
    backoff_reset: float = 10_000
    deposed_by_epoch_min: float = 3000  # V4: an established leader steps down for it at most this often
    max_counter: int = (1 << 64) - 2  # B9
    max_outstanding: int = 65_536  # transactions proposed and not committed (B6)
    max_outstanding_bytes: int = 64 * MIB
    window_bytes: int = 16 * MIB  # sent to one learner and not known durable there (B6)
    chunk_bytes: int = MIB  # one SYNC_TXNS or SNAP_CHUNK
    snapshot_window_bytes: int = 4 * MIB

    def __post_init__(self) -> None:
        if self.quorum_timeout >= 0.9 * self.peer_timeout:
            raise ValueError("quorum_timeout must be below the shortest jittered peer_timeout (0.9 of it)")
        if self.peer_timeout < 8 * self.hb_interval:
            raise ValueError("peer_timeout must be at least 8 heartbeats of the leader")
