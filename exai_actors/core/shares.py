"""Whose turn it is among those who share: start-time fair queueing over virtual times.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing" (1996), and for several in service at once
Jin, Chase, Kaur, "Interposed proportional sharing" (2004), where two sharers f and g that both
wait all the time differ by |W_f/w_f - W_g/w_g| <= (L+1)(c_f/w_f + c_g/w_g), with L permits, largest
costs c and weights w.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar


class Sharer(Protocol):
    """``tag`` is the virtual time at which its next service begins, cost divided by weight.

    ``unsettled`` is the part of it that stands for calls in flight. ``stamp`` tells its present
    place among the waiting from those it had before.
    """

    tag: float
    unsettled: float
    stamp: int


S = TypeVar("S", bound=Sharer)


class Shares(Generic[S]):
    """The sharers that wait, least tag first, ties in the order of their coming.

    ``clock`` is the tag of whoever was served last, without what its calls in flight were charged:
    that is a guess, and who began behind a guess too high would wait until others had really
    cost as much. It never goes back. Whoever was idle begins at the clock, so idleness earns no
    credit.
    """

    __slots__ = ("_heap", "_number", "_waiting", "clock")

    def __init__(self) -> None:
        self.clock = 0.0
        self._heap: list[tuple[float, int, S]] = []
        self._number = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def enter(self, sharer: S) -> None:
        """It has something waiting from now on."""
        sharer.tag = max(sharer.tag, self.clock)
        self._waiting += 1
        self._push(sharer)

    def leave(self, sharer: S) -> None:
        """It has nothing waiting any more."""
        sharer.stamp = 0
        self._waiting -= 1
        if not self._waiting:
            self._heap.clear()

    def moved(self, sharer: S) -> None:
        """Its tag has changed while it waits."""
        self._push(sharer)

    def charge(self, sharer: S, cost: float) -> None:
        """It is served without having waited: from the clock on, if it was idle before."""
        tag, clock = sharer.tag, self.clock
        if tag < clock:
            tag = clock
        else:
            began = tag - sharer.unsettled
            if began > clock:
                self.clock = began
        sharer.tag = tag + cost
        sharer.unsettled += cost

    def pass_clock(self, sharer: S) -> None:
        """The clock goes on to where the one whose turn it is begins."""
        self.clock = max(self.clock, sharer.tag - sharer.unsettled)

    def grant(self, sharer: S, cost: float) -> None:
        """What waited for its turn is served."""
        sharer.tag += cost
        sharer.unsettled += cost

    def settle(self, sharer: S, estimated: float, more: float) -> None:
        """A call has ended that was charged so much and cost so much more."""
        sharer.unsettled = max(0.0, sharer.unsettled - estimated)
        if more:
            sharer.tag += more
            if sharer.stamp:
                self._push(sharer)

    def first(self) -> S | None:
        """Whose turn it is."""
        heap = self._heap
        while heap:
            _, number, sharer = heap[0]
            if sharer.stamp == number:
                return sharer
            heapq.heappop(heap)
        return None

    def waiting(self) -> list[S]:
        """All that wait, in no order."""
        return [sharer for _, number, sharer in self._heap if sharer.stamp == number]

    def _push(self, sharer: S) -> None:
        self._number = sharer.stamp = self._number + 1
        heapq.heappush(self._heap, (sharer.tag, sharer.stamp, sharer))
        if len(self._heap) > 2 * self._waiting + 64:
            self._heap = [each for each in self._heap if each[2].stamp == each[1]]
            heapq.heapify(self._heap)
