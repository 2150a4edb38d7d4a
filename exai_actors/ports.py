"""The interfaces that actors use and edges implement.

All methods are called on the event loop's thread and return immediately.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from exai_actors.core.calls import UpstreamRequest
from exai_actors.core.pieces import PieceSink as PieceSink  # noqa: PLC0414
from exai_actors.core.trace_context import TraceContext
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage
from exai_actors.messages.recipient import Recipient


class Clock(Protocol):
    """The time in seconds: ``now`` is monotonic, ``wall`` counts from the epoch."""

    def now(self) -> float: ...

    def wall(self) -> float: ...


class Peer(msgspec.Struct, frozen=True):
    """The other end of a socket, as known from the handshake."""

    address: str
    bearer_token: str | None = None
    origin: str | None = None
    user_agent: str | None = None
    path: str = "/"
    trace: TraceContext | None = None
    protocol: str = "websocket"


class Outbox(Protocol):
    """The frames of one connection that are not written yet.

    The connection's actor gets OutboxHigh and OutboxLow when its size passes a mark, and
    SocketClosed when the socket is closed. ``held_back`` is the size of what its actor holds back
    meanwhile, which counts in the memory of the connection.
    """

    held_back: int

    @property
    def is_above_high_mark(self) -> bool:
        """Whether the client has much to read; OutboxLow follows, unless the socket closes."""

    def admit(self) -> None:
        """The client is admitted: its socket no longer counts as a stranger's."""

    def send(self, frame: bytes, /) -> None:
        """Add a whole text frame in UTF-8.

        Frames are written in order, those of one turn together. After ``close``, and once the
        socket is closed, they are dropped.
        """

    def send_now(self, frame: bytes, /) -> None:
        """As ``send``, without waiting for others of the turn unless some wait already."""

    def close(self, code: int, reason: str) -> None:
        """Close the socket with a closing handshake, after the frames before."""

    def bytes_taken(self) -> int:
        """The bytes that the client has read while above the high mark; use differences only."""

    def read_on(self) -> None:
        """Read from the socket again, after ReadHandled."""

    def abort(self) -> None:
        """Drop the socket without a closing handshake."""


class Responder(Protocol):
    """The response to one HTTP request.

    Its exchange's actor gets OutboxHigh and OutboxLow when the client does not keep up, and
    SocketClosed when it has left; neither after the end. Calls after the end do nothing.
    """

    def respond(self, status: int, fields: tuple[tuple[str, str], ...], body: bytes) -> None:
        """Send a whole response."""

    def begin(
        self, status: int, fields: tuple[tuple[str, str], ...], length: int | None = None
    ) -> None:
        """Send the head of a response; the length of its body may be known."""

    def close_after(self) -> None:
        """Before the response: end the client's connection with it."""

    def write(self, data: bytes) -> None:
        """Send a piece of the body. Raises ValueError if it exceeds the announced length."""

    def end(self) -> None:
        """The response is complete."""

    def abort(self) -> None:
        """Break off: the client must not take this for a whole response."""

    @property
    def kept(self) -> Kept | None:
        """What an earlier request of the client's connection has left there."""

    def keep(self, kept: Kept) -> bool:
        """After the end: leave something for the next request of the client's connection, in the
        place of what is there. False if there will be no other request.
        """

    def forget(self, kept: Kept) -> None:
        """It is of no use for another request, if it is still there."""


class Kept(Protocol):
    """What stays beside a client's connection between two of its requests."""

    def left(self) -> None:
        """The connection has ended, or has something else in this place."""


class UpstreamCall(Protocol):
    """A started call. All methods are idempotent, and have no effect after its end."""

    def abort(self) -> None:
        """End the call without a further piece.

        UpstreamEnded(Aborted) follows once its connection is closed.
        """

    def pause(self) -> None:
        """Read no more from the service for now. The call bounds no pause: its provider does."""

    def resume(self) -> None:
        """Read on."""


class Upstream(Protocol):
    """A provider's connection to its service."""

    @property
    def round_trip_s(self) -> float:
        """The shortest time in which a connection to the service was opened; 0 if unknown."""

    def start(
        self,
        permit: PermitId,
        call: UpstreamRequest,
        reply_to: Recipient[ProviderMessage],
        *,
        sink: PieceSink | None = None,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> UpstreamCall:
        """Start a call; ``fresh``: on a connection that was not used before. ``trace`` is passed
        on to the service.

        If the call streams, writes the pieces of the answer to ``sink``, in the turns in which
        they arrive, and in any case sends ``reply_to`` exactly one UpstreamEnded with ``permit``
        after them; all this possibly before it returns. Never raises for anything that the service
        does.
        """

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        """Let the running calls reply to ``reply_to`` from now on; return their permits.

        For the next incarnation of a provider: the calls of an earlier one still run.
        """

    def ask_models(self, reply_to: Recipient[ProviderMessage]) -> None:
        """Ask the service for its models; answered by one ModelsListed or ModelsUnavailable."""

    async def aclose(self) -> None:
        """Abort all calls and free the connections."""
