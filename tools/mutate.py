"""Measure how many small faults the tests notice: ``python tools/mutate.py``.

Needs the extras "dev" and "mutation". mutmut plants one fault at a time (``<`` becomes ``<=``, an
argument is dropped, a ``case`` disappears) and runs the tests that call the changed function. A
fault that passes them all survives; the report lists it as ``file:line: original -> mutant``. The
score is the share of mutants that do not survive. A mutant in a function that no test calls counts
as a survivor, one that runs into a time limit as killed.

All mutants of the tree would take hours, so the command draws a sample: ``--sample`` mutants with
``--seed``, from each file in proportion to its lines. The same tree and seed give the same sample.
The margin beside a score is its 95 % interval. The sample leaves out mutants that change nothing
but a message for people, and calls of a log. mutmut changes the bodies of functions and methods,
except decorated ones (properties), and no statement of a module or class. Nor can it judge a
function that already runs while its module is imported, as that happens before it plants the fault:
if such a mutant survives, the report lists it as unjudged and the score leaves it out.

Tests that plant faults themselves, to show that others find them, judge no mutant and are left out
("without_coverage"): they take two fifths of the time. In a sample, tests by Hypothesis try ten
examples; --again and --only, which look at single mutants, try all.

The sample runs in batches, in random order. When ``--minutes`` have passed, the command abandons
the running batch and does not count it: mutmut runs the quickest mutants of a batch first, so a
part of one would be biased. One worker runs at a time, on the processors this process may use
(prefix the command with ``taskset -c 1`` to spare the others), and no process may allocate more
than ``--memory`` GiB. A test that exceeds ``--test-timeout`` fails and so kills its mutant.

The command works in a temporary copy and leaves the work tree alone. To look at survivors again::

    python tools/mutate.py --only exai_actors/core/circuit.py:40
    python tools/mutate.py --again mutation.txt

Both run every mutant of the given lines; ``mutation.txt`` is the ``--output`` of an earlier run.
Exits with 1 if a mutant of ``--only`` or ``--again`` survives, with 2 if the tests fail on the
unchanged code or the options make no sense.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.mutants import Mutant, Source, run_by_import, sample, sources

ROOT = Path(__file__).resolve().parent.parent
PATHS = ("exai_actors/core", "exai_actors/actors")
TESTS = ("tests/core", "tests/actors", "tests/scenarios", "tests/console")
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "mutants")
SURVIVOR = re.compile(r"(\S+\.py):(\d+): ")
LOG_CALL = r"\blog(ger)?\.(debug|info|warning|error|exception|critical)\("
# The exit codes mutmut records for a mutant (see its stats.py); any other is a kill.
SURVIVED = {0}
NO_TEST = {5, 33}
TIMEOUT = {36, 24, -24, 152, 255}


@dataclass
class Outcome:
    """How each mutant ended, by its name, and how long all batches took."""

    ends: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def main() -> int:
    options = parsed()
    if find_spec("mutmut") is None:
        stop("mutmut is missing: pip install -e '.[dev,mutation]'")
    limit_memory(options.memory)
    # So that a terminated run, too, ends its tests and removes its copy.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    deadline = time.monotonic() + options.minutes * 60
    report = Report(options.output)
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
        again = bool(options.only or options.again)
        timeout = f"--timeout={options.test_timeout:g}"
        profile = "suite" if again else "coverage"
        pytest_args = ["-m", "not without_coverage", f"--hypothesis-profile={profile}", timeout]
        configure(tree, options.paths, options.tests, pytest_args)
        found = sources(tree, options.paths)
        if again:
            chosen = on_lines(found, places(options.only, options.again))
        else:
            chosen = sample(found, options.sample, options.seed)
        if not chosen:
            stop("there is no mutant to run")
        report.say(opening(found, chosen, None if again else options.seed))
        configure(tree, {mutant.file for mutant in chosen}, options.tests, pytest_args)
        outcome = run(tree, chosen, options.batch, deadline, report)
    report.say(summary(chosen, outcome, options.paths))
    return 1 if again and survivors(outcome.ends) else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--paths", nargs="+", default=PATHS, help="the folders or files to mutate")
    add("--tests", nargs="+", default=TESTS, help="the tests that may kill a mutant")
    add("--sample", type=int, default=450, help="how many mutants")
    add("--seed", type=int, default=1, help="the same seed, the same sample")
    add("--minutes", type=float, default=40.0, help="stop after this many minutes")
    add("--only", nargs="+", default=(), metavar="FILE:LINE", help="run all mutants of these lines")
    add(
        "--again",
        type=Path,
        help="run all mutants of the lines that this report lists as survivors",
    )
    add("--output", type=Path, help="also append the report to this file, batch by batch")
    add("--batch", type=int, default=115, help="how many mutants make a batch")
    add("--test-timeout", type=float, default=30.0, help="seconds a test may take")
    add("--memory", type=int, default=4, help="GiB of address space a process may allocate")
    return parser.parse_args()


def stop(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(2)


class Report:
    """Prints, and appends to ``output`` at once: an interrupted run leaves its results there."""

    def __init__(self, output: Path | None) -> None:
        self._output = output

    def say(self, text: str) -> None:
        print(text, flush=True)
        if self._output is not None:
            with self._output.open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")


def limit_memory(gib: int) -> None:
    """Limit this process and all it starts: a mutant may allocate without end."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (gib << 30, hard))


