"""`node ID`: builds one node from real parts and runs it until it is told to stop. The only place that does so."""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import zabzmq
from zabzmq.cli.colour import NodeLines, is_coloured
from zabzmq.cli.common import Exit, UserError, complain
from zabzmq.cli.node_faults import NodeFaults
from zabzmq.cli.node_notes import prediction
from zabzmq.cli.server_observe import Operations, crash, log_teller, node_state, page_path
from zabzmq.cluster.parent import watch_parent
from zabzmq.core.errors import StorageError, ZabError
from zabzmq.core.history import Epochs
from zabzmq.core.inputs import DiskSpace, EpochsSaved, Input, Space
from zabzmq.core.messages import State
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, PeerId, Zxid
from zabzmq.machine.state import ReplicatedState
from zabzmq.net.client_wire import NodeStatus
from zabzmq.net.endpoints import Endpoints, NetConfig, NetError
from zabzmq.net.sockets import SocketTransport
from zabzmq.server.config import BASE_PORT_MAX, Config
from zabzmq.server.loop import LOOK_UP_MS, Loop, RealClock, stop_on_signals
from zabzmq.server.node import Node
from zabzmq.server.observe import LOOPBACK, Bind, Observe, Parts
from zabzmq.server.observe_feed import Feed
from zabzmq.server.service import Service
from zabzmq.storage.store import Store
from zabzmq.trace.counts import boot_of
from zabzmq.trace.event import EventObserver
from zabzmq.trace.logfile import Drain, LogFile, encode_text
from zabzmq.trace.reading import last_clock
from zabzmq.trace.teller import encode_events

WATCHED_MS: Final = 50.0
"""While somebody watches, events go out at least this often."""
ALONE_AFTER_MS: Final = 3_000.0
ALONE_EVERY_MS: Final = 10_000.0


class ObserveOptions(NamedTuple):
    """What the command line says of the observe endpoint. `enabled` False: there is none."""

    enabled: bool = True
    host: str = LOOPBACK
    allow_hosts: tuple[str, ...] = ()
    allow_faults: bool = False
    step: bool = False
    """Held from its first message on."""


