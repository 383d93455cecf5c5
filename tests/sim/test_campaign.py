"""Schedules for hours: the sum is kept, and goes on where it stood."""

from __future__ import annotations

from pathlib import Path

import pytest

from zabzmq.sim.campaign import Campaign, CampaignError, resume, run_for
from zabzmq.sim.run import CHUNK, Broken, run_seeds


def test_a_campaign_goes_on_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    told: list[int] = []
    for _ in range(2):
        campaign = resume(path, 3)
        run_for(campaign, 0.2, 1, path, lambda sum, spent: told.append(sum.report.schedules))
    found = resume(path, 3)
    assert found.next == found.report.schedules == told[-1] >= 2 * CHUNK
    assert told == sorted(told)
    one = run_seeds(0, found.next - 1, 3)
    one.seconds = found.report.seconds
    assert one == found.report


def test_violations_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    campaign = Campaign(5, 40)
    campaign.report.violations.append(Broken(7, "Agreement", "x"))
    campaign.save(path)
    assert resume(path, 5).report.violations == [Broken(7, "Agreement", "x")]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 5, "next": 1, "report": {}}'])
def test_a_file_that_is_no_report_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(CampaignError, match="is not a report"):
        resume(path, 5)


def test_a_report_of_other_nodes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    Campaign(3).save(path)
    with pytest.raises(CampaignError, match="about 3 nodes, not 5"):
        resume(path, 5)
