"""The exceptions of the client.

The tree, whose root is ``exai_actors.errors.ExaiError``::

    ExaiError
    |-- ConnectError       the connection could not be opened (URL, cause, advice)
    |   `-- NotAccepting   the broker takes no clients now, for example because it drains
    |-- ConnectionLost     the connection ended while a call was outstanding
    |-- StreamGap          pieces of a stream were lost and its result does not continue them
    |-- UsageError         the call cannot work as made
    `-- BrokerError        the broker answered with an error (code, message, details, retry_after)
        |-- InvalidRequest, InvalidArguments, DuplicateRequest
        |-- ToolNotFound, ModelNotFound, ConversationNotFound
        |-- OverCapacity, ServiceUnavailable, Draining
        |-- RequestTimeout, RequestCancelled
        |-- Unauthorized
        `-- ProviderError, InternalError
"""

from __future__ import annotations

from typing import Any

from exai_actors.errors import BrokerError, ErrorBody, ErrorCode, ExaiError, UsageError

__all__ = [
    "BrokerError",
    "ConnectError",
    "ConnectionLost",
    "ConversationNotFound",
    "Draining",
    "DuplicateRequest",
    "ExaiError",
    "InternalError",
    "InvalidArguments",
    "InvalidRequest",
    "ModelNotFound",
    "NotAccepting",
    "OverCapacity",
    "ProviderError",
    "RequestCancelled",
    "RequestTimeout",
    "ServiceUnavailable",
    "StreamGap",
    "ToolNotFound",
    "Unauthorized",
    "UsageError",
    "broker_error",
    "client_cancelled",
    "client_timeout",
]


class ConnectError(ExaiError):
    """The connection could not be opened; the text names URL, cause and advice."""

    def __init__(self, url: str, why: str, advice: str) -> None:
        super().__init__(f"cannot connect to {url}: {why}. {advice}")
        self.url = url
        self.why = why
        self.advice = advice


class NotAccepting(ConnectError):
    """The broker, or a proxy before it, takes no clients now (HTTP 503).

    ``retry_after`` is the time in seconds after which to try again, None if it named none.
    """

    def __init__(self, url: str, why: str, retry_after: float | None) -> None:
        super().__init__(url, why, "Try again later")
        self.retry_after = retry_after


NOT_CLOSED = 1006
"""The close code of WebSockets for a connection that ended without a closing handshake."""


class ConnectionLost(ExaiError):
    """The connection ended before this call's outcome arrived.

    The call may still have run. Connect again with ``session_id`` and ``resume``, and repeat it
    with the same ``request_id``: the broker returns its outcome if there is one, and runs it again
    otherwise.
    ``request_ids`` has every outstanding call; ``code`` and ``reason`` are those of the WebSocket's
    close (1006: no closing handshake).
    """

    def __init__(
        self,
        url: str,
        session_id: str,
        code: int,
        reason: str,
        *,
        request_id: str | None = None,
        request_ids: tuple[str, ...] = (),
        resume: str | None = None,
    ) -> None:
        how = f"was closed with {code} {reason}".rstrip()
        if code == NOT_CLOSED:
            how = "broke off; the broker may have stopped, or the network failed"
        super().__init__(f"the connection to {url} {how}")
        self.url = url
        self.session_id = session_id
        self.resume = resume
        self.code = code
        self.reason = reason
        self.request_id = request_id
        self.request_ids = request_ids


class StreamGap(ExaiError):
    """Pieces of a stream are missing, and the result's text does not continue the others.

    Happens only to a stream that was not read for long and whose result is not the sum of its
    pieces. The whole result is in ``result`` of the stream.
    """


class InvalidRequest(BrokerError):
    """The broker does not understand the frame: it has another version, or is another program."""


class InvalidArguments(BrokerError):
    """An argument is missing or not allowed by the tool's schema."""

    @property
    def field(self) -> str | None:
        """The invalid argument, if the broker named one."""
        return _text_detail(self, "field")


class DuplicateRequest(BrokerError):
    """The request id or idempotency key belongs to another request."""


class ToolNotFound(BrokerError):
    """The broker has no tool of this name."""


class ModelNotFound(BrokerError):
    """No provider serves the model."""

    @property
    def available(self) -> tuple[str, ...]:
        """The models that providers serve."""
        found = _detail(self, "available_models")
        return tuple(str(model) for model in found) if isinstance(found, list) else ()


class ConversationNotFound(BrokerError):
    """The session has no conversation with this ``continuation_id``: begin a new one."""


class OverCapacity(BrokerError):
    """Refused because too many requests wait or are in flight."""


class Draining(BrokerError):
    """The broker is shutting down: it accepts no new requests, or could not complete this one."""


class ServiceUnavailable(BrokerError):
    """The provider accepts no requests at the moment."""


class RequestTimeout(BrokerError):
    """The request's time is over; ``by_client`` says by which limit."""

    @property
    def by_client(self) -> bool:
        """True for the client's ``timeout_s``, False for the deadline at the broker."""
        return bool(_detail(self, "by") == "client")


class RequestCancelled(BrokerError):
    """The request was cancelled by its id, on this connection or another of the session."""


class Unauthorized(BrokerError):
    """The broker's token is missing or wrong."""


class ProviderError(BrokerError):
    """The provider gave no answer, or an incomplete one."""


class InternalError(BrokerError):
    """A fault in the broker, or a code that this client does not know."""


_BY_CODE: dict[ErrorCode, type[BrokerError]] = {
    ErrorCode.INVALID_REQUEST: InvalidRequest,
    ErrorCode.PROTOCOL_ERROR: InvalidRequest,
    ErrorCode.VALIDATION_ERROR: InvalidArguments,
    ErrorCode.DUPLICATE: DuplicateRequest,
    ErrorCode.TOOL_NOT_FOUND: ToolNotFound,
    ErrorCode.MODEL_NOT_FOUND: ModelNotFound,
    ErrorCode.NOT_FOUND: ConversationNotFound,
    ErrorCode.OVER_CAPACITY: OverCapacity,
    ErrorCode.SERVICE_UNAVAILABLE: ServiceUnavailable,
    ErrorCode.DRAINING: Draining,
    ErrorCode.TIMEOUT: RequestTimeout,
    ErrorCode.CANCELLED: RequestCancelled,
    ErrorCode.UNAUTHORIZED: Unauthorized,
    ErrorCode.PROVIDER_ERROR: ProviderError,
    ErrorCode.INTERNAL_ERROR: InternalError,
}


def broker_error(body: ErrorBody, request_id: str | None = None) -> BrokerError:
    """The exception for an error body; BrokerError for a code without a class."""
    return _BY_CODE.get(body.code, BrokerError)(body, request_id)


def client_cancelled(request_id: str) -> RequestCancelled:
    """The error of a call that its caller has abandoned."""
    body = ErrorBody(ErrorCode.CANCELLED, "abandoned by its caller", {"by": "client"})
    return RequestCancelled(body, request_id)


def client_timeout(request_id: str, timeout_s: float) -> RequestTimeout:
    """The error of a call without an outcome after ``timeout_s``."""
    details = {"timeout_seconds": timeout_s, "by": "client"}
    body = ErrorBody(ErrorCode.TIMEOUT, f"no outcome within {timeout_s:g} s", details)
    return RequestTimeout(body, request_id)


def _detail(error: BrokerError, key: str) -> Any:
    return (error.body.details or {}).get(key)


def _text_detail(error: BrokerError, key: str) -> str | None:
    found = _detail(error, key)
    return found if isinstance(found, str) else None
