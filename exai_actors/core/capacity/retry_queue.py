"""Requests that failed and wait for the instant of their next try."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.ids import RequestKey, SessionId

J = TypeVar("J", bound=ScheduledCall)


class RetryQueue(Generic[J]):
    """Bounded by what was granted before: each of these once held a permit.

    ``due`` is one and the same list for good, to be looked into.
    """

    __slots__ = ("_number", "due")

    def __init__(self) -> None:
        self.due: list[tuple[float, int, J]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self.due)

    def __iter__(self) -> Iterator[J]:
        return (job for _, _, job in self.due)

    @property
    def next_at(self) -> float:
        """When the first is due; inf when there is none."""
        return self.due[0][0] if self.due else inf

    def put(self, job: J, due: float) -> None:
        self._number += 1
        heapq.heappush(self.due, (due, self._number, job))

    def take(self, now: float) -> J | None:
        """One that is due, the earliest first."""
        if self.due and self.due[0][0] <= now:
            return heapq.heappop(self.due)[2]
        return None

    def remove(self, session: SessionId, request: RequestKey) -> J | None:
        """Take one out; None when it is not here. Walks: tries again are few."""
        for index, (_, _, job) in enumerate(self.due):
            if job.request == request and job.flow.session == session:
                del self.due[index]
                heapq.heapify(self.due)
                return job
        return None

    def remove_session(self, session: SessionId) -> list[J]:
        """Take all of a session out."""
        gone = [job for _, _, job in self.due if job.flow.session == session]
        if gone:
            self.due[:] = [each for each in self.due if each[2].flow.session != session]
            heapq.heapify(self.due)
        return gone
