"""A driver without a clock or a loop of its own, for unit tests and the simulator."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from itertools import count

from exai_actors.runtime.kernel.driver import Callback


class ManualTimer:
    """A callback due at a time; ``cancel`` keeps it from running."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualDriver:
    """Runs callbacks in order and timers in order of their time, only on command.

    The thread that makes it is its loop thread. ``now()`` stands still except in ``advance``.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._order = count()
        self._running = False
        self._thread = threading.get_ident()

    def call_soon(self, callback: Callback, /) -> None:
        self._ready.append(callback)

    def call_soon_threadsafe(self, callback: Callback, /) -> None:
        self._ready.append(callback)

    def call_later(self, delay_s: float, callback: Callback, /) -> ManualTimer:
        timer = ManualTimer(self._now + max(0.0, delay_s), callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def now(self) -> float:
        return self._now

    def in_loop_thread(self) -> bool:
        return threading.get_ident() == self._thread

    def closed(self) -> bool:
        return False

    def next_timer(self) -> float | None:
        """The time at which the next timer is due, or None."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run_until_idle(self, limit: int = 1_000_000) -> None:
        """Run callbacks and timers that are due until none is left.

        Raises RuntimeError after ``limit`` of them: the actors keep each other busy forever.
        """
        if self._running:
            raise RuntimeError("run_until_idle() called by a callback that it runs")
        self._running = True
        try:
            for _ in range(limit):
                if not self._run_one():
                    return
            raise RuntimeError(f"not idle after {limit} callbacks")
        finally:
            self._running = False

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at each timer on the way to run it and its consequences."""
        if seconds < 0.0:
            raise ValueError(f"time only goes forward, not by {seconds} s")
        target = self._now + seconds
        self.run_until_idle()
        while (due := self.next_timer()) is not None and due <= target:
            self._now = max(self._now, due)
            self.run_until_idle()
        self._now = target

    def pass_time(self, seconds: float) -> None:
        """Move the clock alone, as a handler does that computes for so long."""
        self._now += seconds

    def _run_one(self) -> bool:
        if self._ready:
            self._ready.popleft()()
            return True
        due = self.next_timer()
        if due is None or due > self._now:
            return False
        callback = heapq.heappop(self._timers)[2].callback
        assert callback is not None
        callback()
        return True
