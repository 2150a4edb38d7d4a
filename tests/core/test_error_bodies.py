"""Error bodies: code, message, details and when to retry."""

from __future__ import annotations

import msgspec
import pytest

from exai_actors.core import error_bodies
from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.families import Family
from exai_actors.core.wait_reasons import WaitCode, Waiting, WaitReason
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ProviderName

KIMI = ProviderName("kimi")


NOW = 100.0
SUSPENDED = WaitReason(WaitCode.HOLD, until=160.2, kind="quota", cause="HTTP 429: suspended")
WINDOW = WaitReason(WaitCode.SESSION_WINDOW, limit=8, used=8)
BROKEN = WaitReason(WaitCode.CIRCUIT, until=105.0, cause="HTTP 500")


def refused(
    cause: RefusalCause,
    reason: str = "busy",
    wait_s: float | None = 2.5,
    wait: WaitReason | None = None,
) -> ErrorBody:
    refusal = Refusal(cause, reason, 2.50049, 1000, 7, wait_s, wait)
    return error_bodies.provider_refused(KIMI, refusal, NOW)


def test_a_providers_failure_has_its_name_status_and_wait() -> None:
    failure = UpstreamFailure(FailureKind.RATE_LIMITED, "429: slow down", 429, retry_after=3.0)
    assert error_bodies.provider_failed(KIMI, failure) == ErrorBody(
        ErrorCode.PROVIDER_ERROR,
        "provider 'kimi': 429: slow down",
        {"provider": "kimi", "kind": "rate_limited", "status": 429, "retry_after": 3.0},
    )


def test_missing_facts_are_left_out() -> None:
    body = error_bodies.provider_failed(KIMI, UpstreamFailure(FailureKind.CONNECT, "refused"))
    assert body.details == {"provider": "kimi", "kind": "connect"}
    assert "estimated_wait_s" not in (refused(RefusalCause.FULL, wait_s=None).details or {})


def test_a_slow_provider_is_a_timeout() -> None:
    body = error_bodies.provider_failed(KIMI, UpstreamFailure(FailureKind.TIMEOUT, "no first byte"))
    assert body.code is ErrorCode.TIMEOUT


@pytest.mark.parametrize(
    ("model", "models", "message"),
    [
        ("gpt", ("k2", "glm"), "no provider serves the model 'gpt'; available: k2, glm"),
        (None, ("k2",), "no provider serves the default model; available: k2"),
        ("gpt", (), "no provider serves the model 'gpt': none has named a model yet"),
        (None, (), "no provider serves the default model: none has named a model yet"),
    ],
)
def test_an_unknown_model_is_answered_with_the_known_ones(
    model: str | None, models: tuple[str, ...], message: str
) -> None:
    assert error_bodies.model_not_found(model, models, {}) == ErrorBody(
        ErrorCode.MODEL_NOT_FOUND, message, {"model": model, "available_models": list(models)}
    )
    troubled = error_bodies.model_not_found(model, models, {"kimi": "refused", "glm": "401"})
    assert troubled.message == f"{message} (kimi: refused; glm: 401)"


@pytest.mark.parametrize(
    ("waiting", "message", "more"),
    [
        (None, "; provider 'kimi' was still working on it", {"provider": "kimi"}),
        (
            Waiting(1, WaitReason(WaitCode.PERMIT, "kimi", limit=3, used=3)),
            "; it was still waiting at position 1 (kimi: 3 of 3 calls in flight)",
            {"position": 1},
        ),
        (
            Waiting(None, WaitReason(WaitCode.RETRY, "kimi", until=12.0)),
            "; it was still waiting (kimi: the last attempt failed, next in 2 s)",
            {},
        ),
        (
            Waiting(None, WaitReason(WaitCode.SESSION_WINDOW, limit=8, used=8)),
            "; it was still waiting (this session: 8 of 8 requests with providers)",
            {},
        ),
    ],
)
def test_an_expired_request_says_what_it_waited_for(
    waiting: Waiting | None, message: str, more: dict[str, object]
) -> None:
    body = error_bodies.expired("chat", 0.5, waiting, 10.0, KIMI)
    assert (body.code, body.message) == (ErrorCode.TIMEOUT, f"no answer within 0.5 s{message}")
    details = dict(body.details or {})
    waits_for = details.pop("waits_for", None)
    assert details == {"timeout_seconds": 0.5, "tool_name": "chat", **more}
    assert (waits_for is None) is (waiting is None)
    if waiting is not None:
        assert waits_for["code"] == waiting.reason.code.value


