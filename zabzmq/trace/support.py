"""Who stands behind a leader, as far as it has heard: what each voter has on disk, has promised, holds, and echoes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zabzmq.core.zxid import PeerId, Zxid


def pair(zxid: Zxid) -> str:
    """As an event has it."""
    epoch, counter = zxid
    return f"[{epoch},{counter}]"


class Support:
    """Of one leadership; `begin` begins the next."""

    def __init__(self, me: PeerId) -> None:
        self.need = 0
        """How many make a quorum."""
        self.held: dict[PeerId, Zxid] = {}
        self.promised: set[PeerId] = set()
        self.synced: set[PeerId] = set()
        self.echoed: dict[PeerId, float] = {}
        self._me = me

    def begin(self, durable: Zxid) -> None:
        self.promised.clear()
        self.synced.clear()
        self.echoed.clear()
        self.held = {self._me: durable}

    def copies(self, zxid: Zxid) -> str:
        """Who holds it, and how many must."""
        have = sorted([peer for peer, held in self.held.items() if held >= zxid])
        return f'"have":{have},"need":{self.need}'

    def behind(self, code: str, now: float, found: Mapping[str, Any]) -> dict[str, Any]:
        """Who stood behind a move for this reason, and how many it takes."""
        match code:
            case "elected":
                return {"need": self.need}
            case "quorum_promised":
                have = self.promised
            case "established":
                have = self.synced
            case "no_quorum_of_echoes":
                have = {peer for peer, at in self.echoed.items() if at >= now - found["ms"]}
            case _:
                return {}
        return {"have": sorted(have | {self._me}), "need": self.need}
