"""One HTTP connection: turns bytes from the socket into exchanges, and responses into bytes.

The parser is llhttp, by way of ``httptools``. It is strict about the form of a message and sets no
limit on its size; the limits are here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from math import inf
from typing import Protocol, cast

import httptools

from exai_actors.edges.departure import has_left
from exai_actors.edges.http_server.request import (
    CONTENT_LENGTH,
    MAX_KEPT_HEAD_BYTES,
    HeadKey,
    Heads,
    Refusal,
    RequestHead,
    body_length,
    by_name,
    check_head,
    too_large,
)
from exai_actors.edges.http_server.settings import HttpServerSettings
from exai_actors.ports import Kept

Fields = tuple[tuple[str, str], ...]

_END_OF_HEAD = "\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_TOO_LARGE = Refusal(431, "The head of the request is too large.")
_SLOW_HEAD = Refusal(408, "The head of the request did not arrive in time.")
_SLOW_BODY = Refusal(408, "The body of the request did not arrive in time.")
_NO_ROOM = Refusal(503, "The broker holds as many request bodies as it may; retry in a second.")
_TOO_MUCH_IN_ADVANCE = Refusal(
    400,
    "Too much arrived before the responses to earlier requests: wait for them, or open another "
    "connection.",
)
_MALFORMED = Refusal(400, "This is not a valid HTTP/1.1 request.")
_DISCARDED_WHILE_CLOSING = 1_048_576
# Of what follows the refused part while earlier requests are answered.
_DISCARDED_IN_ADVANCE = 33_554_432
# How much is read of what a client sends in advance while its first request takes long: behind it
# may be the end of the connection, which the kernel shows when it has room for the rest only.
_READ_IN_ADVANCE = 262_144
# Parsed in one turn of the loop, apart from a body of known length: 40 of the shortest requests, or
# 170 of the shortest chunks. A client can write such things faster than they can be answered.
_BYTES_PER_TURN = 1024
_BODY_BYTES_PER_TURN = 65_536
# How often a client that is not read is looked at: its call must not outlive it.
_LOOK_EVERY_S = 0.05


class Receiver(Protocol):
    """The recipient of a request's body and of the fate of its connection.

    ``gone`` is called at most once, and not after the response has ended.
    """

    def whole(self, body: bytes, /) -> None:
        """The request has all of its body."""

    def gone(self) -> None:
        """The response cannot be delivered any more: the client or its request has broken off."""

    def pause(self) -> None:
        """The client does not keep up with the response; further data is buffered."""

    def resume(self) -> None:
        """The client has caught up."""


class Server(Protocol):
    """The server, as its connections see it."""

    settings: HttpServerSettings
    heads: Heads

    def date_field(self) -> str:
        """The line of the field Date."""

    def body_limit(self, head: RequestHead) -> int:
        """The size that the body of a request may have."""

    def keep_body(self, size: int) -> bool:
        """Count a piece of a body that is kept until its response; False if there is no room."""

    def free_body(self, size: int) -> None:
        """The pieces of a body are not kept any more."""

    def refusal(self, head: RequestHead, refusal: Refusal) -> tuple[str, bytes]:
        """The content type and the body of the response that refuses a request."""

    def shared_fields(self, head: RequestHead) -> Fields:
        """The fields of every response to this request, by which a page may read it."""

    def handle(self, exchange: Exchange) -> Receiver:
        """Begin to answer a request whose head has arrived; may respond immediately."""

    def remove(self, connection: HttpConnection) -> None:
        """Forget a connection that is gone."""


class Exchange:
    """One request and its response.

    Exactly one of ``respond``, ``begin`` and ``abort`` starts the response; after ``begin`` follow
    ``write`` and finally ``end`` or ``abort``. Calls after the end of the exchange do nothing.
    """

    __slots__ = (
        "_begun",
        "_body_left",
        "_body_limit",
        "_chunked",
        "_connection",
        "_ended",
        "_held_head",
        "_is_body_complete",
        "_length",
        "_pieces",
        "_received",
        "head",
        "is_paused",
        "must_stay",
        "receiver",
        "room",
        "shared_fields",
    )

    def __init__(
        self, connection: HttpConnection, head: RequestHead, length: int | None, body_limit: int
    ) -> None:
        """``length`` is that of the body, None if it is chunked."""
        self.head = head
        self.receiver: Receiver | None = None
        self.must_stay = False
        """Whether its connection must not give way to another client."""
        self.room = 0
        """How much of its response may be unread, above the high mark, before it is paused."""
        self.shared_fields: Fields = ()
        """Further fields of its response, see ``Server``."""
        self.is_paused = False
        self._connection = connection
        self._begun = False
        self._ended = False
        self._chunked = False
        self._held_head = b""
        self._body_left: int | None = None
        self._length = length
        self._is_body_complete = length == 0
        self._received = 0
        self._pieces: list[bytes] = []
        self._body_limit = body_limit

    @property
    def address(self) -> str:
        """The client's address without its port; empty for a socket that has none."""
        return self._connection.address

    @property
    def has_ended(self) -> bool:
        return self._ended

    def respond(self, status: int, fields: Fields, body: bytes) -> None:
        """Send a whole response."""
        self.begin(status, fields, len(body))
        self.write(body)
        self.end()

    def begin(self, status: int, fields: Fields, length: int | None = None) -> None:
        """Send the head of a response; without ``length`` its end is marked by the last chunk, or
        in HTTP/1.0 by the end of the connection. With a ``length`` it is sent with the first piece.
        """
        if self._begun or self._ended:
            return
        self._begun = True
        lines = [_status_line(status), *[f"{name}: {value}" for name, value in fields]]
        if self.shared_fields:
            lines += [f"{name}: {value}" for name, value in self.shared_fields]
        lines.append(self._connection.server.date_field())
        bodiless = self.head.method == "HEAD" or status in {204, 304}
        if length is not None and status not in {204, 304}:
            lines.append(f"Content-Length: {length}")
        elif length is None and not bodiless:
            if self.head.version == "1.1":
                self._chunked = True
                lines.append("Transfer-Encoding: chunked")
            else:
                self._connection.closes_after_response = True
        self._body_left = 0 if bodiless else length
        if not self._is_body_complete or not self.head.keeps_alive:
            # The rest of a body that nothing reads any more must not be taken for a request.
            self._connection.closes_after_response = True
        if self._connection.closes_after_response:
            lines.append("Connection: close")
        elif self.head.version == "1.0":
            lines.append("Connection: keep-alive")
        lines.append(_END_OF_HEAD)
        encoded = "\r\n".join(lines).encode("latin-1")
        if self._body_left:
            # It is sent with the first piece of the body: a write costs more than all of the above.
            self._held_head = encoded
        else:
            self._connection.write(encoded)

    def close_after(self) -> None:
        """See ``ports.Responder``."""
        if not self._ended:
            self._connection.closes_after_response = True

    def write(self, data: bytes) -> None:
        """Send a piece of the body. Raises ValueError if it exceeds the announced length."""
        if self._ended or not data or (self.head.method == "HEAD" and self._begun):
            return
        if self._body_left is not None:
            if len(data) > self._body_left:
                raise ValueError("the body of a response is longer than its Content-Length")
            self._body_left -= len(data)
        if self._held_head:
            data, self._held_head = self._held_head + data, b""
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The response is complete. If it is shorter than announced, the connection is aborted."""
        if self._ended:
            return
        if self._body_left:
            self.abort()
            return
        self._finish()
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        self._connection.response_ended()

    def abort(self) -> None:
        """Break off: the client must not take this for a whole response."""
        if not self._ended:
            self._finish()
            self._connection.abort()

    @property
    def kept(self) -> Kept | None:
        """See ``ports.Responder``."""
        return self._connection.kept

    def keep(self, kept: Kept) -> bool:
        """See ``ports.Responder``."""
        return self._connection.keep(kept)

    def forget(self, kept: Kept) -> None:
        """See ``ports.Responder``."""
        if self._connection.kept is kept:
            self._connection.kept = None

    # Called by the connection.

    def begin_to_answer(self, receiver: Receiver) -> None:
        """Its turn has come: pass on the body, now or when it has arrived."""
        self.receiver = receiver
        if self._is_body_complete and not self._ended:
            receiver.whole(self._take_body())

    @property
    def length(self) -> int | None:
        """The length of the body, None if it is chunked."""
        return self._length

    @property
    def body_left(self) -> int:
        """How many bytes of the body are still to arrive; 0 if its length is not known."""
        return 0 if self._length is None else self._length - self._received

    @property
    def received_bytes(self) -> int:
        """How much of the body has arrived, and is kept until the response."""
        return 0 if self._ended else self._received

    def put_body(self, data: bytes) -> Refusal | None:
        """Keep a piece of the body; the refusal if there is too much."""
        if self._received + len(data) > self._body_limit:
            return too_large(self._body_limit)
        if self._ended:
            self._received += len(data)
            return None
        if not self._connection.server.keep_body(len(data)):
            return _NO_ROOM
        self._received += len(data)
        self._pieces.append(data)
        return None

    def complete_body(self) -> None:
        if not self._is_body_complete:
            self._is_body_complete = True
            if self.receiver is not None and not self._ended:
                self.receiver.whole(self._take_body())

    def _take_body(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    @property
    def early_bytes(self) -> int:
        """How much of the body has arrived before its turn."""
        return 0 if self.receiver is not None or self._ended else self._received

    def break_off(self) -> None:
        """The connection is gone."""
        if not self._ended:
            receiver = self.receiver
            self._finish()
            if receiver is not None:
                receiver.gone()

    def _finish(self) -> None:
        self._ended = True
        # It refers back to this object.
        self.receiver = None
        self._pieces.clear()
        if self._received:
            self._connection.server.free_body(self._received)

    @property
    def is_body_complete(self) -> bool:
        return self._is_body_complete

    @property
    def has_begun(self) -> bool:
        return self._begun


class HttpConnection(asyncio.Protocol):
    """Serves one request after the other; pipelined ones wait for their turn. With a ``refusal`` it
    serves none, and answers with that.

    In each turn of the loop it begins one request and parses little, so that others have theirs. It
    does not read while much of its responses is unread.
    """

    def __init__(
        self,
        server: Server,
        loop: asyncio.AbstractEventLoop,
        refusal: Refusal | None = None,
    ) -> None:
        self.address = ""
        """The client's address without its port; empty for a socket that has none."""
        self.closes_after_response = False
        self.kept: Kept | None = None
        """See ``ports.Responder``."""
        self.server = server
        self._loop = loop
        self._settings = server.settings
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._target = bytearray()
        self._fields: list[tuple[bytes, bytes]] = []
        self._length: bytes | None = None
        """The value of the field Content-Length, which is not among the others."""
        self._head_bytes = 0
        self._is_in_head = False
        self._unread = memoryview(b"")
        """Arrived, and not parsed yet."""
        self._next_turn: asyncio.Handle | None = None
        self._has_begun_one = False
        self._had_body = False
        self._written = 0
        """The bytes of all responses so far."""
        self._is_above_high_mark = False
        self._is_restrained = False
        self._unread_timer: asyncio.TimerHandle | None = None
        self._departure_timer: asyncio.TimerHandle | None = None
        self._first_at_last_look: Exchange | None = None
        self._arriving: Exchange | None = None
        """The request whose body arrives."""
        self._exchanges: deque[Exchange] = deque()
        """The first is being answered, or is about to be; the others wait."""
        self._refusal = refusal
        self._refused: RequestHead | None = None
        """The head of the request that the refusal is about, if it has arrived."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        """When the timer fires. It looks at what is due then, which costs less than to set it again
        for each part of each request.
        """
        self._due = inf
        self._due_refusal: Refusal | None = None
        self._is_closing = False
        self._discarded = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._exchanges

    @property
    def must_stay(self) -> bool:
        """Whether a request is being answered that must not be broken off for another client."""
        return any(exchange.must_stay for exchange in self._exchanges)

    def write(self, data: bytes) -> None:
        if self._is_closing or self._transport.is_closing():
            return
        self._written += len(data)
        self._transport.write(data)
        if self._is_above_high_mark:
            self._limit_unread()

    def abort(self) -> None:
        self._transport.abort()

    def keep(self, kept: Kept) -> bool:
        """Keep it for the next request, if there may be one."""
        if self._is_closing or self.closes_after_response or self._transport.is_closing():
            return False
        former, self.kept = self.kept, kept
        if former is not None and former is not kept:
            former.left()
        return True

    def close_when_idle(self) -> None:
        """Answer the request in progress, if any, and close."""
        self.closes_after_response = True
        if not self._exchanges and not self._is_closing and not self._unread:
            self._transport.close()

    def response_ended(self) -> None:
        """The first exchange is over: the next begins, or the connection waits for one."""
        self._exchanges.popleft()
        if self.closes_after_response:
            self._close()
        elif self._exchanges:
            self._continue_next_turn()
        elif self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self._read_on()
            if self._is_in_head:
                self._wait(self._settings.head_timeout_s, _SLOW_HEAD)
            else:
                self._wait(self._settings.idle_timeout_s, None)

    # Called by the memory guard.

    def held_bytes(self) -> int:
        """The size of unread responses, and of requests that are not answered."""
        held = self._transport.get_write_buffer_size() + len(self._unread)
        return held + sum(exchange.received_bytes for exchange in self._exchanges)

    def restrain(self) -> None:
        """Stop reading, so that it holds no more."""
        self._is_restrained = True
        self._read_on()

    def release(self) -> None:
        """Read again, after ``restrain``."""
        self._is_restrained = False
        self._read_on()

    def end_if_left(self) -> None:
        if has_left(self._transport):
            self.abort()

    def give_up(self) -> None:
        """End the connection to free its memory."""
        self.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.address = str(name[0]) if isinstance(name, tuple) else ""
        settings = self._settings
        self._transport.set_write_buffer_limits(
            settings.outbox_high_bytes, settings.outbox_low_bytes
        )
        self._wait(settings.head_timeout_s, None)
        if self._refusal is not None:
            self._refuse(self._refusal)

    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._refusal is not None:
            self._discarded += len(data)
            allowed = _DISCARDED_WHILE_CLOSING if self._is_closing else _DISCARDED_IN_ADVANCE
            if self._discarded > allowed:
                self.abort()
            return
        may_parse = self._next_turn is None and self._may_parse()
        if may_parse and not self._unread and len(data) <= _BYTES_PER_TURN:
            # Most requests.
            self._parse(data)
            return
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
        if may_parse:
            self._parse_unread()
        else:
            self._pause_reading()

    def eof_received(self) -> None:
        # The transport closes. A client that only half-closes looks like one that is gone, and the
        # calls of those must not continue.
        pass

    def pause_writing(self) -> None:
        self._is_above_high_mark = True
        if not self._is_closing and not self._transport.is_closing():
            self._transport.pause_reading()
        self._watch_unread(self._written - self._transport.get_write_buffer_size())
        self._limit_unread()

    def resume_writing(self) -> None:
        self._is_above_high_mark = False
        self._stop_unread_timer()
        exchange = self._exchanges[0] if self._exchanges else None
        if exchange is not None and exchange.is_paused and exchange.receiver is not None:
            exchange.is_paused = False
            exchange.receiver.resume()
        self._read_on()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._cancel_timer()
        self._stop_departure_timer()
        self._stop_unread_timer()
        self._stop_turn()
        self._unread = memoryview(b"")
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            exchange.break_off()
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.left()
        self.server.remove(self)
        # It refers back to this object.
        del self._parser

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._target.clear()
        self._fields.clear()
        self._length = None
        self._head_bytes = 0
        self._is_in_head = True
        self._refused = None
        if not self._exchanges and not self._is_closing:
            self._wait(self._settings.head_timeout_s, _SLOW_HEAD)

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return  # a trailer
        if name in CONTENT_LENGTH:
            self._length = value
            return
        self._fields.append((name, value))
        if len(self._fields) > self._settings.head_fields:
            self._refusal = self._refusal or _HEAD_TOO_LARGE

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._refusal is not None or self._is_closing:
            return
        if self._arriving is not None:
            # Of ``_feed_head_of_body``: the request has its head already.
            self._refused = self._arriving.head
            return
        parser = self._parser
        version = parser.get_http_version()
        key = parser.get_method(), version, bytes(self._target), tuple(self._fields)
        head = self.server.heads.find(key) or self._new_head(key)
        if head is None:
            return
        limit = self.server.body_limit(head)
        length = body_length(head, self._length)
        self._refused = head
        if length is not None and length > limit:
            self._refusal = too_large(limit)
            return
        self._arriving = Exchange(self, head, length, limit)
        self._exchanges.append(self._arriving)
        if len(self._exchanges) == 1 and not self._has_begun_one:
            self._begin(self._arriving)

    def _new_head(self, key: HeadKey) -> RequestHead | None:
        """Read a head that no request before had; None if it is refused."""
        method, version, target, fields = key
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in fields)
        if size > self._settings.head_bytes:
            self._refusal = _HEAD_TOO_LARGE
            return None
        head = RequestHead(
            method=method.decode("ascii"),
            target=target.decode("latin-1"),
            version=version,
            fields=fields,
            keeps_alive=self._parser.should_keep_alive(),
            named=by_name(fields),
            is_kept=size <= MAX_KEPT_HEAD_BYTES,
        )
        self._refusal = check_head(head)
        if self._refusal is not None:
            return None
        if head.is_kept:
            self.server.heads.keep(key, head)
        return head

    def on_body(self, data: bytes) -> None:
        self._had_body = True
        self._head_bytes = 0
        if self._arriving is None:
            return
        refusal = self._arriving.put_body(data)
        if refusal is not None:
            self._refusal, self._refused = refusal, self._arriving.head
            self._fail_arriving()

    def on_message_complete(self) -> None:
        if self._awaits_body_of_upgrade():
            return
        arriving, self._arriving = self._arriving, None
        self._head_bytes = 0
        if arriving is not None:
            if len(self._exchanges) == 1:
                self._stop_waiting()
            arriving.complete_body()

    # Internals.

    def _parse_unread(self) -> None:
        """Parse the share of one turn; the rest follows in the next."""
        size = _BYTES_PER_TURN
        if self._arriving is not None and self._arriving.body_left > size:
            size = min(self._arriving.body_left, _BODY_BYTES_PER_TURN)
        piece, self._unread = self._unread[:size], self._unread[size:]
        self._parse(piece)

    def _parse(self, piece: bytes | memoryview) -> None:
        self._has_begun_one = self._had_body = False
        self._feed(piece)
        if self._refusal is None and not self._is_closing:
            self._limit_bytes_without_body(len(piece))
        if self._is_closing or self._refusal is not None:
            self._unread = memoryview(b"")
        if self._refusal is not None and not self._exchanges:
            self._refuse(self._refusal)
        if self._had_body and self._arriving is not None and len(self._exchanges) == 1:
            self._wait(self._settings.body_timeout_s, _SLOW_BODY)
        self._read_on()

    def _limit_bytes_without_body(self, size: int) -> None:
        """Limit heads, trailers and the frame around chunks: the parser keeps much of them."""
        if self._had_body or not (self._is_in_head or self._arriving is not None):
            return
        self._head_bytes += size
        if self._head_bytes > self._settings.head_bytes:
            self._refusal = _HEAD_TOO_LARGE
            self._fail_arriving()

    def _feed(self, data: bytes | memoryview) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Nothing but a WebSocket is upgraded to here, and the handshake of one does not get
                # this far; a server may ignore the wish (RFC 9110, section 7.8).
                awaits_body = self._awaits_body_of_upgrade()
                self._parser = httptools.HttpRequestParser(self)
                data = data[upgrade.args[0] :]
                if self._refusal is None and not self._is_closing:
                    if awaits_body:
                        self._feed_head_of_body()
                    continue
            except httptools.HttpParserError:
                self._refusal = self._refusal or _MALFORMED
                self._fail_arriving()
            return

    def _awaits_body_of_upgrade(self) -> bool:
        """Whether the parser takes the body of a request for bytes of another protocol.

        Java's client offers HTTP/2 in this way with each request.
        """
        arriving = self._arriving
        return (
            arriving is not None and not arriving.is_body_complete and self._parser.should_upgrade()
        )

    def _feed_head_of_body(self) -> None:
        """Have a new parser read the body of the request that arrives."""
        assert self._arriving is not None
        length = self._arriving.length
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        self._parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode())

    def _fail_arriving(self) -> None:
        """The body of a request broke off; it cannot be answered as if it were whole."""
        arriving, self._arriving = self._arriving, None
        if arriving is None or arriving.has_ended:
            return
        if arriving.has_begun:
            arriving.break_off()
            self.abort()
            return
        self._exchanges.remove(arriving)
        arriving.break_off()

    def _continue_next_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        """Begin the next request, if it waits for that, or else parse on."""
        self._next_turn = None
        if self._is_closing or self._transport.is_closing() or self._is_above_high_mark:
            return
        if self._exchanges and self._exchanges[0].receiver is None:
            self._begin(self._exchanges[0])
            self._read_on()
        elif self._unread and self._may_parse():
            self._parse_unread()

    def _begin(self, exchange: Exchange) -> None:
        self._has_begun_one = True
        self._stop_waiting()
        if not exchange.is_body_complete:
            self._wait(self._settings.body_timeout_s, _SLOW_BODY)
        exchange.begin_to_answer(self.server.handle(exchange))
        if exchange.head.expects_continue and not exchange.has_begun and not exchange.has_ended:
            self.write(_CONTINUE)

    def _read_on(self) -> None:
        """Parse or read more, if there is room for it."""
        if self._is_closing or self._transport.is_closing():
            return
        begins = bool(self._exchanges) and self._exchanges[0].receiver is None
        if begins or (self._unread and self._may_parse()):
            self._continue_next_turn()
        if self._refusal is None and (self._unread or not self._may_parse()):
            self._pause_reading()
        else:
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        self._transport.pause_reading()
        if self._exchanges and self._departure_timer is None:
            self._watch_departure()

    def _watch_departure(self) -> None:
        self._departure_timer = self._loop.call_later(_LOOK_EVERY_S, self._look_after_client)

    def _look_after_client(self) -> None:
        """Notice that the client has left, which the loop does not while it reads nothing."""
        self._departure_timer = None
        if self._transport.is_reading() or not self._exchanges:
            self._first_at_last_look = None
            return
        self.end_if_left()
        if self._transport.is_closing():
            return
        first = self._exchanges[0]
        was_first, self._first_at_last_look = first is self._first_at_last_look, first
        # It has not begun if the client leaves the response before it unread.
        if was_first and first.receiver is not None and self._is_full():
            self._read_in_advance()
        self._watch_departure()

    def _read_in_advance(self) -> None:
        """Read a little more, or refuse the rest: the client may have left behind it."""
        if len(self._unread) >= _READ_IN_ADVANCE:
            self._refusal = _TOO_MUCH_IN_ADVANCE
            self._refused = None if self._arriving is None else self._arriving.head
            self._fail_arriving()
            self._unread = memoryview(b"")
        self._transport.resume_reading()

    def _may_parse(self) -> bool:
        if self._is_above_high_mark or self._is_restrained:
            return False
        return len(self._exchanges) < 2 or not self._is_full()

    def _is_full(self) -> bool:
        waiting = len(self._exchanges) - 1
        early = sum(exchange.early_bytes for exchange in self._exchanges)
        return waiting >= self._settings.pipelined or early > self._settings.head_bytes

    def _refuse(self, refusal: Refusal) -> None:
        if self._is_closing:
            return
        content_type, body = "text/plain; charset=utf-8", f"{refusal.text}\n".encode()
        shared: Fields = ()
        if self._refused is not None:
            content_type, body = self.server.refusal(self._refused, refusal)
            shared = self.server.shared_fields(self._refused)
        retry = "Retry-After: 1\r\n" if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        more = "".join([f"{name}: {value}\r\n" for name, value in shared])
        head = (
            f"{_status_line(refusal.status)}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{retry}{more}"
            f"{self.server.date_field()}\r\nConnection: close\r\n\r\n"
        )
        self.write(head.encode("latin-1") + body)
        self._close()

    def _close(self) -> None:
        """Close so that the client can read the response: a reset would discard it."""
        if self._is_closing or self._transport.is_closing():
            return
        self._is_closing = True
        self._discarded = 0
        self._stop_turn()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._wait(self._settings.close_timeout_s, None)

    def _wait(self, seconds: float, refusal: Refusal | None) -> None:
        self._due = due = self._loop.time() + seconds
        self._due_refusal = refusal
        if due < self._timer_at:
            self._cancel_timer()
            self._start_timer(due)

    def _stop_waiting(self) -> None:
        self._due = inf

    def _start_timer(self, at: float) -> None:
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer, self._timer_at = None, inf
        if self._due > self._loop.time():
            if self._due < inf:
                self._start_timer(self._due)
            return
        self._due = inf
        self._timed_out(self._due_refusal)

    def _timed_out(self, refusal: Refusal | None) -> None:
        if refusal is None:
            self.abort()
            return
        self._refusal = refusal
        self._fail_arriving()
        if not self._exchanges and not self._transport.is_closing():
            self._refuse(refusal)

    def _limit_unread(self) -> None:
        """Pause the response if too much of it is unread, and abort it if that is far too much."""
        unread = self._transport.get_write_buffer_size()
        if unread > self._settings.outbox_bytes:
            self.abort()
            return
        exchange = self._exchanges[0] if self._exchanges else None
        if exchange is None or exchange.receiver is None or exchange.is_paused:
            return
        if unread > exchange.room:
            exchange.is_paused = True
            exchange.receiver.pause()

    def _watch_unread(self, read: int) -> None:
        self._stop_unread_timer()
        self._unread_timer = self._loop.call_later(
            self._settings.unread_timeout_s, self._abort_unless_read, read
        )

    def _abort_unless_read(self, read_before: int) -> None:
        read = self._written - self._transport.get_write_buffer_size()
        if read <= read_before:
            self.abort()
        else:
            self._watch_unread(read)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop_departure_timer(self) -> None:
        if self._departure_timer is not None:
            self._departure_timer.cancel()
            self._departure_timer = None

    def _stop_turn(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, inf


@lru_cache(maxsize=128)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}"
