"""The process as its event loop sees it: its lag, its use of the processor, and the consoles'."""

from __future__ import annotations

import time
from collections.abc import Callable

from exai_actors.core.observe.figure_ring import FigureRing
from exai_actors.core.observe.histogram import Histogram
from exai_actors.core.observe.parts import ProcessState
from exai_actors.runtime import Cancellable, Driver

TICK_S = 0.1
REMEMBERED = 100
"""Ticks whose lags and processor times count: ten seconds."""

_LAG = 1
"""The column of the lag in the marks."""

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
        # When, the lag, and the processor times so far: of the process, and of the consoles.
        self._marks = FigureRing(4, REMEMBERED)
        self._timer: Cancellable | None = None

    def note_sampling(self, seconds: float) -> None:
        """Count time that reading for consoles, or for the recording, has taken."""
        self.sampled_s += seconds

    def start(self) -> Callable[[], None]:
        """Measure from now on, until the result is called."""
        due = self._driver.now() + TICK_S
        self._timer = self._driver.call_later(TICK_S, lambda: self._tick(due))
        self._mark(due - TICK_S, 0.0)
        return self._stop

    def state(self, *, restarts: int, alarms: int) -> ProcessState:
        """The state now; the other figures are counted elsewhere."""
        now = self._driver.now()
        since, _, cpu, sampled = self._marks[0] if self._marks else (now, 0.0, 0.0, 0.0)
        elapsed = max(now - since, TICK_S)
        return ProcessState(
            loop_lag_s=max(self._marks.column(_LAG), default=0.0),
            cpu_share=(self._cpu() - cpu) / elapsed if self._marks else 0.0,
            sampling_share=(self.sampled_s - sampled) / elapsed,
            restarts=restarts,
            alarms=alarms,
        )

    def _mark(self, now: float, lag_s: float) -> None:
        self._marks.append((now, lag_s, self._cpu(), self.sampled_s))

    def _tick(self, due: float) -> None:
        now = self._driver.now()
        lag_s = max(0.0, now - due)
        self.lags.add(lag_s)
        self._mark(now, lag_s)
        following = now + TICK_S
        self._timer = self._driver.call_later(TICK_S, lambda: self._tick(following))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
