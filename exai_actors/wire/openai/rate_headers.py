"""Reads from response headers when a service accepts the next call.

Understood are Retry-After (RFC 9110, seconds or a date) and ``retry-after-ms``;
``x-ratelimit-remaining-requests`` with ``x-ratelimit-reset-requests`` and the same for tokens
(OpenAI, durations such as ``6m0s``); ``x-ratelimit-remaining`` with ``x-ratelimit-reset`` (Kimi and
many gateways, seconds or an instant); ``anthropic-ratelimit-requests-remaining`` with ``-reset``
(an RFC 3339 instant); and the IETF drafts ``RateLimit: limit=9, remaining=0, reset=5`` and
``RateLimit: "default";r=0;t=5``.

Header mappings are case-insensitive; ``now`` is the wall clock in seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from exai_actors.wire.openai.reset_times import bounded, parse_number, parse_wait

_ITEM = re.compile(r"\b(remaining|reset|r|t)\s*=\s*(\d+)")
_ITEM_NAMES = {"r": "remaining", "t": "reset"}


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait by Retry-After or retry-after-ms; None without a usable value.

    If both are present, Retry-After should be the other rounded up. If it is not, the longer wins.
    """
    value = headers.get("Retry-After")
    coarse_s = None if value is None else parse_wait(value, now=now)
    milliseconds = parse_number(headers.get("retry-after-ms"))
    if milliseconds is None:
        return coarse_s
    exact_s = bounded(milliseconds / 1000)
    return exact_s if coarse_s is None or coarse_s < exact_s + 1 else coarse_s


def hold_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until every exhausted limit has reset; None if none is exhausted."""
    limits: dict[frozenset[str], dict[str, str]] = {}
    for raw_name, value in headers.items():
        name = raw_name.lower()
        if "ratelimit" not in name:
            continue
        if name == "ratelimit":
            items = {_ITEM_NAMES.get(key, key): number for key, number in _ITEM.findall(value)}
            limits.setdefault(frozenset(), {}).update(items)
            continue
        parts = set(name.split("-")) - {"x", "ratelimit"}
        for field in ("remaining", "reset"):
            if field in parts:
                limits.setdefault(frozenset(parts - {field}), {})[field] = value
    waits = [
        parse_wait(limit["reset"], now=now)
        for limit in limits.values()
        if "reset" in limit and parse_number(limit.get("remaining")) == 0
    ]
    return max((wait for wait in waits if wait), default=None)
