"""The connections of clients."""

from __future__ import annotations

from exai_actors.console.tables.cells import COUNT, FLAG, SECONDS, TEXT
from exai_actors.core.observe.parts import ConnectionState
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.ids import shown_tenant

CONNECTIONS = Table(
    "connections",
    (
        Column("connection", "Connection", TEXT, "its id, the last part of its actor's path"),
        Column("address", "Address", TEXT, "the client's address"),
        Column("tenant", "Tenant", TEXT, "the owner of its token; empty before it is admitted"),
        Column("session", "Session", TEXT, "the beginning of its session's name"),
        Column("calls", "Calls", COUNT, "its calls without an answer"),
        Column("paused", "Slow", FLAG, "whether its client reads too slowly now"),
        Column("open_s", "Open", SECONDS, "how long it has been open"),
        Column(
            "protocol", "Protocol", TEXT, "websocket, or over HTTP mcp or the family of its request"
        ),
        Column("agent", "Agent", TEXT, "the client's software, as it says"),
    ),
)


def connection_row(connection: ConnectionState) -> Keyed:
    """The row of a connection, admitted or not."""
    return (
        connection.connection,
        (
            connection.connection,
            connection.address,
            shown_tenant(connection.tenant) if connection.session else "",
            connection.session,
            connection.calls,
            connection.paused,
            round(connection.open_s),
            connection.protocol,
            connection.agent,
        ),
    )
