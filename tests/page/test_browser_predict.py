"""Predict first: the page asks what will happen before it kills a node, and says in the end what did."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.error import HTTPError

import pytest
from playwright.sync_api import APIResponse, Page, Route

from tests.chaos.harness import events_in, wait_for
from tests.e2e.real import PATIENCE_S
from tests.page import browser
from tests.page.browser import Pages
from tests.page.live import LiveCluster, fetch
from zabzmq.server.config import PORT_OFFSETS


def written(live: LiveCluster) -> list[dict[str, Any]]:
    """The predictions in the event logs of all nodes."""
    files = [live.real.config.log_dir / f"node-{node}.jsonl" for node in live.real.config.ids]
    return [event for path in files for event in events_in(path) if event.get("what") == "predict"]


def refused(live: LiveCluster, said: Any, token: str, why: str) -> tuple[int, bool]:
    """With which status, and whether for that reason."""
    try:
        fetch(live.base_port + PORT_OFFSETS["observe"], "/note", said, token)
    except HTTPError as error:
        with error:
            return error.status or 0, why in json.load(error)["error"]["text"]
    return 200, False


def verdict(page: Page) -> str:
    """What the page says in the end; each clause of it leads to its event."""
    page.wait_for_selector('#why-text li:is([data-code="bet_right"], [data-code="bet_wrong"])')
    assert page.inner_text("#why-text h3") == "What happened?"
    # What is heard is history a moment later.
    browser.until(page, "[...document.querySelectorAll('#why-text li')].every(li => li.querySelector('a[data-event]'))")
    return page.inner_text("#why-text li >> nth=1")


def test_a_kill_waits_for_an_answer_which_is_written_down_and_judged(pages: Pages, live: LiveCluster) -> None:
    context = pages.context()
    page = context.new_page()
    page.goto(live.url(more="predict"))
    first = browser.leader(page)
    browser.health(page, "healthy")
    page.fill("#as", "ann")
    before = written(live)
    page.click(f"#node-{first}")

    # The button asks, and Escape is no answer.
    page.click('#actions [data-do="kill"]')
    page.wait_for_selector("dialog#predict[open]")
    assert page.locator("#answers button").count() == 3
    assert f"Node {first} is about to be killed. 5 of 5" in page.inner_text("#predict-text")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog#predict", state="hidden")

    # So does the key; the answer is given with the keyboard alone.
    page.keyboard.press(str(first))
    page.keyboard.press("k")
    page.wait_for_selector("dialog#predict[open]")
    assert set(live.states().values()) == {"running"}, "it was killed unasked"
    assert page.evaluate("document.activeElement.dataset.answer") == "same"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    second = browser.leader(page, but=first)
    page.wait_for_selector("#toast:has-text('As predicted')")  # first: it does not stay
    assert "As predicted: another leader, in a higher epoch" in verdict(page)

    wait_for(lambda: len(written(live)) > len(before), PATIENCE_S, "the log")
    (event,) = (each for each in written(live) if each not in before)
    said = {"by": "ann", "question": "kill", "target": first, "answer": "another"}
    assert {name: event[name] for name in said} == said and event["n"] != first

    # At any later time, and by anybody who has the trace.
    browser.settled(page)
    bet = page.evaluate("zab.history.stateAt(zab.history.end - 1).bets.at(-1)")
    assert (bet["target"], bet["came"]) == (first, "another")
    assert page.evaluate("id => zab.history.find(id).e.n", bet["proof"]) == second

    # It is remembered, and can be switched off.
    page.goto(live.url())
    page.reload()
    browser.leader(page)
    page.click("#open-settings")
    page.select_option("#set-predict", "off")
    page.click("#settings-ok")
    other = next(node for node in range(5) if node not in (first, second))
    page.click(f"#node-{other}")
    page.click('#actions [data-do="kill"]')
    browser.look(page, other, "down")
    assert len(written(live)) == len(before) + 1


def test_what_came_is_told_last_also_when_it_came_before_the_answer_to_the_kill(
    pages: Pages, live: LiveCluster
) -> None:
    page = pages.open(live.url(more="predict"))
    answers: list[tuple[Route, APIResponse]] = []
    page.route(re.compile("/kill$"), lambda route: answers.append((route, route.fetch())))
    first = browser.leader(page)
    browser.health(page, "healthy")
    page.click(f"#node-{first}")
    page.click('#actions [data-do="kill"]')
    page.click('#answers [data-answer="another"]')
    browser.leader(page, but=first)
    verdict(page)
    ((route, answer),) = answers
    route.fulfill(response=answer)
    page.wait_for_selector("#undo")  # the answer is there
    page.wait_for_selector("#toast:has-text('As predicted')")


def test_a_wrong_prediction_is_told_when_things_have_settled(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(live.url(more="predict"))
    first = browser.leader(page)
    browser.health(page, "healthy")
    page.click(f"#node-{(first + 1) % 5}")
    page.click('#actions [data-do="kill"]')
    page.click('#answers [data-answer="none"]')
    page.wait_for_selector('#why-text li[data-code="bet_open"]')
    assert "Not as predicted. What came: the same leader stays" in verdict(page)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"by": "ann", "question": "kill", "target": 0, "answer": "none"}, "the one that dies"),
        ({"by": "ann", "question": "kill", "target": 7, "answer": "none"}, "there is no node 7"),
        ({"by": "ann", "question": "kill", "target": 1, "answer": "perhaps"}, "perhaps"),
        ({"by": "a" * 65, "question": "kill", "target": 1, "answer": "none"}, "length"),
        ({"by": "ann", "question": "kill", "target": 1, "answer": "none", "text": "<img>"}, "text"),
        ([], "array"),
    ],
)
def test_what_is_no_prediction_is_not_written(live: LiveCluster, said: Any, why: str) -> None:
    before = len(written(live))
    assert refused(live, said, live.token, why) == (400, True)
    assert refused(live, said, "another token", "X-Zab-Token") == (403, True)
    assert len(written(live)) == before
