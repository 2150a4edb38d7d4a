"""A server's connection on a transport in memory: the test decides about every byte and turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.frames import Frame

from exai_actors.edges.websocket.connection import WebSocketConnection
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.messages.connection import ConnectionMessage, ReadHandled
from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.ports import Outbox, Peer
from exai_actors.testing.probe import Probe
from tests.edges.websocket.client_frames import HANDSHAKE, server_frames


class MemoryTransport(asyncio.Transport):
    """Records all written bytes; they stay buffered while ``reads`` is False: the client stalls."""

    def __init__(self, protocol: asyncio.BaseProtocol, address: str = "127.0.0.1") -> None:
        super().__init__({"peername": (address, 50000)})
        self.protocol = protocol
        self.reads = True
        self.read = b""
        self.buffer = b""
        self.writes = 0
        self.is_reading_now = True
        self.has_ended = False
        self.sent_eof = False
        self._marks = (64 * 1024, 16 * 1024)
        self._is_over = False
        self._is_closing = False

    def write(self, data: Any) -> None:
        assert not self.sent_eof, "written after the end of the stream"
        self.writes += 1
        self.buffer += data
        self._settle()

    def client_reads(self, size: int | None = None) -> None:
        """The client reads this many bytes, or everything from now on."""
        if size is None:
            self.reads = True
        else:
            self.read += self.buffer[:size]
            self.buffer = self.buffer[size:]
        self._settle()

    def _settle(self) -> None:
        if self.reads:
            self.read, self.buffer = self.read + self.buffer, b""
        high, low = self._marks
        if len(self.buffer) > high and not self._is_over:
            self._is_over = True
            self.protocol.pause_writing()
        elif len(self.buffer) <= low and self._is_over:
            self._is_over = False
            self.protocol.resume_writing()
        if self._is_closing and not self.buffer:
            self.lose()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert low is not None
        self._marks = (high, low)

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def write_eof(self) -> None:
        self.sent_eof = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        assert not self._is_closing, "uvloop raises an error"
        self.is_reading_now = True

    def is_reading(self) -> bool:
        return self.is_reading_now

    def is_closing(self) -> bool:
        return self.has_ended or self._is_closing

    def abort(self) -> None:
        self.lose()

    def close(self) -> None:
        """End the socket once everything has been read."""
        self._is_closing = True
        if not self.buffer:
            self.lose()

    def lose(self) -> None:
        """The socket ends."""
        if not self.has_ended:
            self.has_ended = True
            self.buffer = b""
            self.protocol.connection_lost(None)


class Turns:
    """Collects the callbacks for the end of a turn; the test says when the turn ends.

    In place of the actors it counts how often they were to run early.
    """

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []
        self.early = 0

    def is_busy(self) -> bool:
        return False

    def run_early(self) -> None:
        self.early += 1

    def schedule(self, callback: Callable[[], None]) -> None:
        self.scheduled.append(callback)

    def end(self) -> None:
        scheduled, self.scheduled = self.scheduled, []
        for callback in scheduled:
            callback()


class ConnectionProbe(Probe[ConnectionMessage]):
    """Handles each message immediately, so the socket is read on after a large read."""

    def __init__(self) -> None:
        super().__init__("connection")
        self.handles_reads = True
        self.outbox: Outbox | None = None

    def offer(self, message: ConnectionMessage, /) -> Offer:
        if isinstance(message, ReadHandled) and self.answer == "accepted":
            if self.handles_reads:
                assert self.outbox is not None
                self.outbox.read_on()
            return "accepted"
        return super().offer(message)


class MemorySocket:
    """One client of a server that does not listen. ``probe`` takes the place of its actor."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None, **settings: Any) -> None:
        self.turns = Turns()
        self.probe = ConnectionProbe()
        self.peer: Peer | None = None
        self.outbox: Outbox | None = None
        self.server = WebSocketServer(
            host="127.0.0.1",
            port=0,
            open_connection=self._open,
            schedule_flush=self.turns.schedule,
            actors=self.turns,
            settings=WebSocketSettings(**settings),
            # No turn of the loop lasts too long, however busy the machine is.
            now=lambda: 0.0,
        )
        self.connection = WebSocketConnection(self.server, loop or asyncio.get_running_loop())
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(self.transport)

    def _open(self, peer: Peer, outbox: Outbox) -> Recipient[ConnectionMessage]:
        self.peer = peer
        self.outbox = self.probe.outbox = outbox
        return self.probe

    def opened(self) -> Outbox:
        """Perform the handshake; return the outbox that its actor was given."""
        self.receive(HANDSHAKE)
        assert self.outbox is not None
        return self.outbox

    def receive(self, data: bytes) -> None:
        """The server's socket becomes readable with these bytes."""
        buffer = self.connection.get_buffer(-1)
        for start in range(0, len(data), len(buffer)):
            if self.transport.has_ended:
                return
            piece = data[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))
        if not self.connection.is_open:
            self.turns.end()

    def client_leaves(self) -> None:
        """The client closes its socket and the loop sees it."""
        if not self.transport.has_ended:
            self.connection.eof_received()
            self.transport.lose()

    def frames(self) -> list[Frame]:
        """The frames that the client has read so far."""
        return server_frames(self.transport.read)
