"""Calls that failed and wait for the instant of their next attempt."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.ids import RequestKey, SessionId

C = TypeVar("C", bound=ScheduledCall)


class RetryQueue(Generic[C]):
    """Needs no limit: each of its calls has held a permit."""

    __slots__ = ("_last_number", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[float, int, C]] = []
        """A heap: when each call is due, its number, and the call. To be changed only here."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def __iter__(self) -> Iterator[C]:
        return (call for _, _, call in self.waiting)

    @property
    def next_at(self) -> float:
        """When the first call is due; inf when there is none."""
        return self.waiting[0][0] if self.waiting else inf

    def put(self, call: C, due: float) -> None:
        self._last_number += 1
        heapq.heappush(self.waiting, (due, self._last_number, call))

    def take(self, now: float) -> C | None:
        """The earliest call that is due."""
        if self.waiting and self.waiting[0][0] <= now:
            return heapq.heappop(self.waiting)[2]
        return None

    def hasten(self, now: float, model: str | None = None) -> None:
        """Make the calls of a model, or else all, due at ``now`` unless they are due before."""
        self.waiting[:] = [
            (min(due, now) if model in (None, call.model) else due, number, call)
            for due, number, call in self.waiting
        ]
        heapq.heapify(self.waiting)

    def due(self, session: SessionId, request: RequestKey) -> tuple[float, C] | None:
        """A waiting call and when it is due; None if it is not here."""
        for due, _, call in self.waiting:
            if call.request == request and call.flow.session == session:
                return due, call
        return None

    def remove(self, session: SessionId, request: RequestKey) -> C | None:
        """Remove a call; None if it is not here. A linear search: retries are few."""
        for index, (_, _, call) in enumerate(self.waiting):
            if call.request == request and call.flow.session == session:
                del self.waiting[index]
                heapq.heapify(self.waiting)
                return call
        return None

    def forget(self, session: SessionId) -> list[C]:
        """Remove and return all calls of a session."""
        removed = [call for call in self if call.flow.session == session]
        if removed:
            self.waiting[:] = [each for each in self.waiting if each[2].flow.session != session]
            heapq.heapify(self.waiting)
        return removed
