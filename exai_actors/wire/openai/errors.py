"""What a service's refusal means: from status, headers and its own words to one failure.

Shapes met in the field: OpenAI and most others ``{"error": {"message", "type", "code"}}``; Ollama
and some gateways ``{"error": "text"}``; FastAPI ``{"detail": ...}``; Z.AI ``{"error": {"code":
"1302", "message"}}`` and, from its gateway, ``{"code": 500, "msg": "404 NOT_FOUND"}``. A 429 may
mean three things (too fast, overloaded, out of money), which ``type`` and ``code`` tell apart, and
where a gateway has left them out, the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from exai_actors.core.calls import FailureKind, LimitScope, UpstreamFailure
from exai_actors.wire.openai.limit_phrases import DAILY, GLM_KINDS, scope_of, told_in
from exai_actors.wire.openai.rate_headers import hold_s, retry_after

MAX_QUOTED_CHARS = 300
# More of a message is not looked at: a service may send megabytes, and words are searched for in it
# while everybody waits.
MAX_READ_CHARS = 8192
MIN_SECRET = 4
MIN_PIECE = 8
REDACTED = "[secret]"

# Words that mean money or a window of hours rather than "too fast"; GLM has numbers for them.
QUOTA_WORDS = (
    "insufficient_quota",
    "exceeded_current_quota",
    "quota_exceeded",
    "billing",
    "insufficient_balance",
    "insufficient_credits",
    "usage_limit_reached",
)
QUOTA_TEXT = re.compile(
    r"insufficient balance|insufficient credits|usage limit|in arrears|monthly limit"
    r"|exceeded your current quota|insufficient_quota|exceeded_current_quota|余额不足|欠费",
    re.IGNORECASE,
)
OVERLOAD_WORDS = ("overloaded", "capacity")
OVERLOAD_TEXT = re.compile(r"overloaded|访问量过大", re.IGNORECASE)
LIMITS = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.QUOTA})
MAX_RATE_S = 120.0
"""A daily limit that opens again sooner is waited for like any other rate."""
RATE_WORDS = ("rate_limit", "too_many_requests", "throttl")
AUTH_WORDS = ("authentication", "invalid_api_key", "unauthorized", "permission")
NOT_FOUND_WORDS = ("not_found",)
NO_SUCH_MODEL_CODE = "1211"
REJECTED_WORDS = ("invalid_request", "content_filter", "context_length", "bad_request")

_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title>", re.IGNORECASE)
_STATUS = re.compile(r"[45][0-9]{2}")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\s]+")


class Redactor(msgspec.Struct, frozen=True):
    """Whose words are being read. ``secret``, the key sent to it, appears in no message."""

    secret: str = ""

    def redact(self, text: str) -> str:
        """The text with every occurrence of the secret blotted out, and one cut off at its end."""
        secret = self.secret
        if len(secret) < MIN_SECRET:
            return text
        text = text.replace(secret, REDACTED)
        for length in range(len(secret) - 1, MIN_SECRET - 1, -1):
            if text.endswith(secret[:length]):
                return text[:-length] + REDACTED
        return text

    def redact_excerpt(self, text: str, limit: int = MAX_QUOTED_CHARS) -> str:
        """Foreign text made fit for one line of a message: no secret, no control characters."""
        # The secret goes first: a cut through its middle would leave a half that is not found.
        text = self.redact(text)
        text = self._without_pieces(text[: 4 * limit]).encode("utf-8", "replace").decode()
        text = _UNPRINTABLE.sub(" ", text).strip()
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def _without_pieces(self, text: str) -> str:
        """The text with what others have cut out of the secret blotted out as well."""
        secret, size = self.secret, MIN_PIECE
        at = 0
        while at + size <= len(secret):
            end = at + size
            if secret[at:end] not in text or secret[at:end] in REDACTED:
                at += 1
                continue
            while end < len(secret) and secret[at : end + 1] in text:
                end += 1
            text = text.replace(secret[at:end], REDACTED)
        return text


NO_SECRET = Redactor()


def classify_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    redactor: Redactor = NO_SECRET,
) -> UpstreamFailure:
    """The failure that a response without an answer stands for.

    ``headers`` is a case-insensitive mapping, ``body`` may be cut short, ``now`` is the wall clock
    in seconds since 1970 (a Retry-After may be a date).
    """
    error = _error_in(_parsed(body))
    words, message = _words_of(error), _message_of(error)
    again_s = retry_after(headers, now=now)
    kind = _kind_of(status, words, message)
    scope = None
    if kind in LIMITS:
        told_s = again_s or hold_s(headers, now=now), told_in(message, now=now)
        again_s = max((each for each in told_s if each), default=again_s)
        kind, scope = _limit_of(kind, words, message, again_s)
    told = _told(status, headers, body, error, redactor)
    return UpstreamFailure(
        kind,
        told + _advice(kind, status, _is_page(headers, body)),
        status=status,
        retry_after=again_s,
        scope=scope,
    )


def error_event(
    error: Any, *, now: float | None = None, redactor: Redactor = NO_SECRET
) -> UpstreamFailure:
    """The failure that an ``error`` inside a stream, or inside an answer with status 200, means.

    Without ``now``, the wall clock in seconds since 1970, an instant in its text is not understood.
    """
    words, message = _words_of(error), _message_of(error)
    kind = _kind_of(_status_of(error), words, message)
    scope = again_s = None
    if kind in LIMITS:
        again_s = told_in(message, now=now)
        kind, scope = _limit_of(kind, words, message, again_s)
    said = redactor.redact_excerpt(message) or "no reason given"
    return UpstreamFailure(
        kind, f"broke off with an error: {said}", retry_after=again_s, scope=scope
    )


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _error_in(parsed: Any) -> Any:
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return None
    for key in ("error", "detail"):
        if parsed.get(key):
            return parsed[key]
    return parsed


def _message_of(error: Any) -> str:
    if isinstance(error, str):
        return error[:MAX_READ_CHARS]
    if isinstance(error, dict):
        for key in ("message", "msg", "detail", "error"):
            if isinstance(error.get(key), str) and error[key]:
                return str(error[key])[:MAX_READ_CHARS]
    return "" if error is None else _dumped(error)[:MAX_READ_CHARS]


def _dumped(error: Any) -> str:
    return orjson.dumps(error).decode()


def _words_of(error: Any) -> str:
    """Type and code of an error, as one lower-case text to look words up in."""
    if not isinstance(error, dict):
        return ""
    told = (error.get(key) for key in ("type", "code", "status"))
    return " ".join(str(word)[:MAX_READ_CHARS] for word in told if word not in (None, "")).lower()


def _status_of(error: Any) -> int:
    """Some services put the HTTP status into the error's code, as a number or its digits."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if _STATUS.fullmatch(code) else 0


