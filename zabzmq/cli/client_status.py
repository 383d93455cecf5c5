"""`status`: the whole cluster in one object and one table, as its nodes see themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zabzmq.cli.client_output import VERSION, dotted
from zabzmq.cli.colour import bad, good, heed
from zabzmq.cli.common import Exit, can_encode
from zabzmq.net.client_wire import NodeStatus

HEALTHY = "healthy"
DEGRADED = "degraded"
ELECTING = "electing"
NO_QUORUM = "no quorum"
UNREACHABLE = "unreachable"

EXITS = {
    HEALTHY: Exit.OK,
    DEGRADED: Exit.OK,
    ELECTING: Exit.NOT_DONE,
    NO_QUORUM: Exit.NOT_DONE,
    UNREACHABLE: Exit.UNREACHABLE,
}


def summary(cluster: str, replies: Mapping[int, NodeStatus | None]) -> dict[str, Any]:
    """The status object (UX 6). The voters are those that a node names, the newest epoch's where they differ."""
    answers = [reply for reply in replies.values() if reply is not None and reply.cluster == cluster]
    newest = max(answers, key=lambda reply: (reply.epoch, reply.applied), default=None)
    voters = sorted(newest.voters) if newest is not None else sorted(replies)
    up = [reply for reply in answers if reply.node in voters]
    quorum = len(voters) // 2 + 1
    lead = max((reply for reply in up if reply.established), key=lambda reply: reply.epoch, default=None)
    if not answers:
        health = UNREACHABLE
    elif len(up) < quorum:
        health = NO_QUORUM
    elif lead is None:
        health = ELECTING
    elif len(up) == len(voters) and all(
        reply.phase == "BROADCAST" and reply.leader == lead.node and reply.epoch == lead.epoch for reply in up
    ):
        health = HEALTHY
    else:
        health = DEGRADED
    by_node = {reply.node: reply for reply in answers}
    return {
        "v": VERSION,
        "cluster": cluster,
        "health": health,
        "up": len(up),
        "voters": voters,
        "quorum": quorum,
        "leader": None if lead is None else lead.node,
        "epoch": lead.epoch if lead is not None else newest.epoch if newest is not None else None,
        "game": (lead or newest).game if newest is not None else None,
        "nodes": [_node(node, by_node.get(node), lead) for node in sorted({*voters, *by_node})],
    }


def _node(node: int, reply: NodeStatus | None, lead: NodeStatus | None) -> dict[str, Any]:
    if reply is None:
        return {"node": node, "up": False, "state": "DOWN"}
    lag = None
    if lead is not None and lead.committed[0] == reply.applied[0]:
        lag = max(0, lead.committed[1] - reply.applied[1])
    return {
        "node": node,
        "up": True,
        "state": reply.state,
        "phase": reply.phase,
        "detail": reply.detail,
        "epoch": reply.epoch,
        "accepted_epoch": reply.accepted_epoch,
        "leader": reply.leader,
        "established": reply.established,
        "last": reply.last,
        "committed": reply.committed,
        "applied": reply.applied,
        "lag": lag,
        "base": reply.base,
        "snapshot": reply.snapshot,
        "digest": reply.digest,
        "joined": reply.joined,
        "space": reply.space,
        "held": reply.held,
        "sessions": reply.sessions,
        "dropped": reply.dropped,
        "pid": reply.pid,
        "boot": reply.boot,
        "uptime_ms": reply.uptime_ms,
    }


def exit_of(status: Mapping[str, Any], strict: bool) -> int:
    health: str = status["health"]
    return Exit.DEGRADED if strict and health == DEGRADED else EXITS[health]


# ---- for people --------------------------------------------------------------------------------------------------

_SYNCING = "syncing"
_SIGNS = {
    "LEADING": ("★", "*"),
    "FOLLOWING": ("●", "o"),
    _SYNCING: ("◐", "~"),
    "LOOKING": ("?", "?"),
    "DOWN": ("✕", "x"),
}
_STYLES: Final[Mapping[str, Callable[[str], str]]] = {
    HEALTHY: good,
    DEGRADED: heed,
    ELECTING: heed,
    NO_QUORUM: bad,
    UNREACHABLE: bad,
    "LEADING": good,
    _SYNCING: heed,
    "LOOKING": heed,
    "FAILED": bad,
    "DOWN": bad,
}
_COLUMNS = "{:<5}{:<11}{:<13}{:>9}{:>11}{:>5}{:>8}{:>7}"
_STATE_ENDS: Final = 5 + 11


def _stand(node: Mapping[str, Any]) -> str:
    syncs = node["up"] and node["state"] == "FOLLOWING" and node["phase"] != "BROADCAST"
    return _SYNCING if syncs else str(node["state"])


