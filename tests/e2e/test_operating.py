"""What docs/operations.md tells people to do, done to real nodes."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.measure import wait_until
from tests.e2e.real import RealCluster
from zabzmq.client.call import Call, Outcome
from zabzmq.client.client import Client
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.machine.operations import Put
from zabzmq.server.config import load

BEFORE = [f"before-{n}" for n in range(20)]


def restart(cluster: RealCluster, node: int) -> None:
    """Stop it with SIGTERM, start it, and wait until all is well again."""
    cluster.supervisor.stop_node(node)
    cluster.supervisor.ended()
    cluster.up(node)


def test_a_rolling_restart_costs_no_client_an_error(three: RealCluster) -> None:
    leader = three.up()["leader"]
    three.put(*BEFORE)
    calls: list[Call] = []
    for node in (*three.others(leader), leader):
        # Under way while the node goes and comes, the leader too: their outcome is looked at in the end.
        calls += [three.client.submit(Put(b"during", b"%d" % n)) for n in range(50)]
        restart(three, node)
    assert {three.client.wait(call).outcome for call in calls} == {Outcome.OK}
    three.until_equal()
    assert three.missing(*BEFORE) == []


def test_a_copy_of_one_stopped_node_brings_back_the_whole_cluster(three: RealCluster, tmp_path: Path) -> None:
    leader = three.up()["leader"]
    kept = three.others(leader)[0]
    three.put(*BEFORE)
    three.until_equal()
    three.supervisor.stop_node(kept)
    three.supervisor.ended()
    shutil.copytree(three.data(kept), tmp_path / "backup")
    three.up(kept)
    three.put("after")

    # All is lost but the copy.
    three.kill(*three.config.ids)
    shutil.rmtree(three.config.data_dir)
    shutil.copytree(tmp_path / "backup", three.data(kept))
    three.start(options=["--unsafe-rejoin-empty"])
    assert three.until_led() == kept
    three.until_equal()
    assert three.missing(*BEFORE, "after") == ["after"], "all up to the copy, and nothing of later"
    for node in three.config.ids:
        restart(three, node)  # without the switch again
    # Sessions that are younger than the copy are over, so clients begin anew.
    assert three.client_py("kv", "put", "new", "new").code == 0
    assert three.missing(*BEFORE, "new") == []


def test_a_node_that_lost_its_disk_is_started_empty_and_catches_up(three: RealCluster) -> None:
    leader = three.up()["leader"]
    three.put(*BEFORE)
    lost = three.others(leader)[0]
    three.kill(lost)
    shutil.rmtree(three.data(lost))
    three.up(lost)
    three.until("joined", lambda status: all(node["joined"] for node in status["nodes"]))
    three.until_equal()
    # It counts again: it and one more are enough.
    three.kill(leader)
    three.until_led(but=leader)
    assert three.missing(*BEFORE) == []


def test_a_node_moves_to_another_address(three: RealCluster, tmp_path: Path) -> None:
    leader = three.up()["leader"]
    three.put(*BEFORE)
    moving = three.others(leader)[0]
    spare = three.config.base_port + 45  # no port of this cluster, and of no other test's
    lines = [f'name = "{three.config.cluster}"', f"base_port = {three.config.base_port}"]
    for id in three.config.ids:
        lines += ["[[node]]", f"id = {id}"]
        if id == moving:
            lines += [f"{kind} = {spare + n}" for n, kind in enumerate(("peer", "client", "publish", "observe"))]
    path = tmp_path / "cluster.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    config = load(config=path, data_dir=three.config.data_dir, log_dir=three.config.log_dir, environ={})
    with Supervisor(config) as supervisor, Client(config.client_endpoints, cluster=config.cluster) as client:
        three.supervisor.stop_node(moving)
        supervisor.start(moving)
        # The others answer it where it was, until they are told: it waits, and says for what.
        three.until_log(moving, "they do not know where this node is")
        for node in three.others(moving):
            three.supervisor.stop_node(node)
            supervisor.start(node)
            wait_until("a leader", lambda: any(told and told.established for told in client.status(500.0).values()))
        wait_until("all to serve", lambda: _phases(client) == {"BROADCAST"})
        assert client.do(Put(b"moved", b"")).outcome is Outcome.OK
        # It is found by the others too: with one of them gone, it and the last one are a majority.
        supervisor.kill(three.others(moving)[0])
        assert client.do(Put(b"without", b"")).outcome is Outcome.OK


def _phases(client: Client) -> set[str]:
    return {"" if told is None else told.phase for told in client.status(500.0).values()}
