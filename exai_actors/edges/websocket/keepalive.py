"""Keepalive for all sockets from one timer: pings, and the end of sockets that do not react."""

from __future__ import annotations

import asyncio
from typing import Protocol

from exai_actors.runtime import AfterReading, Cancellable


class Pingable(Protocol):
    """A socket as its keepalive sees it.

    The socket sets ``received_since_ping`` to True whenever bytes arrive.
    """

    received_since_ping: bool

    def ping(self) -> None: ...

    def expects_pong(self) -> bool:
        """False while silence proves nothing: we do not read, or the client has much to read."""

    def fail_keepalive(self) -> None:
        """Close it: nothing arrived within the timeout after a ping."""


class Keepalive:
    """Pings each socket every ``interval_s`` and closes those silent for ``timeout_s`` after it.

    Any byte proves that a client is alive, not only a pong, which waits behind a long message on a
    slow line. One timer and two queues serve all sockets; both spans are constant, so the queues
    are in order of time by construction.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval_s: float, timeout_s: float
    ) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._ping_at: dict[Pingable, float] = {}
        self._pong_by: dict[Pingable, float] = {}
        self._timer: Cancellable | None = None

    def add(self, socket: Pingable) -> None:
        self._ping_at[socket] = self._loop.time() + self._interval_s
        self._start_timer()

    def remove(self, socket: Pingable) -> None:
        self._ping_at.pop(socket, None)
        self._pong_by.pop(socket, None)
        if not self._ping_at and not self._pong_by:
            self.stop()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_due(self, now: float) -> None:
        """Send the pings and fail the sockets that are due at ``now``."""
        for socket in _due(self._pong_by, now):
            del self._pong_by[socket]
            if not socket.received_since_ping and socket.expects_pong():
                socket.fail_keepalive()
        for socket in _due(self._ping_at, now):
            del self._ping_at[socket]
            self._ping_at[socket] = now + self._interval_s
            # A timeout longer than the interval counts from the first ping without a reaction.
            if socket not in self._pong_by:
                socket.received_since_ping = False
                self._pong_by[socket] = now + self._timeout_s
            socket.ping()

    def _start_timer(self) -> None:
        if self._timer is None and (self._ping_at or self._pong_by):
            queues = (self._ping_at, self._pong_by)
            first = min(next(iter(queue.values())) for queue in queues if queue)
            # Sockets that are due within one tick share it.
            tick = self._timeout_s / 20
            self._timer = self._loop.call_at(max(first, self._loop.time() + tick), self._on_timer)

    def _on_timer(self) -> None:
        # A pong may have arrived that is still to be read, as after a stop of the process.
        self._timer = AfterReading(self._loop, self._after_reading)

    def _after_reading(self) -> None:
        self._timer = None
        self.run_due(self._loop.time())
        self._start_timer()


def _due(queue: dict[Pingable, float], now: float) -> list[Pingable]:
    due = []
    for socket, at in queue.items():
        if at > now:
            break
        due.append(socket)
    return due
