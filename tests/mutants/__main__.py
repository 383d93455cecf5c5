"""Break one rule at a time and see which test notices: `python -m tests.mutants` (PROTOCOL 11: a checker that never
fails proves nothing).

Patches (patches.py) are applied to a copy of the tree, one copy per job. Who killed a mutant last time
(killers.json) is asked first, then the tests of its area run until the first that fails; if none does, the simulator
runs seeds until a promise is broken. The mutants of zabzmq/sim/mutants.py are switches of the simulator and are hunted
there alone. Seconds are of CPU time, and so is the limit: what else the machine does decides nothing. The matrix goes
to standard output and, line by line, to --report, from which a run that was stopped goes on; --remember keeps the
killers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import click

from tests.mutants.patches import HERE, ROOT, Patch, patches
from tests.sim.known_bugs import BUGS
from tests.sim.test_mutants import KNOWN
from zabzmq.sim.mutants import MUTANTS

CPU_SECONDS = 600
"""Of one process of ours. A mutant in which all wait for each other uses none: it has HANG_SECONDS by the clock."""
HANG_SECONDS = 3600
KILLERS = HERE / "killers.json"
SIM_SEEDS = (("3", "0..299"), ("5", "0..199"))
HUNT = (
    "import sys; from zabzmq.sim.mutants import MUTANTS, hunt; "
    "caught = hunt(MUTANTS[sys.argv[1]], range(2000), 3); "
    "print('' if caught is None else f'seed {caught.seed}, 3 nodes: ' + ', '.join(caught.names))"
)
KNOWN_BUG = (
    "import sys; from tests.sim import test_known_bugs as tests; "
    "bugs = [bug for bug in tests.BUGS if bug.mutant == sys.argv[1]]; "
    "[tests.test_it_happens_when_its_rule_is_off(bug) for bug in bugs]; "
    "print('tests/sim/test_known_bugs.py: ' + bugs[0].schedule.__name__)"
)
DIRECTED = "tests/sim/test_directed.py"
"""Too rare for chance: their schedules are written down, and its tests break the rules themselves."""


class Verdict(NamedTuple):
    key: str
    rule: str
    killed_by: str  # "" for a survivor
    seconds: float  # of CPU time


class Ran(NamedTuple):
    code: int  # negative: the signal that ended it
    out: str
    err: str


@click.command()
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--only", metavar="TEXT", default="", help="Mutants whose name contains this.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Keep verdicts here, and go on from it."
)
@click.option("--remember", is_flag=True, help="Write down who killed whom, for the next run to begin with.")
def main(jobs: int, only: str, report: Path | None, remember: bool) -> None:
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
    if remember:
        killers = killers_of_last_time() | {verdict.key: verdict.killed_by for verdict in verdicts if verdict.killed_by}
        KILLERS.write_text(json.dumps(killers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    survivors = [verdict for verdict in verdicts if not verdict.killed_by]
    click.echo(f"{len(verdicts)} mutants, {len(verdicts) - len(survivors)} killed, {len(survivors)} survived")
    sys.exit(1 if survivors else 0)


def _key(mutant: Patch | str) -> str:
    return f"sim: {mutant}" if isinstance(mutant, str) else mutant.key


def _line(verdict: Verdict) -> str:
    return f"{verdict.key:70} {verdict.rule:18} {verdict.seconds:6.1f} s  {verdict.killed_by or 'SURVIVED'}"


def killers_of_last_time() -> dict[str, str]:
    """Of each mutant, by its key: a test, or what the simulator said."""
    found: dict[str, str] = json.loads(KILLERS.read_text(encoding="utf-8"))
    return found


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

        killers = killers_of_last_time()

        def judge(mutant: Patch | str) -> Verdict:
            tree = trees.get()
            court = Court(tree)
            try:
                if isinstance(mutant, str):
                    rule, killer = MUTANTS[mutant].rules, court.hunted(mutant)
                else:
                    rule, killer = mutant.rule, court.broken(mutant, killers.get(mutant.key, ""))
            finally:
                trees.put(tree)
            return Verdict(_key(mutant), rule, killer, round(court.seconds, 1))

        yield from pool.map(judge, todo)


class Court:
    """A copy of the tree in which one mutant is tried; `seconds` it took so far."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.seconds = 0.0

    def broken(self, patch: Patch, killer: str) -> str:
        path = self.tree / "zabzmq" / patch.file
        shipped = path.read_text(encoding="utf-8")
        path.write_text(patch.applied_to(shipped), encoding="utf-8")
        try:
            before = [killer] if killer.startswith("tests/") and "::" in killer else []
            for tests in (*before, *patch.tests):
                if killed_by := self._tested(tests):
                    return killed_by
            return self._simulated()
        finally:
            path.write_text(shipped, encoding="utf-8")

    def hunted(self, name: str) -> str:
        if any(bug.mutant == name for bug in BUGS):
            return self._python("-c", KNOWN_BUG, name).out.strip()
        if name in KNOWN:
            return self._python("-c", HUNT, name).out.strip()
        return DIRECTED if self._python("-m", "pytest", "-q", DIRECTED).code == 0 else ""

    def _tested(self, tests: str) -> str:
        """The first test that fails."""
        if not (self.tree / tests.partition("::")[0]).exists():
            return ""  # The killer of last time has been renamed.
        ran = self._python("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", tests)
        if ran.code == 0 or "no tests ran" in ran.out:
            return ""
        if ran.code < 0:
            return f"{tests} does not end"
        failed = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", ran.out, re.MULTILINE)
        return failed[1] if failed else f"exit code {ran.code}: {(ran.out + ran.err)[-200:]!r}"

    def _simulated(self) -> str:
        for nodes, seeds in SIM_SEEDS:
            ran = self._python("zookeeper_server.py", "sim", "--seeds", seeds, "--nodes", nodes, "--json")
            if ran.code < 0:
                return f"sim: seeds {seeds} with {nodes} nodes do not end"
            if ran.code == 7:
                first = json.loads(ran.out)["violations"][0]
                return f"sim: seed {first['seed']}, {nodes} nodes: {first['name']}"
            if ran.code != 0:
                return f"sim: {ran.err.strip().splitlines()[-1:]}"
        return ""

    def _python(self, *arguments: str) -> Ran:
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(
                ["sh", "-c", 'ulimit -t "$0" && exec "$@"', str(CPU_SECONDS), sys.executable, *arguments],
                cwd=self.tree,
                env=environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            limit = threading.Timer(HANG_SECONDS, os.killpg, (process.pid, 9))
            limit.start()
            try:
                _, status, usage = os.wait4(process.pid, 0)
            finally:
                limit.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            self.seconds += usage.ru_utime + usage.ru_stime
            out.seek(0)
            err.seek(0)
            return Ran(process.returncode, out.read(), err.read())


if __name__ == "__main__":
    main()
