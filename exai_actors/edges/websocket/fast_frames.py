"""The fast path of WebSocket framing (RFC 6455, section 5.2): whole text frames in, text out.

Other frames, and faults of any frame, are left to the library's parser, untouched.
"""

from __future__ import annotations

import struct

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

MAX_FRAMES = 256

_FRAMES = range(MAX_FRAMES)
_FINAL_TEXT = 0x81
_MASKED = 0x80
_SHORT_HEADERS = tuple(bytes((_FINAL_TEXT, length)) for length in range(126))
_pack_medium = struct.Struct("!BBH").pack
_pack_long = struct.Struct("!BBQ").pack


def whole_text_frames(data: bytes, max_frame_bytes: int) -> tuple[list[bytes], int]:
    """The payloads of the whole text frames at the start of ``data``, and their size in bytes.

    Stops before the first frame that is not final, not text, not masked, not complete, longer than
    ``max_frame_bytes`` or not UTF-8: the rest is for the library, which ends each fault as it must.
    Also stops after ``MAX_FRAMES``.
    """
    frames: list[bytes] = []
    position = 0
    size = len(data)
    for _ in _FRAMES:
        if size - position < 6 or data[position] != _FINAL_TEXT:
            break
        length = data[position + 1] - _MASKED
        payload_at = position + 6
        if length < 0:
            break
        if length == 126:
            payload_at += 2
            length = data[position + 2] << 8 | data[position + 3]
        elif length == 127:
            payload_at += 8
            # A cut-off length reads too small, and then the frame is not complete either.
            length = int.from_bytes(data[position + 2 : position + 10], "big")
        end = payload_at + length
        if end > size or length > max_frame_bytes:
            break
        payload = apply_mask(data[payload_at:end], data[payload_at - 4 : payload_at])
        if not payload.isascii() and not _is_utf8(payload):
            break
        frames.append(payload)
        position = end
    return frames, position


def text_frame_header(length: int) -> bytes:
    """The header of a server's unmasked text frame of ``length`` bytes."""
    if length < 126:
        return _SHORT_HEADERS[length]
    if length < 65536:
        return _pack_medium(_FINAL_TEXT, 126, length)
    return _pack_long(_FINAL_TEXT, 127, length)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
