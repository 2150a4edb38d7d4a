"""Start-time fair queueing: the flow with the smallest start tag is served next.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing" (1996). For several calls in service at the
same time: Jin, Chase, Kaur, "Interposed proportional sharing" (2004), which bounds the difference
between two backlogged flows f and g by |W_f/w_f - W_g/w_g| <= (L+1)(c_f/w_f + c_g/w_g), with L
permits, largest costs c and weights w.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar


class VirtualTag:
    """The virtual time of a session or a tenant, which derive from this class.

    ``start`` is the start tag of its next call: the finish tag, start plus cost divided by weight,
    of its previous one. ``unsettled`` is the part of it charged for calls still in flight.
    ``stamp`` identifies its valid entry in the heap; 0 while nothing of it waits.
    """

    __slots__ = ("stamp", "start", "unsettled")

    def __init__(self) -> None:
        self.start = 0.0
        self.unsettled = 0.0
        self.stamp = 0


Tag = TypeVar("Tag", bound=VirtualTag)


class StartTimeClock(Generic[Tag]):
    """The waiting tags, smallest start first, equal ones in the order of their last change.

    ``virtual_time`` is the start of the one served last, without the estimates charged for
    its calls in flight: a flow that starts behind too high an estimate would wait until others had
    really cost as much. It never goes back. An idle one restarts at it, so idleness earns no
    credit.
    """

    __slots__ = ("_heap", "_last_stamp", "_waiting", "virtual_time")

    def __init__(self) -> None:
        self.virtual_time = 0.0
        self._heap: list[tuple[float, int, Tag]] = []
        self._last_stamp = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def enter(self, tag: Tag) -> None:
        """Add one whose first request starts to wait."""
        tag.start = max(tag.start, self.virtual_time)
        self._waiting += 1
        self.reorder(tag)

    def leave(self, tag: Tag) -> None:
        """Remove one whose last waiting request has left."""
        tag.stamp = 0
        self._waiting -= 1
        if not self._waiting:
            self._heap.clear()

    def raise_to_virtual_time(self, tag: Tag) -> None:
        """Let one without a waiting request, to be served now, start at the virtual time."""
        if not tag.stamp:
            tag.start = max(tag.start, self.virtual_time)

    def charge(self, tag: Tag, cost: float) -> None:
        """Serve a call that did not wait. An idle one starts at the virtual time."""
        start = tag.start
        if start < self.virtual_time:
            start = self.virtual_time
        settled = start - tag.unsettled
        if settled > self.virtual_time:
            self.virtual_time = settled
        tag.start = start + cost
        tag.unsettled += cost

    def advance(self, tag: Tag) -> None:
        """Advance the virtual time to the start of the one whose turn it is."""
        settled = tag.start - tag.unsettled
        if settled > self.virtual_time:
            self.virtual_time = settled

    def serve(self, tag: Tag, cost: float) -> None:
        """Move the start tag to the finish tag of a call that is granted."""
        tag.start += cost
        tag.unsettled += cost

    def settle(self, tag: Tag, estimated: float, difference: float) -> None:
        """Correct the charge of an ended call from its estimate by ``difference``."""
        unsettled = tag.unsettled - estimated
        if unsettled < 0.0:
            unsettled = 0.0
        tag.unsettled = unsettled
        if difference:
            tag.start += difference
            if tag.stamp:
                self.reorder(tag)

    def first(self) -> Tag | None:
        """The one whose turn it is."""
        heap = self._heap
        while heap:
            _, stamp, tag = heap[0]
            if tag.stamp == stamp:
                return tag
            heapq.heappop(heap)
        return None

    def waiting(self) -> list[Tag]:
        """All that wait, in no order."""
        return [tag for _, stamp, tag in self._heap if tag.stamp == stamp]

    def reorder(self, tag: Tag) -> None:
        """Put a waiting one whose start has changed in its new place."""
        self._last_stamp = tag.stamp = self._last_stamp + 1
        heapq.heappush(self._heap, (tag.start, tag.stamp, tag))
        if len(self._heap) > 2 * self._waiting + 64:
            self._heap = [each for each in self._heap if each[2].stamp == each[1]]
            heapq.heapify(self._heap)
