"""Writes down what the runtime notices about its actors and does not log itself."""

from __future__ import annotations

import structlog

from exai_actors.runtime import MailboxRefused, SlowHandler
from exai_actors.runtime.events import Event

log = structlog.get_logger()


def log_event(event: Event) -> None:
    """A handler that held up all others, and a mailbox that is full."""
    match event:
        case SlowHandler():
            # On a busy machine it may be the machine: no warning.
            log.info(
                "actor.slow_handler",
                actor=event.path,
                message_types=list(event.candidates),
                seconds=round(event.seconds, 3),
            )
        case MailboxRefused():
            log.warning("mailbox.full", actor=event.path, limit=event.limit)
        case _:
            pass
