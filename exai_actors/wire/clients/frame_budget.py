"""Limits the values that a frame may make the parser build; its bytes alone do not.

Ten megabytes of text are decoded in milliseconds, ten megabytes of empty arrays in half a second,
in which no other client is served. Only long strings need large frames, so the limits concern the
number of values, and the bytes outside strings.
"""

from __future__ import annotations

CHECKED_ABOVE_BYTES = 64 * 1024
"""Smaller frames are not counted: as many values as fit are decoded in a few milliseconds."""
MAX_VALUES = 50_000
"""Of a whole frame, nested ones included. Names do not count, an empty array or object twice."""
MAX_BYTES_OUTSIDE_STRINGS = 1_000_000

# Each value may have a name, and each string has two quotes.
_MAX_QUOTES = 4 * MAX_VALUES


def excess(data: bytes) -> str | None:
    """The limit that ``data`` exceeds, as an error text; None if it exceeds none.

    Exact for valid JSON. Of other text, nothing beyond the limits precedes the first error. Takes
    a few milliseconds for each megabyte, for any text.
    """
    if len(data) <= CHECKED_ABOVE_BYTES:
        return None
    # Pairs of backslashes first: what precedes a quote then shows whether that is escaped.
    text = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = text.split(b'"', _MAX_QUOTES + 1)
    if len(parts) > _MAX_QUOTES + 1:
        return _TOO_MANY_VALUES
    outside = b"".join(parts[::2])
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") >= MAX_VALUES:
        return _TOO_MANY_VALUES
    if len(outside) > MAX_BYTES_OUTSIDE_STRINGS:
        return (
            f"at most {MAX_BYTES_OUTSIDE_STRINGS} bytes of a frame may be outside strings, "
            f"got {len(outside)}"
        )
    return None


_TOO_MANY_VALUES = f"a frame may have at most {MAX_VALUES} values; send large data as one string"
