"""Which limit a refusal speaks of, and when it ends, from the words of services.

Kimi names the limit in the text (``max organization concurrency``, ``max RPM``, ``TPM``, ``TPD``)
with ``please try again after 3 seconds``; OpenAI ``Please try again in 20s``; GLM has a number for
each (https://docs.z.ai/api-reference/api-code, https://docs.bigmodel.cn/cn/api/api-code), with the
instant at which a window opens again in its text, in the time of Beijing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from exai_actors.core.calls import FailureKind, LimitScope
from exai_actors.wire.openai.rate_headers import DURATION, MAX_S, seconds_until

GLM_KINDS = {
    "1110": FailureKind.QUOTA,
    "1112": FailureKind.QUOTA,
    "1113": FailureKind.QUOTA,
    "1121": FailureKind.QUOTA,
    "1301": FailureKind.REJECTED,
    "1302": FailureKind.RATE_LIMITED,
    "1303": FailureKind.RATE_LIMITED,
    "1304": FailureKind.QUOTA,
    "1305": FailureKind.RATE_LIMITED,
    "1308": FailureKind.QUOTA,
    "1309": FailureKind.QUOTA,
    "1310": FailureKind.QUOTA,
    "1311": FailureKind.UNAUTHORIZED,
    "1312": FailureKind.OVERLOADED,
    "1313": FailureKind.QUOTA,
}
"""An account that is locked, in arrears or limited for its conduct is as one without quota: until
somebody sees to it no call is any use. 1311 is a model that the plan does not include.
"""
GLM_SCOPES = {
    "1302": LimitScope.CONCURRENCY,
    "1303": LimitScope.REQUESTS_PER_MINUTE,
    "1304": LimitScope.REQUESTS_PER_DAY,
    "1308": LimitScope.WINDOW,
    "1310": LimitScope.WINDOW,
}
DAILY = frozenset({LimitScope.REQUESTS_PER_DAY, LimitScope.TOKENS_PER_DAY, LimitScope.WINDOW})
"""Limits that hardly open again while a request waits."""

_SCOPES = (
    (re.compile(r"concurren", re.IGNORECASE), LimitScope.CONCURRENCY),
    (re.compile(r"\bTPD\b|tokens per day", re.IGNORECASE), LimitScope.TOKENS_PER_DAY),
    (re.compile(r"\bRPD\b|requests per day", re.IGNORECASE), LimitScope.REQUESTS_PER_DAY),
    (re.compile(r"\bTPM\b|tokens per min", re.IGNORECASE), LimitScope.TOKENS_PER_MINUTE),
    (re.compile(r"\bRPM\b|requests per min", re.IGNORECASE), LimitScope.REQUESTS_PER_MINUTE),
)
_AGAIN = re.compile(
    rf"(?:try again|retry|reset)s? (?:after|in)(?: about)? "
    rf"({DURATION}|\d+(?:\.\d+)?(?!\.?\d|\s*[^\W\d_]))",
    re.IGNORECASE,
)
_INSTANT = re.compile(
    r"(?:reset\w* (?:at|on)|将在)\s*(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.\d+)?"
    r" ?(Z|UTC|GMT|[+-]\d\d:?\d\d)?"
)
_BEIJING = timezone(timedelta(hours=8))
_ZONES = {"UTC": "Z", "GMT": "Z"}


def scope_of(words: str, message: str) -> LimitScope | None:
    """The limit that was reached, by the error's type and code or else by its text."""
    for word in words.split():
        if word in GLM_SCOPES:
            return GLM_SCOPES[word]
    for pattern, scope in _SCOPES:
        if pattern.search(message):
            return scope
    return None


def told_in(message: str, *, now: float | None) -> float | None:
    """Seconds until the time that the text names; None if it names none.

    Without ``now`` only a length of time is understood, not an instant.
    """
    if match := _AGAIN.search(message):
        return seconds_until(match[1], now=now or 0.0)
    match = None if now is None else _INSTANT.search(message)
    return None if match is None else _seconds_until_instant(match[1], match[2], now or 0.0)


def _seconds_until_instant(instant: str, zone: str | None, now: float) -> float | None:
    try:
        told = datetime.fromisoformat(instant + _ZONES.get(zone or "", zone or ""))
    except ValueError:
        return None
    seconds = told.replace(tzinfo=told.tzinfo or _BEIJING).timestamp() - now
    return min(max(0.0, seconds), MAX_S)
