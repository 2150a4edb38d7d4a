"""A real model on llama.cpp's server, observed by our client and by the server's metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.real.conftest import Model, StartBroker
from tests.real.frame_client import session
from tests.real.programs.llama_server import SLOTS

PROMPT = "What is the capital of France?"
# Half a minute of work for the model; if it is idle sooner, it was stopped.
MANY_TOKENS = 1800
QUIET_TIMEOUT_S = 10.0
# Each poll costs the model server time; an answer takes about 250 ms.
BETWEEN_LOOKS_S = 0.02


@dataclass(frozen=True)
class Load:
    """The metrics of llama.cpp: ``deferred`` requests wait because both slots are busy."""

    processing: int
    deferred: int
    predicted_tokens: int


class Llama:
    """Calls llama.cpp's server directly, without the broker."""

    def __init__(self, model: Model, http: aiohttp.ClientSession) -> None:
        self._model = model
        self._http = http

    async def load(self) -> Load:
        async with self._http.get(f"{self._model.url}/metrics") as response:
            text = await response.text()

        def metric(name: str) -> int:
            found = re.search(rf"^llamacpp:{name} (\S+)$", text, re.MULTILINE)
            assert found, f"no metric {name} in:\n{text}"
            return int(float(found.group(1)))

        return Load(
            metric("requests_processing"),
            metric("requests_deferred"),
            metric("tokens_predicted_total"),
        )

    async def until_quiet(self) -> Load:
        """Poll until no request runs there; TimeoutError if one does not end."""
        async with asyncio.timeout(QUIET_TIMEOUT_S):
            while True:
                load = await self.load()
                if load.processing == 0:
                    return load

    async def answer(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        body = {
            "model": self._model.name,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        url = f"{self._model.url}/v1/chat/completions"
        async with self._http.post(url, json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            assert isinstance(answer, dict)
            return answer

    async def highest_while(self, work: asyncio.Future[Any]) -> tuple[int, int]:
        """The maxima of processing and deferred requests, polled until ``work`` has ended."""
        processing = deferred = 0
        while not work.done():
            load = await self.load()
            processing = max(processing, load.processing)
            deferred = max(deferred, load.deferred)
            await asyncio.wait({work}, timeout=BETWEEN_LOOKS_S)
        await work
        return processing, deferred


@pytest.fixture
async def llama(llama_server: Model) -> AsyncIterator[Llama]:
    async with aiohttp.ClientSession() as http:
        llama = Llama(llama_server, http)
        await llama.until_quiet()
        yield llama


@pytest.fixture(scope="module")
def broker_with_limit(llama_server: Model, start_broker: StartBroker) -> dict[int, str]:
    """Brokers in front of the same model, by the limit of their provider."""

    def start(limit: int) -> str:
        return start_broker(
            f'[[provider]]\nname = "local"\nkind = "openai"\nlimit = {limit}\n'
            f'base_url = "{llama_server.url}/v1"\nmodels = ["{llama_server.name}"]\n'
        )

    return {limit: start(limit) for limit in (1, SLOTS)}


@pytest.fixture(scope="module")
def broker(broker_with_limit: dict[int, str]) -> str:
    return broker_with_limit[SLOTS]


async def test_a_real_answer_is_complete(broker: str, llama: Llama) -> None:
    before = await llama.load()
    async with session(broker) as client:
        answer = await client.chat(prompt=PROMPT, max_tokens=24)
    after = await llama.until_quiet()
    assert answer.text
    assert after.predicted_tokens - before.predicted_tokens == 24


async def test_a_streamed_answer_arrives_in_pieces(broker: str, llama: Llama) -> None:
    before = await llama.load()
    async with session(broker) as client:
        answer = await client.chat(prompt=PROMPT, max_tokens=24, stream=True)
    after = await llama.until_quiet()
    assert len(answer.pieces) > 10
    assert "".join(answer.pieces) == answer.text
    assert after.predicted_tokens - before.predicted_tokens == 24


async def test_a_cancelled_answer_stops_the_model(broker: str, llama: Llama) -> None:
    async with session(broker) as client:
        await client.submit("long", prompt=PROMPT, max_tokens=MANY_TOKENS, stream=True)
        await client.until(op="stream_chunk", request_id="long")
        assert (await llama.load()).processing == 1
        await client.send({"op": "cancel", "request_id": "long"})
        ended = await client.until(op="call_tool_res", request_id="long")
        assert ended["error"]["code"] == "CANCELLED"
        await llama.until_quiet()


async def test_a_disconnected_client_stops_the_model(broker: str, llama: Llama) -> None:
    async with session(broker) as client:
        await client.submit("long", prompt=PROMPT, max_tokens=MANY_TOKENS, stream=True)
        await client.until(op="stream_chunk", request_id="long")
    await llama.until_quiet()


async def test_a_call_cancelled_while_it_waits_never_reaches_the_model(
    broker_with_limit: dict[int, str], llama: Llama
) -> None:
    async with session(broker_with_limit[1]) as client:
        await client.submit("runs", prompt=PROMPT, max_tokens=MANY_TOKENS, stream=True)
        await client.until(op="stream_chunk", request_id="runs")
        await client.submit("waits", prompt=PROMPT, max_tokens=MANY_TOKENS)
        await client.until(op="progress", request_id="waits")
        await client.send({"op": "cancel", "request_id": "waits"})
        ended = await client.until(op="call_tool_res", request_id="waits")
        assert ended["error"]["code"] == "CANCELLED"
        load = await llama.load()
        assert (load.processing, load.deferred) == (1, 0)
    await llama.until_quiet()


@pytest.mark.parametrize("limit", [1, SLOTS])
async def test_the_limit_is_reached_and_nothing_waits_in_the_model_server(
    broker_with_limit: dict[int, str], llama: Llama, limit: int
) -> None:
    async def one_client(number: int) -> str:
        async with session(broker_with_limit[limit]) as client:
            return (await client.chat(prompt=f"Name {number} colours.", max_tokens=24)).text

    work = asyncio.gather(*(one_client(number) for number in range(2, 8)))
    processing, deferred = await llama.highest_while(work)
    assert all(work.result())
    assert (processing, deferred) == (limit, 0)


async def test_without_the_broker_the_same_load_waits_in_the_model_server(
    llama: Llama,
) -> None:
    work = asyncio.gather(
        # One more than there are slots: with many, the server's few threads all wait for answers
        # and none is left to serve the metrics.
        *(llama.answer(f"Name {number} colours.", max_tokens=96) for number in range(SLOTS + 1))
    )
    processing, deferred = await llama.highest_while(work)
    assert processing == SLOTS
    assert deferred > 0
