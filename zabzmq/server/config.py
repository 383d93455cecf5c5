"""Which nodes make the cluster, where they listen and where they keep things: one frozen, checked `Config`.

A setting comes from a flag, else from ZAB_... in the environment, else from cluster.toml, else from the default;
`Config.origins` remembers which. Without [[node]] tables in the file the nodes are 0 to N-1 of one host, on the
ports of one base: peers base+i, clients base+10+i, publish base+20+i, observe base+30+i, supervisor base+40.

Nothing is opened or bound here; whether a port is free or a directory usable is found out by who uses it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from zabzmq.core.errors import ZabError
from zabzmq.core.zxid import PeerId

NODES_MAX: Final = 9
NAME_MAX: Final = 64
BASE_PORT: Final = 21800
CLUSTER: Final = "demo"
NODES: Final = 5
HOST: Final = "127.0.0.1"
DATA_DIR: Final = Path("data")
LOG_DIR: Final = Path("logs")

PORT_OFFSETS: Final = {"peer": 0, "client": 10, "publish": 20, "observe": 30}
SUPERVISOR_OFFSET: Final = 40
BASE_PORT_MIN: Final = 1024
BASE_PORT_MAX: Final = 65535 - SUPERVISOR_OFFSET

_HOST: Final = re.compile(r"[A-Za-z0-9_.:%-]+")

T = TypeVar("T")


class ConfigError(ZabError):
    """A setting that cannot be. `exit_code` 2 when the command line is to blame, 1 when a file is."""

    def __init__(self, text: str, *, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Listen(NamedTuple):
    """One node's place in the cluster: a host and four ports."""

    id: PeerId
    host: str
    peer: int
    client: int
    publish: int
    observe: int

    def endpoint(self, kind: str) -> str:
        """The ZeroMQ endpoint of "peer", "client" or "publish"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{getattr(self, kind)}"


@dataclass(frozen=True, slots=True)
class Config:
    """A checked cluster, as one node or one client was told of it."""

    cluster: str
    listens: tuple[Listen, ...]
    data_dir: Path
    log_dir: Path
    base_port: int
    path: Path | None = None
    """The cluster.toml, if one was named."""
    origins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert [n.id for n in self.listens] == sorted({n.id for n in self.listens}), "ids are distinct and ascending"

    @property
    def ids(self) -> tuple[PeerId, ...]:
        """The voters' ids, ascending."""
        return tuple(listen.id for listen in self.listens)

    @property
    def config_id(self) -> int:
        """One number for "which voters": equal on nodes that may elect each other (3.1)."""
        return crc32(",".join(map(str, self.ids)).encode())

    @property
    def client_endpoints(self) -> dict[int, str]:
        return {listen.id: listen.endpoint("client") for listen in self.listens}

    @property
    def publish_endpoints(self) -> dict[int, str]:
        return {listen.id: listen.endpoint("publish") for listen in self.listens}

    def listen(self, node: int) -> Listen:
        """Where this node listens. Raises ConfigError when the cluster has no such node."""
        for listen in self.listens:
            if listen.id == node:
                return listen
        names = " ".join(map(str, self.ids))
        raise ConfigError(f'there is no node {node} in cluster "{self.cluster}": its nodes are {names}', exit_code=2)

    def node_data_dir(self, node: int) -> Path:
        return self.data_dir / f"node-{node}"


class _NodeTable(Struct, forbid_unknown_fields=True, frozen=True):
    id: Annotated[int, Meta(ge=0, lt=NODES_MAX)]
    host: Annotated[str, Meta(min_length=1, max_length=253)] = HOST
    peer: Annotated[int, Meta(ge=1, le=65535)] | None = None
    client: Annotated[int, Meta(ge=1, le=65535)] | None = None
    publish: Annotated[int, Meta(ge=1, le=65535)] | None = None
    observe: Annotated[int, Meta(ge=1, le=65535)] | None = None
    voter: bool = True


class _File(Struct, forbid_unknown_fields=True, frozen=True):
    name: str | None = None
    base_port: Annotated[int, Meta(ge=BASE_PORT_MIN, le=BASE_PORT_MAX)] | None = None
    data_dir: Annotated[str, Meta(min_length=1)] | None = None
    log_dir: Annotated[str, Meta(min_length=1)] | None = None
    node: list[dict[str, Any]] = []