def test_a_refusal_has_reason_position_and_waits() -> None:
    assert refused(RefusalCause.FULL).details == {
        "provider": KIMI,
        "reason": "busy",
        "queued": 1000,
        "position": 7,
        "retry_after": 2.5,
        "estimated_wait_s": 2.5,
    }


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (
            refused(RefusalCause.FULL),
            ErrorCode.OVER_CAPACITY,
            (
                "provider 'kimi' has 1000 requests waiting, which is its limit, and none of others "
                "has to give way to this one; retry later"
            ),
        ),
        (
            refused(RefusalCause.DISPLACED),
            ErrorCode.OVER_CAPACITY,
            (
                "provider 'kimi' has 1000 requests waiting, which is its limit: this one, the last "
                "of the session with the most of them, gave its place to one of others; retry later"
            ),
        ),
        (
            refused(RefusalCause.TOO_LATE),
            ErrorCode.OVER_CAPACITY,
            "provider 'kimi': busy; this request would wait about 2.5 s, beyond its deadline",
        ),
        (refused(RefusalCause.TOO_LATE, wait_s=None), ErrorCode.OVER_CAPACITY, "wait too long, "),
        (
            refused(RefusalCause.NO_WAITING),
            ErrorCode.OVER_CAPACITY,
            "provider 'kimi': busy; this request does not wait; retry later",
        ),
        (
            refused(RefusalCause.FULL, wait=SUSPENDED),
            ErrorCode.OVER_CAPACITY,
            "give way to this one (account refused for quota, trying again in 61 s (HTTP 429: susp",
        ),
        (
            refused(RefusalCause.TOO_LATE, "quota", wait=SUSPENDED),
            ErrorCode.OVER_CAPACITY,
            "trying again in 61 s (HTTP 429: suspended); this request would wait about 2.5 s, bey",
        ),
        (
            refused(RefusalCause.NO_WAITING, "quota", wait=SUSPENDED),
            ErrorCode.OVER_CAPACITY,
            "trying again in 61 s (HTTP 429: suspended); this request does not wait; retry later",
        ),
        (
            refused(RefusalCause.CLOSED, "circuit_open", wait=BROKEN),
            ErrorCode.SERVICE_UNAVAILABLE,
            "'kimi' accepts no calls now: failed too often (HTTP 500), next try in 5 s; retry",
        ),
        (refused(RefusalCause.DRAINING), ErrorCode.SERVICE_UNAVAILABLE, "out of service"),
    ],
)
def test_a_refusal_says_why(body: ErrorBody, code: ErrorCode, text: str) -> None:
    assert body.code is code
    assert text in body.message


def test_a_refusal_carries_the_reason_of_the_wait_as_a_value() -> None:
    details = refused(RefusalCause.CLOSED, "quota", wait=SUSPENDED).details or {}
    assert details["waits_for"] == {
        "code": "hold",
        "provider": "kimi",
        "kind": "quota",
        "cause": "HTTP 429: suspended",
        "ends_in_s": 60.2,
        "text": "kimi: account refused for quota, trying again in 61 s (HTTP 429: suspended)",
    }
    draining = refused(RefusalCause.DRAINING, wait=SUSPENDED).details or {}
    assert "waits_for" not in draining


def test_a_full_session_says_how_many_requests_wait() -> None:
    body = error_bodies.session_full(256)
    assert "256 requests waiting" in body.message
    assert body.details == {"capacity_type": "session", "queued": 256, "retry_after": 1}


BY_FAMILY: dict[Family, tuple[str, ...]] = {
    "chat": ("k2", "k3"),
    "messages": ("opus",),
    "embeddings": (),
}
WAITS = {
    "code": "session_window",
    "limit": 8,
    "used": 8,
    "text": "this session: 8 of 8 requests with providers",
}


