"""A clock that moves only when the test says so."""

from __future__ import annotations

from exai_actors.errors import UsageError


class ManualClock:
    """Fulfils ``ports.Clock``; both of its times move together, by ``advance`` alone."""

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass. Raises UsageError for a step back, which no clock port makes."""
        if seconds < 0:
            raise UsageError(f"a clock does not go back: advance({seconds!r})")
        self._now += seconds
        self._wall += seconds
