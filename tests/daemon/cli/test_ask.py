from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.incomplete import incompleteness
from exai_actors.testing.broker import RunningBroker, running_broker
from exai_actors.testing.scripted_replies import CUT, Gate, Reasoning, Reply, answer, failure
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import (
    EXAI,
    MODEL,
    clean_environment,
    ended,
    exai,
    provider_at,
    serving,
    start,
)

TOKEN = "0123456789abcdef"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def broker(upstream: ScriptedUpstream) -> AsyncIterator[RunningBroker]:
    async with running_broker(provider_at(upstream)) as running:
        yield running


async def test_the_answer_is_printed_and_ends_with_a_newline(broker: RunningBroker) -> None:
    result = await exai("ask", "hello", "--url", broker.url)
    assert (result.code, result.out, result.err) == (0, "echo: hello\n", "")


async def test_no_stream_prints_the_same_answer(broker: RunningBroker) -> None:
    result = await exai("ask", "hello", "--no-stream", env={"EXAI_URL": broker.url})
    assert (result.code, result.out) == (0, "echo: hello\n")


async def test_pieces_are_printed_as_they_arrive(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", gate, "lo"))
    process = await start("ask", "hello", "--url", broker.url)
    assert process.stdout is not None
    assert await process.stdout.readexactly(3) == b"Hel"
    gate.open()
    assert (await ended(process)).out == "lo\n"


async def test_reasoning_is_printed_on_stderr_as_it_arrives_and_ends_its_line_before_the_answer(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.then(answer(Reasoning("Is it "), gate, Reasoning("so?"), "Yes."))
    process = await start("ask", "hello", "--reasoning", "--url", broker.url)
    assert process.stderr is not None
    assert await process.stderr.readexactly(6) == b"Is it "
    gate.open()
    result = await ended(process)
    assert (result.out, result.err) == ("Yes.\n", "so?\n")


async def test_reasoning_of_a_whole_answer_is_printed_before_it(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer(Reasoning("hm"), "Yes."))
    result = await exai("ask", "hello", "--reasoning", "--no-stream", "--url", broker.url)
    assert (result.out, result.err) == ("Yes.\n", "hm\n")


@pytest.mark.parametrize("flag", ["--reasoning", None])
async def test_json_has_the_reasoning_with_the_flag_or_without(
    broker: RunningBroker, upstream: ScriptedUpstream, flag: str | None
) -> None:
    upstream.then(answer(Reasoning("hm"), "Yes."))
    flags = [flag] if flag else []
    result = await exai("ask", "hello", "--json", *flags, "--url", broker.url)
    assert json.loads(result.out)["metadata"]["reasoning"] == "hm"
    assert result.err == ""


async def test_without_the_flag_no_reasoning_is_printed(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer(Reasoning("hm"), "Yes."))
    result = await exai("ask", "hello", "--url", broker.url)
    assert (result.out, result.err) == ("Yes.\n", "")


async def test_json_has_the_answer_and_its_metadata(broker: RunningBroker) -> None:
    result = await exai("ask", "hello", "--json", "-m", MODEL, "--url", broker.url)
    assert result.code == 0
    found = json.loads(result.out)
    assert found["text"] == "echo: hello"
    assert found["outputs"] == ["echo: hello"]
    assert set(found) == {
        "text",
        "outputs",
        "continuation_id",
        "dropped_turns",
        "conversation",
        "metadata",
        "request_id",
    }


@pytest.mark.parametrize("arguments", [(), ("-",)])
async def test_the_prompt_can_come_from_stdin(
    broker: RunningBroker, arguments: tuple[str, ...]
) -> None:
    result = await exai("ask", *arguments, "--url", broker.url, stdin="grüße\n".encode())
    assert (result.code, result.out) == (0, "echo: grüße\n")


async def test_ctrl_c_cancels_the_request_at_the_provider(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer("Hel", Gate(), "lo"))
    process = await start("ask", "hello", "--url", broker.url)
    assert process.stdout is not None
    assert await process.stdout.readexactly(3) == b"Hel"
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert (result.code, result.out, result.err) == (ExitCode.INTERRUPTED, "\n", "")
    await upstream.wait_for_disconnect()


async def test_a_broken_pipe_cancels_the_request_quietly(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", gate, "lo", Gate()))
    process = await start("ask", "hello", "--url", broker.url)
    assert process.stdout is not None
    assert await process.stdout.readexactly(3) == b"Hel"
    # As a shell does when the next command of a pipe ends.
    transport = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    transport.close()
    gate.open()
    result = await ended(process)
    assert (result.code, result.err) == (ExitCode.BROKEN_PIPE, "")
    await upstream.wait_for_disconnect()


async def test_an_unknown_model_is_reported_with_the_known_ones(broker: RunningBroker) -> None:
    result = await exai("ask", "hello", "-m", "gone", "--url", broker.url)
    assert (result.code, result.out) == (ExitCode.INVALID, "")
    (line,) = result.err.splitlines()
    assert "gone" in line
    assert MODEL in line
    assert line.endswith("(MODEL_NOT_FOUND)")


async def test_a_failed_provider_is_reported_in_one_line(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(failure(400, "out of order"))
    result = await exai("ask", "hello", "--url", broker.url)
    assert (result.code, result.out) == (ExitCode.PROVIDER, "")
    (line,) = result.err.splitlines()
    assert "out of order" in line
    assert line.endswith("(PROVIDER_ERROR)")


async def test_an_incomplete_answer_is_a_failure(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer("Hel", CUT))
    result = await exai("ask", "hello", "--url", broker.url)
    assert (result.code, result.out) == (ExitCode.PROVIDER, "Hel\n")
    assert "(PROVIDER_ERROR)" in result.err


@pytest.mark.parametrize(
    ("reply", "options", "out", "said"),
    [
        (answer("Hel", finish_reason="length"), (), "Hel\n", "cut off"),
        (answer(Reasoning("hm"), finish_reason="length"), (), "", "cut off"),
        (answer("no", finish_reason="content_filter"), ("--no-stream",), "no\n", "withheld"),
        (answer("", finish_reason="tool_calls"), (), "", "tool"),
        (answer(Reasoning("hm")), (), "", "empty; the model only reasoned"),
        (answer(""), ("--no-stream",), "", "the answer is empty"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure(
    broker: RunningBroker,
    upstream: ScriptedUpstream,
    reply: Reply,
    options: tuple[str, ...],
    out: str,
    said: str,
) -> None:
    upstream.then(reply)
    result = await exai("ask", "hello", *options, "--url", broker.url)
    assert (result.code, result.out) == (ExitCode.PROVIDER, out)
    (line,) = result.err.splitlines()
    assert said in line


async def test_a_cut_answer_as_json_is_whole_json_and_a_failure(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer("Hel", finish_reason="length"))
    result = await exai("ask", "hello", "--json", "--url", broker.url)
    assert result.code == ExitCode.PROVIDER
    assert json.loads(result.out)["text"] == "Hel"


@pytest.mark.parametrize(
    ("text", "metadata", "complete"),
    [
        ("fine", {"finish_reason": "stop"}, True),
        ("fine", {"finish_reason": "end_turn"}, True),
        ("fine", {}, True),
        ("fine", {"finish_reason": None}, True),
        ("fine", {"finish_reason": "MAX_TOKENS"}, False),
        ("fine", {"finish_reason": "sensitive"}, False),
        ("", {"finish_reason": "function_call"}, False),
        (" \n", {"finish_reason": "stop"}, False),
    ],
)
def test_the_finish_reason_says_whether_an_answer_is_complete(
    text: str, metadata: dict[str, object], complete: bool
) -> None:
    assert (incompleteness(text, metadata) == "") is complete


async def test_a_passed_deadline_has_its_own_exit_code(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer(Gate()))
    result = await exai("ask", "hello", "--timeout", "0.2", "--url", broker.url)
    assert (result.code, result.out) == (ExitCode.TIMEOUT, "")
    assert "(TIMEOUT)" in result.err
    assert "no outcome within" not in result.err  # the client's message
    await upstream.wait_for_disconnect()


async def test_a_refused_request_says_when_to_try_again(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.then(answer(gate, "first"))
    async with running_broker(provider_at(upstream, "queue = 0")) as broker:
        first = await start("ask", "hello", "--url", broker.url)
        await upstream.wait_for_started(1)
        result = await exai("ask", "hello", "--url", broker.url)
        assert (result.code, result.out) == (ExitCode.BUSY, "")
        (line,) = result.err.splitlines()
        assert "(OVER_CAPACITY)" in line
        gate.open()
        assert (await ended(first)).out == "first\n"


async def shown_until(terminal: int, end: bytes) -> bytes:
    shown = b""
    while not shown.endswith(end):
        shown += await asyncio.to_thread(os.read, terminal, 1000)
    return shown


async def test_an_output_without_unicode_gets_question_marks(broker: RunningBroker) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    result = await exai("ask", "grüße", "--url", broker.url, env=env)
    assert (result.code, result.out, result.err) == (0, "echo: gr??e\n", "")


async def test_a_prompt_is_utf8_in_any_locale(
    broker: RunningBroker,
) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = await exai("ask", "grüße", "--url", broker.url, "--json", env=env)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith('{\n  "text": "echo: grüße"')


async def test_a_terminal_shows_the_queue_position_until_the_answer_begins(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.then(answer(gate, "first"))
    first = await start("ask", "hello", "--url", broker.url)
    await upstream.wait_for_started(1)
    terminal, end = os.openpty()
    second = await start("ask", "hello", "--url", broker.url, terminal=end)
    shown = await shown_until(terminal, b")")
    assert re.fullmatch(rb"waiting at position 1.* \(scripted: 1 of 1 calls in flight\)", shown)
    gate.open()
    rest = await shown_until(terminal, b"hello\r\n")
    # The position may be shown again before it is cleared for the answer.
    assert rest.endswith(b"\r\x1b[Kecho: hello\r\n")
    assert (await ended(second)).code == (await ended(first)).code == 0
    os.close(terminal)
    os.close(end)


ROUTED = """
[[provider]]
kind = "synthetic"
name = "built-in"
models = ["m"]
tokens_per_second = 0
[[route]]
model = "any"
to = ["built-in/m"]
"""


@pytest.mark.parametrize(
    ("asked", "origin"),
    [
        (("-m", "any"), True),
        (("-m", "any", "--no-stream"), True),
        (("-m", "m"), False),
        (("-m", "built-in/m"), False),
        ((), False),
        (("-m", "any", "--json"), False),
    ],
)
async def test_a_terminal_shows_which_model_answered_if_another_was_asked_for(
    asked: tuple[str, ...], origin: bool
) -> None:
    async with running_broker(ROUTED) as broker:
        terminal, end = os.openpty()
        process = await start("ask", "hello", *asked, "--url", broker.url, terminal=end)
        assert (await ended(process)).code == 0
        os.write(end, b"END")
        shown = await shown_until(terminal, b"END")
        assert (b"answered by built-in/m\r\n" in shown) is origin
        os.close(terminal)
        os.close(end)


async def test_an_answer_cannot_control_the_terminal(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    upstream.then(answer("a\x1b[2Jb\x07"), answer("a\x1b[2Jb\x07"))
    terminal, end = os.openpty()
    process = await start("ask", "hello", "--url", broker.url, terminal=end)
    assert (await ended(process)).code == 0
    assert await shown_until(terminal, b"\n") == "a\ufffd[2Jb\ufffd\r\n".encode()
    os.close(terminal)
    os.close(end)
    # Piped output is unchanged.
    assert (await exai("ask", "hello", "--url", broker.url)).out == "a\x1b[2Jb\x07\n"


async def test_a_token_is_required_and_read_from_the_environment(
    upstream: ScriptedUpstream,
) -> None:
    config = f'[server]\ntoken = "{TOKEN}"\n{provider_at(upstream)}'
    async with running_broker(config) as broker:
        for arguments in ((), ("--token", "not the token, but long")):
            result = await exai("ask", "hello", "--url", broker.url, *arguments)
            assert (result.code, result.out) == (ExitCode.UNAUTHORIZED, "")
            (line,) = result.err.splitlines()
            assert line.endswith("set it with --token or EXAI_TOKEN")
        for token in (TOKEN, f" {TOKEN}\r"):
            result = await exai("ask", "hello", "--url", broker.url, env={"EXAI_WS_TOKEN": token})
            assert (result.code, result.out) == (0, "echo: hello\n")


async def test_the_clients_variable_overrides_the_brokers(upstream: ScriptedUpstream) -> None:
    config = f'[server]\ntoken = "{TOKEN}"\n{provider_at(upstream)}'
    async with running_broker(config) as broker:
        for env in (
            {"EXAI_TOKEN": TOKEN},
            {"EXAI_TOKEN": TOKEN, "EXAI_WS_TOKEN": "another-token-of-length"},
            {"EXAI_TOKEN": "", "EXAI_WS_TOKEN": TOKEN},
        ):
            result = await exai("ask", "hello", "--url", broker.url, env=env)
            assert (result.code, result.out) == (0, "echo: hello\n")


async def test_the_options_of_a_request_reach_the_service(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    options = ("--temperature", "0.25", "--max-tokens", "7", "-m", MODEL, "--system", "Be brief.")
    result = await exai("ask", "hello", *options, "--url", broker.url)
    assert (result.code, result.err) == (0, "")
    body = upstream.requests[0].body
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["max_tokens"]) == (0.25, 7)


async def test_a_value_that_the_broker_refuses_is_an_error_that_names_it(
    broker: RunningBroker,
) -> None:
    result = await exai("ask", "hello", "--max-tokens", "0", "--url", broker.url)
    assert result.code == ExitCode.INVALID
    assert "max_tokens" in result.err


async def test_a_conversation_is_continued_by_the_id_that_was_printed(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    first = await exai("ask", "-c", "new", "My name is Ada.", "--url", broker.url)
    assert (first.code, first.out) == (0, "echo: My name is Ada.\n")
    found = re.fullmatch(r"exai: to continue: exai ask -c (\S+) \.\.\.\n", first.err)
    assert found is not None
    second = await exai("ask", "-c", found[1], "What is my name?", "--url", broker.url)
    assert second.err == first.err
    messages = upstream.requests[1].body["messages"]
    assert [message["content"] for message in messages] == [
        "My name is Ada.",
        "echo: My name is Ada.",
        "What is my name?",
    ]
    third = await exai("ask", "--json", "-c", found[1], "And?", "--url", broker.url)
    assert json.loads(third.out)["conversation"] == found[1]
    assert found[1].endswith("/" + json.loads(third.out)["continuation_id"])
    assert third.err == ""
    assert len(upstream.requests[2].body["messages"]) == 5


@pytest.mark.parametrize("wrong", ["", "c-1", "/c-1", "session/"])
async def test_an_id_that_was_not_printed_is_a_usage_error(wrong: str) -> None:
    result = await exai("ask", "-c", wrong, "hello", "--url", "ws://127.0.0.1:9")
    assert result.code == ExitCode.USAGE
    assert "is not the ID of a conversation; take the one that -c new or --json prints" in (
        " ".join(result.err.split())
    )


async def test_a_tool_is_called_with_texts_and_json(
    broker: RunningBroker, upstream: ScriptedUpstream
) -> None:
    echo = await exai("call", "echo", "text=a = b", "--url", broker.url)
    assert (echo.code, echo.out, echo.err) == (0, "a = b\n", "")
    chat = ("call", "chat", "prompt=hello", "max_tokens:=5", "--url", broker.url)
    assert (await exai(*chat)).out == "echo: hello\n"
    assert upstream.requests[0].body["max_tokens"] == 5
    as_json = json.loads((await exai(*chat, "--json")).out)
    assert as_json["outputs"] == ["echo: hello"]
    assert as_json["metadata"]["provider_used"] == "scripted"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("chta", "prompt=x"), ExitCode.INVALID, "Unknown tool: chta"),
        (("chat", "prompt"), ExitCode.USAGE, '"prompt" is not an argument; write KEY=TEXT'),
        (("chat", "=x"), ExitCode.USAGE, '"=x" is not an argument'),
        (("chat", "max_tokens:=five"), ExitCode.USAGE, "write max_tokens=five if it is text"),
        (("chat", "prompt=x", "max_tokens=5"), ExitCode.INVALID, "text write max_tokens:=5 (VALID"),
        (("chat", "prompt=x", "top_p=0.5"), ExitCode.INVALID, "write top_p:=0.5 (VALIDATION"),
        (("chat", 'messages=[{"a": 1}]'), ExitCode.INVALID, 'write messages:=[{"a": 1}] (VALID'),
        (("chat", "prompt=x", "max_tokens=few"), ExitCode.INVALID, "got str (VALIDATION_ERROR)"),
        (("chat", "prompt=x", "max_tokens:=0"), ExitCode.INVALID, "got 0 (VALIDATION_ERROR)"),
    ],
)
async def test_a_wrong_call_says_what_is_wrong(
    broker: RunningBroker, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    result = await exai("call", *arguments, "--url", broker.url)
    assert (result.code, result.out) == (code, "")
    assert words in " ".join(result.err.split())


async def test_models_fails_if_no_provider_could_list_its_models(tmp_path: Path) -> None:
    config = '[[provider]]\nkind = "openai"\nname = "kimi"\nbase_url = "%s"\n'
    async with (
        ScriptedUpstream(models=failure(500)) as service,
        serving(config % service.base_url, tmp_path) as broker,
    ):
        assert broker.process.stderr is not None
        while b"provider.models_unavailable" not in await broker.process.stderr.readline():
            pass
        result = await exai("models", "--url", broker.url)
        as_json = await exai("models", "--json", "--url", broker.url)
    assert (result.code, result.out) == (ExitCode.PROVIDER, "")
    assert (as_json.code, as_json.out) == (ExitCode.PROVIDER, "[]\n")
    assert result.err.startswith("exai: kimi: could not list its models: ")


async def test_a_broker_that_dies_during_an_answer_is_reported(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.then(answer("Hel", Gate()))
    async with serving(provider_at(upstream), tmp_path) as broker:
        process = await start("ask", "hello", "--url", broker.url)
        assert process.stdout is not None
        assert await process.stdout.readexactly(3) == b"Hel"
        broker.process.kill()
        result = await ended(process)
    assert result.code == ExitCode.NO_BROKER
    (line,) = result.err.splitlines()
    assert line.startswith(f"exai: the connection to {broker.url} broke off")


@pytest.mark.parametrize("command", [["ask", "hello"], ["ask", "--no-stream", "hello"], ["tools"]])
async def test_a_full_disk_is_not_an_internal_error(
    broker: RunningBroker, command: list[str]
) -> None:
    quoted = shlex.join([*EXAI, *command, "--url", broker.url])
    process = await asyncio.create_subprocess_shell(
        f"{quoted} >/dev/full", stderr=PIPE, env=clean_environment()
    )
    result = await ended(process)
    assert result.code == ExitCode.FAILED
    assert result.err == "exai: output: No space left on device\n"


async def test_a_closed_stdout_is_not_an_error(broker: RunningBroker) -> None:
    quoted = shlex.join([*EXAI, "ask", "hello", "--url", broker.url])
    process = await asyncio.create_subprocess_shell(
        f"{quoted} >&-", stderr=PIPE, env=clean_environment()
    )
    result = await ended(process)
    assert (result.code, result.err) == (0, "")


async def test_models_tools_and_health_are_listed(broker: RunningBroker) -> None:
    models, tools, health = await asyncio.gather(
        *(exai(command, "--url", broker.url) for command in ("models", "tools", "health"))
    )
    assert (models.code, models.out) == (0, f"{MODEL}\n")
    assert tools.code == 0
    names = [line.split()[0] for line in tools.out.splitlines()]
    assert {"chat", "list_models", "status", "version"} <= set(names)
    assert health.code == 0
    assert re.match(r"exai \S+, up 0:00:\d\d, \d+ connections?, \d+ sessions?\n", health.out)


async def test_models_tools_and_health_are_listed_as_json(broker: RunningBroker) -> None:
    models, tools, health = await asyncio.gather(
        *(exai(command, "--json", "--url", broker.url) for command in ("models", "tools", "health"))
    )
    assert json.loads(models.out) == [MODEL]
    chat = next(tool for tool in json.loads(tools.out) if tool["name"] == "chat")
    assert chat["inputSchema"]["required"] == ["prompt"]
    assert json.loads(health.out)["sessions"] >= 1


async def test_health_lists_each_provider(broker: RunningBroker) -> None:
    result = await exai("health", "--url", broker.url)
    assert re.search(r"^scripted +serving +0/\d+ +0 +- +- +0 +now$", result.out, re.MULTILINE)
    as_json = await exai("health", "--json", "--url", broker.url)
    (provider,) = json.loads(as_json.out)["providers"]
    assert provider["models"] == [MODEL]


@pytest.mark.parametrize("compat", ["", '[compat]\nenvelope = "ex-ai"\n'])
async def test_models_and_health_report_why_a_provider_lists_no_models(
    tmp_path: Path, compat: str
) -> None:
    config = (
        compat
        + """
[[provider]]
kind = "openai"
name = "kimi"
base_url = "%s"
api_key_env = "KIMI_API_KEY"
[[provider]]
kind = "synthetic"
name = "built-in"
"""
    )
    async with (
        ScriptedUpstream(api_key="right-key") as service,
        serving(config % service.base_url, tmp_path, env={"KIMI_API_KEY": "wrong-key"}) as broker,
    ):
        assert broker.process.stderr is not None
        while b"provider.models_unavailable" not in await broker.process.stderr.readline():
            pass
        models = await exai("models", "--url", broker.url)
        as_json = await exai("models", "--json", "--url", broker.url)
        health = await exai("health", "--url", broker.url)
    assert (models.code, models.out) == (0, "synthetic\n")
    for result in (models.err, as_json.err):
        (line,) = result.splitlines()
        assert line.startswith("exai: kimi: could not list its models: ")
        assert "answered HTTP 401" in line
        assert "api_key_env" in line
    assert json.loads(as_json.out) == ["synthetic"]
    assert re.search(r"^kimi +no models ", health.out, re.MULTILINE)
    assert "kimi: could not list its models: answered HTTP 401" in health.out
