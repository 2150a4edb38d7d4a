from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.wire.mcp import http, messages
from tests.wire.mcp.desk import STATELESS_META

JSON = "application/json"


def fields(**given: str) -> http.Field:
    lower = {name.replace("_", "-").lower(): value for name, value in given.items()}
    return lambda name: lower.get(name.lower())


def request(method: str = "tools/call", meta: Any = STATELESS_META, **params: Any) -> Any:
    params = {"name": "chat", "_meta": meta} | params
    message = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
    return messages.read(json.dumps(message).encode())


GOOD = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "chat"}


@pytest.mark.parametrize(
    ("accept", "stream", "plain"),
    [
        (None, True, True),
        ("application/json, text/event-stream", True, True),
        ("text/event-stream;q=0.9,application/json", True, True),
        ("*/*", True, True),
        ("application/*", False, True),
        ("APPLICATION/JSON", False, True),
        ("text/html", False, False),
        ("", False, False),
    ],
)
def test_accept_says_what_the_client_can_read(
    accept: str | None, stream: bool, plain: bool
) -> None:
    field = fields(**({} if accept is None else {"accept": accept}))
    assert http.takes_stream(field) is stream
    assert http.takes(field, JSON) is plain


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"content_type": JSON}, None),
        ({"content_type": "application/json; charset=utf-8", "accept": "*/*"}, None),
        ({"content_type": JSON, "accept": "text/event-stream"}, None),
        ({"content_type": "text/plain"}, 415),
        ({}, 415),
        ({"content_type": JSON, "accept": "text/html"}, 406),
    ],
)
def test_the_body_has_to_be_json_and_the_answer_readable(
    given: dict[str, str], status: int | None
) -> None:
    refusal = http.check_content(fields(**given))
    assert (refusal and refusal.status) == status


@pytest.mark.parametrize(
    ("version", "ok"),
    [(None, True), ("2025-03-26", True), ("2025-11-25", True), ("2027-01-01", False), ("", False)],
)
def test_an_unknown_version_in_the_head_is_refused(version: str | None, ok: bool) -> None:
    field = fields(**({} if version is None else {"mcp_protocol_version": version}))
    refusal = http.check_stateful(field)
    assert (refusal is None) is ok
    if refusal is not None:
        assert refusal.status == 400
        assert b"2025-11-25" in refusal.body


def test_the_era_is_that_of_the_head_or_of_the_body() -> None:
    old = {"mcp_protocol_version": "2025-11-25"}
    assert http.is_stateless(request(meta={}), fields(**GOOD))
    assert http.is_stateless(request(), fields(**old))
    assert not http.is_stateless(request(meta={}), fields(**old))
    assert not http.is_stateless(request(meta={}), fields())
    assert http.is_stateless(messages.read(b"{"), fields(**GOOD))


def test_a_head_that_agrees_with_the_body_passes() -> None:
    assert http.check_stateless(request(), fields(**GOOD)) is None
    listed = fields(**GOOD | {"mcp_method": "tools/list"})
    assert http.check_stateless(request("tools/list"), listed) is None
    blank = fields(**GOOD | {"mcp_name": " chat \t", "mcp_method": "tools/call "})
    assert http.check_stateless(request(), blank) is None
    note = messages.Notification("notifications/cancelled", {})
    assert http.check_stateless(note, fields(**GOOD)) is None


@pytest.mark.parametrize(
    ("message", "given", "code"),
    [
        (request(), GOOD | {"mcp_protocol_version": "2025-11-25"}, messages.HEADER_MISMATCH),
        (request(), {}, messages.HEADER_MISMATCH),
        (request(), GOOD | {"mcp_method": "tools/list"}, messages.HEADER_MISMATCH),
        (request(), GOOD | {"mcp_method": "TOOLS/CALL"}, messages.HEADER_MISMATCH),
        (request(), GOOD | {"mcp_name": "ask"}, messages.HEADER_MISMATCH),
        (
            request("tasks/get", taskId="t"),
            GOOD | {"mcp_method": "tasks/get", "mcp_name": "u"},
            messages.HEADER_MISMATCH,
        ),
        (
            request("resources/read", uri="a://b"),
            GOOD | {"mcp_method": "resources/read"},
            messages.HEADER_MISMATCH,
        ),
        (request(meta={}), GOOD, messages.INVALID_PARAMS),
        (
            request(meta={**STATELESS_META, messages.VERSION_KEY: "v9"}),
            GOOD | {"mcp_protocol_version": "v9"},
            messages.UNSUPPORTED_VERSION,
        ),
        (
            request(meta={**STATELESS_META, messages.VERSION_KEY: "v9"}),
            GOOD,
            messages.HEADER_MISMATCH,
        ),
        (messages.read(b"{"), GOOD, messages.PARSE_ERROR),
    ],
)
def test_a_head_that_contradicts_the_body_is_refused(
    message: messages.Message, given: dict[str, str], code: int
) -> None:
    refusal = http.check_stateless(message, fields(**given))
    assert refusal is not None
    assert refusal.status == 400
    body = json.loads(refusal.body)
    assert body["error"]["code"] == code
    assert body["id"] == (5 if isinstance(message, messages.Request) else None)
    assert ("data" in body["error"]) is (code == messages.UNSUPPORTED_VERSION)


def test_an_event_has_the_message_on_one_line() -> None:
    assert http.event(b'{"a":1}') == b'event: message\ndata: {"a":1}\n\n'
