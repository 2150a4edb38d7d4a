"""When a service wants the next call, as its response headers tell.

Retry-After (RFC 9110, seconds or a date) and ``retry-after-ms``; ``x-ratelimit-remaining-requests``
with ``x-ratelimit-reset-requests`` and the like for tokens (OpenAI, durations such as ``6m0s``);
``x-ratelimit-remaining`` with ``x-ratelimit-reset`` (Kimi and many gateways, seconds from now or an
instant); ``anthropic-ratelimit-requests-remaining`` with ``-reset`` (an RFC 3339 instant); the IETF
drafts ``RateLimit: limit=9, remaining=0, reset=5`` and ``RateLimit: "default";r=0;t=5``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_S = 604_800.0
"""Longer than the longest window in the field, a week; more is taken for a mistake and bounded."""

_EPOCH_S = 1e9
_EPOCH_MS = 1e12
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = (
    r"\d+(?:\.\d+)?\s*"
    r"(?:ms(?:ecs?)?|milliseconds?|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?"
    r"|d(?:ays?)?|w(?:eeks?)?)(?![a-z])"
)
DURATION = rf"{_PART}(?:(?:\s*,)?(?:\s*and)?\s*{_PART})*"
"""A length of time in the words of services: ``6m0s``, ``20ms``, ``1 minute and 30 seconds``."""
_DURATION = re.compile(DURATION, re.IGNORECASE)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|[smhdw])", re.IGNORECASE)
_PARTS = re.compile(r"\b(remaining|reset|r|t)\s*=\s*(\d+)")
_NAMES = {"r": "remaining", "t": "reset"}


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait as told by Retry-After or retry-after-ms, in a case-insensitive mapping.

    Where both are there, Retry-After is the other rounded up; if it cannot be, the longer counts.
    """
    told = headers.get("Retry-After")
    told_s = None if told is None else seconds_until(told, now=now)
    told_ms = _number(headers.get("retry-after-ms"))
    if told_ms is None:
        return told_s
    exact_s = _bounded(told_ms / 1000)
    return exact_s if told_s is None or told_s < exact_s + 1 else told_s


def hold_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until a limit that is used up opens again; None if nothing is, or nothing is told.

    The longest of them, where several are used up.
    """
    groups: dict[frozenset[str], dict[str, str]] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if "ratelimit" not in lowered:
            continue
        if lowered == "ratelimit":
            found = {_NAMES.get(key, key): told for key, told in _PARTS.findall(value)}
            groups.setdefault(frozenset(), {}).update(found)
            continue
        parts = set(lowered.split("-")) - {"x", "ratelimit"}
        for what in ("remaining", "reset"):
            if what in parts:
                groups.setdefault(frozenset(parts - {what}), {})[what] = value
    waits = [
        seconds_until(group["reset"], now=now)
        for group in groups.values()
        if "reset" in group and _number(group.get("remaining")) == 0
    ]
    return max((wait for wait in waits if wait), default=None)


def seconds_until(told: str, *, now: float) -> float | None:
    """What a duration, a number of seconds or an instant comes to; None for what is neither.

    ``now`` is the wall clock in seconds since 1970; numbers as large as it are instants.
    """
    told = told.strip()
    number = _number(told)
    if number is not None:
        if number >= _EPOCH_MS:
            number = number / 1000 - now
        elif number >= _EPOCH_S:
            number -= now
        return _bounded(number)
    if _DURATION.fullmatch(told):
        return _bounded(sum(float(much) * _unit(name) for much, name in _AMOUNT.findall(told)))
    date = _date(told)
    # A date without a zone is in UTC by the grammars of both.
    return (
        None
        if date is None
        else _bounded(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now)
    )


def _date(told: str) -> datetime | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return read(told)
        except (ValueError, OverflowError):
            continue
    return None


def _unit(name: str) -> float:
    return _UNITS["ms" if name.lower() == "milli" else name.lower()]


def _number(told: str | None) -> float | None:
    try:
        number = float(told or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_S)
