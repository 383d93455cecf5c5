"""`explain node 3`: what a node is, why, and whether it is behind. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from zabzmq.trace.explain import Answer, Clause, ago, operations, say, zxid
from zabzmq.trace.explain_election import why_elected, why_not_elected
from zabzmq.trace.explain_standing import faults_of, is_down, restarted, standing, why_down, why_looking
from zabzmq.trace.reduced import Facts, NodeFacts
from zabzmq.trace.telling import dotted


def explain_node(facts: Facts, n: int) -> Answer:
    question = f"node {n}"
    node = facts.nodes.get(n)
    if node is None:
        return Answer(question, "unknown", (say("node.untold", None, n=n),))
    down = is_down(facts, node)
    clauses = [why_down(facts, node) if down else standing(facts, node)]
    if not down:
        clauses += why_looking(node)
        clauses += faults_of(node)
        if node.paused is not None:
            clauses.append(say("node.paused", node.paused))
        clauses += _reign(facts, node)
    clauses += _how_far(facts, node, down)
    clauses += _refusals(node)
    if node.former is not None:
        clauses.append(restarted(facts, node))
    answer = "down" if down else node.role.lower() if node.role != "LOOKING" else "looking"
    return Answer(question, answer, tuple(clauses))


def _reign(facts: Facts, node: NodeFacts) -> Iterable[Clause]:
    """Why it leads, or why it was not elected."""
    elected = facts.elected
    if elected is None:
        return
    if elected.n == node.n:
        if node.role == "LEADING":
            yield why_elected(facts, elected)
    elif facts.winning is not None:
        yield from why_not_elected(facts, node, elected, facts.winning)


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
