"""The flows of the fair queue: sessions within tenants, and the requests that each has waiting."""

from __future__ import annotations

import heapq
from typing import Any

from exai_actors.core.capacity.virtual_time import StartTimeClock, VirtualTag
from exai_actors.core.observe.usage import Used
from exai_actors.ids import RequestKey, SessionId, TenantName


class QueuedRequest:
    """One waiting request; ``value`` is the record that the queue keeps for its user."""

    __slots__ = ("cost", "flow", "order", "request", "value")

    def __init__(self, flow: Flow, request: RequestKey, value: Any, cost: float) -> None:
        self.flow = flow
        self.request = request
        self.value = value
        self.cost = cost
        self.order: tuple[int, int] = (0, 0)


class Tenant(VirtualTag):
    """A tenant and the clock of its sessions.

    ``inverse_weight`` is 1 / weight; ``queued`` and ``queued_cost`` cover all waiting requests of
    its sessions. ``aside`` counts further ones, which wait without a turn.
    """

    __slots__ = (
        "aside",
        "flows",
        "inverse_weight",
        "name",
        "queued",
        "queued_cost",
        "sessions",
    )

    def __init__(self, name: TenantName, weight: float) -> None:
        super().__init__()
        self.name = name
        self.inverse_weight = 1 / weight
        self.flows: dict[SessionId, Flow] = {}
        self.sessions: StartTimeClock[Flow] = StartTimeClock()
        self.queued = 0
        self.queued_cost = 0.0
        self.aside = 0

    def longest(self) -> Flow:
        """The session with the most requests, those aside included."""
        return max(self.flows.values(), key=lambda flow: len(flow.waiting) + flow.aside)


class Flow(VirtualTag):
    """One session of a tenant; ``queued_cost`` covers its waiting requests, ``inverse_weight`` is
    1 / weight among the sessions of its tenant.

    ``aside`` counts further ones, which wait without a turn. ``arrived`` counts its requests since
    ``rate``, their number a second of late, was estimated. ``used`` counts its ended calls of
    ``used_model``, the last one.
    """

    __slots__ = (
        "_heap",
        "_last_number",
        "arrived",
        "aside",
        "inverse_weight",
        "queued_cost",
        "rate",
        "session",
        "tenant",
        "used",
        "used_model",
        "waiting",
    )

    def __init__(self, session: SessionId, tenant: Tenant) -> None:
        super().__init__()
        self.session = session
        self.tenant = tenant
        self.inverse_weight = 1.0
        self.queued_cost = 0.0
        self.aside = 0
        self.waiting: dict[RequestKey, QueuedRequest] = {}
        self._heap: list[tuple[tuple[int, int], QueuedRequest]] = []
        self._last_number = 0
        self.arrived = 0
        self.rate = 0.0
        self.used: Used | None = None
        self.used_model = ""

    def set_weight(self, weight: float) -> None:
        """Set the weight for all later grants; what is charged for calls in flight stays."""
        inverse_weight = 1 / weight
        # They will be settled by the new weight.
        self.unsettled *= inverse_weight / self.inverse_weight
        self.inverse_weight = inverse_weight

    def add(self, queued: QueuedRequest, priority: int, *, ahead: bool) -> None:
        """Queue a request behind those of no lower priority, or ``ahead`` of them all."""
        self._last_number += 1
        # A retry precedes every first attempt, regardless of priorities.
        queued.order = (-(1 << 62), self._last_number) if ahead else (-priority, self._last_number)
        self.add_again(queued)

    def add_again(self, queued: QueuedRequest) -> None:
        """Queue a request at the place that it had before."""
        self.waiting[queued.request] = queued
        self.queued_cost += queued.cost
        heapq.heappush(self._heap, (queued.order, queued))
        if len(self._heap) > 2 * len(self.waiting) + 16:
            self._heap = [each for each in self._heap if self._is_waiting(each[1])]
            heapq.heapify(self._heap)

    @property
    def queued(self) -> int:
        """The number of its requests, those aside included."""
        return len(self.waiting) + self.aside

    def first(self) -> QueuedRequest | None:
        """The next request of this session."""
        heap = self._heap
        while heap:
            queued = heap[0][1]
            if self._is_waiting(queued):
                return queued
            heapq.heappop(heap)
        return None

    def remove(self, queued: QueuedRequest) -> None:
        del self.waiting[queued.request]
        self.queued_cost -= queued.cost
        if not self.waiting:
            # Sums of floats do not return to zero by themselves.
            self.queued_cost = 0.0
            self._heap.clear()

    def _is_waiting(self, queued: QueuedRequest) -> bool:
        return self.waiting.get(queued.request) is queued
