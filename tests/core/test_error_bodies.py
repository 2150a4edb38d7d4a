"""What a client is told of a request that got no answer: code, cause and what to do."""

from __future__ import annotations

import msgspec
import pytest

from exai_actors.core import error_bodies
from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.scheduled_call import Refusal, RefusalCause
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ProviderName

KIMI = ProviderName("kimi")


def test_a_providers_failure_names_it_its_status_and_when_to_come_back() -> None:
    failure = UpstreamFailure(FailureKind.RATE_LIMITED, "429: slow down", 429, retry_after=3.0)
    assert error_bodies.provider_failed(KIMI, failure) == ErrorBody(
        ErrorCode.PROVIDER_ERROR,
        "provider 'kimi': 429: slow down",
        {"provider": "kimi", "kind": "rate_limited", "status": 429, "retry_after": 3.0},
    )


def test_what_the_provider_did_not_tell_is_left_out() -> None:
    body = error_bodies.provider_failed(KIMI, UpstreamFailure(FailureKind.CONNECT, "refused"))
    assert body.details == {"provider": "kimi", "kind": "connect"}


def test_a_provider_that_took_too_long_is_a_timeout() -> None:
    body = error_bodies.provider_failed(KIMI, UpstreamFailure(FailureKind.TIMEOUT, "no first byte"))
    assert body.code is ErrorCode.TIMEOUT


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    body = error_bodies.model_not_found("gpt", ("k2", "glm-4.5"))
    assert body.code is ErrorCode.MODEL_NOT_FOUND
    assert body.message == "no provider serves the model 'gpt'; available: k2, glm-4.5"
    assert body.details == {"model": "gpt", "available_models": ["k2", "glm-4.5"]}


def test_a_default_model_that_nobody_serves_is_called_that() -> None:
    body = error_bodies.model_not_found(None, ("k2",))
    assert body.message == "no provider serves the default model; available: k2"


@pytest.mark.parametrize("model", [None, "k2"])
def test_while_no_provider_named_a_model_that_is_what_is_said(model: str | None) -> None:
    body = error_bodies.model_not_found(model, ())
    assert "none has named a model yet" in body.message
    assert body.details == {"model": model, "available_models": []}


def test_an_expired_request_is_told_in_the_words_of_the_protocol() -> None:
    body = error_bodies.expired("chat", 30.0)
    assert (body.code, body.message) == (ErrorCode.TIMEOUT, "call_tool exceeded 30s")
    assert body.details == {"timeout_seconds": 30.0, "tool_name": "chat"}


FULL = Refusal(RefusalCause.FULL, "busy", 2.5, queued=1000, position=7, wait_s=2.5)


def test_a_refusal_tells_why_where_it_would_have_waited_and_when_to_come_back() -> None:
    body = error_bodies.provider_refused(KIMI, FULL)
    assert "1000 requests waiting, which is its limit" in body.message
    assert body.details == {
        "provider": KIMI,
        "reason": "busy",
        "queued": 1000,
        "position": 7,
        "retry_after": 2.5,
        "estimated_wait_s": 2.5,
    }


ALL = [
    error_bodies.provider_failed(KIMI, UpstreamFailure(FailureKind.BROKEN, "half a stream")),
    *(
        error_bodies.provider_refused(KIMI, Refusal(cause, "quota", 2.5, 1000, 7, 2.5))
        for cause in RefusalCause
    ),
    error_bodies.provider_gone(KIMI),
    error_bodies.session_full(256),
    error_bodies.session_gone(),
    error_bodies.model_not_found("gpt", ("k2",)),
    error_bodies.id_reused(),
    error_bodies.expired("chat", 0.5),
    error_bodies.cancelled(),
    error_bodies.draining(),
    error_bodies.cut_short(),
]


@pytest.mark.parametrize("body", ALL, ids=lambda body: str(body.code))
def test_every_error_can_be_sent_as_json(body: ErrorBody) -> None:
    assert msgspec.json.decode(msgspec.json.encode(body), type=ErrorBody) == body


@pytest.mark.parametrize(
    ("body", "code", "retry_after"),
    [
        (error_bodies.provider_refused(KIMI, FULL), ErrorCode.OVER_CAPACITY, 2.5),
        (error_bodies.session_full(256), ErrorCode.OVER_CAPACITY, 1),
        (error_bodies.provider_gone(KIMI), ErrorCode.SERVICE_UNAVAILABLE, 1),
        (error_bodies.session_gone(), ErrorCode.INTERNAL_ERROR, 1),
        (error_bodies.draining(), ErrorCode.DRAINING, 5),
        (error_bodies.cut_short(), ErrorCode.DRAINING, 5),
    ],
)
def test_what_is_worth_a_retry_says_after_how_many_seconds(
    body: ErrorBody, code: ErrorCode, retry_after: float
) -> None:
    assert body.code is code
    assert body.details is not None
    assert body.details["retry_after"] == retry_after


@pytest.mark.parametrize("body", [error_bodies.id_reused(), error_bodies.cancelled()])
def test_what_is_not_worth_one_does_not(body: ErrorBody) -> None:
    assert "retry_after" not in (body.details or {})
