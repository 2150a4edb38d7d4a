"""Whether the operating system keeps the clock right."""

from __future__ import annotations

import ctypes
import sys

_TIME_ERROR = 5
_TIMEX_BYTES = 512
"""More than the structure has on any machine; it starts with the modes, 0 of which only reads."""


def is_synchronised() -> bool | None:
    """None where the system cannot be asked."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
