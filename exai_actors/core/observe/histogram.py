"""A histogram with fixed bounds: cheap to add to, and enough for quantiles."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Bounds for waits and calls, from a local model to a long thinking one."""


class Histogram:
    """Counts values by upper bound, inclusive as in Prometheus; one more count is for the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(map(float, bounds))
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value) if value else 0] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The value below which ``share`` of all lie, as ``quantile_of``."""
        return quantile_of(self.bounds, self.counts, share)


def quantile_of(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which ``share`` of all lie, interpolated within its bucket as Prometheus'
    ``histogram_quantile`` does; None without values. Values beyond the last bound count as it.
    """
    count = sum(counts)
    if count == 0:
        return None
    rank, below, lower = share * count, 0, 0.0
    for bound, within in zip(bounds, counts, strict=False):
        if within and below + within >= rank:
            return lower + (bound - lower) * (rank - below) / within
        below += within
        lower = bound
    return lower


RECENT_S = 300.0
KEPT_MARKS = 10


class Recent:
    """The values that a histogram got in the last ``length_s``, as far as it was looked at.

    It is right to a tenth of that.
    """

    __slots__ = ("_histogram", "_mark_s", "_marks")

    def __init__(self, histogram: Histogram, now: float, length_s: float = RECENT_S) -> None:
        self._histogram = histogram
        self._mark_s = length_s / KEPT_MARKS
        # When, and the counts until then, the oldest first. Nothing is known before the first look.
        self._marks: deque[tuple[float, Sequence[int]]] = deque(
            [(now, [0] * len(histogram.counts))], maxlen=KEPT_MARKS
        )

    def is_of(self, histogram: Histogram) -> bool:
        """Whether it is that one, and not that of an earlier incarnation."""
        return self._histogram is histogram

    def quantiles(self, now: float, *shares: float) -> list[float | None]:
        """The quantiles now."""
        counts = self._histogram.counts
        if now - self._marks[-1][0] >= self._mark_s:
            self._marks.append((now, tuple(counts)))
        before = self._marks[0][1]
        recent = [count - earlier for count, earlier in zip(counts, before, strict=True)]
        return [quantile_of(self._histogram.bounds, recent, share) for share in shares]
