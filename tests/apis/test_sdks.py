"""The SDKs of OpenAI and Anthropic, unchanged, through the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import orjson
import pytest

from exai_actors.testing.scripted_replies import CUT, Gate, Reply, answer, body, failure, hang_up
from tests.apis.http_client import EVENT_STREAM, MODEL, Setting, event, piece, serving
from tests.apis.sample_answers import MESSAGE, MESSAGE_EVENTS, RESPONSE, VECTORS, whole

BROKEN_OFF = r"(?i)closed|incomplete|peer|connection"
ASKED: list[Any] = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def openai_sdk(
    *replies: Reply, retries: int = 2, http: dict[str, Any] | None = None, **provider: Any
) -> AsyncIterator[tuple[openai.AsyncOpenAI, Setting]]:
    async with serving(*replies, http=http, attempts=1, **provider) as setting:
        base_url = f"http://127.0.0.1:{setting.broker.port}/v1"
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key="any", max_retries=retries
        ) as client:
            yield client, setting


@asynccontextmanager
async def anthropic_sdk(
    *replies: Reply, retries: int = 2, http: dict[str, Any] | None = None, **provider: Any
) -> AsyncIterator[tuple[anthropic.AsyncAnthropic, Setting]]:
    async with serving(*replies, http=http, attempts=1, **provider) as setting:
        base_url = f"http://127.0.0.1:{setting.broker.port}"
        async with anthropic.AsyncAnthropic(
            base_url=base_url, api_key="any", max_retries=retries
        ) as client:
            yield client, setting


async def test_openai_chats() -> None:
    async with openai_sdk(answer("hel", "lo"), answer("hello")) as (client, setting):
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(texts) == "hello"
        got = await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert got.choices[0].message.content == "hello"
        assert (got._request_id or "").startswith("req_")
        await setting.settled()


async def test_openai_responses_embeddings_and_models() -> None:
    streamed = body(
        event({"type": "response.created", "sequence_number": 0, "response": RESPONSE}),
        event({"type": "response.completed", "sequence_number": 1, "response": RESPONSE}),
        content_type=EVENT_STREAM,
    )
    replies = whole(RESPONSE), streamed, whole(VECTORS)
    async with openai_sdk(*replies) as (client, _):
        assert (await client.responses.create(model=MODEL, input="hi")).output_text == "hello"
        stream = await client.responses.create(model=MODEL, input="hi", stream=True)
        assert [each.type async for each in stream][-1] == "response.completed"
        vectors = await client.embeddings.create(model=MODEL, input="hi", encoding_format="float")
        assert vectors.data[0].embedding == [0.5, 1.5]
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")


async def test_anthropic_messages_counts_and_models() -> None:
    streamed = body(*MESSAGE_EVENTS, content_type=EVENT_STREAM)
    async with anthropic_sdk(whole(MESSAGE), streamed) as (client, setting):
        got = await client.messages.create(model=MODEL, max_tokens=9, messages=ASKED)
        assert got.content[0].type == "text"
        assert (got._request_id or "").startswith("req_")
        async with client.messages.stream(model=MODEL, max_tokens=9, messages=ASKED) as stream:
            assert "".join([text async for text in stream.text_stream]) == "hello"
            assert (await stream.get_final_message()).usage.output_tokens == 9
        counted = await client.messages.count_tokens(model=MODEL, messages=ASKED)
        assert counted.input_tokens > 0
        assert [model.id async for model in client.models.list()] == [MODEL]
        model = await client.models.retrieve(MODEL)
        assert (model.display_name, model.lifecycle) == (MODEL, "active")
        assert setting.service.started == 2


@pytest.mark.parametrize("steps", [(piece("he"), CUT), (piece("he"),)])
async def test_half_a_stream_raises(steps: tuple[Any, ...]) -> None:
    async with openai_sdk(body(*steps, content_type=EVENT_STREAM)) as (client, setting):
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        with pytest.raises(Exception, match=BROKEN_OFF):
            async for _ in stream:
                pass
        assert setting.service.started == 1


async def test_half_a_stream_of_messages_raises() -> None:
    half = body(*MESSAGE_EVENTS[:3], content_type=EVENT_STREAM)
    async with anthropic_sdk(half) as (client, setting):
        raw = await client.messages.create(model=MODEL, max_tokens=9, messages=ASKED, stream=True)
        with pytest.raises(Exception, match=BROKEN_OFF):
            async for _ in raw:
                pass
        assert setting.service.started == 1


async def test_a_call_that_may_have_run_is_not_repeated() -> None:
    async with openai_sdk(hang_up()) as (client, setting):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert setting.service.started == 1
    async with anthropic_sdk(hang_up()) as (anthropics, setting):
        with pytest.raises(anthropic.InternalServerError):
            await anthropics.messages.create(model=MODEL, max_tokens=9, messages=ASKED)
        assert setting.service.started == 1


async def test_a_used_up_quota_is_not_asked_again() -> None:
    used_up = failure(429, "You exceeded your current quota", code="insufficient_quota")
    async with openai_sdk(used_up) as (client, setting):
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert setting.service.started == 1


async def test_a_model_that_is_not_there_names_those_that_are() -> None:
    async with openai_sdk() as (client, _):
        with pytest.raises(openai.NotFoundError, match=MODEL):
            await client.chat.completions.create(model="other", messages=ASKED)
    async with anthropic_sdk() as (anthropics, _):
        with pytest.raises(anthropic.NotFoundError, match=MODEL):
            await anthropics.messages.create(model="other", max_tokens=9, messages=ASKED)


async def test_a_wait_with_signs_of_life_is_read_over() -> None:
    gate = Gate()
    held = answer("hello", before=[gate])
    streamed = body(*MESSAGE_EVENTS, content_type=EVENT_STREAM, headers={})
    http = {"commit_after_s": 0, "keepalive_s": 1}
    async with openai_sdk(held, http=http) as (client, _):
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        gate.open()
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(texts) == "hello"
    async with (
        anthropic_sdk(streamed, http=http) as (anthropics, _),
        anthropics.messages.stream(model=MODEL, max_tokens=9, messages=ASKED) as got,
    ):
        assert "".join([text async for text in got.text_stream]) == "hello"


# Each of these tests has the head, and with it an empty line, before the service answers.
PADDED = {"commit_after_s": 0, "keepalive_s": 1, "pad_json": True}


def held(gate: Gate, content: dict[str, Any]) -> Reply:
    return body(orjson.dumps(content), before=[gate])


async def test_openai_reads_over_the_empty_lines_before_a_whole_answer() -> None:
    gates = [Gate() for _ in range(3)]
    replies = (
        answer("hello", before=[gates[0]]),
        held(gates[1], RESPONSE),
        held(gates[2], VECTORS),
    )
    async with openai_sdk(*replies, http=PADDED) as (client, setting):
        chats, responses = client.chat.completions, client.responses.with_streaming_response
        async with chats.with_streaming_response.create(model=MODEL, messages=ASKED) as early:
            gates[0].open()
            assert (await early.parse()).choices[0].message.content == "hello"
            assert early.headers["x-request-id"].startswith("req_")
        async with responses.create(model=MODEL, input="hi") as early:
            gates[1].open()
            assert (await early.parse()).output_text == "hello"
        async with client.embeddings.with_streaming_response.create(
            model=MODEL, input="hi", encoding_format="float"
        ) as early:
            gates[2].open()
            assert (await early.parse()).data[0].embedding == [0.5, 1.5]
        await setting.settled()


async def test_anthropic_reads_over_the_empty_lines_before_a_whole_answer() -> None:
    gate = Gate()
    async with (
        anthropic_sdk(held(gate, MESSAGE), http=PADDED) as (client, _),
        client.messages.with_streaming_response.create(
            model=MODEL, max_tokens=9, messages=ASKED
        ) as early,
    ):
        gate.open()
        message = await early.parse()
        assert message.content[0].type == "text"


async def test_a_failure_behind_empty_lines_is_no_answer() -> None:
    gate = Gate()
    refusal = failure(400, "no such thing", before=[gate])
    async with openai_sdk(refusal, http=PADDED) as (client, _):
        asked = client.chat.completions.with_streaming_response
        async with asked.create(model=MODEL, messages=ASKED) as early:
            gate.open()
            with pytest.raises(Exception, match=BROKEN_OFF):
                await early.parse()
    gate = Gate()
    refusal = failure(400, "no such thing", before=[gate])
    async with anthropic_sdk(refusal, http=PADDED) as (anthropics, _):
        asked_too = anthropics.messages.with_streaming_response
        async with asked_too.create(model=MODEL, max_tokens=9, messages=ASKED) as early_too:
            gate.open()
            with pytest.raises(Exception, match=BROKEN_OFF):
                await early_too.parse()


async def test_an_error_after_the_beginning_raises() -> None:
    gate = Gate()
    http = {"commit_after_s": 0}
    refusal = failure(400, "no such thing", before=[gate])
    async with openai_sdk(refusal, http=http) as (client, _):
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        gate.open()
        with pytest.raises(openai.APIError, match="no such thing"):
            async for _ in stream:
                pass
    gate = Gate()
    refusal = failure(400, "no such thing", before=[gate])
    async with anthropic_sdk(refusal, http=http) as (anthropics, _):
        raw = await anthropics.messages.create(
            model=MODEL, max_tokens=9, messages=ASKED, stream=True
        )
        gate.open()
        with pytest.raises(anthropic.APIStatusError, match="no such thing"):
            async for _ in raw:
                pass
