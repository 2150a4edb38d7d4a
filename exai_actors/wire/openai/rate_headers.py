"""Reads from response headers when a service accepts the next call.

Understood are Retry-After (RFC 9110, seconds or a date) and ``retry-after-ms``;
``x-ratelimit-remaining-requests`` with ``x-ratelimit-reset-requests`` and the same for tokens
(OpenAI, durations such as ``6m0s``); ``x-ratelimit-remaining`` with ``x-ratelimit-reset`` (Kimi and
many gateways, seconds or an instant); ``anthropic-ratelimit-requests-remaining`` with ``-reset``
(an RFC 3339 instant); and the IETF drafts ``RateLimit: limit=9, remaining=0, reset=5`` and
``RateLimit: "default";r=0;t=5``.

Names of headers are read in any case. ``now`` is the wall clock in seconds since 1970, best that of
the service: see ``service_clock``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

from exai_actors.wire.openai.wait_phrases import bounded, parse_number, parse_wait

_ITEM = re.compile(r"\b(limit|remaining|reset|r|t)\s*=\s*(\d+)")
_MAX_KEPT_NAME = 64
_ITEM_NAMES = {"r": "remaining", "t": "reset"}


def service_clock(headers: Mapping[str, str], *, now: float) -> float:
    """The service's wall clock by the ``Date`` of its response; ``now``, ours, without one.

    Instants that a service names are compared with its own clock: ours may be wrong, after a
    suspended machine's sleep by hours.
    """
    return clock_of(_value_of(headers, "date"), now=now)


def clock_of(date: str | None, *, now: float) -> float:
    """As ``service_clock``, by the header ``Date``."""
    instant = None if date is None else _timestamp(date)
    return now if instant is None else instant


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait by Retry-After or retry-after-ms; None without a usable value.

    Of several the longest counts. If both are present, Retry-After should be the other rounded up.
    If it is not, the longer wins.
    """
    named = [
        parse_wait(value, now=now)
        for name, value in headers.items()
        if name == "Retry-After" or name.lower() == "retry-after"
    ]
    coarse_s = max((wait for wait in named if wait is not None), default=None)
    milliseconds = parse_number(_value_of(headers, "retry-after-ms"))
    if milliseconds is None:
        return coarse_s
    exact_s = bounded(milliseconds / 1000)
    return exact_s if coarse_s is None or coarse_s < exact_s + 1 else coarse_s


def hold_s(
    headers: Mapping[str, str], *, now: float, answered: bool = False, exhausted: bool = False
) -> float | None:
    """Seconds until every exhausted limit has reset; None if none is exhausted.

    Beside a good answer (``answered``) a limit of 0 means that there is no such limit.
    ``exhausted``: the response says that some limit is.
    """
    limits: dict[frozenset[str], dict[str, str]] = {}
    for name, value in headers.items():
        meaning = _meaning(name) if len(name) <= _MAX_KEPT_NAME else _meaning.__wrapped__(name)
        if meaning is None:
            continue
        if not meaning:
            items = {_ITEM_NAMES.get(key, key): number for key, number in _ITEM.findall(value)}
            limits.setdefault(frozenset(), {}).update(items)
        for parts, field in meaning:
            limits.setdefault(parts, {})[field] = value
    if not limits:
        return None
    if exhausted and len(limits) == 1:
        # The only limit is the exhausted one, even if it has a reset and nothing else.
        for limit in limits.values():
            limit.setdefault("remaining", "0")
    waits = [
        parse_wait(limit["reset"], now=now)
        for limit in limits.values()
        if "reset" in limit
        and parse_number(limit.get("remaining")) == 0
        and not (answered and parse_number(limit.get("limit")) == 0)
    ]
    return max((wait for wait in waits if wait), default=None)


@lru_cache(maxsize=512)
def _meaning(raw_name: str) -> tuple[tuple[frozenset[str], str], ...] | None:
    """The limits, and what of them, that a header of this name states.

    None if it is about no limit, empty if its value names all of it. Services repeat their names.
    """
    name = raw_name.lower()
    if "ratelimit" not in name:
        return None
    if name == "ratelimit":
        return ()
    parts = frozenset(name.split("-")) - {"x", "ratelimit", "after"}
    fields = [field for field in ("limit", "remaining", "reset") if field in parts]
    return tuple((parts - {field}, field) for field in fields) or None


def _value_of(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None:
        return value
    return next((value for key, value in headers.items() if key.lower() == name), None)


@lru_cache(maxsize=16)
def _timestamp(date: str) -> float | None:
    # Responses of one second have one Date.
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
