"""Lets data that has arrived win over a timer that is due.

After the process stood still (SIGSTOP, a suspended machine, a long turn), a loop runs its timers
before it has read the sockets: silence that only we caused would look like that of the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

TURNS = 10
"""The loop reads in the first one; the next ones pass the data through tasks and actors."""
LATE_S = 0.1
"""A timer that fires this late fires after a time in which the loop did not read."""


class AfterReading:
    """Calls back in a few turns, when the loop has read the sockets and their readers have run."""

    __slots__ = ("_callback", "_context", "_handle", "_loop", "_turns_left")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        callback: Callable[[], object],
        context: Context | None = None,
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._context = context
        self._turns_left = TURNS
        self._handle: asyncio.Handle | None = loop.call_soon(self._turn, context=context)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._release()

    def _turn(self) -> None:
        self._turns_left -= 1
        if self._turns_left:
            self._handle = self._loop.call_soon(self._turn, context=self._context)
        else:
            callback = self._callback
            self._release()
            callback()

    def _release(self) -> None:
        # What it refers to refers to it: together they would be left to the cycle collector.
        self._handle = None
        self._callback = _nothing


class PatientTimer:
    """As ``loop.call_later``; calls back after reading if it fires late."""

    __slots__ = ("_callback", "_context", "_due", "_handle", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay_s: float,
        callback: Callable[[], object],
        context: Context | None = None,
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._context = context
        self._due = loop.time() + delay_s
        self._handle: asyncio.Handle | AfterReading | None = loop.call_at(
            self._due, self._fire, context=context
        )

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._release()

    def _fire(self) -> None:
        if self._loop.time() - self._due > LATE_S:
            self._handle = AfterReading(self._loop, self._run, self._context)
        else:
            self._run()

    def _run(self) -> None:
        callback = self._callback
        self._release()
        callback()

    def _release(self) -> None:
        self._handle = None
        self._callback = _nothing


def _nothing() -> None:
    """In place of a callback that will not be called any more."""
