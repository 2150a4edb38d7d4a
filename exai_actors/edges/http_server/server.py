"""The HTTP server on the broker's port: chooses the page that answers a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from email.utils import formatdate

import msgspec
import structlog

from exai_actors.core.handshake_policy import HandshakePolicy, check_handshake
from exai_actors.edges.http_server.connection import Exchange, Fields, HttpConnection, Receiver
from exai_actors.edges.http_server.request import RequestHead
from exai_actors.edges.http_server.settings import HttpServerSettings

log = structlog.get_logger()

_TEXT: Fields = (("Content-Type", "text/plain; charset=utf-8"),)
_SAFE: Fields = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))
_DEFAULTS = HttpServerSettings()


class Response(msgspec.Struct, frozen=True):
    """A whole response."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    fields: Fields = ()


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
        pages: Mapping[str, Page],
        missing: Callable[[PageRequest], Response],
        wall: Callable[[], float],
        settings: HttpServerSettings = _DEFAULTS,
    ) -> None:
        self.settings = settings
        self.port = 0
        """The port of the listener; to be set once it is known."""
        self._policy = policy
        self._pages = pages
        self._missing = missing
        self._wall = wall
        self._connections: set[HttpConnection] = set()
        self._second = 0
        self._date = ""

    def connection(self) -> HttpConnection:
        """The protocol of a new socket, for the running event loop."""
        connection = HttpConnection(self, asyncio.get_running_loop())
        self._connections.add(connection)
        return connection

    def close_when_idle(self) -> None:
        """Close each connection after the request it is answering, if any."""
        for connection in list(self._connections):
            connection.close_when_idle()

    # Called by the connections.

    def date(self) -> str:
        second = int(self._wall())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date

    def handle(self, exchange: Exchange) -> Receiver:
        head = exchange.head
        refused = check_handshake(
            self._policy, origin=head.field("Origin"), host=head.field("Host"), port=self.port
        )
        page = self._pages.get(head.path)
        if refused is not None:
            exchange.respond(refused.status, _TEXT + _SAFE, refused.text.encode())
        elif page is not None and not _allows(page, head.method):
            allowed = ", ".join(page.methods)
            text = f"{head.path} is not there for {head.method}, only for {allowed}.\n"
            exchange.respond(405, (*_TEXT, *_SAFE, ("Allow", allowed)), text.encode())
        return _WholeRequest(exchange, self._missing if page is None else page.answer)

    def remove(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)


class _WholeRequest:
    """Collects a request's body, which the connection limits, and answers when it is complete."""

    def __init__(self, exchange: Exchange, answer: Callable[[PageRequest], Response]) -> None:
        self._exchange = exchange
        self._answer = answer
        self._body = bytearray()

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
        fields = (("Content-Type", response.content_type), *_SAFE, *response.fields)
        exchange.respond(response.status, fields, response.body)

    def gone(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def _allows(page: Page, method: str) -> bool:
    return method in page.methods or (method == "HEAD" and "GET" in page.methods)
