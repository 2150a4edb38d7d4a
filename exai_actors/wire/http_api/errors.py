"""Refusals and failures as the SDKs of each family expect them: status, headers and body.

The statuses and headers decide how often a client repeats its request; see the reference of the
HTTP APIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import msgspec

from exai_actors.core.families import Family
from exai_actors.errors import ErrorBody, ErrorCode

MAX_RETRY_S = 60.0
"""A longer wait is not named as one to sleep for: some SDKs ignore it and repeat immediately."""

Fields = tuple[tuple[str, str], ...]
JSON = "application/json"
REQUEST_ID: Mapping[Family, str] = {
    "chat": "x-request-id",
    "messages": "request-id",
    "responses": "x-request-id",
    "embeddings": "x-request-id",
}
"""The header in which SDKs look for the id of a request."""


class ApiError(msgspec.Struct, frozen=True, gc=False):
    """A failure in the words of the APIs; ``kind`` is Anthropic's type, ``type`` OpenAI's."""

    status: int
    kind: str
    type: str
    code: str | None
    message: str
    retry_after: float | None = None
    may_retry: bool | None = None
    """False: the client must not repeat it. None: its own rules are right."""
    ends_connection: bool = False
    """The client should open another connection, which may reach another broker."""


_INVALID = "invalid_request_error"
_TOO_MANY = ("rate_limit_error", "rate_limit_error")
_OVERLOADED = ("overloaded_error", "server_error")
_FAILED = ("api_error", "server_error")


def api_error(error: ErrorBody) -> ApiError:
    """The failure that the broker's error stands for."""
    details = error.details or {}
    retry_after = details.get("retry_after")
    wait_s = float(retry_after) if isinstance(retry_after, int | float) else None
    match error.code:
        case ErrorCode.OVER_CAPACITY:
            return _limited(error.message, wait_s, "rate_limit_exceeded")
        case ErrorCode.SERVICE_UNAVAILABLE:
            return _unavailable(error.message, wait_s)
        case ErrorCode.DRAINING:
            return ApiError(
                503, *_OVERLOADED, "overloaded", error.message, wait_s or 5.0, ends_connection=True
            )
        case ErrorCode.TIMEOUT:
            kinds = "timeout_error", "server_error"
            return ApiError(504, *kinds, "timeout", error.message, may_retry=False)
        case ErrorCode.UNAUTHORIZED:
            return unauthorized(error.message)
        case ErrorCode.MODEL_NOT_FOUND | ErrorCode.NOT_FOUND:
            return not_found(error.message)
        case ErrorCode.PROVIDER_ERROR:
            return _provider_failed(error.message, details.get("kind"), wait_s)
        case ErrorCode.DUPLICATE:
            return ApiError(422, _INVALID, _INVALID, "duplicate", error.message, may_retry=False)
        case ErrorCode.CANCELLED:
            return ApiError(502, *_FAILED, "cancelled", error.message, may_retry=False)
        case (
            ErrorCode.INVALID_REQUEST
            | ErrorCode.VALIDATION_ERROR
            | ErrorCode.PROTOCOL_ERROR
            | ErrorCode.TOOL_NOT_FOUND
        ):
            return invalid(error.message)
        case ErrorCode.INTERNAL_ERROR | ErrorCode.TOOL_EXECUTION_ERROR:
            may_retry = None if wait_s else False
            return ApiError(500, *_FAILED, "internal_error", error.message, wait_s, may_retry)


def invalid(message: str) -> ApiError:
    """The request itself cannot be used."""
    return ApiError(400, _INVALID, _INVALID, None, message)


def unauthorized(message: str) -> ApiError:
    """The access token is missing or not in force."""
    return ApiError(
        401, "authentication_error", _INVALID, "invalid_api_key", message, may_retry=False
    )


def not_found(message: str) -> ApiError:
    """No provider serves the model in this family."""
    return ApiError(404, "not_found_error", _INVALID, "model_not_found", message)


def refused_by_server(status: int, message: str) -> ApiError:
    """The HTTP server refused the request before anything else saw it."""
    kind = {413: "request_too_large", 503: "overloaded_error"}.get(status, _INVALID)
    return ApiError(status, kind, "server_error" if status >= 500 else _INVALID, None, message)


def _limited(message: str, wait_s: float | None, code: str) -> ApiError:
    may_retry = False if wait_s is not None and wait_s > MAX_RETRY_S else None
    return ApiError(429, *_TOO_MANY, code, message, wait_s, may_retry)


def _unavailable(message: str, wait_s: float | None) -> ApiError:
    may_retry = None if wait_s is None or wait_s <= MAX_RETRY_S else False
    return ApiError(503, *_OVERLOADED, "overloaded", message, wait_s or 1.0, may_retry)


def _provider_failed(message: str, kind: object, wait_s: float | None) -> ApiError:
    match kind:
        case "rate_limited":
            return _limited(message, wait_s or 1.0, "rate_limit_exceeded")
        case "quota":
            return ApiError(429, *_TOO_MANY, "insufficient_quota", message, wait_s, may_retry=False)
        case "overloaded" | "connect":
            return _unavailable(message, wait_s)
        case _:
            return ApiError(502, *_FAILED, "provider_error", message, may_retry=False)


def error_fields(error: ApiError) -> Fields:
    """The headers beside the body."""
    fields: list[tuple[str, str]] = []
    if error.retry_after is not None:
        # SDKs take the exact one of the two; others wait a little longer than they must.
        fields.append(("Retry-After", str(max(1, ceil(error.retry_after)))))
        fields.append(("retry-after-ms", str(max(1, ceil(error.retry_after * 1000)))))
    if error.may_retry is False:
        fields.append(("x-should-retry", "false"))
    return tuple(fields)


def error_body(family: Family, error: ApiError, request_id: str) -> bytes:
    """The body of the response."""
    if family == "messages":
        content: dict[str, Any] = {
            "type": "error",
            "error": {"type": error.kind, "message": error.message},
            "request_id": request_id,
        }
    else:
        content = {"error": _openai(error)}
    return msgspec.json.encode(content)


def error_event(family: Family, error: ApiError, request_id: str, model: str) -> bytes:
    """The end of a stream that has begun and has had no piece of an answer."""
    match family:
        case "messages":
            # Of the types that clients know, this one has them repeat the request as it was.
            kind = error.kind if error.may_retry is False else "overloaded_error"
            content: dict[str, Any] = {
                "type": "error",
                "error": {"type": kind, "message": error.message},
                "request_id": request_id,
            }
            return b"event: error\ndata: " + msgspec.json.encode(content) + b"\n\n"
        case "responses":
            return b"event: response.failed\ndata: %b\n\n" % msgspec.json.encode(
                _failed_response(error, request_id, model)
            )
        case _:
            return b"data: " + msgspec.json.encode({"error": _openai(error)}) + b"\n\n"


def _openai(error: ApiError) -> dict[str, Any]:
    return {"message": error.message, "type": error.type, "param": None, "code": error.code}


def _failed_response(error: ApiError, request_id: str, model: str) -> dict[str, Any]:
    code, message = "server_error", error.message
    if error.may_retry is None and error.retry_after is not None:
        # Clients read the wait from these words.
        code = "rate_limit_exceeded"
        message += f". Please try again in {max(1, ceil(error.retry_after))}s."
    return {
        "type": "response.failed",
        "sequence_number": 0,
        "response": {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": 0,
            "status": "failed",
            "error": {"code": code, "message": message},
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None,
        },
    }
