"""Recorded runs: exported, dropped, broken, foreign, violating, and far too long."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.page import browser
from tests.page.browser import PAGE, Pages, Worked
from tests.page.live import LiveCluster, unused_address
from tests.page.story import Story
from zabzmq.trace import export

FRAME_MS = 200
EVENTS = 100_000
KEPT = 50_000

# How long it was, each time, until the page drew again: so long it could not answer a key either.
FRAMES = """
window.gaps = [];
let last = performance.now();
const next = () => {
  const now = performance.now();
  window.gaps.push(now - last);
  last = now;
  requestAnimationFrame(next);
};
requestAnimationFrame(next);
"""


# Of each node that is there: whom its newest vote is for, as the events up to the moment shown have it.
VOTES_TOLD = """() => {
  const votes = {};
  for (const { e } of zab.history.records.slice(0, zab.position - zab.history.first + 1)) {
    if (e.k === "vote") votes[e.n] = e;
    if (e.k === "boot" || (e.k === "state" && ["QUIESCE", "BROADCAST"].includes(e.phase))) delete votes[e.n];
  }
  const up = (e) => zab.state.nodes[e.n].up;
  return Object.values(votes).filter((e) => up(e) && e.candidate !== null).map((e) =>
    `${e.candidate} (${e.epoch}, ${e.z.join(".")}, ${e.id})`);
}"""


@pytest.fixture(scope="module")
def played(standing: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What five real nodes told while a leader was killed, as JSON lines."""
    standing.mend()
    standing.real.put("before")
    standing.order("kill", "leader")
    standing.mend()
    standing.real.put("after")
    return standing.export("jsonl", tmp_path_factory.mktemp("traces") / "played.jsonl")


def test_a_trace_exported_by_the_page_opens_again_and_tells_the_same(
    pages: Pages, live: LiveCluster, tmp_path: Path
) -> None:
    page = pages.open(live.url())
    browser.leader(page)
    assert browser.play(page, "ann", "target_new", 88) == "ok"
    live.real.until_equal()
    browser.settled(page)
    page.click("#pause")
    browser.mode(page, "paused")
    was = page.evaluate("[zab.position - zab.history.first + 1, zab.state.game]")
    page.click("#open-trace")
    with page.expect_download() as download:
        page.click("#trace-export")
    path = tmp_path / "exported.jsonl"
    download.value.save_as(path)
    assert download.value.suggested_filename.endswith(".jsonl")

    other = pages.open(unused_address())
    other.wait_for_selector("#nocluster:not([hidden])")
    other.set_input_files("#file", path)
    browser.mode(other, "replay")
    other.evaluate("place => zab.pauseAt(zab.history.first + place - 1)", was[0])
    assert other.evaluate("zab.state.game") == was[1]
    assert other.get_attribute("#target", "data-target") == "88"
    assert other.locator(".notice").count() == 0


def test_an_exported_page_needs_no_backend(pages: Pages, played: Path, standing: LiveCluster, tmp_path: Path) -> None:
    path = standing.export("html", tmp_path / "told.html", played)
    page = pages.open(unused_address(page=path))
    browser.mode(page, "replay")
    assert page.get_attribute("body", "data-source") == "run"
    shown = [tuple(each) for each in page.evaluate("zab.history.records.map(({ e }) => [e.n, e.boot, e.seq])")]
    told = {(e["n"], e["boot"], e["seq"]): e for e in map(json.loads, played.read_text().splitlines())}
    beats = {place for place, e in told.items() if e.get("type") in ("HEARTBEAT", "HB_ECHO")}
    assert len(shown) == len(set(shown))
    assert set(shown) - beats == told.keys() - beats
    # Of heartbeats only those that bring a node back.
    for i, place in enumerate(shown):
        if place in beats:
            page.evaluate("place => zab.pauseAt(zab.history.first + place - 1)", i)
            assert not page.evaluate("node => zab.state.nodes[node].up", place[0])
    assert page.locator('#marks [data-mark="epoch"]').count() >= 1
    page.wait_for_selector('#actions:not(:has([data-do="kill"]))')
    assert page.is_disabled("#send") and "recorded" in page.inner_text("#reason")
    page.click("#go-start")
    browser.frames(page)
    page.click("#pause")
    browser.until(page, "zab.position > zab.history.first + 5")
    page.click("#go-live")
    page.wait_for_selector('#leader[data-leader]:not([data-leader=""])')
    assert page.locator('#inv button[data-ok="false"]').count() == 0
    browser.until(page, """document.querySelectorAll('#inv button[data-ok="true"]').length >= 6""")


