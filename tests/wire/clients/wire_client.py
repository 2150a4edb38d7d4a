"""The client's end of a sans-IO connection: sends frames and parses answers."""

from __future__ import annotations

import json
from typing import Any

from exai_actors.wire.clients import encode
from exai_actors.wire.clients.codec import decode
from exai_actors.wire.clients.connection import Close, Connection
from exai_actors.wire.clients.frames import CallTool, ClientFrame, Malformed, ReplyTo


def opened() -> Connection:
    """An OPEN connection."""
    connection = Connection()
    connection.receive(b'{"op":"hello"}')
    connection.admit("s-1")
    return connection


def read(frame: Any) -> ClientFrame:
    """``frame``, sent as it is if it is bytes or else as JSON, as an open connection decodes it."""
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    found = opened().receive(data)
    assert not isinstance(found, Close)
    return found


def call(frame: Any) -> CallTool:
    """A call as the general path decodes it."""
    found = decode(frame if isinstance(frame, bytes) else json.dumps(frame).encode())
    assert isinstance(found, CallTool), found
    return found


def error_frame(frame: Any) -> dict[str, Any]:
    """The error frame with which an open connection answers ``frame``."""
    found = read(frame)
    assert isinstance(found, Malformed), found
    return parsed(encode.error(found.reply, found.error))


def parsed(answer: bytes | None) -> dict[str, Any]:
    """An answer, parsed strictly: NaN and Infinity are not JSON."""
    assert answer is not None
    value = json.loads(answer.decode("utf-8"), parse_constant=_no_constant)
    assert isinstance(value, dict)
    return value


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def piece(reply: ReplyTo, sequence: int, text: str, now_wall: float = 1_763_028_672.25) -> bytes:
    """The frame of a piece, for a client that takes them."""
    frame = encode.piece_frame(reply, lambda: now_wall)
    assert frame is not None
    return frame(sequence, text)
