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

_order = attrgetter("order")


class _Flow:
    """A session: its real requests, the next one last, and how many newcomers are behind them."""

    __slots__ = ("cost", "flow", "is_sorted", "newcomers", "real", "start")

    def __init__(self, flow: Flow, usual_cost: float) -> None:
        self.flow = flow
        self.start = flow.tag.start
        self.real: list[QueuedRequest] = list(flow.waiting.values())
        self.is_sorted = False
        self.newcomers = 0
        self.cost = flow.queued_cost / len(self.real) if self.real else usual_cost

    def take(self) -> QueuedRequest | None:
        """The next request; None for a newcomer."""
        if not self.real:
            self.newcomers -= 1
            return None
        if not self.is_sorted:
            self.real.sort(key=_order, reverse=True)
            self.is_sorted = True
        return self.real.pop()

    def waits(self) -> bool:
        return bool(self.real or self.newcomers)


class _Tenant:
    """A tenant and its sessions with requests, a heap by start tag."""

    __slots__ = ("flows", "inverse_weight", "start", "virtual_time")

    def __init__(self, tenant: Tenant) -> None:
        self.start = tenant.tag.start
        self.inverse_weight = tenant.inverse_weight
        self.virtual_time = tenant.sessions.virtual_time
        self.flows: list[tuple[float, int, _Flow]] = []


def expected_order(
    queue: FairQueue[T], instants: Iterator[float | None], now: float
) -> Iterator[tuple[float | None, T]]:
    """The instant and the value of each request in line; newcomers have turns as well.

    ``instants`` are those of the turns.
    """
    first_ones = queue.first_ones()
    for queued in first_ones:
        yield next(instants), queued.value
    usual_cost = queue.usual_cost
    left = queue.in_line - len(first_ones)
    stamps = count(1)
    tenants: list[tuple[float, int, _Tenant]] = []
    newcomers: list[tuple[float, int, float, _Flow, _Tenant]] = []
    for tenant in queue.known_tenants():
        mine = _Tenant(tenant)
        for number, flow in enumerate(tenant.flows.values()):
            each = _Flow(flow, usual_cost)
            if each.real:
                mine.flows.append((each.start, flow.tag.stamp - (1 << 62), each))
            if flow.rate > 0:
                first = now + (number * GOLDEN % 1.0) / flow.rate
                newcomers.append((first, next(stamps), 1 / flow.rate, each, mine))
        heapq.heapify(mine.flows)
        if mine.flows:
            tenants.append((mine.start, tenant.tag.stamp - (1 << 62), mine))
    heapq.heapify(tenants)
    heapq.heapify(newcomers)
    virtual_time = queue.virtual_time
    while left > 0:
        instant = next(instants)
        while instant is not None and newcomers and newcomers[0][0] <= instant:
            came, _, pause, each, mine = newcomers[0]
            heapq.heapreplace(newcomers, (came + pause, next(stamps), pause, each, mine))
            _come(each, mine, tenants, virtual_time, stamps)
        start, _, mine = tenants[0]
        flow_start, _, each = mine.flows[0]
        virtual_time, mine.virtual_time = max(virtual_time, start), flow_start
        taken = each.take()
        cost = each.cost if taken is None else taken.cost
        each.start = flow_start + cost * each.flow.inverse_weight
        mine.start = start + cost * mine.inverse_weight
        if each.waits():
            heapq.heapreplace(mine.flows, (each.start, next(stamps), each))
        else:
            heapq.heappop(mine.flows)
        if mine.flows:
            heapq.heapreplace(tenants, (mine.start, next(stamps), mine))
        else:
            heapq.heappop(tenants)
        if taken is not None:
            left -= 1
            yield instant, taken.value


def _come(
    each: _Flow,
    mine: _Tenant,
    tenants: list[tuple[float, int, Any]],
    virtual_time: float,
    stamps: Iterator[int],
) -> None:
    """Let a newcomer wait behind the requests of its session."""
    each.newcomers += 1
    if each.newcomers > 1 or each.real:
        return
    each.start = max(each.start, mine.virtual_time)
    if not mine.flows:
        mine.start = max(mine.start, virtual_time)
        heapq.heappush(tenants, (mine.start, next(stamps), mine))
    heapq.heappush(mine.flows, (each.start, next(stamps), each))
