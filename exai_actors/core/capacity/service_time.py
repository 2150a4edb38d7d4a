"""How long a permit is usually held, and the wait that follows from it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator


class ServiceTime:
    """An exponentially weighted mean of the seconds that answered calls held their permits.

    A call without an answer counts only if it held its permit for longer than the mean: a burst of
    refusals or cancels says nothing about the time that an answer takes. ``weight`` is the part of
    the newest sample, once there are so many: RFC 6298 uses 1/8 for the same purpose, but calls
    differ more than round trips do, and a mean that swings with them predicts worse.
    """

    __slots__ = ("_mean", "_samples", "weight")

    def __init__(self, weight: float = 0.0625) -> None:
        self.weight = weight
        self._mean: float | None = None
        self._samples = 0

    @property
    def mean_s(self) -> float | None:
        return self._mean

    def observe(self, seconds: float) -> None:
        """Note how long an answered call held its permit."""
        if self._mean is None:
            self._mean = 0.0
        samples = self._samples = self._samples + 1
        weight = self.weight
        if weight * samples < 1:
            weight = 1 / samples
        self._mean += weight * (seconds - self._mean)

    def at_least(self, seconds: float) -> None:
        """Note how long a call without an answer held its permit."""
        if self._mean is not None and seconds > self._mean:
            self.observe(seconds)

    def wait_s(self, position: int, limit: int) -> float | None:
        """Seconds until the call at ``position`` from 1 gets its permit; None if unknown.

        With ``limit`` permits in use one comes free every mean/limit seconds (Little's law).
        """
        if self._mean is None or limit <= 0:
            return None
        return position * self._mean / limit

    def waits_s(
        self, granted_at: Iterable[float], limit: int, now: float, rest_ends: Iterable[float] = ()
    ) -> Iterator[float | None]:
        """The wait of one position after the other, from the ages of the permits out.

        A permit granted at one of ``granted_at`` comes free after the mean, an overdue one soon. A
        quarantined permit comes free at one of ``rest_ends``.
        """
        mean = self._mean
        if mean is None or limit <= 0:
            while True:
                yield None
        soon = now + mean / (2 * limit)
        free_at = sorted([*rest_ends, *(max(soon, at + mean) for at in granted_at)])
        free_at = [now] * (limit - len(free_at)) + free_at[max(0, len(free_at) - limit) :]
        while True:
            next_at = heapq.heappop(free_at)
            yield next_at - now
            heapq.heappush(free_at, next_at + mean)
