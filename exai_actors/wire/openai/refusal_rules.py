"""The rules that tell refusals apart, as one table: RULES, of which the first that matches counts.

A rule matches by HTTP status (0: none came, as for an error inside a stream), and by one of the
error's codes or by a phrase in its message; a rule with neither matches by its status alone.
Statuses mislead: services report exhausted money as 400, 401, 402, 403, 429 and 500.

Sources: the error pages of OpenAI, Anthropic, Kimi, GLM (https://docs.z.ai/api-reference/api-code),
MiniMax (https://platform.minimax.io/docs/api-reference/errorcode), and the reports that the test
data in ``tests/cases/refusals`` name.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from exai_actors.core.calls import FailureKind, LimitHolder, LimitScope, UpstreamFailure
from exai_actors.core.capacity.retry_policy import judge

LIMIT_KINDS = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.QUOTA})
LONG_SCOPES = frozenset({LimitScope.REQUESTS_PER_DAY, LimitScope.TOKENS_PER_DAY, LimitScope.WINDOW})
"""Limits that rarely reset while a request waits."""
MAX_RATE_WAIT_S = 120.0
"""A limit that resets within this time is a rate to wait for, whatever its name."""

REQUEST_STATUSES = frozenset({400, 404, 413, 422})
"""Refusals that may quote the request: a phrase counts at the beginning of the message only."""


class Until(StrEnum):
    """When a refusal's hold ends."""

    BACKOFF = "the time named, else a short backoff"
    RESET = "the time named, else a minute"
    RESET_OR_RATE = "the time named (up to 2 min: a rate, retried), else a minute"


class Holder(StrEnum):
    """The holder of a rule's limit; ``STATED``: the account if the message says so, else the model.

    An unstated limit counts as the model's: if it was the account's, each other model costs one
    refusal more; wrongly assuming the account would idle the other models for hours.
    """

    ACCOUNT = "account"
    MODEL = "model"
    REQUEST = "request"
    STATED = "stated"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """``codes`` match whole codes, or parts where ``*`` stands; ``phrase`` ignores case.

    ``statuses`` empty: any. ``needs_both``: a code and the phrase have to match. ``recognised`` is
    False for the defaults of unknown refusals.
    """

    name: str
    kind: FailureKind
    provider: str = "any"
    statuses: frozenset[int] = frozenset()
    codes: tuple[str, ...] = ()
    phrase: re.Pattern[str] | None = None
    scope: LimitScope | None = None
    holder: Holder = Holder.ACCOUNT
    until: Until = Until.BACKOFF
    needs_both: bool = False
    recognised: bool = True

    @property
    def retryable(self) -> bool:
        """Whether the same provider gets the request again, after the hold."""
        holder = LimitHolder.REQUEST if self.holder is Holder.REQUEST else LimitHolder.ACCOUNT
        return judge(UpstreamFailure(self.kind, "", holder=holder)).retriable


