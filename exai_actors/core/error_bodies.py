"""The error bodies for requests that end without an answer: code, message and when to retry.

``retry_after`` in the details is in seconds, and present whenever a retry can succeed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.durations import format_seconds
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ProviderName

# By the reason of a refusal, for providers that accept no calls.
_CLOSED_BECAUSE = {
    "rate_limited": "its rate limit is reached",
    "overloaded": "it is overloaded",
    "quota": "its quota is exhausted",
    "circuit_open": "it has failed too often",
    "unreachable": "its operator has paused it",
}


def provider_failed(provider: ProviderName, failure: UpstreamFailure) -> ErrorBody:
    """A failed call, with the service's message and HTTP status."""
    details: dict[str, Any] = {"provider": provider, "kind": failure.kind.value}
    if failure.status is not None:
        details["status"] = failure.status
    if failure.retry_after is not None:
        details["retry_after"] = failure.retry_after
    code = ErrorCode.TIMEOUT if failure.kind is FailureKind.TIMEOUT else ErrorCode.PROVIDER_ERROR
    return ErrorBody(code, f"provider '{provider}': {failure.message}", details)


def provider_refused(provider: ProviderName, refusal: Refusal) -> ErrorBody:
    """A refusal by the provider's queue, with its cause and the position that was in question."""
    code = ErrorCode.OVER_CAPACITY
    match refusal.cause:
        case RefusalCause.FULL:
            cause = (
                f"has {refusal.queued} requests waiting, which is its limit, and none of others "
                "has to give way to this one"
            )
        case RefusalCause.DISPLACED:
            cause = (
                f"has {refusal.queued} requests waiting, which is its limit: this one, the last of "
                "the session with the most of them, gave its place to one of others"
            )
        case RefusalCause.TOO_LATE:
            wait = refusal.wait_s
            duration = "too long" if wait is None else f"about {format_seconds(wait)}"
            cause = f"is busy: this request would wait {duration}, beyond its deadline"
        case RefusalCause.NO_WAITING:
            cause = "has no free permit"
            if refusal.reason in _CLOSED_BECAUSE:
                cause = f"accepts no calls now ({_CLOSED_BECAUSE[refusal.reason]})"
            cause += " and this request must not wait"
        case RefusalCause.CLOSED:
            code = ErrorCode.SERVICE_UNAVAILABLE
            cause = f"accepts no calls now ({_CLOSED_BECAUSE.get(refusal.reason, refusal.reason)})"
        case RefusalCause.DRAINING:
            code = ErrorCode.SERVICE_UNAVAILABLE
            cause = "accepts no new requests: its operator is taking it out of service"
        case _:
            assert_never(refusal.cause)
    details: dict[str, Any] = {
        "provider": provider,
        "reason": refusal.reason,
        "queued": refusal.queued,
        "position": refusal.position,
        "retry_after": round(refusal.retry_after, 3),
    }
    if refusal.wait_s is not None:
        details["estimated_wait_s"] = round(refusal.wait_s, 3)
    return ErrorBody(code, f"provider '{provider}' {cause}; retry later", details)


def provider_restarted(provider: ProviderName) -> ErrorBody:
    """The provider's actor was restarted during the call."""
    return ErrorBody(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"provider '{provider}' was restarted while it had this request; retry",
        {"provider": provider, "retry_after": 1},
    )


def provider_unreachable(provider: ProviderName) -> ErrorBody:
    """The provider's actor is being restarted, or its mailbox is full; no call was made."""
    return ErrorBody(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"provider '{provider}' accepts no requests at the moment; retry",
        {"provider": provider, "retry_after": 1},
    )


def session_full(waiting: int) -> ErrorBody:
    """The session's queue is full."""
    return _session_refused(
        f"this session has {waiting} requests waiting, which is its limit; retry later",
        queued=waiting,
    )


def session_text_limit() -> ErrorBody:
    """The texts of the session's unfinished requests are too long together."""
    return _session_refused(
        "the unfinished requests of this session hold as much text as they may together; "
        "retry when some have ended"
    )


