"""ZooKeeper: five servers with synced logs (its default), and a bare client of its protocol at the leader.

The client is pipelined asyncio without sessions kept alive, watches or retries. A linearizable read is a sync and a
getData sent together: what ZooKeeper's documentation says to do, though its leader answers sync without a majority.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from itertools import cycle
from pathlib import Path
from typing import Final

from benchmarks.measure import (
    NODES,
    VALUE_BYTES,
    Load,
    Processes,
    Rate,
    System,
    Trouble,
    free_ports,
    seconds_until,
    wait_until,
)
from benchmarks.peers.packages import Packages
from benchmarks.peers.pipeline import Pipeline, attempt, drive

PATHS: Final = 100
CREATE, GET, SET, SYNC = 1, 4, 5, 9
NODE_EXISTS: Final = -110
ATTEMPT_S: Final = 0.3

CONFIG: Final = """\
tickTime=2000
initLimit=10
syncLimit=5
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
"""
LOGGING: Final = """\
log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d %p %c: %m%n
"""


def _buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _path(number: int) -> bytes:
    return _buffer(b"/bench-%d" % number)


class ZooKeeperClient(Pipeline):
    """Writes; subclasses ask for something else."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""
        self._next = cycle(self._prepared()).__next__
        self._is_open = False

    def _prepared(self) -> list[bytes]:
        """Requests. Their xid says how much their answer counts for."""
        return [_request(1, SET, _path(i) + _buffer(b"x" * VALUE_BYTES) + b"\xff" * 4) for i in range(PATHS)]

    def greet(self) -> bytes:
        return _buffer(struct.pack(">iqiq", 0, 0, 30_000, 0) + _buffer(bytes(16)) + b"\0")

    def requests(self, count: int) -> bytes:
        take = self._next
        return b"".join([take() for _ in range(count)])

    def answers(self, data: bytes) -> int:
        data = self._rest + data
        at = count = 0
        while at + 4 <= len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4])
            if end > len(data):
                break
            if self._is_open:
                xid, _, error = struct.unpack_from(">iqi", data, at + 4)
                if error not in (0, NODE_EXISTS):
                    raise Trouble(f"ZooKeeper refused a request: error {error}")
                count += xid
            else:
                self._is_open = True
                self.opened()
            at = end
        self._rest = data[at:]
        return count


class Reader(ZooKeeperClient):
    def _prepared(self) -> list[bytes]:
        return [_request(0, SYNC, _path(i)) + _request(1, GET, _path(i) + b"\0") for i in range(PATHS)]


class Creator(ZooKeeperClient):
    def _prepared(self) -> list[bytes]:
        open_to_all = struct.pack(">ii", 1, 31) + _buffer(b"world") + _buffer(b"anyone")
        return [_request(1, CREATE, _path(i) + _buffer(b"") + open_to_all + bytes(4)) for i in range(PATHS)]


def _request(xid: int, kind: int, body: bytes) -> bytes:
    return _buffer(struct.pack(">ii", xid, kind) + body)


class ZooKeeper(System):
    name = "ZooKeeper"
    syncs = "before the answer, on three of five"
    driver = "bare asyncio client of its protocol, at the leader"
    settings = "default (tickTime 2000, forceSync yes); Java's default heap; admin server off"

    def __init__(self, directory: Path, packages: Packages) -> None:
        super().__init__(directory)
        self._packages = packages
        self._jars = packages.class_path()
        self._java = shutil.which("java")
        if self._java is None:
            raise Trouble("Java is not there; on Debian: apt install default-jre-headless")
        self._processes = Processes(directory)
        self._ports: list[int] = []

    def version(self) -> str:
        java = subprocess.run([str(self._java), "-version"], capture_output=True, text=True, check=False).stderr
        return f"{self._packages.debian_version('libzookeeper-java')}, {java.splitlines()[0]}"

    def start(self) -> None:
        ports = free_ports(3 * NODES)
        self._ports = ports[:NODES]
        servers = [f"server.{i}=127.0.0.1:{ports[NODES + i]}:{ports[2 * NODES + i]}" for i in range(NODES)]
        for i in range(NODES):
            home = self.directory / f"node-{i}"
            (home / "data").mkdir(parents=True)
            (home / "data" / "myid").write_text(str(i))
            own = f"dataDir={home / 'data'}\nclientPort={self._ports[i]}\nclientPortAddress=127.0.0.1\n"
            (home / "zoo.cfg").write_text(CONFIG + own + "\n".join(servers) + "\n")
            (home / "log4j.properties").write_text(LOGGING)
            self._start_node(i)
        leader = self._wait_for_leader()
        wait_until("a first write", lambda: attempt(Creator, self._ports[leader], ATTEMPT_S))
        drive(Creator, self._ports[leader], Load(1, PATHS), 0.0)

    def _start_node(self, node: int) -> None:
        home = self.directory / f"node-{node}"
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        java = [str(self._java), "-cp", f"{home}:{self._jars}", "-Dzookeeper.jmx.log4j.disable=true"]
        self._processes.start(node, [*java, main, str(home / "zoo.cfg")], self._packages.environment())

    def stop(self) -> None:
        self._processes.stop()

    def pids(self) -> list[int]:
        return self._processes.pids()

    def writes(self, load: Load, seconds: float) -> Rate:
        return drive(ZooKeeperClient, self._ports[self._wait_for_leader()], load, seconds)

    def reads(self, load: Load, seconds: float) -> Rate:
        return drive(Reader, self._ports[self._wait_for_leader()], load, seconds)

    def fail_over(self) -> float:
        leader = self._wait_for_leader()
        survivors = cycle([port for port in self._ports if port != self._ports[leader]])
        took = seconds_until(
            lambda: self._processes.kill(leader),
            "a write after the leader was killed",
            lambda: attempt(ZooKeeperClient, next(survivors), ATTEMPT_S),
        )
        self._start_node(leader)
        wait_until("the killed server to follow", lambda: self._said(leader, "Mode") == "follower" or None)
        return took * 1000

    def catch_up(self, behind: int) -> float:
        leader = self._wait_for_leader()
        follower = (leader + 1) % NODES
        self._processes.kill(follower)
        done = 0
        while done < behind:
            done += round(drive(ZooKeeperClient, self._ports[leader], Load(1, 256), 1.0).per_s)
        target = int(self._said(leader, "Zxid") or "0", 16)
        return seconds_until(
            lambda: self._start_node(follower),
            "the follower to catch up",
            lambda: int(self._said(follower, "Zxid") or "0", 16) >= target,
        )

    # ---- pieces

    def _wait_for_leader(self) -> int:
        """Its number, once all five serve."""

        def settled() -> int | None:
            self._processes.check()
            modes = [self._said(i, "Mode") for i in range(NODES)]
            return modes.index("leader") + 1 if modes.count("follower") == NODES - 1 and "leader" in modes else None

        return wait_until("a ZooKeeper leader", settled) - 1

    def _said(self, node: int, what: str) -> str | None:
        """A line of the answer to `srvr`."""
        try:
            with socket.create_connection(("127.0.0.1", self._ports[node]), timeout=1.0) as connection:
                connection.sendall(b"srvr")
                text = b""
                while piece := connection.recv(4096):
                    text += piece
        except OSError:
            return None
        lines = dict(line.split(": ", 1) for line in text.decode().splitlines() if ": " in line)
        return lines.get(what)
