"""Pings for all sockets from one timer, and the end of those that have fallen silent."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Pingable(Protocol):
    """A socket as its keepalive sees it.

    ``heard`` is set to True by the socket whenever bytes arrive.
    """

    heard: bool

    def ping(self) -> None: ...

    def owes_an_answer(self) -> bool:
        """False while its silence means nothing: it is not read from, or has much to read first."""

    def fall_silent(self) -> None:
        """End it: nothing came within the timeout after a ping."""


class Keepalive:
    """Pings every socket each ``interval_s``; nothing within ``timeout_s`` of a ping is the end.

    Any byte proves life, not only a pong: a pong waits behind a long message on a slow line.
    One timer and two queues, in order by construction since both spans are constant, instead of
    a task per socket.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval_s: float, timeout_s: float
    ) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._ping_at: dict[Pingable, float] = {}
        self._answer_by: dict[Pingable, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: Pingable) -> None:
        self._ping_at[socket] = self._loop.time() + self._interval_s
        self._arm()

    def remove(self, socket: Pingable) -> None:
        self._ping_at.pop(socket, None)
        self._answer_by.pop(socket, None)
        if not self._ping_at and not self._answer_by:
            self.stop()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_due(self, now: float) -> None:
        """Do what is due at ``now``; what the timer calls."""
        for socket in _due(self._answer_by, now):
            del self._answer_by[socket]
            if not socket.heard and socket.owes_an_answer():
                socket.fall_silent()
        for socket in _due(self._ping_at, now):
            del self._ping_at[socket]
            self._ping_at[socket] = now + self._interval_s
            if socket not in self._answer_by:
                socket.heard = False
                self._answer_by[socket] = now + self._timeout_s
            socket.ping()

    def _arm(self) -> None:
        if self._timer is None and (self._ping_at or self._answer_by):
            queues = (self._ping_at, self._answer_by)
            first = min(next(iter(queue.values())) for queue in queues if queue)
            # Sockets that are due within one tick share it.
            tick = self._timeout_s / 20
            self._timer = self._loop.call_at(max(first, self._loop.time() + tick), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.run_due(self._loop.time())
        self._arm()


def _due(queue: dict[Pingable, float], now: float) -> list[Pingable]:
    due = []
    for socket, at in queue.items():
        if at > now:
            break
        due.append(socket)
    return due
