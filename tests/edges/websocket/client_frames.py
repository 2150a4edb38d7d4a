"""Frames as a client writes them, right ones and wrong ones."""

from __future__ import annotations

import base64
import struct

from websockets.frames import Frame, Opcode
from websockets.utils import apply_mask

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8079\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    length_bytes: int | None = None,
) -> bytes:
    """One frame; ``length_bytes`` 2 or 8 forces a longer length field than needed."""
    size = len(payload)
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    masked = 0 if mask is None else 0x80
    match length_bytes:
        case 0:
            header = struct.pack("!BB", first, masked | size)
        case 2:
            header = struct.pack("!BBH", first, masked | 126, size)
        case _:
            header = struct.pack("!BBQ", first, masked | 127, size)
    return header + (payload if mask is None else mask + apply_mask(payload, mask))


def text(payload: bytes | str) -> bytes:
    return client_frame(Opcode.TEXT, payload.encode() if isinstance(payload, str) else payload)


def close(code: int = 1000, reason: str = "") -> bytes:
    return client_frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode())


def server_frames(data: bytes) -> list[Frame]:
    """The frames a server wrote, without the handshake's answer."""
    frames = []
    rest = data.partition(b"\r\n\r\n")[2] if data.startswith(b"HTTP/") else data
    while rest:
        size = rest[1]
        start = 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(rest[2:start], "big")
        frames.append(
            Frame(Opcode(rest[0] & 0x0F), rest[start : start + size], fin=bool(rest[0] & 0x80))
        )
        rest = rest[start + size :]
    return frames
