"""Reads from an error's body when its limit resets.

Understood are members such as ``retry_after``, ``retry_after_ms``, ``resets_in_seconds``,
``reset_at`` (in any spelling, at any depth and within lists), Google's ``RetryInfo.retryDelay`` and
response headers that a gateway has put into ``headers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from exai_actors.wire.openai.error_fields import json_within
from exai_actors.wire.openai.rate_headers import hold_s, retry_after
from exai_actors.wire.openai.wait_phrases import bounded, parse_number, parse_wait

_MAX_DEPTH = 6
_MAX_MEMBERS = 300

_WAIT_KEY = re.compile(
    r"(?:retry|try)(?:again)?(?:after|in|delay)|resets?(?:at|in|after|time|timestamp|on|date)?"
    r"|(?:quota|limit|usage|window|ratelimit)resets?(?:at|in|after|time|timestamp|delay)"
    r"|nextflushtime|nextresettime|cooldown(?:time|until|for)?|(?:available|blocked)(?:at|in|until)"
    r"|wait(?:time|for)?|estimated(?:time|wait)"
)
_UNIT_ENDS = (
    ("milliseconds", 0.001),
    ("millis", 0.001),
    ("msecs", 0.001),
    ("ms", 0.001),
    ("seconds", 1.0),
    ("secs", 1.0),
    ("sec", 1.0),
    ("minutes", 60.0),
    ("mins", 60.0),
    ("hours", 3600.0),
    ("s", 1.0),
)
# Members that may repeat the request.
_NOT_READ = frozenset({"input", "prompt", "messages", "content", "request", "body", "param", "ctx"})


def wait_in_body(body: Any, *, now: float) -> float | None:
    """Seconds until the latest reset that members of ``body`` name; None if none does.

    ``now`` is the service's wall clock in seconds since 1970.
    """
    waits = [wait for wait in _waits(body, now, _MAX_DEPTH, [_MAX_MEMBERS]) if wait]
    return max(waits, default=None)


def _waits(value: Any, now: float, depth: int, budget: list[int]) -> Iterator[float | None]:
    if depth == 0:
        return
    if isinstance(value, list):
        for each in value:
            yield from _waits(each, now, depth - 1, budget)
    elif isinstance(value, dict):
        for key, inner in value.items():
            budget[0] -= 1
            if budget[0] < 0:
                return
            name = re.sub(r"[^a-z]", "", key.lower())
            if name in _NOT_READ:
                continue
            if name == "headers" and isinstance(inner, dict):
                yield _wait_in_headers(inner, now)
            elif isinstance(inner, dict | list):
                yield _google_duration(name, inner)
                yield from _waits(inner, now, depth - 1, budget)
            elif isinstance(inner, str) and name in ("raw", "message") and "{" in inner[:400]:
                yield from _waits(json_within(inner), now, depth - 1, budget)
            else:
                yield _wait_of(name, inner, now)


def _wait_of(name: str, value: Any, now: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    unit = None
    if not _WAIT_KEY.fullmatch(name):
        unit = next(
            (
                seconds
                for end, seconds in _UNIT_ENDS
                if name.endswith(end) and _WAIT_KEY.fullmatch(name.removesuffix(end))
            ),
            None,
        )
        if unit is None:
            return None
    number = parse_number(str(value))
    if unit is not None and number is not None and number < 1e9:
        return bounded(number * unit)
    return parse_wait(str(value), now=now)


def _google_duration(name: str, value: Any) -> float | None:
    """``{"seconds": 34, "nanos": 5}``, as some libraries write a protobuf duration."""
    if not isinstance(value, dict) or not _WAIT_KEY.fullmatch(name):
        return None
    seconds = parse_number(str(value.get("seconds")))
    return None if seconds is None else bounded(seconds)


def _wait_in_headers(headers: dict[Any, Any], now: float) -> float | None:
    found: Mapping[str, str] = {
        str(name): str(value) for name, value in headers.items() if value is not None
    }
    waits = retry_after(found, now=now), hold_s(found, now=now)
    return max((wait for wait in waits if wait), default=None)
