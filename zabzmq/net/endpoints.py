"""Where a process listens and whom it connects to, and what to say when it cannot. No sockets here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from zabzmq.core.errors import ZabError
from zabzmq.core.zxid import PeerId, ProcessId

_LISTEN: Final = "0A"  # the state of a listening socket in /proc/net/tcp


class NetError(ZabError):
    """This node cannot have the network it needs. `port` is the one in question; `taken`: by another process."""

    def __init__(self, text: str, port: int | None = None, taken: bool = False) -> None:
        super().__init__(text)
        self.port = port
        self.taken = taken


class Endpoints(NamedTuple):
    """The three addresses of one node, as ZeroMQ writes them: tcp://127.0.0.1:21800."""

    peer: str
    publish: str
    client: str


@dataclass(frozen=True, slots=True)
class NetConfig:
    """What the sockets of one process need to know. `nodes` are all voters, this one included."""

    cluster: str
    me: ProcessId
    nodes: Mapping[PeerId, Endpoints]
    link_timeout_ms: float = 300.0

    def __post_init__(self) -> None:
        if self.me.peer not in self.nodes:
            raise NetError(f"node {self.me.peer} is not one of the nodes {sorted(self.nodes)}")

    @property
    def mine(self) -> Endpoints:
        return self.nodes[self.me.peer]

    @property
    def others(self) -> list[PeerId]:
        return sorted(peer for peer in self.nodes if peer != self.me.peer)


def port_of(endpoint: str) -> int | None:
    return urlsplit(endpoint).port


def bind_error(endpoint: str, node: int, taken: bool, reason: str) -> NetError:
    """Why `endpoint` could not be bound, in words for the one who started the node."""
    port = port_of(endpoint)
    if not taken or port is None:
        return NetError(f"cannot listen on {endpoint.removeprefix('tcp://')}: {reason}.", port)
    holder = next(holders(port), None)
    by = "" if holder is None else f" (pid {holder[0]}, {holder[1]})"
    return NetError(f"port {port} is taken{by}. Node {node} may already run.", port, True)


def holders(port: int, proc: Path = Path("/proc")) -> Iterator[tuple[int, str]]:
    """Processes that listen on this TCP port, as (pid, name): those we may look into, where there is a /proc."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(proc / "net" / table, port)}
    if not inodes:
        return
    for process in proc.iterdir():
        if process.name.isdigit():
            try:
                if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                    yield int(process.name), (process / "comm").read_text().strip()
            except OSError:
                continue  # another user's, or just gone


def _listening(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]
