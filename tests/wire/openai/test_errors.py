"""The failure that a refusal means, by status, codes, headers and message."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.wire.openai.errors import classify_response
from exai_actors.wire.openai.redaction import Redactor

SECRET = "sk-very-secret-0123456789"
KIMI = Redactor(SECRET)
FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
"""Refusals as the services' public pages show them, each with its source."""
NOW = 1_795_521_600.0
"""2026-11-24 12:00 UTC, 20:00 in Beijing."""


def classify(
    status: int, body: Any = b"", headers: dict[str, str] | None = None
) -> UpstreamFailure:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return classify_response(status, CIMultiDict(headers or {}), raw, now=NOW, redactor=KIMI)


def error(**fields: Any) -> dict[str, Any]:
    return {"error": {"message": "because", **fields}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, error(), FailureKind.UNAUTHORIZED),
        (403, error(), FailureKind.UNAUTHORIZED),
        (403, error(type="exceeded_current_quota_error"), FailureKind.QUOTA),
        (403, {"error": {"message": "reached your usage limit for this"}}, FailureKind.QUOTA),
        (402, error(), FailureKind.QUOTA),
        (402, error(code="1302"), FailureKind.RATE_LIMITED),
        (404, error(), FailureKind.NOT_FOUND),
        (400, error(code="model_not_found"), FailureKind.MODEL_NOT_FOUND),
        (400, error(code="1211"), FailureKind.MODEL_NOT_FOUND),
        (400, error(type="invalid_request_error"), FailureKind.REJECTED),
        (413, b"", FailureKind.REJECTED),
        (422, {"detail": [{"msg": "field required"}]}, FailureKind.REJECTED),
        (408, b"", FailureKind.TIMEOUT),
        (409, error(), FailureKind.SERVER_ERROR),
        (429, error(type="rate_limit_reached_error"), FailureKind.RATE_LIMITED),
        (429, error(type="engine_overloaded_error"), FailureKind.OVERLOADED),
        (429, error(type="exceeded_current_quota_error"), FailureKind.QUOTA),
        (429, error(code="insufficient_quota"), FailureKind.QUOTA),
        (429, error(code="1302"), FailureKind.RATE_LIMITED),
        (429, error(code="1113"), FailureKind.QUOTA),
        (429, error(code=1308), FailureKind.QUOTA),
        (429, b"", FailureKind.RATE_LIMITED),
        (429, b"<html>busy</html>", FailureKind.RATE_LIMITED),
        (429, [{"error": {"code": 429, "message": "exhausted"}}], FailureKind.RATE_LIMITED),
        (429, {"error": "the model is overloaded"}, FailureKind.OVERLOADED),
        (429, {"error": {"message": "账户余额不足"}}, FailureKind.QUOTA),
        (429, {"error": {"message": '{"type": "insufficient_quota"}'}}, FailureKind.QUOTA),
        (429, {"message": "You exceeded your current quota"}, FailureKind.QUOTA),
        (
            429,
            {"error": "You exceeded your current quota. Please retry in 20s."},
            FailureKind.RATE_LIMITED,
        ),
        (500, error(), FailureKind.SERVER_ERROR),
        (502, b"<html>", FailureKind.SERVER_ERROR),
        (503, error(), FailureKind.OVERLOADED),
        (504, b"", FailureKind.TIMEOUT),
        (529, error(), FailureKind.OVERLOADED),
        (200, b"<html>", FailureKind.MALFORMED),
        (301, b"", FailureKind.REJECTED),
        (600, b"", FailureKind.SERVER_ERROR),
    ],
)
def test_status_codes_and_message_decide_the_kind(
    status: int, body: Any, kind: FailureKind
) -> None:
    failure = classify(status, body)
    assert failure.kind is kind
    assert failure.status == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (error(), "answered HTTP 500: because"),
        ([error()], "answered HTTP 500: because"),
        ({"error": "plain"}, "answered HTTP 500: plain"),
        ({"detail": "not today"}, "answered HTTP 500: not today"),
        ({"message": "top level"}, "answered HTTP 500: top level"),
        ({"code": 500, "msg": "404 NOT_FOUND"}, "answered HTTP 500: 404 NOT_FOUND"),
        ({"odd": [1]}, 'answered HTTP 500: {"odd":[1]}'),
        (b"no\x00 JSON\n at all", "answered HTTP 500: no JSON at all"),
        (b"", "answered HTTP 500 with an empty body"),
        (b"\xff\xfe", "answered HTTP 500: \ufffd\ufffd"),
    ],
)
def test_the_failure_quotes_the_services_message(body: Any, message: str) -> None:
    assert classify(500, body).message == message


def test_a_deeply_nested_error_is_classified() -> None:
    body = b'{"error": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert classify(500, body).kind is FailureKind.SERVER_ERROR


def test_the_longer_wait_of_header_and_message_counts() -> None:
    body = error(message="please try again after 20 seconds")
    assert classify(429, body, {"Retry-After": "1"}).retry_after == 20.0
    assert classify(429, body, {"Retry-After": "30"}).retry_after == 30.0


