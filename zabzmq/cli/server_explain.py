"""`explain 3.8 | node 3 | last-election`: why, from the event logs, beside a running cluster or after it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import click

from zabzmq.cli.common import Exit, UserError, unmarked
from zabzmq.cli.server_trace import Logs, fitting
from zabzmq.server.config import Config
from zabzmq.trace.explain import Answer
from zabzmq.trace.explain_election import explain_election
from zabzmq.trace.explain_entry import explain_entry
from zabzmq.trace.explain_node import explain_node
from zabzmq.trace.reduced import Facts

ASKED = "ask for an entry (3.8), a node (node 3), or last-election"
_ENTRY = re.compile(r"(\d{1,10})\.(\d{1,10})")


def show_explanation(config: Config, question: Sequence[str], files: Sequence[Path], *, as_json: bool) -> int:
    answer = answer_to(config, question, files)
    if as_json:
        click.echo(json.dumps(answer.as_json(), ensure_ascii=False))
    else:
        for line in told(answer):
            click.echo(fitting(line))
    return Exit.OK


def answer_to(config: Config, question: Sequence[str], files: Sequence[Path]) -> Answer:
    """Raises UserError when nobody could know what is asked, or no log is there."""
    match list(question):
        case [text] if (found := _ENTRY.fullmatch(text)) is not None:
            return explain_entry(_gathered(config, files, Facts((int(found[1]), int(found[2])))))
        case ["node", text] if text.isascii() and text.isdigit() and len(text) < 10:
            return explain_node(_gathered(config, files, Facts()), int(text))
        case ["last-election"]:
            return explain_election(_gathered(config, files, Facts()))
    asked = " ".join(map(unmarked, question))
    raise UserError(f"nothing is known of {asked!r} here: {ASKED}", exit_code=Exit.USAGE)


def _gathered(config: Config, files: Sequence[Path], facts: Facts) -> Facts:
    for event in Logs(config, files).events():
        facts.feed(event)
    return facts


def told(answer: Answer) -> list[str]:
    """The answer, and a line for each clause with the event that proves it."""
    lines = [
        f"{answer.question}: {answer.answer}, because" if answer.clauses else f"{answer.question}: {answer.answer}"
    ]
    for clause in answer.clauses:
        proof = f"   [{clause.proof.name}]" if clause.proof is not None else ""
        lines.append(f"  - {clause.text}{proof}")
    return lines
