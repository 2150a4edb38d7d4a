"""The Node SDKs of OpenAI and Anthropic, unchanged, through the broker.

``tests/apis/test_sdks.py`` has the same SDKs for Python.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exai_actors.testing.scripted_replies import CUT, Gate, Reply, answer, body, failure, hang_up
from tests.apis.http_client import EVENT_STREAM, MODEL, Setting, event, piece, serving
from tests.apis.sample_answers import MESSAGE, MESSAGE_EVENTS, RESPONSE, VECTORS, whole
from tests.real import processes
from tests.real.conftest import PROGRAMS, TOKEN, need
from tests.real.node_sdks import NodeSdks, Sdk, node_sdks
from tools import real_parts

ASKED = [{"role": "user", "content": "What is the weather in Rome?"}]
CHAT = "chat.completions.create", {"model": MODEL, "messages": ASKED}
CHAT_STREAM = CHAT[0], {**CHAT[1], "stream": True}
SAY = "messages.create", {"model": MODEL, "max_tokens": 9, "messages": ASKED}
SAY_STREAM = SAY[0], {**SAY[1], "stream": True}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ROME = '{"city":"Rome"}'

WHOLE: dict[Sdk, tuple[str, dict[str, Any]]] = {"openai": CHAT, "anthropic": SAY}
STREAMED: dict[Sdk, tuple[str, dict[str, Any]]] = {
    "openai": CHAT_STREAM,
    "anthropic": SAY_STREAM,
}
both = pytest.mark.parametrize("sdk", WHOLE)

Serve = Callable[..., AbstractAsyncContextManager[tuple[NodeSdks, Setting]]]


@pytest.fixture(scope="module")
def node_port(node: Path, logs: Path) -> Iterator[int]:
    """The port of the process that has the SDKs."""
    command = [node, PROGRAMS / "node_sdks.mjs", need(real_parts.NODE_SDKS).folder]
    env = {**processes.environment(), "NO_COLOR": "1"}
    with processes.running(
        command, ready=r"^ready (\d+)$", log=logs / "node-sdks.log", env=env
    ) as port:
        yield int(port)


@pytest.fixture
def serve(node_port: int) -> Serve:
    """Start a broker with a scripted service, and clients of it that repeat a call twice."""

    @asynccontextmanager
    async def start(
        *replies: Reply, api_key: str = "any", **tables: Any
    ) -> AsyncIterator[tuple[NodeSdks, Setting]]:
        async with (
            serving(*replies, attempts=1, **tables) as setting,
            node_sdks(node_port, setting.broker.port, api_key=api_key) as sdks,
        ):
            yield sdks, setting

    return start


def stream_of(sdk: Sdk) -> tuple[bytes, ...]:
    """The events of a whole answer."""
    if sdk == "anthropic":
        return MESSAGE_EVENTS
    return piece("hel"), piece("lo"), piece("", "stop"), b"data: [DONE]\n\n"


async def test_chats(serve: Serve) -> None:
    async with serve(answer("hel", "lo"), answer("hello")) as (sdks, setting):
        streamed = await sdks.call("openai", *CHAT_STREAM)
        texts = [each["choices"][0]["delta"].get("content", "") for each in streamed.events]
        assert "".join(texts) == "hello"
        got = await sdks.call("openai", *CHAT)
        assert got.value["choices"][0]["message"]["content"] == "hello"
        assert (got.request_id or "").startswith("req_")
        assert setting.service.requests[1].body == CHAT[1]
        await setting.settled()


async def test_responses_embeddings_and_models(serve: Serve) -> None:
    streamed = body(
        event({"type": "response.created", "sequence_number": 0, "response": RESPONSE}),
        event({"type": "response.completed", "sequence_number": 1, "response": RESPONSE}),
        content_type=EVENT_STREAM,
    )
    asked = {"model": MODEL, "input": "hi"}
    async with serve(whole(RESPONSE), streamed, whole(VECTORS)) as (sdks, _):
        got = await sdks.call("openai", "responses.create", asked)
        assert got.value["output_text"] == "hello"
        stream = await sdks.call("openai", "responses.create", {**asked, "stream": True})
        assert stream.events[-1]["type"] == "response.completed"
        vectors = await sdks.call(
            "openai", "embeddings.create", {**asked, "encoding_format": "float"}
        )
        assert vectors.value["data"][0]["embedding"] == [0.5, 1.5]
        listed = await sdks.call("openai", "models.list")
        assert [model["id"] for model in listed.events] == [MODEL]
        assert (await sdks.call("openai", "models.retrieve", MODEL)).value["id"] == MODEL
        missing = await sdks.start("openai", "models.retrieve", "other").failed()
        assert missing.name == "NotFoundError"


async def test_messages_counts_and_models(serve: Serve) -> None:
    streamed = body(*MESSAGE_EVENTS, content_type=EVENT_STREAM)
    async with serve(whole(MESSAGE), streamed) as (sdks, setting):
        got = await sdks.call("anthropic", *SAY)
        assert got.value["content"][0]["text"] == "hello"
        assert (got.request_id or "").startswith("req_")
        stream = await sdks.call("anthropic", "messages.stream", SAY[1], result="finalMessage")
        assert stream.events[-1]["type"] == "message_stop"
        assert stream.value["content"][0]["text"] == "hello"
        assert stream.value["usage"]["output_tokens"] == 9
        counting = {"model": MODEL, "messages": ASKED}
        counted = await sdks.call("anthropic", "messages.countTokens", counting)
        assert counted.value["input_tokens"] > 0
        listed = await sdks.call("anthropic", "models.list")
        assert [model["id"] for model in listed.events] == [MODEL]
        model = await sdks.call("anthropic", "models.retrieve", MODEL)
        assert model.value["display_name"] == MODEL
        assert setting.service.started == 2


async def test_tools_of_chats(serve: Serve) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
    asked = {"model": MODEL, "messages": ASKED, "tools": [tool]}

    parts: list[dict[str, Any]] = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"function": {"arguments": ROME[:5]}},
        {"function": {"arguments": ROME[5:]}},
    ]
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"tool_calls": [{"index": 0, **part}]} for part in parts]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in deltas
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    base: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1}
    events = [event({**base, "model": MODEL, "choices": [choice]}) for choice in choices]
    async with serve(body(*events, b"data: [DONE]\n\n", content_type=EVENT_STREAM)) as (
        sdks,
        setting,
    ):
        got = await sdks.call(
            "openai", "chat.completions.stream", asked, result="finalChatCompletion"
        )
        (choice,) = got.value["choices"]
        (called,) = choice["message"]["tool_calls"]
        assert choice["finish_reason"] == "tool_calls"
        assert (called["id"], called["function"]["name"]) == ("call_1", "weather")
        assert called["function"]["arguments"] == ROME
        assert setting.service.requests[0].body["tools"] == [tool]
        returned = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
        following = [*ASKED, choice["message"], returned]
        setting.service.then(answer("It is sunny."))
        last = await sdks.call("openai", CHAT[0], {**asked, "messages": following})
        assert last.value["choices"][0]["message"]["content"] == "It is sunny."
        assert setting.service.requests[1].body["messages"][-1] == returned


async def test_tools_of_messages(serve: Serve) -> None:
    tool = {"name": "weather", "input_schema": CITY}
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in (ROME[:5], ROME[5:])]
    events = [
        MESSAGE_EVENTS[0],
        event({"type": "content_block_start", "index": 0, "content_block": use}),
        *(event({"type": "content_block_delta", "index": 0, "delta": each}) for each in deltas),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 9}}),
        MESSAGE_EVENTS[-1],
    ]
    async with serve(body(*events, content_type=EVENT_STREAM)) as (sdks, setting):
        asked = {**SAY[1], "tools": [tool]}
        got = await sdks.call("anthropic", "messages.stream", asked, result="finalMessage")
        assert got.value["stop_reason"] == "tool_use"
        assert got.value["content"] == [{**use, "input": {"city": "Rome"}}]
        assert setting.service.requests[0].body["tools"] == [tool]


@both
async def test_half_a_stream_throws(serve: Serve, sdk: Sdk) -> None:
    for end in ((CUT,), ()):
        half = body(*stream_of(sdk)[:2], *end, content_type=EVENT_STREAM)
        async with serve(half) as (sdks, setting):
            call = sdks.start(sdk, *STREAMED[sdk])
            assert "terminated" in (await call.failed()).message
            assert len(call.events) == 2
            assert setting.service.started == 1


@both
async def test_a_call_that_may_have_run_is_not_repeated(serve: Serve, sdk: Sdk) -> None:
    async with serve(hang_up()) as (sdks, setting):
        error = await sdks.start(sdk, *WHOLE[sdk]).failed()
        assert (error.name, error.status) == ("InternalServerError", 502)
        assert setting.service.started == 1


@both
async def test_a_used_up_quota_is_not_asked_again(serve: Serve, sdk: Sdk) -> None:
    used_up = failure(429, "You exceeded your current quota", code="insufficient_quota")
    async with serve(used_up) as (sdks, setting):
        error = await sdks.start(sdk, *WHOLE[sdk]).failed()
        assert (error.name, error.status) == ("RateLimitError", 429)
        assert "exceeded your current quota" in error.message
        assert setting.service.started == 1


@both
async def test_a_failure_that_passes_is_repeated_by_the_sdk(serve: Serve, sdk: Sdk) -> None:
    soon = {"retry-after-ms": "1"}
    answered = answer("hello") if sdk == "openai" else whole(MESSAGE)
    async with serve(failure(503, headers=soon), answered) as (sdks, setting):
        assert (await sdks.call(sdk, *WHOLE[sdk])).value
        first, second = setting.service.requests
        assert first.raw == second.raw
        counts = [
            value
            for seen in (first, second)
            for name, value in seen.headers.items()
            if name.lower() == "x-stainless-retry-count"
        ]
        assert counts == ["0", "1"]


@both
async def test_a_model_that_is_not_there_names_those_that_are(serve: Serve, sdk: Sdk) -> None:
    method, asked = WHOLE[sdk]
    async with serve() as (sdks, setting):
        error = await sdks.start(sdk, method, {**asked, "model": "other"}).failed()
        assert (error.name, error.status) == ("NotFoundError", 404)
        assert MODEL in error.message
        assert setting.service.started == 0


@both
async def test_the_token_is_the_api_key(serve: Serve, sdk: Sdk) -> None:
    answered = answer("hello") if sdk == "openai" else whole(MESSAGE)
    async with serve(answered, api_key=TOKEN, server={"token": TOKEN}) as (sdks, setting):
        assert (await sdks.call(sdk, *WHOLE[sdk])).value
        assert TOKEN not in str(setting.service.requests[0].headers)
        sdks.clients[sdk]["apiKey"] = "another"
        error = await sdks.start(sdk, *WHOLE[sdk]).failed()
        assert (error.name, error.status) == ("AuthenticationError", 401)
        assert setting.service.started == 1


@both
async def test_a_refusal_of_the_service_is_the_clients_to_read(serve: Serve, sdk: Sdk) -> None:
    async with serve(failure(400, "too many images")) as (sdks, setting):
        error = await sdks.start(sdk, *WHOLE[sdk]).failed()
        assert (error.name, error.status) == ("BadRequestError", 400)
        assert "too many images" in error.message
        assert (error.request_id or "").startswith("req_")
        assert setting.service.started == 1


@both
async def test_an_aborted_stream_is_aborted_at_the_service(serve: Serve, sdk: Sdk) -> None:
    first, *rest = stream_of(sdk)
    held = body(first, Gate(), *rest, content_type=EVENT_STREAM)
    async with serve(held) as (sdks, setting):
        call = sdks.start(sdk, *STREAMED[sdk])
        await call.until_events(1)
        sdks.abort(call)
        await setting.service.wait_for_disconnect()
        await call.outcome()
        await setting.settled()


@both
@pytest.mark.parametrize("kind", ["whole", "streamed"])
async def test_a_call_aborted_in_the_queue_never_reaches_the_service(
    serve: Serve, sdk: Sdk, kind: str
) -> None:
    gate = Gate()
    async with serve(body(b"{}", before=[gate])) as (sdks, setting):
        running = await setting.client.post("/v1/messages", SAY[1])
        await gate.reached()
        call = sdks.start(sdk, *(WHOLE if kind == "whole" else STREAMED)[sdk])
        await setting.until_queued(1)
        sdks.abort(call)
        assert (await call.failed()).name == "APIUserAbortError"
        await setting.until_queued(0)
        gate.open()
        await running.whole()
        await setting.settled()
        assert setting.service.started == 1


@both
async def test_signs_of_life_are_read_over(serve: Serve, sdk: Sdk) -> None:
    gate = Gate()
    answered = body(*stream_of(sdk), content_type=EVENT_STREAM)
    held = body(*stream_of(sdk), content_type=EVENT_STREAM, before=[gate])
    path = "/v1/messages" if sdk == "anthropic" else "/v1/chat/completions"
    async with serve(held, answered, http={"commit_after_s": 0}) as (sdks, setting):
        before = await (await setting.client.post(path, STREAMED[sdk][1])).head()
        call = sdks.start(sdk, *STREAMED[sdk])
        await setting.until_queued(1)
        # Both have got their first sign by now, since it comes with the head.
        assert b"ping" in await before.piece() or before.body.startswith(b": exai")
        assert call.events == []
        gate.open()
        assert (await before.whole()).is_clean is True
        await call.succeeded()
        assert len(call.events) >= 3


@both
async def test_empty_lines_before_a_whole_answer_are_read_over(serve: Serve, sdk: Sdk) -> None:
    gate = Gate()
    answered = whole(MESSAGE) if sdk == "anthropic" else answer("hello")
    held = replace(answered, before=(gate,))
    path = "/v1/messages" if sdk == "anthropic" else "/v1/chat/completions"
    padded = {"commit_after_s": 0, "pad_json": True}
    async with serve(held, answered, http=padded) as (sdks, setting):
        before = await (await setting.client.post(path, WHOLE[sdk][1])).head()
        call = sdks.start(sdk, *WHOLE[sdk])
        await setting.until_queued(1)
        # Both have got their first empty line by now, since it comes with the head.
        assert await before.piece() == b"\n"
        gate.open()
        assert (await before.whole()).is_clean is True
        assert "hello" in str(await call.succeeded())


@both
async def test_an_error_after_the_beginning_throws(serve: Serve, sdk: Sdk) -> None:
    gate = Gate()
    refusal = failure(400, "no such thing", before=[gate])
    async with serve(refusal, http={"commit_after_s": 0}) as (sdks, setting):
        call = sdks.start(sdk, *STREAMED[sdk])
        await gate.reached()
        gate.open()
        error = await call.failed()
        assert error.name.endswith("APIError") or error.status is None
        assert "no such thing" in error.message
        assert setting.service.started == 1


async def test_calls_at_once_take_their_turns(serve: Serve) -> None:
    async with serve() as (sdks, setting):
        setting.service.default = lambda seen: (
            answer("hello") if "completions" in seen.path else whole(MESSAGE)
        )
        calls = [sdks.start(sdk, *WHOLE[sdk]) for sdk in WHOLE for _ in range(4)]
        for call in calls:
            await call.succeeded()
        assert (setting.service.started, setting.service.max_in_flight) == (8, 1)
