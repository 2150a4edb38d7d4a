"""The sessions."""

from __future__ import annotations

from exai_actors.console.tables.cells import BYTES, COUNT, SHARE, TEXT, share
from exai_actors.core.observe.parts import SessionState
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.ids import shown_tenant

SESSIONS = Table(
    "sessions",
    (
        Column("session", "Session", TEXT, "the beginning of its name"),
        Column("tenant", "Tenant", TEXT, "the owner of its clients' tokens"),
        Column("connections", "Conns", COUNT, "its connections"),
        Column("at_providers", "At providers", COUNT, "its requests with providers"),
        Column("waiting", "Waiting", COUNT, "its requests that wait for room in its window"),
        Column("full", "Full", SHARE, "the part of its window that is taken"),
        Column("conversations", "Talks", COUNT, "the conversations that it keeps"),
        Column("text_bytes", "Text", BYTES, "the size of its requests in flight"),
        Column("kept_bytes", "Kept", BYTES, "the size of its stored outcomes and conversations"),
        Column("path", "Path", TEXT, "the path of its actor"),
    ),
)


def session_row(session: SessionState) -> Keyed:
    """The row of a session; its key is the last part of its path."""
    return (
        session.number,
        (
            session.session,
            shown_tenant(session.tenant),
            session.connections,
            session.at_providers,
            session.waiting,
            share(session.at_providers, session.window),
            session.conversations,
            session.text,
            session.kept_bytes,
            session.path,
        ),
    )
