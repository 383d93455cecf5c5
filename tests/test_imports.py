"""Imports point inwards: a layer that reaches outward turns this red.

The rules are those of the map in zabzmq/__init__.py. A module's own layer is always allowed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "zabzmq"

CORE_MAY_TAKE = {"__future__", "dataclasses", "enum", "math", "typing", "collections", "collections.abc"}

# Longest prefix wins. What a layer may import of this project, beside itself.
PURE_NET = (
    "zabzmq.checksum",
    "zabzmq.net.wire",
    "zabzmq.net.link",
    "zabzmq.net.client_wire",
    "zabzmq.net.faults",
    "zabzmq.net.holding",
)
INNER = ("zabzmq.core", "zabzmq.machine", *PURE_NET, "zabzmq.server.ports", "zabzmq.trace.event")
SERVICE_PARTS = ("zabzmq.server.replies", "zabzmq.server.reads", "zabzmq.server.commits")
SERVER = ("zabzmq.server.service", "zabzmq.server.node")
ENDPOINT = (
    "zabzmq.server.observe",
    "zabzmq.server.observe_http",
    "zabzmq.server.observe_routes",
    "zabzmq.server.observe_token",
)
LAYERS: dict[str, tuple[str, ...]] = {
    "zabzmq": (),
    "zabzmq.checksum": (),
    "zabzmq.core": (),
    "zabzmq.machine": ("zabzmq.core",),
    "zabzmq.net.wire": ("zabzmq.core", *PURE_NET),
    "zabzmq.net.link": ("zabzmq.core", *PURE_NET),
    "zabzmq.net.faults": ("zabzmq.core", *PURE_NET),
    "zabzmq.net.holding": ("zabzmq.core", *PURE_NET),
    "zabzmq.net.client_wire": ("zabzmq.core", "zabzmq.machine.operations", *PURE_NET),
    "zabzmq.net": INNER,
    "zabzmq.storage": ("zabzmq.checksum", "zabzmq.core", "zabzmq.server.ports"),
    "zabzmq.server.ports": ("zabzmq.core", "zabzmq.net.client_wire", "zabzmq.trace.event"),
    "zabzmq.server.service": ("zabzmq.core", "zabzmq.machine", "zabzmq.net.client_wire", *SERVICE_PARTS),
    "zabzmq.server.replies": ("zabzmq.core", "zabzmq.machine", "zabzmq.net.client_wire"),
    "zabzmq.server.reads": ("zabzmq.core", "zabzmq.machine", "zabzmq.net.client_wire", "zabzmq.server.replies"),
    "zabzmq.server.commits": ("zabzmq.core", "zabzmq.machine", "zabzmq.net.client_wire"),
    "zabzmq.server.node": (*INNER, "zabzmq.server.service"),
    "zabzmq.server.config": ("zabzmq.core", "zabzmq.machine.operations"),
    "zabzmq.server": (*INNER, *SERVER, "zabzmq.server.config"),
    "zabzmq.client": ("zabzmq.core", "zabzmq.machine", *PURE_NET),
    "zabzmq.trace": ("zabzmq.core", "zabzmq.machine", "zabzmq.net.client_wire"),
    "zabzmq.sim": (*INNER, *SERVER, "zabzmq.trace"),
    "zabzmq.cluster": ("zabzmq.core", "zabzmq.server.config", *ENDPOINT, "zabzmq.storage.synced"),
    "zabzmq.cli": ("zabzmq",),
}

# Who may take these packages from outside at all.
GUARDED = {
    "zmq": ("zabzmq.net.sockets", "zabzmq.net.reading", "zabzmq.net.options", "zabzmq.client"),
    "click": ("zabzmq.cli",),
    "rich": ("zabzmq.cli",),
    "h11": ("zabzmq.server.observe_http",),
    "prometheus_client": ("zabzmq.server.observe_metrics",),
    "crc32c": ("zabzmq.checksum",),
    "pickle": (),
    "marshal": (),
    "shelve": (),
}


def is_in(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def layer_of(module: str) -> str:
    return max((layer for layer in LAYERS if is_in(module, layer)), key=len)


def imports_of(source: str) -> Iterator[tuple[int, str]]:
    """Every import, wherever it stands, as (line, dotted name of the module).

    `from zabzmq.net import sockets` counts as zabzmq.net.sockets; relative imports are not used here.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"line {node.lineno}: imports are absolute here"
            base = PACKAGE.parent.joinpath(*node.module.split("."))
            for alias in node.names:
                is_module = (base / f"{alias.name}.py").exists() or (base / alias.name).is_dir()
                yield node.lineno, f"{node.module}.{alias.name}" if is_module else node.module


def complaints(module: str, source: str) -> list[str]:
    """What this module imports and must not."""
    layer = layer_of(module)
    found = []
    for line, name in imports_of(source):
        top = name.split(".")[0]
        if top == "zabzmq":
            allowed = name == "zabzmq" or is_in(name, layer) or any(is_in(name, inner) for inner in LAYERS[layer])
        elif layer == "zabzmq.core":
            allowed = name in CORE_MAY_TAKE
        else:
            allowed = top not in GUARDED or any(is_in(module, who) for who in GUARDED[top])
        if not allowed:
            found.append(f"{module} line {line} imports {name}")
    return found


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_every_layer_imports_inwards_only() -> None:
    found = [c for name, path in modules().items() for c in complaints(name, path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_every_module_belongs_to_a_layer() -> None:
    assert [name for name in modules() if name.count(".") >= 2 and layer_of(name) == "zabzmq"] == []


def test_nothing_outside_the_standard_library_is_taken_that_setup_cfg_does_not_name() -> None:
    names = (PACKAGE.parent / "setup.cfg").read_text(encoding="utf-8").split("install_requires")[1].split("[options")[0]
    declared = {line.split(">=")[0].strip() for line in names.splitlines()} | {"zmq", "zabzmq"}
    taken = {
        name.split(".")[0] for path in modules().values() for _, name in imports_of(path.read_text(encoding="utf-8"))
    }
    assert taken - declared - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zabzmq.core.peer", "import time"),
        ("zabzmq.core.peer", "def f():\n    from zabzmq.net import wire"),
        ("zabzmq.core.peer", "import os.path"),
        ("zabzmq.machine.game", "from zabzmq.server.ports import Clock"),
        ("zabzmq.net.wire", "import zmq"),
        ("zabzmq.net.link", "from zabzmq.net.sockets import x"),
        ("zabzmq.server.node", "from zabzmq.storage.log import Log"),
        ("zabzmq.server.node", "from zabzmq.net import sockets"),
        ("zabzmq.sim.world", "from zabzmq.storage.store import Store"),
        ("zabzmq.sim.world", "import zmq.asyncio"),
        ("zabzmq.storage.log", "from zabzmq.machine.game import Game"),
        ("zabzmq.client.session", "import click"),
        ("zabzmq.cli.server", "import zmq"),
        ("zabzmq.net.wire", "import pickle"),
    ],
)
def test_an_import_that_points_outwards_is_found(module: str, source: str) -> None:
    assert len(complaints(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zabzmq.core.peer", "from collections.abc import Mapping\nfrom zabzmq.core import zxid"),
        ("zabzmq.net.sockets", "import zmq\nfrom zabzmq.net.link import Link"),
        ("zabzmq.sim.world", "from zabzmq.server.node import Node"),
        ("zabzmq.cli.server", "import click\nfrom zabzmq.storage.log import Log"),
    ],
)
def test_an_import_that_points_inwards_is_let_through(module: str, source: str) -> None:
    assert complaints(module, source) == []
