"""Let the programs of others judge MCP: ``.venv/bin/python tools/judge_mcp.py``.

It installs them with npm into ``.real``, and runs them with the Node of ``tools/real_parts.py``
in a network namespace that has nothing but loopback, with an empty HOME:

- the conformance suite of MCP, all scenarios that the revisions 2025-11-25 and 2026-07-28 require,
  and those of the tasks extension, against the fixtures in ``tests/real/programs/mcp_fixtures.py``;
- the command lines of MCP Inspector and mcporter, against ``/mcp`` and ``exai mcp``;
- a clock, against the first answer of ``exai mcp``.

Exits with 1 if one of them is not content. Needs Linux, npm, and the right to make a namespace.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import bench_starts, real_parts  # noqa: E402

FOLDER = real_parts.REAL / "mcp"
PACKAGES = (
    "@modelcontextprotocol/inspector@2.12.0",
    "mcporter@0.9.0",
)
MODULES = FOLDER / "node_modules"
CONFORMANCE = (
    real_parts.MCP_CONFORMANCE.folder
    / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
)
INSPECTOR = MODULES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
MCPORTER = MODULES / "mcporter/dist/cli.js"
REVISIONS = ("2025-11-25", "2026-07-28")
TASK_SCENARIOS = {
    "tasks-lifecycle": {"sep-2663-tasks-get-status-failed"},
    "tasks-capability-negotiation": set[str](),
    "tasks-wire-fields": set[str](),
    "tasks-request-state-removal": set[str](),
    "tasks-request-headers": set[str](),
    "tasks-dispatch-and-envelope": {"tasks-result-type-complete-on-non-task-responses"},
}
"""Those of the tasks extension, each with the checks that fail: a tool of the broker neither ends
without a result nor needs input of the client. The scenarios left out are about such tools alone.
"""
FIXTURES = ROOT / "tests" / "real" / "programs" / "mcp_fixtures.py"
CONFIG = """
[server]
host = "127.0.0.1"
port = 0

[[provider]]
name = "made-up"
kind = "synthetic"
models = ["quick"]
"""
_INSIDE = "--in-namespace"
_TIMEOUT_S = 300
_FAILED = re.compile(r"^✗ (\S+): ", re.MULTILINE)
_CHECK = re.compile(r"\[(\S+) *\] (SUCCESS|FAILURE) ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PASSED = re.compile(r"^✓ (\S+): ", re.MULTILINE)


def install() -> None:
    """Install the packages, unless they are there. Raises SystemExit with the reason."""
    stamp, pins = FOLDER / "fetched", "\n".join(PACKAGES)
    if stamp.is_file() and stamp.read_text() == pins:
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("tools/judge_mcp.py: npm is missing; install Node with npm")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    if subprocess.run(
        [npm, "install", "--prefix", FOLDER, *quiet, *PACKAGES], check=False
    ).returncode:
        sys.exit("tools/judge_mcp.py: npm could not install the packages; its output is above")
    stamp.write_text(pins)


@contextmanager
def running(command: Sequence[str | Path], ready: str) -> Iterator[str]:
    """Run a server while the block runs; yields what follows ``ready`` on a line of its output."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ready):
                yield line.removeprefix(ready).strip()
                return
        sys.exit(f"tools/judge_mcp.py: {command[1]} ended before it was ready")
    finally:
        process.terminate()
        process.communicate()


