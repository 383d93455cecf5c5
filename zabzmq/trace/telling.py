"""Events in words: one short line each, for `trace merge`, `trace tail`, and whatever else shows events to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zabzmq.trace.reading import Event

QUIET: Final = frozenset(("HEARTBEAT", "HB_ECHO"))
"""What is told once a second whatever happens, and left out where people read."""

MARKS: Final = {"LOOKING": "?", "FOLLOWING": "●", "LEADING": "★", "OBSERVING": "○", "FAILED": "✕"}


def is_quiet(event: Event) -> bool:
    return event.get("type") in QUIET


def tell(event: Event) -> str:
    """What happened. Whatever an event holds, this is one printable line."""
    teller = _TELLERS.get(event.k)
    told = " ".join((_plainly(event) if teller is None else teller(event)).split())
    return told if told.isprintable() else "".join(c if c.isprintable() else "?" for c in told)


def dotted(value: Any) -> str:
    """A zxid as people write it."""
    match value:
        case [int(epoch), int(counter)]:
            return f"{epoch}.{counter}"
        case _:
            return "?" if value is None else str(value)


def triple(vote: Any) -> str:
    """What votes are compared by, in that order."""
    if not isinstance(vote, dict) or vote.get("candidate") is None:
        return "none"
    return f"({vote.get('epoch')}, {dotted(vote.get('z'))}, {vote.get('id', vote.get('candidate'))})"


def ids(value: Any) -> str:
    """Node ids in words: 0, 1 and 3."""
    found = [str(id) for id in value] if isinstance(value, list | tuple | set | frozenset) else []
    if not found:
        return "nobody"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def span(event: Event) -> str:
    """The zxids of a batch."""
    first, last = event.get("z0"), event.get("z")
    if last is None:
        return ""
    return dotted(last) if first is None or first == last else f"{dotted(first)} to {dotted(last)}"


# ---- by kind -------------------------------------------------------------------------------------------------------


def _boot(event: Event) -> str:
    unsafe = "".join(f", UNSAFE: {switch}" for switch in event.get("unsafe") or ())
    return f"started, log ends at {dotted(event.get('z'))}, epoch {event.get('current')}{unsafe}"


def _state(event: Event) -> str:
    role, phase = event.get("role"), str(event.get("phase")).lower()
    mark = MARKS.get(str(role), " ")
    leader = f" {event.get('leader')}" if role == "FOLLOWING" and event.get("leader") is not None else ""
    return f"{mark} {role}{leader} {phase} e{event.get('epoch')}: {event.get('text') or event.get('why') or ''}"


def _message(event: Event) -> str:
    kind = event.get("type")
    name = f"{'send' if event.k == 'send' else 'recv'} {kind}"
    other = event.get("to") if event.k == "send" else event.get("from")
    to = "" if other is None else f" {'to' if event.k == 'send' else 'from'} {other}"
    match kind:
        case "NOTIFICATION":
            led = event.get("leader")
            stand = f"follows {led}" if event.get("state") == "FOLLOWING" else "leads"
            what = triple(event.get("vote")) if event.get("state") == "LOOKING" else stand
        case "HEARTBEAT" | "HB_ECHO":
            what = f"x{event.get('count')}"
        case "FOLLOWERINFO" | "NACK":
            what = f"{event.get('reason', '')} promised {event.get('accepted_epoch')}"
        case "LEADERINFO":
            what = f"epoch {event.get('epoch')}"
        case "ACKEPOCH":
            what = f"epoch {event.get('epoch')}, has {dotted(event.get('last'))}"
        case "SNAP":
            what = f"{span(event)}, {event.get('size')} bytes"
        case _:
            what = span(event)
    return f"{name} {what}{to}"


def _drop(event: Event) -> str:
    match event.get("what"):
        case "link":
            return f"link with {event.get('peer')} is over: {event.get('why')}"
        case "frames":
            return f"frames refused: {event.get('reasons')}"
    fault = event.get("fault")
    why = f"by {fault}" if fault is not None else event.get("why", "")
    peer = event.get("peer", event.get("from", event.get("to")))
    return f"dropped {event.get('type')} {span(event)} of {peer}: {why}"


def _persist(event: Event) -> str:
    ms = event.get("ms")
    took = f" in {ms:.1f} ms" if isinstance(ms, int | float) else ""
    match event.get("what"):
        case "epochs":
            return f"fsync epochs: promised {event.get('accepted')}, current {event.get('current')}{took}"
        case "quiesced":
            return f"disk quiet at {dotted(event.get('z'))}"
    return f"fsync {dotted(event.get('z'))}{took}"


def _propose(event: Event) -> str:
    admit = event.get("admit")
    return f"propose {span(event)}" + (f", admits node {admit}" if admit is not None else "")


def _ack(event: Event) -> str:
    return f"counts {dotted(event.get('z'))} on {ids(event.get('have'))}, needs {event.get('need')}"


def _commit(event: Event) -> str:
    how = f"on {ids(event.get('have'))}" if event.get("have") is not None else f"by {event.get('by')}"
    return f"commit {dotted(event.get('z'))} {how}"


def _apply(event: Event) -> str:
    game = event.get("game")
    target = f", target {game.get('target')} by {game.get('owner')}" if isinstance(game, dict) else ""
    return f"apply {span(event)} = {str(event.get('digest'))[:4]}{target}"


def _truncate(event: Event) -> str:
    was = event.get("was")
    return f"TRUNCATE to {dotted(event.get('z'))}" + (f", was {dotted(was)}" if was is not None else "")


def _snap(event: Event) -> str:
    return f"snapshot {event.get('what')} {span(event)}"


def _vote(event: Event) -> str:
    if event.get("candidate") is None:
        return f"vote round {event.get('round')}: none, {event.get('text', event.get('why'))}"
    return f"vote round {event.get('round')}: {triple(event.fields)}, {event.get('why')}"


def _timer(event: Event) -> str:
    return f"timer {event.get('what')}"


def _client(event: Event) -> str:
    text = f": {event.get('text')}" if event.get("text") else ""
    place = f" {span(event)}" if event.get("z") is not None else f" {event.get('count')} operations"
    return f"client {event.get('what')}{place}{text}"


def _fault(event: Event) -> str:
    rest = {key: value for key, value in event.fields.items() if key not in _COMMON and key != "what"}
    return f"FAULT {event.get('what')}" + (f" {_operands(rest)}" if rest else "")


def _invariant(event: Event) -> str:
    return f"{'holds' if event.get('ok') else 'VIOLATED'}: {event.get('name')}: {event.get('text')}"


def _note(event: Event) -> str:
    match event.get("what"):
        case "mesh":
            return f"node {event.get('peer')} is {'up' if event.get('up') else 'down'}"
        case "link":
            return f"link to {event.get('peer')} opened"
        case "sync":
            why = f" ({event.get('why')})" if event.get("why") else ""
            return f"sync of {event.get('peer')} by {event.get('method')}{why}, {span(event)}"
        case "quorum":
            ms = event.get("ms")
            left = f", gives up in {ms:.0f} ms" if isinstance(ms, int | float) else ""
            return f"heard of late: {ids(event.get('have'))}, {event.get('need')} are needed{left}"
    return str(event.get("text") or _plainly(event))


_COMMON: Final = frozenset(("v", "n", "boot", "seq", "t", "lc", "k"))


def _plainly(event: Event) -> str:
    rest = {key: value for key, value in event.fields.items() if key not in _COMMON}
    return f"{event.k} {_operands(rest)}"


def _operands(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)


_TELLERS: Final[dict[str, Callable[[Event], str]]] = {
    "boot": _boot,
    "state": _state,
    "send": _message,
    "recv": _message,
    "drop": _drop,
    "persist": _persist,
    "propose": _propose,
    "ack": _ack,
    "commit": _commit,
    "apply": _apply,
    "truncate": _truncate,
    "snap": _snap,
    "vote": _vote,
    "timer": _timer,
    "client": _client,
    "fault": _fault,
    "invariant": _invariant,
    "note": _note,
}
