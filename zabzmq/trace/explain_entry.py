"""`explain 3.8`: is an entry committed, and why (not); what became of it, and who lacks it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from zabzmq.trace.explain import Answer, Clause, ago, nodes, say, text_of, zxid
from zabzmq.trace.explain_standing import faults_of, in_order, is_down, restarted, standing, why_down
from zabzmq.trace.reading import Event
from zabzmq.trace.reduced import Facts, NodeFacts, Place
from zabzmq.trace.telling import dotted


def explain_entry(facts: Facts) -> Answer:
    """Of the entry that these facts were gathered about."""
    entry = facts.about
    assert entry is not None, "the facts are about one entry"
    name = zxid(entry)
    if entry[1] == 0:  # Counters begin at 1.
        return Answer(name, "unknown", (say("entry.untold", None, z=name),))
    begun = _epoch_that_has_it(facts, entry)
    if facts.declared is not None or begun is not None or facts.heard is not None:
        return Answer(name, "committed", (*_committed(facts, entry, begun), *_applied(facts, entry)))
    told = _proposal(facts, entry)
    lost = _epoch_without_it(facts, entry)
    if lost is not None and told is not None:
        return Answer(name, "lost", (lost, *_deposed(facts, entry), *_why_not_copied(facts, entry), *_cuts(facts)))
    if told is None:
        return Answer(name, "unknown", (_unproposed(facts, entry),))
    leader = _leader_of(facts, entry[0])
    if leader is not None and leader.role == "LEADING" and leader.epoch == entry[0] and not is_down(facts, leader):
        return Answer(name, "not committed", (_waiting(facts, entry, told), *_why_not_copied(facts, entry)))
    clauses = [*_deposed(facts, entry), *_open(facts, entry), *_why_not_copied(facts, entry), *_cuts(facts)]
    return Answer(name, "not committed", tuple(clauses))


def _committed(facts: Facts, entry: Place, begun: tuple[int, Event] | None) -> Iterable[Clause]:
    name, declared = zxid(entry), facts.declared
    if declared is not None and declared.get("epoch") == entry[0]:
        have = declared.get("have")
        need = f"{declared.get('need')} of {len(facts.voters) or '?'}"
        yield say("entry.committed", declared, z=name, have=nodes(have), need=need)
    elif begun is not None and (facts.heard is None or facts.heard.get("epoch") != entry[0]):
        have = begun[1].get("have")
        yield say("entry.inherited", begun[1], z=name, epoch=begun[0], have=nodes(have))
    else:
        heard = facts.heard or declared
        assert heard is not None
        yield say("entry.heard", heard, z=name, n=heard.n, by=heard.get("by", "a quorum"))


def _applied(facts: Facts, entry: Place) -> Iterable[Clause]:
    if facts.applies:
        shown = next((event for event in facts.applies.values() if event.zxid() == entry), None)
        digest = f"state {shown.get('digest')}" if shown is not None else "in one batch with what follows it"
        proof = shown or next(iter(facts.applies.values()))
        yield say("entry.applied", proof, nodes=nodes(sorted(facts.applies)), digest=digest)
    for node in in_order(facts):
        if node.n in facts.applies:
            continue
        if node.got is not None and node.wrote is None and not is_down(facts, node):
            yield say("voter.writing", node.got, n=node.n, ago=ago(facts.newest - node.got.t))
            yield from faults_of(node)
        else:
            yield standing(facts, node)


def _epoch_that_has_it(facts: Facts, entry: Place) -> tuple[int, Event] | None:
    """The first later epoch that was established with it."""
    for number in sorted(facts.epochs):
        epoch = facts.epochs[number]
        if number > entry[0] and epoch.established is not None and epoch.began_with is not None:
            if facts.holds(epoch.began_with[0], entry):
                return number, epoch.established
    return None


def _epoch_without_it(facts: Facts, entry: Place) -> Clause | None:
    """The first later epoch that was established without it: whatever came before it is final."""
    for number in sorted(facts.epochs):
        epoch = facts.epochs[number]
        if number > entry[0] and epoch.established is not None and epoch.began_with is not None:
            end, shown = epoch.began_with
            if facts.holds(end, entry) is False:
                return say("entry.replaced", shown, z=zxid(entry), epoch=number, end=zxid(end))
    return None


def _proposal(facts: Facts, entry: Place) -> Event | None:
    """What shows that it was ever proposed."""
    if facts.proposed is not None:
        return facts.proposed
    for node in facts.nodes.values():
        for event in (node.got, node.wrote, node.cut):
            if event is not None:
                return event
    return None


def _unproposed(facts: Facts, entry: Place) -> Clause:
    epoch = facts.epochs.get(entry[0])
    if epoch is None or epoch.proposed is None:
        return say("entry.untold", None, z=zxid(entry))
    last, shown = epoch.proposed
    return say("entry.unproposed", shown, z=zxid(entry), epoch=entry[0], last=zxid(last))


def _leader_of(facts: Facts, number: int) -> NodeFacts | None:
    epoch = facts.epochs.get(number)
    shown = facts.proposed or (epoch and (epoch.established or epoch.promised or epoch.elected))
    if shown is not None and shown:
        return facts.nodes.get(shown.n)
    named = (node.leader for node in facts.nodes.values() if node.epoch == number and node.leader is not None)
    return facts.nodes.get(next(named, -1))


def _waiting(facts: Facts, entry: Place, told: Event) -> Clause:
    """How far its leader has come with it."""
    have = sorted(facts.copies)
    newest = max(facts.copies.values(), key=lambda event: event.seq, default=told)
    counted = f"{len(have)} ({nodes(have)})" if have else "none"
    return say("entry.waiting", newest, z=zxid(entry), have=counted, need=newest.get("need", facts.majority))


def _deposed(facts: Facts, entry: Place) -> Iterable[Clause]:
    leader = _leader_of(facts, entry[0])
    if leader is None:
        return
    if leader.role != "LEADING" and leader.left is not None:
        yield say("entry.deposed", leader.left, n=leader.n, text=text_of(leader.left))
    elif leader.former is not None and leader.epoch != entry[0]:
        yield restarted(facts, leader)
    if is_down(facts, leader):
        yield why_down(facts, leader)
    yield from faults_of(leader)


def _open(facts: Facts, entry: Place) -> Iterable[Clause]:
    for node in in_order(facts):
        shown = node.wrote or node.got
        if shown is not None and facts.holds(node.end, entry) is not False:
            yield say("entry.open", shown, n=node.n)


def _cuts(facts: Facts) -> Iterable[Clause]:
    for node in in_order(facts):
        if node.cut is not None:
            was = node.cut.get("was")
            leader = node.leader if node.leader is not None else "?"
            to = dotted(node.cut.get("z"))
            yield say("entry.cut", node.cut, n=node.n, was=dotted(was or [*(facts.about or ())]), to=to, leader=leader)


# ---- why a voter has not acknowledged ------------------------------------------------------------------------------


def _why_not_copied(facts: Facts, entry: Place) -> Iterable[Clause]:
    leader = _leader_of(facts, entry[0])
    if leader is None:
        return
    for node in in_order(facts):
        if node.n != leader.n and node.n not in facts.copies:
            yield _why_no_ack(facts, entry, leader, node)


def _why_no_ack(facts: Facts, entry: Place, leader: NodeFacts, node: NodeFacts) -> Clause:
    n, sent = node.n, leader.sent_to.get(node.n)
    dropped = node.dropped.get(leader.n) or leader.dropped.get(n)
    if is_down(facts, node):
        return why_down(facts, node)
    held = _held(entry, leader, node)
    if held is not None:
        return say("voter.held", held, type=held.get("type"), to=held.n)
    if node.acked is not None and node.acked.get("mid") not in facts.ack_heard:
        return say("voter.ack_lost", node.acked, n=n, leader=leader.n)
    told = facts.proposed or sent
    if dropped is not None and node.wrote is None and (told is None or dropped.t >= told.t):
        kind, fault = dropped.get("type"), dropped.get("fault")
        return say("voter.dropped", dropped, type=kind, leader=leader.n, n=n, fault=fault)
    if node.uncounted is not None:
        return say("voter.uncounted", node.uncounted, n=n)
    assert node.state is not None or node.last is not None
    if node.role in ("FOLLOWING", "LEADING") and node.leader != leader.n:
        return say("voter.elsewhere", node.state, n=n, leader=node.leader, epoch=node.epoch)
    if node.role == "FOLLOWING" and node.phase != "BROADCAST":
        return say("voter.syncing", node.state, n=n)
    if node.role not in ("FOLLOWING", "LEADING"):
        return standing(facts, node)
    if node.got is not None and node.wrote is None:
        return say("voter.writing", node.got, n=n, ago=ago(facts.newest - node.got.t))
    if node.wrote is not None:
        return say("voter.ack_lost", node.wrote, n=n, leader=leader.n)
    if sent is not None:
        return say("voter.unreached", sent, n=n, ago=ago(facts.newest - sent.t))
    proof = leader.unlinked.get(n) or facts.proposed or node.last
    return say("voter.unlinked", proof, n=n, leader=leader.n)


def _held(entry: Place, leader: NodeFacts, node: NodeFacts) -> Event | None:
    """Step mode: the message that nobody has let through yet, of those that must get there in turn."""
    for at, source, types in ((node, leader, ("PROPOSE", "SYNC_TXNS")), (leader, node, ("ACK",))):
        for event in at.held.values():
            last = event.zxid()
            if event.get("from") != source.n or event.get("type") not in types or last is None or last < entry:
                continue
            if at is leader or (event.zxid("z0") or last) <= entry:  # an ACK is of all before it, too
                return event
    return None
