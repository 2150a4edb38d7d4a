"""The HTTP connections to one service: opened, reused and dropped with care.

Two things differ from aiohttp's own behaviour. A pooled connection that the service has closed in
the meantime is noticed before a request is written to it: afterwards nobody can say whether the
request was run, and a completion costs money. And a request that is cancelled while it waits for
its answer drops the connection at once, even with half of the request still to be sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import select
import weakref
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

# Shorter than services keep a connection themselves, so that it is we who close an idle one.
KEEP_ALIVE_S = 15.0


def open_session(
    *, headers: dict[str, str], proxy: URL | None, connect_timeout_s: float, connections: int
) -> aiohttp.ClientSession:
    """A session on the running loop; ``connections`` 0 sets no limit.

    The other timeouts are the caller's: they need to stop while a reader is paused.
    """
    return aiohttp.ClientSession(
        connector=_Connector(limit=connections),
        headers=headers,
        proxy=proxy,
        timeout=aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_Response,
    )


def proxy_for(url: URL) -> URL | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY, ...) names for this address.

    Never one for the machine itself.
    """
    host = url.host or ""
    if _is_loopback(host) or proxy_bypass(host):
        return None
    named = getproxies().get(url.scheme)
    return URL(named) if named else None


def hang_up(response: aiohttp.ClientResponse) -> None:
    """Drop the connection unless the response was read to its end and is back in the pool."""
    connection = response.connection
    if connection is not None:
        _abort(connection)
    response.close()


class _Connector(aiohttp.TCPConnector):
    """Hands out no pooled connection that has something to read: that can only be its end."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit, keepalive_timeout=KEEP_ALIVE_S)
        self._seen: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._seen:
                if protocol is not None:
                    self._seen.add(protocol)
                return connection
            if not _has_something_to_read(connection):
                return connection
            connection.close()


class _Response(aiohttp.ClientResponse):
    """Drops the connection at once when the wait for the answer is cancelled."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        try:
            return await super().start(connection)
        except asyncio.CancelledError:
            _abort(connection)
            raise


def _abort(connection: Connection) -> None:
    # An orderly close would wait until what is left of the request has been sent.
    if (transport := connection.transport) is not None:
        transport.abort()


def _has_something_to_read(connection: Connection) -> bool:
    transport = connection.transport
    if transport is None or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
