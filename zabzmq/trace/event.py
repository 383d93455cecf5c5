"""What a node says: every step of a peer as events for programs and, where it matters, one line for people.

`Observer` is what a node calls. `EventObserver` turns inputs and effects into the event objects described in
docs/events.md (one JSON object a line, per batch, never per operation) and into readable lines. It keeps no file:
finished lines go to the two sinks it was given, which must not wait (trace/logfile.py).

Messages on a link are matched without anything on the wire: a link is FIFO or lost, so the k-th message sent into
it is the k-th heard from it, and both ends name it alike (`mid`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from zlib import crc32

import msgspec
from msgspec import Raw, Struct

from zabzmq.core.effects import (
    Append,
    Busy,
    CloseLink,
    Effect,
    Fail,
    InstallSnapshot,
    Moved,
    OpenLink,
    Proposed,
    Publish,
    Quiesce,
    Report,
    SaveEpochs,
    Send,
    SendVote,
    StageSnapshot,
    Truncate,
)
from zabzmq.core.inputs import (
    DiskSpace,
    Durable,
    EpochsSaved,
    Input,
    LinkLost,
    MeshDown,
    MeshUp,
    Quiesced,
    Received,
    Resumed,
    SnapshotInstalled,
    SnapshotTaken,
    Space,
)
from zabzmq.core.messages import (
    WIRE_NAMES,
    Ack,
    Commit,
    HbEcho,
    Heartbeat,
    Notification,
    Phase,
    Propose,
    PubMessage,
    State,
)
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid
from zabzmq.trace.words import (
    encode_json,
    operands,
    operations,
    plain,
    span,
    told,
    vote_fields,
    vote_text,
    word,
)

BEATS_EVERY_MS: Final = 1000.0
"""Heartbeats and their echoes are told as one count a second."""

LINES_PER_SECOND: Final = 20

PLACE_NAMES: Final = {
    Phase.QUIESCE: "quiesce",
    Phase.ELECTION: "election",
    Phase.DISCOVERY: "discovery",
    Phase.SYNCHRONIZATION: "sync",
    Phase.BROADCAST: "broadcast",
}


class Event(Struct, omit_defaults=True, gc=False):
    """What happens for every batch, in the shape it has on disk; everything rarer comes as ready JSON."""

    v: int
    n: int
    boot: str
    seq: int
    t: float
    lc: int
    k: str
    type: str | None = None
    source: int | None = msgspec.field(default=None, name="from")
    to: int | None = None
    mid: str | None = None
    z: Zxid | None = None
    z0: Zxid | None = None
    count: int | None = None
    prev: Zxid | None = None
    epoch: int | None = None
    committed: Zxid | None = None
    ms: float | None = None
    state: str | None = None


def encode_events(events: list[Event | Raw]) -> bytes:
    """Events as lines of JSON."""
    return _encoder.encode_lines(events)


_encoder = msgspec.json.Encoder()


class Observer(Protocol):
    """Who watches a node. Called after the step and before its effects are performed; it must not wait or raise."""

    def on_step(self, now: float, event: Input, effects: list[Effect]) -> None: ...

    def on_applied(self, now: float, zxid: Zxid, digest: int) -> None:
        """The replicated state stands at `zxid` now."""


def boot_of(process: ProcessId) -> str:
    """Four hex digits that tell the runs of one node apart."""
    return f"{crc32(f'{process.life}/{process.incarnation}'.encode()) & 0xFFFF:04x}"


class LineBudget:
    """At most so many lines a second; what was held back is counted and told when the second is over."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second_ends = 0.0
        self._used = 0
        self.held_back = 0

    def admits(self, now: float) -> bool:
        if now >= self._second_ends:
            self._second_ends = now + 1000.0
            self._used = 0
        self._used += 1
        if self._used <= self._per_second:
            return True
        self.held_back += 1
        return False

    def over(self, now: float) -> int:
        """How many were held back in a second that is now over; 0 when there is nothing to tell."""
        if self.held_back == 0 or now < self._second_ends:
            return 0
        held, self.held_back = self.held_back, 0
        return held


