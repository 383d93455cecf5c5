"""Every rule and section that code or tests cite can be read about in docs/protocol.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
RULES = r"[DV][1-6]|[ETC][1-9]|F[1-8]|S(?:[1-9]|10)|B(?:[1-9]|1[0-2])|L(?:[1-9]|1\d|20)[ab]?"
RULE = re.compile(rf"(?<![\w.\"'#-])(?:{RULES})(?![\w.])")
SECTION = re.compile(r"PROTOCOL (\d+(?:\.\d+)?)")


def sources() -> list[Path]:
    """Every Python file but this one."""
    found = [path for top in ("zabzmq", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
    return [path for path in found if path != Path(__file__)]


def test_every_rule_that_is_cited_is_defined() -> None:
    defined = set(re.findall(r"\*\*([A-Z]\d+[ab]?)\*\*", PROTOCOL))
    cited = {rule for path in sources() for rule in RULE.findall(path.read_text(encoding="utf-8"))}
    assert len(cited) > 80
    assert cited - defined == set()


def test_every_section_that_is_cited_exists() -> None:
    headings = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)", PROTOCOL, re.MULTILINE))
    points = {f"15.{number}" for number in re.findall(r"^(\d+)\. ", PROTOCOL.split("## 15.")[1], re.MULTILINE)}
    cited = {section for path in sources() for section in SECTION.findall(path.read_text(encoding="utf-8"))}
    assert cited - headings - points == set()


def test_every_invariant_of_the_core_is_in_the_list_of_promises() -> None:
    promises = PROTOCOL.split("## 11.")[1].split("## 12.")[0]
    source = "".join(
        (ROOT / path).read_text(encoding="utf-8")
        for path in ("zabzmq/core/invariants.py", "zabzmq/sim/watcher.py", "zabzmq/trace/checker.py")
    )
    named = set(re.findall(r'Violation\(\s*"(\w+)"', source))
    assert len(named) >= 20
    assert {name for name in named if name not in promises} == set()
