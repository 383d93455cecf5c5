"""Other ways to see and steer the page: by keyboard, as tables, large, on a phone, dark, still, in another tongue."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page

from tests.page import browser
from tests.page.browser import PAGE, Pages, Worked
from tests.page.live import LiveCluster, unused_address
from tests.page.story import Story

PHONE: Final[dict[str, Any]] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
IDLE_SHARE = 0.05
IDLE_MS = 3000

# Where messages were drawn, as shares of the way between two nodes.
ON_THE_WAY = """() => {
  window.parts = [];
  const at = (node) => [parseFloat(node.style.left), parseFloat(node.style.top)];
  new MutationObserver(() => {
    const places = [...document.querySelectorAll(".node")].map(at);
    for (const circle of document.querySelectorAll("#messages circle[cx]")) {
      const x = Number(circle.getAttribute("cx")), y = Number(circle.getAttribute("cy"));
      const middle = places.some(([a, b]) => places.some(([c, d]) => Math.hypot((a + c) / 2 - x, (b + d) / 2 - y) < 1));
      window.parts.push(middle);
    }
  }).observe(document.getElementById("messages"), { subtree: true, childList: true, attributes: true });
}"""


def recorded(pages: Pages, **options: Any) -> Page:
    """A page that shows a run that was made up."""
    story = Story()
    for counter in range(1, 6):
        story.commit(counter)
    page = pages.open(unused_address(), **options)
    browser.drop(page, told_jsonl=story.text)
    browser.mode(page, "replay")
    return page


def test_everything_is_done_with_the_keyboard_alone(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    first = browser.leader(page)
    page.wait_for_selector("#value:enabled")
    key = page.keyboard
    key.press("t")
    assert page.evaluate("document.activeElement.id") == "value"
    key.type("64")
    key.press("Shift+Tab")
    key.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "as"
    key.type("ann")
    page.select_option("#op", "target_new")  # a list of choices is the browser's own
    key.press("Enter")
    page.wait_for_selector('#target[data-target="64"]')
    page.evaluate("document.activeElement.blur()")

    key.press(str(first))
    page.wait_for_selector(f'#node-{first}[aria-pressed="true"]:focus')
    key.press("k")
    second = browser.leader(page, but=first)
    key.press("w")
    page.wait_for_selector("#why-text li[data-code]")
    key.press("r")
    browser.look(page, first, "follower")
    browser.settled(page)

    key.press(".")
    browser.mode(page, "paused")
    place = page.evaluate("zab.position")
    key.press("ArrowLeft")
    key.press("ArrowLeft")
    key.press("ArrowRight")
    browser.until(page, "zab.position === arg", place - 1)
    key.press("Shift+ArrowLeft")
    browser.until(page, "zab.history.at(zab.position).e.k === 'state'")
    key.press("Home")
    browser.until(page, "zab.position === zab.history.first")
    key.press("End")
    browser.mode(page, "live")
    assert page.get_attribute("#leader", "data-leader") == str(second)

    page.focus("#seek")
    key.press("Home")
    browser.mode(page, "paused")
    key.press("End")
    browser.mode(page, "live")

    key.press("x")
    page.wait_for_selector("dialog#partition[open]")
    assert page.evaluate("document.activeElement.closest('dialog').id") == "partition"
    page.focus("#partition-apply")
    key.press("Enter")
    page.wait_for_selector("#nodes .side")
    key.press("c")
    browser.health(page, "healthy")
    key.press("Shift+?")
    page.wait_for_selector("dialog#keys[open]")
    key.press("Escape")
    page.wait_for_selector("dialog#keys", state="hidden")


def test_tab_reaches_every_part_and_shows_where_it_is(pages: Pages) -> None:
    page = recorded(pages)
    reached: set[str] = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        part, outlined = page.evaluate(
            """() => {
              const at = document.activeElement;
              const part = at.closest("header#top, #status, #topo, #logs, #why, #space, #inv, #game, #time");
              return [part && part.id, getComputedStyle(at).outlineStyle !== "none"];
            }"""
        )
        if part is None and reached:
            break
        if part:
            assert outlined, f"no outline in {part}"
            reached.add(part)
    assert reached >= {"top", "status", "topo", "logs", "why", "space", "inv", "time"}


@pytest.mark.parametrize("view", ["v", "p"])
@pytest.mark.parametrize(("key", "part"), [("w", "why"), ("i", "inv"), ("l", "logs"), ("d", "space")])
def test_a_key_leads_out_of_the_tables_and_the_large_view(pages: Pages, view: str, key: str, part: str) -> None:
    page = pages.open(unused_address("f=normal"))
    browser.mode(page, "replay")
    page.keyboard.press(view)
    page.wait_for_selector("#table:not([hidden]), body[data-projector]")
    page.wait_for_selector("#why-now", state="hidden")
    page.keyboard.press(key)
    assert page.evaluate("document.activeElement.closest('section')?.id") == part
    assert (page.get_attribute("body", "data-projector") is not None) == (view + key == "pl")


def test_space_pauses_the_view_while_a_node_is_selected(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    page.keyboard.press("1")
    page.keyboard.press("Space")
    browser.mode(page, "paused")
    page.wait_for_selector('#node-1[aria-pressed="true"]:focus')
    # However fast they follow each other: with no picture drawn between them.
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    browser.mode(page, "live")
    page.evaluate(
        """() => {
          const press = (key) => new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
          for (const key of ["2", " "]) document.activeElement.dispatchEvent(press(key));
        }"""
    )
    browser.mode(page, "paused")
    page.wait_for_selector('#node-2[aria-pressed="true"]:focus')


def test_keys_typed_into_a_field_stay_there(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    shown = browser.leader(page)
    page.keyboard.press(str(shown))
    page.wait_for_selector("#as:enabled")
    page.focus("#as")
    page.keyboard.type("kzux. 012")
    assert page.input_value("#as") == "kzux. 012"
    assert set(live.states().values()) == {"running"}
    assert page.get_attribute("#mode", "data-mode") == "live"
    assert page.locator("dialog[open]").count() == 0


def test_a_field_that_closes_while_one_types_takes_the_rest_too(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    page.keyboard.press("4")
    page.wait_for_selector("#as:enabled")
    page.focus("#as")
    page.keyboard.type("an")
    for node in range(3):
        live.order("kill", node)
    page.wait_for_selector("#send:disabled")
    page.keyboard.type("k")
    assert page.input_value("#as") == "ank"
    assert live.states()[4] == "running", "that was no command"
    page.evaluate("document.activeElement.blur()")
    page.wait_for_selector("#as:disabled")


def test_the_table_says_in_words_what_the_map_draws(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    shown = browser.leader(page)
    assert browser.play(page, "ann", "target_new", 17) == "ok"
    live.real.until_equal()
    page.click("#table-view")
    page.wait_for_selector("#table table")
    assert page.is_hidden("#main")
    browser.until(page, f"document.querySelectorAll('#table tbody tr')[{shown}].textContent.includes('LEADING')")
    z = ".".join(map(str, page.evaluate("zab.app.results[0].zxid")))
    browser.until(page, "document.getElementById('table').textContent.includes(arg)", z)
    page.keyboard.press("v")
    page.wait_for_selector("#main:not([hidden])")


def test_for_a_room_it_is_large_and_shows_less(pages: Pages) -> None:
    page = recorded(pages)
    before = page.eval_on_selector("#sentence", "element => parseFloat(getComputedStyle(element).fontSize)")
    page.keyboard.press("p")
    page.wait_for_selector("body[data-projector]")
    after = page.eval_on_selector("#sentence", "element => parseFloat(getComputedStyle(element).fontSize)")
    assert after > 1.4 * before
    assert all(page.is_visible(each) for each in ("#sentence", "#map", "#logs"))
    assert all(page.is_hidden(each) for each in ("#why", "#space", "#inv", "#game"))
    page.keyboard.press("p")
    page.wait_for_selector("body:not([data-projector])")


def test_on_a_phone_nothing_lies_outside(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url(), **PHONE)
    shown = browser.leader(page)
    assert browser.play(page, "W" * 64, "target_new", 35) == "ok"
    page.wait_for_selector('#target[data-target="35"]')
    link = page.locator("#outcome a").bounding_box()
    assert link and link["height"] < 24, "Why? stands on one line"
    for tab, part in (("now", "#logs"), ("map", "#map"), ("time", "#space")):
        page.tap(f'#tabs [data-tab="{tab}"]')
        page.wait_for_selector(part)
        width, scrolled = page.evaluate("[document.documentElement.scrollWidth, scrollX]")
        assert (width, scrolled) == (360, 0), f"{tab} is wider than the screen"
    page.tap('#tabs [data-tab="map"]')
    page.tap(f"#node-{shown}")
    page.wait_for_selector('#actions [data-do="kill"]')
    page.tap('#tabs [data-tab="now"]')
    assert browser.play(page, "ann", "target_new", 36) == "ok"


def test_on_a_phone_without_a_cluster_nothing_lies_outside_either(pages: Pages) -> None:
    page = pages.open(unused_address(), **PHONE)
    page.wait_for_selector("#nocluster:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_on_a_phone_nothing_covers_the_clock_and_an_invariant_explains_itself(pages: Pages) -> None:
    page = recorded(pages, **PHONE)
    covered = page.evaluate(
        """() => {
          const at = [...document.getElementById("time").children].map((each) => each.getBoundingClientRect());
          const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
          return at.some((a, i) => at.slice(i + 1).some((b) => meet(a, b)));
        }"""
    )
    assert not covered
    page.tap('#tabs [data-tab="time"]')
    page.tap("#inv-prefix")
    page.wait_for_selector('#why-text li[data-code="about"]')


def test_on_a_phone_every_tool_is_within_reach(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url(), **PHONE)
    browser.leader(page)
    for tool, opened in (("open-partition", "partition"), ("open-keys", "keys"), ("open-trace", "trace")):
        page.tap(f"#{tool}")
        page.tap(f"dialog#{opened}[open] [data-close]")
    for tool in ("table-view", "projector"):
        page.tap(f"#{tool}")
        page.tap(f'#{tool}[aria-pressed="true"]')
    try:
        page.tap("#step")
        browser.until(page, "Object.values(zab.app.live.nodes).every(node => node.hold)")
        page.tap("#next")
        page.wait_for_selector("#toast:has-text('ms passed')")
        page.tap("#step")
        page.wait_for_selector("body:not([data-held])")
    finally:
        for node in live.real.config.ids:
            live.hold(node, on=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_takes_the_colours_of_the_machine_until_told_otherwise(pages: Pages, scheme: str) -> None:
    page = recorded(pages, color_scheme=scheme)
    ground = "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
    assert page.get_attribute("html", "data-theme") == scheme
    assert all((value > 128) == (scheme == "light") for value in page.evaluate(ground))
    page.click("#theme")
    page.wait_for_selector(f'html:not([data-theme="{scheme}"])')
    page.reload()
    page.wait_for_selector("#nocluster:not([hidden])")
    assert page.get_attribute("html", "data-theme") != scheme, "it forgot"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_messages_stand_still_where_motion_is_unwanted(pages: Pages, live: LiveCluster, motion: str) -> None:
    page = pages.open(live.url(), reduced_motion=motion)
    browser.leader(page)
    page.evaluate(ON_THE_WAY)
    assert browser.play(page, "ann", "target_new", 45) == "ok"
    browser.until(page, "window.parts.length && !document.querySelector('#messages circle')")  # they came, and went
    middle = page.evaluate("window.parts")
    assert all(middle) if motion == "reduce" else not all(middle)


def test_less_motion_is_kept_by_the_settings(pages: Pages) -> None:
    page = recorded(pages)
    page.keyboard.press("m")
    page.wait_for_selector("#toast:has-text('Messages stand still')")
    page.click("#open-settings")
    assert page.input_value("#set-motion") == "less"
    page.click("#settings-ok")
    assert page.evaluate("zab.app.motion") == "less"


@pytest.mark.parametrize("lang", ["de", "en", "xx<img>", "__proto__"])
def test_whatever_tongue_is_asked_for_no_text_is_missing(pages: Pages, live: LiveCluster, lang: str) -> None:
    page = pages.open(live.url(query=f"?lang={lang}"))
    browser.leader(page)
    bare = page.evaluate(
        """() => [...document.body.querySelectorAll("[data-t], [data-title], [data-label]")].filter((element) => {
          if (element.localName === "script") return false;  // a recorded run
          const { t, title, label } = element.dataset;
          const said = t ? element.textContent : title ? element.title : element.getAttribute("aria-label");
          return !said || [t, title, label].includes(said);
        }).map((element) => element.outerHTML)"""
    )
    assert bare == []
    assert page.get_attribute("html", "lang") == "en", "there is no other text yet, and it is to be read as what it is"
    assert page.locator("script[title]").count() == 0


def test_a_tongue_that_is_put_into_the_table_is_spoken_as_far_as_it_goes(pages: Pages, tmp_path: Path) -> None:
    translated = tmp_path / "index.html"
    own = 'const TEXT = {\n\tde: { health_healthy: "Gesund" },'
    translated.write_text(PAGE.read_text(encoding="utf-8").replace("const TEXT = {", own, 1), encoding="utf-8")
    address = unused_address("f=normal", page=translated)
    page = pages.open(address.replace("#", "?lang=de-AT#"))
    browser.mode(page, "replay")
    assert page.get_attribute("html", "lang") == "de"
    assert page.inner_text("#health") == "Gesund"
    assert page.inner_text("#h-logs") == "Logs"


def test_what_changes_is_said_aloud_and_calmly(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    first = browser.leader(page)
    page.evaluate(
        """() => {
          window.said = [];
          const box = document.getElementById("say");
          new MutationObserver(() => said.push({ at: performance.now(), text: box.textContent }))
            .observe(box, { childList: true });
        }"""
    )
    live.order("kill", first)
    second = browser.leader(page, but=first)
    browser.until(page, "said.some(({ text }) => text.startsWith(`Node ${arg} leads`))", second)
    times = page.evaluate("said.map(({ at }) => at)")
    assert all(later - earlier > 900 for earlier, later in pairwise(times))


def test_with_nothing_going_on_it_leaves_the_machine_alone(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    browser.health(page, "healthy")
    browser.settled(page)
    worked = Worked(page)
    took = page.evaluate(
        "async ms => { const t = performance.now(); await new Promise(done => setTimeout(done, ms)); "
        "return performance.now() - t; }",
        IDLE_MS,
    )
    share = worked.ms() / took
    print(f"idle: {100 * share:.1f} % of a core")
    assert share < IDLE_SHARE
