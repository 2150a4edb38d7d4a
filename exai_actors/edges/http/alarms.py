"""The timeouts of all calls to a service, on one timer.

Reading moves the time at which a call is due, and no timer: whether something has arrived shows
when the timer fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import inf
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """A call, as its timer sees it."""

    def next_due(self) -> float:
        """When it is due, in the loop's time. May become later at any time."""

    def look(self) -> None:
        """It is due."""


T = TypeVar("T", bound=Timed)


class Alarms(Generic[T]):
    """Looks at each of the calls in it when that is due. To be made on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: set[T] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._calls))

    def add(self, call: T, due: float) -> None:
        self._calls.add(call)
        if due < self._timer_at:
            self.ring_at(due)

    def discard(self, call: T) -> None:
        self._calls.discard(call)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, inf

    def ring_at(self, due: float) -> None:
        """A call is due earlier than before."""
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, inf
        now, soonest = self._loop.time(), inf
        for call in self:
            due = call.next_due()
            if due <= now:
                call.look()
            elif due < soonest:
                soonest = due
        if soonest < inf:
            self.ring_at(soonest)
