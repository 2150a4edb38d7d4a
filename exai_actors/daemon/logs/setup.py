"""Set up logging: one stream, as text or as JSON lines.

Entries of structlog and of the standard library's ``logging`` (websockets, aiohttp, pykka) look
the same. Values of keys that name a secret are hidden. An exception is one line with its message
and location; at level ``debug`` it is the full traceback.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from exai_actors.daemon.config.tables import HIDDEN, LogConfig
from exai_actors.daemon.logs.nonblocking import handler_for
from exai_actors.errors import safe_str
from exai_actors.runtime import place_of

if TYPE_CHECKING:
    from types import TracebackType

SECRETS = frozenset(
    {"api_key", "authorization", "key", "old", "new", "password", "secret", "token"}
)

FOREIGN_FIELDS = ("entries", "actor", "message_type", "consequence", "error")

COMMON = ("timestamp", "level", "logger", "message")


def configure_logging(config: LogConfig, stream: TextIO) -> None:
    """Send all log entries to ``stream`` from now on."""
    terminal = stream.isatty()
    as_json = config.format == "json" or (config.format == "auto" and not terminal)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        hide_secrets,
    ]
    if config.level != "debug":
        before.append(shorten_exception)
    handler = handler_for(stream)
    handler.setFormatter(
        ProcessorFormatter(
            # Fields of ENTRIES_LOST and of the runtime, which do not come through structlog.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(FOREIGN_FIELDS), *before],
            processors=_ending(as_json, terminal),
        )
    )
    level = getattr(logging, config.level.upper())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # At debug it logs a line per frame, at info a line per connection.
    logging.getLogger("websockets").setLevel(max(level, logging.WARNING))
    # At debug it logs a line per actor.
    logging.getLogger("pykka").setLevel(max(level, logging.INFO))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _ending(as_json: bool, colours: bool) -> Sequence[Processor]:
    first: list[Processor] = [ProcessorFormatter.remove_processors_meta]
    if as_json:
        return [
            *first,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            familiar_first,
            structlog.processors.JSONRenderer(),
        ]
    console = structlog.dev.ConsoleRenderer(
        0,
        colors=colours and not _no_colour(),
        exception_formatter=structlog.dev.plain_traceback,
        sort_keys=False,
        pad_level=False,
    )
    return [*first, drop_own_logger, drop_empty, escape_controls, console]


def _no_colour() -> bool:
    import os

    return bool(os.environ.get("NO_COLOR"))


def familiar_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the fields that every entry has first, for people to read."""
    common = {key: event.pop(key) for key in COMMON if key in event}
    return {**common, **event}


def drop_own_logger(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove the logger of our own entries from text: the event key already names the area."""
    if event.get("logger", "").startswith("exai"):
        del event["logger"]
    return event


def drop_empty(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out fields without a value from text, and counts of nothing left out."""
    return {
        name: value
        for name, value in event.items()
        if value not in (None, "") and not (name == "suppressed" and value == 0)
    }


def escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape characters that could move the cursor or begin a line that looks like an entry."""
    return {
        name: _escaped(value) if isinstance(value, str) and name != "exception" else value
        for name, value in event.items()
    }


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of keys that name a secret."""
    for key in SECRETS & event.keys():
        event[key] = HIDDEN
    return event


def shorten_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn ``exc_info`` into one line: ``error="KeyError: 'x' (session.py:12 in handle)"``.

    Of an actor's error, whose text may quote a request, it has only the class and the place.
    """
    error = _exception(event.pop("exc_info", None))
    if error is not None:
        is_of_actor = str(event.get("event", "")).startswith("actor.")
        event["error"] = place_of(error) if is_of_actor else describe(error)
    return event


def describe(error: BaseException) -> str:
    """The type, message and location of an error in one line."""
    message = " ".join(f"{type(error).__name__}: {safe_str(error)}".split())
    stack = traceback.extract_tb(_innermost(error.__traceback__))
    if not stack:
        return message
    frame = stack[-1]
    return f"{message} ({frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name})"


def _innermost(found: TracebackType | None) -> TracebackType | None:
    while found is not None and found.tb_next is not None:
        found = found.tb_next
    return found


def _exception(exc_info: ExcInfo | BaseException | bool | None) -> BaseException | None:
    import sys

    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exception()
        case _:
            return None