@pytest.mark.parametrize(
    ("body", "wait_s", "kind"),
    [
        (error(message="max TPD reached"), "120", FailureKind.RATE_LIMITED),
        (error(message="max TPD reached"), "121", FailureKind.QUOTA),
        (error(message="usage limit reached"), "120", FailureKind.RATE_LIMITED),
        (error(message="usage limit reached"), "121", FailureKind.QUOTA),
        (error(code="insufficient_quota"), "120", FailureKind.QUOTA),
        (error(code="1313"), "120", FailureKind.QUOTA),
        (error(code="1302"), "9000", FailureKind.RATE_LIMITED),
    ],
)
def test_a_short_wait_makes_a_rate_of_a_quota_known_by_its_message(
    body: Any, wait_s: str, kind: FailureKind
) -> None:
    failure = classify(429, body, {"Retry-After": wait_s})
    assert (failure.kind, failure.retry_after) == (kind, float(wait_s))


@pytest.mark.parametrize("status", [429, 500])
def test_a_retry_after_alone_is_kept(status: int) -> None:
    past = {"Retry-After": "Tue, 24 Nov 2026 11:00:00 GMT"}
    assert classify(status, b"", past).retry_after == 0.0
    assert classify(status, b"", {"Retry-After": "3"}).retry_after == 3.0
    assert classify(status, b"").retry_after is None


def test_a_retry_after_in_the_past_yields_to_another_wait() -> None:
    headers = {
        "Retry-After": "Sun, 06 Nov 1994 08:00:00 GMT",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "9",
    }
    assert classify(429, b"", headers).retry_after == 9.0


def test_a_model_outside_the_plan_is_not_blamed_on_the_key() -> None:
    assert "api_key_env" not in classify(429, error(code="1311")).message


def test_a_web_page_is_named_by_its_title() -> None:
    page = b"<!doctype html><TITLE>\n Welcome to nginx! </TITLE><p>lots</p>"
    message = classify(404, page, {"Content-Type": "text/html"}).message
    assert message == (
        "answered HTTP 404 with a web page titled 'Welcome to nginx!' where JSON was expected;"
        " check base_url, which usually ends in /v1"
    )


def test_a_redirect_names_its_target() -> None:
    message = classify(308, b"", {"Location": "https://elsewhere.example/v1"}).message
    assert message == (
        "answered HTTP 308, a redirect to https://elsewhere.example/v1;"
        " set base_url to the address it redirects to"
    )


def test_a_refusing_proxy_is_not_blamed_on_the_key() -> None:
    message = classify(407, b"").message
    assert message.endswith("; check user and password of the proxy that the environment names")


def test_a_refused_key_names_its_setting() -> None:
    assert "api_key_env" in classify(401, error()).message


@pytest.mark.parametrize(
    "body",
    [
        error(message=f"Incorrect API key provided: {SECRET}"),
        {"error": SECRET},
        {"odd": SECRET},
        f"<title>{SECRET}</title>".encode(),
        f"Bearer {SECRET}".encode(),
        f"cut off within Bearer {SECRET[:-1]}".encode(),
        f"cut off within Bearer {SECRET[:8]}".encode(),
        error(message="x" * 290 + SECRET),
        error(message="x" * 1190 + SECRET),
    ],
)
def test_a_key_echoed_by_the_service_is_redacted(body: Any) -> None:
    message = classify(401, body, {"Location": SECRET}).message
    assert SECRET not in message
    assert SECRET[:8] not in message


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "body",
    [b"<title>" * 40_000, b"<title" * 40_000, error(message="try again in 1s" * 2_000_000)],
    ids=["titles", "halves of titles", "a message"],
)
def test_huge_bodies_are_classified_quickly(body: Any) -> None:
    assert classify(429, body).kind is FailureKind.RATE_LIMITED


def test_long_messages_are_shortened() -> None:
    assert len(classify(500, error(message="long " * 10_000)).message) < 350


@given(
    st.integers(100, 999),
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=()), max_size=30),
)
def test_any_response_is_one_failure_with_a_one_line_message(
    status: int, body: bytes, header: str
) -> None:
    headers = dict.fromkeys(("Retry-After", "Location", "Content-Type"), header)
    failure = classify(status, body, headers)
    assert failure.message.startswith("answered HTTP ")
    assert len(failure.message.splitlines()) == 1
    failure.message.encode()


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_documented_refusal_is_classified(path: Path) -> None:
    fixture: dict[str, Any] = orjson.loads(path.read_bytes())
    assert fixture["source"].startswith("https://")
    failure = classify(fixture["status"], fixture["body"], fixture["headers"])
    scope = failure.scope and failure.scope.value
    assert (failure.kind.value, scope, failure.retry_after) == (
        fixture["kind"],
        fixture["scope"],
        fixture["retry_after"],
    )
