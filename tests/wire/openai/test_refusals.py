"""Refusals as the public has reported them, each with its source, and others of their kinds."""

from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import Completion, UpstreamFailure
from exai_actors.wire.openai.completions import parse_completion
from exai_actors.wire.openai.errors import classify_error, classify_response
from exai_actors.wire.openai.wait_phrases import MAX_WAIT_S

CASES = Path(__file__).parents[2] / "cases" / "refusals"
REPORTED: list[dict[str, Any]] = orjson.loads((CASES / "reported.json").read_bytes())
FURTHER: list[dict[str, Any]] = orjson.loads((CASES / "further.json").read_bytes())
FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
NOW = 1_795_521_600.0
"""2026-11-24 12:00 UTC."""


def classify(case: dict[str, Any]) -> UpstreamFailure:
    body = case["body"]
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return classify_response(
        case["status"], case.get("headers", {}), raw, now=NOW, model=case.get("model", "")
    )


def understood(failure: UpstreamFailure) -> dict[str, Any]:
    return {
        "kind": failure.kind.value,
        "holder": failure.holder.value,
        "scope": failure.scope and failure.scope.value,
        "retry_after": failure.retry_after,
    }


def test_at_least_60_whole_bodies_have_public_sources() -> None:
    """``given``: the source has the whole body, abridged it, or has its message only."""
    assert all(case["source"].startswith("https://") for case in REPORTED)
    whole = {case["source"] for case in REPORTED if case["given"] == "whole"}
    assert len(whole) >= 60


@pytest.mark.parametrize("case", REPORTED, ids=lambda case: case["source"].split("/", 3)[3])
def test_a_reported_refusal_is_understood(case: dict[str, Any]) -> None:
    failure = classify(case)
    assert understood(failure) == case["expect"], failure
    assert failure.recognised, failure


@pytest.mark.parametrize("case", FURTHER, ids=lambda case: str(case["body"])[:60])
def test_a_further_refusal_of_these_kinds_is_understood(case: dict[str, Any]) -> None:
    found = understood(classify({"model": "mm", **case}))
    assert {name: found[name] for name in case["expect"]} == case["expect"]


MONEY = "Insufficient balance"
ENVELOPES: dict[str, Callable[[str, str], Any]] = {
    "error": lambda text, code: {"error": {"message": text, "code": code}},
    "list": lambda text, code: [{"error": {"message": text, "code": code}}],
    "anthropic": lambda text, code: {"type": "error", "error": {"type": code, "message": text}},
    "flat": lambda text, code: {"code": code, "msg": text},
    "object": lambda text, code: {"object": "error", "type": code, "message": text},
    "text in error": lambda text, _: {"error": text},
    "detail": lambda text, _: {"detail": text},
    "plain": lambda text, _: text,
    "openrouter": lambda text, code: {
        "error": {
            "message": "Provider returned error",
            "metadata": {"raw": orjson.dumps({"error": {"message": text, "code": code}}).decode()},
        }
    },
    "within a message": lambda text, code: {
        "error": {"message": f'upstream: {{"error": {{"message": "{text}", "code": "{code}"}}}} !'}
    },
    "two deep": lambda text, code: {"error": {"error": {"message": text, "code": code}}},
}


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 412, 422, 429, 500, 502, 503, 529])
def test_exhausted_money_is_quota_under_any_status(status: int, envelope: str) -> None:
    body = ENVELOPES[envelope](MONEY, "x")
    failure = classify({"status": status, "body": body})
    assert (failure.kind.value, failure.holder.value) == ("quota", "account")
    assert "api_key_env" not in failure.message


