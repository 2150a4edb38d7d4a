"""A session's and a tenant's place in the shares, and what each has waiting."""

from __future__ import annotations

import heapq
from typing import Any

from exai_actors.core.capacity.virtual_time import StartTimeClock, VirtualTag
from exai_actors.ids import RequestKey, SessionId, TenantName


class QueuedRequest:
    """One waiting request."""

    __slots__ = ("cost", "flow", "order", "request", "value")

    def __init__(self, flow: Flow, request: RequestKey, value: Any, cost: float) -> None:
        self.flow = flow
        self.request = request
        self.value = value
        self.cost = cost
        self.order: tuple[int, int] = (0, 0)


class Tenant:
    """A tenant's place in the shares.

    ``inverse_weight`` is 1 / weight; ``count`` and ``cost`` cover all queued requests of its
    sessions.
    """

    __slots__ = (
        "cost",
        "count",
        "flows",
        "inverse_weight",
        "name",
        "sessions",
        "share",
    )

    def __init__(self, name: TenantName, weight: float) -> None:
        self.name = name
        self.inverse_weight = 1 / weight
        self.share = VirtualTag(self)
        self.flows: dict[SessionId, Flow] = {}
        self.sessions: StartTimeClock[Flow] = StartTimeClock()
        self.count = 0
        self.cost = 0.0


class Flow:
    """One session among those of its tenant. ``cost`` is that of all it has waiting."""

    __slots__ = (
        "_heap",
        "_number",
        "cost",
        "owner",
        "session",
        "share",
        "waiting",
    )

    def __init__(self, session: SessionId, owner: Tenant) -> None:
        self.session = session
        self.owner = owner
        self.share = VirtualTag(self)
        self.cost = 0.0
        self.waiting: dict[RequestKey, QueuedRequest] = {}
        self._heap: list[tuple[tuple[int, int], QueuedRequest]] = []
        self._number = 0

    @property
    def tenant(self) -> TenantName:
        return self.owner.name

    def add(self, entry: QueuedRequest, priority: int, *, again: bool) -> None:
        """Behind those of no lower priority, or before all if it was granted once."""
        self._number += 1
        # A second try comes before every first one, whatever the priorities.
        entry.order = (-(1 << 62), self._number) if again else (-priority, self._number)
        self.waiting[entry.request] = entry
        self.cost += entry.cost
        heapq.heappush(self._heap, (entry.order, entry))
        if len(self._heap) > 2 * len(self.waiting) + 16:
            self._heap = [each for each in self._heap if self._is_here(each[1])]
            heapq.heapify(self._heap)

    def first(self) -> QueuedRequest | None:
        """The next of this session."""
        heap = self._heap
        while heap:
            entry = heap[0][1]
            if self._is_here(entry):
                return entry
            heapq.heappop(heap)
        return None

    def take_out(self, entry: QueuedRequest) -> None:
        """It waits no more."""
        del self.waiting[entry.request]
        self.cost -= entry.cost
        if not self.waiting:
            self.cost = 0.0
            self._heap.clear()

    def in_order(self) -> list[QueuedRequest]:
        """All that wait, the next one last."""
        return sorted(self.waiting.values(), key=lambda entry: entry.order, reverse=True)

    def _is_here(self, entry: QueuedRequest) -> bool:
        return self.waiting.get(entry.request) is entry
