"""What a node says of one step of its peer: an event for the input, and one for each effect that matters; for people,
a line where it matters to them.

Messages are matched without a name on the wire: a link is FIFO or lost, so the k-th message sent into it is the k-th
heard from it; votes are numbered by who casts them, and a commit is known by its zxid. Both ends name them alike
(`mid`). Their order is told by the Lamport clock that every message carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

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
from zabzmq.core.history import Batch
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
    Request,
    Resumed,
    SnapshotInstalled,
    SnapshotTaken,
    Space,
    Tick,
)
from zabzmq.core.messages import (
    WIRE_NAMES,
    Ack,
    AckEpoch,
    AckNewLeader,
    Commit,
    HbEcho,
    Message,
    Notification,
    Phase,
    Propose,
    PubMessage,
    State,
    Vote,
)
from zabzmq.core.zxid import LinkId, PeerId, ProcessId, Zxid
from zabzmq.trace.asked import NameOf, asked, is_play, outcome
from zabzmq.trace.books import Applied, Books, Step
from zabzmq.trace.counts import boot_of
from zabzmq.trace.support import pair
from zabzmq.trace.why import why_of
from zabzmq.trace.words import (
    encode_json,
    operands,
    operations,
    span,
    told,
    vote_fields,
    vote_operands,
    vote_text,
    word,
)

BOOTS_KEPT: Final = 64
_WIRE_NAME_OF: Final = {kind.__name__: name for kind, name in WIRE_NAMES.items()}

KINDS: Final = frozenset(
    ("boot", "state", "send", "recv", "drop", "persist", "propose", "ack", "commit", "apply", "truncate", "snap")
    + ("vote", "timer", "client", "fault", "hold", "invariant", "note")
)


class Steps(Books):
    """Tells steps, one after another."""

    def __init__(
        self,
        process: ProcessId,
        events: Callable[[str], None],
        lines: Callable[[str], None],
        time_of_day: Callable[[float], str],
        epoch: int,
    ) -> None:
        super().__init__(process, events, lines, time_of_day, epoch)
        self._proposal: tuple[Propose | None, str] = (None, "")  # the last one, and its operands
        self._leader: ProcessId | None = None
        self._meta_since = 0.0
        self._name_of: NameOf = lambda session: None
        self._game_told: dict[str, Any] | None = None
        self._step: Input = Tick()
        self._vote: tuple[int, Vote | None] | None = None  # as last told: round and vote
        self._disk_is_full = False
        self._boots: dict[ProcessId, str] = {}
        self._inputs: dict[type, Callable[[float, Any], None]] = {
            Tick: lambda now, event: None,
            Request: self._on_request,
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

    def _tell_step(self, step: Step) -> None:
        now, stamp, event, effects, committed = step
        self._at(now, stamp)
        if isinstance(event, Applied):
            self._on_applied(now, event)
            return
        self._step = event
        heard = self._inputs.get(type(event))
        if heard is not None:
            heard(now, event)
        if effects and type(event) is Tick:
            self._on_timer(now, effects)
        for effect in effects:
            done = self._effects.get(type(effect))
            if done is not None:
                done(now, effect)
        if committed > self._committed:
            self._on_watermark(now, committed)

    def _on_applied(self, now: float, applied: Applied) -> None:
        batch, digest, game = applied
        last = batch.last
        span_ = f'"z0":{pair(batch.first)},"z":{pair(last)},"count":{batch.count}'
        news, before = "", self._game_told
        if game != before:
            self._game_told = game
            news = f',"game":{str(encode_json(game), "utf-8")}'
        self._tell(f'"apply",{span_},"digest":"{digest:016x}"{news}')
        if self._is_answered(batch):
            self._tell(f'"client","what":"ok",{span_}')
        if self._budget.admits(now):
            self._line(f"applied {last}{self._became(batch, before, game)}, state {digest >> 48:04x}")

    def _became(self, batch: Batch, before: dict[str, Any] | None, game: dict[str, Any] | None) -> str:
        """What was applied, and what came of it."""
        wanted = asked((batch,), self._name_of)
        if not wanted:
            return operations(batch.count)
        came = outcome(before, game) if is_play(wanted) else ""
        return f": {wanted}, {came}" if came and came != wanted else f": {wanted}"

    # ---- inputs ----------------------------------------------------------------------------------------------

    def _on_received(self, now: float, event: Received) -> None:
        source, link, message = event
        kind = type(message)
        peer = source.peer
        mid = ""
        if link is not None:
            count = self._link(link, peer)
            count.received += 1
            mid = f'{count.name}-{count.their_mark}{count.received}"'
        if self._is_beat("recv", kind, peer):
            if kind is HbEcho:
                self._support.echoed[peer] = now
            return
        if type(message) is Ack:
            self._tell(f'"recv","type":"ACK","from":{peer},"mid":"{mid},{place(message)}')
            if self._state is State.LEADING:
                self._support.echoed[peer] = now
                self._on_copy(peer, message.zxid)
        elif type(message) is Propose:
            self._tell(f'"recv","type":"PROPOSE","from":{peer},"mid":"{mid},{self._operands(message)}')
        elif type(message) is Commit:
            named = f"{peer}-{self._boot_of(source)}-c{message.zxid}"
            self._tell(f'"recv","type":"COMMIT","from":{peer},"mid":"{named}",{place(message)}')
        elif type(message) is Notification:
            named = f"{peer}-{self._boot_of(source)}-n{message.n_seq}"
            self._event("recv", {"type": "NOTIFICATION", "from": peer, "mid": named, **vote_fields(message)})
            return
        else:
            fields = {"type": WIRE_NAMES[kind], "from": peer, "mid": mid[:-1] or None}
            self._event("recv", {**fields, **operands(message)})
            self._on_support(now, peer, message)
        if self._budget.admits(now):
            text = told(message)
            if text:
                wanted = asked(message.batches, self._name_of) if type(message) is Propose else ""
                self._line(f"recv {text} from {peer}" + (f"   {wanted}" if wanted else ""))

    def _on_support(self, now: float, peer: PeerId, message: Message) -> None:
        """Who stands behind a leader while it comes to power."""
        if isinstance(message, AckEpoch) and message.counted:
            self._support.promised.add(peer)
        elif isinstance(message, AckNewLeader) and self._state is State.LEADING:
            self._support.synced.add(peer)
            self._on_copy(peer, message.cut)

    def _on_request(self, now: float, event: Request) -> None:
        self._tell(f'"client","what":"invoke","count":{event.count}')

    def _on_copy(self, holder: PeerId, zxid: Zxid) -> None:
        """As leader: `holder` has it on disk. Beyond the quorum a copy is no news."""
        self._support.held[holder] = zxid
        if zxid > self._committed:
            self._tell(f'"ack","from":{holder},"z":{pair(zxid)},{self._support.copies(zxid)}')

    def _on_watermark(self, now: float, zxid: Zxid) -> None:
        self._committed = zxid
        rest = f'"commit","z":{pair(zxid)},"epoch":{self._epoch}'
        step = self._step
        if self._state is State.LEADING:
            rest = f"{rest},{self._support.copies(zxid)}"
            self._maybe_line(now, f"COMMIT {zxid}: a quorum has it on disk")
        elif type(step) is Received:
            rest = f'{rest},"by":"{WIRE_NAMES[type(step.message)]}"'
        self._tell(rest)

    def _on_timer(self, now: float, effects: Sequence[Effect]) -> None:
        """A deadline had consequences; heartbeats are none."""
        for effect in effects:
            if type(effect) is Moved and effect.phase is not Phase.ELECTION:
                self._event("timer", {"what": why_of(effect.why).code, "text": effect.why})
                return
        for effect in effects:
            if type(effect) is SendVote and (effect.message.round, effect.message.vote) == self._vote:
                self._event("timer", {"what": "resend"})
                return

    def _on_durable(self, now: float, event: Durable) -> None:
        zxid = event.zxid
        ms = self._enter_durable(zxid, now)
        self._tell(f'"persist","z":{pair(zxid)},"ms":{ms:.3f}')
        if self._state is State.LEADING:
            self._on_copy(self.process.peer, zxid)
        if self._budget.admits(now):
            ack = f", ACK {zxid} to {self._leader.peer}" if self._leader and self._state is State.FOLLOWING else ""
            self._line(f"fsync {zxid} in {ms:.1f} ms{ack if self._phase is Phase.BROADCAST else ''}")

    def _on_epochs_saved(self, now: float, event: EpochsSaved) -> None:
        epochs = event.epochs
        fields = {"accepted": epochs.accepted, "current": epochs.current, "joined": epochs.joined}
        self._event("persist", {"what": "epochs", **fields, "ms": round(now - self._meta_since, 3)})

    def _on_link_lost(self, now: float, event: LinkLost) -> None:
        peer = self._link_over(event.link, event.why)
        self._maybe_line(now, f"link with {peer} lost: {event.why}")

    def _on_mesh_up(self, now: float, event: MeshUp) -> None:
        self._event("note", {"what": "mesh", "peer": event.peer, "up": True})

    def _on_mesh_down(self, now: float, event: MeshDown) -> None:
        self._event("note", {"what": "mesh", "peer": event.peer, "up": False})
        self._maybe_line(now, f"connection to node {event.peer} is down")

    def _on_quiesced(self, now: float, event: Quiesced) -> None:
        self._writing.clear()
        self._durable = event.history.last
        self._cut_tail(self._durable)
        self._event("persist", {"what": "quiesced", "z": event.history.last, **event.epochs._asdict()})

    def _on_snapshot_installed(self, now: float, event: SnapshotInstalled) -> None:
        self.tail.clear()
        self._event("snap", {"what": "installed", "z": event.zxid})
        self._line(f"snapshot {event.zxid} installed")

    def _on_snapshot_taken(self, now: float, event: SnapshotTaken) -> None:
        self._event("snap", {"what": "taken", "z": event.zxid, "base": event.base})
        self._line(f"snapshot {event.zxid} written, log kept from {event.base}")

    def _on_disk_space(self, now: float, event: DiskSpace) -> None:
        self._disk_is_full = event.level is Space.FULL
        self._event("note", {"what": "disk", "level": event.level.name})
        if event.level is Space.OK:
            self._line("disk: enough space again")
        else:
            says = "clients are told BUSY" if event.level is Space.LOW else "this node resigns and does not lead"
            self._line(f"WARNING disk nearly full ({event.level.name}): {says}")

    def _on_resumed(self, now: float, event: Resumed) -> None:
        self._event("timer", {"what": "resumed", "text": "this process stood still"})
        self._line("WARNING this process stood still; its sockets were drained first (F5)")

    # ---- effects ---------------------------------------------------------------------------------------------

    def _on_send(self, now: float, effect: Send) -> None:
        link, message = effect
        count = self._link(link, None)
        count.sent += 1
        kind = type(message)
        if self._is_beat("send", kind, count.peer):
            return
        mid = f"{count.name}-{count.our_mark}{count.sent}"
        if count.peer is not None and type(message) is Propose:
            self._tell(f'"send","type":"PROPOSE","to":{count.peer},"mid":"{mid}",{self._operands(message)}')
        elif count.peer is not None and type(message) is Ack:
            self._tell(f'"send","type":"ACK","to":{count.peer},"mid":"{mid}",{place(message)}')
        else:
            self._event("send", {"type": WIRE_NAMES[kind], "to": count.peer, "mid": mid, **operands(message)})
            text = told(message)
            if text:
                self._maybe_line(now, f"send {text} to {count.peer}")

    def _on_send_vote(self, now: float, effect: SendVote) -> None:
        note = effect.message
        if note.state is State.LOOKING and (note.round, note.vote) != self._vote:
            self._on_vote_changed(now, note)
        mid = f"{self.process.peer}-{self.boot}-n{note.n_seq}"
        self._event("send", {"type": "NOTIFICATION", "to": effect.peer, "mid": mid, **vote_fields(note)})

    def _on_vote_changed(self, now: float, note: Notification) -> None:
        round_before, before = self._vote or (0, None)
        self._vote = (note.round, note.vote)
        fields: dict[str, Any] = {"round": note.round, "candidate": None, **vote_operands(note.vote)}
        step = self._step
        heard = step.message if isinstance(step, Received) and isinstance(step.message, Notification) else None
        if note.vote is None:
            why = "abstained" if note.joined else "refused"
            fields["text"] = self._why_no_vote(note)
        elif note.vote.leader == self.process:
            why = "own"
        elif heard is not None and heard.round == note.round > round_before:
            why = "round"
        else:
            why = "better"
        fields["why"] = why
        if heard is not None and isinstance(step, Received) and heard.vote == note.vote:
            fields["from"] = step.source.peer
        if before is not None:
            fields["than"] = vote_operands(before)
        self._event("vote", fields)
        shown = f"none: {fields['text']}" if note.vote is None else vote_text(note.vote)
        self._maybe_line(now, f"round {note.round}: vote {shown}")

    def _why_no_vote(self, note: Notification) -> str:
        """The reasons there are for it: L15, E8, E6."""
        if self._disk_is_full:
            return "its disk is full"
        return "no quorum was heard since none answered it" if note.joined else "it does not count yet"

    def _on_publish(self, now: float, effect: Publish) -> None:
        message: PubMessage = effect.message
        if isinstance(message, Commit):
            mid = f"{self.process.peer}-{self.boot}-c{message.zxid}"
            self._tell(f'"send","type":"COMMIT","mid":"{mid}",{place(message)}')
        else:
            self._count_beat("send", "HEARTBEAT", None)

    def _on_append(self, now: float, effect: Append) -> None:
        self._enter_append(now, effect)
        if self._state is State.LEADING:
            for batch in effect.batches:
                self._on_new_batch(now, batch)

    def _on_new_batch(self, now: float, batch: Batch) -> None:
        last = batch.last
        if batch.admit is not None:
            fields = {"z0": batch.first, "z": last, "count": 1, "prev": batch.prev, "admit": batch.admit.peer}
            self._event("propose", fields)
        else:
            here = f'"z0":{pair(batch.first)},"z":{pair(last)},"count":{batch.count},"prev":{pair(batch.prev)}'
            self._tell(f'"propose",{here}')
        if self._budget.admits(now):
            wanted = asked((batch,), self._name_of)
            self._line(
                f"PROPOSE {span(batch.first, last)}{operations(batch.count)}" + (f"   {wanted}" if wanted else "")
            )

    def _on_proposed(self, now: float, effect: Proposed) -> None:
        self._open.append(effect.batch)

    def _on_save_epochs(self, now: float, effect: SaveEpochs) -> None:
        self._meta_since = now

    def _on_truncate(self, now: float, effect: Truncate) -> None:
        was = self.tail[-1].last if self.tail else None
        self._cut_tail(effect.to)
        self._event("truncate", {"z": effect.to, "was": was})
        self._line(f"TRUNC: the log is cut back to {effect.to}")

    def _on_stage_snapshot(self, now: float, effect: StageSnapshot) -> None:
        if effect.offset == 0:
            self._event("snap", {"what": "receiving"})

    def _on_install_snapshot(self, now: float, effect: InstallSnapshot) -> None:
        self._event("snap", {"what": "installing", "z": effect.mark.zxid, "bytes": effect.size})

    def _on_open_link(self, now: float, effect: OpenLink) -> None:
        self._link(effect.link, effect.peer)
        self._event("note", {"what": "link", "link": effect.link, "peer": effect.peer})

    def _on_close_link(self, now: float, effect: CloseLink) -> None:
        self._link_over(effect.link, effect.why)

    def _link_over(self, link: LinkId, why: str) -> PeerId | None:
        known = self._links.pop(link, None)
        peer = known.peer if known else link.learner.peer
        self._event("drop", {"what": "link", "link": link, "peer": peer, "why": why})
        if link.learner.peer != self.process.peer:
            self._support.held.pop(link.learner.peer, None)  # B11
        return peer

    def _on_quiesce(self, now: float, effect: Quiesce) -> None:
        self._event("note", {"what": "quiesce", "role": effect.role})

    def _on_busy(self, now: float, effect: Busy) -> None:
        count = self._step.count if isinstance(self._step, Request) else None
        self._event("client", {"what": "fail", "count": count, "text": effect.why, "leading": effect.leading})

    def _on_moved(self, now: float, effect: Moved) -> None:
        led = self._state is State.LEADING
        self._state, self._phase, self._epoch, self._leader = effect[:4]
        if led and effect.state is not State.LEADING:
            self._on_leadership_lost(now)
        leader = None if effect.leader is None else effect.leader.peer
        code, found = why_of(effect.why)
        fields = {"role": effect.state, "phase": effect.phase, "epoch": effect.epoch, "leader": leader}
        self._event(
            "state", {**fields, "why": code, "text": effect.why, **found, **self._support.behind(code, now, found)}
        )
        if effect.state is State.LEADING and effect.phase is Phase.DISCOVERY:
            self._support.begin(self._durable)
        if effect.phase is not Phase.QUIESCE or effect.why:
            following = f" (leader {leader})" if effect.state is State.FOLLOWING and leader is not None else ""
            self._line(f"{effect.why or 'moved'}{following}")

    def _on_leadership_lost(self, now: float) -> None:
        """C4: what was proposed for clients and not applied may yet commit, or never."""
        if self._open:
            first, last = self._open[0].first, self._open[-1].last
            count = sum(batch.count for batch in self._open)
            self._open.clear()
            self._event("client", {"what": "unknown", "z0": first, "z": last, "count": count})

    def _on_report(self, now: float, effect: Report) -> None:
        fields = effect.fields
        if "type" in fields:
            fields = {**fields, "type": _WIRE_NAME_OF.get(fields["type"], fields["type"])}
        known = effect.kind in KINDS
        self._event(effect.kind if known else "note", fields if known else {"what": effect.kind, **fields})
        words = " ".join(f"{name}={word(value)}" for name, value in fields.items())
        self._maybe_line(now, f"{effect.kind}: {words}" if words else effect.kind)

    def _on_fail(self, now: float, effect: Fail) -> None:
        self._line(f"ERROR {effect.why}")  # The move to FAILED follows, and is the event.

    def _cut_tail(self, to: Zxid) -> None:
        while self.tail and self.tail[-1].last > to:
            self.tail.pop()

    def _boot_of(self, process: ProcessId) -> str:
        boot = self._boots.get(process)
        if boot is None:
            if len(self._boots) >= BOOTS_KEPT:
                self._boots.clear()
            boot = self._boots[process] = boot_of(process)
        return boot

    def _operands(self, message: Propose) -> str:
        """A leader says one proposal to many links."""
        if self._proposal[0] is not message:
            epoch, batches, committed = message
            text = f'"epoch":{epoch},"committed":{pair(committed)}'
            if batches:
                count = sum(batch.count for batch in batches)
                text = f'"z0":{pair(batches[0].first)},"z":{pair(batches[-1].last)},"count":{count},{text}'
            self._proposal = (message, text)
        return self._proposal[1]


def place(message: Ack | Commit) -> str:
    epoch, (txn_epoch, counter) = message
    return f'"z":[{txn_epoch},{counter}],"epoch":{epoch}'
