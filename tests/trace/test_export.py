"""What other programs are given: it says what the events say, in their formats, and says what it leaves out."""

from __future__ import annotations

import csv
import gzip
import json
import re
from base64 import b64decode

import pytest

from tests.trace.made import Story
from zabzmq.trace import export
from zabzmq.trace.reading import Event, runs_of

PAGE = b"<!doctype html>\n<html><body><p>hi</p>\n<script>code('<script data-run=1>')</script></body></html>\n"


@pytest.fixture
def events() -> list[Event]:
    story = Story()
    story.begin()
    story.proposed(2, (1, 1), (0, 0), [0, 1])
    story.received(0, 2, (1, 1))
    story.copied(0, 2, (1, 1), [0, 2])
    story.committed(2, (1, 1), [0, 2])
    story(0, "recv", type="COMMIT", mid="2-c(1, 1)", z=[1, 1], epoch=1, source=2)
    story(0, "send", type="HB_ECHO", to=2, count=9)
    return story.events


def test_jsonl_is_what_the_nodes_wrote(events: list[Event]) -> None:
    assert [json.loads(line) for line in export.to_jsonl(events)] == [event.fields for event in events]


def test_csv_has_a_row_for_each_event_and_no_cell_is_a_formula(events: list[Event]) -> None:
    story = Story()
    odd = story(0, "note", what="=cmd()", text='@a, "b"\nc')
    head, *rows = csv.reader(export.to_csv([*events, odd]))
    assert (head[0], head[-1], len(rows)) == ("t", "text", len(events) + 1)
    assert rows[-1][head.index("type")] == "'=cmd()"
    assert rows[-1][head.index("text")].startswith("'@a")


def test_shiviz_is_given_vector_clocks_in_the_pattern_it_is_told(events: list[Event]) -> None:
    text = "\n".join(export.to_shiviz(events))
    pattern, delimiter, log = text.split("\n", 2)
    assert delimiter == ""
    found = re.findall(pattern.replace("(?<", "(?P<"), log)
    assert len(found) == len(events) - 1, "heartbeats are left out"
    own: dict[str, int] = {}
    for _, host, clock in found:
        count = json.loads(clock)
        own[host] = own.get(host, 0) + 1
        assert count[host] == own[host], "each host counts its own events one by one"
    clocks = {text: json.loads(clock) for text, _, clock in found}
    assert clocks["recv PROPOSE 1.1 from 2"]["n2"] >= clocks["send PROPOSE 1.1 to 0"]["n2"]
    assert clocks["recv COMMIT 1.1 from 2"]["n2"] == clocks["send COMMIT 1.1"]["n2"]
    assert "n1" in clocks["recv PROPOSE 1.1 from 2"] or "n1" not in clocks["send PROPOSE 1.1 to 0"]


def test_mermaid_draws_what_was_heard_and_says_what_it_cut(events: list[Event]) -> None:
    whole = list(export.to_mermaid(events))
    assert whole[:4] == ["sequenceDiagram", "  participant n0", "  participant n1", "  participant n2"]
    assert "  n2->>n0: PROPOSE 1.1" in whole
    cut = list(export.to_mermaid(events, lines_max=5))
    assert cut[-1] == f"  Note over n0,n2: cut here: {len(whole) - 4 - 5} more lines are left out"


def test_mermaid_takes_no_word_of_an_event_for_its_own() -> None:
    story = Story()
    story(0, "fault", what="a;b#c%%d\nend")
    assert list(export.to_mermaid(story.events))[-1] == "  Note over n0: FAULT a#59;b#35;c#37;#37;d end"


def test_the_page_carries_the_trace_before_its_first_script(events: list[Event]) -> None:
    page = export.to_html(PAGE, events)
    ((name, packed),) = runs_of(page)
    assert name == "export"
    lines = gzip.decompress(b64decode(packed)).decode().splitlines()
    assert [json.loads(line) for line in lines] == [event.fields for event in events]
    assert page.index(b"data-run") < page.index(b"code(")
    assert page.replace(page[page.index(b"<script") : page.index(b"<script>code")], b"") == PAGE


def test_a_page_without_a_script_is_refused(events: list[Event]) -> None:
    with pytest.raises(ValueError, match="no script"):
        export.to_html(b"<html>", events)
    with pytest.raises(ValueError, match="no script"):
        export.with_runs(b"<html>", [])


def test_runs_are_put_in_once_and_replaced_where_they_stood() -> None:
    once = export.with_runs(PAGE, [("normal", "A & B", "QQ=="), ("crash", "", "Qg==")])
    assert list(runs_of(once)) == [("normal", b"QQ=="), ("crash", b"Qg==")]
    assert b'data-title="A &amp; B"' in once
    again = export.with_runs(once, [("normal", "A & B", "Qw==")])
    assert list(runs_of(again)) == [("normal", b"Qw==")]
    assert export.with_runs(again, []) == PAGE


def test_an_exported_page_keeps_the_runs_that_were_in_it(events: list[Event]) -> None:
    page = export.to_html(export.with_runs(PAGE, [("normal", "", "QQ==")]), events)
    assert [name for name, _ in runs_of(page)] == ["export", "normal"]
