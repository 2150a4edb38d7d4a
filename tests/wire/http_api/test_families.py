"""Whose a request is, how long it may take, and which of its headers the service sees."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.wire.http_api.families import (
    Body,
    Claim,
    claim_of,
    deadline_ms,
    forwarded_headers,
    idempotency_key,
    problem_of_head,
    read_body,
    token_of,
    upstream_path,
)

CLAUDE = orjson.dumps({"device_id": "d", "account_uuid": "", "session_id": "s-1"}).decode()


def claim(fields: dict[str, str], **body: Any) -> Claim:
    named = {name.lower(): value for name, value in fields.items()}
    return claim_of(lambda name: named.get(name.lower()), Body(**body), "10.0.0.1")


def field_of(**fields: str) -> Any:
    named = {name.replace("_", "-").lower(): value for name, value in fields.items()}
    return lambda name: named.get(name.lower())


@pytest.mark.parametrize(
    ("fields", "body", "expected"),
    [
        ({"x-exai-session": "a", "x-claude-code-session-id": "b"}, {}, Claim("exai a")),
        ({"x-exai-session": "a", "x-exai-agent": "b"}, {}, Claim("exai a", "b", is_sub_agent=True)),
        ({"x-claude-code-session-id": "s"}, {}, Claim("claude s")),
        (
            {"x-claude-code-session-id": "s", "x-claude-code-agent-id": "a"},
            {},
            Claim("claude s", "a", is_sub_agent=True),
        ),
        ({"session-id": "s", "thread-id": "s"}, {}, Claim("codex s")),
        ({"session_id": "s"}, {}, Claim("codex s")),
        ({"session-id": "s", "thread-id": "t"}, {}, Claim("codex s", "t", is_sub_agent=True)),
        (
            {
                "session-id": "s",
                "thread-id": "s",
                "x-codex-turn-metadata": '{"thread_source":"subagent_review"}',
            },
            {},
            Claim("codex s", "s", is_sub_agent=True),
        ),
        ({"thread-id": "t", "x-codex-turn-metadata": "{broken"}, {}, Claim("codex t")),
        ({"x-session-id": "ses_1"}, {}, Claim("session ses_1")),
        ({"x-session-affinity": "ses_1"}, {}, Claim("session ses_1")),
        ({}, {"metadata": {"user_id": CLAUDE}}, Claim("claude s-1")),
        (
            {},
            {"metadata": {"user_id": "user_ab_account__session_0123-4567"}},
            Claim("claude 0123-4567"),
        ),
        ({}, {"metadata": {"user_id": "ann"}, "user": "ann"}, Claim("user ann")),
        ({}, {"metadata": "odd", "prompt_cache_key": "k"}, Claim("cache k")),
        ({"X-OpenWebUI-Chat-Id": "c"}, {"user": "u"}, Claim("openwebui c")),
        ({}, {"safety_identifier": "u"}, Claim("user u")),
        ({"User-Agent": "cline/3.0 (x)"}, {}, Claim("peer 10.0.0.1 cline")),
        ({"User-Agent": "curl"}, {"user": ["no", "text"]}, Claim("peer 10.0.0.1 curl")),
        ({"x-exai-session": "x" * 129}, {}, Claim("peer 10.0.0.1 ")),
    ],
)
def test_the_first_sign_of_a_session_counts(
    fields: dict[str, str], body: dict[str, Any], expected: Claim
) -> None:
    assert claim(fields, **body) == expected


@pytest.mark.parametrize(
    ("fields", "streams", "expected"),
    [
        ({}, False, None),
        ({"x_exai_deadline_ms": "1500"}, True, 1500.0),
        ({"x_exai_deadline_ms": "1500", "x_stainless_timeout": "9"}, False, 1500.0),
        ({"x_stainless_timeout": "600"}, False, 598_000.0),
        ({"x_stainless_read_timeout": "600"}, False, 598_000.0),
        ({"x_stainless_timeout": "2"}, False, 1_000.0),
        ({"x_stainless_timeout": "600"}, True, None),
        ({"x_exai_deadline_ms": "-1"}, False, None),
        ({"x_exai_deadline_ms": "inf"}, False, None),
        ({"x_exai_deadline_ms": "nan"}, False, None),
        ({"x_exai_deadline_ms": "1e300"}, False, 86_400_000.0),
        ({"x_stainless_timeout": "NOT_GIVEN"}, False, None),
    ],
)
def test_deadlines(fields: dict[str, str], streams: bool, expected: float | None) -> None:
    assert deadline_ms(field_of(**fields), streams=streams) == expected


def test_headers_that_speak_of_the_client_pass_and_others_stay() -> None:
    passing = [
        (b"User-Agent", b"claude-cli/2.1"),
        (b"anthropic-beta", b"a,b"),
        (b"X-Stainless-Retry-Count", b"0"),
        (b"x-claude-code-session-id", b"s"),
        (b"originator", b"codex"),
    ]
    staying = [
        (b"Authorization", b"Bearer t"),
        (b"X-Api-Key", b"t"),
        (b"Cookie", b"a=b"),
        (b"x-exai-session", b"s"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Host", b"h"),
        (b"Content-Length", b"3"),
        (b"Accept-Encoding", b"gzip"),
        (b"Idempotency-Key", b"k"),
    ]
    mixed = [each for pair in zip(passing, staying, strict=False) for each in pair] + staying[5:]
    found = forwarded_headers(tuple(mixed))
    assert found == tuple((name.decode(), value.decode()) for name, value in passing)


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        ({"Authorization": "Bearer abc"}, "abc"),
        ({"Authorization": "bearer  abc "}, "abc"),
        ({"x_api_key": "abc"}, "abc"),
        ({"Authorization": "Basic abc", "x_api_key": "key"}, "key"),
        ({"Authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_a_token_comes_in_either_header(fields: dict[str, str], token: str | None) -> None:
    assert token_of(field_of(**fields)) == token


def test_a_key_has_a_length() -> None:
    assert idempotency_key(field_of(Idempotency_Key="k" * 200)) == "k" * 200
    assert idempotency_key(field_of(Idempotency_Key="k" * 201)) is None
    assert idempotency_key(field_of(Idempotency_Key="")) is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[]", "JSON object"),
        (b"{", "no valid JSON"),
        (b"\xff", "no valid JSON"),
        (b'{"model":{}}', "'model' is required"),
        (b' {"model":"m","n":1e400}', "Number out of range - at `$.n`"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_cannot_be_used_is_explained(body: bytes, problem: str) -> None:
    found = read_body(body)
    assert isinstance(found, str)
    assert problem in found


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","\xff":1}',
        b'{"\xc3":1,"model":"m"}',
        b'{"model":"m","messages":[{"content":"\xe2\x82"}]}',
        '{"model":"m","a":"\u20ac"}'.encode("utf-16-le"),
    ],
)
def test_a_body_that_is_no_utf_8_is_refused(body: bytes) -> None:
    found = read_body(body)
    assert isinstance(found, str)
    assert "no valid JSON" in found


def test_a_body_may_have_any_text_in_utf_8() -> None:
    found = read_body('{"model":"m","\u20ac":"\U0001f600"}'.encode())
    assert isinstance(found, Body)


def test_odd_members_of_a_body_are_the_services_business() -> None:
    body = b'{"model":"m","stream":"yes","max_tokens":"many","metadata":7,"n":null,"user":[]}'
    found = read_body(body)
    assert isinstance(found, Body)
    assert (found.model, found.limit) == ("m", None)
    limits = read_body(b'{"model":"m","max_tokens":0,"max_completion_tokens":5}')
    assert isinstance(limits, Body)
    assert limits.limit == 5


def test_the_query_of_a_client_passes() -> None:
    assert upstream_path("messages", "beta=true") == "v1/messages?beta=true"
    assert upstream_path("chat", "") == "chat/completions"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, None),
        ({"x_exai_session": "s" * 128, "Idempotency_Key": "k" * 200}, None),
        ({"x_exai_deadline_ms": "1500", "x_stainless_timeout": "soon"}, None),
        (
            {"x_exai_session": "s" * 129},
            "the header x-exai-session has at most 128 characters, not 129",
        ),
        (
            {"Idempotency_Key": "k" * 201},
            "the header idempotency-key has at most 200 characters, not 201",
        ),
        (
            {"x_exai_deadline_ms": "30s"},
            "the header x-exai-deadline-ms is a number of milliseconds above 0, not '30s'",
        ),
        (
            {"x_exai_deadline_ms": "0"},
            "the header x-exai-deadline-ms is a number of milliseconds above 0, not '0'",
        ),
    ],
)
def test_a_header_for_the_broker_that_cannot_be_used_is_named(
    fields: dict[str, str], problem: str | None
) -> None:
    assert problem_of_head(field_of(**fields)) == problem
