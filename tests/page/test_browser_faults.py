"""The page splits the network of a running cluster and heals it, and says why nothing is committed meanwhile."""

from __future__ import annotations

import re

from playwright.sync_api import Page

from tests.page import browser
from tests.page.browser import Pages
from tests.page.live import LiveCluster

# Nodes set their faults one by one, and sides are shown as soon as one end of each connection has.
ALL_CUT = "Object.values(zab.app.live.nodes).every((node) => node.faults)"
ALL_HEALED = "Object.values(zab.app.live.nodes).every((node) => !node.faults)"

# Sends the form again and again while this node leads: without a quorum it gives up soon, and nobody knows when all are
# cut off.
SEND_ON = """node => {
  const sending = setInterval(() => {
    if (zab.app.live.nodes[node].role === "LEADING") document.getElementById("send").click();
    else clearInterval(sending);
  }, 60);
}"""

# When the last of all was cut off: the first entry that this node proposed then, and where it gave up to lead.
PROPOSED_IN_VAIN = """(() => {
  const { records } = zab.history;
  const cut = records.findLast(({ e }) => e.k === "fault" && e.what === "set" && e.rules.length).i;
  const own = records.filter(({ e, i }) => e.n === arg && i > cut);
  const entry = own.find(({ e }) => e.k === "propose");
  const gaveUp = own.find(({ e }) => e.k === "state" && e.role === "LOOKING" && e.phase === "QUIESCE");
  return entry && gaveUp && [zab.zstr(entry.e.z), gaveUp.i];
})()"""


def sides(page: Page) -> dict[int, str]:
    """The letter that each node shows, while the network is split."""
    return {
        node: page.inner_text(f"#node-{node} .side") for node in range(5) if page.query_selector(f"#node-{node} .side")
    }


def split(page: Page, *apart: int) -> None:
    """By the editor: these on side A, the others on side B."""
    page.click("#open-partition")
    for node in range(5):
        page.click(f'#sides button[data-node="{node}"][data-side="{"A" if node in apart else "B"}"]')
    page.click("#partition-apply")


