"""A patch without a copy of the tree: the functions it changes get other code for as long as a context is entered.

Enough for whatever the simulator runs; module constants and class bodies are left alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tests.mutants.patches import ROOT, Patch, patches
from zabzmq.sim.mutants import MUTANTS


def breakage(name: str) -> Callable[[], AbstractContextManager[Any]]:
    """Of a switch of the simulator, by its name, or of a patch, by its key."""
    if name in MUTANTS:
        return MUTANTS[name].broken
    patch = next(patch for patch in patches() if patch.key == name)
    return lambda: in_place(patch)


@contextmanager
def in_place(patch: Patch) -> Iterator[None]:
    module = importlib.import_module("zabzmq." + patch.file.removesuffix(".py").replace("/", "."))
    text = (ROOT / "zabzmq" / patch.file).read_text(encoding="utf-8")
    shipped, broken = _codes(text), _codes(patch.applied_to(text))
    functions = _functions(module)
    changed = [name for name, code in broken.items() if code != shipped.get(name) and name in functions]
    assert changed, f"{patch.key} changes no function"
    before = {name: functions[name].__code__ for name in changed}
    try:
        for name in changed:
            functions[name].__code__ = broken[name]
        yield
    finally:
        for name, code in before.items():
            functions[name].__code__ = code


def _codes(text: str) -> dict[str, CodeType]:
    """Every function of a module by its qualified name."""
    found: dict[str, CodeType] = {}

    def look(code: CodeType) -> None:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                found[inner.co_qualname] = inner
                look(inner)

    look(compile(text, "patched", "exec"))
    return found


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    found: dict[str, FunctionType] = {}
    for owner in [module, *(v for v in vars(module).values() if isinstance(v, type))]:
        for value in vars(owner).values():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                found[function.__qualname__] = function
    return found
