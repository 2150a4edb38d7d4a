"""The pool of HTTP connections to one service.

aiohttp's own pool notices a closed connection only after a request has been written to it, when it
is unknown whether the service has run the request, and takes data that arrived on an idle
connection for the answer to the next request. A completion costs money, so this pool checks first.
"""

from __future__ import annotations

import asyncio
import select
import time
from math import inf
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

# Shorter than services keep an idle connection, so that usually we are the side that closes it.
KEEP_ALIVE_S = 15.0


class Connector(aiohttp.TCPConnector):
    """A pool that hands out no connection on which something arrived after its last answer.

    ``limit`` bounds the connections; 0 sets no bound. To be made on the running loop.
    """

    def __init__(self, limit: int, connect_timeout_s: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=KEEP_ALIVE_S)
        self.shortest_connect_s = inf
        """The shortest time in which a connection was opened, inf before the first."""
        # aiohttp's other timeouts are not used: they would not stop while a reader is paused.
        self.timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )
        self._known: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Connection:
        """Take a usable connection from the pool, or open one."""
        while True:
            began = time.monotonic()
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None
            if protocol not in self._known:
                self._known.add(protocol)
                if protocol.closed is not None:
                    protocol.closed.add_done_callback(_retrieve_exception)
                self.shortest_connect_s = min(self.shortest_connect_s, time.monotonic() - began)
                return connection
            if not _is_stale(connection, protocol):
                return connection
            connection.close()


def _retrieve_exception(closed: asyncio.Future[None]) -> None:
    """Keep asyncio from logging how an idle connection ended."""
    if not closed.cancelled():
        closed.exception()


def _is_stale(connection: Connection, protocol: ResponseHandler) -> bool:
    """Whether a pooled connection has ended, or received data since its last answer.

    HTTP has nothing to say on an idle connection: the data is its end, or a late second answer.
    """
    transport = connection.transport
    # should_close covers data that the loop has read, poll() data that it has yet to read.
    if transport is None or protocol.should_close:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
