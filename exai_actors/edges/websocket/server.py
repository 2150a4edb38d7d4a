"""The WebSocket server: admits handshakes and gives each connection to its actor."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

import structlog
from websockets.http11 import Request, Response

from exai_actors.core.handshake_policy import (
    HandshakePolicy,
    HandshakeRefused,
    check_connection_limits,
    check_handshake,
)
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.loopback import is_loopback
from exai_actors.core.statistics import StrangerStatistics
from exai_actors.core.strangers import StrangerPool, network_of
from exai_actors.core.trace_context import trace_context
from exai_actors.edges.http_server.connection import HttpConnection
from exai_actors.edges.http_server.server import HttpServer
from exai_actors.edges.listener import Listener, listen
from exai_actors.edges.websocket.connection import WebSocketConnection
from exai_actors.edges.websocket.handshake import HandshakeRequest
from exai_actors.edges.websocket.keepalive import Keepalive
from exai_actors.edges.websocket.outbox import WriteCoalescer
from exai_actors.edges.websocket.read_turns import ActorTurns, ReadTurns
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.errors import UsageError
from exai_actors.messages.connection import SocketEvent
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Outbox, Peer
from exai_actors.wire.clients.close_reasons import CloseReason

log = structlog.get_logger()

# Read from one socket in one turn. As tiny frames these are 11,000, 30 ms of the library's parser.
_READ_BYTES = 64 * 1024
# A shortage of files ends no younger stranger: many clients may come at the same time.
_YOUNG_S = 1.0
_RETRY_AFTER_S = 5
# When the server stops: for requests that have been sent to be read, and then to be answered.
_LAST_READ_S = 0.05
_LAST_ANSWERS_S = 1.0
_SHUTS_DOWN = (
    "The broker is shutting down and takes no new connections.\n"
    f"Connect again in {_RETRY_AFTER_S} s.\n"
)
_DEFAULTS = WebSocketSettings()

OpenConnection = Callable[[Peer, Outbox], Recipient[SocketEvent]]
ScheduleFlush = Callable[[Callable[[], None]], object]


class _NoTurns:
    def is_busy(self) -> bool:
        return False

    def run_early(self) -> None: ...


_NO_TURNS = _NoTurns()


class WebSocketServer:
    """Accepts WebSocket connections and gives each to the actor that ``open_connection`` returns.

    ``open_connection`` is called on the loop's thread, once per admitted handshake. The actor it
    returns gets TextReceived, BinaryReceived, OutboxHigh and OutboxLow, and last, exactly once,
    SocketClosed. ``actors`` is the runtime that they run in. ``schedule_flush`` is described at
    WriteCoalescer; its default is the loop's ``call_soon``.

    Any path is accepted. No extension is negotiated, and no subprotocol but ``mcp``, which changes
    nothing. A socket is a stranger's until its actor calls ``Outbox.admit``; of more than
    ``max_strangers`` the oldest is dropped. While ``max_connections`` clients are admitted, or
    ``max_connections_per_address`` of the same address, a further one is accepted and closed with
    1008. HTTP 403 answers a browser whose origin is not in ``allowed_origins``
    (exact, or ``*``), and a client that addresses a server on loopback by a public name that is not
    in ``allowed_hosts``. A client that leaves more than ``max_outbox_bytes`` unread is closed as a
    slow consumer. A socket whose first request is no handshake belongs to the HTTP server, if there
    is one; otherwise the request is answered as a failed handshake.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        open_connection: OpenConnection,
        schedule_flush: ScheduleFlush | None = None,
        actors: ActorTurns = _NO_TURNS,
        settings: WebSocketSettings = _DEFAULTS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._open_connection = open_connection
        self.policy = HandshakePolicy(
            max_connections=settings.max_connections,
            max_connections_per_address=settings.max_connections_per_address,
            allowed_origins=settings.allowed_origins,
            allowed_hosts=settings.allowed_hosts,
            checks_host=is_loopback(host),
        )
        self._http: HttpServer | None = None
        self.settings = settings
        self.coalescer = WriteCoalescer(
            schedule_flush or asyncio.get_running_loop().call_soon, actors.is_busy, now
        )
        self.reads = ReadTurns(_call_soon, now, actors)
        self._refusals = LogBudget()
        self.read_buffer = memoryview(bytearray(_READ_BYTES))
        self._keepalive: Keepalive | None = None
        self._listener: Listener | None = None
        self._is_stopping = False
        self._still_open: str | None = None
        self._sockets: set[WebSocketConnection] = set()
        self._strangers = StrangerPool[WebSocketConnection](settings.max_strangers)
        self._admitted: dict[WebSocketConnection, str] = {}
        self._by_address: dict[str, set[WebSocketConnection]] = {}
        self._all_gone: asyncio.Future[None] | None = None

    @property
    def sockets(self) -> AbstractSet[WebSocketConnection]:
        """All sockets, those without a finished handshake among them."""
        return self._sockets

    @property
    def http_connections(self) -> Iterable[HttpConnection]:
        """The open connections of the HTTP server, if there is one."""
        return () if self._http is None else self._http.connections

    async def start(self) -> int:
        """Listen; return the port, which is a free one if 0 was asked for.

        Raises UsageError, with the remedy, when the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        settings = self.settings
        self._keepalive = Keepalive(loop, settings.ping_interval_s, settings.ping_timeout_s)
        try:
            self._listener = await listen(
                lambda: WebSocketConnection(self, loop), self._host, self._port, self._make_room
            )
        except OSError as error:
            raise UsageError(_cannot_listen(self._host, self._port, error)) from None
        return self._listener.port

    def serve_http(self, http: HttpServer) -> None:
        """Leave clients that speak no WebSocket to this server from now on."""
        self._http = http

    def refuse_clients(self, *, except_at: str) -> None:
        """Answer new handshakes with 503 from now on, apart from those at this path.

        Open WebSockets stay, and HTTP is served as before.
        """
        self._still_open = except_at

    def stop_listening(self) -> None:
        """Accept no new sockets and no new handshakes; open WebSockets stay.

        HTTP connections end with the request that they are answering, or with their next one.
        """
        self._is_stopping = True
        if self._http is not None:
            self._http.close_after_responses()
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """Stop listening, close every connection with 1001, return when all are gone.

        Requests and handshakes that were sent before are answered, if that takes no longer than a
        second. Clients that neither answer nor read are given the close timeout.
        """
        self.stop_listening()
        if self._listener is not None:
            await self._listener.wait_closed()
        code, reason = CloseReason.GOING_AWAY.value
        for connection in list(self._sockets):
            if connection.had_handshake:
                connection.close(code, reason)
        if self._http is not None:
            await self._answer_last_requests(self._http)
        for connection in list(self._sockets):
            if not connection.had_handshake:
                connection.drop(code, reason)
        if self._sockets:
            self._all_gone = asyncio.get_running_loop().create_future()
            await self._all_gone

    async def _answer_last_requests(self, http: HttpServer) -> None:
        if any(http.connections) or any(not each.had_handshake for each in self._sockets):
            # Their requests may have arrived, and be read in the next turns.
            await asyncio.sleep(_LAST_READ_S)
            http.close_when_idle()
            await http.wait_closed(_LAST_ANSWERS_S)
            http.abort()

    def strangers(self) -> StrangerStatistics:
        return StrangerStatistics(len(self._strangers), self._strangers.displaced)

    def _make_room(self) -> bool:
        """Give up one file of a stranger; False if there is none to give up."""
        now = asyncio.get_running_loop().time()
        gives_way = self._strangers.take_older_than(now - _YOUNG_S)
        if gives_way is not None:
            gives_way.drop(*CloseReason.OVERLOADED.value)
        return gives_way is not None

    # Called by the connections.

    def add_socket(self, connection: WebSocketConnection, now: float) -> None:
        self._sockets.add(connection)
        gives_way = self._strangers.add(connection, network_of(connection.address), now)
        if gives_way is not None:
            gives_way.drop(*CloseReason.OVERLOADED.value)

    def admit(self, connection: WebSocketConnection) -> None:
        if self._strangers.remove(connection):
            address = connection.address
            self._admitted[connection] = address
            self._by_address.setdefault(address, set()).add(connection)

    @property
    def serves_http(self) -> bool:
        return self._http is not None

    def hand_over(self, transport: asyncio.Transport, first: bytes) -> None:
        assert self._http is not None
        http = self._http.connection()
        # A transport chooses how it reads when it starts to.
        transport.pause_reading()
        transport.set_protocol(http)
        http.connection_made(transport)
        transport.resume_reading()
        http.data_received(first)

    def accepts(self, request: HandshakeRequest) -> bool:
        return (
            not self._is_stopping
            and self._refusal(request) is None
            and self._still_open in (None, request.path.partition("?")[0])
        )

    def answer_handshake(
        self, connection: WebSocketConnection, request: Request, read: HandshakeRequest
    ) -> Response:
        if self._is_stopping:
            return _unavailable(connection)
        refused = self._refusal(read)
        if refused is not None:
            self._log_refused(connection.address, refused.text)
            return connection.reject(refused.status, refused.text)
        if self._still_open not in (None, read.path.partition("?")[0]):
            return _unavailable(connection)
        return connection.accept(request)

    def _refusal(self, request: HandshakeRequest) -> HandshakeRefused | None:
        return check_handshake(
            self.policy,
            origin=request.header("origin"),
            host=request.header("host"),
            port=self._port if self._listener is None else self._listener.port,
        )

    def open(self, connection: WebSocketConnection, request: HandshakeRequest) -> None:
        address = connection.address
        refused = check_connection_limits(
            self.policy,
            open_connections=len(self._admitted),
            from_same_address=len(self._by_address.get(address, ())),
        )
        if refused is not None:
            self._log_refused(address, refused.reason)
            connection.close(refused.code, refused.reason)
            return
        peer = Peer(
            address=address,
            bearer_token=_bearer_token(request),
            origin=request.header("origin"),
            user_agent=request.header("user-agent"),
            path=request.path.partition("?")[0],
            trace=trace_context(request.header("traceparent"), request.header("tracestate")),
        )
        connection.deliver_to(self._open_connection(peer, connection.outbox))
        if self._keepalive is not None:
            self._keepalive.add(connection)

    def _log_refused(self, address: str, text: str) -> None:
        budget = self._refusals
        if budget.allow(asyncio.get_running_loop().time()):
            reason = text.partition("\n")[0]
            suppressed = budget.take_suppressed()
            log.info("handshake.refused", address=address, reason=reason, suppressed=suppressed)

    def remove_socket(self, connection: WebSocketConnection) -> None:
        self._sockets.discard(connection)
        self._strangers.remove(connection)
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


def _call_soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _unavailable(connection: WebSocketConnection) -> Response:
    response = connection.reject(503, _SHUTS_DOWN)
    response.headers["Retry-After"] = str(_RETRY_AFTER_S)
    return response


def _bearer_token(request: HandshakeRequest) -> str | None:
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    where = f"Cannot listen on {host}:{port}"
    match error.errno:
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
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name is not known. Choose another with --host or [server] host."
    return f"{where}: {error.strerror or error}."
