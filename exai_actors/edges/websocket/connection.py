"""One WebSocket: turns bytes from the socket into messages to the actor, and frames into bytes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, cast

from websockets.frames import BINARY, TEXT, Frame
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN, Event

from exai_actors.core.first_bytes import spoken_in
from exai_actors.edges.departure import has_left
from exai_actors.edges.websocket.fast_frames import MAX_FRAMES, whole_text_frames
from exai_actors.edges.websocket.handshake import (
    Handshake,
    HandshakeRequest,
    common_handshake,
    read_by_library,
)
from exai_actors.edges.websocket.inbound import InboundQueue
from exai_actors.edges.websocket.outbox import SocketOutbox, WriteCoalescer
from exai_actors.edges.websocket.protocol import MessageProtocol, first_message_bytes
from exai_actors.edges.websocket.read_gate import Pause, ReadGate
from exai_actors.edges.websocket.read_turns import ReadTurns
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.messages.connection import (
    BinaryReceived,
    OutboxHigh,
    OutboxLow,
    ReadHandled,
    SocketClosed,
    SocketEvent,
    TextReceived,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.wire.clients.close_reasons import CloseReason

# A control frame holds 125 bytes, two of which are the code.
_MAX_REASON_BYTES = 123
_MAX_CLOSE_EXTENSIONS = 10
_LAST_CHANCE_S = 0.1

# Of one read, that the actor may still have to handle when the next read comes.
_FEW_FRAMES = 8
_LARGE_BYTES = 16 * 1024

_PING = bytes((0x89, 0))
# Without a payload, as the answer to it: two bytes and the mask.
_PONG = bytes((0x8A, 0x80))
_PONG_BYTES = 6

# A ping is to be answered while others wait for their turn: these are two of them at most.
_SHORT_BYTES = 20
_FIRST_CONTROL = 0x88

_KEEPALIVE_TIMEOUT = (1011, "keepalive ping timeout")
_ABNORMAL_CLOSURE = (1006, "")


class ConnectionHost(Protocol):
    """The server, as its connections see it."""

    settings: WebSocketSettings
    coalescer: WriteCoalescer
    read_buffer: memoryview
    """Where every connection reads into: it is emptied before another socket is read."""
    reads: ReadTurns

    def add_socket(self, connection: WebSocketConnection, now: float) -> None:
        """Count a socket that is new ``now`` as a stranger's; another may have to give way."""

    def admit(self, connection: WebSocketConnection) -> None:
        """Count it as a client's."""

    @property
    def serves_http(self) -> bool:
        """If not, a client that does not speak WebSocket is answered as a failed handshake."""

    def hand_over(self, transport: asyncio.Transport, first: bytes) -> None:
        """Serve a client that does not speak WebSocket; ``first`` are its bytes so far."""

    def accepts(self, request: HandshakeRequest) -> bool:
        """Whether a handshake, which is well-formed, succeeds."""

    def answer_handshake(
        self, connection: WebSocketConnection, request: Request, read: HandshakeRequest
    ) -> Response:
        """The response to a handshake, which was ``read``; status 101 if it succeeds."""

    def open(self, connection: WebSocketConnection, request: HandshakeRequest) -> None:
        """Give the connection an actor after its handshake succeeded, or close it."""

    def remove_socket(self, connection: WebSocketConnection) -> None:
        """Forget a socket that is gone."""


