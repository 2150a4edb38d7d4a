"""Frames on their way to one socket: collected during a turn and written together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from exai_actors.edges.websocket.fast_frames import text_frame_header
from exai_actors.wire.clients.close_reasons import CloseReason

MAX_POSTPONED_S = 0.008
"""How long a frame waits for others of the same answer: four ordinary turns."""
MAX_TURNS_BEFORE_END = 20
"""How many turns an end waits for answers while actors are busy. An answer takes a few, and in a
process that is stopped now and then, these take any time.
"""


class WriteCoalescer:
    """Writes the frames that all outboxes got in one turn, once, soon after that turn.

    ``schedule(callback)`` must call ``callback`` once on the loop's thread, after the first steps
    of tasks that already exist, as the loop's ``call_soon`` does: writing to many clients takes
    longer than the rest of a turn, and calls that were granted a permit in it should leave first.
    While ``is_busy()`` says that actors have work, writing waits for them, MAX_POSTPONED_S at most:
    frames of one answer that are sent in several turns then still need one write. Turns may take
    longer than that; then the first one writes.
    """

    __slots__ = ("_afterwards", "_is_busy", "_now", "_outboxes", "_schedule", "_since", "_turns")

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], object],
        is_busy: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._is_busy = is_busy
        self._now = now
        self._since = 0.0
        """When the first of the frames came that are not written yet."""
        self._outboxes: list[SocketOutbox] = []
        self._afterwards: list[Callable[[], None]] = []
        self._turns = 0
        """For how many turns the oldest of ``_afterwards`` has waited beyond the writing."""

    def add(self, outbox: SocketOutbox) -> None:
        """Write this outbox too; called once between two writes of it."""
        if not self._outboxes and not self._afterwards:
            self._begin()
        self._outboxes.append(outbox)

    def call_after(self, callback: Callable[[], None]) -> None:
        """Call once after the writing of the answers to earlier requests.

        It waits until no actor has work, for MAX_TURNS_BEFORE_END at most.
        """
        if not self._outboxes and not self._afterwards:
            self._begin()
        self._afterwards.append(callback)

    def _begin(self) -> None:
        self._since = self._now()
        self._schedule(self._write)

    def _write(self) -> None:
        is_busy = self._is_busy()
        if is_busy and self._now() - self._since < MAX_POSTPONED_S:
            self._schedule(self._write)
            return
        outboxes, self._outboxes = self._outboxes, []
        for outbox in outboxes:
            outbox.flush()
        if not self._afterwards:
            return
        if is_busy and self._turns < MAX_TURNS_BEFORE_END:
            self._turns += 1
            self._schedule(self._write)
            return
        self._turns = 0
        afterwards, self._afterwards = self._afterwards, []
        for callback in afterwards:
            callback()


class Closable(Protocol):
    """A socket as its outbox sees it."""

    def admit(self) -> None:
        """The client is no longer a stranger."""

    def close(self, code: int, reason: str) -> None:
        """Write the pending frames, then start the closing handshake; no effect if closing."""

    def drop(self, code: int, reason: str) -> None:
        """End the socket without a closing handshake; only our side learns code and reason."""

    def read_on(self) -> None:
        """Read from the socket again: the actor has handled all messages so far."""


class _ClosedSocket:
    def admit(self) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def drop(self, code: int, reason: str) -> None: ...

    def read_on(self) -> None: ...


_CLOSED_SOCKET = _ClosedSocket()


class SocketOutbox:
    """One socket's unsent frames; implements ``ports.Outbox``.

    A client that leaves more than ``limit_bytes`` unread is dropped as a slow consumer.
    """

    __slots__ = (
        "_coalescer",
        "_limit_bytes",
        "_pending",
        "_socket",
        "_transport",
        "_written_above_mark",
        "held_back",
        "is_above_high_mark",
        "is_open",
    )

    def __init__(
        self,
        socket: Closable,
        transport: asyncio.WriteTransport,
        coalescer: WriteCoalescer,
        limit_bytes: int,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._coalescer = coalescer
        self._limit_bytes = limit_bytes
        self._pending: list[bytes] = []
        self._written_above_mark = 0
        self.held_back = 0
        self.is_open = True
        self.is_above_high_mark = False

    def admit(self) -> None:
        self._socket.admit()

    def send(self, frame: bytes, /) -> None:
        if not self.is_open:
            return
        if not self._pending:
            self._coalescer.add(self)
        self._pending.append(text_frame_header(len(frame)))
        self._pending.append(frame)

    def send_now(self, frame: bytes, /) -> None:
        if self._pending or self.is_above_high_mark:
            self.send(frame)
        elif self.is_open:
            self._transport.write(text_frame_header(len(frame)) + frame)

    def close(self, code: int, reason: str) -> None:
        self._socket.close(code, reason)

    def bytes_taken(self) -> int:
        return self._written_above_mark - self._transport.get_write_buffer_size()

    def read_on(self) -> None:
        self._socket.read_on()

    def abort(self) -> None:
        self._socket.drop(*CloseReason.SLOW_CONSUMER.value)

    def flush(self) -> None:
        """Give the transport all pending frames: at the end of a turn, or before a close."""
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._transport.write(data)
        # The limit lies above the high mark, which the transport reports.
        if self.is_above_high_mark:
            self._written_above_mark += len(data)
            if self._transport.get_write_buffer_size() > self._limit_bytes:
                self.abort()

    def shut(self) -> None:
        """Drop the pending frames, and all later ones."""
        self.is_open = False
        self._pending.clear()

    def release(self) -> None:
        """Break the reference cycle with the socket, which is gone; closing it has no effect."""
        self.shut()
        self._socket = _CLOSED_SOCKET
