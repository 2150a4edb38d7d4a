"""Which requests are out of time.

Deadlines are kept in coarse buckets, because nearly every one is discarded long before it is due:
both are one dictionary step, and nothing stale is left behind. A deadline is reported up to
``granularity_s`` late, never early.
"""

from __future__ import annotations

from math import ceil

from exai_actors.ids import RequestKey


class Deadlines:
    """Instants, in seconds of the caller's clock, each with the request it belongs to."""

    __slots__ = ("_buckets", "granularity_s")

    def __init__(self, granularity_s: float = 0.01) -> None:
        self.granularity_s = granularity_s
        # Dicts in place of sets: the order of strings in a set differs from process to process.
        self._buckets: dict[int, dict[RequestKey, None]] = {}

    def add(self, request: RequestKey, deadline: float) -> None:
        """Keep a deadline; the same one twice is one."""
        self._buckets.setdefault(self._bucket(deadline), {})[request] = None

    def discard(self, request: RequestKey, deadline: float) -> None:
        """Forget a request; harmless when it is not known."""
        bucket = self._bucket(deadline)
        members = self._buckets.get(bucket)
        if members is not None:
            members.pop(request, None)
            if not members:
                del self._buckets[bucket]

    def next(self) -> float | None:
        """The instant at which due() will give something; None when nothing is kept."""
        if not self._buckets:
            return None
        return min(self._buckets) * self.granularity_s

    def due(self, now: float) -> tuple[RequestKey, ...]:
        """Remove and give all requests whose deadline has passed, the earliest bucket first."""
        passed = sorted(bucket for bucket in self._buckets if bucket * self.granularity_s <= now)
        return tuple(request for bucket in passed for request in self._buckets.pop(bucket))

    def _bucket(self, deadline: float) -> int:
        bucket = ceil(deadline / self.granularity_s)
        # The division may have been rounded down past a whole number.
        return bucket if bucket * self.granularity_s >= deadline else bucket + 1
