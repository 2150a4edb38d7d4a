"""Error codes for clients and exceptions for Python callers.

The tree of exceptions::

    ExaiError
    |-- ConfigError        the configuration is unusable (names file, line, key and allowed values)
    |-- UsageError         a command or call cannot work as made (says how to correct it)
    `-- BrokerError        the broker answered a request with an error frame (carries its body)

The codes up to ``INTERNAL_ERROR`` come from the EX-AI daemon. The others are additions; old clients
treat them like any other code.
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
    """Base class of every exception that this package raises on purpose."""


class ConfigError(ExaiError):
    """The configuration is unusable; the text names file, line, key and allowed values."""


class UsageError(ExaiError):
    """A command or call cannot work as made; the text says how to correct it."""


class BrokerError(ExaiError):
    """An error frame from the broker, raised to callers of the Python client."""

    def __init__(self, body: ErrorBody, request_id: str | None = None) -> None:
        super().__init__(f"{body.code}: {body.message}")
        self.body = body
        self.request_id = request_id

    @property
    def retry_after(self) -> float | None:
        """Seconds after which another attempt may succeed; None if the broker gave none."""
        seconds = (self.body.details or {}).get("retry_after")
        return float(seconds) if isinstance(seconds, int | float) else None


def safe_str(error: BaseException) -> str:
    """``str(error)``, or a placeholder if that raises."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - reporting an error must not raise another one
        return "(its text is unavailable)"
