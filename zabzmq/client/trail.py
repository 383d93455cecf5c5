"""What a client asks of whom, and what it hears: connections that tell it, a line each (`client.py -v`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import assert_never

from zabzmq.client.connection import Connection, Connections
from zabzmq.machine.operations import SessionId
from zabzmq.net.client_wire import (
    Answers,
    ClientReply,
    ClientRequest,
    Done,
    Hello,
    Hint,
    No,
    NodeStatus,
    Range,
    RangeReply,
    ReadMany,
    RegisterSession,
    StatusQuery,
    Submit,
)


class Trail(Connections):
    """`tell` takes each line."""

    def __init__(self, endpoints: Mapping[int, str], tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._asked: set[tuple[SessionId, int]] = set()
        super().__init__(endpoints)

    def send(self, node: int, request: ClientRequest) -> bool:
        sent = super().send(node, request)
        if sent:
            again = ""
            if isinstance(request, Submit):
                name = request.session, request.seq
                again = ", again" if name in self._asked else ""
                self._asked.add(name)
            self._tell(f"node {node}: {asked(request)}{again}")
        return sent

    def receive(self, only: int | None) -> Iterator[tuple[int, ClientReply]]:
        for node, reply in super().receive(only):
            self._tell(f"node {node}: {heard(reply)}")
            yield node, reply

    def _watch(self, connection: Connection) -> None:
        up, refused = connection.up, connection.refused
        super()._watch(connection)
        if connection.up != up:
            self._tell(f"node {connection.node}: {'connected' if connection.up else 'connection lost'}")
        elif connection.refused and not refused:
            self._tell(f"node {connection.node}: nobody listens at {connection.endpoint.removeprefix('tcp://')}")


def asked(request: ClientRequest) -> str:
    match request:
        case Hello():
            return "asked who leads"
        case RegisterSession(name=name):
            return f"asked for a session of {name}"
        case Submit(session=(epoch, counter), seq=seq):
            return f"asked for request {epoch}.{counter}-{seq}"
        case ReadMany(linear=linear):
            return "asked to read" if linear else "asked to read its own state"
        case Range():
            return "asked for what is committed"
        case StatusQuery():
            return "asked how it is"
    assert_never(request)


def heard(reply: ClientReply) -> str:
    match reply:
        case Hint(established=True, cluster=cluster, epoch=epoch):
            return f'it leads epoch {epoch} of cluster "{cluster}"'
        case Hint(leader=None, cluster=cluster):
            return f'it knows no leader of cluster "{cluster}"'
        case Hint(leader=leader, cluster=cluster):
            return f'leader of cluster "{cluster}" is {leader}'
        case Done(rid=0, zxid=(epoch, counter), acks=acks):
            held = f", on disk at {' '.join(map(str, acks))}" if acks else ""
            return f"committed {epoch}.{counter}{held}" if epoch else "committed earlier"
        case Done(zxid=(epoch, counter)):
            return f"session made at {epoch}.{counter}"
        case No(why=why, text=text, leader=leader, retry_ms=retry_ms):
            led = "" if leader is None else f", leader is {leader}"
            wait = "" if retry_ms is None else f", retry in {retry_ms} ms"
            return f"{why.upper()}{led}{f': {text}' if text else ''}{wait}"
        case Answers(zxid=(epoch, counter)):
            return f"answered as of {epoch}.{counter}"
        case RangeReply(applied=(epoch, counter)):
            return f"told what is committed, up to {epoch}.{counter}"
        case NodeStatus(state=state, phase=phase):
            return f"{state}, {phase}"
    assert_never(reply)
