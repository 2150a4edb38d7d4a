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
        self._buckets: dict[int, set[RequestKey]] = {}

    def add(self, request: RequestKey, deadline: float) -> None:
        bucket = ceil(deadline / self.granularity_s)
        members = self._buckets.get(bucket)
        if members is None:
            self._buckets[bucket] = {request}
        else:
            members.add(request)

    def discard(self, request: RequestKey, deadline: float) -> None:
        """Forget a request; harmless when it is not known."""
        bucket = ceil(deadline / self.granularity_s)
        members = self._buckets.get(bucket)
        if members is not None:
            members.discard(request)
            if not members:
                del self._buckets[bucket]

    def next(self) -> float | None:
        """The instant at which due() will give something; None when nothing is kept."""
        if not self._buckets:
            return None
        return min(self._buckets) * self.granularity_s

    def due(self, now: float) -> tuple[RequestKey, ...]:
        """Remove and give all requests whose deadline has passed, the earliest first."""
        # A tiny tolerance: bucket * granularity is not exact in binary floating point.
        limit = now / self.granularity_s + 1e-6
        passed = sorted(bucket for bucket in self._buckets if bucket <= limit)
        return tuple(request for bucket in passed for request in self._buckets.pop(bucket))