@pytest.mark.parametrize(
    "envelope", sorted(ENVELOPES.keys() - {"text in error", "detail", "plain"})
)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
def test_a_code_of_money_counts_whatever_the_message(status: int, envelope: str) -> None:
    failure = classify({"status": status, "body": ENVELOPES[envelope]("no", "insufficient_quota")})
    assert failure.kind.value == "quota"


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
def test_a_rate_is_one_under_any_status(status: int, envelope: str) -> None:
    body = ENVELOPES[envelope]("Rate limit exceeded, try again in 9 seconds", "x")
    failure = classify({"status": status, "body": body})
    assert (failure.kind.value, failure.retry_after) == ("rate_limited", 9.0)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "quota"),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate_limited"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "unauthorized"),
        (
            {"choices": None, "base_resp": {"status_code": 2056, "status_msg": "used up"}},
            "quota",
        ),
        ({"object": "error", "message": "Insufficient balance", "code": 402}, "quota"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overloaded"),
        ({"detail": "Rate limit exceeded"}, "rate_limited"),
        ({"code": "1113", "msg": "no money"}, "quota"),
        ({"code": 429, "message": "slow down"}, "rate_limited"),
        ({"success": False, "message": "Insufficient balance"}, "quota"),
        ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, "server_error"),
        ({"error": {"message": "", "code": None}, "choices": []}, "malformed"),
    ],
)
def test_an_error_with_status_200_is_understood(body: Any, kind: str) -> None:
    failure = parse_completion(orjson.dumps(body), "m", now=NOW)
    assert isinstance(failure, UpstreamFailure)
    assert failure.kind.value == kind


@pytest.mark.parametrize(
    "beside",
    [
        {"error": {"code": None, "message": ""}},
        {"error": None},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"code": 200, "msg": "ok", "success": True},
        {"code": 0, "message": ""},
        {"detail": "x", "type": "chat"},
    ],
)
def test_no_error_is_seen_beside_a_good_answer(beside: dict[str, Any]) -> None:
    choices = [{"message": {"content": "hi"}, "finish_reason": "stop"}]
    result = parse_completion(orjson.dumps({"choices": choices, **beside}), "m", now=NOW)
    assert isinstance(result, Completion)


@pytest.mark.parametrize(
    "error",
    [
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        {"code": 402, "message": "pay first"},
        {"type": "CreditsError", "message": "no"},
        {"message": "账户余额不足"},
        {"message": "weekly usage limit reached, resets at 2026-11-25T00:00:00Z"},
    ],
)
def test_money_and_windows_within_an_answer_are_quota(error: Any) -> None:
    assert classify_error(error, now=NOW).kind.value == "quota"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "Invalid prompt: 'my insufficient balance is in arrears'"}}),
        (400, {"error": {"message": "Blocked text: insufficient balance,余额不足"}}),
        (400, {"error": {"message": "unknown field: usage limit. Insufficient credits"}}),
        (400, {"error": {"message": "bad", "param": "insufficient_quota", "input": "usage limit"}}),
        (422, {"detail": [{"msg": "field required", "input": "insufficient balance"}]}),
        (422, {"detail": [{"msg": "too long", "ctx": {"error": "usage limit reached"}}]}),
        (404, {"error": {"message": 'the model "exceeded your current quota" does not exist'}}),
        (413, {"error": {"message": "Request larger than 1 MB: usage limit usage limit"}}),
        (400, "the prompt says: insufficient balance"),
        (400, {"error": {"message": "content", "details": {"prompt": "budget has been exceeded"}}}),
    ],
)
def test_words_of_a_prompt_do_not_count(status: int, body: Any) -> None:
    failure = classify({"status": status, "body": body})
    assert failure.kind.value in ("rejected", "not_found", "model_not_found"), failure


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        ({"retry_after": 7}, 7.0),
        ({"retry_after": "7.5"}, 7.5),
        ({"retryAfter": "34s"}, 34.0),
        ({"retry_after_ms": 1500}, 1.5),
        ({"retryAfterMilliseconds": 2500}, 2.5),
        ({"retry-after": "1h2m"}, 3720.0),
        ({"reset_at": "2026-11-24T12:00:30Z"}, 30.0),
        ({"resetAt": NOW + 60}, 60.0),
        ({"reset_time": (NOW + 60) * 1000}, 60.0),
        ({"resets_in_seconds": 13872}, 13872.0),
        ({"cooldown_seconds": 12}, 12.0),
        ({"retryDelay": {"seconds": 34, "nanos": 5}}, 34.0),
        ({"reset_after": "PT1M30S"}, 90.0),
        ({"wait_time": "00:01:05"}, 65.0),
        ({"quotaResetDelay": "1h2m3.5s"}, 3723.5),
        ({"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}, 34.5),
        ({"data": {"limit": {"retry_after_seconds": 9}}}, 9.0),
        ({"metadata": {"headers": {"Retry-After": "20"}}}, 20.0),
        (
            {
                "metadata": {
                    "headers": {
                        "X-RateLimit-Limit": "50",
                        "X-RateLimit-Remaining": "0",
                        "X-RateLimit-Reset": str(int(NOW + 40) * 1000),
                    }
                }
            },
            40.0,
        ),
        ({"metadata": {"raw": '{"error": {"retry_after": 11}}'}}, 11.0),
        ({"message": 'Error code: 429 - {"error": {"retry_after": 12}}'}, 12.0),
        ({"retry_after": 7, "reset_at": NOW + 30}, 30.0),
        ({"retry_after": None, "reset": True, "retries": 5, "timeout": 90}, None),
        ({"retry_after": -5, "limit": 100, "reset_at": "soon"}, None),
        ({"input": {"retry_after": 500}, "messages": [{"retry_after": 500}]}, None),
    ],
)
@pytest.mark.parametrize("wrap", [lambda e: {"error": e}, lambda e: [{"error": e}], lambda e: e])
def test_a_wait_in_the_body_is_read(error: dict[str, Any], wait_s: float | None, wrap: Any) -> None:
    body = wrap({"message": "slow down", **error})
    assert classify({"status": 429, "body": body}).retry_after == wait_s


