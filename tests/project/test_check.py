"""tools/check.py explains setup failures and stops at the first step that fails."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools import check

SCRIPT = check.ROOT / "tools" / "check.py"


def _failing_program(folder: Path, words: str) -> str:
    program = folder / "python"
    program.write_text(f'#!/bin/sh\necho "{words}"\nexit 1\n')
    program.chmod(0o755)
    return str(program)


def test_an_older_python_gets_a_clear_message() -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path(sys.argv[1])"
    ran = subprocess.run(
        [sys.executable, "-c", pretend, SCRIPT], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "needs Python 3.11 or newer, this is 3.9" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_older_python_can_parse_the_script() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


def test_a_python_without_venv_gets_the_name_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", _failing_program(tmp_path, "no ensurepip here"))
    monkeypatch.setattr(check, "VENV", tmp_path / "venv")
    monkeypatch.setattr(check, "PYTHON", tmp_path / "venv" / "bin" / "python")
    with pytest.raises(check.CannotSetUp) as raised:
        check.set_up()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apt-get install python{version}-venv" in str(raised.value)
    assert "no ensurepip here" in str(raised.value)


def test_an_unchanged_environment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(check, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(check, "_digest", lambda: "the same")
    check.STAMP.write_text("the same")
    check.set_up()
    assert capsys.readouterr().out == ""


def test_the_first_failure_stops_the_rest_and_gives_its_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    python = sys.executable
    outcomes = check.run(
        [
            check.Step("good", "a good step", (python, "-c", "print('went well')")),
            check.Step("bad", "a bad step", (python, "-c", "raise SystemExit(3)")),
            check.Step("late", "a late step", (python, "-c", "print('never')")),
        ]
    )
    assert [(outcome.step, outcome.code) for outcome in outcomes] == [
        ("good", 0),
        ("bad", 3),
        ("late", None),
    ]
    shown = capfd.readouterr().out
    assert "went well" in shown
    assert "never" not in shown
    lines = check.table(outcomes).splitlines()
    assert "FAILED (3)" in lines[2]
    assert "not reached" in lines[3]


def test_fast_skips_the_real_parts() -> None:
    fast = [" ".join(step.command) for step in check.steps(fast=True)]
    everything = [" ".join(step.command) for step in check.steps(fast=False)]
    assert not any("real_parts.py" in command for command in fast)
    assert not any(command.endswith("pytest -q tests/real") for command in fast)
    assert any("real_parts.py" in command for command in everything)
    assert any(command.endswith("pytest -q tests/real") for command in everything)
    (tests,) = [command for command in fast if "--ignore=tests/real" in command]
    assert tests in everything


def test_ci_runs_the_documented_command() -> None:
    lines = (check.ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[1] == "set -euo pipefail"
    assert lines[-1] == "python3 tools/check.py"
