"""The official Python SDK of MCP as the client, in both eras, over HTTP and over `exai mcp`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CreateMessageRequestParams, CreateMessageResult, TextContent

from exai_actors.testing.broker import RunningBroker, running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import hang
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import EXAI, clean_environment
from tools.real_parts import ROOT

TOKEN = "a-token-of-sixteen-or-more"
PROVIDER: dict[str, Any] = {"name": "made-up", "kind": "synthetic", "models": ["quick"]}
CONFIG: dict[str, Any] = {"server": {"token": TOKEN}, "provider": [PROVIDER]}
FIXTURES = ROOT / "tests" / "real" / "programs" / "mcp_fixtures.py"
TRANSPORTS = ("http", "stdio")
# The SDK begins with a handshake in "legacy", and finds out what the server speaks in "auto".
ERAS = ("legacy", "auto")


@asynccontextmanager
async def client(broker: RunningBroker, transport: str, era: str) -> AsyncIterator[Client]:
    if transport == "stdio":
        command = StdioServerParameters(
            command=EXAI[0],
            args=[*EXAI[1:], "mcp", "--url", broker.url],
            env=clean_environment(EXAI_TOKEN=TOKEN),
            cwd="/",
        )
        async with Client(command, mode=era) as mcp:
            yield mcp
        return
    url = f"http://127.0.0.1:{broker.port}/mcp"
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as mcp,
    ):
        yield mcp


async def call(mcp: Client, tool: str, **arguments: Any) -> str:
    result = await mcp.call_tool(tool, arguments)
    content = result.content[0]
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    return content.text


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("era", ERAS)
async def test_the_sdk_uses_every_tool(transport: str, era: str) -> None:
    async with running_broker(CONFIG) as broker:
        async with client(broker, transport, era) as mcp:
            listed = await mcp.list_tools()
            assert [tool.name for tool in listed.tools] == [
                "chat", "ask", "list_models", "usage", "why", "submit", "poll",
            ]  # fmt: skip
            assert "hello" in await call(mcp, "chat", prompt="hello")
            assert "hello" in await call(mcp, "ask", prompt="hello", model="quick")
            models = json.loads(await call(mcp, "list_models"))
            assert models["models"] == [{"model": "quick", "provider": "made-up"}]
            usage = json.loads(await call(mcp, "usage"))
            assert usage["usage"][0]["calls_hour"] == 2
            assert usage["limits"][0]["provider"] == "made-up"
            assert await call(mcp, "why") == "No question of yours waits or runs."
            submitted = json.loads(await call(mcp, "submit", prompt="hello again"))
            assert "hello again" in await call(mcp, "poll", id=submitted["id"])
            wrong = await mcp.call_tool("ask", {"prompt": "hello", "model": "nope"})
            assert wrong.is_error
        assert (await broker.settled()).in_flight == 0


@asynccontextmanager
async def scarce_broker(
    upstream: ScriptedUpstream, transport: str, era: str
) -> AsyncIterator[Client]:
    """A client of a broker with one permit for a service that does not answer."""
    config = CONFIG | {"provider": [provider_at(upstream.base_url)]}
    async with running_broker(config) as broker, client(broker, transport, era) as mcp:
        yield mcp


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("era", ERAS)
async def test_the_sdk_gets_progress_and_a_cancelled_call_frees_its_permit(
    transport: str, era: str
) -> None:
    waits = asyncio.Event()

    async def report(progress: float, total: float | None, message: str | None) -> None:
        if "waiting at position 1" in (message or ""):
            waits.set()

    async with (
        ScriptedUpstream(default=lambda _: hang()) as upstream,
        scarce_broker(upstream, transport, era) as mcp,
    ):
        first = asyncio.create_task(call(mcp, "chat", prompt="one"))
        await upstream.wait_for_started(1)
        arguments = {"prompt": "two"}
        second = asyncio.create_task(mcp.call_tool("chat", arguments, progress_callback=report))
        await waits.wait()
        first.cancel()
        await upstream.wait_for_started(2)
        second.cancel()
        await upstream.wait_for_disconnect(2)
        await asyncio.gather(first, second, return_exceptions=True)


@asynccontextmanager
async def fixtures() -> AsyncIterator[str]:
    """The program that MCP's conformance suite judges, which serves more than tools."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        FIXTURES,
        stdin=PIPE,
        stdout=PIPE,
        env=clean_environment(PYTHONPATH=str(ROOT)),
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().removeprefix("ready ").strip()
    finally:
        await process.communicate(b"")


async def test_other_methods_and_requests_to_the_client_pass_through_the_server() -> None:
    async def sampled(context: Any, params: CreateMessageRequestParams) -> CreateMessageResult:
        return CreateMessageResult(
            role="assistant", content=TextContent(type="text", text="Paris."), model="mine"
        )

    async with fixtures() as url:
        for era in ERAS:
            async with Client(url, mode=era, sampling_callback=sampled) as mcp:
                assert len((await mcp.list_resources()).resources) == 3
                assert len((await mcp.list_prompts()).prompts) == 5
                tool = {
                    "legacy": "test_sampling",
                    "auto": "test_input_required_result_sampling",
                }[era]
                assert await call(mcp, tool, prompt="What is the capital of France?")


def test_the_bridge_imports_no_sdk() -> None:
    program = (
        "import sys, exai_actors.daemon.mcp_bridge.process, websockets.asyncio.client\n"
        "print([each for each in ('mcp', 'anyio', 'pydantic', 'aiohttp', 'uvloop')"
        " if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
