"""Which waiting calls have their places reported, in bounded steps.

Each call to ``due`` walks along at most MAX_WALK places: exact places cost a walk over all before
them. Those further behind are estimated, the calls of one session at a time, in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from math import inf
from operator import attrgetter
from typing import Generic, TypeVar

from exai_actors.core.capacity.flows import Flow
from exai_actors.core.capacity.pool import Pool
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.capacity.wait_estimates import WaitEstimates

C = TypeVar("C", bound=ScheduledCall)

MAX_WALK = 500
"""Places that are found out exactly in one step."""
MAX_REPORTS = 100
"""Places that are reported in one step: each report crosses the session to a socket."""

_order = attrgetter("order")


class PositionReports(Generic[C]):
    """The waiting calls whose clients want their place, and when each was reported."""

    __slots__ = ("_new", "_pools", "_reported", "_turn", "_waits")

    def __init__(self, waits: WaitEstimates[C], pools: tuple[Pool[C], ...]) -> None:
        self._waits = waits
        self._pools = pools
        self._turn = 0
        # Both in the order of time.
        self._new: dict[C, None] = {}
        self._reported: dict[C, float] = {}

    def add(self, call: C) -> None:
        """Report the place of this call from now on, unless it waits for another attempt."""
        if not call.attempts and call not in self._reported:
            self._new[call] = None

    def forget(self, call: C) -> None:
        """Report the place of this call no more: it has left its queue."""
        self._new.pop(call, None)
        self._reported.pop(call, None)

    def any(self) -> bool:
        """Whether there are calls to report."""
        return bool(self._new or self._reported)

    def due(self, now: float, every_s: float) -> Iterator[tuple[int, float | None, C]]:
        """The next calls whose place was not reported for ``every_s``; notes their report.

        Yields the position from 1, the estimated wait in seconds (None if unknown) and the call.
        """
        steps, reports = 0, 0
        first, self._turn = self._turn % len(self._pools), self._turn + 1
        for pool in self._pools[first:] + self._pools[:first]:
            if steps >= MAX_WALK or reports >= MAX_REPORTS or not self._is_any_due(now, every_s):
                break
            if len(pool.queue):
                steps += pool.queue.sessions
                near = list(islice(self._waits.in_line(pool, now), MAX_WALK))
                steps += len(near)
                far = () if len(near) < MAX_WALK else self._far(pool, near, now, every_s)
                for place in chain(near, far):
                    call = place[2]
                    if reports < MAX_REPORTS and self._is_due(call, now, every_s):
                        reports += 1
                        self.forget(call)
                        self._reported[call] = now
                        yield place

    def _is_any_due(self, now: float, every_s: float) -> bool:
        if self._new:
            return True
        return now - next(iter(self._reported.values()), inf) >= every_s

    def _is_due(self, call: C, now: float, every_s: float) -> bool:
        return call in self._new or now - self._reported.get(call, inf) >= every_s

    def _far(
        self, pool: Pool[C], near: Iterable[tuple[int, float | None, C]], now: float, every_s: float
    ) -> Iterator[tuple[int, float | None, C]]:
        """The estimated places of a session's calls: of the one that has waited longest for them
        or, every other time, has had none.
        """
        seen = {call for _, _, call in near}
        groups: list[Iterable[C]] = [self._new, self._reported]
        if self._turn // len(self._pools) % 2:
            groups.reverse()
        for call in chain.from_iterable(islice(calls, 2 * MAX_WALK) for calls in groups):
            is_far = call.pool is pool and call not in seen
            if is_far and self._is_due(call, now, every_s):
                return self._places_of(call.flow, pool, seen, now)
        return iter(())

    def _places_of(
        self, flow: Flow, pool: Pool[C], seen: set[C], now: float
    ) -> Iterator[tuple[int, float | None, C]]:
        rank, count = pool.queue.rank(flow), len(flow.waiting) + 1
        for number, queued in enumerate(sorted(flow.waiting.values(), key=_order), start=1):
            call: C = queued.value
            if call not in seen:
                position = min(max(MAX_WALK + 1, round(rank * number / count)), len(pool.queue))
                yield position, self._waits.wait_s(pool, position, now), call
