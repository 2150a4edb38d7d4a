"""The protocol of a new client, by the first bytes that it sends to the broker's port."""

from __future__ import annotations

import re
from typing import Literal

MAX_HEAD_BYTES = 16 * 1024
"""A WebSocket handshake is smaller; a longer head is left to the HTTP server, which limits it."""

# The method of a handshake, and the field that asks for a WebSocket (RFC 6455, section 4.1).
_METHOD = b"GET "
_UPGRADE = re.compile(
    rb"\n[Uu][Pp][Gg][Rr][Aa][Dd][Ee]:[^\r\n]*[Ww][Ee][Bb][Ss][Oo][Cc][Kk][Ee][Tt]"
)
_END_OF_HEAD = re.compile(rb"\n\r?\n")


def spoken_in(first: bytes) -> Literal["websocket", "http"] | None:
    """The protocol of a client that has sent ``first``; None while that cannot be known.

    Everything that is no WebSocket handshake counts as HTTP; the HTTP server refuses the rest.
    """
    if not first.startswith(_METHOD[: len(first)]):
        return "http"
    end = _END_OF_HEAD.search(first)
    if end is None and len(first) <= MAX_HEAD_BYTES:
        return None
    asks = _UPGRADE.search(first, 0, len(first) if end is None else end.start())
    return "http" if asks is None else "websocket"
