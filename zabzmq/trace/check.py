"""What events let one check from outside: the promises of PROTOCOL 11 that a stranger who only reads can judge.

Events are taken in the order of merge.py, one by one. A violation always names the two events that contradict each
other. What events cannot tell is not judged: a node that was killed lost its last lines, logs are rotated, and a
promise is not broken because the proof of it was lost. Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from zabzmq.trace.reading import Event
from zabzmq.trace.telling import dotted

Place: TypeAlias = tuple[int, int]  # a zxid
Process: TypeAlias = tuple[int, str]  # node and boot

KEPT_MAX: Final = 200_000
"""Messages and digests that are remembered, the newest ones."""
VIOLATIONS_MAX: Final = 100

ONE_LEADER: Final = "one leader per epoch"
ONE_PROMISE: Final = "one promise per epoch"
EPOCHS_GROW: Final = "epochs only grow"
ZXID_ORDER: Final = "zxid order"
ACK_AFTER_PERSIST: Final = "ack after persist"
EPOCH_AFTER_HISTORY: Final = "epoch after its history"
APPLIED: Final = "applied what is committed and on disk"
QUORUM_OF_ACKS: Final = "commit after a quorum of acks"
COMMITTED_PREFIX: Final = "committed prefix"
NO_LOST_COMMIT: Final = "no lost commit"
SAME_STATE: Final = "same state at same zxid"
CLIENT_ACKS: Final = "clients are told what is applied"
RECV_AFTER_SEND: Final = "recv after send"
NODES_SAY: Final = "no node saw a promise broken"

CHECKS: Final = {
    ONE_LEADER: "leaderships",
    ONE_PROMISE: "promises",
    EPOCHS_GROW: "writes of epochs",
    ZXID_ORDER: "batches proposed or applied",
    ACK_AFTER_PERSIST: "acknowledgements and promises",
    EPOCH_AFTER_HISTORY: "epochs that followers began",
    QUORUM_OF_ACKS: "commits by leaders",
    APPLIED: "batches applied",
    COMMITTED_PREFIX: "batches applied",
    NO_LOST_COMMIT: "new epochs and truncations",
    SAME_STATE: "states compared",
    CLIENT_ACKS: "answers",
    RECV_AFTER_SEND: "messages",
    NODES_SAY: "events of nodes that judge themselves",
}
"""Every check, and what its count counts."""


class Violation(NamedTuple):
    """`events` are the two that contradict; one when an event contradicts itself."""

    check: str
    text: str
    events: tuple[Event, ...]


class _Life:
    """What is known of one process while its events pass by."""

    def __init__(self) -> None:
        self.seq = 0
        self.durable: tuple[Place, Event] | None = None  # None: not known
        self.applied: tuple[Place, Event] | None = None
        self.committed: tuple[Place, Event] | None = None
        self.proposed: tuple[Place, Event] | None = None
        self.held: dict[int, tuple[Place, Event]] = {}  # as leader: copies it was told of
        self.epochs: tuple[int, int, Event] | None = None  # promised and current, on its disk
        self.cut: tuple[int, Place, Event] | None = None  # of the epoch it is asked to begin
        self.is_whole = False  # every event so far is here


class Checker:
    """Feed it every event; then `violations` and `counts` say what was found."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(CHECKS, 0))
        self.violations: list[Violation] = []
        self.violation_count = 0
        self.events = 0
        self.nodes: set[int] = set()
        self.voters: set[int] = set()
        self.unsafe: dict[str, set[int]] = defaultdict(set)
        """Rules that nodes were told to leave out: these events prove nothing about the protocol."""
        self._lives: dict[Process, _Life] = {}
        self._leaders: dict[int, Event] = {}
        self._promises: dict[tuple[int, int, str], Event] = {}
        self._epochs: dict[int, tuple[int, int, Event]] = {}
        self._ends: dict[int, tuple[int, Event]] = {}  # of each epoch: its last committed counter, and what showed it
        self._next: dict[int, tuple[int, int, Event]] = {}  # applied behind an epoch's end: that counter, next epoch
        self._prev: dict[int, tuple[Place, Event]] = {}  # what stood before the first of an epoch
        self._led: dict[int, Event] = {}  # epochs that were established, and by what
        self._digests: OrderedDict[Place, tuple[str, Event]] = OrderedDict()
        self._sent: OrderedDict[str, Event] = OrderedDict()
        self._kinds: dict[str, Callable[[Event, _Life], None]] = {
            "boot": self._on_boot,
            "state": self._on_state,
            "send": self._on_send,
            "recv": self._on_recv,
            "persist": self._on_persist,
            "propose": self._on_propose,
            "commit": self._on_commit,
            "apply": self._on_apply,
            "truncate": self._on_truncate,
            "snap": self._on_snap,
            "client": self._on_client,
            "invariant": self._on_invariant,
        }

    @property
    def missing(self) -> list[int]:
        """Voters of which there is no event."""
        return sorted(self.voters - self.nodes)

    def feed(self, event: Event) -> None:
        self.events += 1
        self.nodes.add(event.n)
        life = self._lives.get((event.n, event.boot))
        if life is None:
            life = self._lives[event.n, event.boot] = _Life()
            life.is_whole = event.seq == 1
        elif event.seq != life.seq + 1:
            self._forget(life)
        life.seq = event.seq
        for switch in event.get("unsafe") or ():
            self.unsafe[switch].add(event.n)
        judge = self._kinds.get(event.k)
        if judge is not None:
            judge(event, life)

    def _forget(self, life: _Life) -> None:
        """Events are missing here: what was known may not hold any more."""
        life.is_whole = False
        life.durable = life.applied = life.proposed = life.epochs = life.cut = None
        life.held.clear()

    def _broken(self, check: str, text: str, *events: Event) -> None:
        self.violation_count += 1
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(check, text, events))

    # ---- leaders and epochs ----------------------------------------------------------------------------------

    def _on_boot(self, event: Event, life: _Life) -> None:
        voters = event.get("voters")
        if isinstance(voters, list):
            self.voters.update(voter for voter in voters if isinstance(voter, int))
        on_disk = event.zxid()
        if on_disk is not None:
            life.durable = on_disk, event
        self._grow(event, life)

    def _grow(self, event: Event, life: _Life) -> None:
        accepted, current = event.get("accepted"), event.get("current")
        if not isinstance(accepted, int) or not isinstance(current, int):
            return
        self.counts[EPOCHS_GROW] += 1
        before = self._epochs.get(event.n)
        # A node that has nothing at all lost its disk: it begins anew, and does not count before it is admitted.
        if before is not None and (accepted, current) != (0, 0) and (accepted < before[0] or current < before[1]):
            self._broken(EPOCHS_GROW, f"node {event.n} went back to an older epoch", before[2], event)
        self._epochs[event.n] = life.epochs = accepted, current, event
        if life.cut is None or life.durable is None or current < life.cut[0]:
            return
        (epoch, cut, shown), life.cut = life.cut, None
        self.counts[EPOCH_AFTER_HISTORY] += 1
        if life.durable[0] < cut:
            text = f"node {event.n} began epoch {epoch} with {dotted([*life.durable[0]])} on disk, not {dotted([*cut])}"
            self._broken(EPOCH_AFTER_HISTORY, text, shown, event)

    def _on_state(self, event: Event, life: _Life) -> None:
        epoch, phase = event.get("epoch"), event.get("phase")
        if event.get("role") != "LEADING":
            life.held.clear()
            life.proposed = None
            if event.get("role") != "FOLLOWING":
                life.cut = None
            return
        if phase not in ("SYNCHRONIZATION", "BROADCAST") or not isinstance(epoch, int):
            return
        known = self._leaders.setdefault(epoch, event)
        if known is event:
            self.counts[ONE_LEADER] += 1
        elif (known.n, known.boot) != (event.n, event.boot):
            self._broken(ONE_LEADER, f"epoch {epoch} has two leaders, nodes {known.n} and {event.n}", known, event)
        if phase == "BROADCAST":
            self._led.setdefault(epoch, event)

    # ---- messages --------------------------------------------------------------------------------------------

    def _on_send(self, event: Event, life: _Life) -> None:
        mid = event.get("mid")
        if isinstance(mid, str):
            self._remember(mid, event)
        match event.get("type"):
            case "ACK" | "ACK_NEWLEADER":
                self._on_acknowledged(event, life)
                if event.get("type") == "ACK_NEWLEADER":
                    self._is_saved(event, life, 1, "began")
            case "ACKEPOCH":
                self._is_saved(event, life, 0, "promised")
                if event.get("counted"):
                    self._on_promised(event, event.n, event.get("to"))
            case "NEWLEADER":
                self._on_new_leader(event)

    def _remember(self, mid: str, event: Event) -> None:
        self._sent.setdefault(mid, event)
        if len(self._sent) > KEPT_MAX:
            self._sent.popitem(last=False)

    def _on_acknowledged(self, event: Event, life: _Life) -> None:
        zxid = event.zxid()
        if zxid is None or life.durable is None:
            return
        self.counts[ACK_AFTER_PERSIST] += 1
        on_disk, shown = life.durable
        if zxid > on_disk:
            text = f"node {event.n} acknowledged {dotted([*zxid])} with only {dotted([*on_disk])} on disk"
            self._broken(ACK_AFTER_PERSIST, text, shown, event)

    def _is_saved(self, event: Event, life: _Life, which: int, did: str) -> None:
        """What is said of an epoch is on disk already."""
        epoch = event.get("epoch")
        if life.epochs is None or not isinstance(epoch, int):
            return
        self.counts[ACK_AFTER_PERSIST] += 1
        saved = life.epochs[which]
        assert isinstance(saved, int)
        if saved < epoch:
            text = f"node {event.n} {did} epoch {epoch} with only epoch {saved} on disk"
            self._broken(ACK_AFTER_PERSIST, text, life.epochs[2], event)

    def _on_promised(self, event: Event, promiser: int, to: object) -> None:
        """Told by who promises, and again by the process that hears it."""
        epoch = event.get("epoch")
        if not isinstance(epoch, int):
            return
        self.counts[ONE_PROMISE] += 1
        known = self._promises.setdefault((promiser, epoch, event.k), event)
        first = known.get("to") if known.k == "send" else known.n
        if first != to or (known.k == "recv" and known.boot != event.boot):
            text = f"node {promiser} promised epoch {epoch} to node {first} and to node {to}"
            self._broken(ONE_PROMISE, text, known, event)

    def _on_recv(self, event: Event, life: _Life) -> None:
        mid = event.get("mid")
        if isinstance(mid, str):
            sent = self._sent.get(mid)
            if sent is not None:
                self.counts[RECV_AFTER_SEND] += 1
                if sent.lc >= event.lc:
                    text = f"{event.get('type')} {mid} was heard before it was sent"
                    self._broken(RECV_AFTER_SEND, text, sent, event)
        source, zxid, epoch = event.get("from"), event.zxid(), event.get("epoch")
        if event.get("type") == "ACKEPOCH" and event.get("counted") and isinstance(source, int):
            self._on_promised(event, source, event.n)
        if event.get("type") == "NEWLEADER" and isinstance(epoch, int) and zxid is not None:
            life.cut = epoch, zxid, event
        if event.get("type") in ("ACK", "ACK_NEWLEADER") and isinstance(source, int) and zxid is not None:
            known = life.held.get(source)
            if known is None or zxid >= known[0]:
                life.held[source] = zxid, event

    # ---- the log ---------------------------------------------------------------------------------------------

    def _on_persist(self, event: Event, life: _Life) -> None:
        zxid = event.zxid()
        if zxid is not None:
            life.durable = zxid, event
        if event.get("what") in ("epochs", "quiesced"):
            self._grow(event, life)

    def _on_propose(self, event: Event, life: _Life) -> None:
        first, last, prev = event.zxid("z0"), event.zxid(), event.zxid("prev")
        if first is None or last is None:
            return
        self.counts[ZXID_ORDER] += 1
        before = life.proposed
        if before is not None and before[0][0] == first[0] and first[1] != before[0][1] + 1:
            text = f"node {event.n} proposed {dotted([*first])} behind {dotted([*before[0]])}"
            self._broken(ZXID_ORDER, text, before[1], event)
        elif first[1] == 1 and prev is not None:
            self._begins(first[0], prev, event)
        life.proposed = last, event

    def _on_truncate(self, event: Event, life: _Life) -> None:
        to = event.zxid()
        if to is None:
            return
        self.counts[NO_LOST_COMMIT] += 1
        if life.durable is not None and life.committed is not None:
            known = min(life.committed[0], life.durable[0])  # the watermark may be ahead of this log
            if to < known:
                text = f"node {event.n} cut off {dotted([*known])}, which it knew to be committed"
                self._broken(NO_LOST_COMMIT, text, life.committed[1], event)
        if life.durable is not None and life.durable[0] > to:
            life.durable = to, event

    def _on_snap(self, event: Event, life: _Life) -> None:
        zxid = event.zxid()
        if event.get("what") == "installed" and zxid is not None:
            life.durable = zxid, event
            life.applied = zxid, event

    # ---- commits ---------------------------------------------------------------------------------------------

    def _on_commit(self, event: Event, life: _Life) -> None:
        zxid = event.zxid()
        if zxid is None:
            return
        life.committed = zxid, event
        have, need = event.get("have"), event.get("need")
        if isinstance(have, list) and isinstance(need, int):
            self._on_quorum(event, life, zxid, have, need)
        self._is_kept(zxid, event)

    def _on_quorum(self, event: Event, life: _Life, zxid: Place, have: list[int], need: int) -> None:
        """A leader declares it committed."""
        self.counts[QUORUM_OF_ACKS] += 1
        what = dotted([*zxid])
        if self.voters and need * 2 <= len(self.voters):
            self._broken(QUORUM_OF_ACKS, f"{what} was committed by {need} of {len(self.voters)}, no majority", event)
        elif len(set(have)) < need:
            self._broken(QUORUM_OF_ACKS, f"{what} was committed with {len(have)} copies of {need} needed", event)
        elif life.is_whole:
            for holder in have:
                known = life.durable if holder == event.n else life.held.get(holder)
                if known is None or known[0] < zxid:
                    shown = () if known is None else (known[1],)
                    text = f"{what} was committed, but node {holder} had not acknowledged it"
                    self._broken(QUORUM_OF_ACKS, text, *shown, event)

    def _is_kept(self, zxid: Place, event: Event) -> None:
        """It is committed: every later epoch must begin with it."""
        epoch, counter = zxid
        known = self._ends.get(epoch)
        if known is None or counter > known[0]:
            self._ends[epoch] = counter, event
        for later, (end, began) in self._prev.items():
            if later > epoch:
                self._is_in(zxid, event, end, began)

    def _on_new_leader(self, event: Event) -> None:
        """A leader says with which history its epoch begins, once it has a quorum of promises."""
        epoch, cut = event.get("epoch"), event.zxid()
        if isinstance(epoch, int) and cut is not None and cut[0] < epoch:
            self._begins(epoch, cut, event)

    def _begins(self, epoch: int, end: Place, event: Event) -> None:
        """An epoch goes on from this end of a history; the first to tell counts."""
        if epoch in self._prev:
            return
        self._prev[epoch] = end, event
        self.counts[NO_LOST_COMMIT] += 1
        for older, (counter, shown) in self._ends.items():
            if older < epoch:
                self._is_in((older, counter), shown, end, event)

    def _is_in(self, zxid: Place, shown: Event, end: Place, began: Event) -> None:
        """Whether a history that ends with `end` holds `zxid`, as far as the epochs it came through are known."""
        while end[0] > zxid[0]:
            found = self._prev.get(end[0])
            if found is None:
                return
            end, began = found
        if end < zxid:
            text = f"{dotted([*zxid])} is committed, and {_beginner(began)} began without it"
            self._broken(NO_LOST_COMMIT, text, shown, began)

    def _on_apply(self, event: Event, life: _Life) -> None:
        first, last = event.zxid("z0"), event.zxid()
        if first is None or last is None:
            return
        self._in_order(event, life, first)
        self._may_apply(event, life, last)
        life.applied = last, event
        digest = event.get("digest")
        if not isinstance(digest, str):
            return
        known = self._digests.get(last)
        if known is None:
            self._digests[last] = digest, event
            if len(self._digests) > KEPT_MAX:
                self._digests.popitem(last=False)
            return
        self.counts[SAME_STATE] += 1
        if known[0] != digest:
            text = f"nodes {known[1].n} and {event.n} hold different states at {dotted([*last])}"
            self._broken(SAME_STATE, text, known[1], event)

    def _may_apply(self, event: Event, life: _Life, last: Place) -> None:
        if not life.is_whole:
            return
        self.counts[APPLIED] += 1
        for known, what in ((life.durable, "on its disk"), (life.committed, "committed")):
            if known is not None and known[0] < last:
                text = f"node {event.n} applied {dotted([*last])} with only {dotted([*known[0]])} {what}"
                self._broken(APPLIED, text, known[1], event)

    def _in_order(self, event: Event, life: _Life, first: Place) -> None:
        if life.applied is None:
            return
        self.counts[ZXID_ORDER] += 1
        self.counts[COMMITTED_PREFIX] += 1
        (epoch, counter), shown = life.applied
        if first[0] == epoch:
            if first[1] != counter + 1:
                text = f"node {event.n} applied {dotted([*first])} behind {epoch}.{counter}"
                self._broken(ZXID_ORDER, text, shown, event)
            end = self._next.get(epoch)
            if end is not None and first[1] > end[0]:
                text = f"node {event.n} applied {dotted([*first])}, node {end[2].n} left epoch {epoch} at {end[0]}"
                self._broken(COMMITTED_PREFIX, text, end[2], event)
            return
        if first[0] < epoch or first[1] != 1:
            text = f"node {event.n} applied {dotted([*first])} behind {epoch}.{counter}"
            self._broken(ZXID_ORDER, text, shown, event)
        known = self._next.setdefault(epoch, (counter, first[0], event))
        if known[:2] != (counter, first[0]):
            text = f"behind epoch {epoch}, nodes {known[2].n} and {event.n} applied different histories"
            self._broken(COMMITTED_PREFIX, text, known[2], event)

    # ---- clients, and what nodes say themselves --------------------------------------------------------------

    def _on_client(self, event: Event, life: _Life) -> None:
        zxid = event.zxid()
        if event.get("what") != "ok" or zxid is None or not life.is_whole:
            return
        self.counts[CLIENT_ACKS] += 1
        if life.applied is None or life.applied[0] < zxid:
            shown = () if life.applied is None else (life.applied[1],)
            text = f"a client was told of {dotted([*zxid])} before node {event.n} applied it"
            self._broken(CLIENT_ACKS, text, *shown, event)

    def _on_invariant(self, event: Event, life: _Life) -> None:
        self.counts[NODES_SAY] += 1
        if event.get("ok") is False:
            self._broken(NODES_SAY, f"node {event.n}: {event.get('name')}: {event.get('text')}", event)


def _beginner(event: Event) -> str:
    epoch = event.get("epoch") if event.k == "send" else (event.zxid() or (0, 0))[0]
    return f"epoch {epoch} of leader {event.n}"


def checked(events: list[Event]) -> Checker:
    """All events of a list, judged."""
    checker = Checker()
    for event in events:
        checker.feed(event)
    return checker
