"""Logs runtime events that the runtime does not log itself."""

from __future__ import annotations

import structlog

from exai_actors.runtime import Event, MailboxRefused, SlowHandler

log = structlog.get_logger()


def log_event(event: Event) -> None:
    """Log slow handlers and full mailboxes."""
    match event:
        case SlowHandler():
            # Logged at info, because a busy machine alone can cause it.
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
