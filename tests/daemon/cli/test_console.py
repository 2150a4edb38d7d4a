"""`exai console`: files and extras that are missing are named; the rest is in tests/terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.main import exai


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(exai, ["console", *arguments])
    return result.exit_code, result.output


def test_without_its_extra_the_console_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.startswith(("textual", "exai_actors.terminal")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    code, output = run()
    assert code != ExitCode.OK
    assert 'pip install "exai-actors[console]"' in output


def test_a_recording_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "is no recording of a console" in run("--replay", str(tmp_path / "notes.txt"))[1]
    assert "No such file" in run("--replay", str(tmp_path / "nothing"))[1]


def test_a_recording_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "old.exai").write_text("old")
    code, output = run("--record", str(tmp_path / "old.exai"))
    assert code != ExitCode.OK
    assert "exists already; name a new file" in output
    assert (tmp_path / "old.exai").read_text() == "old"


def test_a_replay_is_not_recorded(tmp_path: Path) -> None:
    file = str(tmp_path / "new.exai")
    assert "exclude each other" in run("--record", file, "--replay", file)[1]


def test_a_wrong_url_is_refused() -> None:
    assert run("--url", "mailto:ada")[0] != ExitCode.OK


def test_without_a_terminal_the_console_names_the_command_for_scripts() -> None:
    assert "exai top --once --json" in run("--url", "ws://127.0.0.1:1")[1]
