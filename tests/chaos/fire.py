"""Five real nodes under everything that can be done to processes, links and disks; what must hold is checked all along.

An episode is a cluster of its own. Act after act is drawn, done, answered by a commit (within 2 s of the moment a
majority is up and connected), undone, and every node catches up within 15 s of that (the time its processes were ready
and got no processor left out). Meanwhile clients count, write,
read and play through every node, and a monitor looks on. At the end nothing acknowledged is missing, nothing was done
twice, the history is linearizable, the monitor has every commit once and in order, and five digests are equal.

The wall clock of every node jumps by years all the while (disguise.py): no rule reads one but the monotonic, which
nobody can turn. With namespaces (places.py) partitions are packets that are lost, and disks are small ones that get
full; without, nodes throw away what they hear.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.chaos.harness import QUERIES, Cluster, Watcher, Worker, free_base_port, now_ms, wait_for
from tests.chaos.places import Namespaces, SmallDisks, config_in
from zabzmq.cli.asking import NoAnswer, post
from zabzmq.client.call import Outcome
from zabzmq.client.client import Client
from zabzmq.cluster.supervisor import Supervisor
from zabzmq.core.timing import Timing
from zabzmq.machine.operations import KvQuery, KvValue, Put
from zabzmq.net.client_wire import NodeStatus
from zabzmq.server.config import Config
from zabzmq.server.observe_token import shared_token
from zabzmq.trace.checker import check_history

COMMIT_S: Final = 2.0
CAUGHT_UP_S: Final = 15.0
PAUSE_S: Final = 2.2 * Timing().peer_timeout / 1000
"""Longer than two time-outs."""
PARTITIONS: Final = frozenset({"cut off the leader", "partition", "cut one way"})
OFTEN: Final = {"kill all": 2, "crash storm": 5, "pause two followers": 10, "flap": 6}
"""How much more often than the other acts: most happens in these."""
COUNTERS: Final = 3
NODES: Final = 5


@dataclass
class Burnt:
    """What was done, and what came of it."""

    episodes: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """kills, pauses, partitions, power cuts, slow disks."""
    acknowledged: int = 0
    calls: int = 0
    unknown: int = 0
    slowest_commit_ms: float = 0.0
    slowest_catch_up_ms: float = 0.0

    def add(self, other: Burnt) -> None:
        self.episodes += other.episodes
        self.done += other.done
        self.acknowledged += other.acknowledged
        self.calls += other.calls
        self.unknown += other.unknown
        self.slowest_commit_ms = max(self.slowest_commit_ms, other.slowest_commit_ms)
        self.slowest_catch_up_ms = max(self.slowest_catch_up_ms, other.slowest_catch_up_ms)

    def __str__(self) -> str:
        done = ", ".join(f"{count:,} {what}" for what, count in sorted(self.done.items()))
        return (
            f"{self.episodes} episodes: {done}; {self.acknowledged:,} acknowledged writes, none lost, none doubled; "
            f"{self.calls:,} calls linearizable ({self.unknown} unknown); a commit within {self.slowest_commit_ms:.0f} "
            f"ms, caught up within {self.slowest_catch_up_ms:.0f} ms"
        )


class DisguisedSupervisor(Supervisor):
    """Starts nodes in disguise, and each in its namespace."""

    def __init__(self, config: Config, namespaces: Namespaces | None) -> None:
        super().__init__(config, ["--allow-faults"])
        self._directory = config.log_dir
        self._namespaces = namespaces
        self._listens = config.listen

    def fails(self, node: int) -> Path:
        """The next sync of this node fails once this is there."""
        return self._directory / f"fails-{node}"

    def command(self, node: int, options: Sequence[str]) -> list[str]:
        self.fails(node).unlink(missing_ok=True)
        python, _, _, *rest = super().command(node, options)
        command = [python, "-m", "tests.chaos.disguise", str(self.fails(node)), *rest]
        if self._namespaces is None:
            return command
        return ["ip", "netns", "exec", self._namespaces.name(node), *command, "--host", self._listens(node).host]


class BurningCluster(Cluster):
    """Nodes that can be told to disturb their own messages and disks."""

    supervisor: DisguisedSupervisor

    def __init__(self, directory: Path, namespaces: Namespaces | None = None) -> None:
        config = config_in(namespaces, NODES, directory, free_base_port(NODES)) if namespaces is not None else None
        super().__init__(directory, NODES, config)
        self.namespaces = namespaces
        self.supervisor = DisguisedSupervisor(self.config, namespaces)
        self._token = shared_token(self.config.log_dir)

    def fault(self, node: int, table: dict[str, Any]) -> None:
        """Set the fault table of a node that runs; it may have to finish its start first."""
        listen = self.config.listen(node)

        def told() -> bool:
            try:
                status, said = post(listen.host, listen.observe, "/fault", table, self._token)
            except NoAnswer:
                return False
            assert status == 200, said
            return True

        wait_for(told, 60, f"answer of node {node} to a fault")

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Nothing of `a` is heard at `b`, for every pair (a, b); all other cuts end."""
        if self.namespaces is not None:
            self.namespaces.cut(pairs)
            return
        heard_not: dict[int, set[int]] = {node: set() for node in self.config.ids}
        for a, b in pairs:
            heard_not[b].add(a)
        for node, peers in heard_not.items():
            self.fault(node, {"rules": [{"peer": peer, "cut": "in"} for peer in sorted(peers)]})


