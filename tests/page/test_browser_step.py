"""Step mode on the page: five real nodes hold what they hear, and a student is the network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.page.browser import Pages, attribute, codes, leader, mode, play, until
from tests.page.live import LiveCluster

# Whether what is hit 21 px from the middle of each label is that label, or another one or a node that lies above it.
LARGE_ENOUGH = """() => [...document.querySelectorAll(".held")].map((label) => {
  const { left, top, width, height } = label.getBoundingClientRect();
  const hit = (dx, dy) => document.elementFromPoint(left + width / 2 + dx, top + height / 2 + dy);
  return [[0, -21], [0, 21], [-21, 0], [21, 0]].every(([dx, dy]) => hit(dx, dy)?.closest(".held, .node"));
})"""


@pytest.fixture
def held(live: LiveCluster, pages: Pages) -> Iterator[Page]:
    """A page of a cluster that is held, with nothing on its way; let go in the end."""
    page = pages.open(live.url())
    leader(page)
    mode(page, "live")
    play(page, "alice", "target_new", 50)  # her session is known from now on
    live.real.until_equal()
    press(page, "s")
    page.wait_for_selector("#step[aria-pressed=true]")
    until(page, "Object.values(zab.app.live.nodes).every(node => node.hold)")
    try:
        yield page
    finally:
        for node in live.real.config.ids:
            live.hold(node, on=False)


def press(page: Page, key: str) -> None:
    """Outside of any field."""
    page.evaluate("document.activeElement?.blur()")
    page.keyboard.press(key)


def waiting(page: Page, kind: str, count: int) -> None:
    until(
        page,
        "arg[1] === (zab.view().held || []).filter(each => each.type === arg[0]).length",
        [kind, count],
    )


def send(page: Page, value: int) -> None:
    """Without waiting for an answer: there is none before we say so."""
    page.select_option("#op", "guess")
    page.fill("#as", "bob")
    page.fill("#value", str(value))
    page.click("#send")


def test_a_write_is_stepped_to_its_commit(held: Page, live: LiveCluster) -> None:
    page = held
    page.wait_for_selector("#mode:has-text('cluster held')")
    page.wait_for_selector("#sentence:has-text('nothing is on its way')")
    first = leader(page)
    send(page, 40)
    waiting(page, "PROPOSE", 4)  # of bob's session
    press(page, "s")
    page.wait_for_selector('#outcome[data-outcome="ok"]')
    press(page, "s")
    until(page, "Object.values(zab.app.live.nodes).every(node => node.hold)")
    send(page, 45)
    waiting(page, "PROPOSE", 4)
    before = attribute(page, f"#node-{first}", "data-z")
    page.wait_for_selector("#sentence:has-text('4 messages wait')")
    # Why not? Because it waits before each of them.
    page.click("#logs thead button[data-z] >> nth=-1")
    page.wait_for_selector('#why-text li[data-code="voter.held"]')
    assert codes(page).count("voter.held") == 4
    for acks in (1, 2):
        press(page, "n")
        waiting(page, "ACK", acks)
    assert attribute(page, f"#node-{first}", "data-z") == before, "two of five have it on disk"
    press(page, "n")
    press(page, "n")
    waiting(page, "ACK", 4)
    press(page, "n")
    press(page, "n")
    page.wait_for_selector(f'#node-{first}:not([data-z="{before}"])')
    page.wait_for_selector('#outcome[data-outcome="ok"]')
    waiting(page, "COMMIT", 4)
    press(page, "s")
    page.wait_for_selector("#step[aria-pressed=false]")
    until(page, "Object.values(zab.app.live.nodes).every(node => !node.hold && node.committed.join() === arg)",
          attribute(page, f"#node-{first}", "data-z").replace(".", ","))  # fmt: skip
    # Going back in time, it waits again.
    until(page, "zab.history.records.some(({e}) => e.k === 'hold' && e.type === 'ACK')")
    page.evaluate("zab.pauseAt(zab.history.records.find(({e}) => e.k === 'hold' && e.type === 'ACK').i)")
    page.wait_for_selector(".held[data-kind=ACK]")
    page.keyboard.press("End")


def test_a_message_that_is_clicked_can_be_dropped_and_time_passes_by_hand(held: Page, live: LiveCluster) -> None:
    page = held
    send(page, 41)
    waiting(page, "PROPOSE", 4)
    page.wait_for_selector(".held >> nth=3")
    assert all(page.evaluate(LARGE_ENOUGH)), "44 px to hit, each way"
    name = page.locator(".held").first.get_attribute("data-wire")
    page.click(f'.held[data-wire="{name}"]')  # by name: the first may be another one by now
    page.wait_for_selector(f'.held[data-wire="{name}"][aria-pressed="true"]')
    page.click('#why-text button[data-do="drop"]')
    waiting(page, "PROPOSE", 3)
    page.wait_for_selector(f'.held[data-wire="{name}"]', state="detached")
    page.wait_for_selector("#why-text li:has-text('Nothing waits here')")
    page.locator(".held").first.click()
    page.click('#why-text button[data-do="duplicate"]')
    waiting(page, "ACK", 1)
    waiting(page, "PROPOSE", 3)
    # What is delivered is answered; at last nothing is on its way, and then it is time that passes.
    passed = "!!zab.app.toast?.text.includes('ms passed')"
    for _ in range(60):
        before = page.evaluate("zab.app.live.count")
        press(page, "n")
        until(page, f"{passed} || zab.app.live.count > arg", before)
        if page.evaluate(passed):
            break
    page.wait_for_selector("#toast:has-text('ms passed')")


def test_without_the_token_nobody_is_held(live: LiveCluster, pages: Pages) -> None:
    page = pages.open(live.url(token=False))
    leader(page)
    press(page, "s")
    page.wait_for_selector("#toast:has-text('no token')")
    press(page, "n")
    assert page.locator("#step").is_hidden()
    assert page.evaluate("zab.view().held") is None
