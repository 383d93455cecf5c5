"""`client.py batch` and `monitor` as processes: pipes, streams, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.fake import SERVE, SILENT, FakeCluster
from zabzmq.cli.client_batch import LINE_BYTES_MAX, BadLine, parse
from zabzmq.machine.operations import Put, decode_operations
from zabzmq.net.client_wire import ClientRequest, RegisterSession, Submit

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as made:
        yield made


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(cluster: FakeCluster) -> Iterator[Start]:
    began: list[subprocess.Popen[bytes]] = []

    def run(*args: str | int) -> subprocess.Popen[bytes]:
        common = ("--base-port", cluster.base_port, "--nodes", 3)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ZAB_")}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "client.py"), *map(str, args), *map(str, common)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
        )
        began.append(process)
        return process

    yield run
    for process in began:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def answers_of(start: Start, text: bytes, *options: str | int) -> list[dict[str, Any]]:
    process = start("batch", "--jsonl", *options)
    out, err = process.communicate(text, timeout=60)
    assert (process.returncode, err) == (0, b"")
    return [json.loads(line) for line in out.splitlines()]


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(o).encode() + b"\n" for o in objects)


def test_each_line_gets_one_answer_of_the_one_shape(start: Start) -> None:
    answers = answers_of(
        start,
        lines(
            {"id": 1, "as": "alice", "op": "target", "value": 50},
            {"id": 2, "as": "bob", "op": "guess", "value": 47},
            {"id": 3, "op": "get"},
            {"id": "vier", "as": "bob", "op": "target", "value": 3},
            {"id": None, "op": "kv.put", "key": "k", "value": "v"},
            {"id": {"a": [1]}, "op": "kv.get", "key": "k", "read": "local"},
            {"id": 7, "op": "kv.cas", "key": "k", "expect": "x", "value": "y"},
            {"id": 8, "op": "kv.cas", "key": "new", "expect": None, "value": "y"},
            {"id": 9, "op": "kv.del", "key": "new"},
            {"id": 10, "op": "kv.get", "key": "new", "node": 2},
            {"id": 11, "op": "kv.put", "key_b64": "AP8=", "value_b64": "/w=="},
            {"id": 12, "op": "kv.get", "key_b64": "AP8=", "node": 0, "read": "linear"},
            {"id": 13, "op": "guess", "as": "bob", "value": 1, "node": 2},
        ),
    )
    assert [a["id"] for a in answers] == [1, 2, 3, "vier", None, {"a": [1]}, 7, 8, 9, 10, 11, 12, 13]
    assert [a["outcome"] for a in answers] == [
        "ok", "ok", "ok", "refused", "ok", "ok", "refused", "ok", "ok", "ok", "ok", "ok", "not_done",
    ]  # fmt: skip
    assert answers[1]["result"] == {"target": 47, "distance": 3, "closer": True, "won": False}
    assert answers[2]["result"]["owner"] == "bob"
    assert answers[3]["zxid"] is not None and answers[3]["error"]["code"] == "round_open"
    assert (answers[5]["read"], answers[5]["result"]) == ("local", {"value": "v"})
    assert (answers[9]["read"], answers[9]["node"], answers[9]["result"]) == ("local", 2, {"value": None})
    assert (answers[11]["read"], answers[11]["node"], answers[11]["result"]) == ("linear", 0, {"value_b64": "/w=="})
    assert answers[12]["error"]["code"] == "not_leader"


BAD = [
    b"nonsense",
    b"",
    b"[]",
    b'"guess"',
    b"{}",
    b'{"op":"jump"}',
    b'{"op":"guess"}',
    b'{"op":"guess","value":"7"}',
    b'{"op":"guess","value":7.5}',
    b'{"op":"guess","value":true}',
    b'{"op":"guess","value":101}',
    b'{"op":"guess","value":-1}',
    b'{"op":"guess","value":123456789012345678901234567890}',
    b'{"op":"guess","value":7,"nod":1}',
    b'{"op":"guess","value":7,"node":3}',
    b'{"op":"guess","value":7,"node":-1}',
    b'{"op":"guess","value":7,"as":""}',
    b'{"op":"guess","value":7,"as":"a\\nb"}',
    b'{"op":"guess","value":7,"timeout":0}',
    b'{"op":"guess","value":7,"timeout":-1}',
    b'{"op":"guess","value":7,"timeout":1e999}',
    b'{"op":"get","read":"sideways"}',
    b'{"op":"kv.put","key":"k"}',
    b'{"op":"kv.put","value":"v"}',
    b'{"op":"kv.put","key":5,"value":"v"}',
    b'{"op":"kv.put","key":"k","value":5}',
    b'{"op":"kv.put","key":"k","value_b64":"?"}',
    b'{"op":"kv.put","key":"k","value":"v","value_b64":"dg=="}',
    b'{"op":"kv.put","key":"%s","value":"v"}' % (b"k" * 1025),
    b'{"op":"kv.cas","key":"k","value":"v"}',
    b'{"op":"kv.cas","key":"k","expect":5,"value":"v"}',
    b'\xff\xfe{"op":"get"}',
    b'{"op":"kv.get","key":"\xff"}',
    b'{"op":"get"} {"op":"get"}',
    b"[" * 100_000,
]


def test_a_bad_line_is_answered_with_its_number_and_harms_no_other(start: Start) -> None:
    good = b'{"id":"good","op":"kv.put","key":"k","value":"v"}'
    answers = answers_of(start, b"\n".join(line for bad in BAD for line in (bad, good)))
    assert len(answers) == 2 * len(BAD)
    for place, (bad, after) in enumerate(zip(answers[::2], answers[1::2], strict=True)):
        assert (bad["outcome"], bad["zxid"], bad["attempts"]) == ("refused", None, 0)
        assert bad["error"]["text"].startswith(f"line {2 * place + 1}: ")
        assert bad["error"]["code"] in ("bad_line", "out_of_range")
        assert (after["id"], after["outcome"]) == ("good", "ok")


@pytest.mark.parametrize("raw", BAD, ids=range(len(BAD)))
def test_what_cannot_be_parsed_raises_one_kind_of_error(raw: bytes) -> None:
    if b'"node"' in raw:
        parse(raw)  # whether there is such a node is known to the client alone
        return
    with pytest.raises(BadLine):
        parse(raw)


def test_the_answer_to_a_bad_line_repeats_its_id_where_it_has_one(start: Start) -> None:
    (answer,) = answers_of(start, b'{"id":42,"op":"guess","value":900}')
    assert (answer["id"], answer["op"], answer["error"]["code"]) == (42, "guess", "out_of_range")


def test_an_endless_line_is_refused_and_skipped(start: Start) -> None:
    text = b'{"op":"kv.put","key":"k","value":"' + b"x" * LINE_BYTES_MAX + b'"}\n{"id":2,"op":"get"}\n'
    first, second = answers_of(start, text)
    assert (first["outcome"], second["id"], second["outcome"]) == ("refused", 2, "ok")


def test_answers_come_while_input_goes_on(start: Start) -> None:
    process = start("batch", "--jsonl")
    assert process.stdin is not None and process.stdout is not None
    for i in range(3):
        process.stdin.write(lines({"id": i, "op": "kv.put", "key": "k", "value": str(i)}))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == i
    process.stdin.close()
    assert process.wait(10) == 0


def test_a_writer_that_reads_nothing_until_the_end_is_no_deadlock(start: Start) -> None:
    """Far more than the pipes hold, in both directions."""
    process = start("batch", "--jsonl", "--window", 64)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(lines(*({"id": i, "op": "kv.put", "key": "k", "value": "v" * 80} for i in range(4000))))
    process.stdin.close()
    assert sorted(json.loads(line)["id"] for line in process.stdout) == list(range(4000))
    assert process.wait(10) == 0


def test_a_window_lets_later_lines_overtake_a_stuck_one(start: Start, cluster: FakeCluster) -> None:
    def stuck(node: int, request: ClientRequest) -> str:
        if isinstance(request, Submit):
            first = decode_operations(request.ops)[0]
            if isinstance(first, Put) and first.key == b"stuck":
                return SILENT
        return SERVE

    cluster.behave(stuck)
    text = lines(
        {"id": 1, "as": "a", "op": "kv.put", "key": "stuck", "value": "v", "timeout": 0.5},
        {"id": 2, "as": "b", "op": "kv.put", "key": "free", "value": "v"},
    )
    assert [(a["id"], a["outcome"]) for a in answers_of(start, text, "--window", 2)] == [(2, "ok"), (1, "unknown")]
    assert [(a["id"], a["outcome"]) for a in answers_of(start, text, "--window", 1)] == [(1, "unknown"), (2, "ok")]


@pytest.mark.parametrize("window", [100, 3000])
def test_operations_of_one_name_keep_their_order_in_any_window(start: Start, cluster: FakeCluster, window: int) -> None:
    text = lines(*({"id": i, "as": "a", "op": "kv.put", "key": "k", "value": str(i)} for i in range(3000)))
    answers = answers_of(start, text, "--window", window)
    zxids = {a["id"]: a["zxid"] for a in answers}
    assert [zxids[i] for i in range(3000)] == sorted(zxids.values())
    assert len(cluster.of(Submit)) < 1500, "operations that wait together travel together"
    assert len(cluster.of(RegisterSession)) == 1, "there is no order among sessions"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_interrupted_after_sending_exits_130_and_says_that_it_may_have_happened(
    start: Start, cluster: FakeCluster, number: int
) -> None:
    began = threading.Event()

    def silent(node: int, request: ClientRequest) -> str:
        if isinstance(request, Submit):
            began.set()
            return SILENT
        return SERVE

    cluster.behave(silent)
    process = start("guess", 1, "--json")
    assert began.wait(20)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["outcome"], told["error"]["code"]) == ("unknown", "interrupted")
    assert err.startswith(b"unknown: your guess 1 was sent to leader 0, and its answer was not awaited.")
    assert f"--id {told['request']}".encode() in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("awaiting", "code"), [(True, 130), (False, 0)])
def test_interrupted_it_exits_130_only_if_an_answer_was_awaited(
    start: Start, cluster: FakeCluster, number: int, awaiting: bool, code: int
) -> None:
    process = start("batch", "--jsonl", "--window", 2)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(lines({"id": 1, "op": "kv.put", "key": "k", "value": "v"}))
    process.stdin.flush()
    process.stdout.readline()
    if awaiting:
        cluster.behave(lambda node, request: SILENT if isinstance(request, Submit) else SERVE)
        process.stdin.write(lines({"id": 2, "op": "kv.put", "key": "k", "value": "v"}, "bad"))
        process.stdin.flush()
        process.stdout.readline()  # of the bad line: the one before it is on its way
    process.send_signal(number)
    assert process.wait(10) == code
    assert process.stderr is not None and b"Traceback" not in process.stderr.read()


def test_a_reader_that_goes_away_ends_it_quietly(start: Start) -> None:
    process = start("batch", "--jsonl")
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stdin.write(lines(*({"id": i, "op": "get"} for i in range(50))))
    process.stdin.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""


def test_without_a_leader_every_line_is_still_answered(start: Start, cluster: FakeCluster) -> None:
    cluster.lead(None)
    answers = answers_of(start, lines(*({"id": i, "op": "get", "timeout": 0.1} for i in range(5))), "--window", 5)
    assert [(a["outcome"], a["error"]["code"]) for a in answers] == [("not_done", "no_leader")] * 5


# ---- monitor -----------------------------------------------------------------------------------------------------


def test_the_monitor_writes_a_line_a_commit_and_ends_cleanly(start: Start, cluster: FakeCluster) -> None:
    cluster.write(Put(b"k", b"v"), Put(b"\xff", b"v"))
    process = start("monitor", "--since", "0.0", "--jsonl")
    assert process.stdout is not None and process.stderr is not None
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert first == {
        "v": 1,
        "zxid": [1, 2],
        "prev": [1, 1],
        "as": "ann",
        "op": "kv.put",
        "key": "k",
        "value": "v",
        "outcome": "ok",
        "result": None,
        "time_ms": 1_700_000_000_000,
    }
    assert second["key_b64"] == "/w=="
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert process.stderr.read() == b""


def test_the_monitor_speaks_to_people_and_shows_sessions_on_request(start: Start, cluster: FakeCluster) -> None:
    cluster.write(Put(b"k", b"v"))
    process = start("monitor", "--since", "0.0", "--all")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"commit 1.1  ann made a session")
    assert process.stdout.readline().startswith(b"commit 1.2  k = v   state ")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_monitor_of_nothing_exits_4(start: Start, cluster: FakeCluster) -> None:
    for node in cluster.voters:
        cluster.kill(node)
    process = start("monitor", "--timeout", 0.3)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (4, b"")
    assert b"nobody listens on" in err
