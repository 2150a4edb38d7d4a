"""`exai serve --local`: a real model for every family, which lives and ends with the broker."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.real import processes
from tests.real.conftest import need
from tools import real_parts

MODEL = "smollm2-135m"
QUESTION = "What is the capital of France?"
MESSAGES = [{"role": "user", "content": QUESTION}]
FAMILIES: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 8}, "choices"),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 8}, "content"),
    ("/v1/messages/count_tokens", {"messages": MESSAGES}, "input_tokens"),
    ("/v1/responses", {"input": QUESTION, "max_output_tokens": 8}, "output"),
    ("/v1/embeddings", {"input": QUESTION}, "data"),
]


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process, Path]]:
    """The HTTP address of a broker with the model, its process and its log."""
    env = processes.environment(real_parts.ROOT, need(real_parts.LLAMA).folder)
    log = tmp_path / "log"
    command = ("-m", "exai_actors", "serve", "--local", "--port", "0", "--log-format", "text")
    with log.open("wb") as opened:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=env,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=opened,
        )
    try:
        assert process.stdout is not None
        ready = (await asyncio.wait_for(process.stdout.readline(), 50)).decode()
        assert ready.startswith("ready ws://"), log.read_text()
        yield ready.split()[1].replace("ws://", "http://"), process, log
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def models_in(log: Path) -> list[int]:
    """The ids of the processes with the model, the newest last."""
    return [int(each) for each in re.findall(r"local.started .*process=(\d+)", log.read_text())]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - other processes have no events for us
            await asyncio.sleep(0.05)


def is_gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


async def ask(url: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}{path}", json={"model": MODEL, **body}) as response,
    ):
        return response.status, await response.json()


async def test_the_model_answers_in_every_family_and_ends_with_the_broker(
    broker: tuple[str, asyncio.subprocess.Process, Path],
) -> None:
    url, process, log = broker
    for path, body, member in FAMILIES:
        status, answer = await ask(url, path, body)
        assert (status, member in answer) == (200, True), answer
    (model,) = models_in(log)
    os.kill(model, signal.SIGKILL)
    await until(lambda: len(models_in(log)) == 2)
    path, body, _ = FAMILIES[0]
    assert (await ask(url, path, body))[0] == 200
    process.kill()
    await until(lambda: is_gone(models_in(log)[-1]))
