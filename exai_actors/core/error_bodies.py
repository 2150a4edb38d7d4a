"""The error bodies for requests that end without an answer: code, message and when to retry.

``retry_after`` in the details is in seconds, and present whenever a retry can succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, assert_never

from msgspec.structs import replace

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.durations import format_seconds
from exai_actors.core.families import Family
from exai_actors.core.wait_reasons import Waiting, WaitReason, facts, sentence, words
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ProviderName

MOST_NAMED = 30
"""Models in the text of an error."""


def provider_failed(provider: ProviderName, failure: UpstreamFailure) -> ErrorBody:
    """A failed call, with the service's message and HTTP status."""
    details: dict[str, Any] = {"provider": provider, "kind": failure.kind.value}
    if failure.status is not None:
        details["status"] = failure.status
    if failure.retry_after is not None:
        details["retry_after"] = failure.retry_after
    code = ErrorCode.TIMEOUT if failure.kind is FailureKind.TIMEOUT else ErrorCode.PROVIDER_ERROR
    return ErrorBody(code, f"provider '{provider}': {failure.message}", details)


def provider_refused(provider: ProviderName, refusal: Refusal, now: float = 0.0) -> ErrorBody:
    """A refusal by the provider's queue, with its cause and the position that was in question.

    ``now`` is the instant of the refusal, in seconds of the driver's clock.
    """
    code = ErrorCode.OVER_CAPACITY
    why = "" if refusal.wait is None else words(refusal.wait, now)
    match refusal.cause:
        case RefusalCause.FULL:
            cause = (
                f" has {refusal.queued} requests waiting, which is its limit, and none of others "
                "has to give way to this one"
            )
            if why:
                cause += f" ({why})"
        case RefusalCause.DISPLACED:
            cause = (
                f" has {refusal.queued} requests waiting, which is its limit: this one, the last "
                "of the session with the most of them, gave its place to one of others"
            )
        case RefusalCause.TOO_LATE:
            wait = refusal.wait_s
            duration = "too long" if wait is None else f"about {format_seconds(wait)}"
            cause = f": {why or 'busy'}; this request would wait {duration}, beyond its deadline"
        case RefusalCause.NO_WAITING:
            cause = f": {why or 'busy'}; this request does not wait"
        case RefusalCause.CLOSED:
            code = ErrorCode.SERVICE_UNAVAILABLE
            cause = f" accepts no calls now: {why or refusal.reason}"
        case RefusalCause.DRAINING:
            code = ErrorCode.SERVICE_UNAVAILABLE
            cause = " accepts no new requests: its operator is taking it out of service"
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
    if refusal.wait is not None and refusal.would_wait:
        details["waits_for"] = facts(replace(refusal.wait, provider=provider), now)
    return ErrorBody(code, f"provider '{provider}'{cause}; retry later", details)


def provider_restarted(provider: ProviderName) -> ErrorBody:
    """The provider's actor was restarted during the call."""
    return ErrorBody(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"provider '{provider}' was restarted while it had this request; retry",
        {"provider": provider, "retry_after": 1},
    )


def poison(provider: ProviderName) -> ErrorBody:
    """The provider's actor has failed twice with this call in hand."""
    return ErrorBody(
        ErrorCode.INTERNAL_ERROR,
        f"provider '{provider}' failed twice inside the broker while it handled this request, "
        "which is therefore refused; do not repeat it unchanged, and please report it",
        {"provider": provider, "reason": "poison"},
    )


def provider_unreachable(provider: ProviderName) -> ErrorBody:
    """The provider's actor is being restarted, or its mailbox is full; no call was made."""
    return ErrorBody(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"provider '{provider}' accepts no requests at the moment; retry",
        {"provider": provider, "retry_after": 1},
    )


def session_full(waiting: int, reason: WaitReason | None = None) -> ErrorBody:
    """The session's queue is full; ``reason`` is that of the wait."""
    why = "" if reason is None else f" ({words(reason, 0.0)})"
    details = {} if reason is None else {"waits_for": facts(reason, 0.0)}
    return _session_refused(
        f"this session has {waiting} requests waiting, which is its limit{why}; retry later",
        queued=waiting,
        **details,
    )


def session_text_limit(*, is_short: bool = False) -> ErrorBody:
    """The session's unfinished requests have too much text; ``is_short``: as all sessions have."""
    if is_short:
        return _session_refused(
            "the broker is short of memory, and this session has requests that are not finished; "
            "retry when they have ended"
        )
    return _session_refused(
        "the unfinished requests of this session hold as much text as they may together; "
        "retry when some have ended"
    )


def session_would_wait(reason: WaitReason) -> ErrorBody:
    """The request would wait in its session, and its ``if_busy`` is ``refuse``."""
    return _session_refused(
        f"this request would have to wait in its session ({words(reason, 0.0)}), "
        "and its if_busy is 'refuse'; retry later",
        waits_for=facts(reason, 0.0),
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
        "the session failed inside the broker while it handled this request, which may have run; "
        "retry",
        {"retry_after": 1},
    )


