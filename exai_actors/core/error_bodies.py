"""What a client is told of a request that got no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.scheduled_call import Refusal, RefusalCause
from exai_actors.core.durations import in_seconds
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ProviderName

_SHUT = {
    "rate_limited": "its rate limit is reached",
    "overloaded": "it is overloaded",
    "quota": "its quota is used up",
    "circuit_open": "it has failed too often",
    "unreachable": "its operator has paused it",
}


def provider_failed(provider: ProviderName, failure: UpstreamFailure) -> ErrorBody:
    """The provider's own words, its HTTP status if there was one, and when to come back."""
    details: dict[str, Any] = {"provider": provider, "kind": failure.kind.value}
    if failure.status is not None:
        details["status"] = failure.status
    if failure.retry_after is not None:
        details["retry_after"] = failure.retry_after
    code = ErrorCode.TIMEOUT if failure.kind is FailureKind.TIMEOUT else ErrorCode.PROVIDER_ERROR
    return ErrorBody(code, f"provider '{provider}': {failure.message}", details)


def provider_refused(provider: ProviderName, refusal: Refusal) -> ErrorBody:
    """It was not taken by its provider's queue: why, where it would have stood, when to return."""
    queued, position = refusal.queued, refusal.position
    match refusal.cause:
        case RefusalCause.FULL:
            why = f"has {queued} requests waiting, which is its limit"
        case RefusalCause.TOO_LATE:
            wait = "too long" if refusal.wait_s is None else f"about {in_seconds(refusal.wait_s)}"
            why = f"is busy: this request would wait {wait}, beyond its deadline"
        case RefusalCause.NO_WAITING:
            why = "has no permit free"
            if refusal.reason in _SHUT:
                why = f"takes no calls for now ({_SHUT[refusal.reason]})"
            why += " and this request does not want to wait"
        case RefusalCause.CLOSED:
            why = f"takes no calls for now ({_SHUT[refusal.reason]})"
        case RefusalCause.DRAINING:
            why = "takes no new requests: its operator is taking it out of service"
        case _:
            assert_never(refusal.cause)
    details: dict[str, Any] = {
        "provider": provider,
        "reason": refusal.reason,
        "queued": queued,
        "position": position,
        "retry_after": round(refusal.retry_after, 3),
    }
    if refusal.wait_s is not None:
        details["estimated_wait_s"] = round(refusal.wait_s, 3)
    code = ErrorCode.OVER_CAPACITY
    if refusal.cause in (RefusalCause.CLOSED, RefusalCause.DRAINING):
        code = ErrorCode.SERVICE_UNAVAILABLE
    return ErrorBody(code, f"provider '{provider}' {why}; retry later", details)


def provider_gone(provider: ProviderName) -> ErrorBody:
    return ErrorBody(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"provider '{provider}' was restarted while it had this request; retry",
        {"provider": provider, "retry_after": 1},
    )


def provider_unreachable(provider: ProviderName) -> ErrorBody:
    """Its actor is just being restarted, or its mailbox is full; nothing was sent upstream."""
    return ErrorBody(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"provider '{provider}' takes no requests at this moment; retry",
        {"provider": provider, "retry_after": 1},
    )


def session_full(waiting: int) -> ErrorBody:
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        f"this session has {waiting} requests waiting, which is its limit; retry later",
        {"capacity_type": "session", "queued": waiting, "retry_after": 1},
    )


def session_holds_too_much() -> ErrorBody:
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        "the requests of this session that have no outcome yet hold as much text as they may "
        "together; retry when some have ended",
        {"capacity_type": "session", "retry_after": 1},
    )


def session_would_wait() -> ErrorBody:
    """The client said not to let it wait."""
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        "this request would have to wait for earlier ones of its session or conversation, "
        "and its if_busy is 'refuse'; retry later",
        {"capacity_type": "session", "retry_after": 1},
    )


def session_busy() -> ErrorBody:
    """Its mailbox is full or closed: nothing was begun."""
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        "this session takes no more requests at this moment; retry",
        {"capacity_type": "session", "retry_after": 1},
    )


def session_gone() -> ErrorBody:
    return ErrorBody(
        ErrorCode.INTERNAL_ERROR,
        "the session failed inside the broker; connect again and retry",
        {"retry_after": 1},
    )


def model_not_found(
    model: str | None, models: tuple[str, ...], troubles: Sequence[str] = ()
) -> ErrorBody:
    """Nobody serves this model; None stands for the configured default.

    ``troubles`` say why providers could not be asked for the models they serve.
    """
    wanted = "the default model" if model is None else f"the model '{model}'"
    if models:
        message = f"no provider serves {wanted}; available: {', '.join(models)}"
    else:
        message = f"no provider serves {wanted}: none has named a model yet"
    if troubles:
        message += f" ({'; '.join(troubles)})"
    return ErrorBody(
        ErrorCode.MODEL_NOT_FOUND, message, {"model": model, "available_models": list(models)}
    )


def id_reused() -> ErrorBody:
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "this request id was already used in this session for a different call; use a new id",
    )


def key_reused() -> ErrorBody:
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "this idempotency key was already used in this session for a different call; use a new key",
    )


def repeated_too_often() -> ErrorBody:
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "this request is still in flight and was repeated too often; its answer is on its way",
    )


def after_others(error: ErrorBody, tried: tuple[dict[str, Any], ...]) -> ErrorBody:
    """How a request of a route ended, with what each target of the route said before."""
    if not tried:
        return error
    details = {**(error.details or {}), "tried": list(tried)}
    return ErrorBody(error.code, error.message, details)


def expired(tool: str, timeout_s: float) -> ErrorBody:
    return ErrorBody(
        ErrorCode.TIMEOUT,
        f"call_tool exceeded {timeout_s:g}s",
        {"timeout_seconds": timeout_s, "tool_name": tool},
    )


def cancelled() -> ErrorBody:
    return ErrorBody(ErrorCode.CANCELLED, "the request was cancelled by its client")


def draining() -> ErrorBody:
    return ErrorBody(
        ErrorCode.DRAINING,
        "the broker is shutting down and takes no new requests; connect again later",
        {"retry_after": 5},
    )


def cut_short() -> ErrorBody:
    return ErrorBody(
        ErrorCode.DRAINING,
        "the broker shut down before this request had ended; ask again later",
        {"retry_after": 5},
    )
