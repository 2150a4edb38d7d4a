"""What the BrokerActor, the guardian of the tree, is told."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.connection import ConnectionMessage
from exai_actors.messages.recipient import Recipient


class ConnectionOpened(msgspec.Struct, frozen=True, gc=False):
    """System lane. The listener has spawned an actor for a new socket, supervised by the broker."""

    connection_id: ConnectionId
    connection: Recipient[ConnectionMessage]


class Admit(msgspec.Struct, frozen=True, gc=False):
    """A client has said hello; answered by Admitted or NotAdmitted.

    ``token`` is what the frame carried, or else the handshake's bearer token; None for neither.
    """

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId
    connection: Recipient[ConnectionMessage]
    token: str | None
    session_id: SessionId | None


class RotateToken(msgspec.Struct, frozen=True, gc=False):
    """Replace the token; answered by TokenRotated. A connection asks once at a time."""

    refusable: ClassVar[bool] = False
    connection: Recipient[ConnectionMessage]
    old: str
    new: str


class ProviderModels(msgspec.Struct, frozen=True, gc=False):
    """A provider knows the models it serves."""

    refusable: ClassVar[bool] = False
    provider: ProviderName
    models: tuple[str, ...]


class SessionFinishes(msgspec.Struct, frozen=True, gc=False):
    """A session whose last connection has left works on for whoever comes back."""

    refusable: ClassVar[bool] = False
    session: SessionId


class SessionFinished(msgspec.Struct, frozen=True, gc=False):
    """The session has done what it worked on."""

    refusable: ClassVar[bool] = False
    session: SessionId


class ExpireSessions(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time to end the sessions that nobody has come back to."""


class DrainBroker(msgspec.Struct, frozen=True, gc=False):
    """System lane. Refuse what is new, let what is in flight end, then say so.

    ``at_once``: nothing more is waited for; every request in flight is answered with an error.
    """

    at_once: bool = False


BrokerMessage = (
    ConnectionOpened
    | Admit
    | RotateToken
    | ProviderModels
    | SessionFinishes
    | SessionFinished
    | ExpireSessions
    | DrainBroker
)
