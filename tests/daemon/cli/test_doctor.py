"""`exai doctor` from the command line: its lines, its JSON and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.main import exai
from tests.daemon.programs.scripted_broker import ScriptedBroker

FREE = "[server]\nport = 0\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("EXAI_", "KIMI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)


def run(toml: str | None, *arguments: str) -> Result:
    if toml is not None:
        Path("exai.toml").write_text(toml)
    return CliRunner().invoke(exai, ["doctor", *arguments], prog_name="exai")


def test_nothing_needs_to_be_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAI_WS_PORT", "0")
    result = run(None)
    assert result.exit_code == ExitCode.OK
    named = [line.split()[1] for line in result.stdout.splitlines()]
    assert named[:5] == ["python", "loop", "config", "keys", "port"]
    assert named[5:] == ["clock", "disk", "files", "programs"]


@pytest.mark.parametrize(
    ("toml", "code", "line"),
    [
        (f"{FREE}prot = 1\n", ExitCode.CONFIG, 'did you mean "port"?; run: exai config check'),
        (f'{FREE}[[provider]]\npreset = "kimi-tier-0"\n', ExitCode.CONFIG, "run: export KIMI_API"),
        ('[server]\nport = 9\nhost = "192.0.2.1"\ntoken = "0123456789abcdef"\n', 4, "failed"),
    ],
)
def test_the_exit_code_is_that_of_the_first_failure(toml: str, code: int, line: str) -> None:
    result = run(toml)
    assert result.exit_code == code
    assert line in result.stdout


def test_a_missing_file_is_a_failure() -> None:
    result = run(None, "--config", "missing.toml")
    assert result.exit_code == ExitCode.CONFIG
    assert "failed   config  --config: missing.toml does not exist" in result.stdout


def test_json_has_every_check() -> None:
    rows = json.loads(run(FREE, "--json").stdout)
    assert {"check", "verdict", "text", "repair"} == rows[0].keys()
    assert {row["verdict"] for row in rows} <= {"ok", "warning"}


@pytest.mark.parametrize(("status", "code"), [(200, ExitCode.OK), (500, ExitCode.PROVIDER)])
def test_connect_tries_each_provider(status: int, code: ExitCode) -> None:
    with ScriptedBroker() as service:
        service.bodies["/api/models"] = (status, b'{"data": [{"id": "m"}]}')
        url = service.url.replace("ws", "http")
        keys = f'kind = "openai"\nname = "local"\nbase_url = "{url}/api"\nattempts = 1\n'
        result = run(f"{FREE}[[provider]]\n{keys}", "--connect")
    assert result.exit_code == code
    assert "provider  local: " in result.stdout