def _kind_of(status: int, words: str, message: str) -> FailureKind:
    told = _kind_of_limit(words, message) if status in (0, 402, 403, 429) else None
    return told or _kind_of_status(status, words)


def _kind_of_limit(words: str, message: str) -> FailureKind | None:
    """What type, code and text say where the status may stand for several limits."""
    kind = _kind_of_code(words)
    if kind is None and (_any_of(QUOTA_WORDS, words) or QUOTA_TEXT.search(message)):
        return FailureKind.QUOTA
    # GLM gives one number to two causes, which its text tells apart.
    unsure = kind in (None, FailureKind.RATE_LIMITED)
    return FailureKind.OVERLOADED if unsure and OVERLOAD_TEXT.search(message) else kind


def _kind_of_status(status: int, words: str) -> FailureKind:
    match status:
        case 400 if _any_of(NOT_FOUND_WORDS, words) or NO_SUCH_MODEL_CODE in words.split():
            return FailureKind.NOT_FOUND
        case 401 | 403 | 407:
            return FailureKind.UNAUTHORIZED
        case 402:
            return FailureKind.QUOTA
        case 404:
            return FailureKind.NOT_FOUND
        case 408 | 504:
            return FailureKind.TIMEOUT
        case 429:
            overloaded = _any_of(OVERLOAD_WORDS, words)
            return FailureKind.OVERLOADED if overloaded else FailureKind.RATE_LIMITED
        case 503 | 529:
            return FailureKind.OVERLOADED
        # A lost race inside the service, not a wrong request: OpenAI's own client retries it.
        case _ if status == 409 or 500 <= status <= 599:
            return FailureKind.SERVER_ERROR
        case _ if 300 <= status <= 499:
            return FailureKind.REJECTED
        case _ if 200 <= status <= 299:
            return FailureKind.MALFORMED
    return _kind_of_words(words)


