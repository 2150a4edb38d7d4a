"""Packs values that are stored for long and rarely read into one bytes object each.

Freeing a dozen small objects long after they were made touches memory that has left the processor's
cache; at thousands of requests per second that was a third of the cost of a request (ADR 11). One
bytes object costs one such access, and its length is its size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""The value as bytes. Raises UnicodeEncodeError for lone surrogates, which no frame can carry."""


def unpacker(kind: type[T]) -> Callable[[bytes], T]:
    """The reverse of ``pack`` for values of this type."""
    return msgspec.msgpack.Decoder(kind).decode
