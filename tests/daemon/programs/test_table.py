"""Each program gets the broker's address, its token and a model, and no file gets the token."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import pytest

from exai_actors.daemon.programs.address import address_of
from exai_actors.daemon.programs.edits import BlockEdit, JsonEdit
from exai_actors.daemon.programs.mcp_hosts import MCP_HOSTS, bridge_command
from exai_actors.daemon.programs.table import PROGRAMS, Program, Target, Token
from exai_actors.errors import UsageError

SECRET = "the-token-of-the-desk"
ADDRESS = address_of("ws://127.0.0.1:9000")
HOME = Path("/home/ada")


def target(value: str = SECRET, file: str = "") -> Target:
    return Target(ADDRESS, Token(value, file), "a-model", "a-small-model")


def test_the_programs_of_the_issue_are_known() -> None:
    names = "claude codex opencode kilo cline continue qwen pi aider llm"
    assert list(PROGRAMS) == names.split()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda each: each.name)
def test_a_start_names_address_token_and_model(program: Program) -> None:
    start = program.start(target())
    everything = [*start.environment.values(), *start.arguments, *start.files.values()]
    words = " ".join(everything)
    root = "http://127.0.0.1:9000"
    assert root in words
    assert (f"{root}/v1" in words) == (program.family != "messages")
    assert "a-model" in words
    assert SECRET in words
    # Other users of the machine can read the arguments of a process.
    assert SECRET not in " ".join(start.arguments)
    for name in start.files:
        placed = [*start.environment.values(), *start.arguments]
        assert any("{folder}" in word for word in placed), name


def test_pi_reads_the_token_in_a_way_that_old_and_new_versions_know() -> None:
    (extension,) = PROGRAMS["pi"].start(target()).files.values()
    assert '"apiKey": "!printenv EXAI_TOKEN"' in extension


@pytest.mark.parametrize("file", ["", "/etc/the-token"])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda each: each.name)
def test_lasting_configuration_refers_to_the_token(program: Program, file: str) -> None:
    lasting = program.lasting(target(file=file), HOME)
    text = "\n".join([lasting.edit.text() if lasting.edit else "", *lasting.steps])
    assert SECRET not in text
    assert (file or "EXAI_TOKEN") in text
    assert "http://127.0.0.1:9000" in text
    assert "a-model" in text
    if lasting.edit:
        assert lasting.edit.file.is_relative_to(HOME)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda each: each.name)
def test_without_a_token_nothing_refers_to_one(program: Program) -> None:
    lasting = program.lasting(target(""), HOME)
    assert "EXAI_TOKEN" not in (lasting.edit.text() if lasting.edit else "")
    assert "$(" not in " ".join(lasting.steps)
    start = program.start(target(""))
    words = [*start.environment.values(), *start.files.values()]
    if program.name == "codex":  # it sends no token then
        assert words == []
    else:
        assert "no-token" in " ".join(words)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda each: each.name)
def test_a_step_for_the_shell_quotes_names_of_the_broker(program: Program) -> None:
    hostile = "a-model; $(touch x) `id`"
    plain, quoted = (
        program.lasting(Target(ADDRESS, Token(SECRET), model, model), HOME).steps
        for model in ("a-model", hostile)
    )
    for step, like in zip(quoted, plain, strict=True):
        words = [hostile if word == "a-model" else word for word in shlex.split(like)]
        assert shlex.split(step) == words


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda each: each.name)
def test_lasting_configuration_is_valid_in_its_format(program: Program) -> None:
    edit = program.lasting(target(), HOME).edit
    match edit:
        case JsonEdit():
            assert json.loads(edit.applied_to(None, "x")) == edit.members
        case BlockEdit(file=file) if file.suffix == ".toml":
            found = tomllib.loads(edit.applied_to('[other]\nmodel = "x"\n', "x"))
            assert found["model_providers"]["exai"]["wire_api"] == "responses"
            assert found["model_provider"] == "exai"
        case BlockEdit():
            assert edit.file.suffix in (".yaml", ".yml")
        case None:
            assert program.name == "cline"


def test_a_token_does_not_show_itself() -> None:
    assert SECRET not in repr(target())


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("ws://127.0.0.1:8079", "http://127.0.0.1:8079"),
        ("wss://desk.example/", "https://desk.example"),
        ("ws://desk.example:81/x", "http://desk.example:81"),
        ("ws://user:secret@[::1]:8079", "http://[::1]:8079"),
    ],
)
def test_the_addresses_of_a_broker(url: str, root: str) -> None:
    address = address_of(url)
    assert (address.root, address.v1, address.mcp) == (root, f"{root}/v1", f"{root}/mcp")
    assert address.console == f"{root}/console"
    assert address_of(address.websocket) == address


@pytest.mark.parametrize(
    "url", ["8079", "ftp://desk.example", "http://desk.example", "ws://", "ws://desk:port"]
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a WebSocket URL"):
        address_of(url)


@pytest.mark.parametrize("name", MCP_HOSTS)
def test_a_host_starts_the_bridge(name: str) -> None:
    command = bridge_command(ADDRESS, "/etc/the-token")
    assert command[-4:] == ["--url", "ws://127.0.0.1:9000", "--token-file", "/etc/the-token"]
    edit = MCP_HOSTS[name].edit(command, HOME)
    assert edit.file.is_relative_to(HOME)
    text = edit.applied_to(None, "x")
    found = tomllib.loads(text) if edit.file.suffix == ".toml" else json.loads(text)
    (servers,) = found.values()
    server = servers["exai"]
    started = server["command"]
    assert command == (started if isinstance(started, list) else [started, *server["args"]])


def test_a_host_starts_the_bridge_of_this_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
        (folder / "exai").write_text("#!/bin/sh\n")
        (folder / "exai").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    monkeypatch.setattr("sys.executable", str(ours / "python"))
    assert bridge_command(ADDRESS, "")[:2] == [str(ours / "exai"), "mcp"]
    (ours / "exai").unlink()
    assert bridge_command(ADDRESS, "")[:4] == [str(ours / "python"), "-m", "exai_actors", "mcp"]
