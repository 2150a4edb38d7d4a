"""Check the whole project with one command: ``python3 tools/check.py``.

Needs only Python 3.11 or newer with venv. It creates ``.venv``, installs the project there (again
only when pyproject.toml has changed), fetches the real clients and servers that tests/real uses,
and runs every step in order. It stops at the first step that fails and exits with that step's
code; a table at the end shows each step's result and time.

``--fast`` skips the tests against real parts; ``--only STEP`` (repeatable) runs single steps.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - before importing anything newer
    sys.exit(
        "tools/check.py: needs Python 3.11 or newer, this is "
        f"{sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}).\n"
        "Run it with a newer one, for example: python3.11 tools/check.py"
    )

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "installed-from"
REAL_TESTS = "tests/real"
COVERED_TESTS = (
    "tests/core",
    "tests/wire",
    "tests/actors",
    "tests/console",
    "tests/runtime",
    "tests/scenarios",
)


class CannotSetUp(Exception):
    """The environment cannot be created; the message says how to fix that."""


@dataclass(frozen=True, slots=True)
class Step:
    """One check: its name for ``--only``, a title and the command."""

    name: str
    title: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one step; ``code`` is its exit code, None when it was not reached."""

    step: str
    code: int | None
    seconds: float


def steps(*, fast: bool) -> list[Step]:
    """All checks in the order they run; ``fast`` leaves out the real parts."""
    python = str(PYTHON)
    pytest = (python, "-m", "pytest", "-q")
    # The tests of one file share brokers and models, so one worker runs all of them.
    workers = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
    tests = Step("tests", "tests", (*pytest, *workers, f"--ignore={REAL_TESTS}"))
    checks = [
        Step("format", "formatting", (python, "-m", "ruff", "format", "--check", ".")),
        Step("lint", "lint", (python, "-m", "ruff", "check", ".")),
        Step("words", "the glossary's words", (python, "tools/lint_words.py")),
        Step("imports", "import contracts", (str(BIN / "lint-imports"), "--no-cache")),
        Step("types", "types", (python, "-m", "mypy")),
    ]
    if fast:
        checks.append(tests)
    else:
        checks += [
            Step("real-parts", "fetch the real parts", (python, "tools/real_parts.py")),
            tests,
            # They measure times of programs that take both cores.
            Step("real-tests", "tests with the real parts", (*pytest, REAL_TESTS)),
        ]
    # The tests of the inner parts once more, since tracing the whole suite would double its time.
    measured = ("-m", "not without_coverage", "--hypothesis-profile=coverage", *COVERED_TESTS)
    return [
        *checks,
        Step(
            "coverage", "branch coverage", (python, "-m", "coverage", "run", *pytest[1:], *measured)
        ),
        Step("coverage-floor", "coverage floor", (python, "-m", "coverage", "report")),
    ]


def set_up() -> None:
    """Install the project and its development tools into ``.venv`` unless they are there already.

    Raises CannotSetUp.
    """
    if not _runs(PYTHON):
        _say("creating .venv")
        shutil.rmtree(VENV, ignore_errors=True)
        _make_venv()
    digest = _digest()
    if STAMP.is_file() and STAMP.read_text() == digest:
        return
    _say("installing the project and its development tools into .venv")
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    if subprocess.run([*command, "-e", ".[dev]"], cwd=ROOT, check=False).returncode:
        raise CannotSetUp(
            "pip could not install the project; its output is above.\n"
            "If the network failed, run this again. If .venv is damaged, delete it first."
        )
    STAMP.write_text(digest)


def _make_venv() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    output = (made.stdout + made.stderr).strip()
    raise CannotSetUp(
        f"{sys.executable} cannot create a virtual environment:\n{output}\n"
        f"On Debian or Ubuntu: apt-get install python{version}-venv (or python3-venv).\n"
        "Elsewhere: use a Python that includes the modules venv and ensurepip."
    )


def _runs(python: Path) -> bool:
    """Whether ``python`` starts, is new enough and has pip; false for a .venv that was moved."""
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if not python.exists():
        return False
    return (
        subprocess.run([str(python), "-c", probe], capture_output=True, check=False).returncode == 0
    )


def _digest() -> str:
    """A digest of the declared dependencies and the clone's location."""
    source = (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()
    return hashlib.sha256(source).hexdigest()


def run(chosen: list[Step]) -> list[Outcome]:
    """Run the steps until one fails; the rest are returned as not reached."""
    environment = os.environ | {"PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")])}
    outcomes: list[Outcome] = []
    failed = False
    for step in chosen:
        if failed:
            outcomes.append(Outcome(step.name, None, 0.0))
            continue
        _say(f"{step.title}: {shlex.join(step.command)}")
        began = time.monotonic()
        code = subprocess.run(step.command, cwd=ROOT, env=environment, check=False).returncode
        outcomes.append(Outcome(step.name, code, time.monotonic() - began))
        failed = code != 0
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as text, one line per step."""
    lines = [""]
    for outcome in outcomes:
        if outcome.code is None:
            lines.append(f"  {outcome.step:<14} not reached")
        else:
            word = "ok" if outcome.code == 0 else f"FAILED ({outcome.code})"
            lines.append(f"  {outcome.step:<14} {word:<12} {outcome.seconds:6.1f} s")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"\n==> {text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Set up, check, report; returns the exit code of the step that failed, or 0."""
    everything = steps(fast=False)
    parser = argparse.ArgumentParser(
        prog="tools/check.py", description="Check the whole project with one command."
    )
    parser.add_argument("--fast", action="store_true", help="skip the tests against real parts")
    parser.add_argument(
        "--only",
        action="append",
        metavar="STEP",
        choices=[step.name for step in everything],
        help="run only this step (repeatable): %(choices)s",
    )
    options = parser.parse_args(arguments)
    chosen = steps(fast=options.fast)
    if options.only:
        chosen = [step for step in chosen if step.name in options.only]
    try:
        set_up()
    except CannotSetUp as error:
        print(f"\ntools/check.py: {error}", file=sys.stderr)
        return 2
    outcomes = run(chosen)
    print(table(outcomes), flush=True)
    return next((outcome.code for outcome in outcomes if outcome.code), 0)


if __name__ == "__main__":
    sys.exit(main())
