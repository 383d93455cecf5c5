"""What the events of a run amount to, as far as `explain` needs it: fed one by one, in the order of merge.py. Pure.

Of each node the newest event of every kind that matters, of each epoch how it came to be, and of the one entry that
is asked about who received, wrote and acknowledged it. Nothing is concluded here; the explain
modules do that.
"""

from __future__ import annotations

from typing import TypeAlias

from zabzmq.trace.reading import Event

Place: TypeAlias = tuple[int, int]  # a zxid


class NodeFacts:
    """One node. `state` and the like are its newest events of that kind, in this process unless said otherwise."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.last: Event | None = None
        self.former: Event | None = None  # the last event of the process before
        self.state: Event | None = None
        self.left: Event | None = None  # why it looks for a leader: the first move to LOOKING since it had one
        self.own_vote: Event | None = None
        self.votes: list[Event] = []  # since `left`
        self.uncounted: Event | None = None  # says that it does not count, as long as that holds
        self.abstains: Event | None = None  # says that it counts, and does not stand for election
        self.joined: Event | None = None  # says that it counts, after it did not
        self.applied: Event | None = None
        self.commit: Event | None = None
        self.synced: Event | None = None  # of its leader: how it was brought up to date
        self.truncate: Event | None = None
        self.refused: Event | None = None
        self.undecided: Event | None = None
        self.paused: Event | None = None
        self.fault: Event | None = None  # in force
        self.alone: Event | None = None
        self.end: Place | None = None  # of its log, as far as is known
        # About the entry that is asked for:
        self.got: Event | None = None
        self.wrote: Event | None = None
        self.acked: Event | None = None
        self.cut: Event | None = None
        self.sent_to: dict[int, Event] = {}  # as leader
        self.dropped: dict[int, Event] = {}  # messages with it or about it, by the other node
        self.unlinked: dict[int, Event] = {}  # links that are over
        self.gone: dict[int, Event] = {}  # connections that are down
        self.held: dict[object, Event] = {}  # step mode: messages that wait here, by their number

    @property
    def role(self) -> str:
        return str(self.state.get("role")) if self.state is not None else "LOOKING"

    @property
    def phase(self) -> str:
        return str(self.state.get("phase")) if self.state is not None else "ELECTION"

    @property
    def epoch(self) -> int:
        epoch = self.state.get("epoch") if self.state is not None else 0
        return epoch if isinstance(epoch, int) else 0

    @property
    def leader(self) -> int | None:
        leader = self.state.get("leader") if self.state is not None else None
        return leader if isinstance(leader, int) else None


class EpochFacts:
    """One epoch: who led it, and how that came about."""

    def __init__(self) -> None:
        self.elected: Event | None = None
        self.promised: Event | None = None
        self.established: Event | None = None
        self.saved: Event | None = None  # the leader's disk has the promise of it
        self.began_with: tuple[Place, Event] | None = None  # the end of its initial history
        self.proposed: tuple[Place, Event] | None = None  # the last of it that anybody told of


class Facts:
    """Feed it every event; `about` is the entry that is asked for, if one is."""

    def __init__(self, about: Place | None = None) -> None:
        self.about = about
        self.nodes: dict[int, NodeFacts] = {}
        self.epochs: dict[int, EpochFacts] = {}
        self.voters: set[int] = set()
        self.newest = 0.0  # time of the newest event
        self.committed: Event | None = None  # the newest commit of any node
        self.cause: Event | None = None  # the first node to look for a leader since the last one was established
        self.elected: Event | None = None  # the newest
        self.winning: Event | None = None  # the vote it was elected with
        self.races: dict[int, tuple[Event | None, list[Event]]] = {}  # of it: own vote and votes of every node
        self.absent: dict[int, Event | None] = {}  # each node's last event before it
        self.declared: Event | None = None  # the leader's commit that first reached the entry
        self.heard: Event | None = None  # a follower's
        self.copies: dict[int, Event] = {}  # of the entry, counted by its leader
        self.applies: dict[int, Event] = {}  # of the entry, by node
        self.proposed: Event | None = None
        self.ack_heard: set[str] = set()
        self.begun: dict[int, Event] = {}  # first event of each node's present process

    @property
    def majority(self) -> int:
        return max(len(self.voters), len(self.nodes)) // 2 + 1

    def feed(self, event: Event) -> None:
        node = self.nodes.get(event.n)
        if node is None or node.last is None or node.last.boot != event.boot:
            node = self._begin(event, node)
        node.last = event
        self.newest = max(self.newest, event.t)
        handler = getattr(self, f"_on_{event.k}", None)
        if handler is not None:
            handler(event, node)

    def epoch(self, number: int) -> EpochFacts:
        return self.epochs.setdefault(number, EpochFacts())

    def holds(self, end: Place | None, entry: Place) -> bool | None:
        """Whether a history that ends there holds the entry; None if the epochs between are not known."""
        if end is None:
            return None
        seen = set()
        while end[0] > entry[0]:
            epoch = self.epochs.get(end[0])
            if epoch is None or epoch.began_with is None or end[0] in seen:
                return None
            seen.add(end[0])
            end = epoch.began_with[0]
        return end >= entry

    # ---- by kind ---------------------------------------------------------------------------------------------

    def _begin(self, event: Event, before: NodeFacts | None) -> NodeFacts:
        node = self.nodes[event.n] = NodeFacts(event.n)
        self.begun[event.n] = event
        if before is not None:
            node.former = before.last
            node.end, node.got, node.wrote, node.cut = before.end, before.got, before.wrote, before.cut
            node.uncounted, node.joined = before.uncounted, before.joined
        return node

    def _on_boot(self, event: Event, node: NodeFacts) -> None:
        voters = event.get("voters")
        if isinstance(voters, list):
            self.voters.update(voter for voter in voters if isinstance(voter, int))
        node.end = event.zxid()
        if event.get("joined") is True:
            self._counts(event, node)
        if self.about is not None:
            held = self.holds(node.end, self.about)
            node.wrote = event if held else None if held is False else node.wrote
            if held is False:
                node.got = None

    def _on_state(self, event: Event, node: NodeFacts) -> None:
        role, epoch = event.get("role"), event.get("epoch")
        had_leader = node.state is None or node.role != "LOOKING"
        node.state = event
        if role == "LOOKING":
            if had_leader:
                node.left, node.own_vote, node.votes = event, None, []
                node.alone = None
                if self.cause is None:
                    self.cause = event
            return
        if event.get("phase") == "BROADCAST":
            node.own_vote, node.votes = None, []  # that election is over for it
        if role != "LEADING" or not isinstance(epoch, int):
            return
        match event.get("why"):
            case "elected":
                self.elected = event
                own = [vote for vote in node.votes if vote.get("candidate") == event.n]
                self.winning = own[-1] if own else None
                # Who began later was not heard, however its clock stands.
                there = [each for each in self.nodes.values() if self.begun[each.n].t <= event.t]
                self.absent = {each.n: each.last if each in there else each.former for each in self.nodes.values()}
                self.races = {each.n: (each.own_vote, list(each.votes)) for each in there}
            case "quorum_promised":
                found = self.epoch(epoch)
                found.promised, found.elected = event, self.elected
                if found.saved is not None and found.saved.n != event.n:
                    found.saved = None  # Another one's, who never got a quorum to promise it.
            case "established":
                self.epoch(epoch).established = event
                self.cause = None
                if node.end is not None and self.epoch(epoch).began_with is None:
                    self.epoch(epoch).began_with = node.end, event

    def _on_vote(self, event: Event, node: NodeFacts) -> None:
        node.votes.append(event)
        if len(node.votes) > 200:
            del node.votes[:100]
        node.abstains = event if event.get("why") == "abstained" else None
        if event.get("why") == "refused":
            node.uncounted, node.joined = event, None
        elif event.get("why") == "own" or event.get("candidate") == event.n:
            node.own_vote = event
            node.uncounted = None

    def _on_persist(self, event: Event, node: NodeFacts) -> None:
        if event.get("what") == "epochs":
            if event.get("joined") is True:
                self._counts(event, node)
            elif event.get("joined") is False:
                node.uncounted, node.joined = event, None
            if node.role == "LEADING" and isinstance(accepted := event.get("accepted"), int):
                epoch = self.epoch(accepted)
                if epoch.saved is None or epoch.saved.n != event.n:
                    epoch.saved = event
            return
        zxid = event.zxid()
        if zxid is None:
            return
        if event.get("what") == "quiesced" or node.end is None:
            node.end = zxid
        if self.about is not None and node.wrote is None and self.about <= zxid and self.holds(zxid, self.about):
            node.wrote = event

    def _counts(self, event: Event, node: NodeFacts) -> None:
        if node.uncounted is not None:
            node.uncounted, node.joined = None, event

    def _appended(self, event: Event, node: NodeFacts) -> None:
        """A batch came into this node's log."""
        first, last = event.zxid("z0") or event.zxid(), event.zxid()
        if first is None or last is None:
            return
        node.end = last
        epoch = self.epoch(last[0])
        if epoch.proposed is None or last > epoch.proposed[0]:
            epoch.proposed = last, event
        if self.about is not None and first[0] == self.about[0] and first <= self.about <= last:
            node.got = event
            if event.k == "propose":
                self.proposed = event

    def _on_propose(self, event: Event, node: NodeFacts) -> None:
        first, prev = event.zxid("z0"), event.zxid("prev")
        if first is not None and prev is not None and first[1] == 1 and self.epoch(first[0]).began_with is None:
            self.epoch(first[0]).began_with = prev, event
        self._appended(event, node)

    def _on_send(self, event: Event, node: NodeFacts) -> None:
        zxid, to = event.zxid(), event.get("to")
        match event.get("type"):
            case "NEWLEADER" if zxid is not None and isinstance(epoch := event.get("epoch"), int):
                if zxid[0] < epoch and self.epoch(epoch).began_with is None:
                    self.epoch(epoch).began_with = zxid, event
            case "ACK" | "ACK_NEWLEADER" if self.about is not None and zxid is not None:
                if node.acked is None and self.about <= zxid and node.wrote is not None:
                    node.acked = event
            case "PROPOSE" | "SYNC_TXNS" if isinstance(to, int) and self._is_about(event):
                node.sent_to[to] = event

    def _on_recv(self, event: Event, node: NodeFacts) -> None:
        match event.get("type"):
            case "PROPOSE" | "SYNC_TXNS":
                self._appended(event, node)
            case "ACK" | "ACK_NEWLEADER" if self.about is not None and isinstance(mid := event.get("mid"), str):
                zxid = event.zxid()
                if zxid is not None and zxid >= self.about:
                    self.ack_heard.add(mid)

    def _is_about(self, event: Event) -> bool:
        first, last = event.zxid("z0") or event.zxid(), event.zxid()
        return self.about is not None and first is not None and last is not None and first <= self.about <= last

    def _on_ack(self, event: Event, node: NodeFacts) -> None:
        zxid, holder = event.zxid(), event.get("from")
        if self.about is None or zxid is None or not isinstance(holder, int):
            return
        if zxid >= self.about and zxid[0] == self.about[0] and node.epoch == self.about[0]:
            self.copies.setdefault(holder, event)

    def _on_commit(self, event: Event, node: NodeFacts) -> None:
        zxid = event.zxid()
        if zxid is None:
            return
        node.commit = event
        newest = self.committed.zxid() if self.committed is not None else None
        if newest is None or zxid > newest:
            self.committed = event
        if self.about is None or zxid < self.about:
            return
        if zxid[0] != self.about[0] and not self.holds(zxid, self.about):
            return
        if event.get("have") is not None:
            self.declared = self.declared or event
        else:
            self.heard = self.heard or event

    def _on_apply(self, event: Event, node: NodeFacts) -> None:
        node.applied = event
        zxid = event.zxid()
        if self.about is not None and zxid is not None and zxid >= self.about:
            self.applies.setdefault(event.n, event)

    def _on_truncate(self, event: Event, node: NodeFacts) -> None:
        to = event.zxid()
        if to is None:
            return
        if node.end is None or node.end > to:
            if event.zxid("was") != to:
                node.truncate = event
            if self.about is not None and to < self.about and self.holds(node.end, self.about):
                node.cut = event
                node.got = node.wrote = node.acked = None
            node.end = to

    def _on_snap(self, event: Event, node: NodeFacts) -> None:
        zxid = event.zxid()
        if event.get("what") == "installed" and zxid is not None:
            node.end = zxid
            if self.about is not None and self.holds(zxid, self.about):
                node.wrote = event

    def _on_drop(self, event: Event, node: NodeFacts) -> None:
        peer = event.get("peer")
        if not isinstance(peer, int):
            return
        if event.get("what") == "link":
            node.unlinked[peer] = event
        elif event.get("fault") is not None and event.get("type") in ("PROPOSE", "SYNC_TXNS", "ACK"):
            node.dropped[peer] = event

    def _on_client(self, event: Event, node: NodeFacts) -> None:
        if event.get("what") == "unknown":
            node.undecided = event
        elif event.get("what") == "fail" and event.get("leading"):
            node.refused = event

    def _on_timer(self, event: Event, node: NodeFacts) -> None:
        if event.get("what") == "resumed":
            node.paused = event

    def _on_fault(self, event: Event, node: NodeFacts) -> None:
        node.fault = None if event.get("what") in ("clear", "heal", "resume") else event

    def _on_hold(self, event: Event, node: NodeFacts) -> None:
        match event.get("what"):
            case "held":
                node.held[event.get("id")] = event
            case "delivered" | "dropped":
                node.held.pop(event.get("id"), None)
            case "on" | "off":
                node.held.clear()

    def _on_note(self, event: Event, node: NodeFacts) -> None:
        peer = event.get("peer")
        match event.get("what"):
            case "alone":
                node.alone = event
            case "sync" if isinstance(peer, int) and peer in self.nodes:
                self.nodes[peer].synced = event
            case "mesh" if isinstance(peer, int):
                if event.get("up"):
                    node.gone.pop(peer, None)
                else:
                    node.gone[peer] = event
            case "link" if isinstance(peer, int):
                node.unlinked.pop(peer, None)


def reduce(events: list[Event], about: Place | None = None) -> Facts:
    """All events of a list."""
    facts = Facts(about)
    for event in events:
        facts.feed(event)
    return facts
