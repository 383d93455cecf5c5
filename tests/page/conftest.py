"""One browser for each file, one cluster for all, a context for each test.

Without Chromium, axe-core or node the tests that need them are left out, and what was left out is told last of all;
where ZAB_BROWSER=required, as in .ci/run, that is a failure instead.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.page.browser import HERE, Need, Pages, chromium, needs_of
from tests.page.live import LiveCluster

REQUIRED = os.environ.get("ZAB_BROWSER") == "required"
LEFT_OUT = pytest.StashKey[Counter[Need]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out: Counter[Need] = config.stash.setdefault(LEFT_OUT, Counter())
    kept: list[pytest.Item] = []
    out: list[pytest.Item] = []
    for item in items:
        missing = [need for need in needs_of(item.path.name) if not need.there] if item.path.parent == HERE else []
        left_out.update(missing)
        (out if missing else kept).append(item)
    if out and REQUIRED:
        raise pytest.UsageError("\n".join(told(need, count) for need, count in left_out.items()))
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = kept


def told(need: Need, count: int) -> str:
    return f"{count} tests of the page need {need.name}, which is not here. Get it: {need.how}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(LEFT_OUT, Counter())
    if left_out:
        terminalreporter.section("left out", yellow=True)
        for need, count in left_out.items():
            terminalreporter.line(told(need, count))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while it lives, its event loop is this thread's, and no other can run here.
    with chromium() as launched:
        yield launched


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Pages, of which none may have had anything to complain about in the end."""
    opened = Pages(browser)
    try:
        yield opened
    finally:
        opened.close()
    assert opened.complaints == []


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    with LiveCluster(tmp_path_factory.mktemp("page")) as cluster:
        yield cluster


@pytest.fixture
def live(standing: LiveCluster) -> LiveCluster:
    """Five nodes that are healthy, whatever the test before did to them."""
    standing.mend()
    return standing
