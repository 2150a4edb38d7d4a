"""Turns a service's error into one UpstreamFailure.

Error bodies in the field: OpenAI and most others send ``{"error": {"message", "type", "code"}}``;
Ollama and some gateways ``{"error": "text"}``; FastAPI ``{"detail": ...}``; Z.AI ``{"error":
{"code": "1302", "message"}}`` and, from its gateway, ``{"code": 500, "msg": "404 NOT_FOUND"}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.wire.json_encoding import to_json
from exai_actors.wire.openai.classification import LIMIT_KINDS, kind_of, limit_of
from exai_actors.wire.openai.rate_headers import hold_s, retry_after
from exai_actors.wire.openai.redaction import NO_SECRET, Redactor
from exai_actors.wire.openai.reset_times import wait_in_text

MAX_TEXT_CHARS = 8192
"""A longer message or code is cut: a service may send megabytes, and searching blocks the loop."""

_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title>", re.IGNORECASE)
_STATUS = re.compile(r"[45][0-9]{2}")


def classify_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    redactor: Redactor = NO_SECRET,
) -> UpstreamFailure:
    """The failure that a response without an answer means.

    ``headers`` is a case-insensitive mapping, ``body`` may be cut short, ``now`` is the wall clock
    in seconds since 1970.
    """
    error = _error_in(body)
    codes, message = _codes_of(error), _message_of(error)
    wait_s = retry_after(headers, now=now)
    kind = kind_of(status, codes, message)
    scope = None
    if kind in LIMIT_KINDS:
        waits = wait_s or hold_s(headers, now=now), wait_in_text(message, now=now)
        wait_s = max((wait for wait in waits if wait), default=wait_s)
        kind, scope = limit_of(kind, codes, message, wait_s)
    is_page = "html" in headers.get("Content-Type", "") or body.lstrip()[:1] == b"<"
    description = _describe(status, headers, body, error, is_page=is_page, redactor=redactor)
    return UpstreamFailure(
        kind,
        description + _advice(kind, status, is_page=is_page),
        status=status,
        retry_after=wait_s,
        scope=scope,
    )


def classify_error(
    error: Any, *, now: float | None = None, redactor: Redactor = NO_SECRET
) -> UpstreamFailure:
    """The failure that an ``error`` inside a stream, or inside an answer with status 200, means.

    Without ``now``, the wall clock in seconds since 1970, an instant in its text is ignored.
    """
    codes, message = _codes_of(error), _message_of(error)
    kind = kind_of(_status_of(error), codes, message)
    scope = wait_s = None
    if kind in LIMIT_KINDS:
        wait_s = wait_in_text(message, now=now)
        kind, scope = limit_of(kind, codes, message, wait_s)
    excerpt = redactor.redact_excerpt(message) or "no reason given"
    return UpstreamFailure(
        kind, f"broke off with an error: {excerpt}", retry_after=wait_s, scope=scope
    )


def _error_in(body: bytes) -> Any:
    """The error object or text in a response's body, None if it is not JSON."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return None
    return parsed.get("error") or parsed.get("detail") or parsed


def _message_of(error: Any) -> str:
    if isinstance(error, str):
        return error[:MAX_TEXT_CHARS]
    if isinstance(error, dict):
        for key in ("message", "msg", "detail", "error"):
            if isinstance(error.get(key), str) and error[key]:
                return str(error[key])[:MAX_TEXT_CHARS]
    try:
        return "" if error is None else to_json(error).decode()[:MAX_TEXT_CHARS]
    except RecursionError:
        return ""


def _codes_of(error: Any) -> str:
    """The values of ``type``, ``code`` and ``status``, as one lower-case text."""
    if not isinstance(error, dict):
        return ""
    values = (error.get(key) for key in ("type", "code", "status"))
    return " ".join(
        str(value)[:MAX_TEXT_CHARS] for value in values if value not in (None, "")
    ).lower()


def _status_of(error: Any) -> int:
    """The HTTP status that some services put into the error's code, as number or digits; or 0."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if _STATUS.fullmatch(code) else 0


def _describe(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    error: Any,
    *,
    is_page: bool,
    redactor: Redactor,
) -> str:
    answered = f"answered HTTP {status}"
    if 300 <= status <= 399:
        target = redactor.redact_excerpt(headers.get("Location", "nowhere"))
        return f"{answered}, a redirect to {target}"
    if is_page:
        title = _TITLE.search(body.decode("utf-8", "replace"))
        titled = f" titled {redactor.redact_excerpt(title[1], 80)!r}" if title else ""
        return f"{answered} with a web page{titled} where JSON was expected"
    text = _message_of(error) if error is not None else body.decode("utf-8", "replace")
    if excerpt := redactor.redact_excerpt(text):
        return f"{answered}: {excerpt}"
    return f"{answered} with an empty body"


def _advice(kind: FailureKind, status: int, *, is_page: bool) -> str:
    if 300 <= status <= 399:
        return "; set base_url to the address it redirects to"
    if is_page and kind in (FailureKind.NOT_FOUND, FailureKind.MALFORMED, FailureKind.REJECTED):
        return "; check base_url, which usually ends in /v1"
    if status == 407:
        return "; check user and password of the proxy that the environment names"
    if kind is FailureKind.UNAUTHORIZED and status != 429:
        return "; check the key in the variable that api_key_env names"
    return ""