def test_a_link_leads_to_a_moment_and_an_entry_of_a_recorded_run(pages: Pages, tmp_path: Path) -> None:
    story = Story()
    for counter in range(1, 6):
        story.commit(counter)
    events = [("leader-crash", "Told", export.packed(gzip.compress(story.text.encode(), mtime=0)))]
    path = tmp_path / "with_run.html"
    path.write_bytes(export.with_runs(PAGE.read_bytes(), events))
    page = pages.open(unused_address("f=leader-crash&at=0.004&sel=z1.2", page=path))
    browser.mode(page, "replay")
    page.wait_for_selector("#why-text h3")
    assert "1.2" in page.inner_text("#why-text h3")
    assert page.inner_text("#clock").startswith("0.004")

    plain = pages.open(unused_address(page=path))
    plain.click('#runs [data-run-name="leader-crash"]')
    browser.mode(plain, "replay")
    plain.click("#open-trace")
    plain.click("#trace-live")
    plain.wait_for_selector("#nocluster:not([hidden])")


@pytest.mark.parametrize("run", ["normal", "leader-crash", "partition", "power-cut"])
def test_a_recorded_run_that_the_page_carries_plays_and_breaks_no_promise(pages: Pages, run: str) -> None:
    page = pages.open(unused_address())
    page.click(f'#runs [data-run-name="{run}"]')
    browser.mode(page, "replay")
    browser.health(page, "healthy")
    assert page.locator('#inv button[data-ok="false"]').count() == 0
    assert page.locator(".notice").count() == 0
    page.click("#go-start")
    page.click("#pause")
    browser.until(page, "zab.position > zab.history.first + 5")


@pytest.mark.parametrize(
    ("run", "moment", "said"),
    [
        ("leader-crash", "v.up === 1", "1 of 5 nodes answer"),
        (
            "leader-crash",
            "!v.leader && v.nodes.filter(each => each.look === 'follower').length === 4",
            "not noticed yet",
        ),
        ("leader-crash", "v.nodes.filter(each => each.node.vote?.candidate === 3).length > 2", "4 of 5 are looking"),
        ("leader-crash", "v.nodes[3].look === 'leading'", "1 of the 3 FOLLOWERINFO it needs"),
        ("leader-crash", "Object.keys(v.nodes[3].node.infos).length > 2", "will be max(1,1,1) + 1 = 2 or more"),
        ("leader-crash", "v.nodes[3].node.accepted === 2", "leads epoch 2 once 3 have promised"),
        ("partition", "v.sides", "Side B has 3 nodes, a quorum, and will elect a leader"),
        ("partition", "v.sides && v.leader?.epoch === 2", "Side B has 3 nodes, a quorum, and goes on"),
    ],
)
def test_the_sentence_fits_the_moment(pages: Pages, run: str, moment: str, said: str) -> None:
    page = pages.open(unused_address(f"f={run}"))
    browser.mode(page, "replay")
    page.evaluate(
        f"""() => {{
          const holds = (v) => {moment};
          let at = zab.history.first;
          do zab.pauseAt(at++); while (!holds(zab.view()) && at < zab.history.end);
        }}"""
    )
    browser.frames(page)
    assert said in page.inner_text("#sentence")


