"""Messages, Responses and embeddings over HTTP, with the requests beside them."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import pytest

from exai_actors.edges.http import relayed_call
from exai_actors.testing.scripted_replies import CUT, Gate, Reply, body, failure, hang_up
from exai_actors.testing.upstream_log import SeenRequest
from tests.apis.http_client import EVENT_STREAM, MODEL, Setting, event, piece, serving

PATHS = {"messages": "/v1/messages", "responses": "/v1/responses", "embeddings": "/v1/embeddings"}
USAGE = {"input_tokens": 7, "output_tokens": 9}
START = event(
    {
        "type": "message_start",
        "message": {"model": "m", "usage": {"input_tokens": 0, "output_tokens": 1}},
    }
)
TEXT = event({"type": "content_block_delta", "delta": {"text": '"message_stop"'}})
DELTA = event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE})
STOP = event({"type": "message_stop"})
CREATED = event({"type": "response.created", "response": {"status": "in_progress"}})
COMPLETED = event(
    {"type": "response.completed", "response": {"status": "completed", "usage": USAGE}}
)
MESSAGE = orjson.dumps({"type": "message", "content": [], "stop_reason": "end", "usage": USAGE})
RESPONSE = orjson.dumps({"object": "response", "output": [], "usage": USAGE})
VECTORS = orjson.dumps({"object": "list", "data": [{}], "usage": {"prompt_tokens": 16}})
STREAMS = {"messages": (START, TEXT, DELTA, STOP), "responses": (CREATED, COMPLETED)}
WHOLE = {"messages": MESSAGE, "responses": RESPONSE, "embeddings": VECTORS}


def request(*, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "input": "x",
        "messages": [],
        **({"stream": True} if stream else {}),
        **more,
    }


def tokens(setting: Setting) -> tuple[int, int]:
    """The tokens that the broker has counted."""
    figures = setting.broker.broker._tree.request_board.figures
    tallies = figures.series.values()
    return sum(t.prompt_tokens for t in tallies), sum(t.completion_tokens for t in tallies)


@pytest.mark.parametrize("family", PATHS)
async def test_an_answer_in_one_piece(family: str) -> None:
    async with serving(body(WHOLE[family])) as setting:
        asked = await setting.client.post(f"{PATHS[family]}?beta=true", request(), x_api_key="any")
        got = await asked.whole()
        assert (got.status, got.body) == (200, WHOLE[family])
        assert setting.service.requests[0].path == f"{PATHS[family]}?beta=true"
        assert sum(tokens(setting)) == 16
        await setting.settled()


@pytest.mark.parametrize("family", STREAMS)
async def test_a_stream(family: str) -> None:
    events = STREAMS[family]
    async with serving(body(*events, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post(PATHS[family], request(stream=True))).whole()
        assert (got.body, got.is_clean) == (b"".join(events), True)
        assert tokens(setting) == (7, 9)
        name = "request-id" if family == "messages" else "x-request-id"
        assert got.fields[name].startswith("req_")
        await setting.settled()


@pytest.mark.parametrize("family", STREAMS)
async def test_a_stream_without_its_last_event_is_broken_off(family: str) -> None:
    *events, _ = STREAMS[family]
    async with serving(body(*events, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post(PATHS[family], request(stream=True))).whole()
        assert (got.body, got.is_clean) == (b"".join(events), False)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("family", STREAMS)
async def test_the_end_is_found_wherever_the_stream_is_cut(
    family: str, line_end: bytes, size: int
) -> None:
    sent = b"".join(STREAMS[family]).replace(b"\n", line_end)
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    async with serving(body(*pieces, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post(PATHS[family], request(stream=True))).whole()
        assert (got.body, got.is_clean) == (sent, True)
        assert tokens(setting) == (7, 9)


@pytest.mark.parametrize("family", STREAMS)
async def test_a_client_that_leaves_after_the_last_event_was_served(family: str) -> None:
    gate = Gate()
    reply = body(*STREAMS[family], gate, content_type=EVENT_STREAM)
    async with serving(reply) as setting:
        asked = await setting.client.post(PATHS[family], request(stream=True))
        await asked.head()
        while STREAMS[family][-1] not in asked.body:
            await asked.piece()
        asked.leave()
        gate.open()
        await setting.settled()
        (provider,) = setting.broker.statistics().providers
        assert (provider.completed, provider.aborted) == (1, 0)


@pytest.mark.parametrize("family", [*STREAMS, "chat"])
async def test_a_service_that_does_not_end_its_response_holds_no_permit(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed_call, "WHOLE_GRACE_S", 30)
    gate = Gate()
    stream = STREAMS.get(family) or [piece("", "stop"), b"data: [DONE]\n\n"]
    path = PATHS.get(family, "/v1/chat/completions")
    async with serving(body(*stream, gate, content_type=EVENT_STREAM)) as setting:
        asked = await setting.client.post(path, request(stream=True))
        assert (await asked.whole()).is_clean is True
        await setting.service.wait_for_disconnect()
        await setting.settled()
        (provider,) = setting.broker.statistics().providers
        assert (provider.completed, provider.aborted) == (1, 0)


async def test_an_error_event_of_the_service_is_passed_on() -> None:
    error = event({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})
    async with serving(body(START, error, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post("/v1/messages", request(stream=True))).whole()
        assert (got.body, got.is_clean) == (START + error, True)
        assert setting.broker.statistics().providers[0].failed == 1


async def test_a_compressed_answer_stays_compressed() -> None:
    packed = gzip.compress(b"".join(STREAMS["messages"]))
    reply = body(
        packed[:30], packed[30:], content_type=EVENT_STREAM, headers={"Content-Encoding": "gzip"}
    )
    whole = body(gzip.compress(MESSAGE, mtime=0), headers={"Content-Encoding": "gzip"})
    async with serving(reply, whole) as setting:
        got = await (await setting.client.post("/v1/messages", request(stream=True))).whole()
        assert (got.body, got.fields["content-encoding"]) == (packed, "gzip")
        assert got.is_clean is True
        assert tokens(setting) == (7, 9)
        got = await (await setting.client.post("/v1/messages", request())).whole()
        assert got.body == gzip.compress(MESSAGE, mtime=0)


@pytest.mark.parametrize("size", [1, 4_000_000])
async def test_bodies_of_megabytes_pass_unchanged(size: int) -> None:
    answer = b'{"type":"message","content":["%b"]}' % (b"y" * 4_000_000)
    async with serving(body(answer)) as setting:
        content = f'{{"model":"{MODEL}","messages":["{"x" * size}"]}}'.encode()
        got = await (await setting.client.post("/v1/messages", content)).whole()
        assert got.body == answer
        assert setting.service.requests[0].raw == content


async def test_a_provider_gets_only_requests_of_its_families() -> None:
    async with serving(families=["messages"]) as setting:
        got = await (await setting.client.post("/v1/chat/completions", request())).whole()
        assert got.status == 404
        message = got.json["error"]["message"]
        assert "only for Messages" in message
        assert message.endswith(
            f"no model is available for chat completions, but for Messages: {MODEL}"
        )
        got = await setting.client.get("/v1/models")
        assert got.json["data"][0]["families"] == ["messages"]
        async with setting.broker.connect() as client:
            assert MODEL not in str(await client.call("list_models"))


async def test_messages_have_an_address_and_a_header_for_the_key_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RELAY_TEST_KEY", "account-key")
    more: dict[str, Any] = {"api_key_env": "RELAY_TEST_KEY", "messages_api_key_header": "x-api-key"}
    async with serving(body(MESSAGE), body(RESPONSE), **more) as setting:
        own = {"Authorization": "Bearer own", "Cookie": "a=b", "anthropic_beta": "a,b"}
        await (await setting.client.post("/v1/messages", request(), **own)).whole()
        await (await setting.client.post("/v1/responses", request(), x_api_key="own")).whole()
        messages, responses = setting.service.requests
        assert messages.headers["x-api-key"] == "account-key"
        assert "Authorization" not in messages.headers
        assert "Cookie" not in messages.headers
        assert messages.headers["anthropic-beta"] == "a,b"
        assert responses.headers["Authorization"] == "Bearer account-key"
        assert "x-api-key" not in responses.headers


async def test_tokens_are_counted_without_a_permit() -> None:
    gate = Gate()
    held = body(MESSAGE, before=[gate])
    async with serving(held) as setting:
        running = await setting.client.post("/v1/messages", request())
        await setting.service.wait_for_started(1)
        asked = [
            await setting.client.post("/v1/messages/count_tokens?beta=true", request(n=each))
            for each in range(32)
        ]
        answers = await asyncio.gather(*(each.whole() for each in asked))
        assert all(each.status == 200 and each.json["input_tokens"] > 0 for each in answers)
        assert setting.service.started == 1
        gate.open()
        assert (await running.whole()).status == 200


async def test_models_have_the_form_of_both_sdks() -> None:
    async with serving() as setting:
        listed = (await setting.client.get("/v1/models?limit=1000")).json
        (model,) = listed["data"]
        assert (listed["object"], listed["has_more"]) == ("list", False)
        assert (model["id"], model["object"], model["type"]) == (MODEL, "model", "model")
        assert {"created", "created_at", "display_name", "owned_by"} <= model.keys()
        assert (listed["first_id"], listed["last_id"]) == (MODEL, MODEL)
        assert (await setting.client.get(f"/v1/models/{MODEL}")).json == model
        named = (await setting.client.get(f"/v1/models/scripted%2F{MODEL}")).json
        assert named == {**model, "id": f"scripted/{MODEL}", "display_name": f"scripted/{MODEL}"}
        missing = await setting.client.get("/v1/models/a%2Fb")
        assert (missing.status, missing.json["error"]["code"]) == (404, "model_not_found")
        missing = await setting.client.get("/v1/models/x", anthropic_version="2023-06-01")
        assert missing.json["error"]["type"] == "not_found_error"


async def test_clients_may_ask_whether_the_broker_is_there() -> None:
    async with serving() as setting:
        greeting = await setting.client.ask("HEAD", "/api/hello")
        assert (await greeting.head()).status == 200


@pytest.mark.parametrize(
    ("reply", "status", "kind", "retry_after"),
    [
        (failure(429, "slow", headers={"Retry-After": "7"}), 429, "scripted_error", "7"),
        (body(b"<html>", content_type="text/html"), 502, "api_error", None),
        (body(b"[1]"), 502, "api_error", None),
        (body(b'{"error":{"message":"no"}}'), 502, "api_error", None),
        (body(MESSAGE[:20], CUT, headers={"Content-Length": "90"}), 502, "api_error", None),
    ],
)
async def test_failures_have_the_form_of_messages(
    reply: Reply, status: int, kind: str, retry_after: str | None
) -> None:
    async with serving(reply, attempts=1) as setting:
        got = await (await setting.client.post("/v1/messages", request())).whole()
        assert (got.status, got.json["error"]["type"]) == (status, kind)
        assert got.fields.get("retry-after") == retry_after
        await setting.settled()


async def test_a_service_that_counts_tokens_at_no_cost_is_asked_without_a_permit() -> None:
    gate, counting = Gate(), Gate()
    replies = (
        body(MESSAGE, before=[gate]),
        body(b'{"input_tokens" : 7}'),
        body(b'{"odd":1}', status=400),
        hang_up(),
        body(MESSAGE, before=[counting]),
    )
    async with serving(*replies, count_tokens="relay") as setting:
        path = "/v1/messages/count_tokens?beta=true"
        running = await setting.client.post("/v1/messages", request())
        await setting.service.wait_for_started(1)
        asked = await setting.client.post(path, request(), anthropic_beta="a")
        assert (await asked.whole()).body == b'{"input_tokens" : 7}'
        seen = setting.service.requests[1]
        assert (seen.path, seen.headers["anthropic-beta"]) == (path, "a")
        refused = await (await setting.client.post(path, request())).whole()
        assert (refused.status, refused.body) == (400, b'{"odd":1}')
        estimated = await (await setting.client.post(path, request())).whole()
        assert estimated.json["input_tokens"] > 0
        left = await setting.client.post(path, request())
        await counting.reached()
        left.leave()
        await setting.service.wait_for_disconnect()
        missing = await (await setting.client.post(path, {"model": "other"})).whole()
        assert missing.json["input_tokens"] > 0
        gate.open()
        assert (await running.whole()).status == 200
        await setting.settled()


async def test_sub_agents_may_come_behind_the_agent_that_started_them() -> None:
    gate = Gate()
    order: list[str] = []

    def answering(seen: SeenRequest) -> Reply:
        order.append(seen.body["input"])
        return body(MESSAGE, before=[gate] if len(order) == 1 else ())

    http = {"sub_agents": "behind"}
    async with serving(http=http, session={"window": 1}) as setting:
        setting.service.default = answering
        session = {"x-claude-code-session-id": "s"}
        sub_agent = {**session, "x-claude-code-agent-id": "a"}
        asked = []
        for name, fields in (("first", session), ("sub", sub_agent), ("main", session)):
            asked.append(await setting.client.post("/v1/messages", request(input=name), **fields))
            if name == "first":
                await gate.reached()
            else:
                await setting.until_waiting(len(asked) - 1)
        gate.open()
        for each in asked:
            assert (await each.whole()).status == 200
        assert order == ["first", "main", "sub"]
