"""Orders of step mode, as they go to the nodes; what nodes make of them is in tests/e2e."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from zabzmq.cli import server_step
from zabzmq.cli.asking import NoAnswer
from zabzmq.cli.server_step import Steps
from zabzmq.server.config import load

PATIENCE_S = 10.0


def test_all_nodes_are_held_at_once_and_who_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(nodes=5, environ={})
    together = threading.Barrier(5)

    def post(host: str, port: int, path: str, body: Any, token: str) -> tuple[int, dict[str, Any]]:
        together.wait(PATIENCE_S)
        if port == config.listen(3).observe:
            raise NoAnswer("nobody", listens=False)
        return 200, {"hold": {"messages": [], "count": 0}}

    monkeypatch.setattr(server_step, "post", post)
    steps = Steps(config, "", "token")
    steps.holds = dict.fromkeys(range(5))
    assert steps.to_all("/hold", {"on": True}) == [3]
    assert sorted(steps.held) == [0, 1, 2, 4]
