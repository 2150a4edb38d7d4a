"""A clock that only the test moves."""

from __future__ import annotations

from exai_actors.errors import UsageError


class ManualClock:
    """Implements ``ports.Clock``; ``advance`` moves both of its times together."""

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``. Raises UsageError for a negative number."""
        if seconds < 0:
            raise UsageError(f"a clock cannot go back: advance({seconds!r})")
        self._now += seconds
        self._wall += seconds
