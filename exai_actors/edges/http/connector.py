"""The pool of HTTP connections to one service.

aiohttp's own pool notices a closed connection only after a request has been written to it, and
takes data that arrived on an idle connection for the answer to the next request. A completion costs
money, so this pool checks first. It also respects the time for which a service says that it keeps
an idle connection (``Keep-Alive: timeout=5``).
"""

from __future__ import annotations

import asyncio
import inspect
import select
import time
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from exai_actors.edges.http.keeping import (
    KEEP_ALIVE_PLAIN_S,
    KEEP_ALIVE_TLS_S,
    kept_s,
    most_requests,
    probe_by_tcp,
)
from exai_actors.edges.http.response_head import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_HELD_HEAD_BYTES,
    MAX_INTERIM_RESPONSES,
    SWITCHING_PROTOCOLS,
    begins_like_http,
    head_end,
    is_interim,
    normal_head,
)

HEAD_LIMITS: dict[str, Any] = {
    name: value
    for name, value in (
        ("max_line_size", MAX_HEADER_BYTES),
        ("max_field_size", MAX_HEADER_BYTES),
        # Older releases do not limit the number of headers.
        ("max_headers", MAX_HEADERS),
    )
    if name in inspect.signature(ResponseHandler.set_response_params).parameters
}

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


class BrokenFramingError(aiohttp.ClientPayloadError):
    """A body breaks a rule of HTTP, which the message names."""


class ReceivedBody:
    """The body of a response as it arrives; what has arrived comes before how it broke off.

    aiohttp forgets what is still to be read when a connection ends inside a body, and reports a
    broken chunk to a reader that waits for a head, but to none that waits for the body.
    """

    __slots__ = ("_broken", "_received", "_unread")

    def __init__(self, received: aiohttp.StreamReader) -> None:
        self._received = received
        self._unread = b""
        self._broken: HttpProcessingError | None = None

    async def readany(self) -> bytes:
        """Wait for data and return all that has arrived; empty at the end of the body."""
        if self._unread:
            unread, self._unread = self._unread, b""
            return unread
        try:
            return await self._received.readany()
        except aiohttp.ClientError:
            if self._broken is not None:
                raise BrokenFramingError(self._broken.message) from self._broken
            raise

    def at_eof(self) -> bool:
        return self._received.at_eof() and not self._unread

    def keep_unread(self, broken: BaseException | None) -> None:
        """Keep what has arrived, and the rule that the response broke, if any.

        To be called just before aiohttp reports the end of the connection.
        """
        received = self._received
        if received.is_eof() or received.exception() is not None:
            return
        if isinstance(broken, HttpProcessingError):
            self._broken = broken
        # A reader that waits has read everything.
        with suppress(RuntimeError):
            self._unread = received.read_nowait()

    def fail(self, cause: BaseException | None) -> None:
        """End a body that has not ended with its connection."""
        received = self._received
        if not received.is_eof() and received.exception() is None:
            error = aiohttp.ClientPayloadError("the connection ended inside the body")
            received.set_exception(error, cause or error)


class Handler(ResponseHandler):
    """A connection that knows whether it can be used again, and reads odd responses.

    It also remembers whether it ended inside the head of a response: aiohttp itself does not say
    so after a reset.
    """

    ended_within_head = False
    body: ReceivedBody | None = None
    """The body that is being received."""
    _broken: HttpProcessingError | None = None
    usable_until: float | None = None
    """Until when it can be used again once it is idle, in monotonic time; None before its use."""
    _answers = 0
    """Those that said for how long it is kept."""
    _poll: select.poll | None = None

    def expect_response(self) -> None:
        """Get ready for the response to a request that will be written now."""
        self._parser: Any = _HeadParser(self, self.new_parser())

    def new_parser(self) -> Any:
        """A parser for one response, which is now the one of this connection."""
        # Releases of aiohttp differ in how much they inflate in one go, some without any bound.
        self.set_response_params(read_until_eof=True, auto_decompress=False, **HEAD_LIMITS)
        return self._parser

    def use_parser(self, parser: Any) -> None:
        self._parser = parser

    def break_off(self, error: HttpProcessingError) -> None:
        """Close the connection: what follows the head breaks a rule of HTTP."""
        self._broken = error
        if self.transport is not None:
            # Not before the head has been handed on.
            self._loop.call_soon(self.transport.close)

    def note_keep_alive(self, header: str) -> None:
        """Note for how long the service keeps the connection, which becomes idle now."""
        self._answers += 1
        if self._answers >= most_requests(header):
            self.force_close()
        self.usable_until = time.monotonic() + kept_s(header)

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

    def broken_rule(self) -> BaseException | None:
        return self._broken or self.exception()

    def connection_lost(self, exc: BaseException | None) -> None:
        body, self.body = self.body, None
        if body is None:
            super().connection_lost(exc)
            return
        body.keep_unread(self.broken_rule())
        super().connection_lost(exc)
        body.fail(exc)


