"""The other end of a sans-IO connection: says frames and reads answers as a client would."""

from __future__ import annotations

import json
from typing import Any

from exai_actors.wire.clients import encode
from exai_actors.wire.clients.codec import decode
from exai_actors.wire.clients.connection import Close, Connection
from exai_actors.wire.clients.frames import CallTool, ClientFrame, Malformed


def opened() -> Connection:
    """A connection whose hello has been answered."""
    connection = Connection()
    connection.receive(b'{"op":"hello"}')
    connection.admitted("s-1")
    return connection


def read(frame: Any) -> ClientFrame:
    """What an open connection makes of ``frame``: bytes as they are, anything else as JSON."""
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    found = opened().receive(data)
    assert not isinstance(found, Close)
    return found


def call(frame: Any) -> CallTool:
    """What the general reader makes of a call; the usual ones take a shorter way to the same."""
    found = decode(frame if isinstance(frame, bytes) else json.dumps(frame).encode())
    assert isinstance(found, CallTool), found
    return found


def refusal(frame: Any) -> dict[str, Any]:
    """The error frame with which an open connection answers ``frame``."""
    found = read(frame)
    assert isinstance(found, Malformed), found
    return said(encode.error(found.reply, found.error))


def said(answer: bytes | None) -> dict[str, Any]:
    """An answer as the client's parser sees it; strict about JSON, unlike Python's own default."""
    assert answer is not None
    value = json.loads(answer.decode("utf-8"), parse_constant=_no_constant)
    assert isinstance(value, dict)
    return value


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")
