"""CRC-32C, of the package of that name, without what else that package imports.

Its `__init__` asks importlib.metadata for its own version and has a command line: a twelfth of what a node imports is
then parsers of e-mail headers and options. Only the extension module is needed here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Final


def _extension() -> Callable[..., int]:
    package = PathFinder.find_spec("crc32c")
    spec = None
    if package is not None and package.submodule_search_locations is not None:
        spec = PathFinder.find_spec("crc32c._crc32c", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        from crc32c import crc32c as slowly_imported  # packed in another way, or not there: then this says so

        return slowly_imported
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., int] = module.crc32c
    return found


crc32c: Final = _extension()
"""`crc32c(data, value=0)`: of `data`, going on from `value`."""
