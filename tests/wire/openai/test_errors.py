"""What a refusal means, by status and by the service's own words."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.wire.openai.errors import Redactor, classify_response
from exai_actors.wire.openai.rate_headers import retry_after

SECRET = "sk-very-secret-0123456789"
KIMI = Redactor(SECRET)
NOW = 784_111_777.0 - 30


def classify(
    status: int, body: Any = b"", headers: dict[str, str] | None = None
) -> UpstreamFailure:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return classify_response(status, CIMultiDict(headers or {}), raw, now=NOW, redactor=KIMI)


def error(**told: Any) -> dict[str, Any]:
    return {"error": {"message": "because", **told}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, error(), FailureKind.UNAUTHORIZED),
        (403, error(), FailureKind.UNAUTHORIZED),
        (403, error(type="exceeded_current_quota_error"), FailureKind.QUOTA),
        (403, {"error": {"message": "reached your usage limit for this"}}, FailureKind.QUOTA),
        (402, error(), FailureKind.QUOTA),
        (404, error(), FailureKind.NOT_FOUND),
        (400, error(code="model_not_found"), FailureKind.NOT_FOUND),
        (400, error(code="1211"), FailureKind.NOT_FOUND),
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
def test_status_and_code_decide_the_kind(status: int, body: Any, kind: FailureKind) -> None:
    failure = classify(status, body)
    assert failure.kind is kind
    assert failure.status == status


@pytest.mark.parametrize(
    ("body", "said"),
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
def test_the_message_is_in_the_services_own_words(body: Any, said: str) -> None:
    assert classify(500, body).message == said


def test_of_a_header_and_a_text_the_longer_time_counts() -> None:
    told = error(message="please try again after 20 seconds")
    assert classify(429, told, {"Retry-After": "1"}).retry_after == 20.0
    assert classify(429, told, {"Retry-After": "30"}).retry_after == 30.0


def test_a_time_that_has_passed_is_no_time_where_another_is_told() -> None:
    headers = {
        "Retry-After": "Sun, 06 Nov 1994 08:00:00 GMT",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "9",
    }
    assert classify(429, b"", headers).retry_after == 9.0


def test_a_model_that_the_plan_does_not_include_is_not_blamed_on_the_key() -> None:
    assert "api_key_env" not in classify(429, error(code="1311")).message


def test_a_web_page_is_named_by_its_title_and_points_at_the_base_url() -> None:
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


@pytest.mark.parametrize("piece", [SECRET[:12], SECRET[3:15], SECRET[-10:], SECRET[:-1]])
def test_a_piece_of_a_key_is_not_repeated_either(piece: str) -> None:
    message = Redactor(SECRET).redact_excerpt(
        f"Invalid header: b'{piece}' ^ and b'{SECRET[5:14]}' ^"
    )
    assert message == "Invalid header: b'[secret]' ^ and b'[secret]' ^"


def test_a_key_that_looks_like_what_it_is_replaced_by_is_no_trouble() -> None:
    assert Redactor("[secret]-1").redact_excerpt("it was [secret]-1") == "it was [secret]"


def test_a_proxy_that_refuses_is_not_blamed_on_the_key() -> None:
    message = classify(407, b"").message
    assert message.endswith("; check user and password of the proxy that the environment names")


def test_a_refused_key_names_where_the_key_comes_from() -> None:
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
def test_a_key_that_the_service_echoes_is_not_repeated(body: Any) -> None:
    message = classify(401, body, {"Location": SECRET}).message
    assert SECRET not in message
    assert SECRET[:8] not in message


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "body",
    [b"<title>" * 40_000, b"<title" * 40_000, error(message="try again in 1s" * 2_000_000)],
    ids=["titles", "halves of titles", "a message"],
)
def test_odd_megabytes_are_read_in_no_time(body: Any) -> None:
    assert classify(429, body).kind is FailureKind.RATE_LIMITED


def test_long_words_are_shortened() -> None:
    assert len(classify(500, error(message="long " * 10_000)).message) < 350


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 30.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:00:00 GMT"}, 0.0),
        ({"Retry-After": "Sun Nov  6 08:49:37 1994"}, 30.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"retry-after-ms": "250", "Retry-After": "30"}, 30.0),
        ({"retry-after-ms": "30000", "Retry-After": "1"}, 30.0),
        ({"retry-after-ms": "soon", "Retry-After": "1"}, 1.0),
        ({"Retry-After": "1m30s"}, 90.0),
        ({"Retry-After": "1e300"}, 604_800.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 +99999999999999999999"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(CIMultiDict(headers), now=NOW) == seconds
    assert classify(429, b"", headers).retry_after == seconds


@given(
    st.integers(100, 999),
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=()), max_size=30),
)
def test_any_response_is_one_failure_with_a_one_line_message(
    status: int, body: bytes, told: str
) -> None:
    failure = classify(status, body, {"Retry-After": told, "Location": told, "Content-Type": told})
    assert failure.message.startswith("answered HTTP ")
    assert len(failure.message.splitlines()) == 1
    failure.message.encode()
