"""The exit codes of `exai` and their meanings, as in ``docs/reference/cli.md``."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exai_actors.errors import ErrorCode, ExaiError


class ExitCode(IntEnum):
    """``meaning`` is the sentence in the reference."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "Success."
    FAILED = 1, "An error without a code of its own; stderr has the message."
    USAGE = 2, "The command line is wrong: an unknown command or option, a missing argument."
    CONFIG = 3, "The configuration is invalid."
    CANNOT_LISTEN = 4, "`exai serve` cannot listen on its address, or the port is in use."
    NO_BROKER = 5, "No broker answers at the URL, or the connection to it was lost."
    UNAUTHORIZED = 6, "The broker requires a token, or a different one."
    INVALID = 7, "The broker refused the request as invalid: unknown model or tool, wrong argument."
    BUSY = 8, "The broker has no room for the request, or is shutting down; try again later."
    TIMEOUT = 9, "The deadline passed before the answer was complete."
    PROVIDER = 10, "The provider failed, or its answer is incomplete, withheld or empty."
    GAVE_UP = (
        11,
        "`exai serve` gave up: a part of the broker failed again and again; stderr has the report.",
    )
    WATCHDOG = (
        12,
        "The watchdog ended `exai serve`: its memory was used up, or its event loop stood still.",
    )
    INTERNAL = 70, "An internal error: a bug in exai."
    INTERRUPTED = 130, "Ctrl-C; the request was cancelled."
    BROKEN_PIPE = 141, "The reader of the output closed it."


def of_error_code(code: ErrorCode) -> ExitCode:
    """The exit code of a command that the broker answered with ``code``."""
    from exai_actors.errors import ErrorCode

    match code:
        case (
            ErrorCode.VALIDATION_ERROR
            | ErrorCode.TOOL_NOT_FOUND
            | ErrorCode.MODEL_NOT_FOUND
            | ErrorCode.NOT_FOUND
            | ErrorCode.DUPLICATE
        ):
            return ExitCode.INVALID
        case ErrorCode.OVER_CAPACITY | ErrorCode.DRAINING | ErrorCode.SERVICE_UNAVAILABLE:
            return ExitCode.BUSY
        case ErrorCode.TIMEOUT:
            return ExitCode.TIMEOUT
        case ErrorCode.PROVIDER_ERROR:
            return ExitCode.PROVIDER
        case ErrorCode.UNAUTHORIZED:
            return ExitCode.UNAUTHORIZED
        case _:
            return ExitCode.FAILED


def of_error(error: ExaiError) -> ExitCode:
    """The exit code of a command that failed with ``error``."""
    from exai_actors.client.errors import ConnectError, ConnectionLost, NotAccepting
    from exai_actors.errors import BrokerError, ConfigError, UsageError

    match error:
        case BrokerError() if "actual_size" in (error.body.details or {}):
            # Too large: it will not fit later either.
            return ExitCode.INVALID
        case BrokerError():
            return of_error_code(error.body.code)
        case NotAccepting():
            return ExitCode.BUSY
        case ConnectError() | ConnectionLost():
            return ExitCode.NO_BROKER
        case ConfigError():
            return ExitCode.CONFIG
        case UsageError():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILED
