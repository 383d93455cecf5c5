"""The observe port tells everybody on this host what is, and lets only who knows the token change it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.observed import STATE, Endpoint
from zabzmq.server.observe import LOOPBACK
from zabzmq.server.observe_routes import PAGE_POLICY

EVIL = "evil.example"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(tmp_path) as endpoint:
        yield endpoint
        assert endpoint.warnings == []


# ---- reads


def test_anybody_on_this_host_may_read_from_a_page_of_any_origin(node: Endpoint) -> None:
    for origin in ("null", "http://evil.example", "file://"):
        answer = node.ask("GET", "/state", origin=origin)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json == {**STATE, "observers": 0, "observers_dropped": 0}


def test_committed_operations_are_read_from_a_zxid_on(node: Endpoint) -> None:
    assert node.ask("GET", "/log").json["from"] == [0, 0]
    assert node.ask("GET", "/log?from=3.7").json["from"] == [3, 7]


@pytest.mark.parametrize(
    "path",
    [
        "/log?from=3",
        "/log?from=../../etc/passwd",
        "/log?from=-1.2",
        f"/log?from={'9' * 40}.1",
        "/events?since=12",
        "/events?since=zzzz:1",
        "/log?" + "&".join(f"a{i}=1" for i in range(50)),
    ],
)
def test_parameters_that_cannot_be_are_refused(node: Endpoint, path: str) -> None:
    answer = node.ask("GET", path)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")


def test_prometheus_reads_the_metrics(node: Endpoint) -> None:
    answer = node.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.body.decode().splitlines()
    assert "zab_epoch 3.0" in lines
    assert "zab_last_committed 7.0" in lines
    assert "zab_last_committed_epoch 3.0" in lines
    assert 'zab_state{state="LEADING"} 1.0' in lines
    assert 'zab_state{state="FOLLOWING"} 0.0' in lines
    assert 'zab_frames_refused_total{reason="crc"} 2.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


def test_a_node_that_does_not_answer_is_said_to_be_so(node: Endpoint) -> None:
    node.deaf = True
    assert node.ask("GET", "/state").status == 503
    assert node.post("/crash").status == 503


def test_the_page_is_served_with_a_policy_that_lets_nothing_in(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<!doctype html><title>page</title>")
    with Endpoint(tmp_path, page=page) as node:
        answer = node.ask("GET", "/")
        assert answer.body == page.read_bytes()
        assert answer.headers["content-security-policy"] == PAGE_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        page.unlink()
        assert b'href="/state"' in node.ask("GET", "/").body


@pytest.mark.parametrize(
    "path",
    ["/token", "/logs/token", "/../token", "/..%2ftoken", "/%2e%2e/token", "//token", "/index.html", "/state/",
     "/STATE", "/state%00", "/events/../token", "/data/node-0/meta", "/\\..\\token"],
)  # fmt: skip
def test_no_path_reaches_a_file(node: Endpoint, path: str) -> None:
    assert node.token
    for method in ("GET", "POST", "OPTIONS"):
        answer = node.ask(method, path)
        assert answer.status == 404
        assert node.token.encode() not in answer.body


# ---- hosts


@pytest.mark.parametrize("name", [LOOPBACK, "localhost", "LOCALHOST", "[::1]"])
def test_a_node_goes_by_the_names_of_loopback(node: Endpoint, name: str) -> None:
    assert node.ask("GET", "/state", host=f"{name}:{node.port}").status == 200


@pytest.mark.parametrize(
    "name",
    [EVIL, EVIL + ":{port}", LOOPBACK, "localhost", "localhost:1", LOOPBACK + ":{port}." + EVIL, LOOPBACK + ".:{port}",
     "x" + LOOPBACK + ":{port}", "localhost." + EVIL + ":{port}", LOOPBACK + ":{port}@" + EVIL, "", "0.0.0.0:{port}",
     LOOPBACK + ":0{port}"],
)  # fmt: skip
def test_a_name_that_somebody_pointed_here_opens_nothing(node: Endpoint, name: str) -> None:
    host = name.format(port=node.port)
    for method, path in (("GET", "/state"), ("GET", "/events"), ("GET", "/"), ("OPTIONS", "/op")):
        assert node.ask(method, path, host=host).status == 403
    assert node.post("/op", host=host).status == 403
    assert node.ops == []


def test_further_names_are_allowed_by_hand(tmp_path: Path) -> None:
    with Endpoint(tmp_path, allow_hosts=("Lab.Example",)) as node:
        assert node.ask("GET", "/state", host=f"lab.example:{node.port}").status == 200
        assert node.ask("GET", "/state", host="lab.example").status == 200
        assert node.ask("GET", "/state", host="evil.lab.example").status == 403


# ---- writes


def test_who_knows_the_token_may_write_from_any_origin(node: Endpoint) -> None:
    for origin in ("null", "file://", None):
        answer = node.post("/op", b'{"op":"get"}', origin=origin)
        assert (answer.status, answer.json["outcome"]) == (200, "ok")
        assert answer.headers["access-control-allow-origin"] == "*"
    assert node.ops == 3 * [b'{"op":"get"}']
    assert node.post("/op", content_type="Application/JSON; charset=utf-8").status == 200


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:8080"])
@pytest.mark.parametrize("path", ["/op", "/crash"])
def test_what_a_page_can_send_unasked_changes_nothing(node: Endpoint, path: str, origin: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None, ""):
        for token in (None, node.token):
            answer = node.post(path, origin=origin, content_type=kind, x_zab_token=token)
            assert (answer.status, answer.json["error"]["code"]) == (415, "unsupported_media_type")
    assert (node.ops, node.crashes) == ([], 0)


@pytest.mark.parametrize("path", ["/op", "/crash"])
def test_a_missing_or_wrong_token_changes_nothing(node: Endpoint, path: str) -> None:
    right = node.token
    for token in (None, "", "x", right[:-1], right + "x", right.swapcase(), f"{right}, {right}", "\u00e9" * 43):
        for origin in ("null", None):
            answer = node.post(path, origin=origin, x_zab_token=token)
            assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden")
            assert right.encode() not in answer.body
    assert (node.ops, node.crashes) == ([], 0)


def test_a_token_in_the_address_or_twice_is_none(node: Endpoint) -> None:
    assert node.post(f"/op?token={node.token}", x_zab_token=None).status == 403
    head = f"POST /op HTTP/1.1\r\nHost: {LOOPBACK}:{node.port}\r\nContent-Type: application/json\r\n"
    twice = 2 * f"X-Zab-Token: {node.token}\r\n"
    assert node.say(f"{head}{twice}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode()).status == 403
    assert node.ops == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "post"])
def test_no_method_but_post_changes_anything(node: Endpoint, method: str) -> None:
    for path in ("/op", "/crash"):
        answer = node.ask(method, path, content_type="application/json", x_zab_token=node.token)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST, OPTIONS"
    assert (node.ops, node.crashes) == ([], 0)


def test_what_is_read_is_not_posted(node: Endpoint) -> None:
    for path in ("/", "/state", "/events", "/log", "/metrics"):
        answer = node.post(path)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, OPTIONS")


def test_a_browser_that_asks_first_is_told_what_it_may_send(node: Endpoint) -> None:
    answer = node.ask("OPTIONS", "/op", origin="null", access_control_request_method="POST")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "x-zab-token" in answer.headers["access-control-allow-headers"].lower()
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert (node.ops, node.crashes) == ([], 0)


def test_a_node_crashes_only_where_faults_are_allowed(tmp_path: Path) -> None:
    with Endpoint(tmp_path, faults=False) as node:
        assert node.post("/crash").status == 403
        assert node.crashes == 0
    with Endpoint(tmp_path) as node:
        assert node.post("/crash").json == {"v": 1, "crashing": True}
        assert node.crashes == 1


# ---- the token


def test_beyond_loopback_every_read_needs_the_token(tmp_path: Path) -> None:
    with Endpoint(tmp_path, host="0.0.0.0") as node:
        for path in ("/state", "/events", "/log", "/metrics"):
            assert node.ask("GET", path).status == 403
            assert node.ask("GET", path, x_zab_token="wrong").status == 403
        for path in ("/state", "/log", "/metrics"):
            assert node.ask("GET", path, x_zab_token=node.token).status == 200
        assert node.ask("GET", "/").status == 200, "the page itself knows nothing"
        assert node.ask("OPTIONS", "/events").status == 204


def test_the_token_is_for_its_owner_alone(node: Endpoint) -> None:
    assert stat.S_IMODE((node.log_dir / "token").stat().st_mode) == 0o600


def test_without_a_token_nothing_is_written_and_everything_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 43)
    (tmp_path / "token").chmod(0o644)
    with Endpoint(tmp_path) as node:
        assert node.ask("GET", "/state").status == 200
        answer = node.post("/op")
        assert answer.status == 403
        assert "can be read by others" in answer.json["error"]["text"]
        assert ["can be read by others" in warning for warning in node.warnings] == [True]
