"""The mutants of this directory fit the code as it is; `python -m tests.mutants` breaks it and sees who notices."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.patches import ROOT, Patch, patches
from zabzmq.sim.mutants import MUTANTS


@pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.key)
def test_a_patch_fits_and_makes_another_program(patch: Patch) -> None:
    text = (ROOT / "zabzmq" / patch.file).read_text(encoding="utf-8")
    broken = patch.applied_to(text)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))


def test_there_are_a_hundred_and_more_each_under_its_own_name() -> None:
    names = [patch.key for patch in patches()] + [f"sim: {name}" for name in MUTANTS]
    assert len(set(names)) == len(names) >= 100


def test_the_tests_that_must_notice_exist() -> None:
    for patch in patches():
        for path in patch.tests:
            assert (ROOT / path).exists(), path
