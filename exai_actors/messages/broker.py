"""The messages to the BrokerActor, the guardian."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.connection import ClientMessage, ConnectionMessage
from exai_actors.messages.recipient import Recipient


class ConnectionOpened(msgspec.Struct, frozen=True, gc=False):
    """System lane. A connection has been spawned for a new socket."""

    connection_id: ConnectionId
    connection: Recipient[ClientMessage]


class Admit(msgspec.Struct, frozen=True, gc=False):
    """A client has sent its hello; answered by Admitted or NotAdmitted.

    ``token`` is the access token of the frame, or else the handshake's bearer token; None for
    neither. ``resume`` is the secret for the session. ``address`` is the client's. ``has_call``:
    the client has a call already, so the session begins at once.
    """

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId
    connection: Recipient[ClientMessage]
    token: str | None
    session_id: SessionId | None
    resume: str | None = None
    address: str = ""
    has_call: bool = False


class BeginSession(msgspec.Struct, frozen=True, gc=False):
    """System lane. The first call has come to a connection whose session has not begun; answered by
    Admitted.
    """

    connection_id: ConnectionId


class EndSessionBeforeCall(msgspec.Struct, frozen=True, gc=False):
    """End a session and close its connections, by the word of an operator.

    It had not begun then: one that has begun since is sent EndSession with this ``reason``.
    """

    refusable: ClassVar[bool] = False
    number: str
    reason: str


class RotateToken(msgspec.Struct, frozen=True, gc=False):
    """Replace the client's access token; answered by TokenRotated, one at a time per connection."""

    refusable: ClassVar[bool] = False
    connection_id: ConnectionId
    connection: Recipient[ConnectionMessage]
    old: str
    new: str
    address: str = ""


class ProviderModels(msgspec.Struct, frozen=True, gc=False):
    """A provider's service has listed its models."""

    refusable: ClassVar[bool] = False
    provider: ProviderName
    models: tuple[str, ...]


class SessionFinishes(msgspec.Struct, frozen=True, gc=False):
    """A session without connections still finishes requests, in case a client comes back."""

    refusable: ClassVar[bool] = False
    session: SessionId


class SessionFinished(msgspec.Struct, frozen=True, gc=False):
    """The session has finished these requests."""

    refusable: ClassVar[bool] = False
    session: SessionId


class SessionRestarted(msgspec.Struct, frozen=True, gc=False):
    """System lane. The session has failed, and its next incarnation has started."""

    session: SessionId


class SessionGone(msgspec.Struct, frozen=True, gc=False):
    """System lane. The session has ended, and is not restarted."""

    session: SessionId


class ExpireSessions(msgspec.Struct, frozen=True, gc=False):
    """System lane. End the sessions that have been without connections for too long."""


class DrainBroker(msgspec.Struct, frozen=True, gc=False):
    """System lane. Refuse new requests, finish those in flight, then call ``on_drained``.

    ``immediately``: answer the requests in flight with an error instead of finishing them.
    """

    immediately: bool = False


BrokerMessage = (
    ConnectionOpened
    | Admit
    | BeginSession
    | EndSessionBeforeCall
    | RotateToken
    | ProviderModels
    | SessionFinishes
    | SessionFinished
    | SessionRestarted
    | SessionGone
    | ExpireSessions
    | DrainBroker
)
