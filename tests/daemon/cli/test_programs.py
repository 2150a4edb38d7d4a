"""`exai run` and `exai connect`, with a scripted broker and programs that show how they run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.main import exai
from exai_actors.daemon.programs import mcp_check
from exai_actors.testing.broker import running_broker
from tests.daemon.processes import EXAI, clean_environment
from tests.daemon.programs.scripted_broker import TOKEN, ScriptedBroker

SHOW = """#!/bin/sh
echo "arguments: $*"
env | grep -E "ANTHROPIC|EXAI_TOKEN|CLINE" | sort
[ -z "$CLINE_PROVIDER_SETTINGS_PATH" ] || cat "$CLINE_PROVIDER_SETTINGS_PATH"
exit 7
"""
WAIT = """#!/bin/sh
trap 'echo stopped; exit 5' TERM
trap 'echo interrupted; exit 6' INT
echo ready "$CLINE_PROVIDER_SETTINGS_PATH"
while :; do sleep 0.05; done
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("EXAI_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("EXAI_TOKEN", TOKEN)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return home


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        monkeypatch.setenv("EXAI_URL", broker.url)
        yield broker


def run(*arguments: str) -> Result:
    return CliRunner().invoke(exai, arguments, prog_name="exai")


def install(tmp_path: Path, name: str, script: str) -> None:
    file = tmp_path / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(script)
    file.chmod(0o755)


def start(*arguments: str) -> subprocess.Popen[str]:
    env = clean_environment(
        **{name: value for name, value in os.environ.items() if name.startswith("EXAI_")}
    )
    return subprocess.Popen(
        [*EXAI, "run", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_takes_the_place_of_the_command(
    broker: ScriptedBroker, tmp_path: Path, home: Path
) -> None:
    install(tmp_path, "claude", SHOW)
    with start("--small-model", "small", "claude", "--", "-p", "--model", "a b") as process:
        out, err = process.communicate()
    root = broker.url.replace("ws", "http")
    assert out.splitlines()[0] == "arguments: -p --model a b"
    assert f"ANTHROPIC_BASE_URL={root}" in out
    assert f"ANTHROPIC_AUTH_TOKEN={TOKEN}" in out
    assert "ANTHROPIC_MODEL=all" in out  # the first model with Messages
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL=small" in out
    assert (process.returncode, err) == (7, "")
    assert list(home.iterdir()) == []


def test_a_program_with_a_file_gets_a_temporary_one(
    broker: ScriptedBroker, tmp_path: Path, home: Path
) -> None:
    install(tmp_path, "cline", SHOW)
    with start("cline", "hello", "--json") as process:
        out, _ = process.communicate()
    assert out.splitlines()[0] == "arguments: hello --json"
    path = next(line for line in out.splitlines() if line.startswith("CLINE_"))
    assert not Path(path.partition("=")[2]).exists()
    assert json.loads(out.splitlines()[-1])["lastUsedProvider"] == "openai-compatible"
    assert process.returncode == 7
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGTERM, "stopped", 5), (signal.SIGINT, "interrupted", 6)]
)
def test_signals_reach_the_program_and_its_files_go(
    number: signal.Signals, word: str, code: int, broker: ScriptedBroker, tmp_path: Path
) -> None:
    install(tmp_path, "cline", WAIT)
    env = clean_environment(
        **{name: value for name, value in os.environ.items() if name.startswith("EXAI_")}
    )
    with subprocess.Popen(
        [*EXAI, "run", "cline"], env=env, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        _, _, path = process.stdout.readline().strip().partition(" ")
        assert Path(path).exists()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as the terminal does
        else:
            process.send_signal(number)
        assert process.stdout.read().strip() == word
        assert process.wait() == code
    assert not Path(path).parent.exists()


def test_a_program_that_a_signal_ended_has_the_code_of_a_shell(
    broker: ScriptedBroker, tmp_path: Path
) -> None:
    install(tmp_path, "cline", "#!/bin/sh\nkill -9 $$\n")
    with start("cline") as process:
        process.communicate()
    assert process.returncode == 137


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("run", "clade"), ExitCode.USAGE, 'no program "clade"; did you mean "claude"?'),
        (("run", "claude"), ExitCode.USAGE, "install it with: npm install -g @anthropic-ai/claude"),
        (("run", "cursor"), ExitCode.USAGE, "from its maker's servers"),
        (("run", "--token-file", "missing", "llm"), ExitCode.USAGE, "missing cannot be read"),
        (("connect", "--write"), ExitCode.USAGE, "name the program"),
        (("connect", "--write", "--undo", "pi"), ExitCode.USAGE, "one of --write, --undo"),
        (("connect", "--write", "cline"), ExitCode.USAGE, "run: cline auth openai-compatible -k"),
        (("connect", "--undo", "pi"), ExitCode.USAGE, "nothing to undo"),
        (("connect", "--mcp", "vsc"), ExitCode.USAGE, 'did you mean "vscode"?'),
        (("connect", "--mcp", "vscode"), ExitCode.USAGE, "a host does not pass your variables"),
    ],
)
def test_a_wrong_command_says_how_to_do_it(
    arguments: tuple[str, ...],
    code: ExitCode,
    text: str,
    broker: ScriptedBroker,
    tmp_path: Path,
) -> None:
    install(tmp_path, "llm", SHOW)
    result = run(*arguments)
    assert text in result.stderr
    assert result.exit_code == code


