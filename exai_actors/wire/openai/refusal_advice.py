"""The message of a refusal: status, words of the service, and advice."""

from __future__ import annotations

import re
from collections.abc import Mapping

from exai_actors.core.calls import FailureKind
from exai_actors.wire.openai.error_fields import ErrorWords
from exai_actors.wire.openai.redaction import Redactor

_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title>", re.IGNORECASE)
_BASE_URL = "check base_url, which usually ends in /v1"
_TOO_LARGE = "the request is too large for the service, or for a proxy before it"
_KEY = "check the key in the variable that api_key_env names"
_PLACE = "the service does not admit requests from this country or network"

# Of the rule that matched, whatever the status.
_BY_RULE = {
    "client.not_admitted": "the plan admits certain programs only; use a key of the open platform",
    "client.place": _PLACE,
    "glm.1311": "the plan does not include this model",
    "request.beyond_balance": "the balance is too small for this request; a smaller one may pass",
    "request.beyond_rate": "the request alone is larger than the limit; a smaller one may pass",
}
# By status: with a web page, and with anything else (JSON, text or nothing).
_BY_STATUS: dict[int, tuple[str, str]] = {
    200: (_BASE_URL, ""),
    400: ("check base_url: its scheme, its port, and that it ends in /v1", ""),
    401: ("a proxy or gateway before the service wants a login", _KEY),
    403: ("a firewall or proxy refuses this machine", f"{_KEY}, and what it is allowed to use"),
    404: (_BASE_URL, ""),
    405: (_BASE_URL, _BASE_URL),
    407: ("check user and password of the proxy that the environment names",) * 2,
    410: (_BASE_URL, ""),
    413: (_TOO_LARGE, _TOO_LARGE),
    415: (_BASE_URL, _BASE_URL),
    429: ("a proxy before the service limits this machine's requests", ""),
    431: ("the request's headers are too large for a proxy before the service",) * 2,
    451: (_PLACE, _PLACE),
    502: ("a proxy before the service got no answer from it", ""),
    503: ("the service, or a proxy before it, is not available", ""),
    504: ("a proxy before the service waited for it in vain", ""),
    **dict.fromkeys(
        (520, 521, 522, 523, 524, 525, 526, 530),
        ("a proxy before the service could not reach it",) * 2,
    ),
}
# Pages that ask a person to prove being one.
_CHALLENGE = re.compile(
    r"just a moment|attention required|access denied|blocked|verify you are human|captcha",
    re.IGNORECASE,
)
_FIREWALL = "a firewall or proxy refuses this machine"
# A 404 about the path, not about a model.
_NO_SUCH_PATH = re.compile(
    r"^\W{0,5}(?:(?:error|code|http)?\W{0,5}404\W{0,5})?"
    r"(?:page |route |path |url |endpoint |resource )?not[ _]found\W{0,5}$"
    r"|invalid url|cannot (?:get|post) |no (?:such )?(?:route|path|endpoint)"
    r"|unknown (?:url|path|endpoint|request)|no static resource|unexpected endpoint"
    r"|(?:route|path|url|endpoint)\b.{0,80}\bnot (?:found|exist)",
    re.IGNORECASE,
)


def describe(
    rule: str,
    kind: FailureKind,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    words: ErrorWords,
    *,
    is_page: bool,
    redactor: Redactor,
) -> str:
    """One line for the client: status and the service's words, then advice."""
    if 300 <= status <= 399:
        location = next(
            (value for name, value in headers.items() if name.lower() == "location"), "nowhere"
        )
        return (
            f"answered HTTP {status}, a redirect to {redactor.redact_excerpt(location)}"
            "; set base_url to the address it redirects to"
        )
    title = _TITLE.search(body.decode("utf-8", "replace")) if is_page else None
    if is_page:
        titled = "" if title is None else f" titled {redactor.redact_excerpt(title[1], 80)!r}"
        said = f"answered HTTP {status} with a web page{titled} where JSON was expected"
    elif excerpt := redactor.redact_excerpt(words.message):
        said = f"answered HTTP {status}: {excerpt}"
    else:
        said = f"answered HTTP {status} with an empty body"
    advice = _advice(rule, kind, status, words, title[1] if title else "", is_page=is_page)
    return f"{said}; {advice}" if advice else said


def _advice(
    rule: str, kind: FailureKind, status: int, words: ErrorWords, title: str, *, is_page: bool
) -> str:
    if rule in _BY_RULE:
        return _BY_RULE[rule]
    if is_page and status in (401, 403, 429, 503) and _CHALLENGE.search(title):
        return _FIREWALL
    if is_page:
        page_advice = _BY_STATUS[status][0] if status in _BY_STATUS else ""
        return page_advice or (_BASE_URL if kind in _WRONG_ADDRESS else "")
    if status in (404, 410) and (not words.text or _NO_SUCH_PATH.search(words.text[:200])):
        return _BASE_URL
    if kind in (FailureKind.QUOTA, FailureKind.RATE_LIMITED, FailureKind.OVERLOADED):
        return ""
    if kind is FailureKind.UNAUTHORIZED and status not in _BY_STATUS:
        return _KEY
    return _BY_STATUS[status][1] if status in _BY_STATUS else ""


_WRONG_ADDRESS = (FailureKind.NOT_FOUND, FailureKind.MALFORMED, FailureKind.REJECTED)