def load(
    *,
    config: Path | str | None = None,
    base_port: int | None = None,
    nodes: int | None = None,
    cluster: str | None = None,
    data_dir: Path | str | None = None,
    log_dir: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Settle every setting; None is a flag that was not given. Raises ConfigError."""
    origins: dict[str, str] = {}

    def settle(name: str, flag: T | None, parsed: T | None, in_file: T | None, default: T) -> T:
        for value, origin in (
            (flag, f"--{name.replace('_', '-')}"),
            (parsed, f"ZAB_{name.upper()}"),
            (in_file, str(path)),
            (default, "default"),
        ):
            if value is not None:
                origins[name] = origin
                return value
        raise AssertionError("the default is never None")

    path = Path(config) if config is not None else _env_path(environ, "ZAB_CONFIG")
    origins["config"] = "none given" if path is None else "--config" if config is not None else "ZAB_CONFIG"
    file, tables = _read(path) if path is not None else (_File(), [])

    name = settle("cluster", cluster, environ.get("ZAB_CLUSTER") or None, file.name, CLUSTER)
    base = settle("base_port", base_port, _env_int(environ, "ZAB_BASE_PORT"), file.base_port, BASE_PORT)
    count = settle("nodes", nodes, _env_int(environ, "ZAB_NODES"), len(tables) or None, NODES)
    data = settle("data_dir", _as_path(data_dir), _env_path(environ, "ZAB_DATA_DIR"), _as_path(file.data_dir), DATA_DIR)
    logs = settle("log_dir", _as_path(log_dir), _env_path(environ, "ZAB_LOG_DIR"), _as_path(file.log_dir), LOG_DIR)

    check_name("cluster", name, f"{origins['cluster']}: ", 1 if origins["cluster"] == str(path) else 2)
    _check_range(origins["base_port"], base, BASE_PORT_MIN, BASE_PORT_MAX)
    _check_range(origins["nodes"], count, 1, NODES_MAX)
    if tables and count != len(tables):
        raise ConfigError(
            f"{origins['nodes']} says {count} nodes, {path} lists {len(tables)}: leave one of them out", exit_code=2
        )
    if not tables:
        tables = [_NodeTable(id=number) for number in range(count)]
    for table in tables:
        if _HOST.fullmatch(table.host) is None:
            raise ConfigError(f"{path}: host {table.host!r} of node {table.id} is neither a name nor an address")
    listens = [_listen(table, base) for table in sorted(tables, key=lambda t: t.id)]
    _check_distinct(listens, str(path) if path is not None else origins["base_port"])
    return Config(name, tuple(listens), data, logs, base, path, origins)


def check_name(what: str, name: str, where: str = "", exit_code: int = 2) -> None:
    """The rule for every name, of clusters and of clients: 1 to 64 printable characters."""
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise ConfigError(
            f"{where}the {what} name must be 1 to {NAME_MAX} printable characters, not {name[:80]!r}",
            exit_code=exit_code,
        )


def _read(path: Path) -> tuple[_File, list[_NodeTable]]:
    try:
        raw = tomllib.loads(path.read_bytes().decode())
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: is not TOML: {e}") from None
    file = _convert(raw, _File, str(path))
    tables: list[_NodeTable] = []
    for position, raw_node in enumerate(file.node, start=1):
        table = _convert(raw_node, _NodeTable, f"{path}: [[node]] number {position}")
        if any(table.id == other.id for other in tables):
            raise ConfigError(f"{path}: [[node]] number {position}: id = {table.id} was given before")
        if not table.voter:
            raise ConfigError(f"{path}: [[node]] number {position}: voter = false: every node of this version votes")
        tables.append(table)
    return file, tables


def _convert(raw: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: {str(e).replace(' - at `$.', ' at `')}") from None


def _listen(table: _NodeTable, base: int) -> Listen:
    ports = {kind: getattr(table, kind) or base + offset + table.id for kind, offset in PORT_OFFSETS.items()}
    return Listen(PeerId(table.id), table.host, **ports)


def _check_distinct(listens: list[Listen], where: str) -> None:
    taken: dict[tuple[str, int], str] = {}
    for listen in listens:
        for kind in PORT_OFFSETS:
            address = (listen.host, getattr(listen, kind))
            user = f"node {listen.id} ({kind})"
            if address in taken:
                raise ConfigError(f"{where}: port {address[1]} of {address[0]} is given to {taken[address]} and {user}")
            taken[address] = user


def _check_range(origin: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{origin}: {value} is not in the range {low} to {high}", exit_code=2)


def _as_path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value)


def _env_path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _env_int(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}: {text!r} is not a whole number", exit_code=2) from None
