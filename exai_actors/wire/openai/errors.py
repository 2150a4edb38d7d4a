"""Turns a service's error into one UpstreamFailure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exai_actors.core.calls import LimitHolder, LimitScope, UpstreamFailure
from exai_actors.wire.openai.error_fields import ErrorWords, parse_error_body, read_error
from exai_actors.wire.openai.rate_headers import hold_s, retry_after, service_clock
from exai_actors.wire.openai.redaction import NO_SECRET, Redactor
from exai_actors.wire.openai.refusal_advice import describe
from exai_actors.wire.openai.refusal_rules import (
    LIMIT_KINDS,
    Rule,
    find_rule,
    holder_of,
    limit_of,
)
from exai_actors.wire.openai.wait_fields import wait_in_body
from exai_actors.wire.openai.wait_phrases import wait_in_text


def classify_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    model: str = "",
    redactor: Redactor = NO_SECRET,
) -> UpstreamFailure:
    """The failure that a response without an answer means.

    ``body`` may be cut short, ``now`` is our wall clock in seconds since 1970, ``model`` the one
    that was asked for.
    """
    now = service_clock(headers, now=now)
    is_page = _is_page(headers, body)
    parsed = None if is_page else parse_error_body(body)
    if parsed is None:
        text = "" if is_page else body.decode("utf-8", "replace")
        words = read_error(text)
    else:
        words = read_error(parsed)
    rule = find_rule(status, words.codes, words.words)
    waits = (
        retry_after(headers, now=now),
        hold_s(headers, now=now, exhausted=status == 429),
        wait_in_body(parsed, now=now),
        wait_in_text(words.text, now=now),
    )
    failure = _failure(rule, words, status, waits, model)
    message = describe(
        rule.name, failure.kind, status, headers, body, words, is_page=is_page, redactor=redactor
    )
    return msgspec.structs.replace(failure, message=message, status=status)


def classify_error(
    error: Any,
    *,
    now: float | None = None,
    model: str = "",
    redactor: Redactor = NO_SECRET,
) -> UpstreamFailure:
    """The failure that an error inside a stream, or inside an answer with status 200, means.

    ``error`` is the value of the member ``error``, or a whole body. ``now`` is the service's wall
    clock in seconds since 1970; without it, instants are ignored.
    """
    words = read_error(error)
    rule = find_rule(words.status, words.codes, words.words)
    waits = (
        None if now is None else wait_in_body(error, now=now),
        wait_in_text(words.text, now=now),
    )
    failure = _failure(rule, words, words.status, waits, model)
    excerpt = redactor.redact_excerpt(words.message) or "no reason given"
    return msgspec.structs.replace(failure, message=f"broke off with an error: {excerpt}")


def _failure(
    rule: Rule,
    words: ErrorWords,
    status: int,
    waits: tuple[float | None, ...],
    model: str,
) -> UpstreamFailure:
    kind, scope, holder = rule.kind, rule.scope, LimitHolder.ACCOUNT
    wait_s = waits[0]
    if kind in LIMIT_KINDS:
        wait_s = max((wait for wait in waits if wait), default=wait_s)
        kind, scope = limit_of(rule, words.text, wait_s)
        holder = holder_of(rule, f"{' '.join(words.codes)} {words.text}", model)
    return UpstreamFailure(
        kind,
        "",
        retry_after=wait_s,
        scope=scope,
        holder=holder,
        rule=rule.name,
        recognised=rule.recognised and not _is_bare(rule, words, status, wait_s, scope),
    )


def _is_bare(
    rule: Rule,
    words: ErrorWords,
    status: int,
    wait_s: float | None,
    scope: LimitScope | None,
) -> bool:
    """Whether an ambiguous status decided alone although the service said more than that."""
    decided_alone = rule.name.startswith("status.") and status in (402, 403, 429)
    said_nothing = not words.text.strip() or words.text.strip().lower() in _PLAIN_WORDS
    return decided_alone and not (said_nothing or wait_s or scope)


_PLAIN_WORDS = frozenset({"too many requests", "forbidden", "payment required"})


def _is_page(headers: Mapping[str, str], body: bytes) -> bool:
    content_type = next(
        (value for name, value in headers.items() if name.lower() == "content-type"), ""
    )
    return "html" in content_type.lower() or body.lstrip()[:1] == b"<"
