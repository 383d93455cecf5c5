"""What people have a node write into its event log: a prediction, before they kill another one (docs/control.md)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from zabzmq.net.faults import FaultError

NAME_MAX: Final = 64
ANSWERS: Final = {
    "same": "the same leader stays",
    "another": "another leader, in a higher epoch",
    "none": "no leader, writes stop",
}


class Prediction(msgspec.Struct, forbid_unknown_fields=True):
    """Asked what will happen when node `target` is killed, `by` gave this answer."""

    by: Annotated[str, Meta(max_length=NAME_MAX)]
    question: Literal["kill"]
    target: int
    answer: Literal["same", "another", "none"]

    @property
    def fields(self) -> dict[str, Any]:
        return {"what": "predict", **msgspec.structs.asdict(self)}

    @property
    def text(self) -> str:
        who = repr(self.by) if self.by else "somebody"
        return f"{who} predicts of killing node {self.target}: {ANSWERS[self.answer]}"


def prediction(body: bytes, node: int, nodes: Collection[int]) -> Prediction:
    """Raises FaultError with what is wrong."""
    try:
        said = msgspec.json.decode(body, type=Prediction)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FaultError(str(error)) from None
    if said.target not in nodes:
        raise FaultError(f"there is no node {said.target}")
    if said.target == node:
        raise FaultError(f"node {node} is the one that dies: tell another node")
    return said
