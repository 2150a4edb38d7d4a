"""A limit below the configured one that falls when the service is overloaded and rises again.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), driven by the service's overload
answers only: no rule based on latency beat a fixed limit for language models, whose latency is
mostly the length of the answer.
"""

from __future__ import annotations

MIN_INTERVAL_S = 1.0


class AdaptiveLimit:
    """``limit`` is between 1 and the ceiling.

    It changes at most once a second, down by a tenth (at least 1) or up by 1.
    """

    __slots__ = ("_answers", "_ceiling", "_changed_at", "limit")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.limit = ceiling
        self._answers = 0
        self._changed_at = -MIN_INTERVAL_S

    def on_overload(self, now: float) -> int | None:
        """Note an overload answer; returns the new limit if it changes."""
        self._answers = 0
        lower = max(min(1, self._ceiling), min(self.limit - 1, -(-self.limit * 9 // 10)))
        return self._change(lower, now)

    def on_success(self, now: float, in_flight: int) -> int | None:
        """Note an answer that came while so many were in flight; returns the new limit if any.

        The limit rises after as many answers as the limit, unless less than half of it is used.
        """
        if self.limit >= self._ceiling or 2 * in_flight < self.limit:
            return None
        self._answers += 1
        if self._answers < self.limit:
            return None
        self._answers = 0
        return self._change(self.limit + 1, now)

    def set_ceiling(self, ceiling: int) -> None:
        """Set the configured limit."""
        was_at_ceiling = self.limit >= self._ceiling
        self._ceiling = ceiling
        self.limit = ceiling if was_at_ceiling else min(self.limit, ceiling)

    def _change(self, limit: int, now: float) -> int | None:
        if limit == self.limit or now - self._changed_at < MIN_INTERVAL_S:
            return None
        self._changed_at = now
        self.limit = limit
        return limit