SKEWS = [-86_400.0, -3600.0, 0.0, 3600.0, 1e7]


@pytest.mark.parametrize("skew_s", SKEWS)
@pytest.mark.parametrize(
    "limit",
    [
        lambda at: ({"Retry-After": formatdate(at, usegmt=True)}, "slow down"),
        lambda at: ({"retry-after": str(int(at))}, "slow down"),
        lambda at: (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": str(int(at))},
            "slow down",
        ),
        lambda at: ({}, {"error": {"message": "slow down", "reset_at": at}}),
        lambda at: ({}, f"slow down, limit resets at {int(at)}"),
    ],
)
def test_instants_are_compared_with_the_clock_of_the_service(limit: Any, skew_s: float) -> None:
    service_now = NOW + skew_s
    headers, body = limit(service_now + 5)
    headers = {**headers, "Date": formatdate(service_now, usegmt=True)}
    assert classify({"status": 429, "headers": headers, "body": body}).retry_after == 5.0


def test_without_a_date_our_own_clock_counts() -> None:
    for date in ({}, {"Date": "yesterday"}):
        headers = {"Retry-After": formatdate(NOW + 5, usegmt=True), **date}
        assert classify({"status": 429, "headers": headers, "body": ""}).retry_after == 5.0


@pytest.mark.parametrize(
    ("message", "model", "holder"),
    [
        ("requests per day (RPD) for model `big`", "", "model"),
        ("Rate limit exceeded", "", "model"),
        ("Rate limit exceeded for your organization", "", "account"),
        ("your account has reached its rate limit", "", "account"),
        ("rate limit of the account for the model reached", "", "model"),
        ("rate limit exceeded for all models", "", "account"),
        ("organization rate limit: glm-5-air has too many requests", "glm-5-air", "model"),
        ("per-model rate limit", "", "model"),
        ("rate limit of this API key", "", "account"),
        ("rate limit of the workspace", "", "account"),
    ],
)
def test_the_message_says_whose_limit_it_is(message: str, model: str, holder: str) -> None:
    body = {"error": {"message": message}}
    assert classify({"status": 429, "body": body, "model": model}).holder.value == holder


@pytest.mark.parametrize(
    ("status", "body", "recognised"),
    [
        (429, "", True),
        (429, {"error": {"message": "Too Many Requests"}}, True),
        (429, {"error": {"message": "rate limit"}}, True),
        (429, {"error": {"message": "the hamster is tired"}}, False),
        (429, {"error": {"message": "the hamster is tired", "retry_after": 5}}, True),
        (403, {"error": {"message": "the hamster says no"}}, False),
        (402, {"error": {"message": "feed the hamster"}}, False),
        (418, {"error": {"message": "teapot"}}, False),
        (599, "", False),
        (500, {"error": {"message": "the hamster fell over"}}, True),
        (401, {"error": {"message": "who are you"}}, True),
    ],
)
def test_only_what_is_unclear_counts_as_unrecognised(
    status: int, body: Any, recognised: bool
) -> None:
    assert classify({"status": status, "body": body}).recognised is recognised


FIREWALL = "a firewall or proxy refuses this machine"
BASE_URL = "check base_url, which usually ends in /v1"
TOO_LARGE = "the request is too large for the service, or for a proxy before it"
KEY = "check the key in the variable that api_key_env names"


