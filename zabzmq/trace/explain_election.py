"""`explain last-election`: who was elected, by whom, and why nobody else. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from zabzmq.trace.explain import Answer, Clause, nodes, say, text_of, zxid
from zabzmq.trace.explain_standing import in_order, is_down, why_down, why_looking
from zabzmq.trace.reading import Event
from zabzmq.trace.reduced import EpochFacts, Facts, NodeFacts, Place
from zabzmq.trace.telling import triple


def explain_election(facts: Facts) -> Answer:
    question, elected = "last-election", facts.elected
    winner = facts.nodes.get(elected.n) if elected is not None else None
    clauses: list[Clause] = []
    if elected is None or winner is None or winner.role != "LEADING" or is_down(facts, winner):
        looking = [node for node in in_order(facts) if node.role == "LOOKING" and not is_down(facts, node)]
        if looking:
            clauses += _unsupported(facts, looking)
            if elected is None:
                return Answer(question, "electing", tuple(clauses))
            if winner is not None and is_down(facts, winner):
                clauses.append(why_down(facts, winner))
            return Answer(question, "electing", (*clauses, *_told_election(facts, elected)))
    if elected is None:
        return Answer(question, "unknown", (say("election.untold", None),))
    if winner is not None and is_down(facts, winner):
        clauses.append(why_down(facts, winner))
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
        yield from why_looking(node)


def _told_election(facts: Facts, elected: Event) -> Iterable[Clause]:
    epoch = _epoch_of(facts, elected)
    yield why_elected(facts, elected)
    if facts.winning is not None:
        for node in in_order(facts):
            if node.n != elected.n:
                yield from why_not_elected(facts, node, elected, facts.winning)
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


def why_elected(facts: Facts, elected: Event) -> Clause:
    vote = triple(facts.winning.fields) if facts.winning is not None else "not told"
    have, need = elected.get("have"), elected.get("need", facts.majority)
    return say("election.won", elected, n=elected.n, have=nodes(have), need=need, vote=vote)


def why_not_elected(facts: Facts, node: NodeFacts, elected: Event, winning: Event) -> Iterable[Clause]:
    own, votes = facts.races.get(node.n, (None, []))
    theirs = compared(winning)
    last = votes[-1] if votes else None
    if own is None or own.get("candidate") != node.n:
        if last is not None and last.get("why") == "abstained":
            yield say("election.abstained", last, n=node.n, text=text_of(last))
        elif last is not None and last.get("candidate") is None:
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
