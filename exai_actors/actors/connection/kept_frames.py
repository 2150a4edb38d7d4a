"""The frames of a client that wait until its connection has a session."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.messages.connection import BinaryReceived, TextReceived

Frame = TextReceived | BinaryReceived

SMALL_BYTES = 1_048_576
"""Some reads of a socket: a session begins within a few turns, which bring no more than that."""


class KeptFrames:
    """At most ``limit`` frames in the order in which they came, or ``many`` if they are small.

    They are small if together they have at most ``SMALL_BYTES``.
    """

    __slots__ = ("_bytes", "_frames", "_limit", "_many")

    def __init__(self, limit: int, many: int = 0) -> None:
        self._limit = limit
        self._many = many
        self._bytes = 0
        self._frames: list[Frame] = []

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def add(self, frame: Frame) -> bool:
        """Keep another frame; False if there is no room for it."""
        size = self._bytes + (len(frame.data) if isinstance(frame, TextReceived) else 0)
        limit = self._limit if size > SMALL_BYTES else max(self._limit, self._many)
        if len(self._frames) >= limit:
            return False
        self._bytes = size
        self._frames.append(frame)
        return True