class WebSocketConnection(asyncio.BufferedProtocol):
    """Connects an asyncio transport to the library's sans-IO protocol, without a task.

    Most connections never need the library: whole text frames, the common handshake, pings and
    their pongs are handled here, and it is made when anything else comes or is to be sent.

    The actor gets SocketClosed with the code and reason of the side that started the closing
    handshake, or 1006 if the socket ended without one.
    """

    __slots__ = (
        "_answers_first",
        "_awaits_turn",
        "_dropped_as",
        "_first",
        "_gate",
        "_had_handshake",
        "_host",
        "_inbound",
        "_is_admitted",
        "_is_ending",
        "_is_new",
        "_library",
        "_loop",
        "_max_frame_bytes",
        "_outbox",
        "_recipient",
        "_timer",
        "_transport",
        "_unread",
        "_uses_fast_path",
        "address",
        "received_since_ping",
    )

    def __init__(self, host: ConnectionHost, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self._library: MessageProtocol | None = None
        self._had_handshake = False
        """Whether it was made here; the library knows of its own."""
        self._is_admitted = False
        self._is_new = True
        """Whether its first message is still to come."""
        self._max_frame_bytes = first_message_bytes(host.settings.max_frame_bytes)
        self._transport: asyncio.Transport
        self._gate: ReadGate
        self._outbox: SocketOutbox
        self._recipient: Recipient[SocketEvent] | None = None
        self._inbound: InboundQueue | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._first: bytes | None = b""
        """The first bytes, until it is clear which protocol they belong to."""
        self._unread = b""
        self._awaits_turn = False
        self._dropped_as: tuple[int, str] | None = None
        self._is_ending = False
        self._answers_first = False
        self._uses_fast_path = False
        self.address = ""
        """The client's address without its port; empty for a socket that has none."""
        self.received_since_ping = True

    @property
    def is_open(self) -> bool:
        library = self._library
        return self._had_handshake if library is None else library.state is OPEN

    @property
    def had_handshake(self) -> bool:
        library = self._library
        return self._had_handshake if library is None else library.state is not CONNECTING

    @property
    def _protocol(self) -> MessageProtocol:
        """The library's protocol, from now on."""
        library = self._library
        if library is None:
            library = self._library = MessageProtocol(
                self._host.settings.max_frame_bytes,
                is_open=self._had_handshake,
                had_message=not self._is_new,
            )
            if self._is_admitted:
                library.admit()
        return library

    @property
    def outbox(self) -> SocketOutbox:
        return self._outbox

    def accept(self, request: Request) -> Response:
        """The library's response to a handshake: 101, or an error if the request is invalid."""
        return self._protocol.accept(request)

    def reject(self, status: int, text: str) -> Response:
        return self._protocol.reject(status, text)

    def deliver_to(self, recipient: Recipient[SocketEvent]) -> None:
        """Send all received messages to ``recipient``, and finally SocketClosed."""
        self._recipient = recipient
        self._inbound = InboundQueue(
            recipient,
            self._gate,
            self._loop,
            on_closed=self._close_without_actor,
        )

    def admit(self) -> None:
        """The client is no longer a stranger: the budgets of strangers do not apply any more."""
        self._is_admitted = True
        if self._library is not None:
            self._library.admit()
        self._host.admit(self)

    def close(self, code: int, reason: str) -> None:
        """Write the pending frames, then start the closing handshake; no effect if already closing.

        Messages that still arrive are discarded. A ``reason`` too long for a close frame is cut.
        """
        if self.is_open:
            self._stop_receiving()
            self._protocol.send_close(code, _cut(reason))
            self._write_library_output()

    def read_on(self) -> None:
        """The actor has handled the messages so far."""
        self._gate.resume(Pause.UNHANDLED)

    def drop(self, code: int, reason: str) -> None:
        """End the socket without a closing handshake; only our side learns code and reason."""
        self._stop_receiving()
        self._dropped_as = code, reason
        self._transport.abort()

    def ping(self) -> None:
        if not self.is_open:
            return
        if self._library is None:
            self._outbox.flush()
            self._transport.write(_PING)
        else:
            self._library.send_ping(b"")
            self._write_library_output()

    def expects_pong(self) -> bool:
        # A client reads the frames written before a ping before it answers; one that never reads is
        # dropped as a slow consumer.
        return self._gate.is_open and not self._outbox.is_above_high_mark

    def fail_keepalive(self) -> None:
        if self.is_open:
            self._stop_receiving()
            self._protocol.fail(*_KEEPALIVE_TIMEOUT)
            self._write_library_output()

    # Called by the memory guard.

    def held_bytes(self) -> int:
        """The size of unread answers, also those held back, and of unfinished messages."""
        held = self._transport.get_write_buffer_size() + len(self._unread)
        held += self._outbox.held_back
        if self._library is not None:
            held += self._library.unfinished_bytes()
        return held if self._inbound is None else held + self._inbound.waiting_bytes()

    def restrain(self) -> None:
        """Stop reading, so that it holds no more."""
        if self._inbound is not None:
            self._gate.pause(Pause.MEMORY)

    def release(self) -> None:
        """Read again, after ``restrain``."""
        self._gate.resume(Pause.MEMORY)

    def end_if_left(self) -> None:
        if has_left(self._transport):
            self.drop(*_ABNORMAL_CLOSURE)

    def give_up(self) -> None:
        """End the socket to free its memory."""
        self.drop(*CloseReason.OUT_OF_MEMORY.value)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.address = str(name[0]) if isinstance(name, tuple) else ""
        self._gate = ReadGate(self._transport, self._read_on)
        settings = self._host.settings
        self._outbox = SocketOutbox(
            self, self._transport, self._host.coalescer, settings.max_outbox_bytes
        )
        self._transport.set_write_buffer_limits(
            settings.outbox_high_bytes, settings.outbox_low_bytes
        )
        self._timer = self._loop.call_later(settings.open_timeout_s, self._last_chance)
        self._host.add_socket(self, self._loop.time())

    def _last_chance(self) -> None:
        # After a pause of the whole process, timers are due before the socket is read.
        self._timer = self._loop.call_later(_LAST_CHANCE_S, self._transport.abort)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._host.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received_since_ping = True
        buffer, reads = self._host.read_buffer, self._host.reads
        data = buffer[:nbytes].tobytes()
        if reads.is_over and not self._is_new and not _is_short_control(data):
            self._unread += data
            self._continue_next_turn()
            return
        reads.read(self._receive, data)
        if nbytes == len(buffer):
            self._continue_next_turn()

    def eof_received(self) -> bool:
        if not self.had_handshake and not self._transport.get_write_buffer_size():
            self._transport.abort()
            return False
        self._protocol.receive_eof()
        if self._recipient is not None and not self._is_ending:
            self._host.coalescer.call_after(self._end_after_eof)
            return True
        self._end_after_eof()
        return False

    def _end_after_eof(self) -> None:
        if self._transport.is_closing():
            return
        self._write_library_output()
        # The transport closes once everything has been written, which a client can prevent.
        self._end_soon()
        self._transport.close()

    def pause_writing(self) -> None:
        self._outbox.is_above_high_mark = True
        if self._inbound is not None:
            self._gate.pause(Pause.UNREAD)
        if self._recipient is not None:
            self._recipient.tell(OutboxHigh())

    def resume_writing(self) -> None:
        self._outbox.is_above_high_mark = False
        self.received_since_ping = True
        self._gate.resume(Pause.UNREAD)
        if self._recipient is not None:
            self._recipient.tell(OutboxLow())

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._library is not None:
            self._library.receive_eof()
        self._stop_receiving()
        code_and_reason = self._close_code_and_reason()
        self._release()
        if self._recipient is not None:
            # It has nothing to learn from that if it has ended first.
            self._recipient.offer(SocketClosed(*code_and_reason))

    # Receiving.

    def _receive(self, data: bytes) -> None:
        if self._uses_fast_path:
            frames, taken = whole_text_frames(data, self._max_frame_bytes)
            for frame in frames:
                if self._inbound is not None:
                    self._inbound.put(TextReceived(frame))
            if taken and self._is_new:
                self._note_first_message()
            if len(frames) > _FEW_FRAMES or taken > _LARGE_BYTES:
                self._wait_until_handled()
            if taken == len(data):
                return
            data = data[taken:]
            if len(frames) == MAX_FRAMES:
                self._unread = data
                self._continue_next_turn()
                return
        if self.had_handshake:
            self._receive_by_library(data)
        else:
            self._receive_first(data)

    def _receive_by_library(self, data: bytes) -> None:
        is_pong = len(data) == _PONG_BYTES and data.startswith(_PONG)
        if is_pong and self._is_admitted and self._library is None:
            return
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            self._process(event)
        if protocol.state is OPEN or self._is_ending:
            self._write_library_output()
        elif not self._answers_first:
            # The client has ended it, or broken the protocol, perhaps behind a good request.
            self._answers_first = True
            self._host.coalescer.call_after(self._end_after_answers)
        self._note_unfinished(is_unfinished=not protocol.is_between_messages())
        if protocol.has_more:
            self._continue_next_turn()

    def _end_after_answers(self) -> None:
        if not self._transport.is_closing():
            self._write_library_output()

    def _receive_first(self, data: bytes) -> None:
        if self._first is None:
            self._receive_header(data)
            return
        if not self._first:
            handshake = common_handshake(data)
            if handshake is not None and self._host.accepts(handshake.request):
                self._first = None
                self._accept(handshake)
                return
        first = self._first + data
        protocol = spoken_in(first)
        if protocol is None:
            self._first = first
            return
        self._first = None
        if protocol == "http" and self._host.serves_http:
            self._release()
            self._host.hand_over(self._transport, first)
        else:
            self._receive_header(first)

    def _release(self) -> None:
        """The socket is gone, or another protocol's."""
        self._outbox.release()
        if self._timer is not None:
            self._timer.cancel()
        self._gate.release()
        self._host.remove_socket(self)
        if self._library is not None:
            self._library.release()

    def _accept(self, handshake: Handshake) -> None:
        self._had_handshake = self._uses_fast_path = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.write(handshake.response)
        self._host.open(self, handshake.request)
        if handshake.rest and self.is_open:
            self._receive(handshake.rest)

    def _receive_header(self, data: bytes) -> None:
        protocol = self._protocol
        rest = protocol.receive_header(data)
        for event in protocol.events_received():
            self._finish_handshake(cast(Request, event))
        self._write_library_output()
        if protocol.state is OPEN and (rest or protocol.has_more):
            self._receive(rest)

    def _finish_handshake(self, request: Request) -> None:
        read = read_by_library(request)
        self._protocol.send_response(self._host.answer_handshake(self, request, read))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write_library_output()
        if self._protocol.state is OPEN:
            self._host.open(self, read)

    def _note_unfinished(self, *, is_unfinished: bool) -> None:
        """Start or stop the time that the client has for the rest of a message."""
        if self._inbound is None:
            return
        self._uses_fast_path = not is_unfinished
        if not is_unfinished:
            self._note_first_message()
        if is_unfinished and self._timer is None:
            self._start_message_timer()
        elif not is_unfinished and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note_first_message(self) -> None:
        self._is_new = False
        self._max_frame_bytes = self._host.settings.max_frame_bytes

    def _start_message_timer(self) -> None:
        self._timer = self._loop.call_later(
            self._host.settings.message_timeout_s, self._end_unfinished
        )

    def _end_unfinished(self) -> None:
        # The client cannot finish while its socket is not read; but in need of memory it is ended.
        if self._gate.is_open or self._gate.is_paused_for(Pause.MEMORY):
            self.close(*CloseReason.UNFINISHED.value)
        else:
            self._start_message_timer()

    def _process(self, event: Event) -> None:
        if self._inbound is None or not isinstance(event, Frame):
            return
        if event.opcode is TEXT:
            self._inbound.put(TextReceived(cast(bytes, event.data)))
            if len(event.data) > _LARGE_BYTES:
                self._wait_until_handled()
        elif event.opcode is BINARY:
            self._inbound.put(BinaryReceived(len(event.data)))

    def _continue_next_turn(self) -> None:
        """Let other sockets have their turn: libuv would read a busy one 32 times in a row."""
        if not self._awaits_turn:
            self._awaits_turn = True
            self._gate.pause(Pause.NEXT_TURN)
            # What waits in the socket, or in the library, may be any amount.
            self._host.reads.put(self._continue, len(self._unread) or _LARGE_BYTES)

    def _continue(self) -> None:
        self._awaits_turn = False
        if self._gate.is_paused_only_for(Pause.NEXT_TURN) and self._has_unread():
            data, self._unread = self._unread, b""
            self._host.reads.read(self._receive, data)
        if not self._awaits_turn:
            self._gate.resume(Pause.NEXT_TURN)

    def _has_unread(self) -> bool:
        has_more = self._library is not None and self._library.has_more
        return (bool(self._unread) or has_more) and not self._transport.is_closing()

    def _read_on(self) -> None:
        """Reading may continue: with the rest of the last read, or from the socket."""
        if self._inbound is not None and self._has_unread():
            self._continue_next_turn()
        else:
            self._transport.resume_reading()

    def _wait_until_handled(self) -> None:
        """Do not read until the actor has handled all messages so far.

        Otherwise its mailbox, and the answers to it, would grow faster than they are handled.
        """
        if self._inbound is not None and not self._gate.is_paused_for(Pause.UNHANDLED):
            self._gate.pause(Pause.UNHANDLED)
            self._inbound.put(ReadHandled())

    def _stop_receiving(self) -> None:
        self._uses_fast_path = False
        if self._unread:
            self._protocol.keep(self._unread)
            self._unread = b""
        self._gate.open()
        if self._inbound is not None:
            self._inbound.stop()
            self._inbound = None

    def _close_without_actor(self) -> None:
        self.close(*CloseReason.INTERNAL.value)

    # Writing and ending.

    def _write_library_output(self) -> None:
        """Write the library's frames behind those that were sent before."""
        library = self._library
        if library is None:
            return
        writes = library.data_to_send()
        if writes:
            self._outbox.flush()
            data = b"".join(writes)
            if data:
                self._transport.write(data)
            if not writes[-1]:
                # A socket that has just been reset cannot be shut down any more.
                with contextlib.suppress(OSError, RuntimeError):
                    self._transport.write_eof()
        if library.close_expected():
            self._end_soon()

    def _end_soon(self) -> None:
        """Abort the socket unless it ends within the close timeout, or reads on."""
        self._outbox.shut()
        if not self._is_ending:
            self._is_ending = True
            self._start_close_timer(self._transport.get_write_buffer_size(), _MAX_CLOSE_EXTENSIONS)

    def _start_close_timer(self, unsent: int, extensions: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(
            self._host.settings.close_timeout_s, self._abort_unless_read, unsent, extensions
        )

    def _abort_unless_read(self, unsent_before: int, extensions: int) -> None:
        # A long answer on its way over a slow line is not cut off; a client that stalls is.
        unsent = self._transport.get_write_buffer_size()
        if unsent < unsent_before and extensions > 0:
            self._start_close_timer(unsent, extensions - 1)
        else:
            self._transport.abort()

    def _close_code_and_reason(self) -> tuple[int, str]:
        if self._dropped_as is not None:
            return self._dropped_as
        # If the client started the handshake, the library has echoed its code and reason.
        close = None if self._library is None else self._library.close_sent
        return (int(close.code), close.reason) if close is not None else _ABNORMAL_CLOSURE


def _is_short_control(data: bytes) -> bool:
    """Whether it begins with a control frame, and is so short that it takes no time."""
    return len(data) <= _SHORT_BYTES and data[0] >= _FIRST_CONTROL


def _cut(reason: str) -> str:
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
