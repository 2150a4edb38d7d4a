"""llmock judges the broker on all families, behind the SDKs of OpenAI and Anthropic.

The SDKs repeat what their makers let them repeat, and their user asks again when a stream breaks.
The verdict must be empty, even of warnings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.real.conftest import StartBroker
from tests.real.llmock import (
    FIRST_BACKOFF_S,
    LONG_REPLY,
    MIXED_FAULTS,
    PATIENCE,
    STREAM_FAULTS,
    Llmock,
)

MODEL = "gpt-4o"
PERMANENT = (400, 401, 403, 404, 422)
Say = Callable[..., Awaitable[str]]
FAMILIES = "chat", "messages", "responses"


@pytest.fixture(scope="module")
def broker(llmock_server: str, start_broker: StartBroker) -> str:
    """The address of a broker before all families of llmock."""
    url = start_broker(
        f'[[provider]]\nname = "mock"\nkind = "openai"\nbase_url = "{llmock_server}/v1"\n'
        f'messages_base_url = "{llmock_server}/anthropic"\nlimit = 4\nmodels = ["{MODEL}"]\n'
        f"circuit_failures = 100\nfamilies = {json.dumps(FAMILIES)}\n"
    )
    return url.replace("ws://", "http://")


@asynccontextmanager
async def asking(broker: str, family: str) -> AsyncIterator[Say]:
    """Ask by the SDK of the family; its exceptions pass."""
    if family == "messages":
        async with anthropic.AsyncAnthropic(base_url=broker, api_key="any") as claude:
            yield lambda prompt, **more: _say(claude, prompt, **more)
    else:
        async with openai.AsyncOpenAI(base_url=f"{broker}/v1", api_key="any") as gpt:
            yield lambda prompt, **more: (_chat if family == "chat" else _respond)(
                gpt, prompt, **more
            )


async def _chat(sdk: openai.AsyncOpenAI, prompt: str, *, stream: bool) -> str:
    messages: Any = [{"role": "user", "content": prompt}]
    if not stream:
        whole = await sdk.chat.completions.create(model=MODEL, messages=messages)
        return whole.choices[0].message.content or ""
    chunks = await sdk.chat.completions.create(model=MODEL, messages=messages, stream=True)
    return "".join([each.choices[0].delta.content or "" async for each in chunks if each.choices])


async def _respond(sdk: openai.AsyncOpenAI, prompt: str, *, stream: bool) -> str:
    if not stream:
        return (await sdk.responses.create(model=MODEL, input=prompt)).output_text
    events = await sdk.responses.create(model=MODEL, input=prompt, stream=True)
    pieces = [each.delta async for each in events if each.type == "response.output_text.delta"]
    return "".join(pieces)


async def _say(sdk: anthropic.AsyncAnthropic, prompt: str, *, stream: bool) -> str:
    asked: Any = {"model": MODEL, "max_tokens": 500}
    asked["messages"] = [{"role": "user", "content": prompt}]
    if not stream:
        return "".join(getattr(b, "text", "") for b in (await sdk.messages.create(**asked)).content)
    async with sdk.messages.stream(**asked) as events:
        return "".join([text async for text in events.text_stream])


async def until_answered(say: Say, prompt: str) -> str:
    """Ask again, with growing pauses, until a stream is whole."""
    for attempt in range(PATIENCE):
        try:
            return await say(prompt, stream=True)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            if error.status_code in PERMANENT:
                raise
        # The SDKs let those of their HTTP client and of JSON pass in the middle of a stream.
        except (openai.OpenAIError, anthropic.AnthropicError, httpx2.HTTPError, ValueError):
            pass
        await asyncio.sleep(FIRST_BACKOFF_S * 2**attempt)
    raise AssertionError("no answer")


async def of_all(broker: str, ask: Callable[[Say], Awaitable[Any]]) -> list[Any]:
    """The results of the same question to all families at the same time."""

    async def of(family: str) -> Any:
        async with asking(broker, family) as say:
            return await ask(say)

    return await asyncio.gather(*map(of, FAMILIES))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_answers_without_faults_pass(broker: str, llmock: Llmock, stream: bool) -> None:
    text = "one two three four five"
    await llmock.will({"type": "reply", "text": text, "times": 3})
    assert await of_all(broker, lambda say: say("no faults", stream=stream)) == [text] * 3
    assert await llmock.statuses() == [200] * 3
    assert await llmock.findings() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_retry_after_is_waited_for(broker: str, llmock: Llmock, stream: bool) -> None:
    await llmock.will({"type": "fail", "status": 429, "retry_after": 1, "times": 3})
    assert all(await of_all(broker, lambda say: say("rate limited", stream=stream)))
    assert sorted(await llmock.statuses()) == [200] * 3 + [429] * 3
    assert await llmock.findings() == []


@pytest.mark.parametrize("status", PERMANENT)
async def test_permanent_failures_are_not_retried(broker: str, llmock: Llmock, status: int) -> None:
    await llmock.will({"type": "fail", "status": status, "times": 6})

    async def refused(say: Say) -> None:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError), match=f"{status}"):
            await say(f"hopeless {status}", stream=True)

    await of_all(broker, refused)
    assert await llmock.statuses() == [status] * 3
    assert await llmock.findings() == []


@pytest.mark.parametrize("fault", STREAM_FAULTS)
async def test_broken_streams_are_no_answers(broker: str, llmock: Llmock, fault: str) -> None:
    await llmock.will(
        {"type": "stream_fault", **STREAM_FAULTS[fault], "times": 3},
        {"type": "reply", "text": LONG_REPLY, "times": PATIENCE},
    )
    assert await of_all(broker, lambda say: until_answered(say, fault)) == [LONG_REPLY] * 3
    assert len(await llmock.statuses()) == 6
    assert await llmock.findings() == []


async def test_the_strict_report_passes_after_mixed_faults_of_all_families(
    broker: str,
    llmock: Llmock,
    llmock_command: list[str | Path],
    llmock_environment: dict[str, str],
) -> None:
    await llmock.will(*MIXED_FAULTS, {"type": "reply", "text": LONG_REPLY, "times": None})

    async def one_user(family: str, number: int) -> str:
        async with asking(broker, family) as say:
            return await until_answered(say, f"{family} of user {number}")

    users = [(family, each) for each in range(4) for family in FAMILIES]
    answers = await asyncio.gather(*(one_user(*user) for user in users))
    assert set(answers) == {LONG_REPLY}
    await llmock.report_strictly(llmock_command, llmock_environment)
