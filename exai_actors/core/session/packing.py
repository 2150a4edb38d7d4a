"""Values that are kept for long and rarely looked at, each as one piece of bytes.

A value of a dozen small objects, let go long after it was made, costs a dozen visits to memory that
has left the processor's cache; at thousands of requests a second that was a third of a request's
whole cost. One piece costs one, and its length is what it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""The value as bytes. Raises UnicodeEncodeError for lone surrogates, which no frame can carry."""


def unpacker(kind: type[T]) -> Callable[[bytes], T]:
    """What turns the bytes of a value of this type into the value again."""
    return msgspec.msgpack.Decoder(kind).decode
