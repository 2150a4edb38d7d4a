"""What the actors need of the outside world, as protocols that the edges fulfil.

Everything here is called on the event loop's thread and returns at once.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from exai_actors.core.calls import ChatCall
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage
from exai_actors.messages.recipient import Recipient


class Clock(Protocol):
    """Two times, both in seconds: one that only goes forward, one that people read."""

    def now(self) -> float: ...

    def wall(self) -> float: ...


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end of a socket, as far as the handshake told."""

    address: str
    bearer_token: str | None = None
    origin: str | None = None
    user_agent: str | None = None


class Outbox(Protocol):
    """The way out to one socket.

    ``send`` takes one whole text frame as UTF-8 bytes and never blocks; frames leave in order, all
    those of one turn together. After ``close``, or when the socket is gone, sends are dropped.
    The owner learns of the marks by OutboxHigh and OutboxLow, of the end by SocketClosed.
    """

    def send(self, frame: bytes, /) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def bytes_taken(self) -> int:
        """Grows by what the client takes while it is over the mark; only differences tell."""

    def abort(self) -> None:
        """Drop the socket without a closing handshake: the reader does not read."""


class UpstreamCall(Protocol):
    """One started call. All three are idempotent and harmless after the end."""

    def abort(self) -> None:
        """End the call; UpstreamEnded(Aborted) follows once its connection is really closed."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Upstream(Protocol):
    """A provider's remote service.

    ``start`` tells ``reply_to`` any number of UpstreamChunk (only if ``call.stream``) and then
    exactly one UpstreamEnded, whatever happens, each carrying ``permit``. It never raises for what
    the remote service does, and it may tell before it returns.
    ``ask_models`` is answered by one ModelsListed or ModelsUnavailable.
    """

    @property
    def round_trip_s(self) -> float:
        """The shortest time in which a connection to the service was opened; 0 if unknown."""

    def start(
        self, permit: PermitId, call: ChatCall, reply_to: Recipient[ProviderMessage]
    ) -> UpstreamCall: ...

    def hand_over(self, reply_to: Recipient[ProviderMessage]) -> tuple[PermitId, ...]:
        """Let the calls that still run tell ``reply_to`` from now on; gives their permits.

        For a provider's next incarnation: what its predecessor began is not over with its death.
        """

    def ask_models(self, reply_to: Recipient[ProviderMessage]) -> None: ...

    async def aclose(self) -> None:
        """Abort what runs and free the connections."""