def run(*command: str | Path) -> tuple[bool, str]:
    """Run a program of Node to its end: whether it succeeded, and its output."""
    done = subprocess.run(
        [str(real_parts.NODE_PROGRAM), *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    return done.returncode == 0, done.stdout


def scenarios(output: str) -> tuple[list[str], list[str]]:
    """The required scenarios that passed, and those that failed, in the suite's output."""
    _, _, summary = output.partition("=== SUMMARY ===")
    scored, _, others = summary.partition("Not scored")
    optional = set(re.findall(r"^  [✓✗] (\S+) ", others, re.MULTILINE))
    passed = [each for each in _PASSED.findall(scored) if each not in optional]
    failed = [each for each in _FAILED.findall(scored) if each not in optional]
    return passed, failed


def task_scenario(url: str, scenario: str) -> tuple[str, ...]:
    """The arguments that have the suite run one scenario of the extension."""
    newest = ("--spec-version", REVISIONS[-1], "--force")
    return ("server", "--url", url, "--scenario", scenario, *newest)


def checks(output: str) -> tuple[set[str], set[str]]:
    """The checks of a scenario that passed, and those that failed, in the suite's output."""
    found = _CHECK.findall(_COLOUR.sub("", output))
    passed, failed = (
        {check for check, status in found if status == each} for each in ("SUCCESS", "FAILURE")
    )
    return passed, failed


def judge_conformance() -> bool:
    content = True
    with running((sys.executable, FIXTURES), "ready ") as url:
        for scenario, exempt in TASK_SCENARIOS.items():
            _, output = run(CONFORMANCE, *task_scenario(url, scenario))
            done, lost = checks(output)
            good = bool(done) and lost == exempt
            content = content and good
            words = f"{len(done)} checks passed, {len(lost)} failed, {len(exempt)} not for it"
            report(scenario, good, words if good else output[-8000:])
        for revision in REVISIONS:
            succeeded, output = run(CONFORMANCE, "server", "--url", url, "--requirements", revision)
            passed, failed = scenarios(output)
            content = content and succeeded and bool(passed) and not failed
            report(
                f"conformance {revision}",
                succeeded and bool(passed) and not failed,
                f"{len(passed)} required scenarios passed, {len(failed)} failed",
            )
            if failed or not passed:
                print(output[-8000:])
    return content


def judge_command_lines() -> bool:
    content = True
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "exai.toml"
        config.write_text(CONFIG)
        exai = (sys.executable, "-m", "exai_actors")
        with running((*exai, "serve", "--config", config), "ready ") as url:
            http = f"http{url.removeprefix('ws').split()[0]}/mcp"
            bridge = (*exai, "mcp", "--url", url.split()[0])
            ask = ("--method", "tools/call", "--tool-name", "ask", "--tool-arg", "model=quick",
                   "--tool-arg", "prompt=hello")  # fmt: skip
            listed, answered = '"list_models"', "built-in synthetic model"
            stdio = ("--stdio", " ".join(bridge), "--name", "exai")
            tries = [
                ("inspector /mcp: list", listed,
                 (INSPECTOR, "--cli", http, "--transport", "http", "--method", "tools/list")),
                ("inspector /mcp: call", answered,
                 (INSPECTOR, "--cli", http, "--transport", "http", *ask)),
                ("inspector exai mcp: list", listed,
                 (INSPECTOR, "--cli", *bridge, "--method", "tools/list")),
                ("inspector exai mcp: call", answered, (INSPECTOR, "--cli", *bridge, *ask)),
                ("mcporter /mcp: list", listed,
                 (MCPORTER, "list", "--http-url", http, "--allow-http", "--json")),
                ("mcporter /mcp: call", answered,
                 (MCPORTER, "call", "--http-url", http, "--allow-http", "ask", "model=quick",
                  "prompt=hello")),
                ("mcporter exai mcp: list", listed, (MCPORTER, "list", *stdio, "--json")),
                ("mcporter exai mcp: call", answered,
                 (MCPORTER, "call", *stdio, "ask", "model=quick", "prompt=hello")),
            ]  # fmt: skip
            for name, expected, command in tries:
                succeeded, output = run(*command)
                good = succeeded and expected in output
                report(name, good, "" if good else output[-2000:])
                content = content and good
    return content


def judge_first_answer() -> bool:
    found, most = bench_starts.starts().first_answer_s, bench_starts.MAX_FIRST_ANSWER_S
    report("first answer of exai mcp", found <= most, f"{found:.3f} s, at most {most} s")
    return found <= most


def report(name: str, good: bool, words: str) -> None:
    print(f"  {name:<28} {'ok' if good else 'FAILED':<7} {words}", flush=True)


def main() -> int:
    if _INSIDE in sys.argv:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        good = judge_conformance()
        good = judge_command_lines() and good
        return 0 if judge_first_answer() and good else 1
    for part in (real_parts.NODE, real_parts.MCP_CONFORMANCE):
        if not part.is_there() and not part.fetch():
            return 1
    install()
    pins = (pin.partition(" ")[0] for pin in real_parts.MCP_CONFORMANCE.pins)
    suite = [pin for pin in pins if "/conformance@" in pin]
    everything = (*suite, *PACKAGES)
    print("\n".join(("with", *(f"  {each}" for each in everything))), flush=True)
    with tempfile.TemporaryDirectory() as home:
        path = os.pathsep.join((str(real_parts.NODE_PROGRAM.parent), os.environ["PATH"]))
        environment = {"HOME": home, "PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": home}
        command = ["unshare", "-n", sys.executable, __file__, _INSIDE]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