def test_while_nobody_leads_the_votes_stand_in_the_table_at_any_moment(pages: Pages) -> None:
    page = pages.open(unused_address("f=leader-crash"))
    browser.mode(page, "replay")
    assert page.inner_text("#logs thead th >> nth=0") == "Node"
    # The moment before each vote, and after it: the table shows what the events had told until then.
    moments = page.evaluate("zab.history.records.filter(({ e }) => e.k === 'vote').flatMap(({ i }) => [i - 1, i])")
    voting = 0
    for moment in moments:
        page.evaluate("i => zab.pauseAt(i)", moment)
        browser.frames(page)
        rows = page.eval_on_selector_all(
            "#logs tbody th .w", "all => all.map(cell => cell.textContent.split(' → ')[1])"
        )
        told = page.evaluate(VOTES_TOLD)
        assert [row for row in rows if row] == ([] if page.get_attribute("#leader", "data-leader") else told)
        voting += any(rows)
    assert voting > 10
    page.evaluate("zab.pauseAt(zab.history.records.findLast(({ e }) => e.why === 'elected').i)")
    page.wait_for_selector("#acks:has-text('leader when 3 agree; most so far: 4')")
    assert page.inner_text("#logs thead th >> nth=0") == "Node → its vote (epoch, zxid, id)"


def test_a_leader_in_doubt_counts_down_what_it_has_told_and_nothing_else(pages: Pages) -> None:
    story = Story()
    story.tell(0, "note", what="quorum", have=[0], need=2, ms=1200.0)
    story.wait(0.5)
    story.tell(1, "note", text="half a second later")
    story.wait(1.0)
    story.tell(1, "note", text="later than that")
    story.tell(0, "note", what="quorum", have=[0, 1], need=2)
    page = pages.open(unused_address())
    browser.drop(page, doubt_jsonl=story.text)
    browser.mode(page, "replay")
    end = page.evaluate("zab.position")
    for back, said in ((4, ""), (3, "1.2 s left"), (2, "700 ms left"), (1, ""), (0, "")):
        page.evaluate("i => zab.pauseAt(i)", end - back)
        browser.frames(page)
        assert ("s left" in page.inner_text("#node-0")) is bool(said)
        assert said in page.inner_text("#node-0") and said in page.inner_text("#sentence")
        ground = page.eval_on_selector("#node-0", "node => getComputedStyle(node).backgroundImage")
        assert ("repeating" in ground) is bool(said), "hatched"


@pytest.mark.parametrize(
    ("told", "box", "because"),
    [
        ({"method": "DIFF", "why": "prefix", "last": [1, 2], "z0": [1, 2], "count": 9}, "1.2 → 1.11, DIFF", ""),
        (
            {"method": "TRUNC", "why": "diverged", "last": [1, 5], "z0": [1, 2], "count": 9},
            "1.5 → 1.2 → 1.11, TRUNC",
            "Its log goes on after 1.2 with what the leader",
        ),
        (
            {"method": "SNAP", "why": "purged", "last": [0, 0], "base": [1, 9]},
            "0.0 → 1.11, SNAP",
            "log begins after 1.9 only",
        ),
        ({"method": "SNAP"}, "0.0 → 1.11, SNAP", ""),
    ],
    ids=["diff", "trunc", "snap", "a node that tells less"],
)
def test_catching_up_says_by_what_and_why(pages: Pages, told: dict[str, Any], box: str, because: str) -> None:
    story = Story()
    for counter in range(1, 12):
        story.commit(counter)
    story.tell(2, "state", role="FOLLOWING", phase="SYNCHRONIZATION", epoch=1, leader=0, why="promised", text="x")
    story.tell(0, "note", what="sync", peer=2, z=[1, 11], **told)
    story.tell(2, "recv", type="SNAP", **{"from": 0}, z=[1, 11], size=200)
    story.tell(2, "recv", type="SNAP_CHUNK", **{"from": 0}, offset=0, data=50)
    page = pages.open(unused_address())
    browser.drop(page, sync_jsonl=story.text)
    browser.look(page, 2, "sync")
    assert box in page.inner_text("#node-2")
    assert page.eval_on_selector("#node-2 .bar i", "bar => bar.style.width") == "25%"
    if "count" in told:
        assert "entries: 9" in page.inner_text("#node-2")
    page.click("#node-2")
    page.wait_for_selector('#why-text li[data-code="node.synced"]')
    clause = page.inner_text('#why-text li[data-code="node.synced"]')
    assert because in clause and because in page.inner_text("#sentence")