def sign_of(node: Mapping[str, Any]) -> str:
    pretty, plain = _SIGNS.get(_stand(node), ("!", "!"))
    return pretty if can_encode(pretty) else plain


def _styled(state: str, text: str) -> str:
    """Lines may hold styles: click.echo and colour.text take them out where they are not wanted."""
    return _STYLES[state](text) if state in _STYLES else text


def headline(status: Mapping[str, Any]) -> str:
    parts = [f"{_styled(status['health'], status['health'])}  {status['up']}/{len(status['voters'])} up"]
    parts.append(f"quorum {status['quorum']} {'ok' if status['up'] >= status['quorum'] else 'lost'}")
    if status["leader"] is not None:
        parts.append(f"leader {status['leader']}")
    if status["epoch"] is not None:
        parts.append(f"epoch {status['epoch']}")
    game = status["game"]
    if game:
        parts.append("no target yet" if game.get("target") is None else f"target {game['target']} (by {game['owner']})")
    return " · ".join(parts) if can_encode("·") else " | ".join(parts)


def sentence(status: Mapping[str, Any]) -> str:
    """What goes on, in one sentence."""
    nodes, up, need = status["nodes"], status["up"], status["quorum"]
    names = [str(node["node"]) for node in nodes if not node["up"]]
    down = f"node{'' if len(names) == 1 else 's'} {' '.join(names)} {'is' if len(names) == 1 else 'are'} down"
    held = sum(node["held"] for node in nodes if node.get("held") is not None)
    behind = [node for node in nodes if node["up"] and node["phase"] in ("DISCOVERY", "SYNCHRONIZATION")]
    match status["health"]:
        case "unreachable":
            return "No node answers."
        case "no quorum":
            return f"{up} of {len(status['voters'])} nodes are up, and {need} are needed: nothing can be written."
        case "electing":
            return f"No leader yet. One leads when {need} of {len(status['voters'])} nodes agree on it."
    if any(node.get("held") is not None for node in nodes):
        return f"The cluster is held: {held} messages wait, and no timer runs. n delivers the oldest."
    if behind:
        return f"Node {behind[0]['node']} is catching up: it has {dotted(behind[0]['last'])}. No client notices."
    if names:
        spare = up - need
        left = f"{spare} more may fail" if spare else "not one more may fail"
        return f"{down.capitalize()}; the others go on, and {left}."
    return f"Node {status['leader']} leads; a write counts once {need} of {len(status['voters'])} have it on disk."


def table(status: Mapping[str, Any]) -> list[str]:
    dash = "–" if can_encode("–") else "-"
    rows = [_COLUMNS.format("NODE", "STATE", "PHASE", "LAST ZXID", "COMMITTED", "LAG", "UP", "PID").rstrip()]
    rows.append(("─" if can_encode("─") else "-") * 69)
    for node in status["nodes"]:
        name = f"{node['node']} {sign_of(node)}"
        if not node["up"]:
            row = _COLUMNS.format(name, "DOWN", dash, dash, dash, dash, dash, dash).rstrip()
            rows.append(_with_style(node, row))
            continue
        phase = node["phase"].lower() if node["phase"] != "SYNCHRONIZATION" else "sync"
        if node["detail"]:
            phase = f"{phase} ({node['detail']})"
        lag = dash if node["lag"] is None else str(node["lag"])
        row = _COLUMNS.format(
            name,
            node["state"],
            phase[:12],
            dotted(node["last"]),
            dotted(node["committed"]),
            lag,
            age(node["uptime_ms"]),
            node["pid"],
        )
        rows.append(_with_style(node, row))
    return rows


def _with_style(node: Mapping[str, Any], row: str) -> str:
    """Node, sign and state."""
    return _styled(_stand(node), row[:_STATE_ENDS]) + row[_STATE_ENDS:]


def advice(status: Mapping[str, Any], options: str) -> str | None:
    """The next command to type, where one helps."""
    down = [node["node"] for node in status["nodes"] if not node["up"]]
    spare = status["up"] - status["quorum"]
    if status["health"] == UNREACHABLE:
        return f"next: python zookeeper_server.py{options} cluster up"
    if not down:
        return None
    left = f"{spare} more failure{'' if spare == 1 else 's'} {'is' if spare == 1 else 'are'} survivable"
    if spare < 0:
        left = f"{-spare} more node{'' if spare == -1 else 's'} needed for a quorum"
    return f"next: python zookeeper_server.py{options} node {down[0]}        ({left})"


def age(ms: int) -> str:
    seconds = ms // 1000
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
