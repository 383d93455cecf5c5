"""The real loop around a scripted node: what came is heard before timers are looked at, the more so after a pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, cast
from unittest import mock

from zabzmq.core.inputs import Durable, Input, LinkUp, Resumed
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid
from zabzmq.net.client_wire import ClientRequest, StatusQuery
from zabzmq.server.loop import Loop, StepClock

UP = LinkUp(LinkId(ProcessId(PeerId(0), 1, 1), 1))
WRITTEN = Durable(1, Zxid(1, 1))
PAUSE_MS = 250.0


class World:
    """Node, network, disk and clock in one: says what happened, and when the loop waits, what the script does."""

    def __init__(self, *script: Callable[[World], bool | None]) -> None:
        self.at = 0.0
        self.script = list(script)
        self.told: list[object] = []
        self.waits: list[float] = []
        self.inputs: list[Input] = []
        self.requests: list[tuple[bytes, ClientRequest]] = []
        self.done: list[Input] = []
        self.failed: str | None = None
        self.next_deadline = 1_000_000.0
        self.clock = self
        self.on_handle: Callable[[], None] = lambda: None
        node = disk = network = clock = cast(Any, self)
        self.loop = Loop(node, network, disk, PAUSE_MS, self.housekeeping, clock, clock)

    def run(self) -> list[object]:
        self.loop.run()
        return self.told

    # ---- clock, network, disk, node

    def now(self) -> float:
        return self.at

    def until(self, deadline: float) -> float:
        return deadline - self.at

    def poll(self, timeout_ms: float, fd: int | None = None) -> bool:
        self.waits.append(timeout_ms)
        if not self.script:
            self.loop.stop("the script is over")
            return False
        return bool(self.script.pop(0)(self))

    def receive(self, *, drain: bool = False) -> tuple[list[Input], list[tuple[bytes, ClientRequest]]]:
        self.told.append("drained" if drain else "read")
        inputs, self.inputs = self.inputs, []
        requests, self.requests = self.requests, []
        return inputs, requests

    def fileno(self) -> int:
        return 7

    def wake(self) -> None: ...

    def drain(self) -> list[Input]:
        done, self.done = self.done, []
        return done

    def start(self) -> None: ...

    def handle(self, event: Input) -> None:
        self.told.append(event)
        self.on_handle()

    def on_client(self, client: bytes, request: ClientRequest) -> None:
        self.told.append(request)

    def flush(self) -> None:
        self.told.append("flush")

    def housekeeping(self, now: float) -> str | None:
        self.told.append("housekeeping")
        return None


def brings(*inputs: Input, after: float = 1.0) -> Callable[[World], None]:
    def turn(world: World) -> None:
        world.at += after
        world.inputs += inputs

    return turn


def test_a_turn_hears_peers_then_the_disk_then_clients_and_ends_with_timers() -> None:
    def turn(world: World) -> bool:
        world.inputs.append(UP)
        world.done.append(WRITTEN)
        world.requests.append((b"c", StatusQuery(1)))
        return True

    assert World(turn).run()[:5] == ["read", UP, WRITTEN, StatusQuery(1), "flush"]


def test_a_loop_that_stood_still_while_it_waited_drains_first_and_says_so_before_any_timer() -> None:
    def stopped(world: World) -> None:
        world.at += world.waits[-1] + PAUSE_MS + 1
        world.inputs.append(UP)

    assert World(brings(), stopped).run()[3:7] == ["drained", UP, Resumed(), "flush"]


def test_waiting_long_for_what_is_not_due_is_no_pause() -> None:
    def quiet(world: World) -> None:
        world.at += world.waits[-1]

    assert Resumed() not in World(brings(), quiet, quiet).run()


def test_a_turn_that_was_slow_itself_reads_again_before_any_timer() -> None:
    world = World(brings(UP))

    def slow() -> None:
        world.at += PAUSE_MS + 1
        world.on_handle = lambda: None

    world.on_handle = slow
    assert world.run()[:5] == ["read", UP, "drained", Resumed(), "flush"]


def test_timers_that_are_due_are_not_waited_for() -> None:
    def overdue(world: World) -> None:
        world.next_deadline = world.at - 5

    world = World(overdue, brings())
    world.run()
    assert world.waits[1] == 0.0


def test_an_idle_loop_looks_up_within_half_a_second() -> None:
    def quiet(world: World) -> None:
        world.at += world.waits[-1]

    world = World(brings(), quiet, quiet, quiet)
    told = world.run()
    assert told.count("housekeeping") >= 4
    assert max(world.waits) <= 500.0


def test_a_failed_node_or_disk_ends_the_loop() -> None:
    def breaks(world: World) -> None:
        world.failed = "EIO"

    world = World(brings(), breaks, brings())
    world.run()
    assert world.loop.failed == "EIO"
    assert world.loop.stopped_by is None
    assert len(world.script) == 1


def test_work_asked_for_by_another_thread_is_done_after_a_turn() -> None:
    world = World(brings(UP))
    world.loop.ask(lambda: world.told.append("asked"))
    assert world.run()[:4] == ["read", UP, "flush", "asked"]


def test_time_that_is_held_stands_until_it_is_let_go_and_goes_on_where_it_stood() -> None:
    host = [1000.0]
    with mock.patch.object(time, "monotonic", side_effect=lambda: host[0] / 1000):
        clock = StepClock()
        clock.hold()
        host[0] += 700
        assert clock.now() == 1000
        assert clock.host_now() == 1700
        assert clock.until(1060) == inf, "a heartbeat is never due"
        clock.pass_(60)
        assert clock.now() == 1060
        host[0] += 40
        clock.release()
        assert clock.now() == 1060
        host[0] += 5
        assert (clock.now(), clock.until(1070)) == (1065, 5)


def test_held_time_passes_to_a_deadline_that_only_gathers_what_comes_together() -> None:
    clock = StepClock()
    clock.hold()
    now = clock.now()
    assert clock.until(now + 3) == 0
    assert clock.now() == now + 3
    assert clock.until(now) == 0
    assert clock.now() == now + 3, "never back"
    assert clock.until(now + 60) == inf


def test_a_held_node_is_not_taken_for_one_that_stood_still() -> None:
    def as_asked(world: World) -> None:
        world.at += world.waits[-1]

    world = World(*[as_asked] * 5)
    world.until = lambda deadline: inf  # type: ignore[method-assign]
    world.run()
    assert world.at > PAUSE_MS
    assert Resumed() not in world.told
