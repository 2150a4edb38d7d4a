"""Whose turn it is among those who share: start-time fair queueing over virtual times.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing" (1996), and for several in service at once
Jin, Chase, Kaur, "Interposed proportional sharing" (2004), where two sharers f and g that both
wait all the time differ by |W_f/w_f - W_g/w_g| <= (L+1)(c_f/w_f + c_g/w_g), with L permits, largest
costs c and weights w.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

Owner = TypeVar("Owner")


class VirtualTag(Generic[Owner]):
    """What its ``owner`` has had. ``tag`` is the virtual time at which its next service begins,
    cost divided by weight.

    ``unsettled`` is the part of it that stands for calls in flight. ``stamp`` tells its present
    place among the waiting from those it had before; 0 while it does not wait.
    """

    # One class for sessions and tenants: the interpreter remembers one class for each access.
    __slots__ = ("owner", "stamp", "tag", "unsettled")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.tag = 0.0
        self.unsettled = 0.0
        self.stamp = 0


class StartTimeClock(Generic[Owner]):
    """The sharers that wait, least tag first, ties in the order of their coming.

    ``clock`` is the tag of whoever was served last, without what its calls in flight were charged:
    that is a guess, and who began behind a guess too high would wait until others had really
    cost as much. It never goes back. Whoever was idle begins at the clock, so idleness earns no
    credit.
    """

    __slots__ = ("_heap", "_number", "_waiting", "clock")

    def __init__(self) -> None:
        self.clock = 0.0
        self._heap: list[tuple[float, int, VirtualTag[Owner]]] = []
        self._number = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def enter(self, share: VirtualTag[Owner]) -> None:
        """It has something waiting from now on."""
        share.tag = max(share.tag, self.clock)
        self._waiting += 1
        self._push(share)

    def leave(self, share: VirtualTag[Owner]) -> None:
        """It has nothing waiting any more."""
        share.stamp = 0
        self._waiting -= 1
        if not self._waiting:
            self._heap.clear()

    def moved(self, share: VirtualTag[Owner]) -> None:
        """Its tag has changed while it waits."""
        self._push(share)

    def charge(self, share: VirtualTag[Owner], cost: float) -> None:
        """It is served without having waited: from the clock on, if it was idle before."""
        tag, clock = share.tag, self.clock
        if tag < clock:
            tag = clock
        else:
            began = tag - share.unsettled
            if began > clock:
                self.clock = began
        share.tag = tag + cost
        share.unsettled += cost

    def pass_clock(self, share: VirtualTag[Owner]) -> None:
        """The clock goes on to where the one whose turn it is begins."""
        self.clock = max(self.clock, share.tag - share.unsettled)

    def grant(self, share: VirtualTag[Owner], cost: float) -> None:
        """What waited for its turn is served."""
        share.tag += cost
        share.unsettled += cost

    def settle(self, share: VirtualTag[Owner], estimated: float, more: float) -> None:
        """A call has ended that was charged so much and cost so much more."""
        share.unsettled = max(0.0, share.unsettled - estimated)
        if more:
            share.tag += more
            if share.stamp:
                self._push(share)

    def first(self) -> Owner | None:
        """Whose turn it is."""
        heap = self._heap
        while heap:
            _, number, share = heap[0]
            if share.stamp == number:
                return share.owner
            heapq.heappop(heap)
        return None

    def waiting(self) -> list[Owner]:
        """All that wait, in no order."""
        return [share.owner for _, number, share in self._heap if share.stamp == number]

    def _push(self, share: VirtualTag[Owner]) -> None:
        self._number = share.stamp = self._number + 1
        heapq.heappush(self._heap, (share.tag, share.stamp, share))
        if len(self._heap) > 2 * self._waiting + 64:
            self._heap = [each for each in self._heap if each[2].stamp == each[1]]
            heapq.heapify(self._heap)
