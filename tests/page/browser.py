"""Chromium as the machine has it, and pages in it that are watched: whatever a page complains of fails its test.

Which programs the tests here need, and how to get them, is here too; conftest.py acts on it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "index.html"
AXE: Final = HERE / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM: Final = os.environ.get("ZAB_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
QUIET: Final = (
    "--no-sandbox --disable-gpu --disable-background-networking --no-first-run --disable-component-update"
    " --disable-sync --disable-quic"
)
PATIENCE_MS: Final = 45_000
SETTLED: Final = """arg.every(({ id, boot, seq, up }) => {
  const kept = zab.history.state.nodes[id];
  if (!boot || !kept) return !boot;
  if (kept.boot !== boot) return kept.boot === zab.app.live.nodes[id].boot;
  return kept.seq > seq || (kept.seq === seq && kept.up === up);
})"""


class Need(NamedTuple):
    """Something a test cannot do without."""

    there: bool
    name: str
    how: str


BROWSER: Final = Need(
    bool(CHROMIUM), "Chromium", "Debian/Ubuntu: sudo apt install chromium; elsewhere name it: ZAB_CHROMIUM=/path"
)
RULES: Final = Need(
    AXE.exists(), "axe-core", f"npm install --no-package-lock --ignore-scripts --prefix {HERE.relative_to(PAGE.parent)}"
)
NODE: Final = Need(bool(shutil.which("node")), "node", "Debian/Ubuntu: sudo apt install nodejs npm")


def needs_of(file: str) -> tuple[Need, ...]:
    """What the tests in a file of this name need."""
    if file.startswith("test_browser"):
        return (BROWSER,)
    if file.startswith("test_accessibility"):
        return (BROWSER, RULES)
    return (NODE,) if file.startswith("test_reducer") else ()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        try:
            yield browser
        finally:
            browser.close()


class Pages:
    """Pages, each in a context of its own: nothing is remembered from one to the other."""

    def __init__(self, browser: Browser) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def context(self, **options: Any) -> BrowserContext:
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE_MS)
        context.on("page", self._watch)
        self._contexts.append(context)
        return context

    def open(self, url: str, script: str = "", **options: Any) -> Page:
        """A page at this address; `script` runs in it before its own."""
        context = self.context(**options)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _watch(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"{error.name}: {error.message}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._allow(request.url))

    def _hear(self, message: ConsoleMessage) -> None:
        # That a node is down is no fault of the page, and no page can keep the browser from telling so.
        if message.type in ("error", "warning") and "net::ERR_" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def _allow(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:")):
            self.complaints.append(f"it asked for {url}")


# ---- asking a page ------------------------------------------------------------------------------------------------


def mode(page: Page, wanted: str) -> None:
    """Wait until the page is `live`, `paused`, `replay`, ..."""
    page.wait_for_selector(f'#mode[data-mode="{wanted}"]')


def health(page: Page, wanted: str) -> None:
    page.wait_for_selector(f'#health[data-health="{wanted}"]')


def leader(page: Page, but: int | None = None) -> int:
    """Wait until the page shows a leader, other than `but`."""
    another = "" if but is None else f':not([data-leader="{but}"])'
    return int(attribute(page, f'#leader[data-leader]:not([data-leader=""]){another}', "data-leader"))


def attribute(page: Page, selector: str, name: str) -> str:
    found = page.wait_for_selector(selector)
    assert found is not None
    value = found.get_attribute(name)
    assert value is not None, f"{selector} has no {name}"
    return value


def until(page: Page, holds: str, arg: object = None) -> Any:
    """Wait until this expression, of `arg`, is true in the page; its value. Playwright's own way needs eval."""
    return page.evaluate(
        f"""async arg => {{
          const end = performance.now() + {PATIENCE_MS};
          for (let found; ;) {{
            if ((found = ({holds}))) return found;
            if (performance.now() > end) throw new Error("not within {PATIENCE_MS} ms");
            await new Promise(done => setTimeout(done, 10));
          }}
        }}""",
        arg,
    )


def settled(page: Page) -> None:
    """Wait until what was shown is also history: the page orders events before it keeps them.

    Node by node: what one of them told later may have come sooner.
    """
    until(page, SETTLED, page.evaluate("Object.values(zab.app.live.nodes)"))


def frames(page: Page, count: int = 2) -> None:
    """Let the page draw what it was told."""
    page.evaluate("async count => { while (count-- > 0) await new Promise(requestAnimationFrame); }", count)


def look(page: Page, node: int, *wanted: str) -> None:
    """Wait until this node looks like one of these."""
    page.wait_for_selector(", ".join(f'#node-{node}[data-look="{each}"]' for each in wanted))


def codes(page: Page) -> list[str]:
    """What the clauses under "Why?" say."""
    found: list[str] = page.eval_on_selector_all("#why-text li[data-code]", "all => all.map(li => li.dataset.code)")
    return found


def play(page: Page, name: str, op: str, value: int | None = None, to: str = "leader") -> str:
    """Fill in the form and send it; the outcome."""
    page.fill("#as", name)
    page.select_option("#op", op)
    page.select_option("#to", to)
    if value is not None:
        page.fill("#value", str(value))
    before = page.evaluate("zab.app.results[0]?.key ?? null")
    page.click("#send")
    until(page, "(zab.app.results[0]?.key ?? arg) !== arg", before)  # it gets its key when it is drawn
    outcome = '#outcome:not([data-outcome="sending"])'
    return attribute(page, outcome, "data-outcome")


def drop(page: Page, **files: str) -> None:
    """Drop files on the page, as from a file manager; `name_jsonl` becomes name.jsonl."""
    texts = {name.replace("_", "."): text for name, text in files.items()}
    data = page.evaluate_handle(
        """texts => {
          const data = new DataTransfer();
          for (const [name, text] of Object.entries(texts)) data.items.add(new File([text], name));
          return data;
        }""",
        texts,
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": data})
    page.dispatch_event("body", "drop", {"dataTransfer": data})


class Worked:
    """How long the page's thread has really worked, whatever else the machine does."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._before = 0.0
        self.ms()

    def ms(self) -> float:
        """Since it was asked last."""
        metrics = {each["name"]: each["value"] for each in self._session.send("Performance.getMetrics")["metrics"]}
        before, self._before = self._before, metrics["TaskDuration"] * 1000
        return self._before - before
