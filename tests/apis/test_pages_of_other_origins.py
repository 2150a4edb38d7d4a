"""Pages of other origins call the APIs with fetch() if the configuration lists their origin."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.testing.scripted_replies import answer, failure
from tests.apis.http_client import MODEL, Answer, Setting, chat, serving

DESK = "https://desk.example"
TOKEN = "a-token-of-enough-characters"
CHAT = "/v1/chat/completions"
SERVER = {"allowed_origins": [DESK], "token": TOKEN}
ASKS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}
EXPOSED = "access-control-expose-headers"
ALLOWED = "access-control-allow-origin"


async def preflight(
    setting: Setting, path: str = CHAT, origin: str = DESK, asks: dict[str, str] = ASKS
) -> Answer:
    return await (await setting.client.ask("OPTIONS", path, b"", {"Origin": origin, **asks})).head()


async def post(setting: Setting, content: Any, **fields: str) -> Answer:
    named = {"Origin": DESK, "Authorization": f"Bearer {TOKEN}", **fields}
    return await (await setting.client.post(CHAT, content, **named)).whole()


def is_shared(got: Answer) -> bool:
    return (got.fields.get(ALLOWED), got.fields.get("vary")) == (DESK, "Origin")


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/models", "/v1/files"])
async def test_a_browser_may_ask_before_it_has_a_token(path: str) -> None:
    async with serving(server=SERVER) as setting:
        got = await preflight(setting, path)
        assert (got.status, is_shared(got)) == (204, True)
        assert got.fields["access-control-allow-headers"] == "authorization,content-type"
        assert "content-length" not in got.fields


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        (CHAT, "https://evil.example", 403),
        (CHAT, "null", 403),
        (CHAT, f"{DESK}\tevil", 403),
        ("/metrics", DESK, 405),
        ("/console", DESK, 405),
        ("/mcp", DESK, 405),
        ("/healthz", DESK, 405),
    ],
)
async def test_no_other_page_may_ask_and_nothing_but_the_apis_is_shared(
    path: str, origin: str, status: int
) -> None:
    async with serving(server=SERVER) as setting:
        got = await preflight(setting, path, origin)
        assert got.status == status
        assert not any(name.startswith("access-control") for name in got.fields)


@pytest.mark.parametrize("line_end", ["\r", "\n", "\0"])
async def test_an_origin_cannot_carry_another_header(line_end: str) -> None:
    async with serving(server={**SERVER, "allowed_origins": [DESK]}) as setting:
        got = await preflight(setting, origin=f"{DESK}{line_end}X-Injected: yes")
        assert got.status in {400, 403}
        assert not any(name.startswith(("access-control", "x-injected")) for name in got.fields)


async def test_a_listed_page_does_not_reach_the_broker_under_a_foreign_name() -> None:
    head = f"OPTIONS {CHAT} HTTP/1.1\r\nHost: rebound.example\r\nOrigin: {DESK}\r\n"
    fields = "".join(f"{name}: {value}\r\n" for name, value in ASKS.items())
    async with serving(server=SERVER) as setting:
        got = await (await setting.client.raw(f"{head}{fields}\r\n".encode())).head()
        assert (got.status, got.fields.get(ALLOWED)) == (403, None)


async def test_a_question_without_a_method_is_another_request() -> None:
    async with serving(server=SERVER) as setting:
        got = await preflight(setting, asks={})
        assert (got.status, got.fields["allow"], is_shared(got)) == (405, "POST", True)


async def test_a_page_may_read_answers_and_refusals() -> None:
    replies = answer("hello"), answer("hel", "lo"), failure(400, "no such thing")
    async with serving(*replies, server=SERVER, attempts=1) as setting:
        whole = await post(setting, chat())
        streamed = await post(setting, chat(stream=True))
        refused = await post(setting, chat())
        unreadable = await post(setting, b"{")
        unknown = await post(setting, {"model": "other"})
        stranger = await post(setting, chat(), Authorization="Bearer wrong")
        found = [whole, streamed, refused, unreadable, unknown, stranger]
        assert [each.status for each in found] == [200, 200, 400, 400, 404, 401]
        assert streamed.fields["content-type"].startswith("text/event-stream")
        models = await setting.client.get(
            "/v1/models", Origin=DESK, Authorization=f"Bearer {TOKEN}"
        )
        assert models.json["data"][0]["id"] == MODEL
        assert all(map(is_shared, [*found, models]))
        for each in found:
            sent = {name for name in each.fields if name.startswith(("x-", "retry-"))}
            assert sent - {"x-content-type-options", "x-accel-buffering"} <= {
                *each.fields[EXPOSED].split(", ")
            }


async def test_a_page_may_read_why_the_server_refuses_its_request() -> None:
    async with serving(server=SERVER) as setting:
        sized = {"Origin": DESK, "Content-Length": "33554433"}
        got = await (await setting.client.ask("POST", CHAT, b"", sized)).whole()
        assert (got.status, is_shared(got)) == (413, True)
        assert "33554432" in got.json["error"]["message"]


async def test_a_client_that_is_no_page_gets_none_of_these_headers() -> None:
    async with serving(answer("hello"), server=SERVER) as setting:
        got = await setting.client.post(CHAT, chat(), Authorization=f"Bearer {TOKEN}")
        await got.whole()
        assert got.status == 200
        assert not any(name.startswith(("access-control", "vary")) for name in got.fields)
