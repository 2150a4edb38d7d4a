"""Whether the log takes entries of level ``debug``, and how sessions appear in it."""

from __future__ import annotations

import logging

from exai_actors.ids import SessionId

SHOWN_CHARACTERS = 12

# Looked up once: to find a logger by its name takes a lock, and each connection asks twice.
_log = logging.getLogger("exai_actors")


def logs_details() -> bool:
    """Whether each connection and each request is logged.

    A session, and an exchange over HTTP, asks once: an answer for each request would cost CPU.
    """
    return _log.isEnabledFor(logging.DEBUG)


def shown(session: SessionId) -> str:
    """The beginning of a session's name: with all of it, its requests could be taken over."""
    name = session.rpartition("/")[2]
    return name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}..."