class NodeProcess:
    """One node with its disk, its sockets and its logs, from the first file it opens to the last it closes."""

    def __init__(
        self,
        config: Config,
        id: int,
        options: str = "",
        *,
        bootstrap_all: bool,
        unsafe_rejoin_empty: bool,
        log_format: str,
        observe: ObserveOptions,
    ) -> None:
        """`options`: the common ones that were given, for commands we tell people to type."""
        self._config = config
        self._server = f"python zookeeper_server.py{options}"
        self._id = PeerId(id)
        self._listen = config.listen(id)
        self._clock = RealClock()
        self._timing = Timing()
        self._began = self._clock.now()
        self._bootstrap_all = bootstrap_all
        self._unsafe_rejoin_empty = unsafe_rejoin_empty
        # Rules that are switched off, by name: what such a node shows proves nothing of the protocol.
        self._unsafe = ["rejoin-empty"] if unsafe_rejoin_empty else []
        self._looking_since = self._began
        self._told_alone_at = self._began - ALONE_EVERY_MS
        self._dropped_told: Counter[str] = Counter()
        self._warnings: list[str] = []  # from any thread; told by the loop
        self._parent = watch_parent()
        self._observe_options = observe
        self._faults = NodeFaults(id, config.cluster, config.ids) if observe.allow_faults else None
        self._node_clock = self._clock if self._faults is None else self._faults.clock
        self._endpoint: Observe | None = None
        self._settle: Callable[[], None] = lambda: None  # nothing is observed yet
        self._open_logs(log_format)

    def run(self) -> int:
        """Until SIGINT, SIGTERM, the end of our supervisor, or a failure; the exit code."""
        try:
            code = self._run()
        except ZabError:
            raise
        except Exception as error:
            code = self._bug(error)
        finally:
            self._close_logs()
        if code != Exit.OK:
            # Threads may still hold what failed; nothing more is written, and the disk stays as it is.
            os._exit(code)
        return code

    def _run(self) -> int:
        store = self._store = self._open_store()
        try:
            network = self._network = self._open_network(store)
            epochs = self._rejoin(store) if self._unsafe_rejoin_empty else store.epochs
        except ZabError:
            store.close()
            raise
        node = self._node = self._build(store, network, epochs)
        pause_ms = self._timing.peer_timeout / 2
        loop = self._loop = Loop(node, network, store, pause_ms, self._housekeeping, self._clock, self._node_clock)
        stop_on_signals(loop)
        if self._observe_options.enabled:
            self._open_endpoint(loop)
        self._say_hello(store, epochs)
        if self._faults is not None:
            self._faults.begin(node, hold=self._observe_options.step)
        loop.run()
        now = self._clock.now()
        self._housekeeping(now)
        if self._endpoint is not None:
            self._endpoint.stop()
        network.close()
        if loop.failed is not None:
            self._observer.note(now, f"ERROR {loop.failed}")
            complain(f"node {self._id} stopped: {loop.failed}", (f"its log: {self._log_path('log')}",))
            return Exit.ERROR
        clean = store.close()
        how = "the log is closed" if clean else "WARNING the log could not be closed in time; the next start recovers"
        self._observer.note(now, f"stopped by {loop.stopped_by}; {how}")
        return Exit.OK

    # ---- parts

    def _open_store(self) -> Store:
        try:
            return Store.open(
                self._config.node_data_dir(self._id),
                cluster=self._config.cluster,
                node=self._id,
                voters=self._config.ids,
                wall_us=time.time_ns() // 1000,
                on_fatal=self._warnings.append,
                on_warning=self._warnings.append,
                files=None if self._faults is None else self._faults.disk,
            )
        except StorageError as error:
            raise UserError(str(error)) from None

    def _open_network(self, store: Store) -> SocketTransport:
        nodes = {
            listen.id: Endpoints(listen.endpoint("peer"), listen.endpoint("publish"), listen.endpoint("client"))
            for listen in self._config.listens
        }
        try:
            faults = None if self._faults is None else self._faults.net
            return SocketTransport(NetConfig(self._config.cluster, store.process, nodes), faults)
        except NetError as error:
            other = self._config.base_port + 1000
            if not error.taken:
                raise UserError(str(error), f"is that an address of this machine? see: {self._server} doctor") from None
            choose = f"      or choose: --base-port {other}" if other <= BASE_PORT_MAX else ""
            raise UserError(str(error), f"see: {self._server} status{choose}") from None

    def _rejoin(self, store: Store) -> Epochs:
        """L20: let an empty node count although it may have forgotten promises and acks. Told loudly."""
        if store.epochs.joined:
            return store.epochs
        epochs = count_again(store)
        self._warnings.append(
            f"--unsafe-rejoin-empty: node {self._id} lost its disk and counts again at once. "
            "What only lost disks held is gone, acknowledged or not."
        )
        return epochs

    def _build(self, store: Store, network: SocketTransport, epochs: Epochs) -> Node:
        config, state = self._config, ReplicatedState()
        peer = Peer(
            store.process,
            Voters(config.ids),
            store.history,
            epochs,
            random.Random(),
            self._timing,
            config_id=config.config_id,
            bootstrap_all=self._bootstrap_all,
            unsafe_rejoin_empty=self._unsafe_rejoin_empty,
        )
        service = Service(
            node=self._id,
            cluster=config.cluster,
            endpoints=config.client_endpoints,
            state=state,
            status=self._status,
            batches=store.batches,
            near=store.near,
            base=lambda: peer.history.base,
        )
        # Goes on where the process before ended, so that the events of one node stay in order (docs/events.md).
        network.lamport.heard(last_clock(Path(self._log_path("jsonl"))))
        observer = self._observer = EventObserver(
            store.process,
            self._gathered.append,
            self._put_line,
            self._time_of_day,
            epoch=store.epochs.current,
            lamport=network.lamport,
        )
        observer.is_watched = self._is_watched
        observer.watch(peer, state.game_status, state.sessions.name)
        if self._faults is not None:
            self._faults.watch(observer)
        self._settle = observer.settle
        return Node(peer, state, service, network, store, self._node_clock, observer)

    def _open_endpoint(self, loop: Loop) -> None:
        options = self._observe_options
        assert self._observer.seq == 0, "the first event is the first of the stream"
        feed = Feed(self._observer.boot)
        parts = Parts(
            state=self._state,
            log=self._read_log,
            crash=self._crash if options.allow_faults else None,
            ask=loop.ask,
            submit=Operations(self._config, self._id, self._leader).submit,
            warn=self._warnings.append,
            now=self._clock.now,
            fault=None if self._faults is None else self._faults.set,
            hold=None if self._faults is None else self._faults.hold,
            deliver=None if self._faults is None else self._faults.deliver,
            note=self._note,
        )
        bind = Bind(self._id, options.host, self._listen.observe, options.allow_hosts)
        self._endpoint = Observe(bind, parts, feed, self._config.log_dir, page_path())
        self._endpoint.start()

    def _leader(self) -> int | None:
        """From any thread: one look at one value that is never changed in place."""
        leader = self._node.peer.phase.leader
        return None if leader is None else leader.peer

    # ---- what the endpoint asks; in the loop

    def _state(self) -> dict[str, Any]:
        self._flush_logs()  # so that the state and the stream stand at one event
        lost = sum(drain.dropped for drain in self._drains())
        now, status = self._clock.now(), self._status(0)
        parts = self._config, self._node, self._observer, status, now
        return node_state(*parts, faults=self._faults, log_dropped=lost, unsafe=self._unsafe)

    def _read_log(self, after: Zxid) -> Callable[[], dict[str, Any]]:
        return log_teller(self._node.service.committed_range(0, after, ZERO), after)

    def _crash(self) -> None:
        self._observer.fault(self._clock.now(), "crash")
        self._flush_logs()
        crash()

    def _note(self, body: bytes) -> dict[str, Any]:
        said = prediction(body, self._id, self._config.ids)
        self._observer.note(self._clock.now(), said.text, **said.fields)
        self._flush_logs()
        return {"v": 1, "node": self._id, "boot": self._observer.boot, "seq": self._observer.seq}

    def _status(self, rid: int) -> NodeStatus:
        return self._node.status(
            rid,
            cluster=self._config.cluster,
            pid=os.getpid(),
            uptime_ms=int(self._clock.now() - self._began),
            boot=boot_of(self._store.process),
            dropped=dict(self._network.dropped),
            held=None if self._faults is None else self._faults.held_count,
        )

    def _is_watched(self) -> bool:
        """Whether somebody reads the events as they come."""
        return self._screen_events is not None or (self._endpoint is not None and self._endpoint.watchers > 0)

    # ---- every now and then

    def _housekeeping(self, now: float) -> str | None:
        """Tell what there is to tell; returns why the loop should end."""
        while self._warnings:
            self._observer.note(now, f"WARNING {self._warnings.pop(0)}")
        dropped = self._network.dropped
        if dropped != self._dropped_told:
            news = dropped - self._dropped_told
            self._dropped_told = Counter(dropped)
            self._observer.frames_dropped(now, news)
        if self._faults is not None:
            self._faults.tell(now)
        self._tell_when_alone(now)
        self._observer.idle(now)
        self._flush_logs()
        self._loop.look_up_ms = WATCHED_MS if self._is_watched() else LOOK_UP_MS
        return "the end of its supervisor" if self._parent is not None and self._parent.is_gone else None

    def _tell_when_alone(self, now: float) -> None:
        """A node that waits for others says whom it hears, how many it needs, and what to do."""
        peer = self._node.peer
        if peer.phase.state is not State.LOOKING:
            self._looking_since = now
            return
        if now - self._looking_since < ALONE_AFTER_MS or now - self._told_alone_at < ALONE_EVERY_MS:
            return
        self._told_alone_at = now
        voters = peer.voters
        up = sorted([self._id, *(id for id, contact in peer.contacts.items() if contact.mesh_up)])
        empty = [id for id in up if id != self._id and (note := peer.contacts[id].note) is not None and not note.joined]
        rest = [id for id in voters.ids if id not in empty]
        if not voters.is_quorum(up):
            down = [id for id in voters.ids if id not in up]
            self._observer.note(
                now,
                f"no quorum: {len(up)} of {len(voters.ids)} nodes are up ({_ids(up)}), {voters.needed} are needed; "
                f"not heard: {_ids(down)}. Start one: {self._server} node {down[0]}",
                what="alone",
                up=up,
                need=voters.needed,
            )
        elif peer.epochs.joined and peer.epochs.current > 0 and not voters.is_quorum(rest):
            # L20: only people can know whether the lost disks come back.
            self._observer.note(
                now,
                f"WARNING a majority has lost its disks: {_ids(empty)} are empty and may not count, and {_ids(rest)} "
                "are no quorum. Bring the lost disks back. Or give up what only they held, and start all nodes "
                "again with --unsafe-rejoin-empty",
                what="majority lost",
                empty=empty,
                need=voters.needed,
            )
        elif silent := [id for id in up if id != self._id and peer.contacts[id].note is None]:
            self._observer.note(
                now,
                f"no votes come from {_ids(silent)}, which can be reached: they do not know where this node is. In the "
                f"cluster.toml they were started with, node {self._id} must be at {self._listen.endpoint('peer')}",
                what="unanswered",
                silent=silent,
            )

    def _say_hello(self, store: Store, epochs: Epochs) -> None:
        listen = self._listen
        self._observer.boot_event(
            self._clock.now(),
            f'node {self._id} of cluster "{self._config.cluster}", pid {os.getpid()}: peers on {listen.host}:'
            f"{listen.peer}, clients on {listen.client}; {self._config.node_data_dir(self._id)} holds "
            f"{store.history.last}",
            pid=os.getpid(),
            wall_ms=self._clock.wall_ms(),
            cluster=self._config.cluster,
            voters=list(self._config.ids),
            life=f"{store.life:x}",
            incarnation=store.process.incarnation,
            z=store.history.last,
            snapshot=store.history.snapshot,
            accepted=epochs.accepted,
            current=epochs.current,
            joined=epochs.joined,
            version=zabzmq.__version__,
            faults=self._observe_options.allow_faults,
            unsafe=self._unsafe,
        )

    # ---- logs

    def _log_path(self, ending: str) -> str:
        return str(self._config.log_dir / f"node-{self._id}.{ending}")

    def _open_logs(self, log_format: str) -> None:
        try:
            self._config.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._warnings.append(f"nothing is written to {self._config.log_dir}: {error.strerror}")
        text = LogFile(self._config.log_dir / f"node-{self._id}.log")
        events = LogFile(self._config.log_dir / f"node-{self._id}.jsonl")
        self._text = Drain[str](encode_text, text.write, "text-log")
        self._gathered: list[str] = []
        self._events = Drain[str](encode_events, events.write, "event-log")
        self._paint: Callable[[str], str] = NodeLines() if is_coloured(sys.stdout) else str
        self._screen_text = Drain[str](encode_text, _to_screen, "screen") if log_format == "text" else None
        show = _to_screen if log_format == "json" else self._show_in_words() if log_format == "words" else None
        self._screen_events = None if show is None else Drain[str](encode_events, show, "screen")

    def _show_in_words(self) -> Callable[[bytes], None]:
        from zabzmq.cli.node_words import InWords

        in_words = InWords(self._time_of_day, self._paint)
        return lambda block: _to_screen(in_words(block))

    def _put_line(self, line: str) -> None:
        self._text.put(line)
        if self._screen_text is not None:
            self._screen_text.put(self._paint(line))

    def _drains(self) -> list[Drain[Any]]:
        return [d for d in (self._text, self._events, self._screen_text, self._screen_events) if d is not None]

    def _flush_logs(self) -> None:
        """Hand on what was gathered: events are encoded once for all who take them."""
        self._settle()
        events = self._gathered
        if events:
            block, count = encode_events(events), len(events)
            self._events.feed(block, count)
            if self._screen_events is not None:
                self._screen_events.feed(block, count)
            if self._endpoint is not None:
                last = self._observer.seq
                unbroken = min(count, last + 1 - self._observer.unbroken)
                if unbroken < count:
                    block = encode_events(events[-unbroken:])
                self._endpoint.feed.publish(last + 1 - unbroken, unbroken, block)
            events.clear()
        self._text.flush()
        if self._screen_text is not None:
            self._screen_text.flush()

    def _close_logs(self) -> None:
        self._flush_logs()
        for drain in self._drains():
            drain.close()

    def _time_of_day(self, now: float) -> str:
        """That moment of the node's clock as people read it."""
        wall = time.time() - (self._clock.now() - now) / 1000
        return f"{time.strftime('%H:%M:%S', time.localtime(wall))}.{int(wall % 1 * 1000):03}"

    def _bug(self, error: Exception) -> int:
        """A bug of ours: stop at once and leave the disk as it is (no closing marks). Where it was goes to the log."""
        self._text.put("".join(traceback.format_exception(error)))
        what = str(error) or type(error).__name__
        complain(f"internal error on node {self._id}: {what}", (f"where: the end of {self._log_path('log')}",))
        return Exit.ERROR


def count_again(store: Store) -> Epochs:
    """Let META say that this node counts, and wait until it does. Raises UserError when it cannot be written."""
    epochs = store.epochs._replace(joined=True)
    store.save_epochs(0, epochs)
    heard: list[Input] = []
    while not any(isinstance(event, EpochsSaved) for event in heard):
        if store.failed is not None:
            raise UserError(store.failed)
        if DiskSpace(Space.FULL) in heard:
            raise UserError(f"no room to write that node {store.process.peer} counts again. Make room on its disk.")
        time.sleep(0.001)
        heard += store.drain()
    # How full the disk is comes unasked, and once.
    store.put_back([event for event in heard if not isinstance(event, EpochsSaved)])
    return epochs


def _ids(ids: list[PeerId]) -> str:
    return " ".join(map(str, ids))


def _to_screen(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
