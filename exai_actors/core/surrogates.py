"""JSON with escapes of half a pair of surrogates, which most programs read and the parser does not.

Clients cut texts within a character, and send that half with every later request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


def without_surrogates(data: bytes) -> bytes:
    """The same JSON with other characters in the place of surrogates, byte for byte as long."""
    return data.replace(b"\\ud", b"\\u0").replace(b"\\uD", b"\\u0")


def tolerant(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """A decoder that reads such JSON as well, with other characters in the place of surrogates."""

    def decoded(data: bytes) -> T:
        try:
            return decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            other = without_surrogates(data)
            if other == data:
                raise
            return decode(other)

    return decoded
