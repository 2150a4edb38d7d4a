"""The pool of HTTP connections to one service.

aiohttp's own pool notices a closed connection only after a request has been written to it, and
takes data that arrived on an idle connection for the answer to the next request. A completion costs
money, so this pool checks first. It also respects the time for which a service says that it keeps
an idle connection (``Keep-Alive: timeout=5``).
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import time
from functools import partial
from math import inf
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

# Shorter than services keep an idle connection, so that usually we are the side that closes it.
# Proxies with TLS keep one for 60 s and more, uvicorn and Node for 5 s.
KEEP_ALIVE_TLS_S = 15.0
KEEP_ALIVE_PLAIN_S = 4.0
# Of the time that a service names: our request has to arrive before its end.
KEEP_ALIVE_MARGIN_S = 1.0
_KEEP_ALIVE = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE)

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

# Find out within two minutes that the other end has vanished, and keep the entries of routers alive
# while a model thinks.
_TCP_KEEPALIVE = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPALIVE", 60),  # TCP_KEEPIDLE's name on macOS
    ("TCP_KEEPINTVL", 15),
    ("TCP_KEEPCNT", 4),
)


class Handler(ResponseHandler):
    """A connection that knows whether it can be used again.

    It also remembers whether it ended inside the head of a response: aiohttp itself does not say
    so after a reset.
    """

    ended_within_head = False
    usable_until: float | None = None
    """Until when it can be used again once it is idle, in monotonic time; None before its use."""
    _poll: select.poll | None = None

    def note_keep_alive(self, header: str) -> None:
        """Note for how long the service keeps the connection, which becomes idle now."""
        if named := _KEEP_ALIVE.search(header):
            named_s = float(named[1])
            usable_s = max(named_s - KEEP_ALIVE_MARGIN_S, named_s / 2)
            self.usable_until = time.monotonic() + usable_s

    def is_stale(self) -> bool:
        """Whether it has ended while it was idle, or received data since its last answer.

        HTTP has nothing to say on an idle connection: the data is its end, or a late second answer.
        """
        transport = self.transport
        # should_close covers data that the loop has read, poll() data that it has yet to read.
        if transport is None or self.should_close:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._parser is not None:
            self._parser: Any = _Witness(self._parser, self)
        super().connection_lost(exc)


class _Witness:
    """Stands in for the parser of a connection that has ended."""

    def __init__(self, parser: Any, handler: Handler) -> None:
        self._parser = parser
        self._handler = handler

    def feed_eof(self) -> Any:
        partial_message = self._parser.feed_eof()
        self._handler.ended_within_head = partial_message is not None
        return partial_message


class Connector(aiohttp.TCPConnector):
    """A pool that hands out no connection on which something arrived after its last answer.

    ``limit`` bounds the connections; 0 sets no bound. To be made on the running loop.
    """

    def __init__(self, limit: int, connect_timeout_s: float, *, tls: bool = True) -> None:
        keep_alive_s = KEEP_ALIVE_TLS_S if tls else KEEP_ALIVE_PLAIN_S
        super().__init__(limit=limit, keepalive_timeout=keep_alive_s)
        self._factory: Any = partial(Handler, loop=asyncio.get_running_loop())
        self.shortest_connect_s = inf
        """The shortest time in which a connection was opened, inf before the first."""
        # aiohttp's other timeouts are not used: they would not stop while a reader is paused.
        self.timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )

    async def take(
        self, request: aiohttp.ClientRequest, *, fresh: bool = False, patient: bool = False
    ) -> tuple[Connection, bool]:
        """Take a usable connection from the pool, or open one; return whether it was used before.

        ``fresh``: open one. ``patient``: without a timeout, which the caller has.
        """
        while True:
            began = time.monotonic()
            connection = await super().connect(
                request, [], _NO_TIMEOUT if patient else self.timeout
            )
            protocol = connection.protocol
            assert isinstance(protocol, Handler)
            if protocol.usable_until is None:
                protocol.usable_until = inf
                if protocol.closed is not None:
                    protocol.closed.add_done_callback(_retrieve_exception)
                if connection.transport is not None:
                    _keep_alive_by_tcp(connection.transport)
                self.shortest_connect_s = min(self.shortest_connect_s, time.monotonic() - began)
                return connection, False
            if not (fresh or protocol.usable_until < began or protocol.is_stale()):
                return connection, True
            connection.close()


def _keep_alive_by_tcp(transport: asyncio.BaseTransport) -> None:
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_KEEPALIVE:
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _retrieve_exception(closed: asyncio.Future[None]) -> None:
    """Keep asyncio from logging how an idle connection ended."""
    if not closed.cancelled():
        closed.exception()
