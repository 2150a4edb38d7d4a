"""A socket behind asyncio's transport interface, driven by an EpollPoller."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any, cast

from exai_actors.edges.websocket.epoll_poller import IN, OUT, EpollPoller

_HIGH_BYTES = 64 * 1024


# Whose protocol has heard of the end; keeps nothing.
_OVER = asyncio.BufferedProtocol()


class EpollTransport(asyncio.Transport):
    """What asyncio's own socket transport is, for a BufferedProtocol that reads into the poller's
    buffer: the same calls in the same order, without its cost per read and write.

    ``connection_lost`` comes in a callback of the loop, never from inside another call.
    """

    __slots__ = (
        "_buffer",
        "_fd",
        "_has_sent_eof",
        "_high",
        "_is_closing",
        "_is_lost",
        "_is_over",
        "_is_paused",
        "_loop",
        "_low",
        "_poller",
        "_protocol",
        "_send",
        "_sends_at_once",
        "_socket",
        "_wants_input",
        "buffer_updated",
        "recv_into",
    )

    recv_into: Callable[[memoryview], int]
    buffer_updated: Callable[[int], None]

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: EpollPoller,
        accepted: socket.socket,
        protocol: asyncio.BufferedProtocol,
        peername: object,
    ) -> None:
        """``accepted`` must not block. ``start`` is to be called next."""
        super().__init__({"peername": peername})
        self._loop = loop
        self._poller = poller
        self._socket = accepted
        self._fd = accepted.fileno()
        self._send = accepted.send
        self.recv_into = accepted.recv_into
        self.set_protocol(protocol)
        self._buffer = bytearray()
        self._low, self._high = _HIGH_BYTES // 4, _HIGH_BYTES
        self._is_over = False
        self._is_paused = False
        self._has_sent_eof = False
        self._is_closing = False
        self._is_lost = False
        self._wants_input = False
        # Nothing waits, and the stream is open: a write goes straight to the socket.
        self._sends_at_once = True
        poller.enter(self)

    def start(self) -> None:
        """Introduce the protocol, then read."""
        try:
            self._protocol.connection_made(self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - ends its own connection only
            self._fail(exc, "protocol.connection_made() failed")
        self._wants_input = True
        self._watch()

    # What asyncio.Transport promises.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "socket":
                return TransportSocket(self._socket)
            case "sockname":
                return self._socket.getsockname() if self._socket.fileno() >= 0 else default
        return super().get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.BufferedProtocol)
        self._protocol = protocol
        self.buffer_updated = protocol.buffer_updated

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._watch()
        if not self._buffer:
            self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def is_reading(self) -> bool:
        return not self._is_closing and not self._is_paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._is_paused = True
            self._watch()

    def resume_reading(self) -> None:
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._watch()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._low, self._high = low, high
        self._pause_protocol_if_over()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._sends_at_once:
            self._write_later(data)
            return
        send = self._send
        try:
            sent = send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            self._fail(exc, "")
            return
        if sent != len(data):
            self._sends_at_once = False
            self._buffer += memoryview(data)[sent:]
            self._watch()
            self._pause_protocol_if_over()

    def write_eof(self) -> None:
        if self._is_closing or self._has_sent_eof:
            return
        self._has_sent_eof = True
        self._sends_at_once = False
        if not self._buffer:
            self._socket.shutdown(socket.SHUT_WR)

    # Called by the poller.

    def end_of_stream(self) -> None:
        if self._protocol.eof_received():
            self._wants_input = False
            self._watch()
        else:
            self.close()

    def read_failed(self, exc: BaseException, size: int) -> None:
        if size < 0:
            if not isinstance(exc, (BlockingIOError, InterruptedError)):
                self._fail(exc, "reading failed")
        elif size == 0:
            self._fail(exc, "protocol.eof_received() failed")
        else:
            self._fail(exc, "protocol.buffer_updated() failed")

    def ready(self, event: int) -> None:
        if event == IN or not self._buffer:
            return
        try:
            del self._buffer[: self._send(self._buffer)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._fail(exc, "")
            return
        self._resume_protocol_if_under()
        if self._buffer or self._is_lost:
            return
        self._watch()
        if self._is_closing:
            self._lose(None)
        elif self._has_sent_eof:
            self._shut_down()
        else:
            self._sends_at_once = True

    def _write_later(self, data: bytes | bytearray | memoryview) -> None:
        if self._has_sent_eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self._is_lost:
            self._buffer += data
            self._pause_protocol_if_over()

    def _watch(self) -> None:
        mask = IN if self._wants_input and self.is_reading() else 0
        if self._buffer:
            mask |= OUT
        self._poller.watch(self._fd, mask, self, self)

    def _pause_protocol_if_over(self) -> None:
        if len(self._buffer) > self._high and not self._is_over:
            self._is_over = True
            self._tell(self._protocol.pause_writing)

    def _resume_protocol_if_under(self) -> None:
        if self._is_over and len(self._buffer) <= self._low:
            self._is_over = False
            self._tell(self._protocol.resume_writing)

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - asyncio reports it and goes on
            self._report(exc, f"protocol.{callback.__name__}() failed")

    # Ending.

    def _shut_down(self) -> None:
        # A socket that has just been reset cannot be shut down any more; reading it tells.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _fail(self, exc: BaseException, what: str) -> None:
        # A broken connection is nobody's fault, and the protocol is told.
        if not isinstance(exc, OSError):
            self._report(exc, what)
        self._lose(exc)

    def _report(self, exc: BaseException, what: str) -> None:
        self._loop.call_exception_handler(
            {"message": what, "exception": exc, "transport": self, "protocol": self._protocol}
        )

    def _lose(self, exc: BaseException | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._sends_at_once = False
        self._buffer.clear()
        self._watch()
        self._loop.call_soon(self._end, exc)

    def _end(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(cast(Exception | None, exc))
        finally:
            self._socket.close()
            # They would keep each other until the collector comes by.
            del self._send, self.recv_into, self.buffer_updated
            self._protocol = _OVER
            self._poller.leave(self)
