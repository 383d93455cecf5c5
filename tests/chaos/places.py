"""Where real nodes live: in network namespaces that the test makes itself, with their data on small disks of memory.

Every node has a namespace and one cable to a bridge. A cut is real: packets to a peer go to a hardware address that
nobody has, so that they are lost without a word, one way or both. Neighbours are written down by hand, so that nobody
asks for them. Needs root and iproute2; nothing outside of what is made here is changed, and all of it goes at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from zabzmq.server.config import Config, load

NOBODY: Final = "02:00:00:00:00:ff"
DISK_BYTES: Final = 384 << 20
"""Of a small disk: above what a node keeps free (256 MiB), with room for an episode."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


def may_make_namespaces() -> bool:
    name = f"zab-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


class Namespaces:
    """Nodes 0 to count-1 at `address(node)`, in the namespaces `name(node)`; the test itself on the bridge."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._cut: set[tuple[int, int]] = set()
        self._net = f"10.213.{os.getpid() % 256}"
        self._tag = f"z{os.getpid()}"  # names of interfaces have at most 15 letters

    def address(self, node: int) -> str:
        return f"{self._net}.{node + 1}"

    def name(self, node: int) -> str:
        return f"{self._tag}-{node}"

    def _mac(self, node: int) -> str:
        return f"02:00:00:00:00:{node + 1:02x}"

    def __enter__(self) -> Namespaces:
        bridge = f"{self._tag}br"
        try:
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "address", self._mac(self._count), "up")
            _ip("address", "add", f"{self.address(self._count)}/24", "dev", bridge)
            for node in range(self._count):
                name, cable = self.name(node), f"{self._tag}v{node}"
                _ip("netns", "add", name)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
                _ip("link", "set", cable, "master", bridge, "up")
                _ip("-n", name, "link", "set", "eth0", "address", self._mac(node), "up")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
                _ip("neighbour", "replace", self.address(node), "lladdr", self._mac(node), "dev", bridge)
                for other in range(self._count + 1):
                    if other != node:
                        self._tell(node, other, self._mac(other))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._remove()

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Nothing of `a` is heard at `b`, for every pair (a, b); all other cuts end."""
        wanted = set(pairs)
        for a, b in sorted(wanted ^ self._cut):
            self._tell(a, b, NOBODY if (a, b) in wanted else self._mac(b))
        self._cut = wanted

    def _tell(self, node: int, other: int, mac: str) -> None:
        _ip("-n", self.name(node), "neighbour", "replace", self.address(other), "lladdr", mac, "dev", "eth0")

    def _remove(self) -> None:
        for node in range(self._count):
            subprocess.run(["ip", "netns", "delete", self.name(node)], capture_output=True, check=False)
            subprocess.run(["ip", "link", "delete", f"{self._tag}v{node}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", f"{self._tag}br"], capture_output=True, check=False)


class SmallDisks:
    """A file system of its own, in memory, for the data of each node."""

    def __init__(self, config: Config) -> None:
        self._directories: dict[int, Path] = {node: Path(config.node_data_dir(node)) for node in config.ids}
        self._full: set[int] = set()

    def __enter__(self) -> SmallDisks:
        for directory in self._directories.values():
            directory.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "zab-test", str(directory)], check=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for directory in self._directories.values():
            subprocess.run(["umount", "-l", str(directory)], check=False)

    def fill(self, node: int) -> None:
        """To the last page, beside what the node has: its next write of more is refused by the kernel."""
        self._full.add(node)
        path = self._ballast(node)
        with path.open("wb") as file:
            while free := shutil.disk_usage(path.parent).free:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
                except OSError:
                    break  # The node was quicker: it is full all the same.

    def make_room(self) -> None:
        for node in self._full:
            self._ballast(node).unlink(missing_ok=True)
        self._full.clear()

    def _ballast(self, node: int) -> Path:
        return self._directories[node] / "ballast"


def config_in(namespaces: Namespaces, count: int, directory: Path, base_port: int) -> Config:
    """A cluster with a host for every node."""
    path = directory / "cluster.toml"
    nodes = "\n".join(f'[[node]]\nid = {node}\nhost = "{namespaces.address(node)}"' for node in range(count))
    path.write_text(nodes + "\n", encoding="utf-8")
    return load(config=path, base_port=base_port, data_dir=directory / "data", log_dir=directory / "logs", environ={})