def test_a_missing_broker_is_reported_before_the_program_starts(tmp_path: Path) -> None:
    install(tmp_path, "claude", "#!/bin/sh\ntouch started\n")
    for model in ((), ("--model", "m")):
        result = run("run", "--url", "ws://127.0.0.1:1", *model, "claude")
        assert result.exit_code == ExitCode.NO_BROKER
        assert "`exai serve` starts one" in result.stderr


def test_a_wrong_token_is_reported(broker: ScriptedBroker, tmp_path: Path) -> None:
    install(tmp_path, "llm", SHOW)
    token = tmp_path / "token"
    token.write_text("another-token-of-16")
    result = run("run", "--token-file", str(token), "llm")
    assert result.exit_code == ExitCode.UNAUTHORIZED
    token.write_text(" \n")
    assert "is empty" in run("run", "--token-file", str(token), "llm").stderr


def test_connect_lists_the_programs_and_hosts(broker: ScriptedBroker, tmp_path: Path) -> None:
    install(tmp_path, "cn", SHOW)
    rows = [line.split() for line in run("connect").stdout.splitlines()]
    root = broker.url.replace("ws", "http")
    assert rows[0] == ["program", "api", "address", "found"]
    assert ["claude", "messages", root, "-"] in rows
    assert ["continue", "chat", f"{root}/v1", str(tmp_path / "bin" / "cn")] in rows
    hosts = json.loads(run("connect", "--mcp", "--json").stdout)
    assert [each["name"] for each in hosts][:2] == ["claude", "claude-desktop"]


def test_connect_prints_writes_and_undoes(broker: ScriptedBroker, home: Path) -> None:
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"theme":  "dark"}')
    printed = run("connect", "claude")
    assert f"put this into {settings}" in printed.stderr
    assert json.loads(printed.stdout)["env"]["ANTHROPIC_MODEL"] == "all"
    assert settings.read_text() == '{"theme":  "dark"}'
    assert f"wrote {settings}" in run("connect", "claude", "--write").stdout
    found = json.loads(settings.read_text())
    assert (found["theme"], found["apiKeyHelper"]) == ("dark", "printenv EXAI_TOKEN")
    assert f"restored {settings}" in run("connect", "claude", "--undo").stdout
    assert settings.read_text() == '{"theme":  "dark"}'


