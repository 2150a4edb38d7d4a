"""`exai providers explain`: how a saved response would be treated."""

from __future__ import annotations

import gzip
import json
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.daemon.cli.explain import explanation, parse_response, rule_rows
from exai_actors.wire.openai.refusal_rules import RULES
from tests.daemon.processes import exai

NOW = 1_795_521_600.0
BODY = b'{"error": {"message": "Rate limit exceeded"}}'


def explained(status: int, body: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return explanation(status, headers or {}, body, model="m", now=NOW)


@pytest.mark.parametrize(
    ("raw", "status", "headers", "body"),
    [
        (b"HTTP/1.1 429 Slow\r\nA: 1\r\nB:2\r\n\r\n" + BODY, 429, {"A": "1", "B": "2"}, BODY),
        (b"HTTP/2 429\nA: 1\n\n" + BODY, 429, {"A": "1"}, BODY),
        (b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/2 429 \r\n\r\nx", 429, {}, b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500\r\n\r\n", 500, {}, b""),
        (b"HTTP/1.1 429 x\n\na\r\n\r\nb", 429, {}, b"a\r\n\r\nb"),
        (b"HTTP/1.1 429", 429, {}, b""),
        (b"HTTP/1.1 what\r\n\r\n", None, {}, b""),
        (BODY, None, {}, BODY),
        (b"", None, {}, b""),
        (b"\xef\xbb\xbfHTTP/1.1 429\r\nA: 1\r\n\r\nx", 429, {"A": "1"}, b"x"),
        (b"\r\n\nHTTP/1.1 429\r\n\r\n x", 429, {}, b" x"),
        ("HTTP/1.1 429\r\nA: 1\r\n\r\nx".encode("utf-16"), 429, {"A": "1"}, b"x"),
        (b"\n" + BODY, None, {}, b"\n" + BODY),
    ],
)
def test_the_last_response_of_curls_output_counts(
    raw: bytes, status: int | None, headers: dict[str, str], body: bytes
) -> None:
    assert parse_response(raw) == (status, headers, body)


def test_a_plans_window_is_explained() -> None:
    date = formatdate(NOW - 7200, usegmt=True)
    body = b'{"error": {"code": "1308", "message": "Your limit will reset at 2026-11-24 20:00:00"}}'
    rows = explained(429, body, {"Date": date})
    assert rows["rule"] == "glm.1308"
    assert rows["kind"] == "quota"
    assert (rows["limit"], rows["scope"]) == ("window", "account")
    assert rows["hold"].startswith("the account, for 7,20")
    assert "one call is tried every 3,600 s" in rows["hold"]
    assert rows["retry"] == "no"
    assert rows["route"] == 'continues if its `on` has "quota"'
    assert rows["clock"].startswith("the service's is -7,200 s")
    assert rows["client"].startswith("PROVIDER_ERROR: provider 'NAME': answered HTTP 429")
    assert rows["details"]["retry_after"] == 7200.0


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, BODY, {"kind": "rate_limited", "scope": "model", "retry": "yes, after the hold"}),
        (500, b"", {"kind": "server_error", "retry": "yes, after a short backoff", "hold": "none"}),
        (400, b"{}", {"kind": "rejected", "retry": "no", "circuit": "does not count"}),
        (418, b"{}", {"kind": "rejected", "limit": ""}),
        (200, b"<html>", {"kind": "malformed", "circuit": "does not count"}),
        (200, b'{"error": {"message": "Insufficient balance"}}', {"kind": "quota"}),
        (200, b'data: {"error": {"code": 429}}\n\n', {"kind": "rate_limited"}),
        (200, b'{"choices": [{"message": {"content": "hi"}}]}', {"result": "an answer"}),
    ],
)
def test_every_kind_of_response_is_explained(
    status: int, body: bytes, expected: dict[str, Any]
) -> None:
    rows = explained(status, body)
    assert expected.items() <= rows.items(), rows


ANSWER = b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize("body", [gzip.compress(ANSWER), ANSWER], ids=["compressed", "plain"])
def test_a_compressed_body_is_read_as_by_the_broker(body: bytes) -> None:
    rows = explained(200, body, {"content-encoding": "gzip"})
    assert rows["result"] == "an answer"


def test_of_two_headers_the_longer_wait_counts() -> None:
    status, headers, body = parse_response(
        b"HTTP/1.1 429\r\nRetry-After: 50\r\nRetry-After: 3\r\n\r\n"
    )
    assert status == 429
    assert explanation(429, headers, body, model="m", now=NOW)["details"]["retry_after"] == 50.0


@pytest.mark.parametrize(
    ("status", "message", "form"),
    [
        (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'", "max_completion"),
        (400, "unknown field stream_options", "without stream_options"),
        (501, "streaming is not supported", "without it"),
        (200, "stream not supported", "without it"),
    ],
)
def test_a_refused_argument_is_explained(status: int, message: str, form: str) -> None:
    body = json.dumps({"error": {"message": message}}).encode()
    assert form in explained(status, body)["form"]


def test_a_refusal_of_something_else_has_no_other_form() -> None:
    assert "form" not in explained(429, BODY)
    assert "form" not in explained(400, b'{"error": {"message": "temperature is too high"}}')


def test_a_default_is_marked_as_one() -> None:
    assert "nothing in it was recognised" in explained(418, b"")["rule"]
    assert "recognised" not in explained(401, b"")["rule"]


def test_an_exhausted_limit_beside_an_answer_is_explained() -> None:
    body = b'{"choices": [{"message": {"content": "hi"}}]}'
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}
    assert explained(200, body, headers)["hold"] == "the model, for 30 s (headers)"


async def test_the_command_reads_a_file_or_stdin(tmp_path: Path) -> None:
    file = tmp_path / "response.txt"
    file.write_bytes(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n" + BODY)
    result = await exai("providers", "explain", str(file))
    assert result.code == 0, result.err
    assert "rule     rate.phrase" in result.out
    result = await exai("providers", "explain", "-", "--status", "402", "--json", stdin=b"{}")
    assert json.loads(result.out)["kind"] == "quota"


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("-",), BODY, "name the status with --status"),
        ((), b"", "name the FILE"),
        (("/no/such/file",), b"", "No such file"),
        (("-", "--status", "5"), b"", "100<=x<=999"),
    ],
)
async def test_what_cannot_be_explained_says_why(
    arguments: tuple[str, ...], stdin: bytes, said: str
) -> None:
    result = await exai("providers", "explain", *arguments, stdin=stdin)
    assert result.code == 2
    assert said in result.err


async def test_the_rules_can_be_listed() -> None:
    result = await exai("providers", "explain", "--rules")
    assert result.code == 0
    assert "glm.1113 (GLM): code 1113 -> quota, account" in result.out


def test_the_table_says_of_each_rule_whether_it_is_retried() -> None:
    rows = {row["name"]: row for row in rule_rows()}
    assert len(rows) == len(RULES) + 5
    for rule in RULES:
        may_be_retried = rule.kind in (
            FailureKind.RATE_LIMITED,
            FailureKind.OVERLOADED,
            FailureKind.SERVER_ERROR,
        )
        assert rows[rule.name]["retryable"] is (may_be_retried and rule.holder.value != "request")
