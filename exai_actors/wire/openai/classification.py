"""The tables that classify a refusal: which kind of failure it is, and which limit was reached.

A refusal is known by its HTTP status, by its *codes* (the values of ``type``, ``code`` and
``status`` in the error object, as one lower-case text) and by its message. A 429 can mean too many
requests, an overloaded service or an exhausted account; codes tell these apart and, where a gateway
has dropped them, the message does.

Sources: the error pages of OpenAI, Kimi (which names the limit in the message, such as ``max RPM``)
and GLM (https://docs.z.ai/api-reference/api-code, https://docs.bigmodel.cn/cn/api/api-code).
"""

from __future__ import annotations

import re

from exai_actors.core.calls import FailureKind, LimitScope

# By GLM's error code. An account that is locked, in arrears or limited for its conduct counts as
# one without quota: until its owner acts, no call succeeds. 1311: the plan lacks the model.
GLM_CODES: dict[str, tuple[FailureKind, LimitScope | None]] = {
    "1110": (FailureKind.QUOTA, None),
    "1112": (FailureKind.QUOTA, None),
    "1113": (FailureKind.QUOTA, None),
    "1121": (FailureKind.QUOTA, None),
    "1301": (FailureKind.REJECTED, None),
    "1302": (FailureKind.RATE_LIMITED, LimitScope.CONCURRENCY),
    "1303": (FailureKind.RATE_LIMITED, LimitScope.REQUESTS_PER_MINUTE),
    "1304": (FailureKind.QUOTA, LimitScope.REQUESTS_PER_DAY),
    "1305": (FailureKind.RATE_LIMITED, None),
    "1308": (FailureKind.QUOTA, LimitScope.WINDOW),
    "1309": (FailureKind.QUOTA, None),
    "1310": (FailureKind.QUOTA, LimitScope.WINDOW),
    "1311": (FailureKind.UNAUTHORIZED, None),
    "1312": (FailureKind.OVERLOADED, None),
    "1313": (FailureKind.QUOTA, None),
}
QUOTA_CODES = (
    "insufficient_quota",
    "exceeded_current_quota",
    "quota_exceeded",
    "billing",
    "insufficient_balance",
    "insufficient_credits",
    "usage_limit_reached",
)
QUOTA_MESSAGE = re.compile(
    r"insufficient balance|insufficient credits|usage limit|in arrears|monthly limit"
    r"|exceeded your current quota|insufficient_quota|exceeded_current_quota|余额不足|欠费",
    re.IGNORECASE,
)
OVERLOAD_CODES = ("overloaded", "capacity")
OVERLOAD_MESSAGE = re.compile(r"overloaded|访问量过大", re.IGNORECASE)
NOT_FOUND_CODES = ("not_found",)
GLM_UNKNOWN_MODEL = "1211"

KINDS_BY_STATUS = {
    401: FailureKind.UNAUTHORIZED,
    402: FailureKind.QUOTA,
    403: FailureKind.UNAUTHORIZED,
    404: FailureKind.NOT_FOUND,
    407: FailureKind.UNAUTHORIZED,
    408: FailureKind.TIMEOUT,
    # A lost race inside the service, not a wrong request: OpenAI's own client retries it.
    409: FailureKind.SERVER_ERROR,
    429: FailureKind.RATE_LIMITED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
    529: FailureKind.OVERLOADED,
}
KINDS_BY_STATUS_CLASS = {
    2: FailureKind.MALFORMED,
    3: FailureKind.REJECTED,
    4: FailureKind.REJECTED,
    5: FailureKind.SERVER_ERROR,
}
# For an error without a usable status, in this order.
KINDS_BY_CODE: tuple[tuple[tuple[str, ...], FailureKind], ...] = (
    (OVERLOAD_CODES, FailureKind.OVERLOADED),
    (("rate_limit", "too_many_requests", "throttl"), FailureKind.RATE_LIMITED),
    (
        ("authentication", "invalid_api_key", "unauthorized", "permission"),
        FailureKind.UNAUTHORIZED,
    ),
    (NOT_FOUND_CODES, FailureKind.NOT_FOUND),
    (
        ("invalid_request", "content_filter", "context_length", "bad_request"),
        FailureKind.REJECTED,
    ),
)
SCOPES_BY_MESSAGE: tuple[tuple[re.Pattern[str], LimitScope], ...] = (
    (re.compile(r"concurren", re.IGNORECASE), LimitScope.CONCURRENCY),
    (re.compile(r"\bTPD\b|tokens per day", re.IGNORECASE), LimitScope.TOKENS_PER_DAY),
    (re.compile(r"\bRPD\b|requests per day", re.IGNORECASE), LimitScope.REQUESTS_PER_DAY),
    (re.compile(r"\bTPM\b|tokens per min", re.IGNORECASE), LimitScope.TOKENS_PER_MINUTE),
    (re.compile(r"\bRPM\b|requests per min", re.IGNORECASE), LimitScope.REQUESTS_PER_MINUTE),
)