@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        (
            error_bodies.provider_restarted(KIMI),
            ErrorCode.SERVICE_UNAVAILABLE,
            {"provider": KIMI, "retry_after": 1},
        ),
        (
            error_bodies.provider_unreachable(KIMI),
            ErrorCode.SERVICE_UNAVAILABLE,
            {"provider": KIMI, "retry_after": 1},
        ),
        (
            error_bodies.poison(KIMI),
            ErrorCode.INTERNAL_ERROR,
            {"provider": KIMI, "reason": "poison"},
        ),
        (error_bodies.session_poison(), ErrorCode.INTERNAL_ERROR, {"reason": "poison"}),
        (error_bodies.session_failed(), ErrorCode.INTERNAL_ERROR, {"retry_after": 1}),
        (error_bodies.broker_failed(), ErrorCode.INTERNAL_ERROR, {"retry_after": 5}),
        (
            error_bodies.session_full(3, WINDOW),
            ErrorCode.OVER_CAPACITY,
            {"capacity_type": "session", "queued": 3, "waits_for": WAITS, "retry_after": 1},
        ),
        (
            error_bodies.session_would_wait(WINDOW),
            ErrorCode.OVER_CAPACITY,
            {"capacity_type": "session", "waits_for": WAITS, "retry_after": 1},
        ),
        (
            error_bodies.session_busy(),
            ErrorCode.OVER_CAPACITY,
            {"capacity_type": "session", "retry_after": 1},
        ),
        (
            error_bodies.session_text_limit(),
            ErrorCode.OVER_CAPACITY,
            {"capacity_type": "session", "retry_after": 1},
        ),
        (
            error_bodies.expired_unread(2.5),
            ErrorCode.TIMEOUT,
            {"timeout_seconds": 2.5, "retry_after": 1},
        ),
        (error_bodies.draining(), ErrorCode.DRAINING, {"retry_after": 5}),
        (error_bodies.interrupted_by_shutdown(), ErrorCode.DRAINING, {"retry_after": 5}),
        (
            error_bodies.default_unknown(KIMI, None, ("k2",)),
            ErrorCode.MODEL_NOT_FOUND,
            {"provider": KIMI, "available_models": ["k2"], "retry_after": 1},
        ),
        (
            error_bodies.default_unknown(KIMI, "HTTP 401", ()),
            ErrorCode.MODEL_NOT_FOUND,
            {"provider": KIMI, "available_models": []},
        ),
        (
            error_bodies.family_not_found("messages", "k2", BY_FAMILY, ["chat"]),
            ErrorCode.MODEL_NOT_FOUND,
            {"model": "k2", "family": "messages", "available_models": ["opus"]},
        ),
        (
            error_bodies.conversation_unknown("talk-1"),
            ErrorCode.NOT_FOUND,
            {"continuation_id": "talk-1"},
        ),
        (error_bodies.repeated_too_late(), ErrorCode.DUPLICATE, None),
        (error_bodies.key_reused(), ErrorCode.DUPLICATE, None),
        (error_bodies.repeated_too_often(), ErrorCode.DUPLICATE, None),
        (error_bodies.ended_by_operator("too long"), ErrorCode.CANCELLED, None),
        (error_bodies.connection_ended(), ErrorCode.CANCELLED, None),
    ],
)
def test_programs_find_the_code_and_when_to_retry(
    body: ErrorBody, code: ErrorCode, details: dict[str, object] | None
) -> None:
    assert (body.code, body.details) == (code, details)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            error_bodies.family_not_found("messages", "k2", BY_FAMILY, ["chat", "responses"]),
            (
                "no provider serves the model 'k2' for Messages, only for chat completions and "
                "Responses; available for Messages: opus"
            ),
        ),
        (
            error_bodies.family_not_found("embeddings", "k2", BY_FAMILY, []),
            (
                "no provider serves the model 'k2' for embeddings; no model is available for "
                "embeddings, but for chat completions: k2, k3; for Messages: opus"
            ),
        ),
        (
            error_bodies.family_not_found("chat", "k2", {"chat": ()}, []),
            (
                "no provider serves the model 'k2' for chat completions; no model is available for "
                "chat completions"
            ),
        ),
        (
            error_bodies.default_unknown(KIMI, None, ()),
            "provider 'kimi' has not listed its models yet; retry",
        ),
        (
            error_bodies.default_unknown(KIMI, "HTTP 401", ("glm", "opus")),
            (
                "the default model is the first of provider 'kimi', which could not list its "
                "models: HTTP 401; to use another provider, name its model: glm, opus"
            ),
        ),
        (
            error_bodies.ended_by_operator("too long"),
            "an operator of the broker cancelled the request: too long",
        ),
        (
            error_bodies.ended_by_operator(""),
            "an operator of the broker cancelled the request",
        ),
    ],
)
def test_a_message_names_what_there_is_instead(body: ErrorBody, message: str) -> None:
    assert body.message == message


