"""What a ConnectionActor is told: by its socket, by the broker, by its session."""

from __future__ import annotations

from typing import ClassVar, final

import msgspec

from exai_actors.core.calls import Outcome
from exai_actors.ids import RequestKey, SessionId
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session_requests import SessionRequest


@final
class TextReceived(msgspec.Struct, frozen=True, gc=False):
    """One whole text frame, its bytes not yet checked in any way."""

    data: bytes


class BinaryReceived(msgspec.Struct, frozen=True, gc=False):
    """A binary frame, which the protocol does not use."""

    size: int


class SocketClosed(msgspec.Struct, frozen=True, gc=False):
    """The socket is gone, whoever closed it. Told exactly once, last of what the socket tells."""

    refusable: ClassVar[bool] = False
    code: int
    reason: str


class OutboxHigh(msgspec.Struct, frozen=True, gc=False):
    """More bytes wait to be read by the client than the high mark: stop producing."""

    refusable: ClassVar[bool] = False


class OutboxLow(msgspec.Struct, frozen=True, gc=False):
    """The client has read down to the low mark: go on."""

    refusable: ClassVar[bool] = False


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The broker took this connection into a session."""

    refusable: ClassVar[bool] = False
    session_id: SessionId
    session: Recipient[SessionRequest]


class NotAdmitted(msgspec.Struct, frozen=True, gc=False):
    """The broker did not; ``error`` is the word for ``hello_ack.error``."""

    refusable: ClassVar[bool] = False
    error: str
    message: str


class TokenRotated(msgspec.Struct, frozen=True, gc=False):
    """The answer to RotateToken; ``error`` is None when the new token is in force."""

    refusable: ClassVar[bool] = False
    error: str | None


@final
class RequestAccepted(msgspec.Struct, frozen=True, gc=False):
    """The session took the request and it has to wait; one that need not is told RequestGranted."""

    refusable: ClassVar[bool] = False
    request: RequestKey


class RequestQueued(msgspec.Struct, frozen=True, gc=False):
    """The request waits; ``position`` counts from 1, ``estimate_s`` is None when unknown."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    position: int
    estimate_s: float | None


@final
class RequestGranted(msgspec.Struct, frozen=True, gc=False):
    """The request has its permit and runs upstream; it was accepted, whether told before or not."""

    refusable: ClassVar[bool] = False
    request: RequestKey


class RequestChunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer; ``sequence`` counts from 0 without gaps within the request."""

    request: RequestKey
    sequence: int
    text: str


@final
class RequestEnded(msgspec.Struct, frozen=True, gc=False):
    """The one outcome of the request."""

    refusable: ClassVar[bool] = False
    request: RequestKey
    outcome: Outcome


class HelloTimeout(msgspec.Struct, frozen=True, gc=False):
    """System lane. The time for the first frame is over."""


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """System lane. Time to tell the client that its calls are still running."""


class SlowConsumerTimeout(msgspec.Struct, frozen=True, gc=False):
    """System lane. The outbox is over its high mark; ``taken``: its bytes_taken() a while ago."""

    taken: int


class Drain(msgspec.Struct, frozen=True, gc=False):
    """System lane. Refuse new requests, finish what is in flight, then close.

    ``at_once``: tell the clients of what is in flight that it has no answer, and close now.
    """

    at_once: bool = False


SocketEvent = TextReceived | BinaryReceived | SocketClosed | OutboxHigh | OutboxLow
ConnectionMessage = (
    SocketEvent
    | Admitted
    | NotAdmitted
    | TokenRotated
    | RequestAccepted
    | RequestQueued
    | RequestGranted
    | RequestChunk
    | RequestEnded
    | HelloTimeout
    | Heartbeat
    | SlowConsumerTimeout
    | Drain
)
