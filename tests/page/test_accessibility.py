"""axe-core finds nothing serious in any state of the page, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.page import browser
from tests.page.browser import AXE, Pages
from tests.page.live import LiveCluster, unused_address
from tests.page.story import Story

RULES = """async within => {
  const { violations } = await axe.run(within, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical").flatMap(({ id, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}: ${failureSummary}`));
}"""


class Examined:
    """A page under axe's rules; what they find is kept by the state it was found in."""

    def __init__(self, page: Page) -> None:
        self.found: dict[str, list[str]] = {}
        self._page = page
        page.evaluate(AXE.read_text(encoding="utf-8"))

    def examine(self, state: str, within: str = "html") -> None:
        for theme in ("light", "dark"):
            if self._page.get_attribute("html", "data-theme") != theme:
                self._page.evaluate("document.getElementById('theme').click()")
            browser.frames(self._page)
            if found := self._page.evaluate(RULES, within):
                self.found[f"{state}, {theme}"] = found


def test_without_a_cluster(pages: Pages) -> None:
    page = pages.open(unused_address())
    page.wait_for_selector("#nocluster:not([hidden])")
    examined = Examined(page)
    examined.examine("no cluster")
    assert examined.found == {}


def test_live_and_its_views_and_dialogs(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    shown = browser.leader(page)
    assert browser.play(page, "ann", "target_new", 31) == "ok"
    page.click(f"#node-{shown}")
    page.wait_for_selector("#why-text li[data-code]")
    examined = Examined(page)
    examined.examine("live, a node selected")
    page.click("#tab-events")
    examined.examine("events", "#space")
    page.click("#table-view")
    page.wait_for_selector("#table table")
    examined.examine("table", "#table")
    page.click("#table-view")
    page.click("#projector")
    examined.examine("projector")
    page.click("#projector")
    for opener, dialog in (("keys", "keys"), ("settings", "settings"), ("trace", "trace"), ("partition", "partition")):
        page.click(f"#open-{opener}")
        page.wait_for_selector(f"dialog#{dialog}[open]")
        examined.examine(f"dialog {dialog}", f"#{dialog}")
        page.keyboard.press("Escape")
    page.evaluate("zab.app.predict = true")
    page.click('#actions [data-do="kill"]')
    page.wait_for_selector("dialog#predict[open]")
    examined.examine("dialog predict", "#predict")
    page.keyboard.press("Escape")
    page.click("#pause")
    browser.mode(page, "paused")
    examined.examine("paused", "#time")
    assert examined.found == {}


def test_split_degraded_and_without_a_quorum(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    first = browser.leader(page)
    examined = Examined(page)
    page.evaluate("node => zab.partition([node], [0, 1, 2, 3, 4].filter(other => other !== node))", first)
    browser.look(page, first, "looking")
    page.evaluate("zab.select('node', 0)")
    examined.examine("split")
    page.click("#clear-faults")
    browser.health(page, "healthy")
    live.order("kill", 0)
    browser.health(page, "degraded")
    examined.examine("degraded")
    live.order("kill", 1)
    live.order("kill", 2)
    browser.health(page, "noquorum")
    examined.examine("no quorum")
    assert examined.found == {}


@pytest.mark.parametrize("state", ["replay", "electing", "violation", "unsafe"])
def test_a_recorded_run(pages: Pages, tmp_path: Path, state: str) -> None:
    story = Story()
    for counter in range(1, 20):
        story.commit(counter)
    if state == "violation":
        story.tell(1, "state", role="LEADING", phase="BROADCAST", epoch=1, leader=1, why="established", text="a lie")
    if state == "unsafe":
        story.tell(1, "note", text="as if", unsafe=["rejoin-empty"])
    if state == "electing":
        story.look_again()
    page = pages.open(unused_address())
    browser.drop(page, **{f"{state}_jsonl": story.text, "broken_jsonl": "{\n"})
    browser.mode(page, "replay")
    page.wait_for_selector(".notice.bad")
    assert page.get_attribute("#health", "data-health") == ("electing" if state == "electing" else "healthy")
    examined = Examined(page)
    examined.examine(state)
    assert examined.found == {}


def test_on_a_phone(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url(), viewport={"width": 360, "height": 740})
    browser.leader(page)
    examined = Examined(page)
    for tab in ("now", "map", "time"):
        page.click(f'#tabs [data-tab="{tab}"]')
        examined.examine(f"phone, {tab}")
    assert examined.found == {}


def test_a_cluster_that_is_held(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    try:
        page.click("#step")
        page.wait_for_selector("body[data-held]")
        page.fill("#as", "ann")
        page.select_option("#op", "guess")
        page.fill("#value", "7")
        page.click("#send")
        page.locator(".held").first.click()
        page.wait_for_selector('#why-text button[data-do="drop"]')
        examined = Examined(page)
        examined.examine("held")
    finally:
        for node in live.real.config.ids:
            live.hold(node, on=False)
    assert examined.found == {}