@pytest.mark.parametrize("write", [(), ("--write",)], ids=["print", "write"])
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("llm", 'llm keys set exai --value "$(printenv EXAI_TOKEN)"'),
        ("aider", 'export OPENAI_API_KEY="$(printenv EXAI_TOKEN)"'),
        ("pi", "pi --provider exai --model chatty"),
    ],
)
def test_commands_stand_apart_from_the_file(
    write: tuple[str, ...], name: str, step: str, broker: ScriptedBroker, home: Path
) -> None:
    result = run("connect", name, *write)
    assert result.stderr.endswith("then run:\n")
    assert step in result.stdout.splitlines()
    assert "then run" not in run("connect", "opencode", *write).stderr


def test_connect_as_a_host(broker: ScriptedBroker, home: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    host = ("connect", "--mcp", "cursor", "--token-file", str(token))
    assert run(*host, "--write").exit_code == 0
    server = json.loads((home / ".cursor" / "mcp.json").read_text())["mcpServers"]["exai"]
    assert server["args"][-2:] == ["--token-file", str(token)]
    assert run(*host, "--undo").exit_code == 0
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (200, b"data: [DONE]\n\n", ExitCode.OK, "ok  llm: chat, model chatty"),
        (200, b"data: {}\n\n", ExitCode.PROVIDER, "broke off before its end"),
        (401, b"", ExitCode.UNAUTHORIZED, "HTTP 401"),
        (404, b'{"error":{"message":"none such"}}', ExitCode.INVALID, "HTTP 404: none such"),
        (429, b"", ExitCode.BUSY, "HTTP 429"),
        (504, b"", ExitCode.TIMEOUT, "HTTP 504"),
        (502, b"", ExitCode.PROVIDER, "HTTP 502"),
    ],
)
def test_a_check_says_how_it_went(
    status: int, body: bytes, code: ExitCode, text: str, broker: ScriptedBroker
) -> None:
    broker.bodies["/v1/chat/completions"] = (status, body)
    result = run("connect", "llm", "--check")
    assert text in result.stdout
    assert "share of desk, answered by kimi" in result.stdout
    assert result.exit_code == code
    assert json.loads(run("connect", "llm", "--check", "--json").stdout)["tenant"] == "desk"


async def test_a_check_of_a_host_starts_the_bridge(tmp_path: Path) -> None:
    """Against a real broker, since the bridge speaks WebSocket."""
    host = [*EXAI, "connect", "--mcp", "cursor", "--check", "--url"]
    env = clean_environment(PYTHONPATH=str(Path(__file__).parents[3]), PATH="/usr/bin:/bin")
    async with running_broker({}) as broker:
        ran = await asyncio.to_thread(
            subprocess.run, [*host, broker.url], env=env, capture_output=True, text=True
        )
    assert ran.stdout.startswith("ok  cursor: mcp, "), ran.stderr
    assert ran.stdout.endswith(" tools, synthetic\n")
    assert ran.returncode == 0


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo out of luck >&2", "out of luck"),
        ("cat > /dev/null", "no answer within 0.2 s"),
        ("echo hello; sleep 0.1; echo no protocol >&2", "no protocol"),
        ("""echo '{"id":3,"error":{"message":"no broker"}}'""", "no broker"),
        (
            """echo '{"id":2,"result":{"tools":[]}}'
            echo '{"id":3,"result":{"isError":true,"content":[{"text":"down"}]}}'""",
            "down",
        ),
    ],
)
def test_a_bridge_that_does_not_work_says_why(
    script: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_check, "TIMEOUT_S", 0.2 if "/dev/null" in script else 20)
    found = mcp_check.check_bridge(["/bin/sh", "-c", script], os.environ)
    assert found.error == error


def test_a_bridge_that_is_not_there_is_a_failure() -> None:
    found = mcp_check.check_bridge(["/nonexistent/exai"], os.environ)
    assert "cannot be started: No such file" in found.error
