"""The HTTP server on the broker's port: chooses the page or handler that answers a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from email.utils import formatdate
from typing import Protocol

import msgspec
import structlog

from exai_actors.core.cross_origin import cross_origin_fields, preflight_fields
from exai_actors.core.handshake_policy import HandshakePolicy, check_handshake
from exai_actors.edges.http_server.connection import Exchange, Fields, HttpConnection, Receiver
from exai_actors.edges.http_server.request import ByHead, Heads, Refusal, RequestHead
from exai_actors.edges.http_server.settings import HttpServerSettings

log = structlog.get_logger()

_NO_SNIFF = ("X-Content-Type-Options", "nosniff")
_DEFAULTS = HttpServerSettings()
_FULL = Refusal(503, "All connections over HTTP are in use; retry in a second.")


class Response(msgspec.Struct, frozen=True):
    """A whole response, sent after ``delay_s``; ``cache`` is the value of Cache-Control."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    fields: Fields = ()
    cache: str = "no-store"
    delay_s: float = 0.0


InTurns = Generator[None, None, Response]
"""Makes a response in several turns of the loop."""


class PageRequest(msgspec.Struct, frozen=True):
    """A request with its whole body."""

    head: RequestHead
    body: bytes
    address: str


class Page(msgspec.Struct, frozen=True):
    """Answers requests for one path. ``answer`` runs on the loop's thread and never waits.

    A response that takes long to make is a generator: it goes on in a later turn of the loop after
    each ``yield``, and is closed if the client leaves. HEAD is answered wherever GET is.
    """

    answer: Callable[[PageRequest], Response | InTurns]
    methods: tuple[str, ...] = ("GET",)


class Watcher(Protocol):
    """Whatever follows the fate of a response that a handler gives over time.

    ``gone`` is called at most once, and not after the response has ended.
    """

    def gone(self) -> None:
        """The response cannot be delivered any more: the client has broken off."""

    def pause(self) -> None:
        """The client does not keep up with the response; further data is buffered."""

    def resume(self) -> None:
        """The client has caught up."""


class Handler(msgspec.Struct, frozen=True):
    """Answers requests for one path, or for all below a path that ends with ``/``.

    ``open`` runs on the loop's thread, once the whole body has arrived, and never waits. It answers
    by the Exchange, immediately or over time: ``respond``, or ``begin``, ``write`` and ``end``. A
    client that leaves during that time is reported to the Watcher that it returns. So is one that
    leaves more than ``unread_bytes`` of the response unread, and at least what stops reading.

    ``check`` sees the head before the body is read, with the client's address, and may refuse it.
    ``refuse`` is the response to a request that the server itself refuses, as one that is too
    large; of it only the content type and the body are used.
    """

    open: Callable[[PageRequest, Exchange], Watcher]
    methods: tuple[str, ...] = ("POST",)
    body_bytes: int = 33_554_432
    unread_bytes: int = 0
    check: Callable[[RequestHead, str], Response | None] | None = None
    refuse: Callable[[RequestHead, Refusal], Response] | None = None


class _Route(msgspec.Struct, frozen=True):
    """Who answers a request, up to which size of its body; or the response, if the head decides it.

    ``shared_fields`` are those of every response to it.
    """

    page: Page | Handler | None
    body_limit: int
    response: Response | None
    shared_fields: Fields


