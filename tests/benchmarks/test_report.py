"""Results become tables, verdicts and pictures; the words around them in the document stay."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.goals import GOALS
from benchmarks.run import Measured, Plan, Results
from benchmarks.svg import dots, lines


def measured(name: str, **values: float) -> Measured:
    system = Measured(name, "1.0", "always", "a client", "default")
    for load in ("1", "64", "256", "1,024", "4 x 64"):
        for what in ("per_s", "p50", "p99", "cpu us"):
            system.add(f"write {load} {what}", values.get(what.replace(" ", "_"), 1.0))
    return system


def results(*systems: Measured) -> Results:
    return Results("2026-01-01", "a machine", "ext4", Plan(), list(systems))


def verdicts(*systems: Measured) -> dict[tuple[str, str], str]:
    found = results(*systems)
    return {(goal.what, goal.goal): goal.verdict(found) for goal in GOALS}


def test_a_cell_is_the_median_of_all_repeats() -> None:
    system = measured("zabzmq")
    system.values["write 256 per_s"] = [10_000.0, 90_000.0, 30_000.0]
    rows = {row[0]: row[1] for row in report.table(results(system))}
    assert rows["writes, 256 outstanding, /s"] == "30,000"


def test_kills_are_told_with_the_worst_and_how_many_there_were() -> None:
    system = measured("zabzmq")
    system.values["fail-over ms"] = [40.0, 45.0, 120.0]
    rows = {row[0]: row[1] for row in report.table(results(system))}
    assert rows["leader kill -9 to next commit, ms"] == "45 (max 120 of 3)"


def test_what_a_system_has_not_is_a_dash_and_what_nobody_has_is_no_row() -> None:
    ours, other = measured("zabzmq"), measured("raw")
    ours.add("game 256 per_s", 5.0)
    rows = {row[0]: row[1:] for row in report.table(results(ours, other))}
    assert rows["the game, 256 outstanding, /s"] == ["5", "–"]
    assert "leader kill -9 to next commit, ms" not in rows


def test_ratios_are_ours_by_theirs() -> None:
    rows = report.ratios(results(measured("zabzmq", per_s=30.0), measured("raw", per_s=120.0)))
    assert rows[0] == ["ours against", "raw"]
    assert {row[1] for row in rows[1:]} == {"0.25"}


@pytest.mark.parametrize(
    ("per_s", "verdict"),
    [(80_000.0, "met"), (79_000.0, "missed: 0.99 of the limit"), (20_000.0, "missed: 0.25 of the limit")],
)
def test_a_goal_is_met_or_how_far_off(per_s: float, verdict: str) -> None:
    assert verdicts(measured("zabzmq", per_s=per_s))["writes, 256", "80,000/s"].startswith(verdict)


def test_a_latency_goal_is_a_bound_from_above() -> None:
    assert verdicts(measured("zabzmq", p50=0.7))["one at a time, p50", "0.75 ms"] == "met"
    assert verdicts(measured("zabzmq", p50=1.5))["one at a time, p50", "0.75 ms"].startswith("missed: 2.00")


def test_a_goal_against_others_takes_their_figure_of_the_same_run() -> None:
    slow, fast = measured("etcd", per_s=10.0), measured("etcd", per_s=11.0)
    ours = measured("zabzmq", per_s=30.0)
    assert verdicts(ours, slow)["writes, 256", "3 times etcd ({})"] == "met"
    assert verdicts(ours, fast)["writes, 256", "3 times etcd ({})"].startswith("missed")


def test_what_was_not_measured_is_not_judged() -> None:
    assert verdicts(measured("zabzmq"))["writes, 256", "ahead of NATS ({})"] == "not measured in this run"


def test_a_round_and_a_write_are_told_apart_by_their_processor_time() -> None:
    system = measured("zabzmq")
    for load, outstanding in (("64", 64), ("256", 256), ("1,024", 1024)):
        system.values[f"write {load} cpu us"] = [6_000 / outstanding + 25]
    cost = report.cost_of_a_round(system)
    assert cost == pytest.approx((6.0, 25.0))


def test_a_run_replaces_what_stands_between_the_markers_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    found = results(measured("zabzmq"), measured("raw"))
    found.missing["etcd"] = "it is not there"
    report.write(found, document)
    report.write(found, document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n") and text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "etcd was not measured: it is not there." in text
    assert (tmp_path / "performance" / "throughput.svg").exists()


def test_a_run_on_a_busy_machine_says_so(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    found = results(measured("zabzmq"))
    for busy, said in ((0.1, False), (7.0, True)):
        document.write_text(f"{report.BEGIN}{report.END}", encoding="utf-8")
        found.busy = busy
        report.write(found, document)
        assert ("load average 7.0" in document.read_text(encoding="utf-8")) == said


def test_a_document_without_a_place_for_results_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no place"):
        report.write(results(measured("zabzmq")), document)
    assert document.read_text(encoding="utf-8") == "nothing here\n"


def test_pictures_are_well_formed_and_hold_every_name_and_point() -> None:
    curves = {"a < b": [(1.0, 10.0), (64.0, 2_000.0)], "other": [(1.0, 11.0), (64.0, 2_001.0)]}
    for picture in (
        lines("up", "x", curves, list(curves)),
        dots("kills", "ms", {"a < b": [40.0, 45.0], "other": [0.5]}, list(curves)),
    ):
        root = ElementTree.fromstring(picture)
        words = [element.text for element in root.iter() if element.text]
        assert {"a < b", "other"} <= set(words)
        assert len(root.findall("{*}circle")) == sum(len(points) for points in curves.values()) - ("kills" in words)


def test_names_at_the_end_of_lines_that_meet_do_not_lie_on_each_other() -> None:
    names = ("one", "two", "three")
    picture = lines("up", "x", {name: [(1.0, 5.0), (64.0, 1_000.0)] for name in names}, names)
    ends = [float(element.get("y", "0")) for element in ElementTree.fromstring(picture).iter() if element.text in names]
    assert min(abs(a - b) for a in ends for b in ends if a is not b) >= 15
