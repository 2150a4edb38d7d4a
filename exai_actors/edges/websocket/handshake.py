"""The fast path of WebSocket handshakes (RFC 6455, section 4): the common one is read here.

Whatever is not common, or may be at fault, is left to the library, which answers it as it must.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from email.utils import formatdate
from functools import lru_cache
from hashlib import sha1

import msgspec
from websockets.http11 import Request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_BYTES = 4096
_HEAD = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}: ?[!-~](?:[ -~]*[!-~])?\r\n){4,40})\r\n"
)
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")


class HandshakeRequest(msgspec.Struct, frozen=True):
    """The path and the headers of a handshake, by their names in lower case.

    Several headers of one name are joined, and so match no allowed value.
    """

    path: str
    headers: dict[str, str]

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


class Handshake(msgspec.Struct, frozen=True):
    """A handshake that can be accepted, the response for it, and the bytes behind it."""

    request: HandshakeRequest
    response: bytes
    rest: bytes


def common_handshake(data: bytes) -> Handshake | None:
    """The handshake at the start of ``data``; None if it is left to the library."""
    head = _HEAD.match(data, 0, _MAX_BYTES)
    if head is None:
        return None
    path, lines = head.groups()
    headers: dict[str, str] = {}
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in headers:
            return None
        headers[name] = value.lstrip(" ")
    key = headers.get("sec-websocket-key", "").encode()
    if (
        headers.get("upgrade", "").lower() != "websocket"
        or headers.get("connection", "").lower() not in ("upgrade", "keep-alive, upgrade")
        or headers.get("sec-websocket-version") != "13"
        or headers.get("sec-websocket-protocol", "mcp") != "mcp"
        or not _KEY.fullmatch(key)
        or "content-length" in headers
        or "transfer-encoding" in headers
    ):
        return None
    accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    protocol = b"Sec-WebSocket-Protocol: mcp\r\n" if "sec-websocket-protocol" in headers else b""
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nDate: %b\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
        % (_date(int(time.time())), accept, protocol)
    )
    return Handshake(HandshakeRequest(path.decode(), headers), response, data[head.end() :])


def read_by_library(request: Request) -> HandshakeRequest:
    """The same of a handshake that the library has read."""
    headers: dict[str, str] = {}
    for name, value in request.headers.raw_items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return HandshakeRequest(request.path, headers)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
