"""What it costs to watch five real nodes, and how soon it is seen what they do: python -m tests.page.measure

Each round takes the three in turn, so that what the machine does meanwhile is everybody's share: nobody watches, five
plain readers of the event streams, the page in a browser on the same cores. Figures are medians; docs/page.md has some.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page

from tests.chaos.harness import wait_for
from tests.e2e.real import PATIENCE_S, client_py
from tests.page import browser
from tests.page.browser import Pages, chromium
from tests.page.live import OBSERVE_OFFSET, LiveCluster

ROUNDS: Final = 5
SECONDS: Final = 3
IDLE_S: Final = 10
WATCH: Final = """node => {
  const seen = () => document.getElementById(`node-${node}`).dataset.look === "down";
  window.gone = new Promise(done => {
    const at = () => seen() && done(performance.timeOrigin + performance.now());
    new MutationObserver(at).observe(document.getElementById("nodes"), { attributes: true, subtree: true });
  });
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, chromium() as launched, LiveCluster(Path(scratch)) as live:
        throughput(live, launched)
        pages = Pages(launched)
        print(f"load to a leader that is shown: {statistics.median(loads(live, pages)):.0f} ms")
        page = pages.open(live.url())
        browser.leader(page)
        print(f"browser, nothing happens: {idle(page):.1f} % of a core")
        print(f"leader killed to seen: {statistics.median(kills(live, page)):.0f} ms")
        pages.close()


def throughput(live: LiveCluster, launched: Browser) -> None:
    rates: dict[str, list[float]] = {"nobody": [], "five readers": [], "the page": []}
    for _ in range(ROUNDS):
        rates["nobody"].append(bench(live))
        with readers(live):
            rates["five readers"].append(bench(live))
        pages = Pages(launched)
        browser.leader(pages.open(live.url()))
        rates["the page"].append(bench(live))
        pages.close()
    for name, measured in rates.items():
        shares = [rate / alone for rate, alone in zip(measured, rates["nobody"], strict=True)]
        print(f"{name}: {statistics.median(measured):,.0f} writes/s, {statistics.median(shares):.0%} of unwatched")


def bench(live: LiveCluster) -> float:
    ran = client_py(*live.real.common, "bench", "--seconds", SECONDS, "--json")
    rate: float = json.loads(ran.out)["ops_per_s"]
    return rate


@contextmanager
def readers(live: LiveCluster) -> Iterator[None]:
    """Five that read all events of all nodes between them, and do nothing with them."""
    over = threading.Event()
    program = "import sys, urllib.request\nfor block in urllib.request.urlopen(sys.argv[1]): pass"
    ports = [live.base_port + OBSERVE_OFFSET + node for node in live.real.config.ids]
    children = [
        os.posix_spawn(sys.executable, [sys.executable, "-c", program, f"http://127.0.0.1:{port}/events"], os.environ)
        for port in ports
    ]
    try:
        for port in ports:
            while json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/state"))["observers"] == 0:
                over.wait(0.05)
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def loads(live: LiveCluster, pages: Pages) -> Iterator[float]:
    for _ in range(ROUNDS):
        page = pages.open(live.url())
        browser.leader(page)
        yield page.evaluate("performance.now()")
        page.close()


def idle(page: Page) -> float:
    """Processor time of all processes of the browser, while the page shows a cluster in which nothing happens."""
    browser.frames(page)
    time.sleep(2)
    before = cpu_s()
    time.sleep(IDLE_S)
    return 100 * (cpu_s() - before) / IDLE_S


def cpu_s() -> float:
    """Of all descendants of this process that are Chromium's."""
    stats: dict[int, tuple[int, str, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        stats[int(path.parent.name)] = (int(fields[1]), head.partition("(")[2], int(fields[11]) + int(fields[12]))
    ours = {os.getpid()}
    while more := {pid for pid, (parent, _, _) in stats.items() if parent in ours} - ours:
        ours |= more
    ticks = sum(stats[pid][2] for pid in ours if pid in stats and "chrom" in stats[pid][1])
    return ticks / os.sysconf("SC_CLK_TCK")


def kills(live: LiveCluster, page: Page) -> Iterator[float]:
    for _ in range(ROUNDS):
        live.mend()
        browser.health(page, "healthy")
        first = browser.leader(page)
        page.evaluate(WATCH, first)
        pid = live.real.of(first)["pid"]
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        yield page.evaluate("window.gone") - killed * 1000
        # Its connections end before its process does.
        wait_for(lambda node=first: live.states()[node] == "down", PATIENCE_S, "end")  # type: ignore[misc]
    live.mend()


if __name__ == "__main__":
    main()
