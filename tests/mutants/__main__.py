"""Break one rule at a time and see which test notices: `python -m tests.mutants` (PROTOCOL 11: a checker that never
fails proves nothing).

Patches (patches.py) are applied to a copy of the tree, one copy per job. The tests of their area run until the first
that fails; if none does, the simulator runs seeds until a promise is broken. The mutants of zabzmq/sim/mutants.py are
switches of the simulator and are hunted there alone. The matrix goes to standard output and, line by line, to --report,
from which a run that was stopped goes on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import click

from tests.mutants.patches import ROOT, Patch, patches
from zabzmq.sim.mutants import MUTANTS

TEST_SECONDS = 300.0
SIM_SEEDS = (("3", "0..299"), ("5", "0..199"))
HUNT = (
    "import sys; from zabzmq.sim.mutants import MUTANTS, hunt; "
    "caught = hunt(MUTANTS[sys.argv[1]], range(2000), 3); "
    "print('' if caught is None else f'seed {caught.seed}, 3 nodes: ' + ', '.join(caught.names))"
)
DIRECTED = {"promise of a replaced life": "tests/sim/test_directed.py"}
"""Too rare for chance: its schedule is written down, and that test breaks the rule itself."""


class Verdict(NamedTuple):
    key: str
    rule: str
    killed_by: str  # "" for a survivor
    seconds: float


@click.command()
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--only", metavar="TEXT", default="", help="Mutants whose name contains this.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Keep verdicts here, and go on from it."
)
def main(jobs: int, only: str, report: Path | None) -> None:
    """Run every mutant and show who killed it."""
    known = _known(report)
    wanted: list[Patch | str] = [p for p in patches() if only in p.key]
    wanted += [name for name in MUTANTS if only in f"sim: {name}"]
    todo = [each for each in wanted if _key(each) not in known]
    for verdict in _run(todo, jobs):
        known[verdict.key] = verdict
        if report is not None:
            with report.open("a", encoding="utf-8") as file:
                file.write(json.dumps(verdict._asdict()) + "\n")
        click.echo(_line(verdict), err=True)
    verdicts = [known[_key(each)] for each in wanted]
    for verdict in verdicts:
        click.echo(_line(verdict))
    survivors = [verdict for verdict in verdicts if not verdict.killed_by]
    click.echo(f"{len(verdicts)} mutants, {len(verdicts) - len(survivors)} killed, {len(survivors)} survived")
    sys.exit(1 if survivors else 0)


def _key(mutant: Patch | str) -> str:
    return f"sim: {mutant}" if isinstance(mutant, str) else mutant.key


def _line(verdict: Verdict) -> str:
    return f"{verdict.key:70} {verdict.rule:18} {verdict.seconds:6.1f} s  {verdict.killed_by or 'SURVIVED'}"


def _known(report: Path | None) -> dict[str, Verdict]:
    if report is None or not report.exists():
        return {}
    found = [Verdict(**json.loads(line)) for line in report.read_text(encoding="utf-8").splitlines()]
    return {verdict.key: verdict for verdict in found}


def _run(todo: list[Patch | str], jobs: int) -> Iterator[Verdict]:
    with tempfile.TemporaryDirectory(prefix="zab-mutants-") as directory, ThreadPoolExecutor(jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            tree = Path(directory) / str(number)
            for name in ("zabzmq", "tests"):
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            for name in ("setup.cfg", "zookeeper_server.py", "client.py"):
                shutil.copy(ROOT / name, tree / name)
            trees.put(tree)

        def judge(mutant: Patch | str) -> Verdict:
            tree = trees.get()
            began = time.monotonic()
            try:
                if isinstance(mutant, str):
                    rule, killer = MUTANTS[mutant].rules, _hunted(tree, mutant)
                else:
                    rule, killer = mutant.rule, _broken(tree, mutant)
            finally:
                trees.put(tree)
            return Verdict(_key(mutant), rule, killer, round(time.monotonic() - began, 1))

        yield from pool.map(judge, todo)


def _broken(tree: Path, patch: Patch) -> str:
    path = tree / "zabzmq" / patch.file
    shipped = path.read_text(encoding="utf-8")
    path.write_text(patch.applied_to(shipped), encoding="utf-8")
    try:
        return _tested(tree, patch.tests) or _simulated(tree)
    finally:
        path.write_text(shipped, encoding="utf-8")


def _python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
        check=False,
    )


def _tested(tree: Path, tests: tuple[str, ...]) -> str:
    """The first test that fails."""
    try:
        ran = _python(tree, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests)
    except subprocess.TimeoutExpired:
        return f"{' '.join(tests)} does not end"
    if ran.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", ran.stdout, re.MULTILINE)
    return failed[1] if failed else f"exit code {ran.returncode}: {(ran.stdout + ran.stderr)[-200:]!r}"


def _simulated(tree: Path) -> str:
    for nodes, seeds in SIM_SEEDS:
        try:
            ran = _python(tree, "zookeeper_server.py", "sim", "--seeds", seeds, "--nodes", nodes, "--json")
        except subprocess.TimeoutExpired:
            return f"sim: seeds {seeds} with {nodes} nodes do not end"
        if ran.returncode == 7:
            first = json.loads(ran.stdout)["violations"][0]
            return f"sim: seed {first['seed']}, {nodes} nodes: {first['name']}"
        if ran.returncode != 0:
            return f"sim: {ran.stderr.strip().splitlines()[-1:]}"
    return ""


def _hunted(tree: Path, name: str) -> str:
    if name in DIRECTED:
        return DIRECTED[name] if _python(tree, "-m", "pytest", "-q", DIRECTED[name]).returncode == 0 else ""
    return _python(tree, "-c", HUNT, name).stdout.strip()


if __name__ == "__main__":
    main()