LIMIT_KINDS = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.QUOTA})
LONG_SCOPES = frozenset({LimitScope.REQUESTS_PER_DAY, LimitScope.TOKENS_PER_DAY, LimitScope.WINDOW})
"""Limits that rarely reset while a request waits."""
MAX_RATE_WAIT_S = 120.0
"""A limit that resets within this time is a rate to wait for, whatever its name."""

_AMBIGUOUS_STATUSES = frozenset({0, 402, 403, 429})


def kind_of(status: int, codes: str, message: str) -> FailureKind:
    """The kind of a refusal; ``status`` is 0 if there was none."""
    kind = _kind_of_limit(codes, message) if status in _AMBIGUOUS_STATUSES else None
    return kind or _kind_of_status(status, codes)


def limit_of(
    kind: FailureKind, codes: str, message: str, wait_s: float | None
) -> tuple[FailureKind, LimitScope | None]:
    """The limit behind a refusal whose kind is in LIMIT_KINDS, and its kind given the wait.

    RATE_LIMITED is worth waiting for, QUOTA is a matter of hours. ``wait_s`` decides where names
    mislead: some services call each of their limits, even the one per minute, a quota.
    """
    scope = _scope_of(codes, message)
    is_short = bool(wait_s) and wait_s is not None and wait_s <= MAX_RATE_WAIT_S
    if scope in LONG_SCOPES and not is_short:
        return FailureKind.QUOTA, scope
    is_coded = _contains_any(codes, QUOTA_CODES) or _glm_rule(codes) is not None
    if kind is FailureKind.QUOTA and is_short and not is_coded:
        return FailureKind.RATE_LIMITED, scope
    return kind, scope


def _kind_of_limit(codes: str, message: str) -> FailureKind | None:
    rule = _glm_rule(codes)
    kind = None if rule is None else rule[0]
    if kind is None and (_contains_any(codes, QUOTA_CODES) or QUOTA_MESSAGE.search(message)):
        return FailureKind.QUOTA
    # GLM uses one code for two causes, which its message tells apart.
    may_be_overload = kind in (None, FailureKind.RATE_LIMITED)
    if may_be_overload and OVERLOAD_MESSAGE.search(message):
        return FailureKind.OVERLOADED
    return kind


def _kind_of_status(status: int, codes: str) -> FailureKind:
    if status == 400 and (
        _contains_any(codes, NOT_FOUND_CODES) or GLM_UNKNOWN_MODEL in codes.split()
    ):
        return FailureKind.NOT_FOUND
    if status == 429 and _contains_any(codes, OVERLOAD_CODES):
        return FailureKind.OVERLOADED
    kind = KINDS_BY_STATUS.get(status) or KINDS_BY_STATUS_CLASS.get(status // 100)
    if kind is not None:
        return kind
    return next(
        (kind for candidates, kind in KINDS_BY_CODE if _contains_any(codes, candidates)),
        FailureKind.SERVER_ERROR,
    )


def _scope_of(codes: str, message: str) -> LimitScope | None:
    for code in codes.split():
        _, scope = GLM_CODES.get(code, (None, None))
        if scope is not None:
            return scope
    return next((scope for pattern, scope in SCOPES_BY_MESSAGE if pattern.search(message)), None)


def _glm_rule(codes: str) -> tuple[FailureKind, LimitScope | None] | None:
    return next((GLM_CODES[code] for code in codes.split() if code in GLM_CODES), None)


def _contains_any(codes: str, candidates: tuple[str, ...]) -> bool:
    return any(candidate in codes for candidate in candidates)
