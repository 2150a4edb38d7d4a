"""The order of service if sessions go on to send requests as they do now.

A request deep in the queue of its session is passed by newcomers of sessions that have had less.
``FairQueue.in_service_order`` knows nothing of them: a start predicted from it is too early. Here
each session gets further requests at the rate of its recent ones, spread evenly.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from operator import attrgetter
from typing import Any, TypeVar

from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.flows import Flow, QueuedRequest, Tenant

T = TypeVar("T")

GOLDEN = 0.618034
"""Multiples of it, without their whole parts, are spread evenly: the first newcomers' instants."""

_BEFORE_ALL = 1 << 62

_order = attrgetter("order")


class _Flow:
    """A session: its real requests, the next one last, and how many newcomers are behind them.

    The real ones are looked up when it is its turn first; ``expected`` of them wait before that.
    """

    __slots__ = ("cost", "expected", "flow", "newcomers", "real", "start")

    def __init__(self, flow: Flow, expected: int, usual_cost: float) -> None:
        self.flow = flow
        self.start = flow.start
        self.expected = expected
        self.real: list[QueuedRequest] | None = None
        self.newcomers = 0
        self.cost = flow.queued_cost / len(flow.waiting) if flow.waiting else usual_cost

    def look(self) -> int:
        """Look the real requests up, once; return how many more there are than expected."""
        if self.real is not None:
            return 0
        self.real = sorted(self.flow.waiting.values(), key=_order, reverse=True)
        return len(self.real) - self.expected

    def take(self) -> QueuedRequest | None:
        """The next request; None for a newcomer."""
        if self.real:
            return self.real.pop()
        self.newcomers -= 1
        return None

    def waits(self) -> bool:
        return bool(self.real) or self.newcomers > 0


class _Tenant:
    """A tenant and its sessions with requests, a heap by start tag.

    Of many sessions only those that are looked at get a record.
    """

    __slots__ = (
        "_expected",
        "_records",
        "_usual_cost",
        "flows",
        "inverse_weight",
        "start",
        "virtual_time",
    )

    def __init__(self, tenant: Tenant, usual_cost: float) -> None:
        self.start = tenant.start
        self.inverse_weight = tenant.inverse_weight
        self.virtual_time = tenant.sessions.virtual_time
        self._expected = {flow: len(flow.waiting) for flow in tenant.flows.values() if flow.waiting}
        self.flows = [(flow.start, flow.stamp - _BEFORE_ALL, flow) for flow in self._expected]
        heapq.heapify(self.flows)
        self._usual_cost = usual_cost
        self._records: dict[Flow, _Flow] = {}

    def record(self, flow: Flow) -> _Flow:
        found = self._records.get(flow)
        if found is None:
            expected = self._expected.get(flow, 0)
            found = self._records[flow] = _Flow(flow, expected, self._usual_cost)
        return found


_Newcomer = tuple[float, int, float, Flow, _Tenant]
"""When it comes, a stamp, the time until the next one, its session and its tenant."""


def expected_order(
    queue: FairQueue[T], instants: Iterator[float | None], now: float
) -> Iterator[tuple[float | None, T]]:
    """The instant and the value of each request in line; newcomers have turns as well.

    ``instants`` are those of the turns.
    """
    first_ones = queue.first_ones()
    for queued in first_ones:
        yield next(instants), queued.value
    left = queue.in_line - len(first_ones)
    stamps = count(1)
    tenants, newcomers = _line_up(queue, now, stamps)
    virtual_time = queue.virtual_time
    while left > 0:
        instant = next(instants)
        while instant is not None and newcomers and newcomers[0][0] <= instant:
            came, _, pause, flow, mine = newcomers[0]
            heapq.heapreplace(newcomers, (came + pause, next(stamps), pause, flow, mine))
            _come(mine.record(flow), mine, tenants, virtual_time, stamps)
        if not tenants:
            break
        start, _, mine = tenants[0]
        flow_start, _, flow = mine.flows[0]
        each = mine.record(flow)
        left += each.look()
        virtual_time, mine.virtual_time = max(virtual_time, start), flow_start
        taken = each.take()
        cost = each.cost if taken is None else taken.cost
        each.start = flow_start + cost * flow.inverse_weight
        mine.start = start + cost * mine.inverse_weight
        if each.waits():
            heapq.heapreplace(mine.flows, (each.start, next(stamps), flow))
        else:
            heapq.heappop(mine.flows)
        if mine.flows:
            heapq.heapreplace(tenants, (mine.start, next(stamps), mine))
        else:
            heapq.heappop(tenants)
        if taken is not None:
            left -= 1
            yield instant, taken.value


def _line_up(
    queue: FairQueue[Any], now: float, stamps: Iterator[int]
) -> tuple[list[tuple[float, int, _Tenant]], list[_Newcomer]]:
    """The tenants with requests by start tag, and the next newcomer of each session; two heaps."""
    usual_cost = queue.usual_cost
    tenants: list[tuple[float, int, _Tenant]] = []
    newcomers: list[_Newcomer] = []
    for tenant in queue.known_tenants():
        mine = _Tenant(tenant, usual_cost)
        for number, flow in enumerate(tenant.flows.values()):
            if flow.rate > 0:
                first = now + (number * GOLDEN % 1.0) / flow.rate
                newcomers.append((first, next(stamps), 1 / flow.rate, flow, mine))
        if mine.flows:
            tenants.append((mine.start, tenant.stamp - _BEFORE_ALL, mine))
    heapq.heapify(tenants)
    heapq.heapify(newcomers)
    return tenants, newcomers


def _come(
    each: _Flow,
    mine: _Tenant,
    tenants: list[tuple[float, int, _Tenant]],
    virtual_time: float,
    stamps: Iterator[int],
) -> None:
    """Let a newcomer wait behind the requests of its session."""
    each.newcomers += 1
    if each.newcomers > 1 or each.real or (each.real is None and each.expected):
        return
    each.start = max(each.start, mine.virtual_time)
    if not mine.flows:
        mine.start = max(mine.start, virtual_time)
        heapq.heappush(tenants, (mine.start, next(stamps), mine))
    heapq.heappush(mine.flows, (each.start, next(stamps), each.flow))
