"""The process as its event loop sees it: its lag, its use of the processor, and the consoles'."""

from __future__ import annotations

import time
from collections.abc import Callable

from exai_actors.core.observe.figure_ring import FigureRing
from exai_actors.core.observe.histogram import Histogram
from exai_actors.core.observe.parts import ProcessState
from exai_actors.runtime import Cancellable, Driver

TICK_S = 0.1
TICKS_A_MARK = 10
REMEMBERED = 100
"""Ticks whose lags and processor times count: ten seconds."""

_LAG = 1
"""The column of the longest lag before each mark."""

LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ProcessMeter:
    """``cpu`` is the processor time of the process so far, in seconds. ``lags`` are those of the
    loop since the start.
    """

    def __init__(self, driver: Driver, cpu: Callable[[], float] = time.process_time) -> None:
        self.sampled_s = 0.0
        """The time that reading has taken so far."""
        self.lags = Histogram(LAGS)
        self._driver = driver
        self._cpu = cpu
        # When, the longest lag since the one before, and the processor times so far: of the
        # process, and of the consoles.
        self._marks = FigureRing(4, REMEMBERED // TICKS_A_MARK)
        self._longest_lag_s = 0.0
        """Since the latest mark."""
        self._ticks = 0
        self._due = 0.0
        self._timer: Cancellable | None = None

    def note_sampling(self, seconds: float) -> None:
        """Count time that reading for consoles, or for the recording, has taken."""
        self.sampled_s += seconds

    def start(self) -> Callable[[], None]:
        """Measure from now on, until the result is called."""
        now = self._driver.now()
        self._mark(now)
        self._wait(now)
        return self._stop

    def state(self, *, restarts: int, alarms: int) -> ProcessState:
        """The state now; the other figures are counted elsewhere."""
        now = self._driver.now()
        since, _, cpu, sampled = self._marks[0] if self._marks else (now, 0.0, 0.0, 0.0)
        elapsed = max(now - since, TICK_S)
        return ProcessState(
            loop_lag_s=max(self._longest_lag_s, *self._marks.column(_LAG), 0.0),
            cpu_share=(self._cpu() - cpu) / elapsed if self._marks else 0.0,
            sampling_share=(self.sampled_s - sampled) / elapsed,
            restarts=restarts,
            alarms=alarms,
        )

    def _wait(self, now: float) -> None:
        self._due = now + TICK_S
        self._timer = self._driver.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        # In an idle process each line here is read from memory anew: it does no more than it must.
        now = self._driver.now()
        lag_s = now - self._due
        self.lags.add(max(0.0, lag_s))
        if lag_s > self._longest_lag_s:
            self._longest_lag_s = lag_s
        self._ticks += 1
        if self._ticks == TICKS_A_MARK:
            self._mark(now)
        self._wait(now)

    def _mark(self, now: float) -> None:
        self._marks.append((now, self._longest_lag_s, self._cpu(), self.sampled_s))
        self._longest_lag_s = 0.0
        self._ticks = 0

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