def session_would_wait() -> ErrorBody:
    """The request would wait in its session, and its ``if_busy`` is ``refuse``."""
    return _session_refused(
        "this request would have to wait for earlier ones of its session or conversation, "
        "and its if_busy is 'refuse'; retry later"
    )


def session_busy() -> ErrorBody:
    """The session's mailbox is full or closed; the request was not started."""
    return _session_refused("this session accepts no more requests at the moment; retry")


def _session_refused(message: str, **details: Any) -> ErrorBody:
    return ErrorBody(
        ErrorCode.OVER_CAPACITY,
        message,
        {"capacity_type": "session", **details, "retry_after": 1},
    )


def session_failed() -> ErrorBody:
    """The session's actor has failed."""
    return ErrorBody(
        ErrorCode.INTERNAL_ERROR,
        "the session failed inside the broker; connect again and retry",
        {"retry_after": 1},
    )


def default_unknown(
    provider: ProviderName, trouble: str | None, models: tuple[str, ...]
) -> ErrorBody:
    """The request names no model, and the provider of the default has not listed its models.

    ``trouble`` says why its service did not list them, None if it has not answered yet.
    """
    details: dict[str, Any] = {"provider": provider, "available_models": list(models)}
    if trouble is None:
        details["retry_after"] = 1
        message = f"provider '{provider}' has not listed its models yet; retry"
    else:
        message = (
            f"the default model is the first of provider '{provider}', which could not list its "
            f"models: {trouble}"
        )
    if models:
        message += f"; to use another provider, name its model: {', '.join(models)}"
    return ErrorBody(ErrorCode.MODEL_NOT_FOUND, message, details)


def model_not_found(
    model: str | None, models: tuple[str, ...], troubles: Mapping[str, str]
) -> ErrorBody:
    """No provider serves ``model`` (None: the configured default).

    ``troubles`` say why providers, by name, could not list their models.
    """
    requested = "the default model" if model is None else f"the model '{model}'"
    listed = f"available: {', '.join(models)}" if models else "none has named a model yet"
    separator = "; " if models else ": "
    message = f"no provider serves {requested}{separator}{listed}"
    if troubles:
        reasons = (f"{provider}: {trouble}" for provider, trouble in troubles.items())
        message += f" ({'; '.join(reasons)})"
    return ErrorBody(
        ErrorCode.MODEL_NOT_FOUND, message, {"model": model, "available_models": list(models)}
    )


def id_reused() -> ErrorBody:
    """The request id belongs to another call in flight."""
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "a different call with this request id is still in flight in this session; "
        "use another id, or the same one after that call has ended",
    )


def key_reused() -> ErrorBody:
    """The idempotency key belongs to another call."""
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "this idempotency key was already used in this session for a different call; use a new key",
    )


def repeated_too_often() -> ErrorBody:
    """Too many frames wait for the outcome of one request."""
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "this request is still in flight and was repeated too often; its answer is on its way",
    )


def with_tried_targets(error: ErrorBody, tried: tuple[dict[str, Any], ...]) -> ErrorBody:
    """``error`` with the results of the targets that the request's route tried before."""
    if not tried:
        return error
    details = {**(error.details or {}), "tried": list(tried)}
    return ErrorBody(error.code, error.message, details)


def expired(tool: str, timeout_s: float) -> ErrorBody:
    """The deadline has passed; ``timeout_s`` is the time that the request had."""
    return ErrorBody(
        ErrorCode.TIMEOUT,
        f"call_tool exceeded {timeout_s:g}s",
        {"timeout_seconds": timeout_s, "tool_name": tool},
    )


def cancelled() -> ErrorBody:
    """The client has cancelled the request."""
    return ErrorBody(ErrorCode.CANCELLED, "the request was cancelled by its client")


def draining() -> ErrorBody:
    """The request came after the shutdown began."""
    return ErrorBody(
        ErrorCode.DRAINING,
        "the broker is shutting down and accepts no new requests; connect again later",
        {"retry_after": 5},
    )


def interrupted_by_shutdown() -> ErrorBody:
    """The request had not ended when the time to drain was over."""
    return ErrorBody(
        ErrorCode.DRAINING,
        "the broker shut down before this request had ended; retry later",
        {"retry_after": 5},
    )
