"""`exai mcp` as a host starts it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import termios
from asyncio.subprocess import PIPE, Process
from typing import Any

import pytest

from exai_actors.testing.broker import running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import EXAI, clean_environment, ended, start

NO_BROKER = "ws://127.0.0.1:1"


def line(method: str, params: dict[str, Any] | None = None, id_: int = 1) -> bytes:
    message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params or {}}
    return json.dumps(message).encode() + b"\n"


CHAT = line("initialize") + line("tools/call", {"name": "chat", "arguments": {"prompt": "Hi?"}}, 2)


async def ask(process: Process, message: bytes) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(message)
    return json.loads(await process.stdout.readline())


async def test_a_host_is_answered_by_way_of_the_broker() -> None:
    async with running_broker() as broker:
        process = await start("mcp", "--url", broker.url)
        initialized = await ask(process, line("initialize", {"protocolVersion": "2025-06-18"}))
        assert initialized["result"]["protocolVersion"] == "2025-06-18"
        params = {"name": "list_models", "arguments": {}}
        answer = await ask(process, line("tools/call", params, 2))
        assert "models" in json.loads(answer["result"]["content"][0]["text"])
        result = await ended(process, b"")
    assert (result.code, result.out, result.err) == (0, "", "")


async def test_it_ends_when_stdin_ends_even_before_the_first_message() -> None:
    result = await ended(await start("mcp", "--url", NO_BROKER), b"")
    assert (result.code, result.out) == (0, "")


async def test_the_only_message_needs_no_line_feed() -> None:
    result = await ended(await start("mcp", "--url", NO_BROKER), line("ping").removesuffix(b"\n"))
    assert json.loads(result.out)["result"] == {}


async def test_messages_before_the_end_of_stdin_are_answered() -> None:
    messages = line("initialize") + line("tools/list", id_=2)
    result = await ended(await start("mcp", "--url", NO_BROKER), messages)
    assert [json.loads(each)["id"] for each in result.out.splitlines()] == [1, 2]


async def test_a_call_before_the_end_of_stdin_is_answered() -> None:
    async with running_broker() as broker:
        result = await ended(await start("mcp", "--url", broker.url), CHAT.removesuffix(b"\n"))
    first, last = map(json.loads, result.out.splitlines())
    assert (first["id"], last["id"]) == (1, 2)
    assert "Hi?" in last["result"]["content"][0]["text"]


async def test_a_call_is_cancelled_if_nothing_reads_its_answer_after_the_end_of_stdin() -> None:
    async with (
        ScriptedUpstream(answer("half", Gate())) as upstream,
        running_broker({"provider": [provider_at(upstream.base_url)]}) as broker,
    ):
        reader, writer = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *EXAI, "mcp", "--url", broker.url, stdin=PIPE, stdout=writer, env=clean_environment()
        )
        os.close(writer)
        assert process.stdin is not None
        process.stdin.write(CHAT)
        await upstream.wait_for_started(1)
        os.close(reader)
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
        await upstream.wait_for_disconnect()


async def test_a_call_that_takes_too_long_after_the_end_of_stdin_is_cancelled() -> None:
    async with (
        ScriptedUpstream(answer("half", Gate())) as upstream,
        running_broker({"provider": [provider_at(upstream.base_url)]}) as broker,
    ):
        program = (
            "from exai_actors.daemon.mcp_bridge import process, run\n"
            "process.LAST_ANSWERS_S = 1.0\n"
            f"run.run({broker.url!r}, None)\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert process.stdin is not None
        process.stdin.write(CHAT)
        await upstream.wait_for_started(1)
        result = await ended(process, b"")
        await upstream.wait_for_disconnect()
    last = json.loads(result.out.splitlines()[-1])
    assert (last["id"], "result" in last) == (2, False)


async def test_it_ends_with_a_signal() -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)):
        process = await start("mcp", "--url", NO_BROKER)
        assert process.stderr is not None
        await ask(process, line("ping"))
        # It reports the missing broker once it has its event loop, and with it the signals.
        assert b"exai serve" in await process.stderr.readline()
        process.send_signal(number)
        result = await ended(process)
        assert (result.code, result.out) == (code, "")


@pytest.mark.parametrize("has_spoken", [True, False])
async def test_it_ends_when_its_parent_is_gone(has_spoken: bool) -> None:
    host = "import signal, subprocess, sys; subprocess.Popen(sys.argv[1:]); signal.pause()"
    stdin, hold = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", host, *EXAI, "mcp", "--url", NO_BROKER,
        stdin=stdin, stdout=PIPE, stderr=PIPE, env=clean_environment(),
    )  # fmt: skip
    os.close(stdin)
    assert process.stdout is not None
    assert process.stderr is not None
    if has_spoken:
        os.write(hold, line("ping"))
        assert json.loads(await process.stdout.readline())["result"] == {}
    else:
        os.write(hold, b" ")
        async with asyncio.timeout(20):
            # Nothing tells but the pipe that the bridge has begun to read.
            while any(fcntl.ioctl(hold, termios.FIONREAD, bytes(4))):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    process.kill()
    # Its end closes the pipe, although stdin is still open.
    assert await process.stdout.read() == b""
    os.close(hold)
    await process.stderr.read()
    await process.wait()


async def test_only_the_protocol_is_written_to_stdout() -> None:
    program = (
        "from exai_actors.daemon.mcp_bridge import bridge, run\n"
        "received = bridge.Bridge.received\n"
        "def noisy(self, line):\n"
        "    print('noise')\n"
        "    received(self, line)\n"
        "bridge.Bridge.received = noisy\n"
        f"run.run({NO_BROKER!r}, None)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    result = await ended(process, line("ping"))
    assert [json.loads(each)["id"] for each in result.out.splitlines()] == [1]
    assert "noise" in result.err


async def test_a_host_that_does_not_read_stderr_is_served() -> None:
    receiving, sending = os.pipe()
    os.close(receiving)
    process = await asyncio.create_subprocess_exec(
        *EXAI, "mcp", "--url", NO_BROKER,
        stdin=PIPE, stdout=PIPE, stderr=sending, env=clean_environment(),
    )  # fmt: skip
    os.close(sending)
    params = {"name": "list_models", "arguments": {}}
    answer = await ask(process, line("tools/call", params))
    assert "exai serve" in answer["result"]["content"][0]["text"]
    await ended(process, b"")


async def test_a_message_that_is_too_long_is_refused_and_the_next_answered() -> None:
    process = await start("mcp", "--url", NO_BROKER)
    assert process.stdin is not None
    process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 13_000_000 + b'"}\n')
    await process.stdin.drain()
    assert process.stdout is not None
    refused = json.loads(await process.stdout.readline())
    assert "too long" in refused["error"]["message"]
    assert (await ask(process, line("ping", id_=2)))["id"] == 2
    await ended(process, b"")


async def test_the_first_answer_waits_for_no_import_that_a_connection_needs() -> None:
    program = (
        "import sys\n"
        "from exai_actors.daemon.mcp_bridge import bridge, run\n"
        "import exai_actors.daemon.cli.mcp\n"
        "received = bridge.Bridge.received\n"
        "def noted(self, line):\n"
        "    received(self, line)\n"
        "    print([each for each in ('asyncio', 'websockets', 'orjson') if each in sys.modules])\n"
        "bridge.Bridge.received = noted\n"
        f"run.run({NO_BROKER!r}, None)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    result = await ended(process, line("initialize"))
    assert result.err.startswith("[]\n"), result.err
