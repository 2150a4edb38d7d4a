"""The HTTP connections to one service: opened and reused with care.

Other than with aiohttp's own connector, a pooled connection that the service has closed in the
meantime is noticed before a request is written to it: afterwards nobody can say whether the request
was run, and a completion costs money.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import select
from collections.abc import Callable
from math import inf
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from exai_actors.errors import ConfigError

# Shorter than services keep a connection themselves, so that it is we who close an idle one.
KEEP_ALIVE_S = 15.0


def proxy_for(url: URL) -> URL | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY, ...) names for this address.

    Never one for the machine itself. A proxy without a scheme speaks HTTP, as everywhere. Raises
    ConfigError for one that cannot be used.
    """
    host = url.host or ""
    if _is_loopback(host) or proxy_bypass(host):
        return None
    named = getproxies().get(url.scheme)
    if not named:
        return None
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # What it holds is not repeated: it may be a password.
        raise ConfigError(
            f"the proxy for {url.scheme}:// addresses that {url.scheme.upper()}_PROXY names cannot "
            "be used; it must be an http:// address, such as http://proxy.example:3128"
        )
    return proxy


class Connector(aiohttp.TCPConnector):
    """Hands out no pooled connection on which something came since its last answer.

    That can only be its end, or what would be taken for the answer to the next request.
    ``shortest_connect_s`` is the shortest time that opening one took, inf before the first.

    ``limit`` 0 sets none. Made on the running loop.
    """

    def __init__(self, limit: int, connect_timeout_s: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=KEEP_ALIVE_S)
        self.shortest_connect_s = inf
        made: Callable[..., ResponseHandler] = _Protocol
        self._factory = functools.partial(made, loop=asyncio.get_running_loop())
        # No other timeout is aiohttp's: they need to stop while a reader is paused.
        self.timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if not _has_something_more(connection):
                return connection
            connection.close()
        return None

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> ResponseHandler:
        began = self._loop.time()
        protocol = await super()._create_connection(req, traces, timeout)
        self.shortest_connect_s = min(self.shortest_connect_s, self._loop.time() - began)
        return protocol


class _Protocol(ResponseHandler):
    """Tells who reads a body what has made the rest of it unreadable.

    aiohttp tells it to who waits for a head alone; a body with a broken chunk would fall silent.
    """

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        cause = exc if exc_cause is None else exc_cause
        super().set_exception(exc, cause)
        body = self._payload
        if body is not None:
            # A reader that the end of a chunk has just woken looks for an exception only when it
            # waits again.
            asyncio.get_running_loop().call_soon(_break_off, body, cause)


def _break_off(body: aiohttp.StreamReader, cause: BaseException) -> None:
    if not body.is_eof() and body.exception() is None:
        body.set_exception(aiohttp.ClientPayloadError(str(cause)), cause)


def _has_something_more(connection: Connection) -> bool:
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
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