def session_poison() -> ErrorBody:
    """The session's actor has failed twice with this request in hand."""
    return ErrorBody(
        ErrorCode.INTERNAL_ERROR,
        "the session failed twice inside the broker while it handled this request, which is "
        "therefore refused; do not repeat it unchanged, and please report it",
        {"reason": "poison"},
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
        message += f"; to use another provider, name its model: {some_of(models)}"
    return ErrorBody(ErrorCode.MODEL_NOT_FOUND, message, details)


def broker_failed() -> ErrorBody:
    """The broker's guardian has failed, and the process ends."""
    return ErrorBody(
        ErrorCode.INTERNAL_ERROR,
        "the broker failed before this request had ended, and has to be restarted; "
        "the request may have run: connect again and retry",
        {"retry_after": 5},
    )


def some_of(models: Sequence[str]) -> str:
    """The first names and how many more there are: services with hundreds of models list them."""
    named = ", ".join(models[:MOST_NAMED])
    more = len(models) - MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def model_not_found(
    model: str | None, models: tuple[str, ...], troubles: Mapping[str, str]
) -> ErrorBody:
    """No provider serves ``model`` (None: the configured default).

    ``troubles`` say why providers, by name, could not list their models.
    """
    requested = "the default model" if model is None else f"the model '{model}'"
    listed = f"available: {some_of(models)}" if models else "none has named a model yet"
    separator = "; " if models else ": "
    message = f"no provider serves {requested}{separator}{listed}"
    if troubles:
        reasons = (f"{provider}: {trouble}" for provider, trouble in troubles.items())
        message += f" ({'; '.join(reasons)})"
    return ErrorBody(
        ErrorCode.MODEL_NOT_FOUND, message, {"model": model, "available_models": list(models)}
    )


FAMILIES: dict[Family, str] = {
    "chat": "chat completions",
    "messages": "Messages",
    "responses": "Responses",
    "embeddings": "embeddings",
}
"""The families in words."""


def family_not_found(
    family: Family,
    model: str,
    by_family: Mapping[Family, tuple[str, ...]],
    others: Iterable[Family],
) -> ErrorBody:
    """No provider of the family serves the model; ``others`` are families with one that does.

    ``by_family`` are the models that are available.
    """
    models = by_family[family]
    rest = [(other, names) for other, names in by_family.items() if names]
    message = f"no provider serves the model '{model}' for {FAMILIES[family]}"
    elsewhere = " and ".join(FAMILIES[other] for other in others)
    if elsewhere:
        message += f", only for {elsewhere}"
    if models:
        message += f"; available for {FAMILIES[family]}: {some_of(models)}"
    else:
        message += f"; no model is available for {FAMILIES[family]}"
        served = "; ".join(f"for {FAMILIES[other]}: {some_of(names)}" for other, names in rest)
        message += f", but {served}" if served else ""
    details = {"model": model, "family": family, "available_models": list(models)}
    return ErrorBody(ErrorCode.MODEL_NOT_FOUND, message, details)


def repeated_too_late() -> ErrorBody:
    """A repeat of a request whose response is too long to be sent a second time."""
    return ErrorBody(
        ErrorCode.DUPLICATE,
        "this is a repeat of a request whose response has been sent, and is too long to be kept; "
        "use a new idempotency key to run it again",
    )


def ended_by_operator(reason: str) -> ErrorBody:
    """An operator cancelled the request, or ended its session."""
    why = f": {reason}" if reason else ""
    return ErrorBody(ErrorCode.CANCELLED, f"an operator of the broker cancelled the request{why}")


def connection_ended() -> ErrorBody:
    """An operator has ended the connection's actor."""
    return ErrorBody(
        ErrorCode.CANCELLED,
        "an operator of the broker ended this connection, and the request with it; connect again",
    )


def conversation_unknown(conversation: str) -> ErrorBody:
    """The continuation id names no conversation of the session."""
    return ErrorBody(
        ErrorCode.NOT_FOUND,
        f"this session has no conversation '{conversation}': it belongs to another session, was "
        "dropped for newer ones, or ended with its session or with the broker's last run; leave "
        "continuation_id out to begin a new one, and repeat in the prompt what the model must know",
        {"continuation_id": conversation},
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


def expired(
    tool: str,
    timeout_s: float,
    waiting: Waiting | None = None,
    now: float = 0.0,
    provider: ProviderName | None = None,
) -> ErrorBody:
    """The deadline has passed; ``timeout_s`` is the time that the request had.

    ``waiting`` says why it was still waiting at ``now``; without it, its call to ``provider`` was
    running.
    """
    message = f"no answer within {timeout_s:g} s"
    details: dict[str, Any] = {"timeout_seconds": timeout_s, "tool_name": tool}
    if waiting is not None:
        place = "" if waiting.position is None else f" at position {waiting.position}"
        message += f"; it was still waiting{place} ({sentence(waiting.reason, now)})"
        details["waits_for"] = facts(waiting.reason, now)
        if waiting.position is not None:
            details["position"] = waiting.position
    elif provider is not None:
        message += f"; provider '{provider}' was still working on it"
        details["provider"] = provider
    return ErrorBody(ErrorCode.TIMEOUT, message, details)


def expired_unread(timeout_s: float) -> ErrorBody:
    """The deadline has passed before the session, which an operator has suspended, took it in."""
    return ErrorBody(
        ErrorCode.TIMEOUT,
        f"no answer within {timeout_s:g} s; the session is suspended by an operator",
        {"timeout_seconds": timeout_s, "retry_after": 1},
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