class HttpServer:
    """Answers requests by their path; ``missing`` answers those for other paths.

    A request with a foreign Origin, or on loopback with a public Host, gets 403 as it would in a
    WebSocket handshake. Pages of an allowed Origin may call the APIs. ``wall`` is the time in
    seconds since the epoch.
    """

    def __init__(
        self,
        *,
        policy: HandshakePolicy,
        port: int,
        pages: Mapping[str, Page | Handler],
        missing: Callable[[PageRequest], Response],
        wall: Callable[[], float],
        settings: HttpServerSettings = _DEFAULTS,
    ) -> None:
        self.settings = settings
        self._port = port
        self._policy = policy
        self._pages = pages
        self._folders = tuple(path for path in pages if path.endswith("/") and path != "/")
        self._missing = missing
        self._wall = wall
        self._connections: dict[HttpConnection, None] = {}
        self._is_stopping = False
        self._all_gone: asyncio.Future[None] | None = None
        self._bodies = 0
        self._second = -1
        self._date_field = ""
        self.heads = Heads()
        self._routes = ByHead(self._route)

    def connection(self) -> HttpConnection:
        """The protocol of a new socket, for the running event loop.

        Beyond ``max_connections`` the oldest idle one is aborted, or if none is idle the oldest
        that no handler answers. If there is none, the new one is refused.
        """
        loop = asyncio.get_running_loop()
        if len(self._connections) >= self.settings.max_connections:
            idle = (each for each in self._connections if each.is_idle)
            others = (each for each in self._connections if not each.must_stay)
            gives_way = next(idle, None) or next(others, None)
            if gives_way is None:
                return HttpConnection(self, loop, _FULL)
            # Its end arrives in a later turn, and another one must give way before that.
            self.remove(gives_way)
            gives_way.abort()
        connection = HttpConnection(self, loop)
        connection.closes_after_response = self._is_stopping
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

    def close_after_responses(self) -> None:
        """Answer on each connection, those to come included, the request in progress or the next
        one, and close it.
        """
        self._is_stopping = True
        for connection in self._connections:
            connection.closes_after_response = True

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait, but not longer, until every connection is gone."""
        if self._connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._all_gone,), timeout=timeout_s)

    def abort(self) -> None:
        """Abort every connection."""
        for connection in tuple(self._connections):
            connection.abort()

    # Called by the connections.

    def date_field(self) -> str:
        second = int(self._wall())
        if second != self._second:
            self._second, self._date_field = second, f"Date: {formatdate(second, usegmt=True)}"
        return self._date_field

    def body_limit(self, head: RequestHead) -> int:
        return self._routes.of(head).body_limit

    def keep_body(self, size: int) -> bool:
        if self._bodies + size > self.settings.bodies_bytes:
            return False
        self._bodies += size
        return True

    def free_body(self, size: int) -> None:
        self._bodies -= size

    def refusal(self, head: RequestHead, refusal: Refusal) -> tuple[str, bytes]:
        page = self._routes.of(head).page
        if isinstance(page, Handler) and page.refuse is not None:
            response = page.refuse(head, refusal)
            return response.content_type, response.body
        return "text/plain; charset=utf-8", f"{refusal.text}\n".encode()

    def shared_fields(self, head: RequestHead) -> Fields:
        return self._routes.of(head).shared_fields

    def _find(self, path: str) -> Page | Handler | None:
        page = self._pages.get(path)
        if page is None:
            folder = next((each for each in self._folders if path.startswith(each)), None)
            return None if folder is None else self._pages[folder]
        return page

    def _route(self, head: RequestHead) -> _Route:
        """Who answers the requests with this head."""
        page = self._find(head.path)
        limit = page.body_bytes if isinstance(page, Handler) else self.settings.body_bytes
        origin = head.named.get("origin")
        refused = check_handshake(
            self._policy,
            origin=origin,
            host=head.named.get("host"),
            port=self._port,
        )
        response: Response | None = None
        shared: Fields = ()
        if refused is None:
            shared = cross_origin_fields(self._policy, head.path, origin)
        preflight = preflight_fields(head.method, head.named) if shared else None
        if refused is not None:
            response = Response(refused.status, refused.text.encode())
        elif preflight is not None:
            response = Response(204, b"", fields=preflight)
        elif page is not None and not _allows(page, head.method):
            allowed = ", ".join(page.methods)
            text = f"{head.path} answers {allowed}, not {head.method}.\n"
            response = Response(405, text.encode(), fields=(("Allow", allowed),))
        if response is not None:
            # It is the reason, not the length of a body that a page would not take either.
            limit = max(limit, self.settings.body_bytes)
        return _Route(page, limit, response, shared)

    def handle(self, exchange: Exchange) -> Receiver:
        try:
            return self._receiver(exchange)
        except Exception as error:
            log.exception("http.page_failed", path=exchange.head.path, error=type(error).__name__)
            _fail(exchange)
            return _NOTHING

    def _receiver(self, exchange: Exchange) -> Receiver:
        head = exchange.head
        route = self._routes.of(head)
        exchange.shared_fields = route.shared_fields
        page = route.page
        if route.response is not None:
            response = route.response
        elif page is None:
            # Any body that comes with it is not worth keeping.
            response = self._missing(PageRequest(head, b"", exchange.address))
        elif isinstance(page, Page):
            return _WholeRequest(exchange, page)
        else:
            early = None if page.check is None else page.check(head, exchange.address)
            if early is None:
                exchange.must_stay, exchange.room = True, page.unread_bytes
                return _WholeRequest(exchange, page)
            if early.delay_s:
                return _Delayed(exchange, early)
            response = early
        respond(exchange, response)
        return _NOTHING

    def remove(self, connection: HttpConnection) -> None:
        self._connections.pop(connection, None)
        if self._all_gone is not None and not self._connections and not self._all_gone.done():
            self._all_gone.set_result(None)


class _WholeRequest:
    """Answers a request when its body is complete."""

    __slots__ = ("_exchange", "_page", "_watcher")

    def __init__(self, exchange: Exchange, page: Page | Handler) -> None:
        self._exchange = exchange
        self._page = page
        self._watcher: Watcher = _NOTHING

    def whole(self, body: bytes, /) -> None:
        exchange, page = self._exchange, self._page
        request = PageRequest(exchange.head, body, exchange.address)
        try:
            if isinstance(page, Handler):
                self._watcher = page.open(request, exchange)
            else:
                self._watcher = _answer(page, exchange, request)
        except Exception as error:
            log.exception("http.page_failed", path=exchange.head.path, error=type(error).__name__)
            _fail(exchange)

    def gone(self) -> None:
        self._watcher.gone()

    def pause(self) -> None:
        self._watcher.pause()

    def resume(self) -> None:
        self._watcher.resume()


class _Delayed:
    """A response that is sent later."""

    def __init__(self, exchange: Exchange, response: Response) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(response.delay_s, respond, exchange, response)

    def whole(self, body: bytes, /) -> None: ...

    def gone(self) -> None:
        self._timer.cancel()

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Making:
    """A response that is made in several turns of the loop."""

    def __init__(self, exchange: Exchange, steps: InTurns) -> None:
        self._exchange = exchange
        self._steps = steps
        self._next_turn = asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        exchange = self._exchange
        try:
            next(self._steps)
        except StopIteration as made:
            respond(exchange, made.value)
        except Exception as error:
            log.exception("http.page_failed", path=exchange.head.path, error=type(error).__name__)
            _fail(exchange)
        else:
            self._next_turn = asyncio.get_running_loop().call_soon(self._go)

    def gone(self) -> None:
        self._next_turn.cancel()
        self._steps.close()

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Nothing:
    """Receives the body of a request that has its response already."""

    def whole(self, body: bytes, /) -> None: ...

    def gone(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


_NOTHING = _Nothing()


def _answer(page: Page, exchange: Exchange, request: PageRequest) -> Watcher:
    response = page.answer(request)
    if not isinstance(response, Response):
        return _Making(exchange, response)
    if response.delay_s:
        return _Delayed(exchange, response)
    respond(exchange, response)
    return _NOTHING


def _fail(exchange: Exchange) -> None:
    if exchange.has_begun:
        exchange.abort()
    else:
        failed = b"The broker failed to answer; its log says more.\n"
        respond(exchange, Response(500, failed))


def _allows(page: Page | Handler, method: str) -> bool:
    return method in page.methods or (method == "HEAD" and "GET" in page.methods)


def respond(exchange: Exchange, response: Response) -> None:
    """Send a whole response, without its delay."""
    fields = (
        ("Content-Type", response.content_type),
        _NO_SNIFF,
        ("Cache-Control", response.cache),
        *response.fields,
    )
    exchange.respond(response.status, fields, response.body)