def page(title: str) -> str:
    return f"<html><title>{title}</title></html>"


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (403, page("Just a moment..."), FIREWALL),
        (403, page("403 Forbidden"), FIREWALL),
        (429, page("Attention Required! | Cloudflare"), FIREWALL),
        (503, page("Just a moment..."), FIREWALL),
        (401, page("Login"), "a proxy or gateway before the service wants a login"),
        (413, page("413 Request Entity Too Large"), TOO_LARGE),
        (413, "too big", TOO_LARGE),
        (413, {"error": {"message": "payload"}}, TOO_LARGE),
        (413, "", TOO_LARGE),
        (404, page("404 Not Found"), BASE_URL),
        (404, "404 page not found", BASE_URL),
        (404, {"detail": "Not Found"}, BASE_URL),
        (404, {"error": {"message": "Invalid URL (POST /chat/completions)"}}, BASE_URL),
        (404, {"error": 'path "/chat/completions" not found'}, BASE_URL),
        (404, {"message": "Cannot POST /chat/completions"}, BASE_URL),
        (404, {"code": 500, "msg": "404 NOT_FOUND"}, BASE_URL),
        (404, "", BASE_URL),
        (405, {"detail": "Method Not Allowed"}, BASE_URL),
        (400, page("400 The plain HTTP request was sent to HTTPS port"), "its scheme, its port"),
        (401, {"error": {"message": "Invalid key"}}, KEY),
        (401, "", KEY),
        (403, {"error": {"message": "key may not do that"}}, KEY),
        (403, "", KEY),
        (403, {"error": {"code": "unsupported_country_region_territory"}}, "country or network"),
        (407, page("Proxy login"), "check user and password of the proxy"),
        (502, page("502 Bad Gateway"), "a proxy before the service got no answer"),
        (504, page("504 Gateway Time-out"), "waited for it in vain"),
        (521, page("Web server is down"), "could not reach it"),
        (431, page("Request Header Fields Too Large"), "headers are too large"),
        (200, page("Welcome to nginx!"), BASE_URL),
    ],
)
def test_the_message_says_what_to_check(status: int, body: Any, advice: str) -> None:
    headers = {"Content-Type": "text/html"} if str(body).startswith("<html") else {}
    message = classify({"status": status, "headers": headers, "body": body}).message
    assert advice in message, message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"message": "model 'llama9' not found, try pulling it first"}}),
        (404, {"error": {"message": "The model `gone` does not exist", "code": "model_not_found"}}),
        (500, {"error": {"message": "CUDA out of memory"}}),
        (400, {"error": {"message": "temperature must be at most 2"}}),
        (429, {"error": {"message": "rate limit"}}),
        (503, ""),
    ],
)
def test_no_advice_is_given_where_none_is_sure(status: int, body: Any) -> None:
    assert "; " not in classify({"status": status, "body": body}).message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["insufficient_quota", "1h2m", "2026-11-24 20:00:00", '{"error": {}}', "1e999"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "code",
                    "type",
                    "detail",
                    "details",
                    "metadata",
                    "raw",
                    "msg",
                    "headers",
                    "retry_after",
                    "reset_at",
                    "retryDelay",
                    "base_resp",
                    "status_code",
                    "status_msg",
                    "choices",
                    "success",
                    "seconds",
                    "Retry-After",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.sampled_from([0, 200, 400, 404, 429, 500, 777]), JSON)
def test_any_json_is_understood_somehow(status: int, body: Any) -> None:
    failure = classify({"status": status, "body": orjson.dumps(body).decode()})
    assert failure.retry_after is None or 0 <= failure.retry_after <= MAX_WAIT_S
    assert len(failure.message.splitlines()) == 1
    classify_error(body, now=NOW)
    parse_completion(orjson.dumps(body), "m", now=NOW)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "retry" + " " * 8000,
        "retry in" * 1000,
        "1" * 8000,
        "1 " * 4000,
        "1.1." * 2000,
        "\N{LEFT DOUBLE QUOTATION MARK}" * 8000,
        "'" * 8000,
        '"a' * 4000,
        "{" * 8000,
        '{"a":' * 1500,
        "Error" * 1600,
        "reset" * 1600,
        "request too large for " * 360,
        "user quota " * 700,
        "in 1 " * 1600,
    ],
)
def test_no_message_takes_long_to_read(text: str) -> None:
    # The timeout is the test: a pattern that backtracks takes longer by powers of ten.
    body = {"error": {"message": text}}
    for status in (400, 404, 429):
        classify({"status": status, "body": body})
