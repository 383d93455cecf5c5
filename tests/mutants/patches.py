"""Mutants as patches: one rule of the shipped code broken by a change of text, in a copy of the tree.

The lists (*.toml) name for each mutant the rule it breaks, the file, the text that stands there once and what becomes
of it. Each list names the tests that must notice.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class Patch:
    area: str
    name: str
    rule: str
    file: str  # below zabzmq/
    find: str
    by: str
    tests: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.area}: {self.name}"

    def applied_to(self, text: str) -> str:
        assert text.count(self.find) == 1, f"{self.key}: the text stands {text.count(self.find)} times in {self.file}"
        return text.replace(self.find, self.by)


def patches() -> list[Patch]:
    found = []
    for path in sorted(HERE.glob("*.toml")):
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        for mutant in told.get("mutant", ()):
            found.append(Patch(path.stem, tests=tuple(mutant.pop("tests", told["tests"])), **mutant))
    return found
