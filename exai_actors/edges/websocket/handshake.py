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
_KEY = re.compile(rb"(?i:\r\nsec-websocket-key: ?)([A-Za-z0-9+/]{21}[AQgw]==)\r\n")
_KEY_NAME = "sec-websocket-key"
# Stands for the key of any handshake, so that those of one program are the same.
_ANY_KEY = b"-"


class HandshakeRequest(msgspec.Struct, frozen=True):
    """The path and the headers of a handshake but its key, by their names in lower case.

    Several headers of one name are joined, and so match no allowed value.
    """

    path: str
    headers: dict[str, str]

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


class _Common(msgspec.Struct, frozen=True):
    """What handshakes that differ only in their keys have in common."""

    request: HandshakeRequest
    protocol: bytes
    """The line of the response that names the subprotocol, if any."""


class Handshake(msgspec.Struct, frozen=True):
    """A handshake that can be accepted, the response for it, and the bytes behind it."""

    request: HandshakeRequest
    response: bytes
    rest: bytes


def common_handshake(data: bytes) -> Handshake | None:
    """The handshake at the start of ``data``; None if it is left to the library."""
    end = data.find(b"\r\n\r\n", 0, _MAX_BYTES) + 4
    key = _KEY.search(data, 0, end - 2)
    if key is None:
        return None
    common = _common_to_all(data[: key.start(1)] + _ANY_KEY + data[key.end(1) : end])
    if common is None:
        return None
    accept = b64encode(sha1(key[1] + _GUID, usedforsecurity=False).digest())
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nDate: %b\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
        % (_date(int(time.time())), accept, common.protocol)
    )
    return Handshake(common.request, response, data[end:])


# Clients of one program on one machine send the same bytes but for the key.
@lru_cache(maxsize=64)
def _common_to_all(head: bytes) -> _Common | None:
    """What is the same for all handshakes with this head; None if it is left to the library."""
    whole = _HEAD.fullmatch(head)
    if whole is None:
        return None
    path, lines = whole.groups()
    headers: dict[str, str] = {}
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in headers:
            return None
        headers[name] = value.lstrip(" ")
    if (
        headers.get("upgrade", "").lower() != "websocket"
        or headers.get("connection", "").lower() not in ("upgrade", "keep-alive, upgrade")
        or headers.get("sec-websocket-version") != "13"
        or headers.get("sec-websocket-protocol", "mcp") != "mcp"
        or "content-length" in headers
        or "transfer-encoding" in headers
    ):
        return None
    del headers[_KEY_NAME]
    protocol = b"Sec-WebSocket-Protocol: mcp\r\n" if "sec-websocket-protocol" in headers else b""
    return _Common(HandshakeRequest(path.decode(), headers), protocol)


def read_by_library(request: Request) -> HandshakeRequest:
    """The same of a handshake that the library has read."""
    headers: dict[str, str] = {}
    for name, value in request.headers.raw_items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    headers.pop(_KEY_NAME, None)
    return HandshakeRequest(request.path, headers)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
