"""Stores values that are kept for long and rarely read as one bytes object each.

Freeing a dozen small objects long after they were made touches memory that has left the processor's
cache; at thousands of requests per second that was a third of the cost of a request (ADR 11). One
bytes object costs one such access, and its length is its size.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
Name = TypeVar("Name")

pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""The value as bytes. Raises UnicodeEncodeError for lone surrogates, which no frame can carry."""


def unpacker(kind: type[T]) -> Callable[[bytes], T]:
    """The reverse of ``pack`` for values of this type."""
    return msgspec.msgpack.Decoder(kind).decode


class PackedStore(Generic[Name]):
    """Packed values by name, at most ``count`` of them and ``most_bytes`` bytes.

    The first in order are dropped first. A full store drops a sixteenth of them at once, which is
    cheaper than one by one.
    """

    __slots__ = ("_size", "_spare", "count", "kept", "most_bytes")

    def __init__(self, count: int, most_bytes: int) -> None:
        self.count = count
        self.most_bytes = most_bytes
        self.kept: dict[Name, bytes] = {}
        """The stored values in the order in which they are dropped. To be changed only here."""
        self._size = 0
        self._spare = count // 16

    @property
    def kept_bytes(self) -> int:
        """The size of all stored values."""
        return self._size

    def __len__(self) -> int:
        return len(self.kept)

    def shrink(self, size: int) -> None:
        """Drop the first values until the rest has at most ``size`` bytes."""
        kept = self.kept
        while self._size > size:
            self._drop(next(iter(kept)))

    def _keep(self, name: Name, packed: bytes) -> None:
        kept = self.kept
        if name in kept:
            self._drop(name)
        kept[name] = packed
        self._size += len(packed)
        if len(kept) > self.count or self._size > self.most_bytes:
            self._make_room()

    def _make_room(self) -> None:
        kept = self.kept
        if len(kept) > self.count:
            surplus = len(kept) - self.count + self._spare
            self._size -= sum([len(kept.pop(old)) for old in tuple(islice(kept, surplus))])
        self.shrink(self.most_bytes)

    def _drop(self, name: Name) -> bytes:
        packed = self.kept.pop(name)
        self._size -= len(packed)
        return packed
