"""Clients with the habits of those of the EX-AI daemon, as real processes on websockets 13.1.

They are written after those programs' frames; none of them knows anything of this broker.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exai_actors.client import connect
from tests.daemon.processes import serving
from tests.real import processes
from tests.real.conftest import PROGRAMS, TOKEN, StartBroker, need
from tools import real_parts

PROVIDERS = """
[[provider]]
name = "quick"
kind = "synthetic"
models = ["quick"]
tokens_per_second = 0

[[provider]]
name = "slow"
kind = "synthetic"
models = ["slow"]
tokens = 40
tokens_per_second = 20
limit = 1
"""
ANSWER_TIMEOUT_S = 40.0


class Program:
    """A program that answers each line of input with one line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, line: Any) -> Any:
        """The answer to one line, both as JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        return await self.line()

    async def line(self) -> Any:
        """The next line of output."""
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            line = await self._process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)


@asynccontextmanager
async def program(name: str, *arguments: str) -> AsyncIterator[Program]:
    part = need(real_parts.websockets_part("13.1"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        str(PROGRAMS / name),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=processes.environment(part.folder),
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
def broker(start_broker: StartBroker) -> str:
    return start_broker(PROVIDERS, TOKEN)


def chat(prompt: str, **arguments: Any) -> dict[str, Any]:
    return {"name": "chat", "arguments": {"prompt": prompt} | arguments}


async def test_the_last_shim_shows_the_answer_to_each_call(broker: str) -> None:
    async with program("one_id_shim.py", broker, TOKEN) as shim:
        assert "chat" in await shim.ask("list")
        for prompt in ("one", "two", "two", "three"):
            (text,) = await shim.ask(chat(prompt, model="quick"))
            assert prompt in text
        (text,) = await shim.ask({"name": "version", "arguments": {}})
        assert "exai-actors" in text
        assert len(await shim.ask({"name": "status", "arguments": {}})) == 1
        (text,) = await shim.ask(chat("four", model="auto"))
        assert "four" in text


async def test_the_last_shim_shows_errors(broker: str) -> None:
    async with program("one_id_shim.py", broker, TOKEN) as shim:
        (text,) = await shim.ask({"name": "codereview", "arguments": {}})
        assert text.startswith("TOOL_NOT_FOUND: ")
        (text,) = await shim.ask(chat("x", model="none"))
        assert text.startswith("MODEL_NOT_FOUND: ")
        (text,) = await shim.ask(chat("x", continuation_id="never-existed"))
        assert text.startswith("NOT_FOUND: ")
        (text,) = await shim.ask(chat("still here", model="quick"))
        assert "still here" in text


async def test_a_shim_that_waits_by_the_ack_does_not_give_up_in_the_queue(broker: str) -> None:
    async with (
        program("ack_shim.py", broker, TOKEN, "0.5") as first,
        program("ack_shim.py", broker, TOKEN, "0.5") as second,
    ):
        answers = await asyncio.gather(
            first.ask(chat("one", model="slow")), second.ask(chat("two", model="slow"))
        )
    assert ["one" in answers[0], "two" in answers[1]] == [True, True], answers


async def test_a_shim_that_meets_a_draining_broker_tries_again_until_the_next_is_there(
    tmp_path: Path,
) -> None:
    providers = f'[server]\ntoken = "{TOKEN}"\n{PROVIDERS}'
    async with (
        serving(providers, tmp_path) as draining,
        program("ack_shim.py", draining.url, TOKEN, "30") as working,
    ):
        last = asyncio.create_task(working.ask(chat("the last", model="slow")))
        async with connect(draining.url, token=TOKEN) as client:
            while not (await client.health())["global_inflight"]:
                pass
        draining.process.terminate()
        assert draining.process.stderr is not None
        while b"broker.draining" not in await draining.process.stderr.readline():
            pass
        async with program("ack_shim.py", draining.url, TOKEN, "30") as newcomer:
            assert "503" in await newcomer.line()
            answer = asyncio.create_task(newcomer.ask(chat("the next", model="quick")))
            assert "the last" in await last
            await draining.process.communicate()
            port = draining.url.rpartition(":")[2]
            async with serving(providers, tmp_path, "--port", port):
                while "the next" not in (line := await answer):
                    assert "503" in line or "Errno" in line
                    answer = asyncio.create_task(newcomer.line())


async def test_scripts_with_recurring_ids_get_the_answer_to_each_call(broker: str) -> None:
    prompts = ["first", "second", "second", "third", "first"]
    async with program("recurring_ids.py", broker, TOKEN, *prompts) as script:
        answers = dict([await script.line() for _ in range(4)])
    assert answers == dict.fromkeys(["a second", "an id", "a req_id", "JSON-RPC"], prompts)
