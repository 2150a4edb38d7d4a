"""Values that are kept for long and rarely looked at, each as one piece of bytes.

A value of a dozen small objects, let go long after it was made, costs a dozen visits to memory that
has left the processor's cache; at thousands of requests a second that was a third of a request's
whole cost. One piece costs one.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

_SIZE_BYTES = 8


class Packer(Generic[T]):
    """Packs values of one type; each piece also tells a size, in whatever unit its owner counts."""

    __slots__ = ("_decode", "_encode")

    def __init__(self, kind: Any) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def pack(self, value: T, size: int) -> bytes:
        """Raises UnicodeEncodeError for text with lone surrogates, which no frame can carry."""
        return size.to_bytes(_SIZE_BYTES, "big") + self._encode(value)

    def unpack(self, packed: bytes) -> T:
        value: T = self._decode(packed[_SIZE_BYTES:])
        return value


def size_of(packed: bytes) -> int:
    """The size that was given with the value."""
    return int.from_bytes(packed[:_SIZE_BYTES], "big")
