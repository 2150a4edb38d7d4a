"""The listening side: admits sockets and gives each accepted one to its actor."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable
from typing import Protocol

from websockets.http11 import Request, Response

from exai_actors.core.handshake_policy import (
    HandshakePolicy,
    check_connection_limits,
    check_handshake,
    is_loopback,
)
from exai_actors.edges.websocket.batches import UNBATCHED, AnsweredBatches, Batches
from exai_actors.edges.websocket.connection import SocketLimits, WebSocketConnection
from exai_actors.edges.websocket.keepalive import Keepalive
from exai_actors.edges.websocket.outbox import TurnEnd
from exai_actors.errors import UsageError
from exai_actors.messages.connection import ConnectionMessage
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Outbox, Peer
from exai_actors.wire.clients.close_reasons import CloseReason

# From one socket at a time, so that everybody's turn comes soon: as tiny frames these are 11,000,
# 30 ms of the library's parser.
_READ_BYTES = 64 * 1024
_BACKLOG = 1024
_MIN_OUTBOX_LIMIT_BYTES = 64 * 1024 * 1024

OpenConnection = Callable[[Peer, Outbox], Recipient[ConnectionMessage]]
ScheduleFlush = Callable[[Callable[[], None]], object]


class Listener(Protocol):
    """What listens; the connections it has made outlive it."""

    @property
    def sockets(self) -> tuple[socket.socket, ...]: ...

    def close(self) -> None: ...


class WebSocketServer:
    """Accepts WebSocket connections and hands each to ``open_connection``.

    ``open_connection`` is called on the loop's thread once per admitted handshake. What it returns
    is told TextReceived, BinaryReceived, OutboxHigh and OutboxLow, and last, exactly once,
    SocketClosed. ``schedule_flush`` calls back soon, by default as the loop's ``call_soon`` does.
    ``is_busy`` and ``batches`` let a batch of frames be handled and answered as one; the runtime's
    actor system fulfils both.

    Any path is accepted; no extension is negotiated, and no subprotocol but ``mcp``, which changes
    nothing. A connection beyond
    ``max_connections`` or ``max_connections_per_address`` is accepted and closed with 1008. A
    browser whose origin is not in ``allowed_origins`` (exact, or ``*``) gets HTTP 403, and so does
    who addresses a server on loopback by a public name that is not in ``allowed_hosts``.
    ``ping_interval_s`` None sends no pings. ``outbox_limit_bytes`` of unread output, by default
    four times ``max_frame_bytes`` and at least 64 MiB, close a connection as slow consumer.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        open_connection: OpenConnection,
        schedule_flush: ScheduleFlush | None = None,
        is_busy: Callable[[], bool] = lambda: False,
        batches: Batches = UNBATCHED,
        max_frame_bytes: int = 32 * 1024 * 1024,
        max_connections: int = 1000,
        max_connections_per_address: int | None = None,
        allowed_origins: tuple[str, ...] = (),
        allowed_hosts: tuple[str, ...] = (),
        open_timeout_s: float = 10.0,
        ping_interval_s: float | None = 30.0,
        ping_timeout_s: float = 10.0,
        close_timeout_s: float = 1.0,
        outbox_high_bytes: int = 1024 * 1024,
        outbox_low_bytes: int = 256 * 1024,
        outbox_limit_bytes: int | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._open_connection = open_connection
        self._policy = HandshakePolicy(
            max_connections=max_connections,
            max_connections_per_address=max_connections_per_address,
            allowed_origins=allowed_origins,
            allowed_hosts=allowed_hosts,
            checks_host=is_loopback(host),
        )
        self.limits = SocketLimits(
            max_frame_bytes=max_frame_bytes,
            open_timeout_s=open_timeout_s,
            close_timeout_s=close_timeout_s,
            outbox_high_bytes=outbox_high_bytes,
            outbox_low_bytes=outbox_low_bytes,
            outbox_limit_bytes=(
                max(4 * max_frame_bytes, _MIN_OUTBOX_LIMIT_BYTES)
                if outbox_limit_bytes is None
                else outbox_limit_bytes
            ),
        )
        self.turn_end = TurnEnd(schedule_flush or asyncio.get_running_loop().call_soon, is_busy)
        self._batches = AnsweredBatches(batches, self.turn_end)
        self.read_buffer = memoryview(bytearray(_READ_BYTES))
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._keepalive: Keepalive | None = None
        self._listener: Listener | None = None
        self._is_stopping = False
        self._sockets: set[WebSocketConnection] = set()
        self._admitted: dict[WebSocketConnection, str] = {}
        self._by_address: dict[str, set[WebSocketConnection]] = {}
        self._all_gone: asyncio.Future[None] | None = None

    @property
    def connection_count(self) -> int:
        """How many admitted connections are open."""
        return len(self._admitted)

    async def start(self) -> int:
        """Listen; the port, which matters when 0 was asked for.

        Raises UsageError, which says what to do, when the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        if self._ping_interval_s is not None:
            self._keepalive = Keepalive(loop, self._ping_interval_s, self._ping_timeout_s)
        try:
            listener = await self._listen(loop, self._port)
            port = _port(listener.sockets[0])
            if any(_port(each) != port for each in listener.sockets):
                # A name with several addresses got a free port for each; one port must serve all.
                listener.close()
                listener = await self._listen(loop, port)
        except OSError as exc:
            raise UsageError(_why_not(self._host, self._port, exc)) from None
        self._listener = listener
        return port

    def stop_listening(self) -> None:
        """Take no new sockets and no new handshakes; what is open goes on."""
        self._is_stopping = True
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """Stop listening, close every connection with 1001, return when all are gone.

        Bounded by the close timeout for clients that neither answer nor read.
        """
        self.stop_listening()
        code, reason = CloseReason.GOING_AWAY.value
        for connection in list(self._sockets):
            if connection in self._admitted:
                connection.close(code, reason)
            else:
                connection.drop(code, reason)
        if self._sockets:
            self._all_gone = asyncio.get_running_loop().create_future()
            await self._all_gone
        if self._keepalive is not None:
            self._keepalive.stop()

    async def _listen(self, loop: asyncio.AbstractEventLoop, port: int) -> Listener:
        def connection() -> WebSocketConnection:
            return WebSocketConnection(self, loop)

        if not hasattr(select, "epoll"):
            return await loop.create_server(connection, self._host, port, backlog=_BACKLOG)
        from exai_actors.edges.websocket.epoll_listener import listen_with_epoll

        return await listen_with_epoll(
            connection,
            self._host,
            port,
            backlog=_BACKLOG,
            read_buffer=self.read_buffer,
            batches=self._batches,
        )

    # Called by the connections.

    def arrived(self, connection: WebSocketConnection) -> bool:
        # Sockets that have not finished their handshake hold no place, so they need a bound too.
        if self._is_stopping or len(self._sockets) >= 2 * self._policy.max_connections + _BACKLOG:
            return False
        self._sockets.add(connection)
        return True

    def answer(self, connection: WebSocketConnection, request: Request) -> Response:
        if self._is_stopping:
            return connection.reject(503, "The broker is stopping.\n")
        refused = check_handshake(
            self._policy, origin=_header(request, "Origin"), host=_header(request, "Host")
        )
        if refused is not None:
            return connection.reject(refused.status, refused.text)
        return connection.accept(request)

    def opened(self, connection: WebSocketConnection, request: Request) -> None:
        address = connection.address
        neighbours = self._by_address.get(address, ())
        refused = check_connection_limits(
            self._policy,
            open_connections=len(self._admitted),
            from_same_address=len(neighbours),
        )
        if refused is not None:
            connection.close(refused.code, refused.reason)
            return
        self._admitted[connection] = address
        self._by_address.setdefault(address, set()).add(connection)
        peer = Peer(
            address=address,
            bearer_token=_bearer_token(request),
            origin=_header(request, "Origin"),
            user_agent=_header(request, "User-Agent"),
        )
        connection.receive(self._open_connection(peer, connection.outbox))
        if self._keepalive is not None:
            self._keepalive.add(connection)

    def lost(self, connection: WebSocketConnection) -> None:
        self._sockets.discard(connection)
        address = self._admitted.pop(connection, None)
        if address is not None:
            neighbours = self._by_address[address]
            neighbours.discard(connection)
            if not neighbours:
                del self._by_address[address]
        if self._keepalive is not None:
            self._keepalive.remove(connection)
        if self._all_gone is not None and not self._sockets and not self._all_gone.done():
            self._all_gone.set_result(None)


def _header(request: Request, name: str) -> str | None:
    """A header's value; several of one name are shown joined, and so match nothing."""
    values = request.headers.get_all(name)
    return ", ".join(values) if values else None


def _bearer_token(request: Request) -> str | None:
    scheme, _, token = (_header(request, "Authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _port(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def _why_not(host: str, port: int, exc: OSError) -> str:
    where = f"Cannot listen on {host}:{port}"
    match exc.errno:
        case errno.EADDRINUSE:
            return (
                f"{where}: the port is in use, perhaps by another broker. "
                "Stop that one, or choose another with --port or [server] port (0: any free one)."
            )
        case errno.EACCES:
            return f"{where}: not permitted. Choose a port from 1024 up with --port."
        case errno.EADDRNOTAVAIL:
            return (
                f"{where}: this machine has no such address. "
                "Choose one it has with --host or [server] host, for example 127.0.0.1."
            )
    if isinstance(exc, socket.gaierror):
        return f"{where}: the host name is not known. Choose another with --host or [server] host."
    return f"{where}: {exc.strerror or exc}."
