"""Bounds how often something is logged, so that no client can fill the log."""

from __future__ import annotations


class LogBudget:
    """At most ``entries`` in any ``window_s`` seconds that begin with an entry.

    ``suppressed`` counts those left out since the last one that was allowed, which the next entry
    should report.
    """

    __slots__ = ("_began", "_entries", "_used", "_window_s", "suppressed")

    def __init__(self, entries: int = 5, window_s: float = 10.0) -> None:
        self._entries = entries
        self._window_s = window_s
        self._began = float("-inf")
        self._used = 0
        self.suppressed = 0

    def allow(self, now: float) -> bool:
        """Whether to log now."""
        if now - self._began >= self._window_s:
            self._began = now
            self._used = 0
        if self._used >= self._entries:
            self.suppressed += 1
            return False
        self._used += 1
        return True

    def take_suppressed(self) -> int:
        """The number of entries left out, which starts again from zero."""
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed
