"""The page where there is no cluster, less than a cluster, another version of one, or one that comes and goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route

from tests.e2e.real import RealCluster, server_py
from tests.page import browser
from tests.page.browser import PAGE, Pages
from tests.page.live import LiveCluster, address, fetch, unused_address
from zabzmq.server.config import PORT_OFFSETS, SUPERVISOR_OFFSET

BY_HTTP = re.compile("^http:")


@pytest.fixture
def five(tmp_path: Path) -> Iterator[RealCluster]:
    """Five nodes without a supervisor, none of which runs yet."""
    made = RealCluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_without_a_cluster_there_are_two_ways_to_go_on(pages: Pages) -> None:
    url = unused_address()
    page = pages.open(url)
    browser.mode(page, "none")
    page.wait_for_selector("#nocluster:not([hidden])")
    base = url.split("base=")[1]
    assert str(int(base) + 30) in page.inner_text("#h-none")
    assert page.inner_text("#command") == f"python zookeeper_server.py --base-port {base} cluster up"
    assert page.locator("#nocluster .card").count() == 2
    assert page.is_visible("#open-file")


def test_on_the_usual_ports_the_command_is_the_short_one(pages: Pages) -> None:
    context = pages.context()
    context.route(BY_HTTP, lambda route: route.abort())  # whoever runs there is not ours
    page = context.new_page()
    page.goto(PAGE.as_uri())
    page.wait_for_selector("#nocluster:not([hidden])")
    assert page.inner_text("#command") == "python zookeeper_server.py cluster up"


def test_a_cluster_started_afterwards_is_found_node_by_node_without_a_reload(pages: Pages, five: RealCluster) -> None:
    page = pages.open(address(five.config.base_port))
    page.wait_for_selector("#nocluster:not([hidden])")
    page.evaluate("window.sameLoad = true")

    five.start(2)
    browser.health(page, "noquorum")
    browser.look(page, 2, "looking")
    assert "1 of 5" in page.inner_text("#up")
    assert "Start 2 more" in page.inner_text("#sentence")
    for node in (0, 1, 3, 4):
        browser.look(page, node, "unknown")
        page.wait_for_selector(f'#node-{node}:has-text("start: node {node}")')

    five.start(0, 1, 3, 4)
    browser.leader(page)
    browser.health(page, "healthy")
    assert page.evaluate("window.sameLoad"), "the page was loaded again"


def test_rules_that_are_switched_off_are_framed_named_and_taint_the_trace(
    pages: Pages, five: RealCluster, tmp_path: Path
) -> None:
    # Whichever of them the page meets first: they are named in their order.
    five.start(1, options=["--unsafe-rejoin-empty"])
    page = pages.open(address(five.config.base_port))
    page.wait_for_selector("#unsafe:has-text('Node 1: --unsafe-rejoin-empty')")
    five.start(0, options=["--unsafe-rejoin-empty"])
    five.start(2, 3, 4)
    browser.leader(page)
    page.wait_for_selector("#unsafe:has-text('Nodes 0 and 1: --unsafe-rejoin-empty, an empty disk counts at once')")
    assert page.is_visible("body[data-unsafe]") and "tainted" in page.inner_text("#unsafe")
    assert "gradient" in page.evaluate("getComputedStyle(document.body, '::before').borderImageSource")

    # Not any more; but what was done then is still there.
    for node in (0, 1):
        five.supervisor.stop_node(node)
        five.supervisor.start(node)
    browser.health(page, "healthy")
    browser.settled(page)
    page.click("#open-trace")
    with page.expect_download() as download:
        page.click("#trace-export")
    path = tmp_path / download.value.suggested_filename
    assert path.name.endswith("-tainted.jsonl")
    download.value.save_as(path)
    checked = server_py("trace", "check", path)
    assert "TAINTED: --unsafe-rejoin-empty on node 0 1" in checked.out
    assert checked.code == 0 and checked.err == "", "it has lines of the page's own, too"

    other = pages.open(unused_address())
    other.set_input_files("#file", path)
    browser.mode(other, "replay")
    assert other.is_visible("#unsafe")


def test_a_cluster_that_restarts_is_followed(pages: Pages, five: RealCluster) -> None:
    five.start()
    page = pages.open(address(five.config.base_port))
    browser.leader(page)
    epoch = int(browser.attribute(page, "#epoch", "data-epoch"))
    five.supervisor.stop()
    browser.health(page, "unreachable")
    assert page.is_visible("#map"), "what was seen last is still shown"
    five.start()
    page.wait_for_selector('#leader[data-leader]:not([data-leader=""])')
    browser.health(page, "healthy")
    assert int(browser.attribute(page, "#epoch", "data-epoch")) > epoch
    assert page.locator('#inv button[data-ok="false"]').count() == 0


def test_a_cluster_that_begins_anew_on_the_same_ports_is_not_taken_for_the_old_one(
    pages: Pages, standing: LiveCluster
) -> None:
    standing.mend()
    page = pages.open(standing.url())
    browser.leader(page)
    assert browser.play(page, "ann", "target_new", 77) == "ok"
    fetch(standing.base_port + SUPERVISOR_OFFSET, "/reset", {}, standing.token)
    page.wait_for_selector('#target[data-target=""]', state="attached")  # with nothing to show, it takes no room
    browser.leader(page)
    browser.health(page, "healthy")
    assert page.get_attribute("body", "data-violated") is None


def test_nodes_of_another_version_are_named(pages: Pages, live: LiveCluster) -> None:
    state = json.dumps(live.own(0))
    event = {"v": 2, "n": 0, "boot": "abcd", "seq": 1, "t": 1.0, "lc": 1, "k": "boot"}
    stream = f"retry: 1000\n\nevent: beat\ndata: {json.dumps({'seq': 1, 't': 1.0})}\n\ndata: {json.dumps(event)}\n\n"

    anybody = {"Access-Control-Allow-Origin": "*"}

    def answer(route: Route) -> None:
        if "/events" in route.request.url:
            route.fulfill(body=stream, content_type="text/event-stream", headers=anybody)
        elif "/state" in route.request.url:
            route.fulfill(body=state, content_type="application/json", headers=anybody)
        else:
            route.abort()

    context = pages.context()
    context.route(BY_HTTP, answer)
    page = context.new_page()
    page.goto(unused_address())
    page.wait_for_selector(".notice.bad")
    assert "version 2" in page.inner_text("#notices") and "version 1" in page.inner_text("#notices")


def test_a_node_serves_the_page_itself(pages: Pages, live: LiveCluster) -> None:
    page = pages.open(f"http://127.0.0.1:{live.base_port + PORT_OFFSETS['observe'] + 1}/#t={live.token}")
    browser.leader(page)
    browser.health(page, "healthy")
    assert browser.play(page, "ann", "target_new", 14) == "ok"
