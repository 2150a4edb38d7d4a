"""The log of brokers inside tests: through the standard library, which pytest captures."""

from __future__ import annotations

import structlog
from structlog.typing import EventDict, WrappedLogger


def log_through_logging() -> None:
    """Send the entries of brokers to ``logging``, unless the project has configured structlog.

    An unconfigured structlog prints them to stdout, among the output of the test.
    """
    if _is_configured():
        return
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, as_line],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _is_configured() -> bool:
    """Whether structlog has a configuration other than its own.

    ``structlog.is_configured`` is true after ``capture_logs`` as well, which puts back the
    configuration that it found.
    """
    if not structlog.is_configured():
        return False
    found = structlog.get_config()
    structlog.reset_defaults()
    try:
        return bool(structlog.get_config() != found)
    finally:
        structlog.configure(**found)


def as_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """``provider.held provider=kimi seconds=61.0``."""
    event.pop("exc_info", None)
    key = event.pop("event")
    return " ".join([f"{key}", *(f"{name}={value}" for name, value in event.items())])
