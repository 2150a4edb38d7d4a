"""`exai act` and `exai provider`: what they print, ask, do and refuse."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult

from exai_actors.client.errors import Unauthorized
from exai_actors.daemon.cli.act import _show, actions_text, drain, snapshot
from exai_actors.daemon.cli.act import act as act_command
from exai_actors.testing.broker import RunningBroker, broker_in_thread, running_broker
from tests.daemon.processes import Result, exai, start

commands = click.Group(commands={"act": act_command, "drain": drain, "snapshot": snapshot})
PROVIDERS = [
    {"kind": "synthetic", "name": "kimi", "limit": 4},
    {"kind": "synthetic", "name": "glm", "limit": 2},
]


@asynccontextmanager
async def broker_with_operators(folder: Path) -> AsyncIterator[RunningBroker]:
    operators = []
    for role in ("viewer", "operator", "admin"):
        token = folder / role
        token.write_text(f"token-of-the-{role}")
        token.chmod(0o600)
        operators.append({"name": role, "token_file": str(token), "role": role})
    async with running_broker({"provider": PROVIDERS, "operator": operators}) as broker:
        yield broker


async def act(broker: RunningBroker, role: str, *arguments: str) -> Result:
    token = {"EXAI_OPERATOR_TOKEN": f"token-of-the-{role}"}
    return await exai(*arguments, "--url", broker.url, env=token)


async def test_a_provider_is_previewed_paused_and_resumed(tmp_path: Path) -> None:
    async with broker_with_operators(tmp_path) as broker:
        preview = await act(broker, "operator", "provider", "pause", "kimi", "--preview")
        before = [each.mode for each in broker.statistics().providers]
        paused = await act(
            broker, "operator", "provider", "pause", "kimi", "--yes", "--reason", "lunch"
        )
        during = [each.mode for each in broker.statistics().providers]
        undo = paused.err.partition("undo: exai ")[2].split()
        undone = await act(broker, "operator", *undo, "--yes")
        after = [each.mode for each in broker.statistics().providers]
    text = (
        "kimi: 0 calls in flight continue; 0 queued requests and new ones wait until it is "
        "resumed\n"
    )
    assert (preview.out, preview.err, preview.code) == (text, "", 0)
    assert (paused.out, undone.code) == (text, 0)
    assert before == after == ["open", "open"]
    assert during == ["paused", "open"]


async def test_limits_and_gates_have_commands_of_their_own(tmp_path: Path) -> None:
    async with broker_with_operators(tmp_path) as broker:
        limit = await act(broker, "admin", "provider", "limit", "kimi", "7", "--yes", "--json")
        gate = await act(
            broker, "admin", "provider", "gate", "glm", "requests_per_minute", "9", "--yes"
        )
        kimi, glm = broker.statistics().providers
    assert json.loads(limit.out) == {
        "action": "provider.limit",
        "preview": False,
        "effects": [
            {
                "target": "kimi",
                "text": "limit 4 -> 7: 0 of 0 queued requests can start",
                "ok": True,
            }
        ],
        "count": 1,
        "failed": 0,
        "undo": {"action": "provider.limit", "targets": ["kimi"], "arguments": {"limit": 4}},
        "undos": [{"action": "provider.limit", "targets": ["kimi"], "arguments": {"limit": 4}}],
    }
    assert gate.code == 0
    assert (kimi.limit, [each.limit for each in glm.gates]) == (7, [9])


async def test_any_action_is_taken_by_its_name_on_all_rows_that_match(tmp_path: Path) -> None:
    async with broker_with_operators(tmp_path) as broker:
        listed = await act(broker, "operator", "act", "list")
        limited = await act(
            broker,
            "admin",
            *("act", "provider.limit", "--filter", "limit>=2", "--argument", "limit=3", "--yes"),
        )
        limits = [each.limit for each in broker.statistics().providers]
    lines = [line.split()[:6] for line in listed.out.splitlines()]
    assert ["provider.limit", "limit", "[model]", "admin,", "not", "yours"] in lines
    assert len(limited.out.splitlines()) == 2
    assert limits == [3, 3]


async def test_an_action_on_providers_in_different_states_prints_each_command_that_undoes_it(
    tmp_path: Path,
) -> None:
    async with broker_with_operators(tmp_path) as broker:
        before = [each.limit for each in broker.statistics().providers]
        limit = ("act", "provider.limit", "kimi", "glm", "--argument", "limit=9", "--yes")
        limited = await act(broker, "admin", *limit)
        undos = [line.partition("undo: exai ")[2] for line in limited.err.splitlines()]
        for undo in undos:
            assert (await act(broker, "admin", *undo.split(), "--yes")).code == 0
        after = [each.limit for each in broker.statistics().providers]
    assert before == after
    assert len(set(before)) == len(undos) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("provider", "pause", "kimi"), 2, "add --yes to do it without a question, or --preview"),
        (("provider", "pause", "none", "--yes"), 7, "none: there is no provider 'none'; choose"),
        (("act", "provider.erase", "--yes"), 2, "there is no action 'provider.erase'"),
        (("act", "provider.pause", "--yes"), 2, "name a target of provider.pause"),
        (("act", "provider.limit", "kimi", "--yes"), 2, "needs the argument 'limit'"),
        (
            ("act", "provider.limit", "kimi", "--argument", "limit=many", "--yes"),
            2,
            "is a whole number from 0 up",
        ),
        (("act", "provider.limit", "kimi", "--argument", "7", "--yes"), 2, "is no NAME=VALUE"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], code: int, error: str, tmp_path: Path
) -> None:
    async with broker_with_operators(tmp_path) as broker:
        result = await act(broker, "admin", *arguments)
        assert [each.mode for each in broker.statistics().providers] == ["open", "open"]
    assert (result.code, result.out) == (code, "")
    assert error in result.err


def test_a_viewer_can_take_no_action_at_all(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("token-of-the-viewer")
    token.chmod(0o600)
    operator = {"name": "eve", "token_file": str(token)}
    with broker_in_thread({"provider": PROVIDERS, "operator": [operator]}) as broker:
        runner = CliRunner()

        def run(*arguments: str) -> ClickResult:
            command = [*arguments, "--url", broker.url, "--token-file", str(token)]
            return runner.invoke(commands, command)

        actions = json.loads(run("act", "list", "--json").output)
        assert len(actions) > 20
        for action in actions:
            result = run("act", action["name"], "kimi", "--yes")
            assert result.exit_code == 1
            assert isinstance(result.exception, Unauthorized), action
            assert f"{action['name']} needs the role" in str(result.exception)
        for verb in ("drain", "snapshot"):
            assert isinstance(run(verb, "--yes").exception, Unauthorized)
        now = broker.statistics()
    assert (now.draining, [each.mode for each in now.providers]) == (False, ["open", "open"])
    assert [each.events for each in now.providers] == [(), ()]


async def test_a_viewer_can_change_nothing(tmp_path: Path) -> None:
    async with broker_with_operators(tmp_path) as broker:
        paused = await act(broker, "viewer", "provider", "pause", "kimi", "--yes")
        limited = await act(broker, "operator", "provider", "limit", "kimi", "1", "--yes")
        (kimi, _) = broker.statistics().providers
    assert (kimi.mode, kimi.limit) == ("open", 4)
    assert (paused.code, limited.code) == (6, 6)
    assert "provider.pause needs the role operator; yours is viewer" in paused.err
    assert "provider.limit needs the role admin; yours is operator" in limited.err
    assert paused.err.endswith("; use the token of an operator with that role\n")


async def test_on_a_terminal_it_does_not_ask_about_what_cannot_be_done(tmp_path: Path) -> None:
    terminal, end = os.openpty()
    try:
        async with broker_with_operators(tmp_path) as broker, asyncio.timeout(20):
            process = await start(
                *("provider", "resume", "kimi", "--url", broker.url),
                env={"EXAI_OPERATOR_TOKEN": "token-of-the-operator"},
                stdin=end,
                terminal=end,
            )
            assert await process.wait() == 7
        shown = os.read(terminal, 1000)
        assert b"kimi is open already" in shown
        assert b"Do it?" not in shown
    finally:
        os.close(terminal)
        os.close(end)


def test_a_difference_is_printed_so_that_programs_can_read_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    effect = {"target": "broker", "text": "--- exai.toml\n+++ exai.toml", "ok": True}
    _show({"effects": [effect], "count": 1, "preview": False, "undos": []}, as_json=False)
    assert capsys.readouterr().out == "--- exai.toml\n+++ exai.toml\n"


@pytest.mark.parametrize(("typed", "mode"), [(b"y\n", "paused"), (b"n\n", "open"), (b"\n", "open")])
async def test_on_a_terminal_it_shows_the_effect_and_asks(
    typed: bytes, mode: str, tmp_path: Path
) -> None:
    terminal, end = os.openpty()
    try:
        async with broker_with_operators(tmp_path) as broker:
            token = {"EXAI_OPERATOR_TOKEN": "token-of-the-operator"}
            process = await start(
                *("provider", "pause", "kimi", "--url", broker.url),
                env=token,
                stdin=end,
                terminal=end,
            )
            shown = b""
            async with asyncio.timeout(20):
                while b"Do it?" not in shown:
                    shown += await asyncio.to_thread(os.read, terminal, 1000)
                assert broker.statistics().providers[0].mode == "open"
                os.write(terminal, typed)
                assert await process.wait() == 0
            assert b"0 calls in flight continue" in shown
            assert broker.statistics().providers[0].mode == mode
    finally:
        os.close(terminal)
        os.close(end)


@pytest.mark.parametrize("width", [72, 80, 100])
def test_the_list_of_actions_fits_a_terminal(width: int) -> None:
    actions = [
        {"table": table, "name": name, "role": "admin", "allowed": allowed, **more}
        for table, name, allowed, more in (
            ("providers", "provider.gate", True, {"arguments": [ARGUMENT, OPTIONAL], "help": "x"}),
            ("broker", "broker.drain", False, {"arguments": [], "help": "word " * 30}),
            ("providers", "provider.pause", True, {"arguments": [], "help": "Grant no call."}),
        )
    ]
    lines = actions_text(actions, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[:5] == [
        "providers",
        "  provider.gate gate [limit]  admin             x",
        "  provider.pause              admin             Grant no call.",
        "",
        "broker",
    ]
    assert lines[5].startswith("  broker.drain                admin, not yours  word word")
    assert " ".join(lines[5:]).count("word") == 30
    assert len(actions_text(actions, None).splitlines()) == 6


ARGUMENT = {"name": "gate", "required": True}
OPTIONAL = {"name": "limit", "required": False}
