"""How long a permit is usually held, and from that how long a place in the queue will take."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator


class ServiceTime:
    """An exponentially weighted mean of the seconds that answered calls held their permits.

    Of a call that ended without its answer it counts only that it would have taken longer, where
    that is news: a burst of refusals or cancels says nothing of how long an answer takes.
    ``weight`` is the share of the newest sample (RFC 6298 uses 1/8 for the same purpose).
    """

    __slots__ = ("_mean", "weight")

    def __init__(self, weight: float = 0.125) -> None:
        self.weight = weight
        self._mean: float | None = None

    @property
    def mean_s(self) -> float | None:
        return self._mean

    def observe(self, seconds: float) -> None:
        if self._mean is None:
            self._mean = seconds
        else:
            self._mean += self.weight * (seconds - self._mean)

    def at_least(self, seconds: float) -> None:
        """A call that was not answered had held its permit for so long."""
        if self._mean is not None and seconds > self._mean:
            self.observe(seconds)

    def wait_s(self, position: int, limit: int) -> float | None:
        """Seconds until the request at ``position`` (from 1) gets its permit; None if unknown.

        With ``limit`` permits in use one comes free every mean/limit seconds (Little's law).
        """
        if self._mean is None or limit <= 0:
            return None
        return position * self._mean / limit

    def waits_s(
        self, granted_at: Iterable[float], limit: int, now: float, back_at: Iterable[float] = ()
    ) -> Iterator[float | None]:
        """The same for one position after the other, from what is known of the permits out.

        ``granted_at`` are the instants at which they were granted: each comes free when it has been
        held for the mean, and those that are late soon. ``back_at`` are those at which permits come
        back from quarantine.
        """
        mean = self._mean
        if mean is None or limit <= 0:
            while True:
                yield None
        soon = now + mean / (2 * limit)
        frees = sorted([*back_at, *(max(soon, at + mean) for at in granted_at)])
        frees = [now] * (limit - len(frees)) + frees[max(0, len(frees) - limit) :]
        while True:
            free_at = heapq.heappop(frees)
            yield free_at - now
            heapq.heappush(frees, free_at + mean)
