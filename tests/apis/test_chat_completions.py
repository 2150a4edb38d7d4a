"""Chat completions over HTTP, from a client's socket to a service's."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from exai_actors.testing.broker import running_broker
from exai_actors.testing.scripted_replies import (
    CUT,
    RESET,
    End,
    Gate,
    Reply,
    answer,
    body,
    failure,
    hang_up,
    socket_bytes,
)
from tests.apis.http_client import EVENT_STREAM, MODEL, Client, chat, piece, serving

CHAT = "/v1/chat/completions"
WHOLE = (
    b'{"id":"1", "object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"hello"}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":5},  "unknown":[1.0,1e3]}'
)
PIECE = piece("he")
LAST = piece("", "stop")
DONE = b"data: [DONE]\n\n"


async def test_an_answer_in_one_piece_is_passed_on_byte_for_byte() -> None:
    async with serving(body(WHOLE, headers={"x-request-id": "theirs"})) as setting:
        sent = b'{"messages" :["\\u0068i"],"model":"scripted-model", "new":1.50}'
        asked = await setting.client.post(CHAT, sent, User_Agent="desk/1", X_Stainless_Lang="x")
        got = await asked.whole()
        assert (got.status, got.body, got.is_clean) == (200, WHOLE, True)
        assert got.fields["content-type"] == "application/json"
        assert got.fields["x-upstream-request-id"] == "theirs"
        assert got.fields["x-request-id"].startswith("req_")
        assert got.fields["x-exai-tenant"] == "default"
        assert got.fields["x-exai-provider"] == "scripted"
        (seen,) = setting.service.requests
        assert (seen.raw, seen.path) == (sent, "/v1/chat/completions")
        assert seen.headers["User-Agent"] == "desk/1"
        assert seen.headers["X-Stainless-Lang"] == "x"
        await setting.settled()


PADDED = {"commit_after_s": 0, "keepalive_s": 1, "pad_json": True}


async def test_a_padded_answer_is_the_services_own_behind_empty_lines() -> None:
    gate = Gate()
    sized = body(WHOLE, before=[gate], headers={"Content-Length": str(len(WHOLE))})
    async with serving(sized, http=PADDED) as setting:
        got = await (await setting.client.post(CHAT, chat())).head()
        assert await got.piece() == b"\n"
        assert (got.status, got.fields["content-type"]) == (200, "application/json")
        assert got.fields["cache-control"] == "no-cache"
        assert got.fields["x-request-id"].startswith("req_")
        assert "content-length" not in got.fields
        gate.open()
        await got.whole()
        assert (got.body.strip(b"\n"), got.is_clean) == (WHOLE, True)
        await setting.settled()


@pytest.mark.parametrize(
    ("reply", "answered"), [(body(WHOLE), WHOLE), (failure(400, "no such thing"), b"")]
)
async def test_to_a_client_of_http_1_0_a_failure_behind_empty_lines_is_no_json(
    reply: Reply, answered: bytes
) -> None:
    sent = orjson.dumps(chat())
    head = b"POST %b HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(sent))
    gate = Gate()
    async with serving(replace(reply, before=(gate,)), http=PADDED, attempts=1) as setting:
        got = await (await setting.client.raw(head + sent)).head()
        assert (got.status, got.fields["connection"]) == (200, "close")
        assert "transfer-encoding" not in got.fields
        gate.open()
        with contextlib.suppress(ConnectionError):
            got.body = await asyncio.wait_for(got._reader.read(), 10)
        assert got.body.strip() == answered


async def test_a_deadline_that_cannot_be_read_is_refused_and_not_ignored() -> None:
    async with serving() as setting:
        got = await (await setting.client.post(CHAT, chat(), x_exai_deadline_ms="30s")).whole()
        assert got.status == 400
        assert "not '30s'" in got.json["error"]["message"]
        assert setting.service.started == 0


async def test_a_broker_that_drains_sends_clients_to_another_connection() -> None:
    gate = Gate()
    held = body(PIECE, gate, LAST, DONE, content_type=EVENT_STREAM)
    async with serving(held) as setting:
        first = await setting.client.post(CHAT, chat(stream=True))
        await first.head()
        draining = asyncio.ensure_future(setting.broker.broker.drain(30))
        async with asyncio.timeout(10):
            # Statistics can only be polled.
            while not setting.broker.statistics().draining:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        late = await (await setting.client.post(CHAT, chat())).whole()
        assert (late.status, late.fields["retry-after"]) == (503, "5")
        assert late.fields["connection"] == "close"
        assert await late._reader.read() == b""
        gate.open()
        assert (await first.whole()).is_clean
        assert await draining


async def test_each_request_has_its_own_headers_and_path() -> None:
    long = "x" * 3_000
    sent = [
        ("", "desk/1", "a"),
        ("", "desk/1", "b"),
        ("?x=1", "desk/1", "b"),
        ("", "desk/2", "a"),
        ("", "desk/1", "a"),
        ("", "desk/1", long),
        ("", "desk/1", f"{long}y"),
    ]
    async with serving(*[body(WHOLE)] * len(sent)) as setting:
        for query, agent, lang in sent:
            asked = await setting.client.post(
                CHAT + query, chat(), User_Agent=agent, X_Stainless_Lang=lang
            )
            assert (await asked.whole()).body == WHOLE
        seen = [
            (request.headers["User-Agent"], request.headers["X-Stainless-Lang"])
            for request in setting.service.requests
        ]
        assert seen == [(agent, lang) for _, agent, lang in sent]
        await setting.settled()


async def test_many_clients_keep_their_headers() -> None:
    async with serving(*[body(WHOLE)] * 260) as setting:
        for number in range(260):
            asked = await setting.client.post(CHAT, chat(), User_Agent=f"desk/{number}")
            assert (await asked.whole()).body == WHOLE
        seen = [request.headers["User-Agent"] for request in setting.service.requests]
        assert seen == [f"desk/{number}" for number in range(260)]


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    async with serving(*[body(WHOLE)] * 3) as setting:
        sent = orjson.dumps(chat())
        head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n"
        request = head % (CHAT.encode(), setting.client.port, len(sent)) + sent
        answer = await setting.client.raw(request * 3)
        ids = set()
        for _ in range(3):
            got = await (await answer.head()).whole()
            assert (got.status, got.body) == (200, WHOLE)
            ids.add(got.fields["x-request-id"])
        assert len(ids) == 3
        await setting.settled()


async def test_a_stream_is_passed_on_as_its_pieces_come() -> None:
    gate = Gate()
    reply = body(PIECE, gate, PIECE[:20], PIECE[20:], LAST, DONE, content_type=EVENT_STREAM)
    async with serving(reply) as setting:
        asked = await setting.client.post(CHAT, chat(stream=True))
        await asked.head()
        assert await asked.piece() == PIECE
        gate.open()
        got = await asked.whole()
        assert got.body == PIECE + PIECE + LAST + DONE
        assert got.is_clean is True
        assert got.fields["content-type"] == EVENT_STREAM
        assert got.fields["x-accel-buffering"] == "no"
        await setting.settled()


@pytest.mark.parametrize("end", [CUT, RESET])
async def test_a_stream_that_breaks_off_is_no_whole_answer(end: End) -> None:
    async with serving(body(PIECE, end, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post(CHAT, chat(stream=True))).whole()
        assert (got.status, got.body, got.is_clean) == (200, PIECE, False)
        await setting.settled()


async def test_a_stream_that_ends_without_a_finish_reason_is_no_whole_answer() -> None:
    async with serving(body(PIECE, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post(CHAT, chat(stream=True))).whole()
        assert (got.body, got.is_clean) == (PIECE, False)


async def test_several_answers_are_whole_only_with_the_mark_of_the_end() -> None:
    replies = [body(PIECE, LAST, content_type=EVENT_STREAM)] * 2
    async with serving(*replies) as setting:
        got = await (await setting.client.post(CHAT, chat(stream=True, n=2))).whole()
        assert got.is_clean is False
        got = await (await setting.client.post(CHAT, chat(stream=True))).whole()
        assert got.is_clean is True


async def test_the_error_of_a_service_inside_its_stream_is_the_clients_to_read() -> None:
    error = b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n'
    async with serving(body(PIECE, error, content_type=EVENT_STREAM)) as setting:
        got = await (await setting.client.post(CHAT, chat(stream=True))).whole()
        assert (got.body, got.is_clean) == (PIECE + error, True)
        assert setting.broker.statistics().providers[0].failed == 1


async def test_half_an_answer_in_one_piece_is_none_and_not_to_be_repeated() -> None:
    whole = {"Content-Length": str(len(WHOLE))}
    async with serving(body(WHOLE[:50], CUT, headers=whole)) as setting:
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert (got.status, got.fields["x-should-retry"]) == (502, "false")
        assert got.json["error"]["code"] == "provider_error"


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
async def test_a_refusal_of_the_service_is_passed_on_as_it_came(status: int) -> None:
    refusal = b'{"error" : {"message":"no", "odd": [1]}}'
    headers = {"x-ratelimit-remaining-requests": "3"}
    async with serving(body(refusal, status=status, headers=headers)) as setting:
        got = await (await setting.client.post(CHAT, chat(stream=True))).whole()
        assert (got.status, got.body, got.is_clean) == (status, refusal, True)
        assert "x-ratelimit-remaining-requests" not in got.fields
        await setting.settled()


async def test_a_short_refusal_of_the_service_is_tried_again_here_and_not_by_the_client() -> None:
    busy = failure(429, "slow down", headers={"Retry-After": "0.01"})
    async with serving(busy, body(WHOLE), attempts=2) as setting:
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert (got.status, setting.service.started) == (200, 2)


async def test_a_service_that_answers_nothing_is_a_bad_gateway_that_is_not_to_be_repeated() -> None:
    async with serving(hang_up(), attempts=1) as setting:
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert (got.status, got.fields["x-should-retry"]) == (502, "false")
        assert got.json["error"]["type"] == "server_error"
        assert got.json["error"]["code"] == "provider_error"


async def test_a_service_that_is_not_there_may_be_asked_again_later() -> None:
    async with serving(attempts=1, base_url="http://127.0.0.1:1/v1") as setting:
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert (got.status, got.fields["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    "sent",
    [b"{", b"[]", b'"text"', b"", b'{"messages":[]}', b'{"model":7}', b'{"model":""}', b"\xff{}"],
)
async def test_a_body_that_cannot_be_read_is_refused_and_not_sent(sent: bytes) -> None:
    async with serving() as setting:
        got = await (await setting.client.post(CHAT, sent)).whole()
        assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")
        assert setting.service.started == 0


@pytest.mark.parametrize("value", [b"\xe9\xff", b"\xc3\xa9", "\u8bf7".encode(), b"\xf0\x9f"])
@pytest.mark.parametrize(
    ("status", "name"),
    [(200, b"content-type"), (200, b"x-upstream-request-id"), (400, b"retry-after")],
)
async def test_the_fields_of_a_service_may_have_any_bytes(
    status: int, name: bytes, value: bytes
) -> None:
    sent = name.removeprefix(b"x-upstream-")
    head = b"HTTP/1.1 %d x\r\n%b: application/json; x=%b\r\nContent-Length: %d\r\n\r\n"
    reply = socket_bytes(head % (status, sent, value, len(WHOLE)) + WHOLE)
    async with serving(reply) as setting:
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert (got.status, got.body) == (status, WHOLE)
        assert got.fields[name.decode()].encode("latin-1") == b"application/json; x=" + value
        await setting.settled()


async def test_a_change_of_the_protocol_is_not_passed_on() -> None:
    switch = b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with serving(socket_bytes(switch), attempts=1) as setting:
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert got.status == 502
        await setting.settled()


async def test_a_model_that_no_provider_has_is_not_found() -> None:
    async with serving() as setting:
        got = await (await setting.client.post(CHAT, {"model": "other"})).whole()
        assert (got.status, got.json["error"]["code"]) == (404, "model_not_found")
        assert MODEL in got.json["error"]["message"]


async def test_another_name_of_a_model_replaces_its_value_alone() -> None:
    async with serving(body(WHOLE)) as setting:
        sent = b'{"x": {"model":"scripted/scripted-model"},  "model" :  "scripted/scripted-model"}'
        got = await (await setting.client.post(CHAT, sent)).whole()
        assert got.status == 200
        expected = b'{"x": {"model":"scripted/scripted-model"},  "model" :  "scripted-model"}'
        assert setting.service.requests[0].raw == expected


@pytest.mark.parametrize("phase", ["waiting", "running", "streaming"])
async def test_a_client_that_leaves_frees_its_place_and_its_permit(phase: str) -> None:
    gate = Gate()
    held = body(PIECE, gate, LAST, content_type=EVENT_STREAM)
    before = body(LAST, content_type=EVENT_STREAM, before=[gate])
    async with serving(before if phase == "running" else held, body(WHOLE)) as setting:
        client, service = setting.client, setting.service
        first = await client.post(CHAT, chat(stream=True))
        await service.wait_for_started(1)
        if phase == "waiting":
            await (await first.head()).piece()
            second = await client.post(CHAT, chat("second", stream=True))
            await setting.until_queued(1)
            second.leave()
            await setting.until_queued(0)
            gate.open()
            assert (await first.whole()).is_clean is True
        else:
            if phase == "streaming":
                await (await first.head()).piece()
            first.leave()
            await service.wait_for_disconnect()
        got = await (await client.post(CHAT, chat("third"))).whole()
        assert (got.status, service.started) == (200, 2)
        await setting.settled()


async def test_requests_on_one_connection_are_answered_one_after_the_other() -> None:
    async with serving(*[body(WHOLE)] * 3) as setting:
        sent = orjson.dumps(chat())
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n".encode()
        asked = await setting.client.raw((head + sent) * 3)
        for _ in range(3):
            asked.status, asked.body = 0, b""
            assert (await asked.whole()).body == WHOLE


async def test_the_synthetic_provider_answers_chats_too() -> None:

    async with running_broker() as broker:
        client = Client(broker.port)
        content = {"model": "synthetic", "messages": [{"role": "user", "content": "say hi"}]}
        got = await (await client.post(CHAT, content)).whole()
        assert got.json["choices"][0]["message"]["content"]
        streamed = await (await client.post(CHAT, {**content, "stream": True})).whole()
        assert streamed.body.endswith(DONE)
        assert streamed.is_clean is True
        client.close()


async def test_answers_of_the_common_form_are_relayed_as_well() -> None:
    async with serving(answer("hel", "lo"), answer("hello")) as setting:
        streamed = await (await setting.client.post(CHAT, chat(stream=True))).whole()
        assert streamed.is_clean is True
        assert b"[DONE]" in streamed.body
        got = await (await setting.client.post(CHAT, chat())).whole()
        assert got.json["choices"][0]["message"]["content"] == "hello"


async def test_requests_are_counted_and_logged_with_their_api(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    logging = {"access": "json", "access_file": str(log)}
    async with serving(body(WHOLE), logging=logging) as setting:
        await (await setting.client.post(CHAT, chat())).whole()
        await (await setting.client.post("/v1/messages", {"model": "other"})).whole()
        metrics = await setting.client.get("/metrics")
        assert b'exai_http_requests_total{api="messages"} 1' in metrics.body
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert [(line["api"], line["outcome"], line["tenant"]) for line in lines] == [
        ("chat", "completed", "default"),
        ("messages", "refused", "default"),
    ]
