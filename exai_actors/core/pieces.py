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