def test_a_line_across_the_map_splits_the_network_and_healing_joins_it(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    browser.health(page, "healthy")
    map_, upper, lower = (page.locator(each).bounding_box() for each in ("#map", "#node-4", "#node-3"))
    assert map_ and upper and lower
    y = (upper["y"] + upper["height"] + lower["y"]) / 2
    page.mouse.move(map_["x"] + 4, y)
    page.mouse.down()
    page.mouse.move(map_["x"] + map_["width"] / 2, y, steps=3)
    page.wait_for_selector("#map .cutline", state="attached")
    page.mouse.move(map_["x"] + map_["width"] - 4, y, steps=3)
    page.mouse.up()
    browser.until(page, ALL_CUT)
    for node in range(5):
        page.wait_for_selector(f"#node-{node} .side")
    shown = sides(page)
    assert shown[0] == shown[1] == shown[4] != shown[2] == shown[3], "the line lies between 0, 1, 4 and 2, 3"
    assert "✓" in page.inner_text("#quorum") and "✗" in page.inner_text("#quorum")
    assert {rule["peer"] for rule in live.own(2)["faults"]["rules"]} == {0, 1, 4}
    page.wait_for_selector(", ".join(f'#leader[data-leader="{node}"]' for node in (0, 1, 4)))
    page.click("#clear-faults")
    # Healthy it may have been all along: a follower that is cut off takes half a second to notice.
    browser.until(page, ALL_HEALED)
    page.wait_for_selector("#nodes .side", state="detached")
    browser.health(page, "healthy")
    assert sides(page) == {}
    assert not live.own(2)["faults"]["rules"]


def test_a_lasso_round_some_nodes_splits_them_from_the_others(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    browser.health(page, "healthy")
    one, other, map_ = (page.locator(each).bounding_box() for each in ("#node-2", "#node-3", "#map"))
    assert one and other and map_
    left, right = sorted((box["x"], box["x"] + box["width"]) for box in (one, other))
    top, bottom = one["y"] - 8, min(one["y"] + one["height"] + 6, map_["y"] + map_["height"] - 2)
    corners = [(left[0] - 8, top), (right[1] + 8, top), (right[1] + 8, bottom), (left[0] - 8, bottom)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in (*corners[1:], (left[0] - 8, top + 12)):
        page.mouse.move(*corner, steps=4)
    page.wait_for_selector("#map .cutline", state="attached")
    page.mouse.up()
    browser.until(page, ALL_CUT)
    for node in range(5):
        page.wait_for_selector(f"#node-{node} .side")
    shown = sides(page)
    assert shown[2] == shown[3] != shown[0] == shown[1] == shown[4]
    assert {rule["peer"] for rule in live.own(2)["faults"]["rules"]} == {0, 1, 4}


def test_a_click_on_the_map_splits_nothing(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    map_ = page.locator("#map").bounding_box()
    assert map_
    page.mouse.move(map_["x"] + 4, map_["y"] + 4)
    page.mouse.down()
    page.mouse.move(map_["x"] + 8, map_["y"] + 8)
    page.mouse.up()
    browser.frames(page)
    assert sides(page) == {} and page.is_hidden("#toast")


def test_the_leader_cut_off_by_the_editor_is_replaced_and_comes_back(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    first = browser.leader(page)
    companion = (first + 1) % 5
    split(page, first, companion)
    second = browser.leader(page, but=first)
    assert second != companion
    browser.look(page, first, "looking", "discovery", "leading")
    assert browser.play(page, "ann", "target_new", 12) == "ok", "the page asks the leader that has a quorum"
    page.keyboard.press("Escape")
    page.click("#open-partition")
    page.click("#partition-clear")
    browser.look(page, first, "follower")
    browser.health(page, "healthy")
    page.wait_for_selector('#target[data-target="12"]')


def test_one_node_is_cut_off_by_its_button(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    other = (browser.leader(page) + 1) % 5
    page.click(f"#node-{other}")
    page.click('#actions [data-do="isolate"]')
    browser.look(page, other, "looking")
    assert len(set(sides(page).values())) == 2
    page.click(f"#node-{other}")
    page.click('#actions [data-do="why"]')
    page.wait_for_selector('#why-text li[data-code="node.looking"]')
    page.keyboard.press("c")
    browser.look(page, other, "follower")


def test_a_node_whose_stream_has_yet_to_open_is_told_of_a_split_too(pages: Pages, live: LiveCluster) -> None:
    page = pages.context().new_page()
    page.route(re.compile("/events"), lambda route: None)  # never answered
    page.goto(live.url())
    browser.leader(page)
    browser.health(page, "healthy")
    page.evaluate("zab.partition([0, 1], [2, 3, 4])")
    assert all(live.own(node)["faults"]["rules"] for node in range(5))


def test_escape_takes_a_split_back(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    other = (browser.leader(page) + 1) % 5
    page.click(f"#node-{other}", button="right")
    page.click('#actions [data-do="isolate"]')
    page.wait_for_selector("#undo")
    page.wait_for_selector("#nodes .side")
    page.keyboard.press("Escape")
    page.wait_for_selector("#nodes .side", state="detached")
    assert page.is_hidden("#toast"), "it spoke of a network that is split"
    assert not live.own(other)["faults"]["rules"]


def test_why_not_committed_is_answered_during_a_partition(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    first = browser.leader(page)
    companion, *rest = (node for node in range(5) if node != first)
    page.fill("#as", "ann")
    page.select_option("#op", "target_new")
    page.select_option("#to", str(first))
    page.fill("#value", "99")
    page.evaluate(SEND_ON, first)
    split(page, first, companion)
    browser.until(page, ALL_CUT)
    browser.leader(page, but=first)
    browser.settled(page)
    entry, gave_up = browser.until(page, PROPOSED_IN_VAIN, first)

    # The moment before the old leader gave up: two have it on disk, and three are cut off from it.
    page.evaluate("i => zab.pauseAt(i - 1)", gave_up)
    browser.mode(page, "paused")
    page.click(f'#logs thead button[data-z="{entry}"]')
    page.wait_for_selector('#why-text li[data-code="entry.waiting"]')
    assert page.inner_text("#why-text h3") == f"Why is {entry} not committed?"
    assert browser.codes(page)[:2] == ["entry.proposed", "entry.waiting"]
    assert "2 of the 3 nodes needed" in page.inner_text('#why-text li[data-code="entry.waiting"]')
    assert sorted(browser.codes(page)[2:]) == ["voter.dropped"] * 3 + ["voter.has"] * 2
    dropped = " ".join(page.locator('#why-text li[data-code="voter.dropped"]').all_inner_texts())
    assert all(f"node {node} was dropped: cut" in dropped for node in rest)

    # Each clause leads to its event.
    events = page.eval_on_selector_all("#why-text li a", "links => links.map(link => link.dataset.event)")
    assert len(events) == 7 and page.evaluate("ids => ids.every(id => zab.history.find(id))", events)
    page.click('#why-text li[data-code="entry.proposed"] a')
    browser.frames(page)
    event = page.evaluate("zab.history.at(zab.position).e")
    assert (event["k"], event["n"], ".".join(map(str, event["z"]))) == ("propose", first, entry)

    # Now: its epoch is over, and another one's history goes on without it.
    page.click("#go-live")
    page.click("#clear-faults")
    browser.look(page, first, "follower")
    page.wait_for_selector(f'#log-{first} td[data-z="{entry}"][data-cell="truncated"]')
    page.wait_for_selector('#why-text li[data-code="entry.cut"]')
    assert "entry.replaced" in browser.codes(page)


def test_without_a_quorum_the_form_says_why_it_is_closed(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    for node in range(3):
        live.order("kill", node)
    browser.health(page, "noquorum")
    assert page.is_disabled("#send")
    assert "2 of 5" in page.inner_text("#reason") and "3 are needed" in page.inner_text("#reason")
    browser.until(page, "document.getElementById('sentence').textContent.includes('Start 1 more')")
    page.click("#why-now")
    page.wait_for_selector('#why-text li[data-code="election.few"]')
    live.order("restart", 0)
    browser.leader(page)
    browser.health(page, "degraded")
    assert page.is_enabled("#send")
