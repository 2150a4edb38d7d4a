"""A route that serves Responses by chat completions, from socket to socket."""

from __future__ import annotations

from typing import Any

import orjson

from exai_actors.testing.broker import running_broker
from exai_actors.testing.scripted_replies import body
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.apis.http_client import EVENT_STREAM, Client, piece

DONE = b"data: [DONE]\n\n"
ASK = {"model": "code", "input": "hi", "stream": True}


def tables(url: str, **route: Any) -> dict[str, Any]:
    provider = {"name": "chatty", "kind": "openai", "base_url": url, "models": ["k2"]}
    return {
        "provider": [provider],
        "route": [{"model": "code", "to": ["chatty/k2"], **route}],
    }


async def test_a_stream_is_translated_both_ways() -> None:
    reply = body(piece("he"), piece("llo", "stop"), DONE, content_type=EVENT_STREAM)
    async with ScriptedUpstream(reply) as service:
        settings = tables(service.base_url, responses_by_chat=True)
        async with running_broker(settings) as broker:
            client = Client(broker.port)
            got = await (await client.post("/v1/responses", ASK)).whole()
            client.close()
            await broker.settled()
        (seen,) = service.requests
    assert (seen.path, seen.body["model"]) == ("/v1/chat/completions", "k2")
    assert seen.body["messages"] == [{"role": "user", "content": "hi"}]
    assert (got.status, got.is_clean) == (200, True)
    assert got.body.count(b"event: response.output_text.delta") == 2
    last = orjson.loads(got.body.split(b"data: ")[-1])
    assert last["response"]["output"][0]["content"][0]["text"] == "hello"


async def test_a_stream_that_breaks_off_is_broken_off() -> None:
    reply = body(piece("he"), content_type=EVENT_STREAM)
    async with ScriptedUpstream(reply) as service:
        settings = tables(service.base_url, responses_by_chat=True)
        async with running_broker(settings) as broker:
            client = Client(broker.port)
            got = await (await client.post("/v1/responses", ASK)).whole()
            client.close()
            await broker.settled()
    assert got.is_clean is False
    assert b"response.completed" not in got.body


async def test_a_request_for_a_stored_response_is_refused() -> None:
    async with ScriptedUpstream() as service:
        settings = tables(service.base_url, responses_by_chat=True)
        async with running_broker(settings) as broker:
            client = Client(broker.port)
            sent = {**ASK, "previous_response_id": "resp_1"}
            got = await (await client.post("/v1/responses", sent)).whole()
            client.close()
            await broker.settled()
        assert service.requests == []
    assert got.status == 400
    assert "needs a service that keeps responses" in got.json["error"]["message"]


async def test_other_routes_are_not_translated() -> None:
    async with ScriptedUpstream() as service, running_broker(tables(service.base_url)) as broker:
        client = Client(broker.port)
        got = await (await client.post("/v1/responses", ASK)).whole()
        client.close()
    assert got.status == 404
