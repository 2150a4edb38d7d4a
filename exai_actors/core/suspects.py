"""Poison: a call that was in the hands of two actors when they failed is refused from then on.

One failure may have any cause. The second one with the same call in hand names the cause.
"""

from __future__ import annotations

MEMORY_S = 600.0
KEPT = 256


class Suspects:
    """Counts, by the fingerprint of a call, the failures that it was in hand at.

    Both the suspicion after the first failure and the verdict after the second last for
    ``memory_s``. At most ``kept`` calls are remembered of each kind, the latest.
    """

    __slots__ = ("_failed_at", "_kept", "_memory_s", "poison")

    def __init__(self, *, memory_s: float = MEMORY_S, kept: int = KEPT) -> None:
        self._memory_s = memory_s
        self._kept = kept
        self._failed_at: dict[int, float] = {}
        self.poison: dict[int, float] = {}
        """When each verdict was reached; mostly empty, so that looking is cheap."""

    def accuse(self, fingerprint: int, now: float) -> bool:
        """Note a failure with this call in hand; returns whether that makes it poison."""
        failed_at = self._failed_at.pop(fingerprint, None)
        if failed_at is not None and now - failed_at < self._memory_s:
            self._keep(self.poison, fingerprint, now)
            return True
        self._keep(self._failed_at, fingerprint, now)
        return False

    def is_poison(self, fingerprint: int, now: float) -> bool:
        """Whether two actors have failed with this call in hand."""
        since = self.poison.get(fingerprint)
        if since is None:
            return False
        if now - since < self._memory_s:
            return True
        del self.poison[fingerprint]
        return False

    def _keep(self, where: dict[int, float], fingerprint: int, now: float) -> None:
        where.pop(fingerprint, None)
        where[fingerprint] = now
        if len(where) > self._kept:
            del where[next(iter(where))]
