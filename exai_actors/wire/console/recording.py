"""Recordings of a feed: a header, then its frames as they came, one JSON object a line.

The header has the broker's greeting, in which each table has its columns. Every table begins with a
snapshot, and has further ones, so that a reader can start from the last before any instant.
"""

from __future__ import annotations

from typing import Any

import msgspec

VERSION = 1

_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class NotARecording(ValueError):
    """The text says why."""


def header(greeting: dict[str, Any], time: float, fault: str = "") -> bytes:
    """The first line. ``time`` is that of the recording, or of the ``fault`` that caused it."""
    content = {
        "op": "recording",
        "version": VERSION,
        "time": time,
        "fault": fault,
        "greeting": greeting,
    }
    return _encoder.encode(content)


def read_header(line: bytes) -> dict[str, Any]:
    """Raises NotARecording."""
    try:
        found = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotARecording("its first line is not JSON") from None
    if found.get("op") != "recording" or not isinstance(found.get("greeting"), dict):
        raise NotARecording("its first line is not the header of a recording")
    if found["version"] != VERSION:
        raise NotARecording(
            f"it has version {found['version']} of the format, and this console reads {VERSION}"
        )
    return found


def read_frame(line: bytes) -> dict[str, Any] | None:
    """A frame; None for a line that is none, such as one that was cut off."""
    try:
        frame = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return frame if frame.get("op") in ("snapshot", "delta") else None