def test_a_routes_error_lists_the_targets_tried_before() -> None:
    error = error_bodies.provider_restarted(KIMI)
    assert error_bodies.with_tried_targets(error, ()) is error
    tried = ({"provider": "glm", "code": "PROVIDER_ERROR"},)
    body = error_bodies.with_tried_targets(error, tried)
    assert (body.code, body.message) == (error.code, error.message)
    assert body.details == {**(error.details or {}), "tried": list(tried)}


ALL = [
    error_bodies.provider_failed(KIMI, UpstreamFailure(FailureKind.BROKEN, "half a stream")),
    *(refused(cause, "quota") for cause in RefusalCause),
    error_bodies.provider_restarted(KIMI),
    error_bodies.session_full(256),
    error_bodies.session_failed(),
    error_bodies.model_not_found("gpt", ("k2",), {}),
    error_bodies.id_reused(),
    error_bodies.expired("chat", 0.5),
    error_bodies.cancelled(),
    error_bodies.draining(),
]


@pytest.mark.parametrize("body", ALL, ids=lambda body: str(body.code))
def test_every_error_can_be_sent_as_json(body: ErrorBody) -> None:
    assert msgspec.json.decode(msgspec.json.encode(body), type=ErrorBody) == body


@pytest.mark.parametrize(
    ("body", "code", "retry_after"),
    [
        (error_bodies.session_full(256), ErrorCode.OVER_CAPACITY, 1),
        (error_bodies.session_text_limit(), ErrorCode.OVER_CAPACITY, 1),
        (
            error_bodies.session_would_wait(WINDOW),
            ErrorCode.OVER_CAPACITY,
            1,
        ),
        (error_bodies.session_busy(), ErrorCode.OVER_CAPACITY, 1),
        (error_bodies.provider_restarted(KIMI), ErrorCode.SERVICE_UNAVAILABLE, 1),
        (error_bodies.provider_unreachable(KIMI), ErrorCode.SERVICE_UNAVAILABLE, 1),
        (error_bodies.session_failed(), ErrorCode.INTERNAL_ERROR, 1),
        (error_bodies.draining(), ErrorCode.DRAINING, 5),
        (error_bodies.interrupted_by_shutdown(), ErrorCode.DRAINING, 5),
        (error_bodies.id_reused(), ErrorCode.DUPLICATE, None),
        (error_bodies.key_reused(), ErrorCode.DUPLICATE, None),
        (error_bodies.repeated_too_often(), ErrorCode.DUPLICATE, None),
        (error_bodies.cancelled(), ErrorCode.CANCELLED, None),
    ],
)
def test_an_error_has_a_retry_after_only_if_a_retry_can_succeed(
    body: ErrorBody, code: ErrorCode, retry_after: float | None
) -> None:
    assert body.code is code
    assert (body.details or {}).get("retry_after") == retry_after


@pytest.mark.parametrize(
    "body", [error_bodies.provider_restarted(KIMI), error_bodies.provider_unreachable(KIMI)]
)
def test_a_provider_that_is_away_for_a_moment_can_be_asked_again_in_a_second(
    body: ErrorBody,
) -> None:
    assert body.code is ErrorCode.SERVICE_UNAVAILABLE
    assert body.details == {"provider": "kimi", "retry_after": 1}


def test_a_failed_session_can_be_asked_again_after_a_second() -> None:
    assert error_bodies.session_failed().details == {"retry_after": 1}


def test_of_hundreds_of_models_the_text_names_some_and_the_details_all() -> None:
    models = tuple(f"model-{number}" for number in range(400))
    body = error_bodies.model_not_found("k2", models, {})
    assert body.message.endswith("model-28, model-29 and 370 more")
    assert body.details == {"model": "k2", "available_models": list(models)}
    assert error_bodies.some_of(models[:30]).endswith("model-28, model-29")
