"""Schedules for hours on end, seed after seed that nobody has run: the sum is kept in a file and goes on from there."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zabzmq.core.errors import ZabError
from zabzmq.sim.run import CHUNK, Broken, Report, run_chunk

SAVE_EVERY_S = 10.0


class CampaignError(ZabError):
    """The report file cannot be gone on with."""


@dataclass(slots=True)
class Campaign:
    """Every seed below `next` has been run; `seconds` is the time that took, over all runs."""

    nodes: int
    next: int = 0
    report: Report = field(default_factory=Report)

    def save(self, path: Path) -> None:
        told = self.report.as_json()
        told["commits_of"] = {str(count): times for count, times in sorted(self.report.commits_of.items())}
        told["delivered_of"] = {str(count): times for count, times in sorted(self.report.delivered_of.items())}
        temporary = path.with_name(path.name + ".tmp")
        try:
            text = msgspec.json.encode({"nodes": self.nodes, "next": self.next, "report": told})
            temporary.write_bytes(msgspec.json.format(text) + b"\n")
            os.replace(temporary, path)
        except OSError as error:
            raise CampaignError(f"cannot write {path}: {error.strerror}") from None


def resume(path: Path, nodes: int) -> Campaign:
    """The campaign of this file; a new one if there is none. Raises CampaignError."""
    try:
        found = msgspec.json.decode(path.read_bytes())
        campaign = Campaign(found["nodes"], found["next"], _report(found["report"]))
    except FileNotFoundError:
        return Campaign(nodes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"{path} is not a report of the simulator: {error}") from None
    if campaign.nodes != nodes:
        raise CampaignError(f"{path} is about {campaign.nodes} nodes, not {nodes}")
    return campaign


def _report(told: dict[str, Any]) -> Report:
    return Report(
        told["schedules"],
        told["delivered"],
        told["commits"],
        told["elections"],
        Counter(told["syncs"]),
        Counter(told["crashes"]),
        [Broken(**broken) for broken in told["violations"]],
        told["seconds"],
        Counter({int(count): times for count, times in told["commits_of"].items()}),
        Counter({int(count): times for count, times in told["delivered_of"].items()}),
    )


def run_for(
    campaign: Campaign, seconds: float, jobs: int, path: Path | None, progress: Callable[[Campaign, float], None]
) -> None:
    """Go on for this long. The file is written now and then, and at the end, also by Ctrl-C."""
    began, before = time.monotonic(), campaign.report.seconds
    saved = began
    ahead = campaign.next
    waiting: deque[tuple[int, Future[Report]]] = deque()
    # Forked children would share the parent's threads; spawned ones import everything once and stay.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            while True:
                now = time.monotonic()
                while now - began < seconds and len(waiting) < 2 * jobs:
                    waiting.append((ahead + CHUNK, pool.submit(run_chunk, (ahead, ahead + CHUNK - 1, campaign.nodes))))
                    ahead += CHUNK
                if not waiting:
                    break
                upto, future = waiting.popleft()
                campaign.report.add(future.result())
                campaign.next = upto
                campaign.report.seconds = before + time.monotonic() - began
                progress(campaign, time.monotonic() - began)
                if path is not None and time.monotonic() - saved >= SAVE_EVERY_S:
                    saved = time.monotonic()
                    campaign.save(path)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            if path is not None:
                campaign.save(path)
