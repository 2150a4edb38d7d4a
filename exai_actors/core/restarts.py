"""Limits how often a child is restarted before its supervisor gives up (OTP's intensity)."""

from __future__ import annotations

from collections import deque


class RestartBudget:
    """At most ``intensity`` restarts within any ``period_s`` seconds."""

    __slots__ = ("_restarts", "intensity", "period_s")

    def __init__(self, intensity: int, period_s: float) -> None:
        self.intensity = intensity
        self.period_s = period_s
        self._restarts: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Count a restart at ``now``. False, without counting it, if the budget is exhausted."""
        if self.used(now) >= self.intensity:
            return False
        self._restarts.append(now)
        return True

    def used(self, now: float) -> int:
        """The restarts counted within the period that ends now."""
        while self._restarts and self._restarts[0] <= now - self.period_s:
            self._restarts.popleft()
        return len(self._restarts)
