"""Why a request waits, as a small value: the limit, its figures, and when it ends.

``WaitCode`` is the closed list of reasons. Progress frames, errors, logs, statistics and the
command line show these values, and ``words`` is the one place that puts them into words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from exai_actors.core.durations import format_seconds

MAX_CAUSE = 200
"""Characters of a service's words that waiting clients are shown."""


class WaitCode(StrEnum):
    """The limit that a request waits for. The values are on the wire: add some, rename none."""

    PERMIT = "permit"
    """All permits of the provider, or of the model, are in use."""
    TENANT_SHARE = "tenant_share"
    """All permits are in use, and the tenant has its share of them."""
    TURN = "turn"
    """Requests before it wait as well, for a gate that has no room for them."""
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    REQUESTS_PER_DAY = "requests_per_day"
    TOKENS_PER_DAY = "tokens_per_day"
    HOLD = "hold"
    """The service refused the account, or the model, and named or implied a time."""
    CIRCUIT = "circuit"
    """The service has failed too often."""
    PAUSED = "paused"
    """An operator has paused the provider."""
    OPERATOR = "operator"
    """An operator holds the request."""
    RETRY = "retry"
    """An attempt failed; the next one is due in a moment."""
    CONVERSATION = "conversation"
    """An earlier request of the conversation is not answered yet."""
    SESSION_WINDOW = "session_window"
    """The session has as many requests with providers as it may have."""


class WaitReason(msgspec.Struct, frozen=True, gc=False):
    """``used`` of ``limit``, in the unit of the code, until the instant ``until``.

    Each is None where it has no meaning or is not known. ``probe_at`` is when a single call is
    tried before ``until``. ``provider`` is empty for a wait in the session; ``model`` is the one
    that has the limit or the hold, empty for the whole account. ``cause`` has the service's words,
    or the kind of refusal if ``cause`` is that of a hold without any. Instants are seconds of the
    driver's clock.
    """

    code: WaitCode
    provider: str = ""
    model: str = ""
    limit: float | None = None
    used: float | None = None
    until: float | None = None
    probe_at: float | None = None
    kind: str = ""
    cause: str = ""


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A waiting request: its place in the provider's queue from 1, None if it has none."""

    position: int | None
    reason: WaitReason


def facts(reason: WaitReason, now: float) -> dict[str, Any]:
    """The reason as JSON, with durations in place of instants and a ``text`` for people."""
    found: dict[str, Any] = {"code": reason.code.value}
    for name in ("provider", "model", "kind", "cause"):
        if value := getattr(reason, name):
            found[name] = value
    if reason.limit is not None:
        found["limit"] = _figure(reason.limit)
    if reason.used is not None:
        found["used"] = _figure(reason.used)
    if reason.until is not None:
        found["ends_in_s"] = round(max(0.0, reason.until - now), 3)
    if reason.probe_at is not None:
        found["probe_in_s"] = round(max(0.0, reason.probe_at - now), 3)
    found["text"] = sentence(reason, now)
    return found


def sentence(reason: WaitReason, now: float) -> str:
    """``kimi: 3 of 3 requests this minute used, next in 55 s``."""
    return f"{reason.provider or 'this session'}: {words(reason, now)}"


def words(reason: WaitReason, now: float) -> str:
    """The reason in words, without the provider."""
    ends = None if reason.until is None else format_seconds(round_up(reason.until - now))
    match reason.code:
        case WaitCode.HOLD:
            return _held(reason, now, ends)
        case WaitCode.CIRCUIT:
            return _failed_too_often(reason, ends)
        case code:
            text = _WORDS[code].format(used=_shown(reason.used), limit=_shown(reason.limit))
    if ends is not None:
        text += f", next in {ends}"
    return f"model {reason.model}: {text}" if reason.model else text


_WORDS = {
    WaitCode.PERMIT: "{used} of {limit} calls in flight",
    WaitCode.TENANT_SHARE: (
        "all permits are in use, and this tenant has {used} of its share of {limit}"
    ),
    WaitCode.TURN: "earlier requests go first",
    WaitCode.REQUESTS_PER_MINUTE: "{used} of {limit} requests this minute used",
    WaitCode.TOKENS_PER_MINUTE: "{used} of {limit} tokens this minute used",
    WaitCode.REQUESTS_PER_DAY: "{used} of {limit} requests this day used",
    WaitCode.TOKENS_PER_DAY: "{used} of {limit} tokens this day used",
    WaitCode.PAUSED: "paused by its operator",
    WaitCode.OPERATOR: "held by an operator until it is released",
    WaitCode.RETRY: "the last attempt failed",
    WaitCode.CONVERSATION: "an earlier request of this conversation is not answered yet",
    WaitCode.SESSION_WINDOW: "{used} of {limit} requests with providers",
}

_REFUSED_FOR = {
    "quota": "quota",
    "rate_limited": "its rate limit",
    "overloaded": "overload",
}


def _failed_too_often(reason: WaitReason, ends: str | None) -> str:
    cause = f" ({reason.cause})" if reason.cause else ""
    if ends is None:
        return f"failed too often{cause}, a test call is in flight"
    return f"failed too often{cause}, next try in {ends}"


def _held(reason: WaitReason, now: float, ends: str | None) -> str:
    subject = f"model {reason.model}" if reason.model else "account"
    text = f"{subject} refused for {_REFUSED_FOR.get(reason.kind, reason.kind or 'a while')}"
    if reason.probe_at is not None and reason.until is not None and reason.probe_at < reason.until:
        probe = format_seconds(round_up(reason.probe_at - now))
        text += f" for {ends}, one call is tried in {probe}"
    elif ends is not None:
        text += f", trying again in {ends}"
    return f"{text} ({reason.cause})" if reason.cause else text


def round_up(seconds: float) -> float:
    """Whole seconds above ten, tenths below: an announced time should not come too early."""
    unit = 1 if seconds > 10 else 10
    return max(0.0, -(-seconds * unit // 1) / unit)


def clipped(cause: str) -> str:
    """A service's words on one line, within MAX_CAUSE characters."""
    line = " ".join(cause.split())
    return line if len(line) <= MAX_CAUSE else f"{line[: MAX_CAUSE - 3]}..."


def _shown(figure: float | None) -> str:
    if figure is None:
        return "?"
    return f"{figure:,.0f}" if figure >= 100 or float(figure).is_integer() else f"{figure:,.1f}"


def _figure(value: float) -> float:
    return int(value) if float(value).is_integer() else round(value, 3)
