"""Why a peer moved, as a code and operands: the core says it in words, and each of its sentences has a line here.

A test reads the core's sources and finds every sentence in this table, so the two cannot drift apart.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

_OPERANDS: Final = {
    "peer": r"(?P<peer>\d+)",
    "epoch": r"(?P<epoch>\d+)",
    "promised": r"(?P<promised>\d+)",
    "ms": r"(?P<ms>\d+)",
    "have": r"(?P<have>\[[\d, ]*\])",
    "reason": r"(?P<reason>\w+)",
    "z": r"(?P<z>\d+\.\d+)",
    "committed": r"(?P<committed>\d+\.\d+)",
    "detail": r"(?P<detail>.*)",
}

WHYS: Final[dict[str, str]] = {
    "started": "started",
    "disk_quiet": "the disk is quiet",
    "epoch_repaired": "epoch repaired after a broken synchronization",
    # election
    "elected": "elected by <have>",
    "follows": "follows <peer>",
    "candidate_unreachable": "candidate <peer> cannot be reached",
    "candidate_gone": "candidate <peer> is gone",
    "candidate_restarted": "candidate <peer> has restarted",
    # discovery
    "quorum_promised": "a quorum has promised",
    "promised": "promised <epoch>",
    "no_promises": "no quorum of promises within <ms> ms",
    "promised_to_others": "a quorum has promised this epoch to others",
    "follower_more_recent": "follower <peer> is more recent: epoch <epoch>, <z>",
    "epoch_too_old": "peer <peer> has promised epoch <promised>",
    "not_fresh": "an empty disk may not lead beside one that has been in an epoch",
    "voters_left": "too many voters are LOOKING again",
    "voters_elsewhere": "too many voters want another leader",
    "leader_mute": "leader <peer> did not answer in <ms> ms",
    "no_link": "no link to leader <peer>: <detail>",
    "refused": "refused by <peer>: <reason>",
    "offered_old_epoch": "leader <peer> offers epoch <epoch>, <promised> is promised",
    # synchronization
    "established": "a quorum holds the initial history",
    "up_to_date": "up to date",
    "too_few_links": "the linked voters are no quorum",
    "no_progress": "synchronization makes no progress",
    # broadcast, and wherever a leader is followed
    "no_quorum_of_echoes": "no quorum of echoes within <ms> ms",
    "leader_silent": "leader <peer> silent for <ms> ms",
    "leader_gone": "leader <peer> is gone",
    "leader_looking": "leader <peer> is LOOKING",
    "leader_restarted": "leader <peer> has restarted",
    "link_lost": "link to leader <peer> lost: <detail>",
    "no_counters": "the epoch has no counters left",
    # the disk
    "disk_stalled": "the disk is stalled",
    "disk_full": "the disk is full",
    "disk_hangs": "the disk has not finished a write for <ms> ms (D4)",
    # FAILED: going on could turn a fault into a wrong answer
    "histories_disagree": "the leader's committed history and ours disagree",
    "history_short": "histories disagree: <committed> was called committed, and <z> leads",
    "truncate_committed": "asked to truncate to <z>, but <committed> is committed",
    "snapshot_behind": "offered a snapshot at <z>, but <committed> is applied here",
    "promise_missing": "log ends in epoch <epoch>, but only <promised> was ever promised",
}
"""Sentence by code; the first that fits counts."""


def _compiled(sentence: str) -> re.Pattern[str]:
    parts = re.split(r"<(\w+)>", sentence)
    return re.compile("".join(_OPERANDS[p] if at % 2 else re.escape(p) for at, p in enumerate(parts)), re.DOTALL)


_PATTERNS: Final = [(code, _compiled(sentence)) for code, sentence in WHYS.items()]


class Why(NamedTuple):
    """`code` is one of WHYS, or "other"."""

    code: str
    operands: dict[str, Any]


@lru_cache(maxsize=256)
def why_of(text: str) -> Why:
    """What the core means by this sentence."""
    for code, pattern in _PATTERNS:
        found = pattern.fullmatch(text)
        if found is not None:
            return Why(code, {name: _value(name, value) for name, value in found.groupdict().items()})
    return Why("other", {})


def _value(name: str, text: str) -> Any:
    if name in ("z", "committed"):
        return [int(part) for part in text.split(".")]
    if name == "have":
        return [int(part) for part in text.strip("[]").split(",") if part.strip()]
    return text if name in ("reason", "detail") else int(text)
