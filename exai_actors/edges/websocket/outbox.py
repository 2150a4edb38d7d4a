"""The way out to one socket: collects the frames of a turn and writes them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from exai_actors.edges.websocket.fast_frames import text_frame_header
from exai_actors.wire.clients.close_reasons import CloseReason

# Turns of 2 ms each: what a frame may wait for its companions.
_MAX_POSTPONED = 4


class TurnEnd:
    """Flushes every outbox that was sent to in a turn, once, soon after that turn.

    ``schedule(callback)`` must call ``callback`` once, on the loop's thread, behind the first steps
    of tasks that were made before (the loop's ``call_soon`` does): writing to clients takes longer
    than all else in a turn, and a call that was granted a permit in it is to leave before that.
    What answers a batch of requests is flushed with the batch: a permit that is granted at once was
    free, so nobody waits for it. While ``is_busy()`` says that actors still have work, a flush
    waits for them, a few turns at most: the next frame of the same answer then needs no second
    write.
    """

    __slots__ = ("_dirty", "_held", "_is_busy", "_postponed", "_schedule")

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], object],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._schedule = schedule
        self._is_busy = is_busy
        self._postponed = 0
        self._held = False
        self._dirty: list[SocketOutbox] = []

    def add(self, outbox: SocketOutbox) -> None:
        if not (self._dirty or self._held):
            self._schedule(self.flush)
        self._dirty.append(outbox)

    def hold(self) -> None:
        """A batch of requests begins; what is sent up to ``release`` is flushed by that."""
        self._held = not self._dirty

    def release(self) -> None:
        if self._held:
            self._held = False
            if self._dirty:
                self.flush()

    def flush(self) -> None:
        if self._postponed < _MAX_POSTPONED and self._is_busy():
            self._postponed += 1
            self._schedule(self.flush)
            return
        self._postponed = 0
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            outbox.flush()


class Closable(Protocol):
    """A socket as its outbox sees it."""

    def close(self, code: int, reason: str) -> None:
        """Write what is pending, then start the closing handshake; nothing if already closing."""

    def drop(self, code: int, reason: str) -> None:
        """End it at once; ``code`` and ``reason`` are for our side only."""


class _Gone:
    def close(self, code: int, reason: str) -> None: ...

    def drop(self, code: int, reason: str) -> None: ...


_GONE = _Gone()


class SocketOutbox:
    """One socket's unsent frames; fulfils ``ports.Outbox``.

    More than ``limit_bytes`` that the client does not read end the connection as slow consumer.
    """

    __slots__ = (
        "_limit_bytes",
        "_pending",
        "_socket",
        "_transport",
        "_turn_end",
        "_written_behind",
        "is_open",
        "is_over_mark",
    )

    def __init__(
        self,
        socket: Closable,
        transport: asyncio.WriteTransport,
        turn_end: TurnEnd,
        limit_bytes: int,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._turn_end = turn_end
        self._limit_bytes = limit_bytes
        self._pending: list[bytes] = []
        self._written_behind = 0
        self.is_open = True
        self.is_over_mark = False

    def send(self, frame: bytes, /) -> None:
        if not self.is_open:
            return
        pending = self._pending
        if not pending:
            self._turn_end.add(self)
        pending.append(text_frame_header(len(frame)))
        pending.append(frame)

    def close(self, code: int, reason: str) -> None:
        self._socket.close(code, reason)

    def bytes_taken(self) -> int:
        return self._written_behind - self._transport.get_write_buffer_size()

    def abort(self) -> None:
        self._socket.drop(*CloseReason.SLOW_CONSUMER.value)

    def flush(self) -> None:
        """Hand what was sent so far to the transport: after a turn, or before a close."""
        if not self._pending:
            return
        written = b"".join(self._pending)
        self._pending.clear()
        self._transport.write(written)
        # The transport says when it is over its high mark, and the limit lies above that.
        if self.is_over_mark:
            self._written_behind += len(written)
            if self._transport.get_write_buffer_size() > self._limit_bytes:
                self.abort()

    def release(self) -> None:
        """Let go of the socket, which refers to this and is gone: closing it has no effect."""
        self.shut()
        self._socket = _GONE

    def shut(self) -> None:
        """Take nothing any more and forget what has not been flushed."""
        self.is_open = False
        self._pending.clear()
