"""Bytes on the sockets of running nodes that are no message for them: counted, hung up on, and commits go on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import pytest
import zmq

from tests.chaos.harness import wait_for
from tests.e2e.real import PATIENCE_S, RealCluster, client_py
from tests.e2e.strangers import BEAT, NOBODY, NOTE, Bystander, Foreign, Socket, Writing, altered, framed, noise
from zabzmq.core.zxid import PeerId, ProcessId
from zabzmq.net.client_wire import StatusQuery, encode


def to_peer(node: int) -> dict[str, tuple[list[bytes], str]]:
    """What is wrong with a message for this node's peer socket, the frames, and what they are counted as."""
    voter = ProcessId(PeerId((node + 1) % 3), 1, 1)
    good = framed(NOTE, voter, node)
    return {
        "empty": ([b""], "short"),
        "cut in its head": ([good[:30]], "short"),
        "cut in its body": ([good[:-3]], "crc"),
        "with bytes after it": ([good + b"x"], "crc"),
        "random bytes": ([noise(500)], "magic"),
        "large": ([noise(3 << 20)], "magic"),
        "of another version": ([altered(good, 2, 99)], "version"),
        "of another cluster": ([framed(NOTE, voter, node, cluster="strangers")], "cluster"),
        "of an unknown type": ([altered(good, 3, 200)], "type"),
        "of a type for another socket": ([framed(BEAT, voter, node)], "place"),
        "two parts": ([good, good], "parts"),
        "fifty parts": ([good] * 50, "parts"),
        "from an unknown node": ([framed(NOTE, NOBODY, node)], "stranger"),
        "for another process": ([framed(NOTE, voter, node, to_incarnation=5)], "address"),
    }


ASKED = encode(StatusQuery(1))[0]
TO_CLIENTS = {
    "empty": ([b""], "version"),
    "cut": ([ASKED[:-1]], "body"),
    "random bytes": ([noise(500)], "version"),
    "random bytes after the version": ([ASKED[:3] + noise(500)], "body"),
    "of another version": ([b"ZC9" + ASKED[3:]], "version"),
    "of an unknown type": ([ASKED[:3] + b"\x92\xa7nothing\x01"], "body"),
    "nested without end": ([ASKED[:3] + b"\x91" * 100_000], "body"),
    "two parts": ([ASKED, ASKED], "parts"),
    "fifty parts": ([ASKED] * 50, "parts"),
    "large": ([ASKED[:3] + noise(3 << 20)], "size"),
}


@pytest.fixture(scope="module")
def writing(shared: RealCluster) -> Iterator[Writing]:
    with Writing(shared) as made:
        yield made


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    made = Foreign()
    yield made
    made.close()


@pytest.mark.parametrize("name", to_peer(0))
def test_what_is_no_message_on_the_peer_socket_is_counted(
    shared: RealCluster, writing: Writing, foreign: Foreign, name: str
) -> None:
    bystander = Bystander(shared)
    for node in shared.config.ids:  # the leader and its followers
        frames, reason = to_peer(node)[name]
        foreign.connect(zmq.DEALER, shared.config.listen(node).peer).send_multipart(frames)
        bystander.until_dropped(node, reason)
    writing.go_on()
    bystander.check()


@pytest.mark.parametrize("name", TO_CLIENTS)
def test_what_is_no_message_on_the_client_socket_is_counted(
    shared: RealCluster, writing: Writing, foreign: Foreign, name: str
) -> None:
    frames, reason = TO_CLIENTS[name]
    bystander = Bystander(shared)
    for node in shared.config.ids:
        foreign.connect(zmq.DEALER, shared.config.listen(node).client).send_multipart(frames)
        bystander.until_dropped(node, reason)
    writing.go_on()
    bystander.check()


@pytest.mark.parametrize("kind", ["peer", "client", "publish"])
def test_a_frame_beyond_4_mib_is_hung_up_on_before_it_is_read(
    shared: RealCluster, writing: Writing, foreign: Foreign, kind: str
) -> None:
    bystander = Bystander(shared)
    port = getattr(shared.config.listen(shared.until_led()), kind)
    sender = foreign.connect(zmq.XSUB if kind == "publish" else zmq.DEALER, port)
    monitor = sender.get_monitor_socket(zmq.Event.DISCONNECTED)
    sender.send(b"\2" + bytes(5 << 20))  # to a publisher 0 and 1 would be subscriptions
    assert monitor.poll(int(PATIENCE_S * 1000)), "the connection still stands"
    sender.close()
    writing.go_on()
    bystander.check()