def _phrase(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


def _glm(
    code: str,
    kind: FailureKind,
    scope: LimitScope | None = None,
    *,
    holder: Holder = Holder.ACCOUNT,
) -> Rule:
    until = Until.RESET if kind is FailureKind.QUOTA else Until.BACKOFF
    return Rule(
        name=f"glm.{code}",
        provider="GLM",
        codes=(code,),
        kind=kind,
        scope=scope,
        holder=holder,
        until=until,
    )


def _minimax(
    code: int,
    kind: FailureKind,
    scope: LimitScope | None = None,
    *,
    holder: Holder = Holder.ACCOUNT,
) -> Rule:
    """MiniMax names its code in ``base_resp`` or, as ``(2056)``, at the end of the message."""
    return Rule(
        name=f"minimax.{code}",
        provider="MiniMax",
        codes=(f"base_resp:{code}",),
        phrase=re.compile(rf"\({code}\)\s*$"),
        kind=kind,
        scope=scope,
        holder=holder,
        until=Until.RESET if kind is FailureKind.QUOTA else Until.BACKOFF,
    )


def _status(status: int, kind: FailureKind, *, holder: Holder = Holder.ACCOUNT) -> Rule:
    return Rule(
        name=f"status.{status}",
        statuses=frozenset({status}),
        kind=kind,
        holder=holder,
        until=Until.RESET if kind is FailureKind.QUOTA else Until.BACKOFF,
    )


_LIMITING = frozenset({0, 403, 408, 425, 429, 498, 500, 502, 503, 504, 520, 529})
"""The statuses under which words about load or rates count."""

_NO_SUCH_MODEL = frozenset({0, 400, 403, 404, 410, 422})
"""The statuses under which services refuse a model that they do not have, or not any more."""

RULES: tuple[Rule, ...] = (
    # Larger than the account or its rate ever allows: a smaller request may pass.
    Rule(
        name="request.beyond_balance",
        provider="OpenRouter",
        statuses=frozenset({0, 402, 403, 429}),
        phrase=_phrase(r"can only afford [1-9]"),
        kind=FailureKind.QUOTA,
        holder=Holder.REQUEST,
        until=Until.RESET,
    ),
    Rule(
        name="request.beyond_rate",
        provider="OpenAI, Groq",
        statuses=frozenset({0, 413, 429}),
        phrase=_phrase(
            r"request too large for\b.*\b(?:TPM|TPD|tokens per)", r"limit \d+, requested"
        ),
        kind=FailureKind.RATE_LIMITED,
        holder=Holder.REQUEST,
    ),
    # Account closed to this program or from this place, whatever the code says.
    Rule(
        name="client.not_admitted",
        provider="Kimi, OpenCode",
        phrase=_phrase(r"only available for coding agents", r"can only be used from within"),
        kind=FailureKind.UNAUTHORIZED,
    ),
    Rule(
        name="client.place",
        codes=("unsupported_country_region_territory",),
        phrase=_phrase(
            r"country, region, or territory not supported", r"user location is not supported"
        ),
        kind=FailureKind.UNAUTHORIZED,
    ),
    # GLM: until the owner of a locked account, or one in arrears, acts, no call succeeds.
    _glm("1110", FailureKind.QUOTA),
    _glm("1112", FailureKind.QUOTA),
    _glm("1113", FailureKind.QUOTA),
    _glm("1121", FailureKind.QUOTA),
    _glm("1211", FailureKind.MODEL_NOT_FOUND),
    _glm("1301", FailureKind.REJECTED),
    _glm("1302", FailureKind.RATE_LIMITED, LimitScope.CONCURRENCY, holder=Holder.MODEL),
    _glm("1303", FailureKind.RATE_LIMITED, LimitScope.REQUESTS_PER_MINUTE, holder=Holder.STATED),
    _glm("1304", FailureKind.QUOTA, LimitScope.REQUESTS_PER_DAY, holder=Holder.STATED),
    # One code for two causes.
    Rule(
        name="glm.1305.overloaded",
        provider="GLM",
        codes=("1305",),
        phrase=_phrase(r"overloaded", r"访问量过大"),
        needs_both=True,
        kind=FailureKind.OVERLOADED,
        holder=Holder.MODEL,
    ),
    _glm("1305", FailureKind.RATE_LIMITED, holder=Holder.STATED),
    _glm("1308", FailureKind.QUOTA, LimitScope.WINDOW),
    _glm("1309", FailureKind.QUOTA),
    _glm("1310", FailureKind.QUOTA, LimitScope.WINDOW),
    _glm("1311", FailureKind.UNAUTHORIZED),
    _glm("1312", FailureKind.OVERLOADED, holder=Holder.MODEL),
    _glm("1313", FailureKind.QUOTA),
    *(_glm(str(code), FailureKind.QUOTA, LimitScope.WINDOW) for code in range(1316, 1322)),
    _minimax(1008, FailureKind.QUOTA),
    _minimax(2056, FailureKind.QUOTA, LimitScope.WINDOW),
    _minimax(1002, FailureKind.RATE_LIMITED, holder=Holder.STATED),
    _minimax(1039, FailureKind.RATE_LIMITED, LimitScope.TOKENS_PER_MINUTE, holder=Holder.STATED),
    _minimax(1041, FailureKind.RATE_LIMITED, LimitScope.CONCURRENCY, holder=Holder.STATED),
    _minimax(1004, FailureKind.UNAUTHORIZED),
    _minimax(2049, FailureKind.UNAUTHORIZED),
    _minimax(1001, FailureKind.TIMEOUT),
    _minimax(1026, FailureKind.REJECTED),
    _minimax(1027, FailureKind.REJECTED),
    _minimax(2013, FailureKind.REJECTED),
    Rule(
        name="minimax.other",
        provider="MiniMax",
        codes=("base_resp:*",),
        kind=FailureKind.SERVER_ERROR,
    ),
    # A refused key stays one, however its message advertises plans and limits.
    Rule(
        name="key.wrong",
        statuses=frozenset({0, 400, 401, 403}),
        codes=("invalid_api_key", "api_key_invalid", "incorrect_api_key"),
        phrase=_phrase(
            r"^\W{0,5}(?:(?:the|your|this) )?"
            r"(?:invalid|incorrect|wrong|missing|unknown|expired|revoked|malformed)"
            r"(?: or (?:missing|expired|revoked))? (?:api|secret|access)[ _-]?key\b"
            r"|^\W{0,5}(?:(?:the|your|this) )?api[ _-]?key\b.{0,20}\b"
            r"(?:not valid|invalid|incorrect|expired|revoked|missing)\b",
        ),
        kind=FailureKind.UNAUTHORIZED,
    ),
    # Money that was set aside for one model only.
    Rule(
        name="money.of_model",
        provider="Alibaba, Volcengine",
        codes=("allocationquota.freetieronly", "setlimitexceeded"),
        phrase=_phrase(r"free (?:tier|quota) (?:of|for) (?:the|this) model\b.{0,20}\bexhausted"),
        kind=FailureKind.QUOTA,
        holder=Holder.MODEL,
        until=Until.RESET,
    ),
    # A period that the message names: "额度已用完" alone would be money.
    Rule(
        name="window.period",
        phrase=_phrase(
            r"(?:今[日天]|当[日天周月]|本[日周月]|每[日天周月]|\d\s{0,2}个?小时).{0,16}"
            r"(?:用完|用尽|耗尽|上限|限额|限制|超限|超出)",
            r"(?:套餐|配额).{0,8}(?:用完|用尽|耗尽)",
            r"\b(?:daily|weekly|monthly|\w+-hour|session|window)\b.{0,12}\b(?:quota|allowance|usage)\b"
            r".{0,20}\b(?:used up|exhausted|reached|exceeded|consumed|depleted)",
            r"\bquota window\b.{0,12}\bexhausted",
            r"\bper (?:month|week)\b.{0,20}\blimit|used up your (?:daily|weekly|monthly)",
        ),
        kind=FailureKind.QUOTA,
        scope=LimitScope.WINDOW,
        until=Until.RESET_OR_RATE,
    ),
    # Money is always the account's.
    Rule(
        name="money.code",
        codes=(
            "insufficient_quota*",
            "local:insufficient_quota",
            "insufficient_user_quota",
            "insufficient_balance*",
            "insufficient_credit*",
            "insufficient_funds",
            "exceeded_current_quota*",
            "pre_consume_token_quota_failed",
            "billing*",
            "payment_required",
            "creditserror",
            "arrearage",
            "budget_exceeded",
            "exceededbudget*",
            "accountoverdue*",
        ),
        kind=FailureKind.QUOTA,
        until=Until.RESET,
    ),
    Rule(
        name="money.phrase",
        phrase=_phrase(
            r"insufficient[ _](?:account )?(?:balance|credits?|funds)",
            r"insufficient_quota|exceeded_current_quota",
            r"(?:balance|credits?) (?:is|are) (?:too low|insufficient|not enough|exhausted)",
            r"(?:balance|credits?|funds)(?: (?:is|are|has|have|been|was))*"
            r" (?:depleted|used up|exhausted)",
            r"not enough (?:credits?|balance)",
            r"(?:\bnot|n't) have (?:any|enough|sufficient) (?:credits?|balance|funds)",
            r"\bout of (?:credits?|funds|balance)",
            r"\bno (?:remaining|more|available) (?:credits?|balance|funds)"
            r"|\bno (?:credits?|balance|funds) (?:left|remaining|available)",
            r"\b(?:spend(?:ing)?|credit) (?:limit|cap)\b.{0,20}\b(?:reached|exceeded|hit)"
            r"|(?:reached|exceed(?:ed|s)?|hit)\b.{0,30}\b(?:spend(?:ing)?|credit) (?:limit|cap)\b",
            r"reached your specified api usage limit",
            r"key limit exceeded \(total",
            r"overdue (?:balance|payment|bill|invoice)",
            r"can only afford 0\b",
            r"requires (?:more credits|paid balance)|for paid balance users",
            r"(?:user|token)\b.{0,20}\bquota\b.{0,60}\bis not enough",
            r"no payment method",
            r"monthly spending limit",
            r"in arrears",
            r"\boverdrawn\b",
            r"account is in good standing",
            r"budget has been exceeded",
            r"exceeded ?budget|crossed budget|over budget",
            r"余额.{0,3}(?:不足|为\s{0,2}0(?![.\d])|用完|用尽|耗尽)|欠费|额度不足|额度已?(?:用尽|用完|耗尽)|预扣费",
            r"(?:залишок|баланс).{0,20}недостат|недостаточн.{0,20}(?:баланс|средств)",
        ),
        kind=FailureKind.QUOTA,
        until=Until.RESET,
    ),
    # A plan's window: hours or days.
    Rule(
        name="window.free_model",
        provider="OpenCode",
        codes=("freeusagelimiterror",),
        kind=FailureKind.QUOTA,
        scope=LimitScope.WINDOW,
        holder=Holder.MODEL,
        until=Until.RESET,
    ),
    Rule(
        name="window.code",
        codes=(
            "usage_limit_reached",
            "usage_limit_exceeded",
            "access_terminated_error",
            "*usagelimiterror",
        ),
        kind=FailureKind.QUOTA,
        scope=LimitScope.WINDOW,
        until=Until.RESET,
    ),
    Rule(
        name="window.phrase",
        phrase=_phrase(
            r"usage limit",
            r"(?:session|daily|weekly|monthly)(?:/monthly)?(?: \w+)? limit"
            r" (?:reached|exceeded|exhausted)",
            r"monthly limit",
            r"(?:reached|hit|exceeded) your"
            r" (?:session|daily|weekly|monthly|[\w-]+-hour)(?: \w+)? limit",
            r"使用上限|用量上限",
        ),
        kind=FailureKind.QUOTA,
        scope=LimitScope.WINDOW,
        until=Until.RESET_OR_RATE,
    ),
    # The words of Gemini for each of its limits, of OpenAI and others for money.
    Rule(
        name="quota.code",
        codes=("quota_exceeded*", "quotaexceeded*"),
        kind=FailureKind.QUOTA,
        until=Until.RESET,
    ),
    Rule(
        name="quota.phrase",
        phrase=_phrase(
            r"exceeded your (?:current|service) quota",
            r"quota (?:has been |is )?(?:exhausted|used up|depleted)",
            r"\bout of (?:call volume )?quota",
        ),
        kind=FailureKind.QUOTA,
        holder=Holder.STATED,
        until=Until.RESET_OR_RATE,
    ),
    Rule(
        name="overloaded.code",
        statuses=_LIMITING,
        codes=(
            "*overloaded*",
            "*capacity*",
            "unavailable_error",
        ),
        kind=FailureKind.OVERLOADED,
        holder=Holder.STATED,
    ),
    Rule(
        name="overloaded.phrase",
        statuses=_LIMITING,
        phrase=_phrase(
            r"overloaded",
            r"server (?:is )?busy",
            r"maximum pending requests",
            r"at capacity|capacity (?:temporarily )?exceeded",
            r"(?:high|peak|heavy) (?:demand|load|traffic)",
            r"访问量过大|负载已饱和|繁忙",
        ),
        kind=FailureKind.OVERLOADED,
        holder=Holder.STATED,
    ),
    Rule(
        name="rate.code",
        codes=(
            "*rate_limit*",
            "*ratelimit*",
            "*rate limit*",
            "*too_many_requests*",
            "*toomanyrequests*",
            "*throttl*",
            "resource_exhausted",
        ),
        kind=FailureKind.RATE_LIMITED,
        holder=Holder.STATED,
    ),
    Rule(
        name="rate.phrase",
        statuses=_LIMITING,
        phrase=_phrase(
            r"rate.?limit",
            r"too many (?:concurrent )?requests",
            r"\b(?:requests|tokens) per (?:second|min|hour|day)",
            r"\b[RT]P[MD]\b",
            r"concurren\w* (?:requests?|limit|calls?|sessions?)|(?:max|organization) concurrency",
            r"parallel request",
            r"no deployments available",
            r"\b(?:qps|rps)\b",
            r"请求频率|请求过于频繁|请求过多|速率限制|并发|流控|限流|限频",
        ),
        kind=FailureKind.RATE_LIMITED,
        holder=Holder.STATED,
    ),
    # Plain enough to count under every status.
    Rule(
        name="overloaded.any",
        codes=("overloaded_error",),
        phrase=_phrase(r"\b(?:is|are|currently|temporarily|been) overloaded\b"),
        kind=FailureKind.OVERLOADED,
        holder=Holder.STATED,
    ),
    Rule(
        name="rate.any",
        phrase=_phrase(
            r"rate limit (?:is |was |has been )?(?:exceeded|reached|hit)",
            r"(?:exceeded|reached|hit) (?:the|your|its) rate limit",
            r"too many requests",
            r"too many tokens,? (?:please )?wait",
        ),
        kind=FailureKind.RATE_LIMITED,
        holder=Holder.STATED,
    ),
    # The service does not have the model, or not any more: another one may.
    Rule(
        name="model.not_found.code",
        statuses=_NO_SUCH_MODEL | {500, 503},
        codes=(
            "*model_not_found*",
            "*modelnotfound*",
            "*model_not_supported*",
            "*model_not_available*",
            "model_not_exist*",
            "*unknown_model*",
            "*unsupported_model*",
            "model_decommissioned",
            "model_deprecated",
            "model_retired",
            "deploymentnotfound",
            "deployment_not_found",
        ),
        kind=FailureKind.MODEL_NOT_FOUND,
    ),
    Rule(
        name="model.not_found.phrase",
        statuses=_NO_SUCH_MODEL,
        phrase=_phrase(
            r"\bmodels?\b[^.\n]{0,100}?\b(?:not exist|doesn't exist|not found)",
            r"\bnot found the model\b",
            r"\bmodels?\b[^.\n]{0,100}?\bis not (?:available|supported|served|loaded)",
            r"\bmodels?\b[^.\n]{0,100}?\b(?:has been|is|was)"
            r" (?:deprecated|decommissioned|retired|removed|shut down|no longer)",
            r"(?:no such|unknown|unsupported|invalid|not a valid|cannot find)(?: the)? model\b",
            r"not a valid model",
            r"no endpoints found for \S",
            r"try pulling it first",
            r"API deployment for this resource does not exist",
            r"模型.{0,60}不存在",
        ),
        kind=FailureKind.MODEL_NOT_FOUND,
    ),
    Rule(
        name="model.no_channel",
        provider="new-api",
        statuses=frozenset({0, 503}),
        phrase=_phrase(r"no available channels? for model", r"模型.{0,80}无可用渠道"),
        kind=FailureKind.MODEL_NOT_FOUND,
    ),
    # About the content and not the key, although the status is that of a key.
    Rule(
        name="content.flagged",
        provider="OpenRouter",
        statuses=frozenset({0, 403}),
        codes=("content_policy*", "content_filter*", "moderation*", "data_inspection_failed"),
        phrase=_phrase(r"\b(?:input|prompt|content|request)\b.{0,20}\bflagged\b"),
        kind=FailureKind.REJECTED,
    ),
    Rule(
        name="not_found.code",
        statuses=frozenset({0, 400}),
        codes=("*not_found*", "*notfound*"),
        kind=FailureKind.NOT_FOUND,
    ),
    Rule(
        name="key.refused",
        statuses=frozenset({0, 400}),
        codes=(
            "*authentication*",
            "*invalid_api_key*",
            "api_key_invalid",
            "*unauthorized*",
            "*permission*",
        ),
        phrase=_phrase(r"(?:API key not valid|incorrect API key|invalid API key)"),
        kind=FailureKind.UNAUTHORIZED,
    ),
    Rule(
        name="request.refused",
        statuses=frozenset({0}),
        codes=(
            "*invalid_request*",
            "*content_filter*",
            "*context_length*",
            "*context_size*",
            "*bad_request*",
            "badrequesterror",
        ),
        kind=FailureKind.REJECTED,
    ),
    # By status alone.
    _status(400, FailureKind.REJECTED),
    _status(401, FailureKind.UNAUTHORIZED),
    _status(402, FailureKind.QUOTA),
    _status(403, FailureKind.UNAUTHORIZED),
    _status(404, FailureKind.NOT_FOUND),
    _status(405, FailureKind.REJECTED),
    _status(410, FailureKind.NOT_FOUND),
    _status(407, FailureKind.UNAUTHORIZED),
    _status(408, FailureKind.TIMEOUT),
    # A lost race inside the service, not a wrong request: OpenAI's own client retries it.
    _status(409, FailureKind.SERVER_ERROR),
    _status(413, FailureKind.REJECTED),
    _status(415, FailureKind.REJECTED),
    _status(422, FailureKind.REJECTED),
    _status(429, FailureKind.RATE_LIMITED, holder=Holder.STATED),
    _status(431, FailureKind.REJECTED),
    _status(451, FailureKind.UNAUTHORIZED),
    _status(500, FailureKind.SERVER_ERROR),
    _status(501, FailureKind.SERVER_ERROR),
    _status(502, FailureKind.SERVER_ERROR),
    _status(503, FailureKind.OVERLOADED),
    _status(504, FailureKind.TIMEOUT),
    _status(505, FailureKind.SERVER_ERROR),
    # Cloudflare's: it did not reach the service, or got no usable answer.
    _status(520, FailureKind.SERVER_ERROR),
    _status(521, FailureKind.SERVER_ERROR),
    _status(522, FailureKind.TIMEOUT),
    _status(523, FailureKind.SERVER_ERROR),
    _status(524, FailureKind.TIMEOUT),
    _status(525, FailureKind.SERVER_ERROR),
    _status(526, FailureKind.SERVER_ERROR),
    _status(529, FailureKind.OVERLOADED),
    _status(530, FailureKind.SERVER_ERROR),
)

UNKNOWN = {
    2: Rule(name="unknown.2xx", kind=FailureKind.MALFORMED),
    3: Rule(name="redirect", kind=FailureKind.REJECTED),
    4: Rule(name="unknown.4xx", kind=FailureKind.REJECTED, recognised=False),
    5: Rule(name="unknown.5xx", kind=FailureKind.SERVER_ERROR, recognised=False),
}
"""By class of status, when no rule matches."""
UNKNOWN_ERROR = Rule(name="unknown.error", kind=FailureKind.SERVER_ERROR, recognised=False)
"""For an error without a usable status."""

SCOPES: tuple[tuple[re.Pattern[str], LimitScope], ...] = (
    (_phrase(r"concurren", r"parallel request", r"并发"), LimitScope.CONCURRENCY),
    (
        _phrase(r"\bTPD\b", r"tokens? (?:per|a) day", r"tokens?\w*PerDay"),
        LimitScope.TOKENS_PER_DAY,
    ),
    (
        _phrase(r"\bRPD\b", r"(?:requests?|models?)[ -](?:per|a)[ -]day", r"requests?\w*PerDay"),
        LimitScope.REQUESTS_PER_DAY,
    ),
    (
        _phrase(r"\bTPM\b", r"tokens? (?:per|a) min", r"tokens?\w*PerMinute", r"token rate limit"),
        LimitScope.TOKENS_PER_MINUTE,
    ),
    (
        _phrase(
            r"\bRPM\b", r"requests? (?:per|a) min", r"requests?\w*PerMinute", r"call rate limit"
        ),
        LimitScope.REQUESTS_PER_MINUTE,
    ),
)
"""The limit that a message names, in this order."""

_NAMES_MODEL = _phrase(
    r"\b(?:for|per|this|the|selected|requested|base)[ _-]?model\b",
    r"\bmodel\s*[:=`'\"]",
    r"PerModel",
    r"per_(?:base_)?model",
    r"\bengine[ _]",
    r"limit reached for (?!your\b|the\b|this\b|all\b|user\b|org)[`'\"]?[\w./:@-]+",
    r"(?:该|此)模型",
)
_NAMES_ALL_MODELS = _phrase(r"\ball models\b", r"free-models-per")
_NAMES_ACCOUNT = _phrase(
    r"organi[sz]ation",
    r"\baccount",
    r"\byour plan\b",
    r"\b(?:project|team|workspace|subscription)\b",
    r"\b(?:your|this|per) (?:api )?key\b",
    r"账户|账号|组织",
)


def find_rule(status: int, codes: tuple[str, ...], words: tuple[str, ...]) -> Rule:
    """The first rule that matches an error's codes or one of its messages; status 0: none."""
    for rule in RULES:
        if rule.statuses and status not in rule.statuses:
            continue
        if not (rule.codes or rule.phrase):
            return rule
        has_code = any(_matches(code, pattern) for pattern in rule.codes for code in codes)
        if has_code and not rule.needs_both:
            return rule
        if rule.phrase is None or (rule.needs_both and not has_code):
            continue
        if any(_says(rule.phrase, each, status) for each in words):
            return rule
    return UNKNOWN.get(status // 100, UNKNOWN_ERROR)


def limit_of(rule: Rule, words: str, wait_s: float | None) -> tuple[FailureKind, LimitScope | None]:
    """The kind of a refusal of LIMIT_KINDS, and the limit behind it, given the wait.

    RATE_LIMITED is worth waiting for, QUOTA is a matter of hours. ``wait_s`` decides where names
    mislead: some services call each of their limits, even the one per minute, a quota.
    """
    kind, scope = rule.kind, rule.scope
    if scope is None:
        scope = next((scope for pattern, scope in SCOPES if pattern.search(words)), None)
    is_short = wait_s is not None and 0 < wait_s <= MAX_RATE_WAIT_S
    if kind is FailureKind.RATE_LIMITED and scope in LONG_SCOPES and not is_short:
        return FailureKind.QUOTA, scope
    if kind is FailureKind.QUOTA and is_short and rule.until is Until.RESET_OR_RATE:
        return FailureKind.RATE_LIMITED, scope
    return kind, scope


def holder_of(rule: Rule, words: str, model: str) -> LimitHolder:
    """The holder of the limit; ``model`` is the requested one, if known."""
    if rule.holder is not Holder.STATED:
        return LimitHolder(rule.holder.value)
    if _NAMES_ALL_MODELS.search(words):
        return LimitHolder.ACCOUNT
    if _NAMES_MODEL.search(words) or (len(model) > 2 and model.lower() in words.lower()):
        return LimitHolder.MODEL
    if _NAMES_ACCOUNT.search(words) or rule.kind is FailureKind.OVERLOADED:
        return LimitHolder.ACCOUNT
    return LimitHolder.MODEL


# The words of libraries and gateways before those of a service.
_LEAD_IN = re.compile(r"[^:.\n]{0,30}")
_WRAPPERS = re.compile(
    r"(?:[\w.]*(?:Error|Exception)\b[\s:-]*|error code: \d+[\s:-]*)*", re.IGNORECASE
)


def _matches(code: str, pattern: str) -> bool:
    text = pattern.strip("*")
    if pattern.startswith("*"):
        return text in code
    return code.startswith(text) if pattern.endswith("*") else code == text


def _says(phrase: re.Pattern[str], words: str, status: int) -> bool:
    if status not in REQUEST_STATUSES:
        return phrase.search(words) is not None
    wrappers = _WRAPPERS.match(words)
    start = 0 if wrappers is None else wrappers.end()
    found = phrase.search(words, start, start + 120)
    return found is not None and _LEAD_IN.fullmatch(words, start, found.start()) is not None