class _HeadParser:
    """Stands in for aiohttp's parser until the head of a response has arrived.

    The parser rejects heads that browsers and curl accept, and forgets a response that it has read
    if something follows it in the same piece. Here the parser gets such a head once more, in its
    usual form and apart from its body. It is the last one of its connection.
    """

    _begun: bytearray | None = None
    """What has arrived of the head."""
    _rejected: HttpProcessingError | None = None
    """Why the parser rejected the head, the end of which is still to arrive."""

    def __init__(self, handler: Handler, parser: Any) -> None:
        self._handler = handler
        self._parser = parser

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        if self._rejected is not None:
            return self._await_end(data, self._rejected)
        try:
            fed: tuple[Any, bool, bytes] = self._parser.feed_data(data)
        except HttpProcessingError as error:
            return self._read_odd(bytes(self._begin(data)), error)
        messages = fed[0]
        for message, _ in messages:
            if message.code >= 200 or message.code == SWITCHING_PROTOCOLS:
                self._handler.use_parser(self._parser)
                return fed
        begun = self._begin(data)
        for _ in messages:
            del begun[: max(head_end(begun), 0)]
        return fed

    def _begin(self, data: bytes) -> bytearray:
        """Add to what has arrived of the head."""
        if self._begun is None:
            self._begun = bytearray()
        if len(self._begun) <= MAX_HELD_HEAD_BYTES:
            self._begun += data
        return self._begun

    def _await_end(self, data: bytes, error: HttpProcessingError) -> tuple[Any, bool, bytes]:
        """Read the head once it has ended; ``error`` is why the parser rejected it."""
        assert self._begun is not None
        searched = max(len(self._begun) - 2, 0)
        begun = self._begin(data)
        if head_end(begun, searched) < 0 and len(begun) <= MAX_HELD_HEAD_BYTES:
            return (), False, b""
        return self._read_odd(bytes(begun), error)

    def _read_odd(self, data: bytes, error: HttpProcessingError) -> tuple[Any, bool, bytes]:
        handler = self._handler
        messages: list[Any] = []
        while (end := head_end(data)) >= 0:
            head, data = normal_head(data[:end]), data[end:]
            handler.force_close()
            parser = handler.new_parser()
            messages += parser.feed_data(head)[0]
            if is_interim(head) and len(messages) <= MAX_INTERIM_RESPONSES:
                continue
            try:
                messages += parser.feed_data(data)[0]
            except HttpProcessingError as broken:
                handler.break_off(broken)
            return messages, False, b""
        if len(data) > MAX_HELD_HEAD_BYTES or not begins_like_http(data):
            raise error
        handler.use_parser(self)
        self._begun = bytearray(data)
        self._rejected = error
        return messages, False, b""

    def feed_eof(self) -> Any:
        partial_message = self._rejected or self._parser.feed_eof()
        self._handler.ended_within_head = partial_message is not None
        return partial_message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


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
                    probe_by_tcp(connection.transport.get_extra_info("socket"))
                self.shortest_connect_s = min(self.shortest_connect_s, time.monotonic() - began)
                return connection, False
            if not (fresh or protocol.usable_until < began or protocol.is_stale()):
                return connection, True
            connection.close()


def _retrieve_exception(closed: asyncio.Future[None]) -> None:
    """Keep asyncio from logging how an idle connection ended."""
    if not closed.cancelled():
        closed.exception()
