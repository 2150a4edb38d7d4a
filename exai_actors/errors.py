"""What can go wrong, as codes a client can act on and as exceptions our own callers can catch.

The tree of exceptions::

    ExaiError
    |-- ConfigError        the configuration cannot be used (carries where and what is allowed)
    |-- UsageError         a command or a call was made in a way that cannot work
    `-- BrokerError        the broker answered a request with an error frame (carries its body)

Codes up to ``INTERNAL_ERROR`` are those of the EX-AI protocol (section 8 of the protocol notes);
the rest are additions that an old client treats like any other code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class ErrorCode(StrEnum):
    """The ``error.code`` of a frame."""

    INVALID_REQUEST = "INVALID_REQUEST"
    PROTOCOL_ERROR = "PROTOCOL_ERROR"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    TOOL_NOT_FOUND = "TOOL_NOT_FOUND"
    OVER_CAPACITY = "OVER_CAPACITY"
    TIMEOUT = "TIMEOUT"
    TOOL_EXECUTION_ERROR = "TOOL_EXECUTION_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    UNAUTHORIZED = "UNAUTHORIZED"
    NOT_FOUND = "NOT_FOUND"
    PROVIDER_ERROR = "PROVIDER_ERROR"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DUPLICATE = "DUPLICATE"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    CANCELLED = "CANCELLED"
    DRAINING = "DRAINING"


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """``{"code", "message", "details"?}``, the same shape in every error frame.

    ``details`` holds JSON values only; ``retry_after`` in it is in seconds.
    """

    code: ErrorCode
    message: str
    details: dict[str, Any] | None = None


class ExaiError(Exception):
    """Root of everything this package raises on purpose."""


class ConfigError(ExaiError):
    """The configuration cannot be used; the text names file, line, key and what is allowed."""


class UsageError(ExaiError):
    """A command or call that cannot work as made; the text says what to do instead."""


class BrokerError(ExaiError):
    """An error frame, as an exception for callers of the Python client."""

    def __init__(self, body: ErrorBody, request_id: str | None = None) -> None:
        super().__init__(f"{body.code}: {body.message}")
        self.body = body
        self.request_id = request_id

    @property
    def retry_after(self) -> float | None:
        """Seconds after which another attempt has a chance, None when the broker did not say."""
        told = (self.body.details or {}).get("retry_after")
        return float(told) if isinstance(told, int | float) else None


def text_of(error: BaseException) -> str:
    """What an exception says, also if the one who wrote it made that fail."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - telling of an error must not become another one
        return "(its text cannot be told)"