def configure(
    tree: Path, paths: Iterable[str], tests: Sequence[str], pytest_args: Sequence[str]
) -> None:
    """Write mutmut's settings into the copy, replacing those of an earlier call."""
    patterns = [path if path.endswith(".py") else f"{path.rstrip('/')}/*" for path in sorted(paths)]
    settings = {
        "source_paths": sorted({f"{Path(path).parts[0]}/" for path in patterns}),
        "only_mutate": patterns,
        "also_copy": sorted(path.name for path in tree.iterdir() if path.name != "mutants"),
        "do_not_mutate_patterns": [LOG_CALL],
        "pytest_add_cli_args_test_selection": list(tests),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *pytest_args],
        "timeout_constant": 10.0,
        "timeout_multiplier": 3.0,
        "use_git_change_detection": False,
    }
    project = tree / "pyproject.toml"
    kept = project.read_text(encoding="utf-8").partition("\n[tool.mutmut]\n")[0]
    # JSON and TOML write a list of strings, a number and a boolean alike.
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    text = "\n".join([kept, "[tool.mutmut]", *lines, ""])
    project.write_text(text, encoding="utf-8")


def places(only: Iterable[str], again: Path | None) -> set[tuple[str, int]]:
    """The lines that ``--only`` names and those that ``--again`` lists."""
    found = set()
    for place in only:
        file, _, line = place.partition(":")
        if not line.isdecimal():
            stop(f"'{place}' is not FILE:LINE")
        found.add((file, int(line)))
    if again is not None:
        listed = map(SURVIVOR.match, again.read_text(encoding="utf-8").splitlines())
        found |= {(match[1], int(match[2])) for match in listed if match}
    return found


def on_lines(found: Iterable[Source], lines: set[tuple[str, int]]) -> list[Mutant]:
    every = (mutant for source in found for mutant in source.mutants)
    return [mutant for mutant in every if (mutant.file, mutant.line) in lines]


def run(
    tree: Path, chosen: Sequence[Mutant], size: int, deadline: float, report: Report
) -> Outcome:
    """Run batch after batch until the deadline; report the survivors of each as it ends."""
    outcome = Outcome()
    early = run_by_import(tree, sorted({mutant.file for mutant in chosen}))
    for begin in range(0, len(chosen), size):
        batch = chosen[begin : begin + size]
        began = time.monotonic()
        if not run_batch(tree, batch, deadline - began):
            report.say(f"The time is up: {len(chosen) - begin} mutants did not run.")
            break
        took = time.monotonic() - began
        ends = read_ends(tree, batch)
        for mutant in batch:
            if (mutant.file, mutant.line) in early and mutant.name in survivors(ends):
                ends[mutant.name] = "unjudged"
        outcome.ends |= ends
        outcome.seconds += took
        counted = Counter(ends.values())
        report.say(f"\n{len(batch)} mutants in {took:.0f} s: {dict(counted)}")
        alive = survivors(ends)
        for mutant in sorted(batch, key=lambda mutant: (mutant.file, mutant.line)):
            if ends[mutant.name] == "unjudged":
                report.say(f"unjudged: {mutant}")
            elif mutant.name in alive:
                note = " (no test calls it)" if ends[mutant.name] == "no test" else ""
                report.say(f"{mutant}{note}")
    return outcome


