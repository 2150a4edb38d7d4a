"""The messages to a ConnectionActor: from its socket, the broker and its session.

``request`` is always the key under which this connection sent the request.
"""

from __future__ import annotations

from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.core.wait_reasons import WaitReason
from exai_actors.ids import DEFAULT_TENANT, RequestKey, SessionId, TenantName
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session_requests import SessionRequest


@final
class TextReceived(msgspec.Struct, frozen=True, gc=False):
    """One whole text frame; its bytes are unchecked."""

    data: bytes


class BinaryReceived(msgspec.Struct, frozen=True, gc=False):
    """A binary frame, which the protocol does not use."""

    size: int


class ReadHandled(msgspec.Struct, frozen=True, gc=False):
    """The end of a read with much to handle: the socket is not read until ``Outbox.read_on``."""

    refusable: ClassVar[bool] = False


class SocketClosed(msgspec.Struct, frozen=True, gc=False):
    """The socket is closed, by either side. Sent exactly once, as the last message of a socket."""

    refusable: ClassVar[bool] = False
    code: int
    reason: str


class OutboxHigh(msgspec.Struct, frozen=True, gc=False):
    """The outbox is above its high mark: its streams are held back."""

    refusable: ClassVar[bool] = False


class OutboxLow(msgspec.Struct, frozen=True, gc=False):
    """The outbox is down to its low mark: its streams flow again."""

    refusable: ClassVar[bool] = False


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The connection belongs to a session now, which is ``resumed`` if it was there before.

    ``session`` is None if the session has not begun: BeginSession is due with the first call.
    ``resume`` is the secret by which other connections can join it; None if its id is enough.
    """

    refusable: ClassVar[bool] = False
    session_id: SessionId
    session: Recipient[SessionRequest] | None
    tenant: TenantName = DEFAULT_TENANT
    resumed: bool = False
    resume: str | None = None


class NotAdmitted(msgspec.Struct, frozen=True, gc=False):
    """The broker admits no such client; ``error`` is the value of ``hello_ack.error``.

    The client is to learn of it after ``delay_s``. ``tenant`` is its own if its token is valid.
    """

    refusable: ClassVar[bool] = False
    error: str
    message: str
    delay_s: float = 0.0
    tenant: TenantName | None = None


class TokenWithdrawn(msgspec.Struct, frozen=True, gc=False):
    """System lane. The access token that the connection was opened with is no longer in force."""


class SessionLost(msgspec.Struct, frozen=True, gc=False):
    """The session has ended, and is not restarted."""

    refusable: ClassVar[bool] = False


class SessionFailed(msgspec.Struct, frozen=True, gc=False):
    """From the connection to itself: end the calls that the session has not returned.

    It comes behind the last messages of the session, which the notice of its end overtakes.
    """

    refusable: ClassVar[bool] = False


class RequestReturned(msgspec.Struct, frozen=True, gc=False):
    """The session has failed before it sent the request to a provider.

    The connection sends it to the next incarnation.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey


class BrokerRestarted(msgspec.Struct, frozen=True, gc=False):
    """System lane. The guardian has failed and was restarted; its messages may be lost."""


class TokenRotated(msgspec.Struct, frozen=True, gc=False):
    """The answer to RotateToken; ``error`` is None when the new access token is in force."""

    refusable: ClassVar[bool] = False
    error: str | None


@final
class RequestAccepted(msgspec.Struct, frozen=True, gc=False):
    """The request was accepted and waits. Not sent if it is granted immediately.

    ``reason`` is that of a wait in its session; None if it waits at its provider.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    reason: WaitReason | None = None


class RequestQueued(msgspec.Struct, frozen=True, gc=False):
    """The request waits; ``position`` counts from 1, ``estimate_s`` is None when unknown.

    ``reason`` is that of the wait.
    """

    refusable: ClassVar[bool] = False
    request: RequestKey
    position: int
    estimate_s: float | None
    reason: WaitReason | None = None


@final
class RequestGranted(msgspec.Struct, frozen=True, gc=False):
    """The request has its permit and runs upstream."""

    refusable: ClassVar[bool] = False
    request: RequestKey


@final
class RequestEnded(msgspec.Struct, frozen=True, gc=False):
    """The outcome of the request."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    outcome: Outcome


class HelloTimeout(msgspec.Struct, frozen=True, gc=False):
    """System lane. The time for hello and its answer is over, or nearly so unless ``is_last``."""

    is_last: bool = False


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """System lane. Send progress for each call in flight."""


class SlowConsumerTimeout(msgspec.Struct, frozen=True, gc=False):
    """System lane. Check a slow consumer; ``taken`` is its bytes_taken() when the time started."""

    taken: int


class Drain(msgspec.Struct, frozen=True, gc=False):
    """System lane. Refuse new requests, finish those in flight, then close.

    ``immediately``: answer the requests in flight with an error instead of finishing them.
    """

    immediately: bool = False


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """Close the socket, by the word of an operator."""

    refusable: ClassVar[bool] = False


class CommitDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. A streaming request over HTTP waits no longer for a status of its own."""


class KeepaliveDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. A response over HTTP that has begun needs a sign of life."""


class GraceOver(msgspec.Struct, frozen=True, gc=False):
    """System lane. Look whether to wait longer for a client that has left to repeat its request."""


class IdleDue(msgspec.Struct, frozen=True, gc=False):
    """System lane. Look whether to wait longer for another request over HTTP of the same client."""


class BrokerFailed(msgspec.Struct, frozen=True, gc=False):
    """System lane. The broker gives up: answer the requests in flight, and close."""


SocketEvent = TextReceived | BinaryReceived | ReadHandled | SocketClosed | OutboxHigh | OutboxLow
ClientMessage = (
    Admitted
    | NotAdmitted
    | SessionLost
    | SessionFailed
    | RequestReturned
    | BrokerRestarted
    | TokenWithdrawn
    | RequestAccepted
    | RequestQueued
    | RequestGranted
    | RequestEnded
    | Drain
    | Disconnect
    | BrokerFailed
)
"""Those to the actor of a client, be it of a connection or of an exchange over HTTP."""

NEEDS_A_CLIENT = frozenset(
    (Admitted, NotAdmitted, RequestAccepted, RequestQueued, RequestGranted, RequestEnded)
)
"""The types of the messages that are not missed, and no dead letters, if the client has left."""

ConnectionMessage = (
    ClientMessage | SocketEvent | TokenRotated | HelloTimeout | Heartbeat | SlowConsumerTimeout
)
"""Those to the actor of a connection by WebSocket."""

ExchangeMessage = (
    ClientMessage
    | SocketClosed
    | OutboxHigh
    | OutboxLow
    | CommitDue
    | KeepaliveDue
    | GraceOver
    | IdleDue
)
"""Those to the actor of an exchange over HTTP, which takes a connection's place."""
