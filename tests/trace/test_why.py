"""Every move of a peer has a reason that programs can read."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from zabzmq.core import peer
from zabzmq.trace.why import WHYS, why_of

CORE = Path(inspect.getfile(peer)).parent
MOVES = {"leave": 0, "leave_unanswered": 0, "look_again": 0, "fail": 0, "_enter": 1, "lead": 2, "follow": 2}
"""The methods that move a peer, and which argument says why."""


def said(node: ast.expr) -> str | None:
    """A sentence with something put where its operands go; None of a variable, which was a sentence elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        else:
            assert isinstance(part, ast.FormattedValue)
            source = ast.unparse(part.value)
            name = source.rpartition(".")[2]
            if source.startswith("sorted("):
                parts.append("[0, 2, 4]")
            else:
                zxids = ("last", "to", "zxid", "committed", "delivered")
                parts.append("3.7" if name in zxids else {"name": "OTHER_CONFIG", "why": "reset"}.get(name, "3"))
    return "".join(parts)


def sentences() -> list[str]:
    found = []
    for path in sorted(CORE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MOVES:
                at = MOVES[node.func.attr]
                text = said(node.args[at]) if len(node.args) > at else None
                if text is not None:
                    found.append(text)
    return found


@pytest.mark.parametrize("sentence", sorted(set(sentences())))
def test_every_sentence_of_the_core_has_a_code(sentence: str) -> None:
    assert why_of(sentence).code != "other"


def test_every_code_is_a_sentence_of_the_core() -> None:
    codes = {why_of(sentence).code for sentence in sentences()}
    assert len(sentences()) > 35
    assert set(WHYS) <= codes, "a code that nothing can mean any more"


def test_operands_are_values() -> None:
    assert why_of("elected by [0, 2, 4]") == ("elected", {"have": [0, 2, 4]})
    assert why_of("follower 3 is more recent: epoch 4, 4.17").operands == {"peer": 3, "epoch": 4, "z": [4, 17]}
    assert why_of("link to leader 2 lost: reset\nby peer").operands == {"peer": 2, "detail": "reset\nby peer"}


def test_a_sentence_nobody_knows_is_no_error() -> None:
    assert why_of("the moon is full") == ("other", {})
