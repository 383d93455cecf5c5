"""What a node says when it cannot have its ports."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zabzmq.core.zxid import PeerId, ProcessId
from zabzmq.net.endpoints import Endpoints, NetConfig, NetError, bind_error, holders, port_of

ENDPOINTS = Endpoints("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.1:3")


def test_a_taken_port_names_its_holder_and_the_likely_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        error = bind_error(f"tcp://127.0.0.1:{port}", 2, True, "Address already in use")
    assert error.port == port
    assert str(error).startswith(f"port {port} is taken (pid {os.getpid()}, ")
    assert str(error).endswith("). Node 2 may already run.")


def test_a_taken_port_of_somebody_unknown_is_said_without_a_name(tmp_path: Path) -> None:
    assert list(holders(9, proc=tmp_path)) == []
    assert str(bind_error("tcp://127.0.0.1:9", 2, True, "in use")) == "port 9 is taken. Node 2 may already run."


def test_an_address_that_is_not_ours_is_said_as_it_is() -> None:
    error = bind_error("tcp://192.0.2.1:21800", 0, False, "No such device")
    assert str(error) == "cannot listen on 192.0.2.1:21800: No such device."


def test_ports_are_read_from_endpoints() -> None:
    assert port_of("tcp://127.0.0.1:21800") == 21800
    assert port_of("tcp://[::1]:21800") == 21800


def test_a_node_outside_its_cluster_is_refused() -> None:
    with pytest.raises(NetError, match=r"node 4 is not one of the nodes \[0, 1\]"):
        NetConfig("demo", ProcessId(PeerId(4), 1, 1), {PeerId(0): ENDPOINTS, PeerId(1): ENDPOINTS})


def test_the_others_are_all_but_this_node() -> None:
    nodes = {PeerId(peer): ENDPOINTS for peer in (2, 0, 1)}
    assert NetConfig("demo", ProcessId(PeerId(1), 1, 1), nodes).others == [0, 2]
