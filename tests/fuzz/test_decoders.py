"""No input makes a decoder do what it must not: the short form of `python -m tests.fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.decoders import Decoder, Finding, Fuzzer, decoders
from tests.fuzz.mutate import Mutator

NAMES = [
    "peer socket",
    "link",
    "subscription",
    "client socket",
    "replies",
    "publications",
    "META",
    "snapshot file",
    "log",
    "replicated state",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_input_is_taken_or_refused_as_was_said(tmp_path: Path, name: str) -> None:
    found = {each.name: each for each in decoders(tmp_path)}
    assert list(found) == NAMES
    fuzzer = Fuzzer(found[name], Mutator(7))
    report = fuzzer.run(1000)
    assert report.taken > 0 and report.refused > 500
    assert report.ways > 5, "nothing of ours ran"


def test_an_unexpected_error_is_a_finding_with_its_input() -> None:
    def decode(data: bytes) -> None:
        if len(data) < 3:
            raise ZeroDivisionError("of this")

    decoder = Decoder("divider", [b"1234"], decode, (), Mutator.raw)
    with pytest.raises(Finding, match=r"divider: ZeroDivisionError: of this, of b'"):
        Fuzzer(decoder, Mutator(1), guided=False).run(1000)


def test_an_input_that_went_a_new_way_is_kept_and_mutated_further(tmp_path: Path) -> None:
    (decoder,) = [each for each in decoders(tmp_path) if each.name == "META"]
    guided, blind = (Fuzzer(decoder, Mutator(5), guided).run(500) for guided in (True, False))
    assert guided.kept > 0 and blind.kept == blind.ways == 0


def test_the_same_seed_makes_the_same_inputs(tmp_path: Path) -> None:
    reports = []
    for part in ("a", "b"):
        work = tmp_path / part
        work.mkdir()
        (decoder,) = [each for each in decoders(work) if each.name == "client socket"]
        reports.append(Fuzzer(decoder, Mutator(3)).run(300))
    assert reports[0] == reports[1]
