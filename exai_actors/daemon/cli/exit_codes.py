"""What the exit codes of `exai` mean; ``docs/reference/cli.md`` shows the same table."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exai_actors.errors import ErrorCode, ExaiError


class ExitCode(IntEnum):
    """``meaning`` is the sentence of the reference."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "It worked."
    FAILED = 1, "It failed for a reason that has no code of its own; stderr tells it."
    USAGE = 2, "The command line is wrong: an unknown command or option, a missing argument."
    CONFIG = 3, "The configuration cannot be used."
    CANNOT_LISTEN = 4, "`exai serve` cannot listen on its address, or its port is in use."
    NO_BROKER = 5, "No broker answers at the URL, or the connection to it broke."
    UNAUTHORIZED = 6, "The broker wants a token, or another one."
    INVALID = 7, "The broker refused the request as made: unknown model or tool, wrong argument."
    BUSY = 8, "The broker has no room for the request now, or is shutting down; try again later."
    TIMEOUT = 9, "The deadline passed before the answer was there."
    PROVIDER = 10, "The provider failed, or gave half an answer."
    GAVE_UP = 11, "A part of the broker could not be kept alive, so `exai serve` gave up."
    INTERNAL = 70, "A fault in exai itself."
    INTERRUPTED = 130, "Ctrl-C; the request was cancelled."
    BROKEN_PIPE = 141, "Whoever read the output stopped reading."


def of_error_code(code: ErrorCode) -> ExitCode:
    """How a command ends that the broker answered with ``code``."""
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
    """How a command ends that failed with ``error``."""
    from exai_actors.client.errors import ConnectError, ConnectionLost
    from exai_actors.errors import BrokerError, ConfigError, UsageError

    match error:
        case BrokerError():
            return of_error_code(error.body.code)
        case ConnectError() | ConnectionLost():
            return ExitCode.NO_BROKER
        case ConfigError():
            return ExitCode.CONFIG
        case UsageError():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILED
