from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from exai_actors import __version__
from exai_actors.client import settings
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.daemon.cli.exit_codes import ExitCode, of_error, of_error_code
from exai_actors.daemon.cli.main import COMMANDS, exai
from exai_actors.daemon.cli.options import DEFAULT_URL, MAX_TIMEOUT_S
from exai_actors.daemon.config.tables import ServerConfig
from exai_actors.errors import ErrorCode, ExaiError
from exai_actors.wire.clients.dialects.fields import MAX_DEADLINE_MS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("EXAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(exai, arguments, input=stdin, prog_name="exai")


def test_the_reference_lists_every_statistic_of_a_provider() -> None:
    page = REFERENCE.read_text("utf-8").partition("| of a provider | meaning |")[2]
    rows = re.findall(r"^\| (`[a-z_`, ]+) \| [A-Z`1]", page.partition("\n\n")[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(ProviderStatistics.__struct_fields__)


def test_help_lists_every_command_and_a_first_step() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"  {name:<9}  {text}" in result.output
    assert "Start with `exai serve`" in result.output


def test_help_imports_no_heavy_library() -> None:
    heavy = {"aiohttp", "asyncio", "msgspec", "orjson", "pykka", "structlog", "websockets"}
    code = (
        "import sys\n"
        "from exai_actors.daemon.cli.main import exai\n"
        "exai(['--help'], standalone_mode=False)\n"
        f"print('LOADED', sorted({heavy} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: exai {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_long_help_starts_with_the_short_one(name: str) -> None:
    where, short = COMMANDS[name]
    module, _, attribute = where.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert (command.help or "").startswith(short.rstrip("."))


def test_the_help_of_config_is_not_truncated() -> None:
    assert not re.search(r"\w\.\.\.$", run("config", "--help").output, re.MULTILINE)


def test_an_unknown_command_is_a_usage_error_with_a_suggestion() -> None:
    result = run("sevre")
    assert result.exit_code == ExitCode.USAGE
    assert 'there is no command "sevre"; did you mean "serve"?' in result.stderr


def test_the_module_runs_as_a_program() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "exai_actors", "--version"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (0, f"exai {__version__}\n")


def test_ctrl_c_while_the_command_line_is_loaded_ends_it_quietly(tmp_path: Path) -> None:
    # A click that interrupts the process that imports it, as a fast finger would.
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ran = subprocess.run(
        [sys.executable, "-m", "exai_actors", "--version"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, "", "")


def test_the_installed_script_starts_there_too() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="exai")
    assert script.value == "exai_actors.daemon.cli.start:main"


def test_version_lists_the_main_libraries() -> None:
    assert run("version").output.startswith(f"exai {__version__}\npython 3.")
    assert {"exai", "python", "pykka", "websockets"} <= json.loads(
        run("version", "--json").output
    ).keys()


def test_config_init_writes_a_file_that_check_accepts() -> None:
    result = run("config", "init")
    assert result.exit_code == 0
    assert result.output == "wrote exai.toml; next:\n  exai config check\n  exai serve\n"
    assert tomllib.loads(Path("exai.toml").read_text()).keys() == {"provider"}
    result = run("config", "check")
    assert (result.exit_code, result.output) == (
        0,
        "exai.toml is valid; providers: synthetic\n",
    )


def test_config_init_of_a_preset_names_the_variable_of_its_key() -> None:
    result = run("config", "init", "--preset", "kimi-tier-1", "--preset", "vllm", "mine.toml")
    assert result.output.splitlines() == [
        "wrote mine.toml; next:",
        "  export KIMI_API_KEY=...",
        "  exai config check --connect --config mine.toml",
        "  exai serve --config mine.toml",
    ]
    tables = tomllib.loads(Path("mine.toml").read_text())
    assert [table["name"] for table in tables["provider"]] == ["kimi", "vllm"]


def test_config_init_leaves_a_file_alone_if_the_preset_is_unknown() -> None:
    Path("exai.toml").write_text("mine")
    result = run("config", "init", "--force", "--preset", "kimi-tier-9")
    assert result.exit_code == ExitCode.USAGE
    assert 'no preset "kimi-tier-9"; did you mean "kimi-tier-' in result.stderr
    assert Path("exai.toml").read_text() == "mine"


def test_config_init_overwrites_only_with_force() -> None:
    Path("mine.toml").write_text("mine")
    result = run("config", "init", "mine.toml")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "exai: mine.toml already exists; --force overwrites it\n"
    assert Path("mine.toml").read_text() == "mine"
    assert run("config", "init", "mine.toml", "--force", "--all").exit_code == 0
    assert "[server]" in Path("mine.toml").read_text()


def test_config_init_reports_a_write_error() -> None:
    result = run("config", "init", "gone/exai.toml")
    assert result.exit_code == ExitCode.USAGE
    assert "gone/exai.toml cannot be written: No such file or directory" in result.stderr


def test_config_check_reports_one_error_per_line() -> None:
    Path("exai.toml").write_text("[server]\nprot = 1\nport = 70000\n")
    result = run("config", "check")
    assert result.exit_code == ExitCode.CONFIG
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        'exai: exai.toml:2: [server] prot: unknown key; did you mean "port"?',
        "exai: exai.toml:3: [server] port: must be a whole number from 0 to 65535, not 70000",
    ]


def test_config_check_without_a_file_reports_the_defaults() -> None:
    result = run("config", "check")
    assert result.exit_code == 0
    assert "the defaults are in force" in result.output


def test_config_check_requires_the_keys_and_show_only_warns() -> None:
    Path("exai.toml").write_text(
        "[[provider]]\nkind='openai'\nname='a'\nbase_url='http://127.0.0.1'\napi_key_env='NO_KEY'"
    )
    assert run("config", "check").exit_code == ExitCode.CONFIG
    result = run("config", "show")
    assert result.exit_code == 0
    assert "warning: exai.toml:5: [[provider]] api_key_env: the environment variable NO_KEY" in (
        result.stderr
    )
    assert 'base_url = "http://127.0.0.1"' in result.stdout


def test_config_show_hides_the_token_and_names_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAI_WS_TOKEN", "0123456789abcdef")
    result = run("config", "show")
    assert "0123456789abcdef" not in result.output
    assert "# EXAI_WS_TOKEN" in result.output
    rows = json.loads(run("config", "show", "--json").output)
    assert {"key": "session.window", "value": 8, "from": "default"} in rows


def test_config_schema_is_json() -> None:
    assert json.loads(run("config", "schema").output)["title"] == "exai.toml"


def test_serve_refuses_an_invalid_configuration() -> None:
    result = run("serve", "--host", "0.0.0.0")
    assert result.exit_code == ExitCode.CONFIG
    assert result.stdout == ""
    assert result.stderr.startswith('exai: --host: [server] host: "0.0.0.0" is reachable from')
    result = run("serve", "--config", "gone.toml")
    assert result.exit_code == ExitCode.CONFIG
    assert "--config: gone.toml does not exist" in result.stderr


@pytest.mark.parametrize("command", [["ask", "hello"], ["models"], ["tools"], ["health"]])
def test_without_a_broker_every_command_explains_how_to_start_one(command: list[str]) -> None:
    # Nothing can listen on port 0.
    result = run(*command, "--url", "ws://127.0.0.1:0")
    assert result.exit_code == ExitCode.NO_BROKER
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("exai: cannot connect to ws://127.0.0.1:0")
    assert "`exai serve` starts one" in line


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAI_URL", "ws://127.0.0.1:0/here")
    assert "ws://127.0.0.1:0/here" in run("health").stderr


def test_an_invalid_url_is_a_usage_error() -> None:
    result = run("health", "--url", "127.0.0.1:8079")
    assert result.exit_code == ExitCode.USAGE
    assert "127.0.0.1:8079 is not a WebSocket URL" in result.stderr


@pytest.mark.parametrize("arguments", [["ask"], ["ask", "-"], ["ask", "  "]])
def test_an_empty_prompt_is_a_usage_error(arguments: list[str]) -> None:
    result = run(*arguments, stdin=" \n")
    assert result.exit_code == ExitCode.USAGE
    assert "the prompt is empty" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "hi", "--timeout", "soon"],
        ["ask", "hi", "--timeout", "nan"],
        ["ask", "hi", "--timeout", "inf"],
        ["ask", "hi", "--timeout", "1e9"],
        ["demo", "--seconds", "nan"],
    ],
)
def test_an_invalid_duration_is_a_usage_error(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert f"Invalid value for '{arguments[-2]}'" in result.stderr
    assert "float" not in result.stderr


def test_the_longest_timeout_is_that_of_the_protocol() -> None:
    assert MAX_TIMEOUT_S * 1000 == MAX_DEADLINE_MS


def test_the_default_url_is_that_of_client_and_server() -> None:
    server = ServerConfig()
    assert DEFAULT_URL == settings.DEFAULT_URL == f"ws://{server.host}:{server.port}"


def test_a_prompt_that_is_not_utf8_is_a_usage_error() -> None:
    result = run("ask", stdin=b"\xff\xfe")
    assert result.exit_code == ExitCode.USAGE
    assert "the prompt on stdin is not UTF-8 text" in result.stderr
    result = run("ask", "\udcff")
    assert result.exit_code == ExitCode.USAGE
    assert "the prompt is not UTF-8 text" in result.stderr


def test_an_internal_error_is_two_lines_and_has_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("exai_actors.daemon.config.render.schema", broken)
    result = run("config", "schema")
    assert result.exit_code == ExitCode.INTERNAL
    first, second = result.stderr.splitlines()
    assert first.startswith("exai: internal error: RuntimeError: two lines (test_main.py:")
    assert second == "exai: for the traceback, set EXAI_TRACEBACK=1 and run the command again"
    monkeypatch.setenv("EXAI_TRACEBACK", "1")
    assert isinstance(run("config", "schema").exception, RuntimeError)


def test_ctrl_c_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exai_actors.daemon.config.render.schema", interrupted)
    result = run("config", "schema")
    assert (result.exit_code, result.output) == (ExitCode.INTERRUPTED, "")


def test_the_default_url_comes_from_host_and_port_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EXAI_WS_HOST", " ")
    monkeypatch.setenv("EXAI_WS_PORT", "0\r")
    assert "cannot connect to ws://127.0.0.1:0:" in run("health").stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["config", "schema"]])
