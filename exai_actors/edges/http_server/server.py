"""The HTTP server on the broker's port: chooses the page that answers a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate

import msgspec
import structlog

from exai_actors.core.handshake_policy import HandshakePolicy, check_handshake
from exai_actors.edges.http_server.connection import Exchange, Fields, HttpConnection, Receiver
from exai_actors.edges.http_server.request import RequestHead
from exai_actors.edges.http_server.settings import HttpServerSettings

log = structlog.get_logger()

_NO_SNIFF = ("X-Content-Type-Options", "nosniff")
_DEFAULTS = HttpServerSettings()


class Response(msgspec.Struct, frozen=True):
    """A whole response, sent after ``delay_s``; ``cache`` is the value of Cache-Control."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    fields: Fields = ()
    cache: str = "no-store"
    delay_s: float = 0.0


class PageRequest(msgspec.Struct, frozen=True):
    """A request with its whole body."""

    head: RequestHead
    body: bytes
    address: str


class Page(msgspec.Struct, frozen=True):
    """Answers requests for one path. ``answer`` runs on the loop's thread and never waits.

    HEAD is answered wherever GET is.
    """

    answer: Callable[[PageRequest], Response]
    methods: tuple[str, ...] = ("GET",)


class HttpServer:
    """Answers requests by their path; ``missing`` answers those for other paths.

    A request with a foreign Origin, or on loopback with a public Host, gets 403 as it would in a
    WebSocket handshake. ``wall`` is the time in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        policy: HandshakePolicy,
        port: int,
        pages: Mapping[str, Page],
        missing: Callable[[PageRequest], Response],
        wall: Callable[[], float],
        settings: HttpServerSettings = _DEFAULTS,
    ) -> None:
        self.settings = settings
        self._port = port
        self._policy = policy
        self._pages = pages
        self._missing = missing
        self._wall = wall
        self._connections: dict[HttpConnection, None] = {}
        self._second = 0
        self._date = ""

    def connection(self) -> HttpConnection:
        """The protocol of a new socket, for the running event loop.

        Beyond ``max_connections`` the oldest idle one is aborted, or if none is idle the oldest.
        """
        if len(self._connections) >= self.settings.max_connections:
            idle = (each for each in self._connections if each.is_idle)
            gives_way = next(idle, next(iter(self._connections)))
            # Its end arrives in a later turn, and another one must give way before that.
            self.remove(gives_way)
            gives_way.abort()
        connection = HttpConnection(self, asyncio.get_running_loop())
        self._connections[connection] = None
        return connection

    @property
    def connections(self) -> Iterable[HttpConnection]:
        """The open connections."""
        return self._connections.keys()

    def close_when_idle(self) -> None:
        """Close each connection after the request it is answering, if any."""
        for connection in tuple(self._connections):
            connection.close_when_idle()

    def abort(self) -> None:
        """Abort every connection."""
        for connection in tuple(self._connections):
            connection.abort()

    # Called by the connections.

    def date(self) -> str:
        second = int(self._wall())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date

    def handle(self, exchange: Exchange) -> Receiver:
        head = exchange.head
        refused = check_handshake(
            self._policy, origin=head.field("Origin"), host=head.field("Host"), port=self._port
        )
        page = self._pages.get(head.path)
        if refused is not None:
            response = Response(refused.status, refused.text.encode())
        elif page is None:
            # Any body that comes with it is not worth keeping.
            response = self._missing(PageRequest(head, b"", exchange.address))
        elif not _allows(page, head.method):
            allowed = ", ".join(page.methods)
            text = f"{head.path} answers {allowed}, not {head.method}.\n"
            response = Response(405, text.encode(), fields=(("Allow", allowed),))
        else:
            return _WholeRequest(exchange, page.answer)
        _respond(exchange, response)
        return _NOTHING

    def remove(self, connection: HttpConnection) -> None:
        self._connections.pop(connection, None)


class _WholeRequest:
    """Collects a request's body, which the connection limits, and answers when it is complete."""

    def __init__(self, exchange: Exchange, answer: Callable[[PageRequest], Response]) -> None:
        self._exchange = exchange
        self._answer = answer
        self._body = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def body(self, data: bytes, /) -> None:
        self._body += data

    def body_ended(self) -> None:
        exchange = self._exchange
        request = PageRequest(exchange.head, bytes(self._body), exchange.address)
        try:
            response = self._answer(request)
        except Exception as error:
            log.exception("http.page_failed", path=exchange.head.path, error=type(error).__name__)
            response = Response(500, b"The broker failed to answer; its log says more.\n")
        if response.delay_s:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(response.delay_s, _respond, exchange, response)
        else:
            _respond(exchange, response)

    def gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Nothing:
    """Receives the body of a request that has its response already."""

    def body(self, data: bytes, /) -> None: ...

    def body_ended(self) -> None: ...

    def gone(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


_NOTHING = _Nothing()


def _respond(exchange: Exchange, response: Response) -> None:
    fields = (
        ("Content-Type", response.content_type),
        _NO_SNIFF,
        ("Cache-Control", response.cache),
        *response.fields,
    )
    exchange.respond(response.status, fields, response.body)


def _allows(page: Page, method: str) -> bool:
    return method in page.methods or (method == "HEAD" and "GET" in page.methods)
