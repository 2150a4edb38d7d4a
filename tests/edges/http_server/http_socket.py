"""A server's HTTP connection on a transport in memory, with a clock that the test advances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from exai_actors.edges.http_server.connection import Exchange, Fields, HttpConnection, Receiver
from exai_actors.edges.http_server.request import Heads, Refusal, RequestHead
from exai_actors.edges.http_server.settings import HttpServerSettings
from tests.edges.websocket.memory_socket import MemoryTransport

Handler = Callable[["Request"], None]


class Timers:
    """The part of an event loop that a connection uses; time passes in ``advance``."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: list[Handle] = []
        self._later: list[tuple[float, Handle]] = []

    def call_soon(self, callback: Callable[..., object], *args: object) -> Handle:
        handle = Handle(lambda: callback(*args))
        self._soon.append(handle)
        return handle

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        return self.call_later(when - self.now, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Handle:
        handle = Handle(lambda: callback(*args))
        self._later.append((self.now + delay, handle))
        return handle

    def turn(self) -> None:
        while self._soon:
            self._soon.pop(0).run()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [handle for time, handle in self._later if time <= self.now]
        self._later = [(time, handle) for time, handle in self._later if time > self.now]
        for handle in due:
            handle.run()
        self.turn()

    def armed(self) -> int:
        return sum(not handle.is_cancelled for _, handle in self._later)


class Handle:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def run(self) -> None:
        if not self.is_cancelled:
            self._callback()


class Request:
    """A request that the server handles; records everything that happens to it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.head = exchange.head
        self.received = b""
        self.is_complete = False
        self.is_gone = False
        self.is_paused = False

    def whole(self, body: bytes, /) -> None:
        assert not self.is_complete
        self.received, self.is_complete = body, True

    def gone(self) -> None:
        assert not self.is_gone
        self.is_gone = True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False


class HttpSocket:
    """One client; ``handler`` is called with each request when its head arrives."""

    def __init__(self, handler: Handler = lambda _: None, **settings: Any) -> None:
        self.timers = Timers()
        self.settings = HttpServerSettings(**settings)
        self.heads = Heads()
        self.requests: list[Request] = []
        self.removed = 0
        self.kept = 0
        self._handler = handler
        self.connection = HttpConnection(self, cast(asyncio.AbstractEventLoop, self.timers))
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.timers.turn()

    def received(self) -> bytes:
        """Everything the client has read since the last call."""
        read, self.transport.read = self.transport.read, b""
        return read

    def status(self) -> int:
        """The status of the response that the client has read."""
        return int(self.received().split(b" ", 2)[1])

    def is_read(self) -> bool:
        """Whether the server reads what the client sends."""
        return self.transport.is_reading_now

    def has_ended(self) -> bool:
        return self.transport.has_ended

    # The server, as its connection sees it.

    def date_field(self) -> str:
        return "Date: Sat, 28 Nov 2026 12:00:00 GMT"

    def body_limit(self, head: RequestHead) -> int:
        return self.settings.body_bytes

    def keep_body(self, size: int) -> bool:
        if self.kept + size > self.settings.bodies_bytes:
            return False
        self.kept += size
        return True

    def free_body(self, size: int) -> None:
        self.kept -= size

    def refusal(self, head: RequestHead, refusal: Refusal) -> tuple[str, bytes]:
        return "text/plain; charset=utf-8", f"{head.path}: {refusal.text}\n".encode()

    def shared_fields(self, head: RequestHead) -> Fields:
        return ()

    def handle(self, exchange: Exchange) -> Receiver:
        request = Request(exchange)
        self.requests.append(request)
        self._handler(request)
        return request

    def remove(self, connection: HttpConnection) -> None:
        assert connection is self.connection
        self.removed += 1
