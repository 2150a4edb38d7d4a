"""Each error of the broker has a status, and words that the SDKs of its family read."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest

from exai_actors.core.families import Family
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.http_api.errors import (
    api_error,
    error_body,
    error_event,
    error_fields,
    refused_by_server,
)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_a_form(code: ErrorCode) -> None:
    error = api_error(ErrorBody(code, "words"))
    assert 400 <= error.status < 600
    assert error.status not in {408, 409}, "all SDKs repeat these"
    for family in get_args(Family):
        body = orjson.loads(error_body(family, error, "req_1"))
        found = body["error"]
        assert found["message"] == "words"
        if family == "messages":
            assert (body["type"], body["request_id"]) == ("error", "req_1")


@pytest.mark.parametrize(
    ("code", "details", "status", "fields"),
    [
        (
            ErrorCode.OVER_CAPACITY,
            {"retry_after": 0.2},
            429,
            {"Retry-After": "1", "retry-after-ms": "200"},
        ),
        (
            ErrorCode.OVER_CAPACITY,
            {"retry_after": 61},
            429,
            {"Retry-After": "61", "retry-after-ms": "61000", "x-should-retry": "false"},
        ),
        (ErrorCode.OVER_CAPACITY, None, 429, {}),
        (ErrorCode.SERVICE_UNAVAILABLE, None, 503, {"Retry-After": "1", "retry-after-ms": "1000"}),
        (
            ErrorCode.SERVICE_UNAVAILABLE,
            {"retry_after": 90},
            503,
            {"Retry-After": "90", "retry-after-ms": "90000", "x-should-retry": "false"},
        ),
        (ErrorCode.DRAINING, None, 503, {"Retry-After": "5", "retry-after-ms": "5000"}),
        (ErrorCode.TIMEOUT, {"retry_after": 1}, 504, {"x-should-retry": "false"}),
        (ErrorCode.UNAUTHORIZED, None, 401, {"x-should-retry": "false"}),
        (ErrorCode.MODEL_NOT_FOUND, None, 404, {}),
        (ErrorCode.VALIDATION_ERROR, None, 400, {}),
        (ErrorCode.INTERNAL_ERROR, None, 500, {"x-should-retry": "false"}),
        (
            ErrorCode.INTERNAL_ERROR,
            {"retry_after": 1},
            500,
            {"Retry-After": "1", "retry-after-ms": "1000"},
        ),
        (ErrorCode.CANCELLED, None, 502, {"x-should-retry": "false"}),
        (
            ErrorCode.PROVIDER_ERROR,
            {"kind": "rate_limited", "retry_after": 3},
            429,
            {"Retry-After": "3", "retry-after-ms": "3000"},
        ),
        (
            ErrorCode.PROVIDER_ERROR,
            {"kind": "quota", "retry_after": 3600},
            429,
            {"Retry-After": "3600", "retry-after-ms": "3600000", "x-should-retry": "false"},
        ),
    ],
)
def test_statuses_and_headers(
    code: ErrorCode, details: dict[str, Any] | None, status: int, fields: dict[str, str]
) -> None:
    error = api_error(ErrorBody(code, "words", details))
    assert (error.status, dict(error_fields(error))) == (status, fields)


def test_the_end_of_a_stream_of_messages_has_the_client_repeat_what_it_may_repeat() -> None:
    limited = api_error(ErrorBody(ErrorCode.OVER_CAPACITY, "m", {"retry_after": 2}))
    assert b'"type":"overloaded_error"' in error_event("messages", limited, "r", "m")
    late = api_error(ErrorBody(ErrorCode.TIMEOUT, "m"))
    assert b'"type":"timeout_error"' in error_event("messages", late, "r", "m")


@pytest.mark.parametrize(
    ("retry_after", "code"), [(1.2, "rate_limit_exceeded"), (None, "server_error")]
)
def test_the_end_of_a_stream_of_responses_names_the_wait(
    retry_after: float | None, code: str
) -> None:
    details = {} if retry_after is None else {"retry_after": retry_after}
    error = api_error(ErrorBody(ErrorCode.OVER_CAPACITY, "m", details))
    event = error_event("responses", error, "r", "kimi")
    response = orjson.loads(event.split(b"data: ", 1)[1])["response"]
    assert (response["error"]["code"], response["model"]) == (code, "kimi")
    assert ("try again in 2s" in response["error"]["message"]) is (retry_after is not None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(413, "request_too_large"), (503, "overloaded_error"), (431, "invalid_request_error")],
)
def test_the_servers_own_refusals(status: int, kind: str) -> None:
    error = refused_by_server(status, "words")
    assert (error.status, error.kind) == (status, kind)
