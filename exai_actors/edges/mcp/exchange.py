"""The answer to one HTTP request of an MCP client: JSON, or a stream once there is more to say."""

from __future__ import annotations

from collections.abc import Callable

from exai_actors.edges.http_server.connection import Exchange, Fields
from exai_actors.edges.http_server.server import Response, respond
from exai_actors.wire.mcp import http
from exai_actors.wire.mcp.http import HttpError

JSON = "application/json"
_STREAM: Fields = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Accel-Buffering", "no"),
)


class HttpOut:
    """Sends the messages about one request; the client's departure calls ``on_gone``, once.

    Messages before the answer are dropped for a client that takes no stream, and while it does not
    keep up.
    """

    def __init__(self, exchange: Exchange, now: float, *, takes_stream: bool) -> None:
        self.on_gone: Callable[[], None] | None = None
        self.fields: Fields = ()
        self._exchange = exchange
        self._takes_stream = takes_stream
        self._sent_at = now
        self._has_sent = False
        self._is_paused = False

    @property
    def has_ended(self) -> bool:
        return self._exchange.has_ended

    def open_stream(self) -> None:
        if not self._exchange.has_begun:
            self._exchange.begin(200, (*_STREAM, *self.fields))

    def send(self, frame: bytes) -> None:
        if self._takes_stream and not self._is_paused:
            self.open_stream()
            self._exchange.write(http.event(frame))
            self._has_sent = True

    def end(self, frame: bytes, status: int) -> None:
        if self._exchange.has_begun:
            self._exchange.write(http.event(frame))
            self._exchange.end()
        else:
            respond(self._exchange, Response(status, frame, JSON, self.fields))

    def close(self) -> None:
        """End a stream that has no answer."""
        self._exchange.end()

    def refuse(self, error: HttpError, fields: Fields = ()) -> None:
        respond(self._exchange, Response(error.status, error.body, JSON, fields))

    def accept(self, status: int = 202) -> None:
        """Answer a message that gets no answer of its own."""
        respond(self._exchange, Response(status, b"", JSON))

    def keep_alive(self, now: float, every_s: float) -> None:
        """Send a comment if nothing was sent for so long."""
        if self._has_sent:
            self._has_sent, self._sent_at = False, now
        if now - self._sent_at >= every_s and self._takes_stream and not self._is_paused:
            self._sent_at = now
            self.open_stream()
            self._exchange.write(http.KEEPALIVE)

    def gone(self) -> None:
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
