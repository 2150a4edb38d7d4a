"""One connection of the direct client: writes requests, and turns bytes into callbacks.

The parser is llhttp, by way of ``httptools``. It rejects heads that browsers and curl accept. Such
a head is parsed once more in its usual form and apart from its body; its connection is closed after
the response.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol

import httptools
from multidict import CIMultiDict

from exai_actors.core.calls import Aborted, FailureKind, UpstreamFailure
from exai_actors.edges.http.client import Receiver
from exai_actors.edges.http.errors import BROKE_OFF, NO_ANSWER, TOO_MANY_INTERIM_RESPONSES
from exai_actors.edges.http.keeping import kept_s, most_requests
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

# Of a head that arrives in several pieces.
MAX_HEAD_BYTES = 1 << 20
# Every head that breaks a limit is larger.
_SMALL_HEAD_BYTES = MAX_HEADERS

LARGE_READ_BYTES = 1 << 16
"""After a read of so much, others have their turns before the next."""

_OK = 200
_REQUEST_TIMEOUT = 408


class Pool(Protocol):
    """The client, as its connections see it."""

    loop: asyncio.AbstractEventLoop
    keep_alive_s: float

    def opened(self, connection: Connection) -> None: ...

    def release(self, connection: Connection) -> None:
        """The connection is idle from now on."""

    def lost(self, connection: Connection) -> None: ...

    def failure(
        self, kind: FailureKind, message: str, *, resend: bool = False
    ) -> UpstreamFailure: ...

    def broken_rule(self, rule: str) -> UpstreamFailure: ...


class Exchange:
    """Implements ``client.HttpExchange``."""

    __slots__ = (
        "connecting",
        "connection",
        "is_aborted",
        "is_paused",
        "receiver",
        "request",
        "was_connected",
    )

    def __init__(self, receiver: Receiver, request: bytes) -> None:
        self.receiver = receiver
        self.request = request
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.was_connected = False
        self.is_aborted = self.is_paused = False

    def abort(self) -> None:
        if self.connection is not None:
            self.connection.abort()
        elif self.connecting is not None:
            self.is_aborted = True
            self.connecting.cancel()

    def pause(self) -> None:
        self.is_paused = True
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        self.is_paused = False
        if self.connection is not None:
            self.connection.resume()


class Connection(asyncio.Protocol):
    """A connection that is opened for ``exchange``, and may carry others after it."""

    __slots__ = (
        "_answers",
        "_awaits_turn",
        "_begun",
        "_bodies",
        "_exchange",
        "_failure",
        "_feed",
        "_has_head",
        "_head_bytes",
        "_headers",
        "_held_error",
        "_interim",
        "_interim_in_begun",
        "_is_complete",
        "_is_paused",
        "_keeps_alive",
        "_parser",
        "_poll",
        "_pool",
        "_rejected",
        "_status",
        "_transport",
        "_was_used",
        "on_body",
        "usable_until",
    )

    def __init__(self, pool: Pool, exchange: Exchange) -> None:
        self._pool = pool
        self._exchange: Exchange | None = exchange
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._was_used = False
        self._answers = 0
        """Those with the field Keep-Alive."""
        self.usable_until = 0.0
        """Until when it can be used again once it is idle, in the loop's time."""
        # The parser calls the list's own method: a piece of a body costs no call of Python code.
        self._bodies: list[bytes] = []
        self.on_body = self._bodies.append
        self._failure: UpstreamFailure | None = None
        self._is_paused = self._awaits_turn = False
        self._headers: CIMultiDict[str]
        self._has_head: bool
        self._interim: int
        self._keeps_alive: bool
        self._held_error: httptools.HttpParserError | None
        """The broken rule behind data that waits for the end of a pause."""
        self._expect_response()
        self._new_parser()

    # Called by the pool.

    def carry(self, exchange: Exchange) -> None:
        """Send the next request. Only for a connection that is idle and not stale."""
        self._exchange = exchange
        self._was_used = True
        self._expect_response()
        self._send(exchange)

    def is_stale(self) -> bool:
        """Whether it has ended while it was idle, or received data since its last answer.

        HTTP has nothing to say on an idle connection: the data is its end, or a late second answer.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return True
        # is_closing covers data that the loop has read, poll() data that it has yet to read.
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Close the connection without sending the rest of a request."""
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """End a connection that could not be opened, after its exchange had it already."""
        exchange, self._exchange = self._exchange, None
        self.close()
        self._pool.lost(self)
        if exchange is not None:
            exchange.connection = None
            exchange.receiver.failed(Aborted())

    # Called by the exchange, and by the pool at its end.

    def abort(self) -> None:
        """Close the connection, and abort its exchange."""
        if self._exchange is not None:
            self._exchange.is_aborted = True
        self.close()

    def pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None:
                if not self._awaits_turn:
                    self._transport.resume_reading()
                if self._is_complete or self._bodies or self._held_error is not None:
                    self._pool.loop.call_soon(self._deliver_rest)

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        exchange = self._exchange
        assert exchange is not None
        # uvloop's transports do not inherit from asyncio's.
        self._transport = transport  # type: ignore[assignment]
        if exchange.is_aborted:
            # The pool reports that, once the attempt to connect has ended: uvloop does not call
            # connection_lost if create_connection is cancelled meanwhile.
            self._exchange = None
            self.close()
        else:
            self._pool.opened(self)
            self._send(exchange)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.is_aborted or self._failure is not None:
            self.close()
            return
        if self._is_paused:
            # uvloop begins to read after connection_made, whatever that has decided.
            self._stop_reading()
        elif len(data) >= LARGE_READ_BYTES:
            self._read_on_next_turn()
        if self._has_head:
            error = None
            try:
                self._feed(data)
            except httptools.HttpParserError as broken:
                error = broken
            bodies = self._bodies
            if self._is_paused:
                # A loop may have read it before it stopped reading.
                self._held_error = error or self._held_error
            elif len(bodies) == 1 and error is None and not self._is_complete:
                # Most of the data: a piece of a stream.
                exchange.receiver.data(bodies.pop())
            else:
                self._deliver(exchange, error)
        else:
            self._read_head(exchange, data)

    def _stop_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _read_on_next_turn(self) -> None:
        """Let others have their turns: libuv would read 32 times in a row."""
        self._stop_reading()
        self._awaits_turn = True
        self._pool.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._awaits_turn = False
        transport = self._transport
        if transport is not None and not self._is_paused and not transport.is_closing():
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # They refer to this object.
        del self._parser, self._feed
        if self._exchange is None:
            self._pool.lost(self)
        else:
            # asyncio closes the socket after this callback, and the end is reported after that.
            self._pool.loop.call_soon(self._report_loss, exc)

    def _report_loss(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        try:
            if exchange is not None:
                exchange.connection = None
                self._report_end(exchange, exc)
        finally:
            self._pool.lost(self)

    def _report_end(self, exchange: Exchange, exc: Exception | None) -> None:
        receiver = exchange.receiver
        if exchange.is_aborted:
            receiver.failed(Aborted())
            return
        if self._failure is not None:
            receiver.failed(self._failure)
            return
        if self._bodies:
            # The connection was lost in a pause.
            receiver.data(b"".join(self._bodies))
        if self._held_error is not None and not self._is_complete:
            receiver.failed(self._pool.broken_rule(str(self._held_error)))
        elif self._is_complete or (exc is None and self._ends_with_connection()):
            receiver.ended()
        else:
            receiver.failed(self._loss(exc))

    def _ends_with_connection(self) -> bool:
        """Whether the body is complete when the connection ends."""
        headers = self._headers
        return (
            self._has_head
            and "Content-Length" not in headers
            and "chunked" not in headers.get("Transfer-Encoding", "").lower()
        )

    def _loss(self, exc: Exception | None) -> UpstreamFailure:
        failure = self._pool.failure
        if self._has_head or self._interim:
            return failure(FailureKind.TRUNCATED, BROKE_OFF)
        if self._begun is None:
            if self._was_used:
                return self._stale()
            if isinstance(exc, OSError):
                reason = exc.strerror or exc
                return failure(FailureKind.TRUNCATED, f"lost the connection: {reason}")
        return failure(FailureKind.TRUNCATED, NO_ANSWER)

    def _stale(self) -> UpstreamFailure:
        """The service closed a connection that had been idle, and answered nothing on it.

        It has probably closed it before the request arrived. A 408 that closes is no answer: it
        says that no request came in time (RFC 9110, 15.5.9).
        """
        return self._pool.failure(FailureKind.TRUNCATED, NO_ANSWER, resend=True)

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise _Excess(f"more than {MAX_HEAD_BYTES} bytes of trailers")
            return
        self._headers.add(
            name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        )

    def on_headers_complete(self) -> None:
        if self._has_head:
            raise _Excess("a second response")
        status: int = self._parser.get_status_code()
        if status < _OK and status != SWITCHING_PROTOCOLS:
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise _Excess("too many interim responses")
            self._headers = CIMultiDict()
            return
        self._has_head = True
        self._status = status
        self._keeps_alive = self._keeps_alive and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self._is_complete = self._has_head

    # The exchange.

    def _send(self, exchange: Exchange) -> None:
        exchange.connection = self
        exchange.was_connected = True
        exchange.receiver.connected()
        if not exchange.is_aborted and self._transport is not None:
            self._transport.write(exchange.request)
            if exchange.is_paused:
                self.pause()
        exchange.request = b""

    def _expect_response(self) -> None:
        self._headers = CIMultiDict()
        self._status = 0
        self._interim = self._interim_in_begun = 0
        self._head_bytes = 0
        self._has_head = self._is_complete = False
        self._keeps_alive = True
        self._begun: bytearray | None = None
        """The beginning of a head that has not ended, up to MAX_HELD_HEAD_BYTES."""
        self._rejected: httptools.HttpParserError | None = None
        """Why the parser rejected the head, the end of which is still to arrive."""
        self._held_error = None

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # Services write such heads, and all but these leniencies change where a body ends.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._feed = self._parser.feed_data

    def _deliver(self, exchange: Exchange, error: httptools.HttpParserError | None) -> None:
        """Hand on the parsed data. ``error``: the data behind it breaks a rule."""
        bodies = self._bodies
        if bodies:
            data = bodies[0] if len(bodies) == 1 else b"".join(bodies)
            bodies.clear()
            exchange.receiver.data(data)
        if error is not None:
            self._keeps_alive = False
            if not self._is_complete:
                self._break_off(self._pool.broken_rule(str(error)))
        if self._is_complete:
            self._finish()

    def _deliver_rest(self) -> None:
        """Hand on the data that was parsed before a pause."""
        if self._exchange is not None and not self._exchange.is_aborted and not self._is_paused:
            self._deliver(self._exchange, self._held_error)

    def _finish(self) -> None:
        exchange = self._exchange
        if (
            exchange is not None
            and self._transport is not None
            and not exchange.is_aborted
            and not self._is_paused
        ):
            self._let_go(exchange)
            exchange.receiver.ended()

    def _let_go(self, exchange: Exchange) -> None:
        """Be ready for the next exchange, or close: this one has its whole response."""
        transport = self._transport
        assert transport is not None
        self._exchange = exchange.connection = None
        # After an answer that came before the request was sent, the rest of the request must not
        # precede the next one.
        if self._keeps_alive and not transport.get_write_buffer_size() and self._note_keep_alive():
            self._pool.release(self)
        else:
            self.close()

    def _note_keep_alive(self) -> bool:
        """Note for how long the service keeps the connection; return whether it does."""
        usable_s = self._pool.keep_alive_s
        header = self._headers.get("Keep-Alive")
        if header is not None:
            self._answers += 1
            if self._answers >= most_requests(header):
                return False
            usable_s = min(usable_s, kept_s(header))
        self.usable_until = self._pool.loop.time() + usable_s
        return True

    def _break_off(self, failure: UpstreamFailure) -> None:
        self._failure = failure
        self.close()

    # The head of a response.

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        self._head_bytes += len(data)
        error = self._parse_head(data)
        if self._interim > MAX_INTERIM_RESPONSES:
            failure = self._pool.failure(FailureKind.MALFORMED, TOO_MANY_INTERIM_RESPONSES)
            self._break_off(failure)
        elif self._head_bytes > _SMALL_HEAD_BYTES and (excess := self._excess()):
            self._break_off(self._pool.broken_rule(excess))
        elif self._has_head:
            self._head_bytes = 0
            if self._status == _REQUEST_TIMEOUT and self._was_used and not self._keeps_alive:
                self._break_off(self._stale())
                return
            if self._is_complete and error is None and not self._is_paused:
                body = b"".join(self._bodies)
                if exchange.receiver.whole(self._status, self._headers, body):
                    self._bodies.clear()
                    self._let_go(exchange)
                    return
            exchange.receiver.head(self._status, self._headers)
            if self._is_paused:
                self._held_error = error
            else:
                self._deliver(exchange, error)
        elif error is not None:
            self._break_off(self._pool.broken_rule(str(error)))

    def _excess(self) -> str:
        if len(self._headers) > MAX_HEADERS:
            return f"more than {MAX_HEADERS} headers"
        if any(len(name) + len(value) > MAX_HEADER_BYTES for name, value in self._headers.items()):
            return f"more than {MAX_HEADER_BYTES} bytes in a header"
        if not self._has_head and self._head_bytes > MAX_HEAD_BYTES:
            return f"more than {MAX_HEAD_BYTES} bytes before the answer"
        return ""

    def _parse_head(self, data: bytes) -> httptools.HttpParserError | None:
        """Parse data before the end of the head; return why it cannot be parsed."""
        if self._rejected is not None:
            return self._await_end(data, self._rejected)
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            self._is_complete, self._keeps_alive = True, False
        except httptools.HttpParserError as error:
            if self._has_head or isinstance(error, httptools.HttpParserCallbackError):
                return error
            return self._parse_odd_head(bytes(self._begin(data)), error)
        if not self._has_head:
            begun = self._begin(data)
            while self._interim_in_begun < self._interim:
                self._interim_in_begun += 1
                del begun[: max(head_end(begun), 0)]
        return None

    def _begin(self, data: bytes) -> bytearray:
        """Add to the beginning of the head."""
        if self._begun is None:
            self._begun = bytearray()
        if len(self._begun) <= MAX_HELD_HEAD_BYTES:
            self._begun += data
        return self._begun

    def _await_end(
        self, data: bytes, error: httptools.HttpParserError
    ) -> httptools.HttpParserError | None:
        """Parse the head once it has ended; ``error`` is why the parser rejected it."""
        assert self._begun is not None
        searched = max(len(self._begun) - 2, 0)
        begun = self._begin(data)
        if head_end(begun, searched) < 0 and len(begun) <= MAX_HELD_HEAD_BYTES:
            return None
        return self._parse_odd_head(bytes(begun), error)

    def _parse_odd_head(
        self, data: bytes, error: httptools.HttpParserError
    ) -> httptools.HttpParserError | None:
        self._keeps_alive = False
        while (end := head_end(data)) >= 0:
            head, data = normal_head(data[:end]), data[end:]
            self._headers = CIMultiDict()
            self._new_parser()
            try:
                self._feed(head)
                if is_interim(head) and self._interim <= MAX_INTERIM_RESPONSES:
                    continue
                self._feed(data)
            except httptools.HttpParserUpgrade:
                self._is_complete = True
            except httptools.HttpParserError as broken:
                return broken
            return None
        if len(data) > MAX_HELD_HEAD_BYTES or not begins_like_http(data):
            return error
        self._begun = bytearray(data)
        self._rejected = error
        return None


class _Excess(Exception):
    """Ends the parser's work from one of its callbacks."""
