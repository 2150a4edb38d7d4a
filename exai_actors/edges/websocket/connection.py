"""One WebSocket: bytes of its socket in, messages to its actor out, and back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, cast

import msgspec
from websockets.frames import BINARY, TEXT, Frame
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN, Event

from exai_actors.edges.websocket.fast_frames import whole_text_frames
from exai_actors.edges.websocket.inbound import Intake
from exai_actors.edges.websocket.outbox import SocketOutbox, TurnEnd
from exai_actors.edges.websocket.protocol import MessageProtocol
from exai_actors.messages.connection import (
    BinaryReceived,
    ConnectionMessage,
    OutboxHigh,
    OutboxLow,
    SocketClosed,
    TextReceived,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.wire.clients.close_reasons import CloseReason

# What fits into a control frame beside the code.
_MAX_REASON_BYTES = 123
_MAX_CLOSING_ROUNDS = 10

_KEEPALIVE_TIMEOUT = (1011, "keepalive ping timeout")
_ABNORMAL = (1006, "")


class SocketLimits(msgspec.Struct, frozen=True):
    """Bounds of one socket, in bytes and seconds."""

    max_frame_bytes: int
    open_timeout_s: float
    close_timeout_s: float
    outbox_high_bytes: int
    outbox_low_bytes: int
    outbox_limit_bytes: int


class ConnectionHost(Protocol):
    """The server, as a connection sees it. ``read_buffer`` is shared by all its connections."""

    limits: SocketLimits
    turn_end: TurnEnd
    read_buffer: memoryview

    def arrived(self, connection: WebSocketConnection) -> bool:
        """False if there is no room for one more socket."""

    def answer(self, connection: WebSocketConnection, request: Request) -> Response:
        """The answer to a handshake; 101 when it succeeds."""

    def opened(self, connection: WebSocketConnection, request: Request) -> None:
        """The handshake has succeeded: let it receive, or close it."""

    def lost(self, connection: WebSocketConnection) -> None:
        """The socket is gone."""


class WebSocketConnection(asyncio.BufferedProtocol):
    """Glue between an asyncio transport and the library's sans-IO protocol, without a task.

    SocketClosed tells what the side that began the closing said, 1006 if the socket just ended.
    """

    __slots__ = (
        "_dropped_as",
        "_fast",
        "_host",
        "_intake",
        "_is_ending",
        "_loop",
        "_max_frame_bytes",
        "_outbox",
        "_protocol",
        "_read_buffer",
        "_recipient",
        "_timer",
        "_transport",
        "heard",
    )

    def __init__(self, host: ConnectionHost, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self._read_buffer = host.read_buffer
        self._max_frame_bytes = host.limits.max_frame_bytes
        self._protocol = MessageProtocol(self._max_frame_bytes)
        self._transport: asyncio.Transport
        self._outbox: SocketOutbox
        self._recipient: Recipient[ConnectionMessage] | None = None
        self._intake: Intake | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dropped_as: tuple[int, str] | None = None
        self._is_ending = False
        self._fast = False
        self.heard = True

    @property
    def address(self) -> str:
        """The other end's address without its port; empty for a socket that has none."""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def outbox(self) -> SocketOutbox:
        return self._outbox

    def accept(self, request: Request) -> Response:
        """The library's answer to a handshake request: 101, or what is wrong with it."""
        return self._protocol.accept(request)

    def reject(self, status: int, text: str) -> Response:
        return self._protocol.reject(status, text)

    def receive(self, recipient: Recipient[ConnectionMessage]) -> None:
        """From now on messages go to ``recipient``."""
        self._recipient = recipient
        self._intake = Intake(recipient, self._transport, self._loop, self._recipient_closed)

    def close(self, code: int, reason: str) -> None:
        """Write what is pending, then start the closing handshake; nothing if already closing.

        What still arrives is dropped, and ``reason`` is cut to what a close frame holds.
        """
        if self._protocol.state is OPEN:
            self._stop_receiving()
            self._protocol.send_close(code, _cut(reason))
            self._write_library_output()

    def drop(self, code: int, reason: str) -> None:
        """End it without a closing handshake; only our side learns ``code`` and ``reason``."""
        self._stop_receiving()
        self._outbox.shut()
        if self._dropped_as is None:
            self._dropped_as = code, reason
        self._transport.abort()

    def ping(self) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._write_library_output()

    def owes_an_answer(self) -> bool:
        if self._outbox.is_over_mark:  # the ping waits behind all that; who never reads is dropped
            return False
        return self._intake is None or not self._intake.is_blocked

    def fall_silent(self) -> None:
        if self._protocol.state is OPEN:
            self._stop_receiving()
            self._protocol.fail(*_KEEPALIVE_TIMEOUT)
            self._write_library_output()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        host = self._host
        limits = host.limits
        self._outbox = SocketOutbox(self, self._transport, host.turn_end, limits.outbox_limit_bytes)
        if host.arrived(self):
            self._transport.set_write_buffer_limits(
                limits.outbox_high_bytes, limits.outbox_low_bytes
            )
            self._timer = self._loop.call_later(limits.open_timeout_s, self._transport.abort)
        else:
            self._transport.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        # One buffer for all: it is emptied before the loop reads from another socket.
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = True
        data = self._read_buffer[:nbytes].tobytes()
        if self._fast:
            frames, taken = whole_text_frames(data, self._max_frame_bytes)
            for frame in frames:
                if self._intake is not None:
                    self._intake.take(TextReceived(frame))
            if taken == nbytes:
                return
            data = data[taken:]
        self._feed_library(data)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._write_library_output()
        # The transport closes only when its buffer has been read, which may be never.
        self._end_soon()

    def pause_writing(self) -> None:
        self._outbox.is_over_mark = True
        if self._recipient is not None:
            self._recipient.tell(OutboxHigh())

    def resume_writing(self) -> None:
        self._outbox.is_over_mark = False
        self.heard = True
        if self._recipient is not None:
            self._recipient.tell(OutboxLow())

    def connection_lost(self, _exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._stop_receiving()
        self._outbox.release()
        if self._timer is not None:
            self._timer.cancel()
        self._host.lost(self)
        if self._recipient is not None:
            self._recipient.tell(SocketClosed(*self._ended_as()))
        self._protocol.release()

    # Receiving.

    def _feed_library(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        events = protocol.events_received()
        if protocol.state is CONNECTING and events:
            events = self._answer_handshake(events)
        self._write_library_output()
        for event in events:
            self._process(event)
        self._fast = self._intake is not None and protocol.is_between_messages()

    def _answer_handshake(self, events: list[Event]) -> list[Event]:
        request, rest = cast(Request, events[0]), events[1:]
        if self._protocol.eof_sent:  # a close frame came before our answer
            self._transport.abort()
            return []
        self._protocol.send_response(self._host.answer(self, request))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write_library_output()
        if self._protocol.state is OPEN:
            self._host.opened(self, request)
        return rest

    def _process(self, event: Event) -> None:
        if self._intake is None or not isinstance(event, Frame):
            return
        if event.opcode is TEXT:
            self._intake.take(TextReceived(cast(bytes, event.data)))
        elif event.opcode is BINARY:
            self._intake.take(BinaryReceived(len(event.data)))

    def _stop_receiving(self) -> None:
        self._fast = False
        if self._intake is not None:
            self._intake.stop()
            self._intake = None

    def _recipient_closed(self) -> None:
        self.close(*CloseReason.INTERNAL.value)

    # Writing and ending.

    def _write_library_output(self) -> None:
        """Write the library's frames behind those that were sent before."""
        writes = self._protocol.data_to_send()
        if writes:
            self._outbox.flush()
        for data in writes:
            if data:
                self._transport.write(data)
            else:
                # A socket that has just been reset cannot be shut down any more.
                with contextlib.suppress(OSError, RuntimeError):
                    self._transport.write_eof()
        if self._protocol.close_expected():
            self._end_soon()

    def _end_soon(self) -> None:
        self._outbox.shut()
        if not self._is_ending:
            self._is_ending = True
            self._await_end(self._transport.get_write_buffer_size(), _MAX_CLOSING_ROUNDS)

    def _await_end(self, unsent: int, rounds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(
            self._host.limits.close_timeout_s, self._end_unless_read, unsent, rounds
        )

    def _end_unless_read(self, unsent_before: int, rounds: int) -> None:
        """A long answer still on its way is no reason to cut it off, a client that stalls is."""
        unsent = self._transport.get_write_buffer_size()
        if unsent < unsent_before and rounds > 0:
            self._await_end(unsent, rounds - 1)
        else:
            self._transport.abort()

    def _ended_as(self) -> tuple[int, str]:
        if self._dropped_as is not None:
            return self._dropped_as
        # When the client began, the library sent its own words back.
        close = self._protocol.close_sent
        return (int(close.code), close.reason) if close is not None else _ABNORMAL


def _cut(reason: str) -> str:
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
