"""The pictures of the README, taken of five real nodes: python -m tests.page.screenshots

Light: a round is played, and the newest entry explains itself. Dark: the leader was killed, and another one leads.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Page

from tests.chaos.harness import free_base_port, is_free
from tests.e2e.real import Program
from tests.page import browser
from tests.page.browser import PAGE, Pages, chromium
from tests.page.live import address
from zabzmq.server.config import BASE_PORT, SUPERVISOR_OFFSET

IMAGES: Final = PAGE.parent / "docs" / "images"
SIZE: Final = {"width": 1400, "height": 1000}
BYTES_MAX: Final = 250_000


def main() -> None:
    base = BASE_PORT if is_free(BASE_PORT + SUPERVISOR_OFFSET) and is_free(BASE_PORT) else free_base_port(5)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium() as launched:
        directories = ["--data-dir", f"{scratch}/data", "--log-dir", f"{scratch}/logs"]
        up = [sys.executable, "zookeeper_server.py", "cluster", "up", "--base-port", str(base), *directories]
        with Program(up) as program:
            program.until_line("healthy")
            pages = Pages(launched)
            page = pages.open(address(base, Path(scratch, "logs", "token").read_text().strip()), viewport=SIZE)
            browser.leader(page)
            browser.health(page, "healthy")
            take_light(page)
            take_dark(page)
            pages.close()


def take_light(page: Page) -> None:
    browser.play(page, "alice", "target", 50)
    for name, guess in (("bob", 40), ("carol", 47), ("bob", 45), ("dave", 52)):
        browser.play(page, name, "guess", guess)
    browser.settled(page)
    page.click("#logs thead button[data-z] >> nth=-1")
    page.wait_for_selector('#why-text li[data-code="entry.applied"]')
    take(page, "light")


def take_dark(page: Page) -> None:
    first = browser.leader(page)
    page.click("#theme")
    page.keyboard.press(str(first))
    page.keyboard.press("k")
    second = browser.leader(page, but=first)
    browser.health(page, "degraded")
    browser.play(page, "carol", "guess", 51)
    browser.settled(page)
    page.click(f"#node-{second}")
    page.wait_for_selector('#why-text li[data-code="election.won"]')
    take(page, "dark")


def take(page: Page, name: str) -> None:
    """When nothing moves any more, and nothing is said over it."""
    page.wait_for_selector("#toast", state="hidden")
    browser.until(page, "document.getElementById('messages').childElementCount === 0")
    path = IMAGES / f"page-{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.relative_to(PAGE.parent)}: {size} bytes")
    assert size < BYTES_MAX, "too large for a README"


if __name__ == "__main__":
    main()
