"""The process as its event loop sees it: its lag, its use of the processor, and the consoles'."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from exai_actors.core.observe.parts import ProcessState
from exai_actors.runtime import Cancellable, Driver

TICK_S = 0.5
REMEMBERED = 20
"""Ticks whose lags and processor times count: ten seconds."""


class ProcessMeter:
    """``cpu`` is the processor time of the process so far, in seconds."""

    def __init__(self, driver: Driver, cpu: Callable[[], float] = time.process_time) -> None:
        self.sampled_s = 0.0
        """The time that reading for consoles has taken so far; the consoles add to it."""
        self._driver = driver
        self._cpu = cpu
        self._lags: deque[float] = deque(maxlen=REMEMBERED)
        # When, and the processor times so far: of the process, and of the consoles.
        self._marks: deque[tuple[float, float, float]] = deque(maxlen=REMEMBERED)
        self._timer: Cancellable | None = None

    def start(self) -> Callable[[], None]:
        """Measure from now on, until the result is called."""
        due = self._driver.now() + TICK_S
        self._timer = self._driver.call_later(TICK_S, lambda: self._tick(due))
        self._mark(due - TICK_S)
        return self._stop

    def state(self, *, restarts: int, alarms: int) -> ProcessState:
        """The state now; the other figures are counted elsewhere."""
        since, cpu, sampled = self._marks[0] if self._marks else (self._driver.now(), 0.0, 0.0)
        elapsed = max(self._driver.now() - since, TICK_S)
        return ProcessState(
            loop_lag_s=max(self._lags, default=0.0),
            cpu_share=(self._cpu() - cpu) / elapsed if self._marks else 0.0,
            sampling_share=(self.sampled_s - sampled) / elapsed,
            restarts=restarts,
            alarms=alarms,
        )

    def _mark(self, now: float) -> None:
        self._marks.append((now, self._cpu(), self.sampled_s))

    def _tick(self, due: float) -> None:
        now = self._driver.now()
        self._lags.append(max(0.0, now - due))
        self._mark(now)
        following = now + TICK_S
        self._timer = self._driver.call_later(TICK_S, lambda: self._tick(following))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
