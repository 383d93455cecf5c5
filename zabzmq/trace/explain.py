"""Why, in sentences that events prove: about an entry, a node, or the last election. Pure.

The sentences stand in explain_words.py, the facts come from reduced.py. A clause without an event to prove it is only
ever one that says that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from zabzmq.trace.explain_words import WORDS
from zabzmq.trace.reading import Event
from zabzmq.trace.reduced import EpochFacts, Facts, NodeFacts, Place
from zabzmq.trace.telling import dotted, ids, triple

SILENT_S: Final = 2.0
"""A node tells something every second; who has been silent for two is down or stands still."""
STOPPED: Final = ("stopped by", "ERROR")
"""How the last words of a process begin that ended by itself."""
ENDING_FAULTS: Final = frozenset(("crash", "kill", "powercut"))


class Clause(NamedTuple):
    """One sentence, and the event that proves it."""

    code: str
    text: str
    proof: Event | None

    def as_json(self) -> dict[str, Any]:
        proof = self.proof
        shown = None if proof is None else {"n": proof.n, "boot": proof.boot, "seq": proof.seq}
        return {"code": self.code, "text": self.text, "proof": shown}


class Answer(NamedTuple):
    """`answer` in a word or two, and why."""

    question: str
    answer: str
    clauses: tuple[Clause, ...]

    def as_json(self) -> dict[str, Any]:
        clauses = [clause.as_json() for clause in self.clauses]
        return {"v": 1, "question": self.question, "answer": self.answer, "clauses": clauses}


def say(code: str, proof: Event | None, **operands: object) -> Clause:
    return Clause(code, WORDS[code].format(**operands), proof)


def ago(seconds: float) -> str:
    return f"{max(0.0, seconds) * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def zxid(place: Place | None) -> str:
    return "nothing" if place is None else f"{place[0]}.{place[1]}"


def nodes(found: object) -> str:
    """Node ids in words."""
    many = isinstance(found, list | tuple | set | frozenset) and len(found) != 1
    return f"node{'s' if many else ''} {ids(found)}" if found else "no node"


def operations(count: object) -> str:
    return f"{count} operation{'' if count == 1 else 's'}"


def text_of(event: Event | None) -> str:
    """What an event says of its cause."""
    return str(event.get("text") or event.get("why") or event.get("what") or event.k) if event is not None else ""


# ---- an entry ------------------------------------------------------------------------------------------------------


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
    if leader is not None and leader.role == "LEADING" and leader.epoch == entry[0] and not _is_down(facts, leader):
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
    for node in _in_order(facts):
        if node.n in facts.applies:
            continue
        if node.got is not None and node.wrote is None and not _is_down(facts, node):
            yield say("voter.writing", node.got, n=node.n, ago=ago(facts.newest - node.got.t))
            yield from _faulty(node)
        else:
            yield _standing(facts, node)


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
        yield _restarted(facts, leader)
    if _is_down(facts, leader):
        yield _down(facts, leader)
    yield from _faulty(leader)


def _open(facts: Facts, entry: Place) -> Iterable[Clause]:
    for node in _in_order(facts):
        shown = node.wrote or node.got
        if shown is not None and facts.holds(node.end, entry) is not False:
            yield say("entry.open", shown, n=node.n)


def _cuts(facts: Facts) -> Iterable[Clause]:
    for node in _in_order(facts):
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
    for node in _in_order(facts):
        if node.n != leader.n and node.n not in facts.copies:
            yield _why_no_ack(facts, entry, leader, node)


def _why_no_ack(facts: Facts, entry: Place, leader: NodeFacts, node: NodeFacts) -> Clause:
    n, sent = node.n, leader.sent_to.get(node.n)
    dropped = node.dropped.get(leader.n) or leader.dropped.get(n)
    if _is_down(facts, node):
        return _down(facts, node)
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
        return _standing(facts, node)
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


# ---- a node --------------------------------------------------------------------------------------------------------


def explain_node(facts: Facts, n: int) -> Answer:
    question = f"node {n}"
    node = facts.nodes.get(n)
    if node is None:
        return Answer(question, "unknown", (say("node.untold", None, n=n),))
    down = _is_down(facts, node)
    clauses = [_down(facts, node) if down else _standing(facts, node)]
    if not down:
        clauses += _looking(node)
        clauses += _faulty(node)
        if node.paused is not None:
            clauses.append(say("node.paused", node.paused))
        clauses += _reign(facts, node)
    clauses += _how_far(facts, node, down)
    clauses += _refusals(node)
    if node.former is not None:
        clauses.append(_restarted(facts, node))
    answer = "down" if down else node.role.lower() if node.role != "LOOKING" else "looking"
    return Answer(question, answer, tuple(clauses))


def _in_order(facts: Facts) -> list[NodeFacts]:
    return [facts.nodes[n] for n in sorted(facts.nodes)]


def _last_words(node: NodeFacts) -> str:
    """What a process said when it ended by itself, or ""."""
    last = node.last
    text = str(last.get("text") or "") if last is not None and last.k == "note" else ""
    return text if text.startswith(STOPPED) else ""


def _is_down(facts: Facts, node: NodeFacts) -> bool:
    """As far as its own events and those of others tell."""
    last = node.last
    assert last is not None
    if node.role == "FAILED" or _last_words(node) or (last.k == "fault" and last.get("what") in ENDING_FAULTS):
        return True
    if facts.newest - last.t >= SILENT_S:
        return True
    others = [other for other in facts.nodes.values() if other.n != node.n and _speaks(facts, other)]
    gone = [other for other in others if (event := other.gone.get(node.n)) is not None and event.t > last.t]
    return bool(others) and gone == others


def _restarted(facts: Facts, node: NodeFacts) -> Clause:
    begun = facts.begun[node.n]
    return say("node.restarted", begun, n=node.n, z=zxid(begun.zxid()), ago=ago(facts.newest - begun.t))


def _speaks(facts: Facts, node: NodeFacts) -> bool:
    return node.last is not None and facts.newest - node.last.t < SILENT_S and not _last_words(node)


def _down(facts: Facts, node: NodeFacts) -> Clause:
    last = node.last
    assert last is not None
    if node.role == "FAILED":
        return say("node.failed", node.state, n=node.n, text=text_of(node.state))
    if last.k == "fault" and last.get("what") in ENDING_FAULTS:
        return say("node.crashed", last, n=node.n, what=last.get("what"))
    if _last_words(node):
        return say("node.stopped", last, n=node.n, text=_last_words(node))
    return say("node.silent", last, n=node.n, ago=ago(facts.newest - last.t))


def _standing(facts: Facts, node: NodeFacts) -> Clause:
    """What it is now, and since when."""
    if _is_down(facts, node):
        return _down(facts, node)
    state, phase = node.state, node.phase.lower()
    if node.role == "LEADING":
        epoch = facts.epochs.get(node.epoch)
        if node.phase == "BROADCAST" and state is not None:
            proof = epoch.established if epoch is not None and epoch.established is not None else state
            have, need = proof.get("have"), proof.get("need", facts.majority)
            return say("node.leads", proof, n=node.n, epoch=node.epoch, have=nodes(have), need=need)
        return say("node.leading", state, n=node.n, phase=phase, epoch=node.epoch)
    if node.role == "FOLLOWING":
        return say("node.follows", state, n=node.n, leader=node.leader, epoch=node.epoch, phase=phase)
    shown = node.left or node.state or node.last
    assert shown is not None
    return say("node.looking", shown, n=node.n, ago=ago(facts.newest - shown.t), text=text_of(shown))


def _looking(node: NodeFacts) -> Iterable[Clause]:
    if node.role != "LOOKING":
        return
    if node.alone is not None:
        up = node.alone.get("up")
        yield say("node.alone", node.alone, up=nodes(up), need=node.alone.get("need"))
    if node.uncounted is not None:
        yield say("node.uncounted", node.uncounted)


def _faulty(node: NodeFacts) -> Iterable[Clause]:
    if node.fault is not None and node.fault.get("what") not in ENDING_FAULTS:
        yield say("node.fault", node.fault, what=_fault_text(node.fault))


def _fault_text(event: Event) -> str:
    """The fault table in a few words."""
    disk_ms = event.get("disk_ms")
    rules = event.get("rules")
    told = [f"every sync of its disk takes {disk_ms:g} ms longer"] if isinstance(disk_ms, float) and disk_ms else []
    for rule in rules if isinstance(rules, list) else []:
        if isinstance(rule, dict):
            what = [f"{key} {value}" for key, value in rule.items() if key != "peer" and value]
            told.append(f"node {rule.get('peer')}: {', '.join(what)}")
    return "; ".join(told) or str(event.get("what"))


def _reign(facts: Facts, node: NodeFacts) -> Iterable[Clause]:
    """Why it leads, or why it was not elected."""
    elected = facts.elected
    if elected is None:
        return
    if elected.n == node.n:
        if node.role == "LEADING":
            yield _won(facts, elected)
    elif facts.winning is not None:
        yield from _lost(facts, node, elected, facts.winning)


def _how_far(facts: Facts, node: NodeFacts, down: bool) -> Iterable[Clause]:
    if node.synced is not None and node.role == "FOLLOWING":
        method, end, start = node.synced.get("method"), node.synced.get("z"), node.synced.get("z0")
        had = f"it had {dotted(start)}, " if start is not None else ""
        how = f"{had}up to {dotted(end)} was sent" if start != end else f"it had all up to {dotted(end)}"
        match node.synced.get("why"):
            case "diverged":
                how += f"; its log went on to {dotted(node.synced.get('last'))}, which is not in the leader's history"
            case "purged":
                how += (
                    f"; the leader's log, which begins after {dotted(node.synced.get('base'))}, reaches not so far back"
                )
        yield say("node.synced", node.synced, leader=node.synced.n, method=method, how=how)
    if node.truncate is not None:
        was, to = dotted(node.truncate.get("was")), dotted(node.truncate.get("z"))
        leader = node.leader if node.leader is not None else "?"
        yield say("node.truncated", node.truncate, n=node.n, was=was, to=to, leader=leader)
    applied = node.applied.zxid() if node.applied is not None else None
    newest = facts.committed.zxid() if facts.committed is not None else None
    if newest is not None and (applied is None or applied < newest):
        yield say("node.behind", node.applied or node.last, applied=zxid(applied), committed=zxid(newest))
    elif applied is not None and not down:
        yield say("node.current", node.applied, applied=zxid(applied))
    cut_off = node.role == "LOOKING" or node.phase != "BROADCAST"
    if cut_off and not down and node.commit is not None:
        since = ago(facts.newest - node.commit.t)
        yield say("node.stale", node.commit, applied=zxid(applied), ago=since)


def _refusals(node: NodeFacts) -> Iterable[Clause]:
    if node.refused is not None:
        yield say(
            "node.refused", node.refused, what=operations(node.refused.get("count")), text=node.refused.get("text")
        )
    if node.undecided is not None:
        event = node.undecided
        first, last = dotted(event.get("z0")), dotted(event.get("z"))
        yield say(
            "node.undecided",
            event,
            what=operations(event.get("count")),
            z=first if first == last else f"{first} to {last}",
        )


# ---- the last election ---------------------------------------------------------------------------------------------


def explain_election(facts: Facts) -> Answer:
    question, elected = "last-election", facts.elected
    winner = facts.nodes.get(elected.n) if elected is not None else None
    clauses: list[Clause] = []
    if elected is None or winner is None or winner.role != "LEADING" or _is_down(facts, winner):
        looking = [node for node in _in_order(facts) if node.role == "LOOKING" and not _is_down(facts, node)]
        if looking:
            clauses += _unsupported(facts, looking)
            if elected is None:
                return Answer(question, "electing", tuple(clauses))
            if winner is not None and _is_down(facts, winner):
                clauses.append(_down(facts, winner))
            return Answer(question, "electing", (*clauses, *_told_election(facts, elected)))
    if elected is None:
        return Answer(question, "unknown", (say("election.untold", None),))
    if winner is not None and _is_down(facts, winner):
        clauses.append(_down(facts, winner))
    return Answer(question, "elected", (*_told_election(facts, elected), *clauses))


def _unsupported(facts: Facts, looking: list[NodeFacts]) -> Iterable[Clause]:
    if facts.cause is not None:
        yield say("election.cause", facts.cause, n=facts.cause.n, text=text_of(facts.cause))
    votes = [(node.n, node.votes[-1]) for node in looking if node.votes]
    if votes:
        told = ", ".join(f"{n} for {triple(vote.fields)}" for n, vote in votes)
        newest = max((vote for _, vote in votes), key=lambda vote: vote.t)
        yield say("election.unsupported", newest, votes=told, need=facts.majority)
    for node in looking:
        yield from _looking(node)


def _told_election(facts: Facts, elected: Event) -> Iterable[Clause]:
    epoch = _epoch_of(facts, elected)
    yield _won(facts, elected)
    if facts.winning is not None:
        for node in _in_order(facts):
            if node.n != elected.n:
                yield from _lost(facts, node, elected, facts.winning)
    if epoch is None:
        winner = facts.nodes[elected.n]
        state = winner.state or elected
        phase, role = str(state.get("phase")).lower(), state.get("role")
        yield say("election.unfinished", state, n=winner.n, role=role, phase=phase, text=text_of(state))
        return
    number, found = epoch
    if found.saved is not None:
        yield say("election.epoch", found.saved, epoch=number)
    if found.promised is not None:
        have, need = found.promised.get("have"), found.promised.get("need", facts.majority)
        yield say("election.promised", found.promised, have=nodes(have), need=need)
    if found.established is not None:
        have, need = found.established.get("have"), found.established.get("need", facts.majority)
        end = zxid(found.began_with[0]) if found.began_with is not None else "?"
        yield say("election.established", found.established, have=nodes(have), need=need, epoch=number, z=end)


def _epoch_of(facts: Facts, elected: Event) -> tuple[int, EpochFacts] | None:
    for number, epoch in facts.epochs.items():
        if epoch.elected is elected and epoch.promised is not None:
            return number, epoch
    return None


def _won(facts: Facts, elected: Event) -> Clause:
    vote = triple(facts.winning.fields) if facts.winning is not None else "not told"
    have, need = elected.get("have"), elected.get("need", facts.majority)
    return say("election.won", elected, n=elected.n, have=nodes(have), need=need, vote=vote)


def _lost(facts: Facts, node: NodeFacts, elected: Event, winning: Event) -> Iterable[Clause]:
    own, votes = facts.races.get(node.n, (None, []))
    theirs = compared(winning)
    last = votes[-1] if votes else None
    if own is None or own.get("candidate") != node.n:
        if last is not None and last.get("candidate") is None:
            yield say("election.uncounted", last, n=node.n)
            if node.joined is not None:
                yield say("election.joined", node.joined, n=node.n)
        elif last is not None:
            first = next(vote for vote in votes if vote.get("candidate") is not None)
            yield say("election.same", first, n=node.n, candidate=first.get("candidate"))
        else:
            yield say("election.absent", facts.absent.get(node.n) or node.last, n=node.n)
        return
    mine = compared(own)
    beaten = next((vote for vote in votes if vote.get("candidate") != node.n and vote.seq > own.seq), own)
    told = {"n": node.n, "mine": triple(own.fields), "theirs": triple(winning.fields)}
    if mine > theirs:
        yield say("election.early", own, **told)
    else:
        yield say("election.lost", beaten, **told, reason=_reason(mine, theirs))


def compared(vote: Event) -> tuple[int, Place, int]:
    """What votes are compared by, in this order (PROTOCOL 3.2)."""
    epoch, id = vote.get("epoch"), vote.get("id", vote.get("candidate"))
    return (epoch if isinstance(epoch, int) else 0, vote.zxid() or (0, 0), id if isinstance(id, int) else -1)


def _reason(mine: tuple[int, Place, int], theirs: tuple[int, Place, int]) -> str:
    if mine[0] != theirs[0]:
        return "an older epoch"
    return "a shorter history" if mine[1] != theirs[1] else "the same history, and a lower id"
