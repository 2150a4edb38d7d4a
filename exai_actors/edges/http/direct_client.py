"""The HTTP client without a task for each exchange: connections of its own, and their pool.

An idle connection is checked before it is used: a completion costs money, so a request must not be
written to a connection that the service has closed, and data that arrived on an idle connection
must not be taken for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from functools import cache, partial
from math import inf

from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from exai_actors.core.calls import Aborted, FailureKind, UpstreamFailure
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.client import Receiver, Target
from exai_actors.edges.http.connection import Connection, Exchange
from exai_actors.edges.http.errors import (
    broken_rule,
    log_unexpected,
    unexpected_failure,
    unreachable,
)
from exai_actors.edges.http.keeping import KEEP_ALIVE_PLAIN_S, KEEP_ALIVE_TLS_S, probe_by_tcp
from exai_actors.edges.http.proxy import ProxyRefusal, open_tunnel, proxy_fields
from exai_actors.edges.http.service import HttpService

# RFC 8305: how long the next address of a host waits for the answer of the one before.
_NEXT_ADDRESS_S = 0.25
_ADDRESSES_KEPT_S = 10.0


class DirectClient:
    """Implements ``client.HttpClient`` for the host and port of ``url``.

    ``proxy`` gets all requests, and for https only their bytes in a tunnel. To be made on the
    running loop, to which the connections belong.
    """

    def __init__(self, service: HttpService, url: URL, *, proxy: URL | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.shortest_connect_s = inf
        self._service = service
        self._url = url
        self._proxy = proxy
        self._has_tunnel = proxy is not None and url.scheme == "https"
        self._proxy_fields = b"" if proxy is None else proxy_fields(proxy)
        self._addresses = _Addresses(proxy or url)
        speaks_to = url if proxy is None or self._has_tunnel else proxy
        tls = speaks_to.scheme == "https"
        self.keep_alive_s = KEEP_ALIVE_TLS_S if tls else KEEP_ALIVE_PLAIN_S
        self._tls = tls_context() if tls else None
        self._server_hostname = speaks_to.raw_host if tls else None
        # The one that was used last is the last one.
        self._idle: dict[Connection, None] = {}
        self._open: set[Connection] = set()
        self._connecting: set[Exchange] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Future[None] | None = None

    def start(
        self,
        target: Target,
        body: bytes,
        receiver: Receiver,
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> Exchange:
        if self._proxy is None or self._has_tunnel:
            request = target.encode(body, trace)
        else:
            request = target.encode_for_proxy(body, trace, self._proxy_fields)
        exchange = Exchange(receiver, request)
        if self._idle and not fresh:
            now = self.loop.time()
            while self._idle:
                connection, _ = self._idle.popitem()
                if connection.usable_until >= now and not connection.is_stale():
                    connection.carry(exchange)
                    return exchange
                connection.close()
        exchange.connecting = self.loop.create_task(self._connect(exchange))
        self._connecting.add(exchange)
        exchange.connecting.add_done_callback(partial(self._connected, exchange))
        return exchange

    async def aclose(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for exchange in self._connecting:
            exchange.abort()
        for connection in self._open:
            connection.abort()
        if self._connecting or self._open:
            self._all_closed = self.loop.create_future()
            await self._all_closed

    # Called by the connections.

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def release(self, connection: Connection) -> None:
        self._idle[connection] = None
        if self._sweep_timer is None:
            self._sweep_timer = self.loop.call_later(self.keep_alive_s, self._sweep)

    def lost(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._open.discard(connection)
        self._check_closed()

    def failure(self, kind: FailureKind, message: str, *, resend: bool = False) -> UpstreamFailure:
        return UpstreamFailure(kind, self._service.redactor.redact_excerpt(message), resend=resend)

    def broken_rule(self, rule: str) -> UpstreamFailure:
        return self.failure(FailureKind.MALFORMED, broken_rule(rule))

    def _sweep(self) -> None:
        """Close the connections that have been idle for too long."""
        self._sweep_timer = None
        now = self.loop.time()
        for connection in [each for each in self._idle if each.usable_until <= now]:
            del self._idle[connection]
            connection.close()
        if self._idle:
            due = min(each.usable_until for each in self._idle)
            self._sweep_timer = self.loop.call_at(due, self._sweep)

    async def _connect(self, exchange: Exchange) -> None:
        began = self.loop.time()
        addresses = await self._addresses.resolve(self.loop)
        connected = await start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=self.loop
        )
        try:
            probe_by_tcp(connected)
            if self._proxy is not None and self._has_tunnel:
                await open_tunnel(connected, self._proxy, self._url)
            await self.loop.create_connection(
                lambda: Connection(self, exchange),
                sock=connected,
                ssl=self._tls,
                server_hostname=self._server_hostname,
            )
        except BaseException:
            connected.close()
            raise
        self.shortest_connect_s = min(self.shortest_connect_s, self.loop.time() - began)

    def _connected(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        self._connecting.discard(exchange)
        exchange.connecting = None
        if exchange.was_connected:
            # Its connection reports the end, unless it came to nothing: uvloop does not call
            # connection_lost then.
            if exchange.connection is not None and (task.cancelled() or task.exception()):
                exchange.connection.give_up()
        else:
            if exchange.is_aborted or task.cancelled():
                exchange.receiver.failed(Aborted())
            elif (error := task.exception()) is not None:
                self._report_unreachable(exchange, error)
        self._check_closed()

    def _report_unreachable(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, ProxyRefusal | OSError):
            failure = unreachable(error, self._url, self._proxy, self._service)
            exchange.receiver.failed(failure)
        else:
            exchange.receiver.failed(unexpected_failure(error))
            log_unexpected(error, self._service)

    def _check_closed(self) -> None:
        closed = self._all_closed
        if closed is not None and not (self._connecting or self._open or closed.done()):
            closed.set_result(None)


class _Addresses:
    """The addresses of a host, asked for by one query at a time and kept for a moment."""

    def __init__(self, url: URL) -> None:
        self.host = url.raw_host or ""
        self._port = url.port or 0
        self._known: list[AddrInfoType] | None = None
        self._query: asyncio.Task[list[AddrInfoType]] | None = None
        self._kept_until = 0.0
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._known = [(family, socket.SOCK_STREAM, 0, "", (self.host, self._port))]
        self._kept_until = inf

    async def resolve(self, loop: asyncio.AbstractEventLoop) -> list[AddrInfoType]:
        """Raises OSError."""
        if self._known is not None and loop.time() < self._kept_until:
            return self._known
        if self._query is None:
            self._query = loop.create_task(self._ask(loop))
            self._query.add_done_callback(partial(self._keep, loop))
        return await asyncio.shield(self._query)

    async def _ask(self, loop: asyncio.AbstractEventLoop) -> list[AddrInfoType]:
        return [
            *await loop.getaddrinfo(
                self.host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        ]

    def _keep(
        self, loop: asyncio.AbstractEventLoop, query: asyncio.Task[list[AddrInfoType]]
    ) -> None:
        self._query = None
        if not query.cancelled() and query.exception() is None:
            self._known = query.result()
            self._kept_until = loop.time() + _ADDRESSES_KEPT_S


@cache
def tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
