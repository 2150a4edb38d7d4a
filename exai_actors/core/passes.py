"""Passes: the proof that an operator has shown a token, kept by browsers instead of the token.

A pass is signed with the token, so the broker keeps no list of them: it survives a restart of the
broker, and is void as soon as the token is replaced or the time is over.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from enum import StrEnum

LIFE_S = 12 * 3600
"""How long a pass is valid."""


class Use(StrEnum):
    """Where a pass is valid. A page gets the pass for the feed, and cannot read the cookie."""

    COOKIE = "cookie"
    FEED = "feed"


def make_pass(name: str, token: str, use: Use, ends_at: int) -> str:
    """The pass of the operator ``name``; ``ends_at`` is in seconds since the epoch.

    It consists of characters that a cookie may contain.
    """
    return f"{use}.{ends_at}.{_signature(name, token, use, ends_at)}"


def end_of(shown: str, use: Use) -> int | None:
    """When this pass would end, if it has the form of one for that use."""
    kind, _, rest = shown.partition(".")
    ends_at, _, _ = rest.partition(".")
    if kind != use or not (ends_at.isascii() and ends_at.isdigit() and len(ends_at) <= 12):
        return None
    return int(ends_at)


def _signature(name: str, token: str, use: Use, ends_at: int) -> str:
    text = f"exai console\n{use}\n{ends_at}\n{name}"
    signed = hmac.digest(token.encode(), text.encode(), hashlib.sha256)
    return urlsafe_b64encode(signed).decode().rstrip("=")
