"""A body that is taken in portions, so that other work of the loop comes between them."""

from __future__ import annotations

from exai_actors.wire.openai.content_coding import Inflater

PORTION_BYTES = 1 << 14
"""The most that one turn of the loop parses of a stream."""


class Portions:
    """Data to be taken, inflated no sooner than that. ``inflater``: the data is compressed."""

    __slots__ = ("_data", "_inflater", "_taken")

    def __init__(self, inflater: Inflater | None = None) -> None:
        self._inflater = inflater
        self._data = b""
        self._taken = 0

    @property
    def is_compressed(self) -> bool:
        return self._inflater is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether the data so far ends inside a compressed body."""
        return self._inflater is not None and self._inflater.truncated

    @property
    def may_have_more(self) -> bool:
        """Whether ``take`` may return something."""
        return self._taken < len(self._data) or self.is_cut_off

    def add(self, data: bytes) -> None:
        """Add data. Everything added before must have been taken."""
        if self._inflater is None:
            self._data, self._taken = data, 0
        else:
            self._inflater.feed(data)

    def take(self) -> bytes:
        """The next portion; empty if there is none before more data. Raises BadCoding."""
        if self._taken == len(self._data) and self._inflater is not None:
            self._data, self._taken = self._inflater.take(), 0
        portion = self._data[self._taken : self._taken + PORTION_BYTES]
        self._taken += len(portion)
        return portion