def test_votes_are_arrows(pages: Pages) -> None:
    story = Story()
    story.look_again()
    story.tell(1, "vote", round=2, candidate=2, epoch=1, z=[1, 1], id=2, why="better")
    page = pages.open(unused_address())
    browser.drop(page, votes_jsonl=story.text)
    page.wait_for_selector(".edge.vote", state="attached")
    ends = page.eval_on_selector_all(".edge.vote", "all => all.map(line => getComputedStyle(line).markerEnd)")
    assert ends == ['url("#head")']
    assert "(1, 1.1, 2)" in page.inner_text("#node-1")


def test_a_leader_that_was_deposed_is_hatched_and_says_so_in_full(pages: Pages) -> None:
    story = Story()
    story.tell(1, "state", role="LEADING", phase="BROADCAST", epoch=2, leader=1, why="established", text="elected")
    page = pages.open(unused_address())
    browser.drop(page, deposed_jsonl=story.text)
    browser.look(page, 0, "deposed")
    browser.look(page, 1, "leader")
    ground, cut_off = page.eval_on_selector(
        "#node-0",
        """node => {
          const word = node.querySelector(".w");
          return [getComputedStyle(node).backgroundImage, word.scrollWidth > word.clientWidth];
        }""",
    )
    assert "gradient" in ground
    assert not cut_off


def test_a_run_that_the_page_does_not_carry_is_named(pages: Pages) -> None:
    page = pages.open(unused_address("f=never-recorded"))
    page.wait_for_selector(".notice.bad:has-text('never-recorded')")
    assert page.is_visible("#nocluster")


def test_a_recorded_run_has_no_partition_editor(pages: Pages) -> None:
    page = pages.open(unused_address("f=normal"))
    browser.mode(page, "replay")
    page.keyboard.press("x")
    page.keyboard.press("k")
    page.wait_for_selector("#toast:has-text('recorded run')")
    assert page.locator("dialog[open]").count() == 0
    assert page.is_hidden("#open-partition")


def test_a_broken_line_is_named_by_number_and_reason_and_the_rest_is_shown(pages: Pages) -> None:
    story = Story()
    story.commit(1)
    story.lines.insert(4, '{"v":1,"n":0,')
    page = pages.open(unused_address())
    browser.drop(page, broken_jsonl=story.text)
    browser.mode(page, "replay")
    page.wait_for_selector(".notice.bad")
    notice = page.inner_text("#notices")
    assert "broken.jsonl" in notice and "line 5" in notice and "not JSON" in notice
    assert page.evaluate("zab.history.records.length") == len(story.lines) - 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"v":2,"n":0,"boot":"aaaa","seq":1,"t":1,"k":"boot"}', "version 2, this page knows 1"),
        ("[1,2,3]", "not an object"),
        ('{"v":1,"n":0,"boot":"aaaa","seq":1,"k":"boot"}', "t is missing or wrong"),
        ('{"v":1,"n":0,"boot":"aaaa","seq":1,"t":1,"k":"commit","z":7}', "z is missing or wrong"),
        ("\u0000\u0001 binary", "not JSON"),
    ],
    ids=["version", "array", "field", "zxid", "binary"],
)
def test_a_file_without_one_event_says_why_and_changes_nothing(pages: Pages, line: str, reason: str) -> None:
    page = pages.open(unused_address())
    page.wait_for_selector("#nocluster:not([hidden])")
    browser.drop(page, foreign_jsonl=f"\n{line}\n")
    page.wait_for_selector(".notice.bad >> nth=1")
    notice = page.inner_text("#notices").lower()
    assert "line 2" in notice and reason.lower() in notice
    assert page.get_attribute("body", "data-source") == "live"
    assert page.is_visible("#nocluster")
    page.click(".notice button >> nth=0")
    browser.until(page, "document.querySelectorAll('.notice').length === 1")


