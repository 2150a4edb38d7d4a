"""The way of the pieces of an answer: from the service to the client, without a mailbox.

The edge writes each piece to a sink, which is connected before the call is started; each sink
passes it on to the next in the same turn, and the last one to the outbox of a client.
"""

from __future__ import annotations

from typing import Protocol

HELD_BACK_CHARS = 1 << 20
"""How much text of a stream is held back for a slow client before the service is not read."""

STALL_TIMEOUT_S = 10.0
"""How long that may last in all, unless configured; a call keeps its permit meanwhile."""


class PieceSink(Protocol):
    """Takes the pieces of one answer, in order; ignores them once it is closed. Never raises."""

    def write(self, text: str, /) -> None:
        """Take a piece, which is never empty."""

    def write_reasoning(self, text: str, /) -> bool:
        """Take a piece of the model's reasoning; return whether a client wants it."""


class RelaySink(Protocol):
    """Takes the response to a relayed request as its bytes arrive.

    ``head`` comes first and once, and ``whole`` once the answer is complete by the rules of its
    family, before or after the last of its bytes. All are ignored once the sink is closed.
    """

    def head(self, status: int, fields: tuple[tuple[str, str], ...], length: int | None, /) -> None:
        """The status, the headers that the client may see, and the length of the body if known."""

    def data(self, data: bytes, /) -> None:
        """A piece of the body, which is never empty."""

    def whole(self) -> None:
        """The answer is complete, or the service has ended it with an error of its own."""