def test_a_full_disk_is_reported_by_any_output(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "exai_actors", *arguments],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == ExitCode.FAILED
    assert ran.stderr == "exai: output: No space left on device\n"


@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        ("config check <&- 2>&-", ExitCode.OK, "the defaults are in force\n", ""),
        ("config check --config gone 2>&-", ExitCode.CONFIG, "", ""),
        ("ask hi --url ws://127.0.0.1:0 2>&-", ExitCode.NO_BROKER, "", ""),
        ("ask <&-", ExitCode.USAGE, "", "Error: the prompt is empty\n"),
        ("health --url ws://127.0.0.1:0 <&- >&- 2>&-", ExitCode.NO_BROKER, "", ""),
    ],
)
def test_closed_streams_are_not_an_error(command: str, code: ExitCode, out: str, err: str) -> None:
    ran = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m exai_actors {command}'],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == code
    assert (ran.stdout.endswith(out), ran.stderr.endswith(err)) == (True, True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["config", "schema"]])
def test_a_broken_pipe_ends_the_command_quietly(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    ran = subprocess.run(
        [sys.executable, "-m", "exai_actors", *arguments],
        check=False,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert (ran.returncode, ran.stderr) == (ExitCode.BROKEN_PIPE, "")


def test_every_error_code_has_a_nonzero_exit_code() -> None:
    assert all(of_error_code(code) > ExitCode.OK for code in ErrorCode)
    assert of_error_code(ErrorCode.OVER_CAPACITY) is ExitCode.BUSY
    assert of_error_code(ErrorCode.MODEL_NOT_FOUND) is ExitCode.INVALID
    assert of_error_code(ErrorCode.PROVIDER_ERROR) is ExitCode.PROVIDER
    assert of_error(ExaiError("x")) is ExitCode.FAILED


def test_the_reference_lists_every_exit_code() -> None:
    page = REFERENCE.read_text()
    for code in ExitCode:
        assert f"| {int(code)} | {code.meaning} |" in page


def test_the_reference_describes_every_command() -> None:
    page = REFERENCE.read_text()
    assert all(f"## `exai {name}" in page for name in COMMANDS)
