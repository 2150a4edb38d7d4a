"""How long commands take that a person or a program waits for: ``python tools/bench_starts.py``.

Prints the medians of wall times. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.bench_processes import ROOT

REPEATS = 15
MAX_HELP_S = 0.25
MAX_FIRST_ANSWER_S = 0.4

_EXAI = (sys.executable, "-m", "exai_actors")
# A bridge answers this by itself, so that hosts are not kept waiting for a broker.
_LIST_TOOLS = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n'


@dataclass
class Starts:
    """Median seconds until ``exai --help`` has ended, and ``exai mcp`` has answered once."""

    help_s: float
    first_answer_s: float


def starts(repeats: int = REPEATS) -> Starts:
    """Both, in turns."""
    helps, answers = [], []
    for _ in range(repeats):
        helps.append(_timed(_help))
        answers.append(_timed(_first_answer))
    return Starts(statistics.median(helps), statistics.median(answers))


def _timed(run: Callable[[], float]) -> float:
    began = time.perf_counter()
    return run() - began


def _help() -> float:
    subprocess.run((*_EXAI, "--help"), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter()


def _first_answer() -> float:
    """Without a broker."""
    command = (*_EXAI, "mcp", "--url", "ws://127.0.0.1:1")
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_LIST_TOOLS)
        process.stdin.flush()
        line = process.stdout.readline()
        answered = time.perf_counter()
        process.stdin.close()
    if b'"tools"' not in line:
        raise RuntimeError(f"exai mcp answered {line!r}")
    return answered


if __name__ == "__main__":
    found = starts()
    print(f"exai --help:           {found.help_s:.3f} s, at most {MAX_HELP_S}")
    print(f"exai mcp, first answer: {found.first_answer_s:.3f} s, at most {MAX_FIRST_ANSWER_S}")