def test_several_files_dropped_together_are_one_run(pages: Pages) -> None:
    story = Story()
    story.commit(1)
    apart = {f"node-{n}_jsonl": "".join(f"{line}\n" for line in story.lines if f'"n": {n},' in line) for n in range(3)}
    page = pages.open(unused_address())
    browser.drop(page, **apart)
    browser.mode(page, "replay")
    assert page.evaluate("zab.history.records.map(({ e }) => e.lc)") == list(range(len(story.lines)))


def test_a_violation_names_the_two_events_that_contradict(pages: Pages) -> None:
    story = Story()
    story.commit(1)
    story.tell(1, "state", role="LEADING", phase="BROADCAST", epoch=1, leader=1, why="established", text="a lie")
    page = pages.open(unused_address(), viewport={"width": 1440, "height": 900})
    browser.drop(page, bad_jsonl=story.text)
    page.wait_for_selector("body[data-violated]")
    in_view = page.evaluate(
        """() => {
          const lowest = (each) => each.getBoundingClientRect().bottom;
          const panel = document.getElementById("why-text");
          return [...panel.querySelectorAll("button")].map((each) => lowest(each) < lowest(panel));
        }"""
    )
    assert in_view == [True, True], "what can be done about it is seen without scrolling"
    page.wait_for_selector('#inv-one_leader[data-ok="false"]')
    assert "nodes 0 and 1 both lead epoch 1" in page.inner_text("#sentence")
    assert page.inner_text("#health") == "Violated"
    events = page.eval_on_selector_all("#why-text a[data-event]", "all => all.map(link => link.dataset.event)")
    assert events == ["0-aaa0-2", f"1-aaa1-{story.told[1]}"]
    page.click("#why-text a[data-event] >> nth=0")
    page.wait_for_selector("body:not([data-violated])")
    page.click('#marks [data-mark="violation"]')
    page.wait_for_selector("body[data-violated]")


def test_a_node_that_cuts_off_what_was_committed_breaks_a_promise(pages: Pages) -> None:
    story = Story()
    story.commit(1)
    story.commit(2)
    story.tell(1, "truncate", z=[1, 1], was=[1, 2])
    page = pages.open(unused_address())
    browser.drop(page, lost_jsonl=story.text)
    page.wait_for_selector('#inv-lost[data-ok="false"]')


def test_a_hundred_thousand_events_leave_it_responsive_and_it_says_what_it_cut(pages: Pages, tmp_path: Path) -> None:
    story = Story()
    counter = 0
    while len(story.lines) < EVENTS:
        counter += 1
        story.commit(counter)
    path = tmp_path / "long.jsonl"
    path.write_text(story.text)
    page = pages.open(unused_address(), FRAMES)
    page.wait_for_selector("#nocluster:not([hidden])")
    page.evaluate("window.gaps.length = 0")
    page.set_input_files("#file", path)
    browser.mode(page, "replay")
    gaps = sorted(page.evaluate("window.gaps"))
    usual = gaps[len(gaps) * 95 // 100]  # the others are the machine's, which does other things too
    notice = page.inner_text("#notices").replace(",", "")
    kept = page.evaluate("zab.history.records.length")
    assert str(len(story.lines)) in notice and str(kept) in notice and str(len(story.lines) - kept) in notice
    assert KEPT * 0.8 <= kept <= KEPT
    assert page.locator('#inv button[data-ok="false"]').count() == 0

    worked = Worked(page)
    moves = []
    for at in (0, 0.3, 0.9, 0.1):
        page.evaluate("at => zab.pauseAt(zab.history.first + Math.floor(at * zab.history.records.length))", at)
        browser.frames(page)
        moves.append(worked.ms())
    page.keyboard.press("v")
    browser.frames(page)
    moves.append(worked.ms())
    print(
        f"{len(story.lines)} events: {usual:.0f} ms a frame when read, at most {max(moves):.0f} ms for a move in time"
    )
    assert usual < FRAME_MS
    assert max(moves) < FRAME_MS