class Episode:
    def __init__(self, directory: Path, seed: int, namespaces: Namespaces | None = None) -> None:
        self.dice = Random(seed)
        self.cluster = BurningCluster(directory, namespaces)
        self.disks = SmallDisks(self.cluster.config) if namespaces is not None else None
        self.burnt = Burnt(episodes=1)
        self._slow: tuple[int, ...] = ()

    def run(self, acts: int | list[str], clients: int = 2) -> Burnt:
        """So many acts, drawn; or these."""
        with self.disks or nullcontext(), self.cluster as cluster:
            cluster.leader()
            wait_for(self._all_serve, 60, "all nodes to serve")
            workers = [Worker(cluster, i, COUNTERS, value_bytes=200, outstanding=4) for i in range(clients)]
            watcher = Watcher(cluster)
            threads: list[Watcher | Worker] = [watcher, *workers]
            for thread in threads:
                thread.start()
            with cluster.client("prober") as prober:
                for name in self._drawn(acts) if isinstance(acts, int) else acts:
                    self._act(name, prober)
                    failed = [thread.error for thread in threads if thread.error is not None]
                    assert not failed, failed
            for worker in workers:
                worker.finish()
            wait_for(cluster.agreed, 2 * CAUGHT_UP_S, "agreement of all five nodes")
            self._judge(workers, watcher)
        return self.burnt

    def _drawn(self, count: int) -> list[str]:
        names = list(self.acts)
        return self.dice.choices(names, [OFTEN.get(name, 1) for name in names], k=count)

    @property
    def acts(self) -> dict[str, Callable[[], None]]:
        return {
            "kill the leader": self._kill_leader,
            "kill a follower": self._kill_follower,
            "kill a minority": self._kill_minority,
            "kill all": self._kill_all,
            "crash storm": self._storm,
            "pause the leader": self._pause_leader,
            "pause two followers": self._pause_followers,
            "cut off the leader": self._cut_leader,
            "partition": self._partition,
            "cut one way": self._one_way,
            "flap": self._flap,
            "power cut": self._power_cut,
            "power cut of all": self._power_cut_all,
            "slow disk": self._slow_disk,
            "failing sync": self._failing_sync,
            **({"full disk": self._full_disk} if self.disks is not None else {}),
        }

    # ---- one act

    def _act(self, name: str, prober: Client) -> None:
        try:
            self.acts[name]()
            self._commit(prober, name)
            if name in PARTITIONS:
                time.sleep(self.dice.uniform(0, PAUSE_S))  # not to wait for anything: some are noticed, some are not
            self._heal()
            self._caught_up(name)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error

    def _commit(self, prober: Client, name: str) -> None:
        """A commit within 2 s, once a majority is up: what a process takes to start is not meant."""
        ids = self.cluster.config.ids
        wait_for(lambda: self._answering() > len(ids) // 2, 60, "majority that is up")
        began, waited = now_ms(), self._waited_ms()
        call = prober.do(Put(b"probe", name.encode()))
        took = now_ms() - began - (self._waited_ms() - waited)
        assert call.outcome is Outcome.OK, f"{call.outcome}: {call.text}"
        assert took < COMMIT_S * 1000, f"no commit for {took:.0f} ms with a majority up and connected"
        self.burnt.slowest_commit_ms = max(self.burnt.slowest_commit_ms, took)

    def _heal(self) -> None:
        supervisor = self.cluster.supervisor
        if self.disks is not None:
            self.disks.make_room()
        for node in supervisor.paused:
            supervisor.resume(node)
        supervisor.start_all()
        self.cluster.cut([])
        for node in self._slow:
            self.cluster.fault(node, {})
        self._slow = ()
        wait_for(lambda: self._answering() == len(self.cluster.config.ids), 60, "start of all nodes")

    def _caught_up(self, name: str) -> None:
        """Every node has applied what was committed when all were back."""
        began, waited = now_ms(), self._waited_ms()
        goal = max(status.committed for status in self._statuses())
        wait_for(lambda: self._all_serve(goal), 4 * CAUGHT_UP_S, f"catching up with {goal}")
        took = now_ms() - began - (self._waited_ms() - waited)
        assert took < CAUGHT_UP_S * 1000, f"caught up after {took:.0f} ms"
        self.burnt.slowest_catch_up_ms = max(self.burnt.slowest_catch_up_ms, took)

    def _waited_ms(self) -> float:
        """How long the loops of the nodes that run stood ready and were given no processor: on a busy machine that is
        no fault of theirs. Summed, since they wait for each other."""
        total = 0
        for pid in self.cluster.supervisor.running().values():
            try:
                total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
            except FileNotFoundError:
                continue  # It ended in between.
        return total / 1e6

    def _statuses(self) -> list[NodeStatus]:
        supervisor = self.cluster.supervisor
        asked = [self.cluster.status(node, 500) for node in supervisor.running() if node not in supervisor.paused]
        return [status for status in asked if status is not None]

    def _answering(self) -> int:
        return len(self._statuses())

    def _all_serve(self, goal: tuple[int, int] = (0, 0)) -> bool:
        serving = [s for s in self._statuses() if s.phase == "BROADCAST" and s.applied >= goal]
        return len(serving) == len(self.cluster.config.ids)

    # ---- what can be done

    def _followers(self, count: int) -> tuple[int, list[int]]:
        """The leader, and some of the others."""
        leader = self.cluster.leader()
        return leader, self.dice.sample([node for node in self.cluster.config.ids if node != leader], count)

    def _kill(self, *nodes: int) -> None:
        for node in nodes:
            self.cluster.supervisor.signal(node, 9)
        for node in nodes:
            self.cluster.supervisor.kill(node)
            self.burnt.done["kills"] += 1

    def _kill_leader(self) -> None:
        self._kill(self.cluster.leader())

    def _kill_follower(self) -> None:
        self._kill(*self._followers(1)[1])

    def _kill_minority(self) -> None:
        leader, others = self._followers(2)
        self._kill(*self.dice.choice((others, [leader, others[0]])))

    def _kill_all(self) -> None:
        self._kill(*self.cluster.config.ids)
        self.cluster.supervisor.start_all()

    def _storm(self) -> None:
        """One after another, most of them in the middle of their start."""
        for _ in range(12):
            node = self.dice.choice(self.cluster.config.ids)
            self._kill(node)
            self.cluster.supervisor.start(node)
            time.sleep(self.dice.uniform(0, 0.5))  # not to wait for anything: to hit it somewhere

    def _pause(self, *nodes: int) -> None:
        """For longer than two time-outs; what is done then is done with old news."""
        for node in nodes:
            self.cluster.supervisor.pause(node)
            self.burnt.done["pauses"] += 1
        time.sleep(PAUSE_S)
        for node in nodes:
            self.cluster.supervisor.resume(node)

    def _pause_leader(self) -> None:
        self._pause(self.cluster.leader())

    def _pause_followers(self) -> None:
        self._pause(*self._followers(2)[1])

    def _split(self, few: list[int]) -> None:
        many = [node for node in self.cluster.config.ids if node not in few]
        self.cluster.cut([pair for a in few for b in many for pair in ((a, b), (b, a))])
        self.burnt.done["partitions"] += 1

    def _cut_leader(self) -> None:
        leader, others = self._followers(1)
        self._split(self.dice.choice(([leader], [leader, *others])))

    def _partition(self) -> None:
        self._split(self.dice.sample(list(self.cluster.config.ids), 2))

    def _one_way(self) -> None:
        """One node is heard by nobody, or hears nobody."""
        node = self.dice.choice(self.cluster.config.ids)
        others = [other for other in self.cluster.config.ids if other != node]
        self.cluster.cut(
            [(node, other) for other in others] if self.dice.random() < 0.5 else [(o, node) for o in others]
        )
        self.burnt.done["partitions"] += 1

    def _flap(self) -> None:
        for _ in range(4):
            self._split(self.dice.sample(list(self.cluster.config.ids), self.dice.choice((1, 2))))
            time.sleep(self.dice.uniform(0, 0.4))
            self.cluster.cut([])
            time.sleep(self.dice.uniform(0, 0.2))

    def _power_cut(self) -> None:
        leader, others = self._followers(1)
        for node in self.dice.choice(([leader], others, [leader, *others])):
            self._lose_power(node)

    def _power_cut_all(self) -> None:
        for node in self.cluster.config.ids:
            self.cluster.supervisor.signal(node, 9)
        for node in self.cluster.config.ids:
            self._lose_power(node)
        self.cluster.supervisor.start_all()

    def _lose_power(self, node: int) -> None:
        self.cluster.supervisor.cut_power(node)
        self.burnt.done["power cuts"] += 1

    def _slow_disk(self) -> None:
        """Of the leader and another: 150 ms a sync."""
        leader, others = self._followers(1)
        self._slow = (leader, *others)
        for node in self._slow:
            self.cluster.fault(node, {"disk_ms": 150})
        self.burnt.done["slow disks"] += 2

    def _failing_sync(self) -> None:
        """Of the leader or of a follower: the kernel says that a sync has failed, once (L14)."""
        leader, others = self._followers(1)
        node = self.dice.choice((leader, *others))
        supervisor = self.cluster.supervisor
        supervisor.fails(node).touch()
        wait_for(lambda: node not in supervisor.running(), 30, f"end of node {node} after its sync has failed")
        assert supervisor.codes[node] > 0, f"node {node} ended with {supervisor.codes[node]}"
        self.burnt.done["failed syncs"] += 1

    def _full_disk(self) -> None:
        """Of the leader and another (L15)."""
        assert self.disks is not None
        leader, others = self._followers(1)
        for node in (leader, *others):
            self.disks.fill(node)
        self.burnt.done["full disks"] += 2

    # ---- the end

    def _judge(self, workers: list[Worker], watcher: Watcher) -> None:
        calls = [call for worker in workers for call in worker.history]
        with self.cluster.client("auditor") as client:
            finals = {key: client.ask(KvQuery(key)).result for key in (b"counter-%d" % i for i in range(COUNTERS))}
        unknown = sum(worker.unknown for worker in workers)
        for key, final in finals.items():
            increments = sum(worker.incremented.get(key, 0) for worker in workers)
            assert isinstance(final, KvValue)
            held = int(final.value or b"0")
            assert increments <= held <= increments + unknown, f"{key!r} is {held} after {increments} increments"
        writes = {c.zxid for c in calls if c.zxid is not None and not isinstance(c.asked, QUERIES)}
        if writes:
            seen = wait_for(lambda: _seen(watcher, max(writes)), 30, "the monitor to see every commit")
            assert not writes - seen, f"{len(writes - seen)} acknowledged writes were never shown"
        watcher.finish()
        assert not watcher.gaps
        for before, after in zip(watcher.transactions, watcher.transactions[1:], strict=False):
            assert after.prev == before.zxid, f"the monitor shows {after.zxid} after {before.zxid}"
        verdict = check_history(calls)
        assert verdict.ok and verdict.decided, str(verdict)
        self.burnt.acknowledged += sum(worker.acknowledged for worker in workers)
        self.burnt.calls += len(calls)
        self.burnt.unknown += unknown


def _seen(watcher: Watcher, upto: tuple[int, int]) -> set[tuple[int, int]] | None:
    assert watcher.error is None, watcher.error
    shown = [transaction.zxid for transaction in list(watcher.transactions)]
    return set(shown) if shown and shown[-1] >= upto else None
