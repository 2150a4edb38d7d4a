"""A real model behind the broker's HTTP APIs: the broker's answer is that of the server itself."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.real.conftest import Model, StartBroker

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
TIMEOUT = aiohttp.ClientTimeout(total=60)
# The same tokens for the same request.
SURE = {"temperature": 0, "seed": 1}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 8, **SURE},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 8, **SURE},
    "/v1/responses": {"input": "What is the capital of France?", "max_output_tokens": 8, **SURE},
}


@pytest.fixture(scope="module")
def broker(llama_server: Model, start_broker: StartBroker) -> str:
    """The address of a broker in front of the model."""
    url = start_broker(
        f"""
        [[provider]]
        name = "llama"
        kind = "openai"
        base_url = "{llama_server.url}/v1"
        families = ["chat", "messages", "responses"]
        count_tokens = "relay"
        models = ["{llama_server.name}"]
        limit = 2
        """
    )
    return url.replace("ws://", "http://")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", REQUESTS)
async def test_the_answer_is_that_of_the_model(
    llama_server: Model, broker: str, path: str, stream: bool
) -> None:
    content = {"model": llama_server.name, **REQUESTS[path]}
    if stream:
        content["stream"] = True
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        direct = await _ask(http, f"{llama_server.url}{path}", content)
        through = await _ask(http, f"{broker}{path}", content)
    assert through[:2] == direct[:2]
    assert _kinds(through[2]) == _kinds(direct[2])


async def test_the_model_counts_tokens(llama_server: Model, broker: str) -> None:
    content = {"model": llama_server.name, "messages": MESSAGES}
    path = "/v1/messages/count_tokens"
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        direct = await _ask(http, f"{llama_server.url}{path}", content)
        assert await _ask(http, f"{broker}{path}", content) == direct


async def test_a_request_that_the_model_refuses_comes_back_as_it_is(
    llama_server: Model, broker: str
) -> None:
    content = {"model": llama_server.name, "messages": "odd"}
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        direct = await _ask(http, f"{llama_server.url}/v1/chat/completions", content)
        through = await _ask(http, f"{broker}/v1/chat/completions", content)
    assert direct[0] >= 400
    assert through == direct


async def _ask(
    http: aiohttp.ClientSession, url: str, content: dict[str, Any]
) -> tuple[int, str, bytes]:
    async with http.post(url, json=content) as response:
        return response.status, response.content_type, await response.read()


def _kinds(body: bytes) -> list[bytes]:
    """The lines of a body without values that differ from request to request."""
    return [line.partition(b"{")[0] for line in body.splitlines()]