@pytest.mark.parametrize("kind", ["peer", "client", "publish"])
@pytest.mark.parametrize(
    "junk",
    [noise(10_000), bytes(64), b"\xff" + bytes(8) + b"\x7f" + noise(90)],
    ids=["random bytes", "zeros", "a greeting and random bytes"],
)
def test_bytes_that_are_not_even_zeromq_are_hung_up_on(
    shared: RealCluster, writing: Writing, kind: str, junk: bytes
) -> None:
    bystander = Bystander(shared)
    with socket.create_connection(("127.0.0.1", getattr(shared.config.listen(0), kind))) as raw:
        raw.settimeout(PATIENCE_S)
        try:
            raw.sendall(junk)
            while raw.recv(1000):
                pass  # its greeting, and then the end
        except ConnectionError:
            pass  # the end as well
    writing.go_on()
    bystander.check()


@pytest.mark.parametrize("kind", ["peer", "client", "publish"])
def test_a_browser_at_the_wrong_port_disturbs_nobody(shared: RealCluster, writing: Writing, kind: str) -> None:
    """It may well look like the first bytes of an old ZeroMQ; then it is not hung up on, and not heard either."""
    bystander = Bystander(shared)
    with socket.create_connection(("127.0.0.1", getattr(shared.config.listen(0), kind))) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n\r\n" * 10)
        writing.go_on()
        bystander.check()


def test_a_connection_that_says_nothing_holds_up_nobody(shared: RealCluster, writing: Writing) -> None:
    bystander = Bystander(shared)
    listen = shared.config.listen(shared.until_led())
    silent = [
        socket.create_connection(("127.0.0.1", port))
        for port in (listen.peer, listen.client, listen.publish)
        for _ in range(20)
    ]
    writing.go_on()
    bystander.check()
    for connection in silent:
        connection.close()


def test_a_flood_of_junk_is_counted_and_commits_go_on(shared: RealCluster, writing: Writing, foreign: Foreign) -> None:
    bystander = Bystander(shared)
    leader = shared.until_led()
    listen = shared.config.listen(leader)
    for port in (listen.peer, listen.client):
        dealer = foreign.connect(zmq.DEALER, port)
        for _ in range(2000):
            dealer.send(noise(200))
    writing.go_on(20)
    bystander.until_dropped(leader, "magic", 2000)
    bystander.until_dropped(leader, "version", 2000)
    bystander.check()
    shared.until_log(leader, "WARNING frames refused: ")


def test_an_impostor_at_the_ports_of_a_dead_node_is_counted_and_disturbs_nobody(
    three: RealCluster, foreign: Foreign
) -> None:
    """What connects to a peer is spoken to by whoever sits there: SUB and mesh sockets meet garbage too."""
    three.start(0, 1)
    three.until_led()
    bystander = Bystander(three)
    listen = three.config.listen(2)
    publisher = foreign.socket(zmq.XPUB)
    publisher.set(zmq.XPUB_VERBOSE, 1)
    publisher.bind(f"tcp://127.0.0.1:{listen.publish}")
    router = foreign.socket(zmq.ROUTER)
    router.set(zmq.ROUTER_MANDATORY, 1)
    router.bind(f"tcp://127.0.0.1:{listen.peer}")
    for _ in range(4):
        publisher.recv()  # two topics of two nodes
    for frames, _ in to_peer(0).values():
        publisher.send_multipart([b"hb", *frames])
        publisher.send_multipart([b"cm", *frames])
    publisher.send_multipart([b"hb"])
    with Writing(three) as writing:
        for node in (0, 1):
            for reason in ("short", "crc", "magic", "version", "cluster", "type", "parts"):
                bystander.until_dropped(node, reason)
        for node in (0, 1):
            # Its mesh connection is up once the name it gave itself can be sent to.
            route = f"{node}/{foreign.process_of(three, node).incarnation}".encode()
            wait_for(partial(_sent, router, [route, noise(300)]), PATIENCE_S, f"connection of node {node}")
        for node in (0, 1):
            bystander.until_dropped(node, "place")
        writing.go_on()
    bystander.check()


def _sent(router: Socket, frames: list[bytes]) -> bool:
    try:
        router.send_multipart(frames)
    except zmq.ZMQError:
        return False
    return True


def test_a_node_of_another_cluster_on_the_ports_of_ours_is_not_heard(three: RealCluster) -> None:
    three.start(0, 1)
    three.until_led()
    bystander = Bystander(three)
    data, logs = three.config.data_dir / "other", three.config.log_dir / "other"
    elsewhere = ("--cluster", "strangers", "--data-dir", data, "--log-dir", logs)
    with three.program("zookeeper_server.py", "node", 2, *elsewhere) as stranger:
        for node in (0, 1):
            bystander.until_dropped(node, "cluster")
        three.put("undisturbed")
        bystander.check()
        assert stranger.process.poll() is None
    ran = client_py(
        "--base-port", three.config.base_port, "--nodes", 3, "--cluster", "strangers", "--timeout", 1, "get"
    )
    ran.refused(
        1,
        'the nodes that answer belong to cluster "tested", not "strangers"',
        "say which one:  client.py --cluster tested",
    )