def _kind_of_words(words: str) -> FailureKind:
    for candidates, kind in (
        (OVERLOAD_WORDS, FailureKind.OVERLOADED),
        (RATE_WORDS, FailureKind.RATE_LIMITED),
        (AUTH_WORDS, FailureKind.UNAUTHORIZED),
        (NOT_FOUND_WORDS, FailureKind.NOT_FOUND),
        (REJECTED_WORDS, FailureKind.REJECTED),
    ):
        if _any_of(candidates, words):
            return kind
    return FailureKind.SERVER_ERROR


def _kind_of_code(words: str) -> FailureKind | None:
    return next((GLM_KINDS[word] for word in words.split() if word in GLM_KINDS), None)


def _limit_of(
    kind: FailureKind, words: str, message: str, again_s: float | None
) -> tuple[FailureKind, LimitScope | None]:
    """Which limit was reached, and whether it is waited for like a rate or is a matter of hours."""
    scope = scope_of(words, message)
    soon = bool(again_s) and again_s is not None and again_s <= MAX_RATE_S
    if scope in DAILY and not soon:
        return FailureKind.QUOTA, scope
    coded = _any_of(QUOTA_WORDS, words) or _kind_of_code(words) is not None
    if kind is FailureKind.QUOTA and soon and not coded:
        # Some say of each of their limits, the minute's too, that it is a quota.
        return FailureKind.RATE_LIMITED, scope
    return kind, scope


def _any_of(candidates: tuple[str, ...], words: str) -> bool:
    return any(candidate in words for candidate in candidates)


def _is_page(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("Content-Type", "") or body.lstrip()[:1] == b"<"


def _told(
    status: int, headers: Mapping[str, str], body: bytes, error: Any, redactor: Redactor
) -> str:
    told = f"answered HTTP {status}"
    if 300 <= status <= 399:
        return (
            f"{told}, a redirect to {redactor.redact_excerpt(headers.get('Location', 'nowhere'))}"
        )
    if _is_page(headers, body):
        title = _TITLE.search(body.decode("utf-8", "replace"))
        named = f" titled {redactor.redact_excerpt(title[1], 80)!r}" if title else ""
        return f"{told} with a web page{named} where JSON was expected"
    said = _message_of(error) if error is not None else body.decode("utf-8", "replace")
    if quoted := redactor.redact_excerpt(said):
        return f"{told}: {quoted}"
    return f"{told} with an empty body"


def _advice(kind: FailureKind, status: int, is_page: bool) -> str:
    if 300 <= status <= 399:
        return "; set base_url to the address it redirects to"
    if is_page and kind in (FailureKind.NOT_FOUND, FailureKind.MALFORMED, FailureKind.REJECTED):
        return "; check base_url, which usually ends in /v1"
    if status == 407:
        return "; check user and password of the proxy that the environment names"
    if kind is FailureKind.UNAUTHORIZED and status != 429:
        return "; check the key in the variable that api_key_env names"
    return ""
