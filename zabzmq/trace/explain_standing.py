"""What a node is now, as far as its own events and those of others tell: part of every answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from zabzmq.trace.explain import Clause, ago, nodes, say, text_of, zxid
from zabzmq.trace.reading import Event
from zabzmq.trace.reduced import Facts, NodeFacts

SILENT_S: Final = 2.0
"""A node tells something every second; who has been silent for two is down or stands still."""
STOPPED: Final = ("stopped by", "ERROR")
"""How the last words of a process begin that ended by itself."""
ENDING_FAULTS: Final = frozenset(("crash", "kill", "powercut"))


def standing(facts: Facts, node: NodeFacts) -> Clause:
    """What it is now, and since when."""
    if is_down(facts, node):
        return why_down(facts, node)
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


def why_looking(node: NodeFacts) -> Iterable[Clause]:
    if node.role != "LOOKING":
        return
    if node.alone is not None:
        up = node.alone.get("up")
        yield say("node.alone", node.alone, up=nodes(up), need=node.alone.get("need"))
    if node.uncounted is not None:
        yield say("node.uncounted", node.uncounted)
    if node.abstains is not None:
        yield say("node.abstains", node.abstains, text=text_of(node.abstains))


def is_down(facts: Facts, node: NodeFacts) -> bool:
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


def why_down(facts: Facts, node: NodeFacts) -> Clause:
    last = node.last
    assert last is not None
    if node.role == "FAILED":
        return say("node.failed", node.state, n=node.n, text=text_of(node.state))
    if last.k == "fault" and last.get("what") in ENDING_FAULTS:
        return say("node.crashed", last, n=node.n, what=last.get("what"))
    if _last_words(node):
        return say("node.stopped", last, n=node.n, text=_last_words(node))
    return say("node.silent", last, n=node.n, ago=ago(facts.newest - last.t))


def _last_words(node: NodeFacts) -> str:
    """What a process said when it ended by itself, or ""."""
    last = node.last
    text = str(last.get("text") or "") if last is not None and last.k == "note" else ""
    return text if text.startswith(STOPPED) else ""


def _speaks(facts: Facts, node: NodeFacts) -> bool:
    return node.last is not None and facts.newest - node.last.t < SILENT_S and not _last_words(node)


def restarted(facts: Facts, node: NodeFacts) -> Clause:
    begun = facts.begun[node.n]
    return say("node.restarted", begun, n=node.n, z=zxid(begun.zxid()), ago=ago(facts.newest - begun.t))


def faults_of(node: NodeFacts) -> Iterable[Clause]:
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


def in_order(facts: Facts) -> list[NodeFacts]:
    return [facts.nodes[n] for n in sorted(facts.nodes)]
