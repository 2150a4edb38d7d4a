"""A limit that moves below the configured one: less when the provider is overloaded, then more.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), on the provider's own word only:
no rule that goes by latency was better than a fixed limit for language models, whose latency is
mostly the length of the answer.
"""

from __future__ import annotations

MIN_S = 1.0


class AdaptiveLimit:
    """``limit`` is between 1 and the ceiling; it falls by a tenth once a second at most, or by 1
    where a tenth is less.
    """

    __slots__ = ("_answers", "_ceiling", "_changed_at", "limit")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.limit = ceiling
        self._answers = 0
        self._changed_at = -MIN_S

    def on_overload(self, now: float) -> int | None:
        """The provider has too much to do; gives the new limit if it changes."""
        self._answers = 0
        lower = max(min(1, self._ceiling), min(self.limit - 1, -(-self.limit * 9 // 10)))
        return self._move(lower, now)

    def on_success(self, now: float, in_flight: int) -> int | None:
        """An answer came while so many were in flight; gives the new limit if it changes.

        One more after as many answers as the limit, and none while less than half of it is used.
        """
        if self.limit >= self._ceiling or 2 * in_flight < self.limit:
            return None
        self._answers += 1
        if self._answers < self.limit:
            return None
        self._answers = 0
        return self._move(self.limit + 1, now)

    def set_ceiling(self, ceiling: int) -> None:
        """The configured limit is now this."""
        was_at_ceiling = self.limit >= self._ceiling
        self._ceiling = ceiling
        self.limit = ceiling if was_at_ceiling else min(self.limit, ceiling)

    def _move(self, limit: int, now: float) -> int | None:
        if limit == self.limit or now - self._changed_at < MIN_S:
            return None
        self._changed_at = now
        self.limit = limit
        return limit
