"""The fields and the tunnel for a proxy between the broker and a service."""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode

from yarl import URL

from exai_actors.edges.http.response_head import MAX_HELD_HEAD_BYTES, head_end
from exai_actors.errors import ExaiError

_STATUS = re.compile(rb"HTTP/1\.\d +(\d{3})")


class ProxyRefusal(ExaiError):
    """A proxy opens no tunnel; the text says why, as the end of a sentence about it."""


def proxy_fields(proxy: URL) -> bytes:
    """The header fields with the credentials in the address of a proxy."""
    if proxy.user is None:
        return b""
    credentials = f"{proxy.user}:{proxy.password or ''}".encode()
    return b"Proxy-Authorization: Basic %b\r\n" % b64encode(credentials)


async def open_tunnel(connected: socket.socket, proxy: URL, service: URL) -> None:
    """Let the proxy at the other end of ``connected`` pass on all bytes to and from ``service``.

    Raises ProxyRefusal and OSError.
    """
    loop = asyncio.get_running_loop()
    authority = f"{service.host_subcomponent}:{service.port}".encode()
    await loop.sock_sendall(
        connected,
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, proxy_fields(proxy)),
    )
    head = b""
    while head_end(head) < 0:
        data = await loop.sock_recv(connected, MAX_HELD_HEAD_BYTES)
        if not data or len(head) > MAX_HELD_HEAD_BYTES:
            raise ProxyRefusal("closed the connection without answering")
        head += data
    status = _STATUS.match(head)
    if status is None:
        raise ProxyRefusal("answered with something that is not HTTP")
    if not status[1].startswith(b"2"):
        raise ProxyRefusal(f"answered HTTP {status[1].decode()}")
