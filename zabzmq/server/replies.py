"""What this node says to clients, and what it knows of the leader while saying it. Pure: a list the node drains."""

from __future__ import annotations

from collections.abc import Mapping

from zabzmq.core.zxid import PeerId
from zabzmq.machine.operations import NO_SESSION, SessionId
from zabzmq.net.client_wire import ClientReply, Hint, No


class Replies:
    """The replies of this turn, in order. `leader` and `epoch` are a hint, `established` is a fact (C1, C8)."""

    def __init__(self, node: PeerId, cluster: str, endpoints: Mapping[int, str], retry_ms: int) -> None:
        self.node = node
        self.cluster = cluster
        self.endpoints = dict(endpoints)
        self.retry_ms = retry_ms
        self.leader: PeerId | None = None
        self.epoch = 0
        self.established = False
        self.out: list[tuple[bytes, ClientReply]] = []

    def send(self, client: bytes, reply: ClientReply) -> None:
        self.out.append((client, reply))

    def hint(self, client: bytes, rid: int) -> None:
        hint = Hint(rid, self.cluster, self.node, self.leader, self.epoch, self.established, self.endpoints)
        self.send(client, hint)

    def no(
        self,
        client: bytes,
        why: str,
        text: str,
        *,
        rid: int = 0,
        session: SessionId = NO_SESSION,
        seq: int = 0,
        count: int = 0,
        expected: int | None = None,
    ) -> None:
        """`why` is one of WHY; what to tell beside it follows from it."""
        leader = self.leader if why == "not_leader" else None
        retry_ms = self.retry_ms if why in ("busy", "no_leader") else None
        self.send(client, No(rid, session, seq, count, why, text, leader, expected, retry_ms))

    def not_here(
        self, client: bytes, *, rid: int = 0, session: SessionId = NO_SESSION, seq: int = 0, count: int = 0
    ) -> None:
        """Surely not done, since this node does not lead: NOT_LEADER with a hint, or NO_LEADER (C1)."""
        if self.leader is None:
            why, text = "no_leader", f"node {self.node} knows of no leader"
        elif self.leader == self.node:
            why, text = "no_leader", f"node {self.node} is not established as leader"
        else:
            why, text = "not_leader", f"node {self.node} does not lead, node {self.leader} may"
        self.no(client, why, text, rid=rid, session=session, seq=seq, count=count)
