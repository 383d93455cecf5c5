"""Why, in sentences that events prove: an answer is clauses, and each names its event. Pure.

The sentences stand in explain_words.py, the facts come from reduced.py; what is said of an entry, a node and the last
election has a module each, explain_entry.py, explain_node.py and explain_election.py. A clause without an event to
prove it is only ever one that says that there is none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from zabzmq.trace.explain_words import WORDS
from zabzmq.trace.reading import Event
from zabzmq.trace.reduced import Place
from zabzmq.trace.telling import ids


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