def survivors(ends: Mapping[str, str]) -> set[str]:
    return {name for name, end in ends.items() if end in {"survived", "no test"}}


def run_batch(tree: Path, batch: Sequence[Mutant], seconds: float) -> bool:
    """Whether the batch finished in time.

    Ends the program if mutmut fails, as it does when the unchanged code fails its tests.
    """
    if seconds <= 0:
        return False
    mutmut = Path(sys.executable).with_name("mutmut")
    command = [str(mutmut), "run", "--max-children", "1"]
    log = tree.parent / "mutmut.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, *(mutant.name for mutant in batch)],
            cwd=tree,
            stdout=output,
            stderr=subprocess.STDOUT,
            # mutmut keeps tests in sets: with one hash seed each run has them in the same order.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            end_group(process)
    if code:
        print(log.read_text(encoding="utf-8")[-5000:])
        sys.exit(2)
    return True


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def read_ends(tree: Path, batch: Iterable[Mutant]) -> dict[str, str]:
    codes: dict[str, int | None] = {}
    for file in {mutant.file for mutant in batch}:
        written = json.loads((tree / "mutants" / f"{file}.meta").read_text(encoding="utf-8"))
        codes |= written["exit_code_by_key"]
    return {mutant.name: end_of(codes[mutant.name]) for mutant in batch}


def end_of(code: int | None) -> str:
    if code is None:
        return "not run"
    if code in SURVIVED:
        return "survived"
    if code in NO_TEST:
        return "no test"
    return "timeout" if code in TIMEOUT else "killed"


def opening(found: Sequence[Source], chosen: Sequence[Mutant], seed: int | None) -> str:
    total = sum(len(source.mutants) for source in found)
    wordings = sum(source.wordings for source in found)
    drawn = "on the given lines" if seed is None else f"drawn with seed {seed}"
    return (
        f"{len(chosen)} of {total} mutants in {len(found)} files, {drawn};"
        f" {wordings} more change only a message and are left out."
    )


def summary(chosen: Sequence[Mutant], outcome: Outcome, paths: Sequence[str]) -> str:
    """The table: one row for each file of the sample, for each path and for the whole."""
    left_out = {"not run", "unjudged"}
    ran = [mutant for mutant in chosen if outcome.ends.get(mutant.name, "not run") not in left_out]
    each = outcome.seconds / len(ran) if ran else 0.0
    width = max(len(name) for name in (*(mutant.file for mutant in ran), *paths, "file"))
    head = (
        f"{'file':{width}} {'mutants':>8} {'killed':>7} {'survived':>9} {'timeout':>8} {'score':>7}"
    )
    lines = ["", head]
    lines += (
        row(file, [mutant for mutant in ran if mutant.file == file], outcome, width)
        for file in sorted({mutant.file for mutant in ran})
    )
    lines.append("")
    for path in paths:
        below = [m for m in ran if m.file == path or m.file.startswith(f"{path.rstrip('/')}/")]
        if below:
            lines.append(row(path, below, outcome, width, margin=True))
    lines.append(row("all", ran, outcome, width, margin=True))
    lines.append(f"\n{len(ran)} of {len(chosen)} mutants count, {each:.1f} s each.")
    return "\n".join(lines)


def row(
    name: str, mutants: Sequence[Mutant], outcome: Outcome, width: int, *, margin: bool = False
) -> str:
    """One line of the table; mutants that no test calls count as survivors."""
    ends = Counter(outcome.ends[mutant.name] for mutant in mutants)
    survived = ends["survived"] + ends["no test"]
    count = max(len(mutants), 1)
    score = 1 - survived / count
    # The normal approximation for a proportion found in a sample.
    spread = f" ± {1.96 * (score * (1 - score) / count) ** 0.5:.1%}" if margin else ""
    return (
        f"{name:{width}} {len(mutants):8} {ends['killed']:7} {survived:9} {ends['timeout']:8}"
        f" {score:7.1%}{spread}"
    )


if __name__ == "__main__":
    sys.exit(main())
