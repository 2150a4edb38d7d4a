"""The way of the pieces of an answer, from the service to the client."""

from __future__ import annotations

from typing import Protocol


class PieceSink(Protocol):
    """Takes the pieces of one answer, in order; ignores them once it is closed."""

    def write(self, text: str, /) -> None:
        """Take a piece, which is never empty."""