class _LinkCount:
    """Names the messages of one link, in each direction by their place."""

    __slots__ = ("name", "our_mark", "peer", "received", "sent", "their_mark")

    def __init__(self, link: LinkId, me: PeerId, peer: PeerId | None) -> None:
        self.name = f"{link.learner.peer}-{boot_of(link.learner)}-{link.number}"
        up = link.learner.peer == me
        self.our_mark, self.their_mark = ("u", "d") if up else ("d", "u")
        self.peer = peer if up else link.learner.peer
        self.sent = 0
        self.received = 0


class EventObserver:
    """Turns the steps of one node into events and lines.

    `events` takes what `encode_events` makes lines of, `lines` whole lines for people. `time_of_day` gives the stamp
    of a line; `t` of an event is the monotonic clock that all processes of a host share, in seconds.
    """

    def __init__(
        self,
        process: ProcessId,
        events: Callable[[Event | Raw], None],
        lines: Callable[[str], None],
        time_of_day: Callable[[], str],
        epoch: int = 0,
    ) -> None:
        self.process = process
        self.boot = boot_of(process)
        self.seq = 0
        self.lamport = 0
        self._node = process.peer
        self._now = self._t = 0.0  # of the last event, as it came and as it is told
        self._proposal: tuple[Propose | None, Zxid | None, Zxid | None, int | None] = (None, None, None, None)
        self._events = events
        self._lines = lines
        self._time_of_day = time_of_day
        self._budget = LineBudget(LINES_PER_SECOND)
        self._state = State.LOOKING
        self._phase = Phase.ELECTION
        self._epoch = epoch
        self._leader: ProcessId | None = None
        self._links: dict[LinkId, _LinkCount] = {}
        self._writing: deque[tuple[Zxid, float]] = deque()  # appends not yet durable, and when they were asked for
        self._meta_since = 0.0
        self._beats: dict[tuple[str, str, int], int] = {}
        self._beats_told = 0.0
        self._vote_sent: tuple[object, ...] = ()
        self._votes_heard: dict[PeerId, tuple[object, ...]] = {}
        self._inputs: dict[type, Callable[[float, Any], None]] = {
            Received: self._on_received,
            Durable: self._on_durable,
            EpochsSaved: self._on_epochs_saved,
            LinkLost: self._on_link_lost,
            MeshUp: self._on_mesh_up,
            MeshDown: self._on_mesh_down,
            Quiesced: self._on_quiesced,
            SnapshotInstalled: self._on_snapshot_installed,
            SnapshotTaken: self._on_snapshot_taken,
            DiskSpace: self._on_disk_space,
            Resumed: self._on_resumed,
        }
        self._effects: dict[type, Callable[[float, Any], None]] = {
            Send: self._on_send,
            SendVote: self._on_send_vote,
            Publish: self._on_publish,
            Append: self._on_append,
            SaveEpochs: self._on_save_epochs,
            Proposed: self._on_proposed,
            Truncate: self._on_truncate,
            StageSnapshot: self._on_stage_snapshot,
            InstallSnapshot: self._on_install_snapshot,
            OpenLink: self._on_open_link,
            CloseLink: self._on_close_link,
            Quiesce: self._on_quiesce,
            Busy: self._on_busy,
            Moved: self._on_moved,
            Report: self._on_report,
            Fail: self._on_fail,
        }

    # ---- what the node calls ---------------------------------------------------------------------------------

    def on_step(self, now: float, event: Input, effects: list[Effect]) -> None:
        heard = self._inputs.get(type(event))
        if heard is not None:
            heard(now, event)
        for effect in effects:
            done = self._effects.get(type(effect))
            if done is not None:
                done(now, effect)

    def on_applied(self, now: float, zxid: Zxid, digest: int) -> None:
        event = self._hot(now, "apply")
        event.z = zxid
        event.state = f"{digest:016x}"
        if self._budget.admits(now):
            self._line(f"applied {zxid}, state {digest >> 48:04x}")

    def boot_event(self, now: float, text: str, **fields: Any) -> None:
        """The first event of a process; `text` is its line."""
        self._event(now, "boot", fields)
        self._line(text)

    def note(self, now: float, text: str, **fields: Any) -> None:
        """Something the node's surroundings want told."""
        self._event(now, "note", {"text": text, **fields})
        self._line(text)

    def idle(self, now: float) -> None:
        """Called now and then: tell what was only counted so far."""
        if now - self._beats_told >= BEATS_EVERY_MS:
            self._beats_told = now
            self._tell_beats(now)
        held = self._budget.over(now)
        if held:
            self._line(f"... {held} more")

    def _tell_beats(self, now: float) -> None:
        for (kind, name, peer), count in self._beats.items():
            other = "to" if kind == "send" else "from"
            self._event(now, kind, {"type": name, other: peer if peer >= 0 else None, "count": count})
        self._beats.clear()

    # ---- the lines of both logs ------------------------------------------------------------------------------

    def _hot(self, now: float, kind: str) -> Event:
        """A new event, to be filled in: for what happens with every batch."""
        self.seq += 1
        self.lamport += 1
        if now != self._now:
            self._now = now
            self._t = round(now / 1000, 6)
        event = Event(1, self._node, self.boot, self.seq, self._t, self.lamport, kind)
        self._events(event)
        return event

    def _event(self, now: float, kind: str, fields: Mapping[str, Any]) -> None:
        """An event with operands of its own."""
        self.seq += 1
        self.lamport += 1
        head = {"v": 1, "n": self.process.peer, "boot": self.boot, "seq": self.seq, "t": round(now / 1000, 6)}
        self._events(Raw(encode_json({**head, "lc": self.lamport, "k": kind, **plain(fields)})))

    def _line(self, text: str) -> None:
        place = f"{self._state.name:<9}  {PLACE_NAMES[self._phase]:<9}"
        self._lines(f"{self._time_of_day()}  n{self.process.peer} e{self._epoch} {place}  {text}\n")

    def _maybe_line(self, now: float, text: str) -> None:
        if self._budget.admits(now):
            self._line(text)

    # ---- inputs ----------------------------------------------------------------------------------------------

    def _on_received(self, now: float, event: Received) -> None:
        source, link, message = event
        kind = type(message)
        if kind is Heartbeat or kind is HbEcho:
            if link is not None:
                self._link(link, source.peer).received += 1
            beat = ("recv", WIRE_NAMES[kind], source.peer)
            self._beats[beat] = self._beats.get(beat, 0) + 1
            return
        if isinstance(message, Notification):
            self._on_vote_heard(now, source.peer, message)
            return
        mid = None
        if link is not None:
            count = self._link(link, source.peer)
            count.received += 1
            mid = f"{count.name}-{count.their_mark}{count.received}"
        if isinstance(message, Propose | Ack | Commit):
            event_ = self._hot(now, "recv")
            event_.type = WIRE_NAMES[kind]
            event_.source = source.peer
            event_.mid = mid
            self._fill(event_, message)
        else:
            fields = {"type": WIRE_NAMES[kind], "from": source.peer, "mid": mid}
            self._event(now, "recv", {**fields, **operands(message)})
        if self._budget.admits(now):
            text = told(message)
            if text:
                self._line(f"recv {text} from {source.peer}")

    def _on_vote_heard(self, now: float, peer: PeerId, note: Notification) -> None:
        content = (note.state, note.round, note.vote, note.leader)
        if self._votes_heard.get(peer) == content:
            return
        self._votes_heard[peer] = content
        self._event(now, "recv", {"type": "NOTIFICATION", "from": peer, **vote_fields(note)})

    def _on_durable(self, now: float, event: Durable) -> None:
        zxid = event.zxid
        since = now
        while self._writing and self._writing[0][0] <= zxid:
            since = self._writing.popleft()[1]
        ms = now - since
        told_ = self._hot(now, "persist")
        told_.z = zxid
        told_.ms = round(ms, 3)
        if self._budget.admits(now):
            ack = f", ACK {zxid} to {self._leader.peer}" if self._leader and self._state is State.FOLLOWING else ""
            self._line(f"fsync {zxid} in {ms:.1f} ms{ack if self._phase is Phase.BROADCAST else ''}")

    def _on_epochs_saved(self, now: float, event: EpochsSaved) -> None:
        epochs = event.epochs
        fields = {"accepted": epochs.accepted, "current": epochs.current, "joined": epochs.joined}
        self._event(now, "persist", {"what": "epochs", **fields, "ms": round(now - self._meta_since, 3)})

    def _on_link_lost(self, now: float, event: LinkLost) -> None:
        known = self._links.pop(event.link, None)
        peer = known.peer if known else event.link.learner.peer
        self._event(now, "drop", {"what": "link", "link": event.link, "peer": peer, "why": event.why})
        self._maybe_line(now, f"link with {peer} lost: {event.why}")

    def _on_mesh_up(self, now: float, event: MeshUp) -> None:
        self._event(now, "note", {"what": "mesh", "peer": event.peer, "up": True})

    def _on_mesh_down(self, now: float, event: MeshDown) -> None:
        self._votes_heard.pop(event.peer, None)
        self._event(now, "note", {"what": "mesh", "peer": event.peer, "up": False})
        self._maybe_line(now, f"connection to node {event.peer} is down")

    def _on_quiesced(self, now: float, event: Quiesced) -> None:
        self._writing.clear()
        self._event(now, "persist", {"what": "quiesced", "z": event.history.last, **event.epochs._asdict()})

    def _on_snapshot_installed(self, now: float, event: SnapshotInstalled) -> None:
        self._event(now, "snap", {"what": "installed", "z": event.zxid})
        self._line(f"snapshot {event.zxid} installed")

    def _on_snapshot_taken(self, now: float, event: SnapshotTaken) -> None:
        self._event(now, "snap", {"what": "taken", "z": event.zxid, "base": event.base})
        self._line(f"snapshot {event.zxid} written, log kept from {event.base}")

    def _on_disk_space(self, now: float, event: DiskSpace) -> None:
        self._event(now, "note", {"what": "disk", "level": event.level.name})
        if event.level is Space.OK:
            self._line("disk: enough space again")
        else:
            says = "clients are told BUSY" if event.level is Space.LOW else "this node resigns and does not lead"
            self._line(f"WARNING disk nearly full ({event.level.name}): {says}")

    def _on_resumed(self, now: float, event: Resumed) -> None:
        self._event(now, "timer", {"what": "resumed"})
        self._line("WARNING this process stood still; its sockets were drained first (F5)")

    # ---- effects ---------------------------------------------------------------------------------------------

    def _on_send(self, now: float, effect: Send) -> None:
        link, message = effect
        count = self._link(link, None)
        count.sent += 1
        kind = type(message)
        name = WIRE_NAMES[kind]
        if kind is Heartbeat or kind is HbEcho:
            beat = ("send", name, -1 if count.peer is None else count.peer)
            self._beats[beat] = self._beats.get(beat, 0) + 1
            return
        mid = f"{count.name}-{count.our_mark}{count.sent}"
        if isinstance(message, Propose | Ack):
            event = self._hot(now, "send")
            event.type = name
            event.to = count.peer
            event.mid = mid
            self._fill(event, message)
            return
        self._event(now, "send", {"type": name, "to": count.peer, "mid": mid, **operands(message)})
        text = told(message)
        if text:
            self._maybe_line(now, f"send {text} to {count.peer}")

    def _on_send_vote(self, now: float, effect: SendVote) -> None:
        note = effect.message
        content = (note.state, note.round, note.vote, note.leader)
        if content == self._vote_sent:
            return
        changed = note.state is State.LOOKING and content[1:3] != self._vote_sent[1:3]
        self._vote_sent = content
        self._event(now, "vote" if changed else "send", {"type": "NOTIFICATION", **vote_fields(note)})
        if changed:
            self._maybe_line(now, f"round {note.round}: vote {vote_text(note.vote)}")

    def _on_publish(self, now: float, effect: Publish) -> None:
        message: PubMessage = effect.message
        if isinstance(message, Commit):
            event = self._hot(now, "commit")
            event.z = message.zxid
            event.epoch = message.epoch
            if self._budget.admits(now):
                self._line(f"COMMIT {message.zxid}: a quorum has it on disk")
        else:
            beat = ("send", "HEARTBEAT", -1)
            self._beats[beat] = self._beats.get(beat, 0) + 1

    def _on_append(self, now: float, effect: Append) -> None:
        self._writing.append((effect.batches[-1].last, now))

    def _on_save_epochs(self, now: float, effect: SaveEpochs) -> None:
        self._meta_since = now

    def _on_proposed(self, now: float, effect: Proposed) -> None:
        batch = effect.batch
        event = self._hot(now, "propose")
        event.z0 = batch.first
        event.z = batch.last
        event.count = batch.count
        event.prev = batch.prev
        if self._budget.admits(now):
            self._line(f"PROPOSE {span(batch.first, batch.last)}{operations(batch.count)}")

    def _on_truncate(self, now: float, effect: Truncate) -> None:
        self._event(now, "truncate", {"z": effect.to})
        self._line(f"TRUNC: the log is cut back to {effect.to}")

    def _on_stage_snapshot(self, now: float, effect: StageSnapshot) -> None:
        if effect.offset == 0:
            self._event(now, "snap", {"what": "receiving"})

    def _on_install_snapshot(self, now: float, effect: InstallSnapshot) -> None:
        self._event(now, "snap", {"what": "installing", "z": effect.mark.zxid, "bytes": effect.size})

    def _on_open_link(self, now: float, effect: OpenLink) -> None:
        self._link(effect.link, effect.peer)
        self._event(now, "note", {"what": "link", "link": effect.link, "peer": effect.peer})

    def _on_close_link(self, now: float, effect: CloseLink) -> None:
        known = self._links.pop(effect.link, None)
        peer = known.peer if known else effect.link.learner.peer
        self._event(now, "drop", {"what": "link", "link": effect.link, "peer": peer, "why": effect.why})

    def _on_quiesce(self, now: float, effect: Quiesce) -> None:
        self._event(now, "note", {"what": "quiesce", "role": effect.role})

    def _on_busy(self, now: float, effect: Busy) -> None:
        self._event(now, "client", {"what": "busy", "why": effect.why, "leading": effect.leading})

    def _on_moved(self, now: float, effect: Moved) -> None:
        self._state, self._phase, self._epoch, self._leader = effect[:4]
        leader = None if effect.leader is None else effect.leader.peer
        fields = {"role": effect.state, "phase": effect.phase, "epoch": effect.epoch, "leader": leader}
        self._event(now, "state", {**fields, "why": effect.why})
        if effect.phase is not Phase.QUIESCE or effect.why:
            led = f" (leader {leader})" if effect.state is State.FOLLOWING and leader is not None else ""
            self._line(f"{effect.why or 'moved'}{led}")

    def _on_report(self, now: float, effect: Report) -> None:
        self._event(now, effect.kind, effect.fields)
        words = " ".join(f"{name}={word(value)}" for name, value in effect.fields.items())
        self._maybe_line(now, f"{effect.kind}: {words}" if words else effect.kind)

    def _on_fail(self, now: float, effect: Fail) -> None:
        self._state = State.FAILED
        self._event(now, "state", {"role": State.FAILED, "phase": self._phase, "epoch": self._epoch, "why": effect.why})
        self._line(f"ERROR {effect.why}")

    def _link(self, link: LinkId, peer: PeerId | None) -> _LinkCount:
        count = self._links.get(link)
        if count is None:
            count = self._links[link] = _LinkCount(link, self.process.peer, peer)
        elif count.peer is None:
            count.peer = peer
        return count

    def _fill(self, event: Event, message: Propose | Ack | Commit) -> None:
        """The operands of what is said for every batch. A leader says one proposal to many links."""
        event.epoch = message.epoch
        if not isinstance(message, Propose):
            event.z = message.zxid
            return
        if self._proposal[0] is not message:
            batches = message.batches
            first, last = (batches[0].first, batches[-1].last) if batches else (None, None)
            self._proposal = (message, first, last, sum(batch.count for batch in batches))
        _, event.z0, event.z, event.count = self._proposal
        event.committed = message.committed
