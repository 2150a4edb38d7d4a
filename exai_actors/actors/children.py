"""The children of the broker actor: one type per kind, with the path at which each lives."""

from __future__ import annotations

from typing import final

import msgspec

from exai_actors.ids import ConnectionId, ProviderName, SessionId

BROKER_PATH = "/broker"


@final
class ProviderChild(msgspec.Struct, frozen=True):
    """A provider. Restarted at the same path when it fails."""

    name: ProviderName

    @property
    def path(self) -> str:
        return f"/providers/{self.name}"


@final
class SessionChild(msgspec.Struct, frozen=True):
    """A session. Not restarted.

    ``number`` is unique, so that a session has another path than an earlier one of the same id,
    which may still be stopping.
    """

    session_id: SessionId
    number: int

    @property
    def path(self) -> str:
        return f"/sessions/{self.number}"


_CONNECTIONS = "/connections/"


@final
class ConnectionChild(msgspec.Struct, frozen=True):
    """A connection. Not restarted."""

    connection_id: ConnectionId

    @property
    def path(self) -> str:
        return f"{_CONNECTIONS}{self.connection_id}"


def is_connection(path: str) -> bool:
    """Whether a connection lives at this path."""
    return path.startswith(_CONNECTIONS)


Child = ProviderChild | SessionChild | ConnectionChild
