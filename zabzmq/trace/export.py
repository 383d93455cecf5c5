"""A merged trace for other programs: JSON lines, CSV, ShiViz, Mermaid, and the page with the trace inside. Pure."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from zabzmq.trace.reading import Event
from zabzmq.trace.telling import is_quiet, tell

SHIVIZ_PATTERN: Final = r"(?<event>.*)\n(?<host>\S*) (?<clock>\{.*\})"
MERMAID_LINES_MAX: Final = 250
"""More is no picture any more."""
MERMAID_SHOWN: Final = frozenset(("boot", "state", "propose", "commit", "truncate", "fault", "invariant", "drop"))

_MERMAID_SIGNS: Final = re.compile("[#;%]")
_SCRIPT: Final = re.compile(rb"<script\b", re.IGNORECASE)


def to_jsonl(events: Iterable[Event]) -> Iterator[str]:
    """The lines as they were written, in the order of the merge."""
    for event in events:
        yield event.raw.decode("utf-8") if event.raw else json.dumps(event.fields, separators=(",", ":"))


def to_csv(events: Iterable[Event]) -> Iterator[str]:
    yield _row(["t", "lc", "n", "boot", "seq", "k", "type", "peer", "mid", "z", "text"])
    for event in events:
        peer = event.get("to", event.get("from", event.get("peer")))
        zxid = event.zxid()
        place = "" if zxid is None else f"{zxid[0]}.{zxid[1]}"
        kind = event.get("type", event.get("what", ""))
        head = [event.t, event.lc, event.n, event.boot, event.seq, event.k]
        yield _row([*head, kind, peer, event.get("mid", ""), place, tell(event)])


def _row(cells: list[object]) -> str:
    """One line; a cell that a spreadsheet would take for a formula is marked as text."""
    out = io.StringIO()
    told = [f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell for cell in cells]
    csv.writer(out, lineterminator="").writerow(told)
    return out.getvalue()


# ---- ShiViz: vector clocks, which the names of messages imply ------------------------------------------------------


def to_shiviz(events: Iterable[Event]) -> Iterator[str]:
    """For "upload" at ShiViz: its parser's pattern, an empty line, and two lines for each event."""
    yield SHIVIZ_PATTERN
    yield ""
    for event, clock in vector_clocks(event for event in events if not is_quiet(event)):
        named = ", ".join(f'"n{node}":{count}' for node, count in sorted(clock.items()))
        yield tell(event)
        yield f"n{event.n} {{{named}}}"


def vector_clocks(events: Iterable[Event]) -> Iterator[tuple[Event, dict[int, int]]]:
    """Each event with its vector clock: how many events of each node it knows of, its own among them."""
    now: dict[int, dict[int, int]] = {}
    sent: dict[str, dict[int, int]] = {}
    for event in events:
        clock = now.setdefault(event.n, {})
        mid = event.get("mid")
        if event.k == "recv" and isinstance(mid, str):
            for node, count in sent.get(mid, {}).items():
                clock[node] = max(clock.get(node, 0), count)
        clock[event.n] = clock.get(event.n, 0) + 1
        if event.k == "send" and isinstance(mid, str):
            sent.setdefault(mid, dict(clock))
        yield event, dict(clock)


# ---- Mermaid: a sequence diagram -----------------------------------------------------------------------------------


def to_mermaid(events: Iterable[Event], lines_max: int = MERMAID_LINES_MAX) -> Iterator[str]:
    """Messages that were heard as arrows, what matters beside them as notes; votes and the rest are left out."""
    yield "sequenceDiagram"
    nodes: set[int] = set()
    body: list[str] = []
    cut = 0
    for event in events:
        nodes.add(event.n)
        line = _mermaid_line(event)
        if line is None:
            continue
        source = event.get("from")
        if event.k == "recv" and isinstance(source, int):
            nodes.add(source)
        if len(body) < lines_max:
            body.append(line)
        else:
            cut += 1
    yield from (f"  participant n{node}" for node in sorted(nodes))
    yield from body
    if cut and nodes:
        over = f"n{min(nodes)},n{max(nodes)}" if len(nodes) > 1 else f"n{min(nodes)}"
        yield f"  Note over {over}: cut here: {cut} more lines are left out"


def _mermaid_line(event: Event) -> str | None:
    source = event.get("from")
    if event.k == "recv" and isinstance(source, int) and event.get("mid") is not None:
        if event.get("type") == "NOTIFICATION":
            return None
        text = tell(event).removeprefix("recv ").removesuffix(f" from {source}")
        return f"  n{source}->>n{event.n}: {_mermaid_text(text)}"
    if event.k in MERMAID_SHOWN and not is_quiet(event):
        return f"  Note over n{event.n}: {_mermaid_text(tell(event))}"
    return None


def _mermaid_text(text: str) -> str:
    """Signs that would end a line or begin a comment there, as the entities that Mermaid knows."""
    return _MERMAID_SIGNS.sub(lambda found: f"#{ord(found[0])};", text)


# ---- the page with a trace inside ----------------------------------------------------------------------------------


def pack(events: Iterable[Event]) -> str:
    """Base64 of gzip of the JSON lines: the same events give the same text."""
    data = "".join(f"{line}\n" for line in to_jsonl(events)).encode()
    return packed(gzip.compress(data, 9, mtime=0))


def packed(data: bytes) -> str:
    """A gzipped trace as it stands in a page."""
    return base64.b64encode(data).decode("ascii")


def run_block(name: str, packed: str, title: str = "") -> bytes:
    """How a page carries a recorded run."""
    titled = f' data-title="{escape(title)}"' if title else ""
    return f'<script type="text/plain" data-run="{escape(name)}"{titled}>{packed}</script>\n'.encode()


def to_html(page: bytes, events: Iterable[Event]) -> bytes:
    """This page with the trace inside, before its first script. Raises ValueError if the page has none."""
    found = _SCRIPT.search(page)
    if found is None:
        raise ValueError("this page has no script, so nothing in it could show a trace")
    return page[: found.start()] + run_block("export", pack(events)) + page[found.start() :]


def with_runs(page: bytes, runs: Iterable[tuple[str, str, str]]) -> bytes:
    """The page with these recorded runs (name, title, packed) instead of those it had, at the same place."""
    held = re.compile(rb'<script type="text/plain" data-run="(?!export")[^"]*"[^>]*>[^<]*</script>\n?')
    bare = held.sub(b"", page)
    old = held.search(page)
    first = _SCRIPT.search(bare)
    if first is None:
        raise ValueError("this page has no script, so nothing in it could show a run")
    at = old.start() if old is not None else first.start()
    return bare[:at] + b"".join(run_block(name, packed, title) for name, title, packed in runs) + bare[at:]
