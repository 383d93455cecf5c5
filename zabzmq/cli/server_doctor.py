"""`doctor`: is this machine fit for a cluster, and where does each setting come from?"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from zabzmq.cli import environment
from zabzmq.cli.cluster_commands import SEEDS
from zabzmq.cli.common import Exit, can_encode
from zabzmq.net.endpoints import holders
from zabzmq.server.config import HOST, PORT_OFFSETS, SUPERVISOR_OFFSET, Config
from zabzmq.server.observe_token import NAME

PACKAGES = ("pyzmq", "click", "rich", "msgspec", "crc32c", "xxhash")
SETTINGS = (
    ("as", "ZAB_CLIENT", "new in every run"),
    ("timeout", "ZAB_TIMEOUT", "5"),
    ("json", "ZAB_FORMAT", "text"),
    ("seed", environment.SEED, "none"),
    ("unsafe", environment.UNSAFE, "none"),
)
SYNCS = 20
SLOW_SYNC_MS = 20.0
LOW_BYTES = 256 << 20
FULL_BYTES = 64 << 20
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})


class Finding(NamedTuple):
    """`grade`: "ok", "note" or "bad"; a bad one keeps nodes from starting."""

    grade: str
    what: str
    text: str


def examine(config: Config, options: str) -> int:
    environment.taken(environment.SEED, SEEDS)
    environment.unsafe()
    bad = False
    signs = {"ok": "✓", "note": "!", "bad": "✕"} if can_encode("✓✕") else {"ok": "+", "note": "!", "bad": "x"}
    for finding in _findings(config, options):
        bad = bad or finding.grade == "bad"
        click.echo(f"{signs[finding.grade]} {finding.what:<10} {finding.text}")
    click.echo("settings, and where each comes from (flag, environment, cluster.toml, default):")
    values = {
        "cluster": config.cluster,
        "nodes": len(config.listens),
        "base_port": config.base_port,
        "data_dir": config.data_dir,
        "log_dir": config.log_dir,
        "config": config.path or "-",
    }
    for name, value in values.items():
        click.echo(f"  {name:<10} {value!s:<24} {config.origins.get(name, '')}")
    for name, variable, default in SETTINGS:
        value = os.environ.get(variable)
        click.echo(f"  {name:<10} {value or default:<24} {variable if value else 'default'}")
    secret, file = environment.token(), config.log_dir / NAME
    token = "set, and not shown" if secret else f"in {file}" if file.exists() else "none yet"
    click.echo(f"  {'token':<10} {token:<24} {environment.TOKEN if secret else 'default'}")
    return Exit.ERROR if bad else Exit.OK


def _findings(config: Config, options: str) -> Iterator[Finding]:
    version = platform.python_version()
    fit = sys.version_info >= (3, 11)
    yield Finding("ok" if fit else "bad", "python", f"{version} ({sys.executable})")
    yield from _packages()
    yield from _ports(config, options)
    yield from _disk(config.data_dir)


def _packages() -> Iterator[Finding]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("bad", "packages", f"{name} is missing: run make, or pip install -e .")
    yield Finding("ok", "packages", ", ".join(found))


def _ports(config: Config, options: str) -> Iterator[Finding]:
    """What of each node's ports cannot be had, and who has it: one line where the answer is one."""
    places = [(f"node {each.id}", each.host, [getattr(each, kind) for kind in PORT_OFFSETS]) for each in config.listens]
    places.append(("supervisor", HOST, [config.base_port + SUPERVISOR_OFFSET]))
    free, here = True, 0
    for who, host, ports in places:
        found: dict[str, list[int]] = {}
        for port in ports:
            error = _why_not_bound(host, port)
            if error is not None and error.errno == errno.EADDRNOTAVAIL:
                yield Finding("ok", "ports", f"{who}, {host}: on another machine, for this one has no such address")
                break
            here += 1
            if error is not None:
                holder = next(holders(port), None)
                by = f" by pid {holder[0]} ({holder[1]})" if holder else ""
                found.setdefault(f"{error.strerror or error}{by}", []).append(port)
        for reason, several in found.items():
            free = False
            yield Finding("note", "ports", f"{who}, {host}:{' '.join(map(str, several))}: {reason}")
    if free:
        yield Finding("ok", "ports", f"all {here} are free, from {config.base_port} on")
    else:
        see = f"nodes that run already? see: python zookeeper_server.py{options} status"
        yield Finding("note", "ports", f"{see}   else choose another --base-port")


def _why_not_bound(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _disk(directory: Path) -> Iterator[Finding]:
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        kind = file_system_of(place)
    except FileNotFoundError:
        yield Finding("bad", "disk", f"{directory} is nowhere: the working directory is gone")
        return
    if kind in REMOTE:
        yield Finding("bad", "disk", f"{place} is on {kind}: locks over a network are not to be relied on (L17)")
    elif kind in ("tmpfs", "ramfs"):
        yield Finding("note", "disk", f"{place} is on {kind}: in memory, so nothing survives a power cut")
    else:
        yield Finding("ok", "disk", f"{place} is on {kind or 'a file system of unknown kind'}")
    stat = os.statvfs(place)
    free = stat.f_bavail * stat.f_frsize
    grade = "bad" if free < FULL_BYTES else "note" if free < LOW_BYTES else "ok"
    yield Finding(grade, "space", f"{free >> 20} MiB are free; below {FULL_BYTES >> 20} a node does not start")
    try:
        median, worst = _sync_latency(place)
    except OSError as error:
        yield Finding("bad", "fsync", f"{place} cannot be written: {error.strerror}")
        return
    slow = "   (slow: every commit waits for this on a majority)" if median > SLOW_SYNC_MS else ""
    yield Finding("note" if slow else "ok", "fsync", f"median {median:.2f} ms, worst {worst:.2f} ms of {SYNCS}{slow}")


def _sync_latency(place: Path) -> tuple[float, float]:
    """Milliseconds that appending a small batch durably takes."""
    took = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), max(took)


def file_system_of(place: Path) -> str | None:
    """The kind of file system, where the system tells (Linux)."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    real = place.resolve()
    best, kind = -1, None
    for fields in (line.split() for line in mounts):
        point = fields[1].encode().decode("unicode_escape")
        if real.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind
