"""Requests that break the rules, or try to get in: none of them reaches the service."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from exai_actors.edges.http_server.settings import HttpServerSettings
from exai_actors.testing.scripted_replies import Gate, body
from tests.apis.http_client import EVENT_STREAM, chat, piece, serving

TOKEN = "a-token-of-enough-characters"
CHAT = "/v1/chat/completions"
SENT = orjson.dumps(chat())


def post(*fields: bytes, sent: bytes = SENT, line_end: bytes = b"\r\n") -> bytes:
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"Host: x", *fields]
    return line_end.join([*lines, b"", sent])


LENGTH = b"Content-Length: %d" % len(SENT)
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(LENGTH, b"Transfer-Encoding: chunked"), 400),
        (post(LENGTH, b"Content-Length: 3"), 400),
        (post(b"Content-Length: +3"), 400),
        (post(b"Content-Length: -1"), 400),
        (post(LENGTH, line_end=b"\n"), 400),
        (post(b"Content-Length : %d" % len(SENT)), 400),
        (post(LENGTH, b"X-Folded: a\r\n b"), 400),
        (post(LENGTH, b"X-Nul: a\0b"), 400),
        (post(b"Transfer-Encoding: chunked", sent=b"zz\r\nabc\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", sent=b"3\r\nabcd\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: gzip, chunked"), 501),
        (post(b"Transfer-Encoding: identity"), 501),
        (post(LENGTH, b"Host: y"), 400),
        (post(LENGTH, b"Content-Encoding: gzip"), 415),
        (post(LENGTH, b"Expect: a miracle"), 417),
        (post(LENGTH, b"Origin: https://evil.example"), 403),
        (post(LENGTH, b"X: " + b"a" * 1_000_000), 431),
        (post(LENGTH, *[b"X-%d: a" % each for each in range(101)]), 431),
        (post(b"Content-Length: 33554433"), 413),
        (post(LENGTH).replace(b"Host: x", b"Host: public.example"), 403),
        (post(LENGTH).replace(b"POST", b"FROB"), 400),
        (post(LENGTH).replace(b"POST", b"PUT"), 405),
        (post(LENGTH).replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    ],
)
async def test_a_request_that_breaks_the_rules_is_refused(
    request_bytes: bytes, status: int
) -> None:
    async with serving() as setting:
        asked = await setting.client.raw(request_bytes)
        assert (await asked.head()).status == status
        assert setting.service.started == 0
        assert (await setting.client.get("/v1/models")).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/any", "/api/hello"])
async def test_a_wrong_method_is_named_although_the_path_takes_no_body(path: str) -> None:
    async with serving() as setting:
        got = await (await setting.client.post(path, b"{}")).whole()
        assert (got.status, got.fields["allow"]) == (405, "GET, HEAD")


async def test_the_rest_of_a_refused_request_is_not_taken_for_another_one() -> None:
    async with serving() as setting:
        asked = await setting.client.raw(post(b"Content-Length: 33554433", sent=SMUGGLED))
        got = await asked.whole()
        assert (got.status, got.fields["connection"]) == (413, "close")
        assert got.json["error"]["type"] == "invalid_request_error"
        assert b"exai_info" not in await asked._reader.read()


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/chat/completions", "x-request-id"), ("/v1/messages", "request-id")]
)
async def test_a_refusal_before_the_call_has_an_id_to_ask_about(path: str, name: str) -> None:
    async with serving(server={"token": TOKEN}) as setting:
        for fields, status in (({}, 401), ({"x-api-key": TOKEN}, 400)):
            got = await (await setting.client.post(path, b"{}", **fields)).whole()
            assert got.status == status
            assert got.fields[name].startswith("req_")
            assert got.json.get("request_id", got.fields[name]) == got.fields[name]


async def test_a_body_is_asked_for_only_with_a_valid_token() -> None:
    async with serving(body(b"{}"), server={"token": TOKEN}) as setting:
        wrong = post(LENGTH, b"Expect: 100-continue", b"Authorization: Bearer x", sent=b"")
        asked = await setting.client.raw(wrong)
        assert (await asked.whole()).status == 401
        assert asked.fields["x-should-retry"] == "false"
        asked = await setting.client.raw(
            post(LENGTH, b"Expect: 100-continue", b"x-api-key: %b" % TOKEN.encode(), sent=b"")
        )
        assert (await asked.head()).status == 100
        asked._writer.write(SENT)
        assert (await asked.head()).status == 200


@pytest.mark.parametrize(
    "fields",
    [(), (b"Authorization: Bearer nearly-right-token-here",), (b"Mcp-Session-Id: any",)],
)
@pytest.mark.parametrize("path", [b"/mcp", b"/v1/messages", b"/v1/messages/count_tokens"])
async def test_the_body_of_a_stranger_is_not_kept(path: bytes, fields: tuple[bytes, ...]) -> None:
    async with serving(server={"token": TOKEN}) as setting:
        begun = post(b"Content-Length: 12000000", *fields, sent=b"{" * 100_000)
        asked = await setting.client.raw(begun.replace(b"/v1/chat/completions", path))
        assert (await asked.whole()).status == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/any", "/v1/messages/count_tokens"])
async def test_every_path_needs_the_token(path: str) -> None:
    async with serving(server={"token": TOKEN}) as setting:
        method, sent = ("POST", SENT) if path.endswith("tokens") else ("GET", b"")
        for fields in ({}, {"Authorization": "Bearer nearly-right-token-here"}):
            asked = await setting.client.ask(
                method, path, SENT if method == "POST" else b"", fields
            )
            assert (await asked.whole()).status == 401
        fields = {"Authorization": f"Bearer {TOKEN}"}
        asked = await setting.client.ask(method, path, sent, fields)
        assert (await asked.whole()).status in {200, 404}


async def test_tokens_are_not_guessed_faster_over_http() -> None:
    async with serving(server={"token": TOKEN}) as setting:
        loop = asyncio.get_running_loop()
        for each in range(40):
            asked = await setting.client.post(CHAT, chat(), x_api_key=f"guess-{each}")
            began = loop.time()
            await asked.whole()
            if loop.time() - began > 0.1:
                return
        pytest.fail("forty wrong tokens were answered without a delay")


async def test_a_client_that_closes_half_of_its_connection_is_gone() -> None:
    gate = Gate()
    held = body(piece("he"), gate, content_type=EVENT_STREAM)
    async with serving(held) as setting:
        asked = await setting.client.post(CHAT, chat(stream=True))
        await (await asked.head()).piece()
        asked._writer.write_eof()
        await setting.service.wait_for_disconnect()
        await setting.settled()


async def test_a_client_that_leaves_after_sending_many_requests_in_advance_is_gone() -> None:
    gate = Gate()
    held = body(piece("he"), gate, content_type=EVENT_STREAM)
    async with serving(held) as setting:
        streamed = orjson.dumps(chat(stream=True))
        first = post(b"Content-Length: %d" % len(streamed), sent=streamed)
        asked = await setting.client.raw(first + post(LENGTH) * 20)
        await (await asked.head()).piece()
        asked.leave()
        await setting.service.wait_for_disconnect()
        await setting.settled()
        assert setting.service.started == 1


async def test_a_client_that_reads_nothing_stops_its_own_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "exai_actors.daemon.wiring.HttpServerSettings",
        _with_little_patience,
    )
    big = body(*[piece("x" * 60_000)] * 400, content_type=EVENT_STREAM)
    async with serving(big, body(piece("", "stop"), content_type=EVENT_STREAM)) as setting:
        await setting.client.post(CHAT, chat(stream=True))
        await setting.service.wait_for_disconnect()
        got = await (await setting.client.post(CHAT, chat("next", stream=True))).whole()
        assert got.is_clean is True
        await setting.settled()


def _with_little_patience(**settings: int) -> object:
    return HttpServerSettings(unread_timeout_s=0.2, **settings)
